//! `cargo xtask ci`: the whole CI, a list of named steps. It stops at the first red one.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::shell::{self, Outcome, cargo, target_dir};
use crate::{first_command, openapi, test, tidy, tools};

/// A step's name, and what it does: it returns what is worth saying beside its name, or nothing.
type Step = (&'static str, fn(&Path) -> Outcome<String>);

/// From the quick to the slow. All of them share cargo's target directory and, as far as they can, features and profiles.
const STEPS: &[Step] = &[
    ("fmt", |_| quiet(cargo(&["fmt", "--all", "--check"]))),
    ("clippy", |_| quiet(cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))),
    ("deny", deny),
    ("docs", |_| quiet(with_warnings_denied(cargo(&["doc", "--no-deps", "--workspace", "--locked", "--quiet"])))),
    ("tidy", |_| tidy::run().map(|()| String::new())),
    // After tidy, because building a test of the package has built the program as well.
    ("openapi", |target| openapi::check_with(&target.join("debug/billhook")).map(|()| String::new())),
    ("test", |_| test::summary()),
    ("release build", |_| quiet(cargo(&["build", "--release", "--locked", "--quiet"]))),
    ("README's first command", |target| first_command::run(&target.join("release/billhook"))),
];

struct Done {
    name: &'static str,
    took: Duration,
    result: Outcome<String>,
}

pub fn run() -> Outcome {
    let target = target_dir()?;
    let mut done = Vec::new();
    for (name, step) in STEPS {
        println!("\n== {name}");
        let start = Instant::now();
        let result = step(&target);
        let red = result.is_err();
        done.push(Done { name, took: start.elapsed(), result });
        if red {
            break;
        }
    }
    print!("\n{}", table(&done, STEPS.len()));
    done.into_iter().try_for_each(|step| step.result.map(drop))
}

fn table(done: &[Done], steps: usize) -> String {
    let mut text = String::new();
    for Done { name, took, result } in done {
        let (mark, note) = match result {
            Ok(note) => ("ok ", note.clone()),
            Err(fault) => ("RED", fault.to_string()),
        };
        let line = format!("{mark}  {name:<22} {:>7.1} s  {note}", took.as_secs_f32());
        text += line.trim_end();
        text.push('\n');
    }
    let total: Duration = done.iter().map(|step| step.took).sum();
    let last = format!("{} of {steps} steps in {:.0} s\n", done.len(), total.as_secs_f32());
    text + &last
}

fn quiet(mut command: Command) -> Outcome<String> {
    shell::run(&mut command).map(|()| String::new())
}

fn with_warnings_denied(mut command: Command) -> Command {
    command.env("RUSTDOCFLAGS", "-D warnings");
    command
}

/// Bans, licences and sources are always checked. Advisories live in a repository on the network and on no package registry:
/// where neither that nor an earlier copy of it can be had they are not checked, and that is said, here and in the table. What
/// was known when `deny.toml` was written stands there as floors among the bans, and those hold offline too.
fn deny(target: &Path) -> Outcome<String> {
    let deny = tools::cargo_deny(target)?;
    let deny = |arguments: &[&str]| {
        let mut command = Command::new(&deny);
        command.args(arguments).current_dir(shell::root());
        command
    };
    shell::run(&mut deny(&["--locked", "check", "bans", "licenses", "sources"]))?;
    let fetched = shell::run(&mut deny(&["fetch", "db"])).is_ok();
    if !fetched && !advisories_are_here() {
        let note = "advisories NOT CHECKED: their database cannot be fetched here; the floors in deny.toml hold";
        println!("{note}");
        return Ok(note.into());
    }
    // Too old a copy is red: deny.toml says how old that is.
    shell::run(&mut deny(&["--locked", "--offline", "check", "advisories"]))?;
    Ok(if fetched { "advisories checked" } else { "advisories checked against an earlier copy" }.into())
}

/// Whether cargo-deny has a copy of the database where it keeps it.
fn advisories_are_here() -> bool {
    let places = std::env::home_dir().map(|home| home.join(".cargo/advisory-dbs"));
    places.and_then(|place| std::fs::read_dir(place).ok()).is_some_and(|mut copies| {
        copies.any(|copy| copy.is_ok_and(|copy| copy.path().join(".git/FETCH_HEAD").is_file()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::Fault;

    #[test]
    fn the_table_names_what_is_red_and_how_far_it_came() {
        let done = [
            Done { name: "fmt", took: Duration::from_millis(1500), result: Ok(String::new()) },
            Done { name: "clippy", took: Duration::from_secs(90), result: Err(Fault::Wrong("no".into())) },
        ];
        let expected =
            "ok   fmt                        1.5 s\nRED  clippy                    90.0 s  no\n2 of 9 steps in 92 s\n";
        assert_eq!(table(&done, 9), expected);
    }
}
