//! `cargo xtask tidy`: the rules about the source text, by themselves. They run with all other tests too.

use crate::shell::{self, Outcome, cargo};

pub fn run() -> Outcome {
    // `--workspace` although one test is wanted: the same features as in `cargo xtask test`, so nothing is built twice.
    shell::run(&mut cargo(&["test", "--workspace", "--locked", "--test", "tidy"]))
}
