//! The binary: one program, a role for each subcommand.

use std::process::ExitCode;

fn main() -> ExitCode {
    billhook::cli::run()
}
