//! `cargo xtask test`: everything that must hold, on real databases, and then what the judges say.

use std::fmt;
use std::path::Path;
use std::process::Command;

use crate::shell::{Fault, Outcome, cargo, run_shown, target_dir};
use crate::{judges, services, tools};

/// What the test runner reported, over all of its binaries.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub ignored: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} ignored", self.passed, self.failed, self.ignored)
    }
}

impl Tally {
    /// Takes in "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; ..."; other lines are not about numbers.
    fn add(&mut self, line: &str) {
        if !line.starts_with("test result:") {
            return;
        }
        let words: Vec<&str> = line.split([' ', ';']).filter(|word| !word.is_empty()).collect();
        for pair in words.windows(2) {
            let number = pair[0].parse::<u64>().unwrap_or(0);
            match pair[1] {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

pub fn run() -> Outcome {
    summary().map(|line| println!("{line}"))
}

/// Runs everything and returns the one line that says what ran.
pub fn summary() -> Outcome<String> {
    let target = target_dir()?;
    let bench = judges::seated(&target)?;
    let tally = counted(&target, &["--no-fail-fast"])?;
    // `cargo test` has just built it, with the features of the whole workspace: building it by itself would start anew.
    let program = target.join("debug/billhook");
    if !program.is_file() {
        return Err(Fault::Wrong(format!("`cargo test` built no {}", program.display())));
    }
    let judges = bench.judge(&program)?;
    Ok(format!("tests: {tally}; judges: {judges} said yes"))
}

/// Runs tests of the whole workspace, with these arguments. The services run only as long as they do.
pub fn counted(target: &Path, arguments: &[&str]) -> Outcome<Tally> {
    // The crash sweep kills the program at each of its writes, and redis-cli plays the operator.
    tools::program("strace", "strace")?;
    tools::program("redis-cli", "redis-tools")?;
    let services = services::start(target)?;
    let mut command = cargo(&["test", "--workspace", "--locked"]);
    command.args(arguments);
    told(&mut command, &services);
    let mut tally = Tally::default();
    run_shown(&mut command, |line| tally.add(line))?;
    Ok(tally)
}

/// Where the tests find their services. A test that needs one and is not told where fails by that name.
fn told(command: &mut Command, services: &services::Services) {
    command.env("BILLHOOK_TEST_POSTGRES", &services.postgres_url).env("BILLHOOK_TEST_REDIS", &services.redis_url);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_binaries_are_added() {
        let mut tally = Tally::default();
        for line in [
            "test money::split ... ok",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "5 passed of what a test printed",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        ] {
            tally.add(line);
        }
        assert_eq!(tally, Tally { passed: 15, failed: 2, ignored: 1 });
        assert_eq!(tally.to_string(), "15 passed, 2 failed, 1 ignored");
    }
}
