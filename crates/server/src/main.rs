//! The binary: one program, a role for each subcommand.

use std::process::ExitCode;

/// Answers are small and short-lived; this allocator serves them faster than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    billhook::cli::run()
}
