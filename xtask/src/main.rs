//! `cargo xtask COMMAND`: what the project does to itself. Each command is one file.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool speaks on its terminal")]

mod bench;
mod ci;
mod first_command;
mod judges;
mod nightly;
mod openapi;
mod running;
mod services;
mod shell;
mod test;
mod tidy;
mod tools;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask COMMAND

  test               everything that must hold: starts PostgreSQL and Redis, runs all tests, then the judges
  nightly            the proofs that take too long for every change: half an hour, by itself
  ci                 the whole CI, step by step, the same at home and there
  services           PostgreSQL and Redis until Enter, for running single tests
  tidy               the rules about the source text
  openapi [--check]  write openapi.json from the program, or say that it is out of date
  bench [--build] [--rounds N] [--seconds N] [--only NAME]
                     ratios against a bare route, memory, start, size; never fails on a number

What a command needs and does not find it installs through apt-get, pip, npm or cargo, or names in one line.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["test"] => test::run(),
        ["nightly"] => nightly::run(),
        ["ci"] => ci::run(),
        ["services"] => services::run(),
        ["tidy"] => tidy::run(),
        ["openapi"] => openapi::write(),
        ["openapi", "--check"] => openapi::check(),
        ["bench", options @ ..] => bench::run(options),
        ["help" | "--help" | "-h"] => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("xtask: {fault}");
            ExitCode::FAILURE
        }
    }
}
