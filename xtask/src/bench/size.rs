//! How large the stripped release binary is, and, when asked for, how long a release build from nothing takes.

use std::path::Path;
use std::time::Instant;

use super::Bench;
use crate::shell::{Fault, Outcome, cargo, emptied, run as run_command};

pub fn run(bench: &Bench) -> Outcome {
    let what = format!("reading {}", bench.program.display());
    let bytes = std::fs::metadata(&bench.program).map_err(Fault::system(what))?.len();
    println!("release binary: {} bytes ({}.{} MB)", bytes, bytes / 1_000_000, bytes / 100_000 % 10);
    Ok(())
}

/// Builds in a target directory of its own, which is removed again.
pub fn clean_build(place: &Path) -> Outcome {
    let target = emptied(place.join("clean"))?;
    let begin = Instant::now();
    run_command(cargo(&["build", "--release", "--locked"]).env("CARGO_TARGET_DIR", &target))?;
    println!("release build from nothing: {:.0} s", begin.elapsed().as_secs_f64());
    std::fs::remove_dir_all(&target).map_err(Fault::system("removing the clean build"))
}
