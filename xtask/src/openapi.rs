//! `cargo xtask openapi`: the document that the program prints, kept in the repository so that a change of the API is seen.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell::{Fault, Outcome, cargo, output, root};

/// Writes `openapi.json` anew.
pub fn write() -> Outcome {
    let document = printed(&mut cargo(&["run", "--quiet", "--locked", "-p", "billhook", "--", "openapi"]))?;
    std::fs::write(file(), document).map_err(Fault::system("writing openapi.json"))?;
    println!("wrote {}", file().display());
    Ok(())
}

/// Compares `openapi.json` with what the program prints.
pub fn check() -> Outcome {
    same(&printed(&mut cargo(&["run", "--quiet", "--locked", "-p", "billhook", "--", "openapi"]))?)
}

/// The same with a program that is built already.
pub fn check_with(program: &Path) -> Outcome {
    same(&printed(Command::new(program).arg("openapi"))?)
}

fn printed(command: &mut Command) -> Outcome<String> {
    let document = output(command)?;
    match serde_json::from_str::<serde_json::Value>(&document) {
        Ok(value) if value["openapi"].is_string() => Ok(document),
        Ok(_) => Err(Fault::Wrong("`billhook openapi` printed JSON that is not an OpenAPI document".into())),
        Err(cause) => Err(Fault::Wrong(format!("`billhook openapi` printed no JSON: {cause}"))),
    }
}

fn same(document: &str) -> Outcome {
    let kept = std::fs::read_to_string(file()).map_err(Fault::system("reading openapi.json"))?;
    match difference(&kept, document) {
        None => Ok(()),
        Some(line) => {
            Err(Fault::Wrong(format!("openapi.json is out of date; write it with `cargo xtask openapi`; {line}")))
        }
    }
}

/// The first line that differs.
fn difference(kept: &str, printed: &str) -> Option<String> {
    let (mut kept, mut printed) = (kept.lines(), printed.lines());
    for number in 1.. {
        match (kept.next(), printed.next()) {
            (None, None) => return None,
            (a, b) if a == b => {}
            (a, b) => {
                let shown = |line: Option<&str>| line.map_or("nothing", str::trim).to_owned();
                return Some(format!("line {number} is `{}`, should be `{}`", shown(a), shown(b)));
            }
        }
    }
    None
}

fn file() -> PathBuf {
    root().join("openapi.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_shown() {
        assert_eq!(difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(difference("a\n  b\n", "a\n  c\n").unwrap(), "line 2 is `b`, should be `c`");
        assert_eq!(difference("a\n", "a\nb\n").unwrap(), "line 2 is `nothing`, should be `b`");
    }
}
