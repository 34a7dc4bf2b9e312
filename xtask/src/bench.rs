//! `cargo xtask bench`: what the program costs, as ratios against a bare route in the same minute on the same cores. It reports
//! and never fails on a number: what a number should be depends on the machine, the ratio does not.

mod ask;
mod endpoints;
mod flush;
mod held;
mod history;
mod ingest;
mod latency;
mod load;
mod million;
mod size;
mod start;
mod sync;
mod verify;
mod webhooks;

use std::path::PathBuf;

use crate::shell::{Fault, Outcome, cargo, made, run as run_command, target_dir};
use crate::tools;

/// What was asked for, and where things are.
#[derive(Debug)]
pub struct Bench {
    rounds: usize,
    seconds: u64,
    program: PathBuf,
    bare_route: PathBuf,
    /// Databases and answers of this run.
    place: PathBuf,
}

type Section = (&'static str, fn(&Bench) -> Outcome);

const SECTIONS: &[Section] = &[
    ("endpoints", endpoints::run),
    ("ingest", ingest::run),
    ("latency", latency::run),
    ("history", history::run),
    ("flush", flush::run),
    ("million", million::run),
    ("sync", sync::run),
    ("verify", verify::run),
    ("webhooks", webhooks::run),
    ("start", start::run),
    ("size", size::run),
];

#[derive(Debug, PartialEq, Eq)]
struct Options {
    rounds: usize,
    seconds: u64,
    build: bool,
    only: Option<String>,
}

pub fn run(words: &[&str]) -> Outcome {
    let options = options(words)?;
    let target = target_dir()?;
    tools::program("wrk", "wrk")?;
    let place = made(target.join("bench"))?;
    if options.build {
        size::clean_build(&place)?;
    }
    // One command for both, so that they are built with the same features.
    run_command(&mut cargo(&[
        "build",
        "--release",
        "--locked",
        "-p",
        "billhook",
        "--bins",
        "--example",
        "bare_route",
        "--example",
        "bare_log",
        "--example",
        "bare_webhooks",
    ]))?;
    let release = target.join("release");
    let bench = Bench {
        rounds: options.rounds,
        seconds: options.seconds,
        program: release.join("billhook"),
        bare_route: release.join("examples/bare_route"),
        place,
    };
    for (name, section) in SECTIONS.iter().filter(|(name, _)| options.only.as_deref().is_none_or(|only| only == *name))
    {
        println!("\n== {name}");
        section(&bench)?;
    }
    Ok(())
}

fn options(words: &[&str]) -> Outcome<Options> {
    let mut options = Options { rounds: 5, seconds: 3, build: false, only: None };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().copied().ok_or_else(|| Fault::Wrong(format!("{word} wants a value")));
        match *word {
            "--build" => options.build = true,
            "--rounds" => options.rounds = number(value()?)?,
            "--seconds" => options.seconds = number(value()?)?,
            "--only" => options.only = Some(section_named(value()?)?),
            other => return Err(Fault::Wrong(format!("bench does not know {other}"))),
        }
    }
    Ok(options)
}

fn number<T: std::str::FromStr + PartialOrd + From<u8>>(word: &str) -> Outcome<T> {
    let number = word.parse().ok().filter(|number| *number >= T::from(1));
    number.ok_or_else(|| Fault::Wrong(format!("not a number above zero: {word}")))
}

fn section_named(word: &str) -> Outcome<String> {
    if SECTIONS.iter().any(|(name, _)| *name == word) {
        return Ok(word.to_owned());
    }
    let known: Vec<&str> = SECTIONS.iter().map(|(name, _)| *name).collect();
    Err(Fault::Wrong(format!("no section {word}, only {}", known.join(", "))))
}

/// The one in the middle; of an even number the lower of both. Zero of none.
fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_or_refused() {
        let said = |words: &[&str]| options(words).map_err(|fault| fault.to_string());
        let plain = Options { rounds: 5, seconds: 3, build: false, only: None };
        assert_eq!(said(&[]), Ok(plain));
        let all = Options { rounds: 7, seconds: 4, build: true, only: Some("sync".into()) };
        assert_eq!(said(&["--rounds", "7", "--build", "--only", "sync", "--seconds", "4"]), Ok(all));
        assert_eq!(said(&["--rounds", "0"]), Err("not a number above zero: 0".into()));
        assert_eq!(said(&["--rounds"]), Err("--rounds wants a value".into()));
        assert!(said(&["--only", "x"]).unwrap_err().starts_with("no section x, only endpoints, "));
    }

    #[test]
    fn medians() {
        for (values, expected) in [(&[][..], 0.0), (&[3.0], 3.0), (&[9.0, 1.0, 5.0], 5.0), (&[4.0, 1.0, 3.0, 2.0], 2.0)]
        {
            assert!((median(values.iter().copied()) - expected).abs() < 1e-9, "{values:?}");
        }
    }
}
