//! The rules about the source text that no compiler and no lint holds. Each finding names its file, its line, the rule and why
//! there is one. The rules are tables; `planted.rs` tries the checker on violations made for it.

#[path = "tidy/planted.rs"]
mod planted;
#[path = "tidy/view.rs"]
mod view;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use view::{View, first_word};

/// A thing that may be named only in some places of `crates/server/src`, which are folders ("http/") or files.
struct Home {
    words: &'static [&'static str],
    places: &'static [&'static str],
    why: &'static str,
}

const HOMES: &[Home] = &[
    Home {
        words: &["axum", "hyper", "hyper_util", "http_body_util", "tower", "utoipa"],
        places: &["http/"],
        why: "only http/ knows how we are asked, so every use case can be called from a job or the command line too",
    },
    Home {
        words: &["rusqlite", "postgres", "tokio_postgres", "tokio_postgres_rustls"],
        places: &["store/db/"],
        why: "one place knows the driver, so that everything else runs on both databases",
    },
    Home {
        words: &["redis"],
        places: &["counters/", "sessions.rs"], // sessions.rs reads what Ops Center wrote there
        why: "counters are a view and can be thrown away: nobody else may come to depend on Redis",
    },
    Home {
        words: &["reqwest"],
        places: &["gateways/"],
        why: "a call without a deadline, a size cap and a breaker is an outage; the gateways have all three",
    },
    Home {
        words: &["env::var", "env::var_os", "env::vars", "env::vars_os"],
        places: &["config.rs"],
        why: "configuration fails at start, all at once, by name; not at noon",
    },
    Home {
        words: &["db.read", "db.write"],
        // Both of the files work on a schema that may be too old for any use case.
        places: &["ops/", "store/", "jobs/", "app.rs", "cli/tools.rs"],
        why: "a transaction begins and ends in a use case, with the decision between; handlers only show what came of it",
    },
    Home {
        words: &["tokio::spawn", "task::spawn"],
        places: &["jobs/", "http/door.rs", "main.rs", "cli/"],
        why: "a task is started where somebody waits for its end, or a shutdown loses its work",
    },
];

/// The arrow: what a layer may not name. "" is every file that lies in no folder.
const ARROW: &[(&str, &[&str])] = &[
    ("store/", &["ops", "http", "jobs", "cli", "gateways", "counters", "app"]),
    ("gateways/", &["ops", "http", "jobs", "cli", "store", "counters", "app"]),
    ("counters/", &["ops", "http", "jobs", "cli", "gateways", "app"]),
    ("ops/", &["http", "jobs", "cli"]),
    // Views are made of the store's rows, so http/ may name those; it opens no transaction (see HOMES).
    ("http/", &["gateways", "counters", "jobs", "cli"]),
    ("jobs/", &["http", "cli"]),
    ("", &["http", "jobs", "cli"]),
];
const ARROW_WHY: &str = "main -> http, jobs -> ops -> store, gateways, counters: a new edge is a design change";
/// The wiring: these put the layers together and may name them all.
const WIRING: &[&str] = &["main.rs", "lib.rs", "cli/"];

/// What the core does without: it takes values and gives values.
const NOT_IN_THE_CORE: &[&str] = &[
    "async",
    "serde",
    "tokio",
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
    "SystemTime",
    "Instant",
    "Timestamp::now",
];

/// Files of the server that may hold floats, because none of them is ever money.
const FLOATS: &[(&str, &str)] = &[
    ("telemetry.rs", "Prometheus wants its histogram bounds and sums in seconds"),
    ("http/body/strict.rs", "a visitor that walks over JSON without keeping any of it must let numbers pass"),
];

const NAMELESS: &[&str] = &["utils", "util", "common", "helpers", "helper", "manager", "inner", "misc"];
const LINES_MAX: usize = 600;

/// How the reasons begin for which a test is not run with all others.
const IGNORED: &[&str] = &["nightly: ", "run by ", "a measurement"];

/// Text that tells on the machine it was written on. In two parts, so that this file does not find itself.
const MACHINE: &[(&str, &str)] = &[
    ("/wo", "rk"),
    ("/root", "/"),
    ("/home", "/"),
    ("/tmp/", "target-"),
    ("index.crates", ".io"),
    ("static.crates", ".io"),
    ("registry.npmjs", ".org"),
    ("files.pythonhosted", ".org"),
    ("pypi.org/", "simple"),
    ("proxy.golang", ".org"),
];

struct Source {
    /// From the root of the repository, with slashes.
    path: String,
    text: String,
}

#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    line: usize,
    rule: String,
    why: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {} ({})", self.path, self.line, self.rule, self.why)
    }
}

fn check(source: &Source) -> Vec<Finding> {
    let mut found = Found { path: &source.path, findings: Vec::new() };
    machine(source, &mut found);
    if Path::new(&source.path).extension().is_some_and(|kind| kind == "rs") {
        let view = View::of(&source.text);
        shape(source, &mut found);
        ignored(source, &mut found);
        floats(source, &view, &mut found);
        core_is_pure(source, &view, &mut found);
        if let Some(place) = source.path.strip_prefix("crates/server/src/") {
            // Unit tests may reach anywhere: they end the file.
            let view = view.without_tests();
            homes(place, &view, &mut found);
            arrow(place, &view, &mut found);
            sql(place, &view, &mut found);
        }
    }
    found.findings
}

struct Found<'a> {
    path: &'a str,
    findings: Vec<Finding>,
}

impl Found<'_> {
    fn add(&mut self, line: usize, rule: impl Into<String>, why: &'static str) {
        self.findings.push(Finding { path: self.path.to_owned(), line, rule: rule.into(), why });
    }
}

// ---- the rules ----

fn shape(source: &Source, found: &mut Found) {
    if !source.text.starts_with("//!") {
        found.add(
            1,
            "a file begins with `//!`",
            "the first line says what the file is, or it has no reason to be a file",
        );
    }
    if source.text.lines().count() > LINES_MAX {
        found.add(
            LINES_MAX + 1,
            format!("more than {LINES_MAX} lines"),
            "look for the second noun, and split where a name appears",
        );
    }
    let stems = source.path.split('/').map(|part| part.trim_end_matches(".rs"));
    if let Some(stem) = stems.into_iter().find(|stem| NAMELESS.contains(stem)) {
        found.add(
            1,
            format!("nothing is called `{stem}`"),
            "such a name says where things were left, not what they are",
        );
    }
}

/// A test that nobody runs proves nothing.
fn ignored(source: &Source, found: &mut Found) {
    for (number, line) in source.text.lines().enumerate() {
        let reason = line.trim_start().strip_prefix("#[ignore").map(|rest| rest.trim_start_matches(" = \""));
        if reason.is_some_and(|reason| !IGNORED.iter().any(|begin| reason.starts_with(begin))) {
            let rule = format!("`#[ignore]` gives one of these reasons: {}", IGNORED.join(", "));
            found.add(number + 1, rule, "`cargo xtask nightly` runs what is nightly, and nobody runs the rest");
        }
    }
}

fn floats(source: &Source, view: &View, found: &mut Found) {
    let near_money = match source.path.strip_prefix("crates/server/src/") {
        Some(place) => !FLOATS.iter().any(|(file, _reason)| place == *file),
        None => source.path.starts_with("crates/billing/"),
    };
    if near_money {
        for word in ["f64", "f32"] {
            for line in view.lines_with(word) {
                found.add(line, format!("no `{word}`"), "money is an integer with a currency; a tenth is not a float");
            }
        }
    }
}

fn core_is_pure(source: &Source, view: &View, found: &mut Found) {
    if source.path.starts_with("crates/billing/src/") {
        for word in NOT_IN_THE_CORE {
            for line in view.lines_with(word) {
                found.add(
                    line,
                    format!("no `{word}` in the core"),
                    "values in, values out: what the core decides can be repeated",
                );
            }
        }
    }
}

fn homes(place: &str, view: &View, found: &mut Found) {
    for home in HOMES.iter().filter(|home| !lies_in(place, home.places)) {
        for word in home.words {
            for line in view.lines_with(word) {
                found.add(line, format!("`{word}` only in {}", home.places.join(", ")), home.why);
            }
        }
    }
}

fn arrow(place: &str, view: &View, found: &mut Found) {
    if lies_in(place, WIRING) {
        return;
    }
    let layer = place.find('/').map_or("", |end| &place[..=end]);
    let forbidden = ARROW.iter().find(|(name, _)| *name == layer).map_or(&[][..], |(_, forbidden)| *forbidden);
    for (line, module) in view.crate_modules() {
        if forbidden.contains(&module.as_str()) {
            let from = if layer.is_empty() { place } else { layer };
            found.add(line, format!("{from} does not name `crate::{module}`"), ARROW_WHY);
        }
    }
}

/// S-34: values reach the database as parameters, so no query is put together from text.
fn sql(place: &str, view: &View, found: &mut Found) {
    if !place.starts_with("store/") {
        return;
    }
    for (line, text) in view.format_texts() {
        let words: Vec<String> = text.split_whitespace().map(str::to_ascii_uppercase).collect();
        let begins =
            words.first().is_some_and(|w| ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH"].contains(&w.as_str()));
        // "update the program" is a sentence.
        let goes_on = words.iter().any(|w| ["FROM", "INTO", "SET", "AS"].contains(&w.as_str()));
        if begins && goes_on {
            found.add(
                line,
                format!("no `format!` into a query: {} …", words[0]),
                "S-34: values are parameters, never text",
            );
        }
    }
}

fn machine(source: &Source, found: &mut Found) {
    let joint = |c: char| c.is_alphanumeric() || "._-".contains(c);
    for (start, end) in MACHINE {
        let needle = format!("{start}{end}");
        for (number, line) in source.text.lines().enumerate() {
            let whole = line.match_indices(&needle).any(|(at, _)| {
                let goes_on = line[at + needle.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '-');
                !line[..at].ends_with(joint) && (needle.ends_with(['/', '-']) || !goes_on)
            });
            if whole {
                found.add(
                    number + 1,
                    format!("nothing names `{needle}`"),
                    "the repository is the same on every machine",
                );
            }
        }
    }
}

fn lies_in(place: &str, places: &[&str]) -> bool {
    places.iter().any(|p| if p.ends_with('/') { place.starts_with(p) } else { place == *p })
}

// ---- the tests ----

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    collect(&repository(), "", &mut sources);
    sources
}

/// Everything that is written by hand: no build output, nothing hidden but our own configuration.
#[allow(clippy::unwrap_used, reason = "a file that cannot be read fails the test, as it should")]
fn collect(directory: &Path, prefix: &str, sources: &mut Vec<Source>) {
    let kinds = ["rs", "toml", "md", "sql", "py", "mjs", "sh", "yml", "html", "css", "js", "run"];
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if entry.file_type().unwrap().is_dir() {
            let foreign = name.starts_with("target") || name == "node_modules";
            if !foreign && (!name.starts_with('.') || name == ".ci" || name == ".cargo") {
                collect(&entry.path(), &format!("{path}/"), sources);
            }
        } else if kinds.iter().any(|kind| name.rsplit('.').next() == Some(kind) || name == *kind) {
            let text = fs::read_to_string(entry.path()).unwrap_or_else(|cause| panic!("{path}: {cause}"));
            sources.push(Source { path, text });
        }
    }
}

#[test]
fn the_source_is_tidy() {
    let sources = sources();
    assert!(sources.len() > 20, "the repository was not found: {} files", sources.len());
    let findings: Vec<String> = sources.iter().flat_map(check).map(|finding| finding.to_string()).collect();
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn each_exception_is_still_needed() {
    let sources = sources();
    for (file, reason) in FLOATS {
        let source = sources.iter().find(|source| source.path == format!("crates/server/src/{file}"));
        let used = source.is_some_and(|s| ["f64", "f32"].iter().any(|w| !View::of(&s.text).lines_with(w).is_empty()));
        assert!(used, "{file} needs no exception any more: {reason}");
    }
}

#[test]
fn the_changelog_tells_of_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    let text = fs::read_to_string(repository().join("CHANGELOG.md")).expect("CHANGELOG.md");
    let told = text.lines().any(|line| line.starts_with('#') && line.contains(version));
    assert!(told, "CHANGELOG.md has no heading with {version}: whoever upgrades wants to know what changes");
}

#[test]
fn the_core_and_the_sandbox_stand_alone() {
    let dependencies = |name: &str| {
        let text = fs::read_to_string(repository().join("crates").join(name).join("Cargo.toml")).unwrap();
        let lines =
            text.lines().skip_while(|line| *line != "[dependencies]").skip(1).take_while(|line| !line.starts_with('['));
        lines.filter(|line| !line.is_empty()).map(first_word).collect::<BTreeSet<_>>()
    };
    let core = dependencies("billing");
    assert_eq!(
        core,
        ["jiff", "toml"].map(String::from).into(),
        "the core knows time and the catalogue's notation, no more"
    );
    assert!(!dependencies("sandbox").contains("billing"), "a judge that shares our arithmetic shares our mistakes");
}
