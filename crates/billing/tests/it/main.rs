//! The rules of the core as tables of cases, and its invariants as properties. A case is a line: `asked -> answered`.

#![allow(clippy::expect_used, reason = "a test that cannot go on says so and stops")]

mod account;
mod catalogue;
mod entry;
mod histories;
mod hold;
mod id;
mod ledger;
mod limit;
mod model;
mod money;
mod movement;
mod notation;
mod plan;
mod revenue;
mod subscription;
mod time;
mod trial;
mod usage;

/// Asks each line of the table and compares the answers; all wrong lines are shown at once. `#` begins a remark.
fn check(table: &str, answer: impl Fn(&str) -> String) {
    let lines: Vec<&str> = table.lines().map(|line| line.split(" #").next().unwrap_or_default().trim()).collect();
    let rows: Vec<&str> = lines.into_iter().filter(|line| !line.is_empty()).collect();
    assert!(!rows.is_empty(), "a table without rows shows nothing");
    let wrong: Vec<String> = rows
        .into_iter()
        .filter_map(|row| {
            let (asked, wanted) = row.split_once("->").expect("a row is `asked -> answered`");
            let answered = answer(asked.trim());
            (answered != wanted.trim()).then(|| format!("{row}\n    but it is: {answered}"))
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The name of an error's variant, without its data.
fn named(error: impl std::fmt::Debug) -> String {
    let text = format!("{error:?}");
    text.chars().take_while(char::is_ascii_alphanumeric).collect()
}
