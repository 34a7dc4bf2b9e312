//! `cargo xtask nightly`: the proofs that take too long for every change, one after the other, built as the program is that is
//! given out. They are the tests that say of themselves that they are `nightly`.

use std::fs;
use std::path::Path;

use crate::shell::{Fault, Outcome, root, target_dir};
use crate::test;

/// How such a test begins.
const MARK: &str = "#[ignore = \"nightly: ";

pub fn run() -> Outcome {
    let mut names = Vec::new();
    collect(&root().join("crates"), &mut names)?;
    let mut arguments = vec!["--profile", "nightly", "--", "--ignored", "--test-threads=1"];
    arguments.extend(names.iter().map(String::as_str));
    let tally = test::counted(&target_dir()?, &arguments)?;
    // A name that nothing answers to would be a proof that nobody runs.
    if tally.passed != u64::try_from(names.len()).unwrap_or(u64::MAX) {
        return Err(Fault::Wrong(format!("{} nightly tests, and of them: {tally}", names.len())));
    }
    println!("nightly: {tally}");
    Ok(())
}

fn collect(directory: &Path, names: &mut Vec<String>) -> Outcome {
    let reading = || Fault::system(format!("reading {}", directory.display()));
    for entry in fs::read_dir(directory).map_err(reading())? {
        let path = entry.map_err(reading())?.path();
        if path.is_dir() {
            collect(&path, names)?;
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let text = fs::read_to_string(&path).map_err(Fault::system(format!("reading {}", path.display())))?;
            names.extend(marked(&text).map(str::to_owned));
        }
    }
    Ok(())
}

/// The names of the functions that are marked.
fn marked(text: &str) -> impl Iterator<Item = &str> {
    text.split(MARK).skip(1).filter_map(|after| after.split_once("fn ")?.1.split_once('(')).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marked_functions_are_named() {
        let text = [
            "#[test]\n#[ignore = \"run by a\"]\nfn other() {}\n",
            MARK,
            "long\"]\n#[tokio::test]\nasync fn f01_a() {\n    x(|| fn_b());\n}\nfn c() {}\n",
            MARK,
            "longer\"]\nfn f02_d() {}\n",
        ];
        assert_eq!(marked(&text.concat()).collect::<Vec<_>>(), ["f01_a", "f02_d"]);
    }

    #[test]
    fn there_are_some_and_each_has_a_name_of_its_own() {
        let mut names = Vec::new();
        collect(&root().join("crates"), &mut names).expect("readable");
        for name in &names {
            assert_eq!(names.iter().filter(|other| other.contains(name.as_str())).count(), 1, "{name}");
        }
        assert!(names.len() >= 9, "{names:?}");
    }
}
