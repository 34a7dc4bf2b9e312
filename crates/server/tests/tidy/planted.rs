//! The checker is checked: planted violations are found where they are, and their lookalikes are not.

use super::{LINES_MAX, MACHINE, Source, check};

fn rules_of(path: &str, text: &str) -> Vec<String> {
    check(&Source { path: path.into(), text: format!("//! x\n{text}") })
        .into_iter()
        .map(|f| format!("{}: {}", f.line, f.rule))
        .collect()
}

#[test]
fn planted_violations_are_found_where_they_are() {
    let machine = format!("// see {}{}/main", MACHINE[0].0, MACHINE[0].1);
    let machine_rule = format!("2: nothing names `{}{}`", MACHINE[0].0, MACHINE[0].1);
    let ignored = "2: `#[ignore]` gives one of these reasons: nightly: , run by , a measurement";
    for (path, text, rule) in [
        ("crates/server/src/ops/a.rs", "use axum::Json;", "2: `axum` only in http/"),
        ("crates/server/src/ops/a.rs", "\nfn a(x: ::axum::Json) {}", "3: `axum` only in http/"),
        ("crates/server/src/store/users.rs", "use rusqlite::Row;", "2: `rusqlite` only in store/db/"),
        ("crates/server/src/ops/a.rs", "use {redis::Client, x};", "2: `redis` only in counters/, sessions.rs"),
        ("crates/server/src/http/a.rs", "use reqwest::Client;", "2: `reqwest` only in gateways/"),
        ("crates/server/src/ops/a.rs", "std::env::var(x)", "2: `env::var` only in config.rs"),
        (
            "crates/server/src/ops/a.rs",
            "tokio::spawn(x)",
            "2: `tokio::spawn` only in jobs/, http/door.rs, main.rs, cli/",
        ),
        ("crates/server/src/ops/a.rs", "use crate::http::x;", "2: ops/ does not name `crate::http`"),
        (
            "crates/server/src/store/a.rs",
            "use crate::{error::Error,\n ops::x};",
            "2: store/ does not name `crate::ops`",
        ),
        (
            "crates/server/src/http/a.rs",
            "app.db.read(x)",
            "2: `db.read` only in ops/, store/, jobs/, app.rs, cli/tools.rs",
        ),
        ("crates/server/src/http/a.rs", "crate::gateways::x()", "2: http/ does not name `crate::gateways`"),
        ("crates/server/src/clock.rs", "use crate::http::x;", "2: clock.rs does not name `crate::http`"),
        ("crates/server/src/ops/a.rs", "let x = 1f64;", "2: no `f64`"),
        ("crates/billing/src/a.rs", "let x = y as f32;", "2: no `f32`"),
        ("crates/billing/src/a.rs", "use serde::Serialize;", "2: no `serde` in the core"),
        ("crates/billing/src/a.rs", "jiff::Timestamp::now()", "2: no `Timestamp::now` in the core"),
        ("crates/server/src/store/a.rs", "format!(\n\"SELECT {x} FROM t\")", "3: no `format!` into a query: SELECT …"),
        (
            "crates/server/src/store/a.rs",
            "write!(s, r#\" update t set a={x}\"#)",
            "2: no `format!` into a query: UPDATE …",
        ),
        ("crates/sandbox/src/helpers.rs", "", "1: nothing is called `helpers`"),
        ("xtask/src/common/a.rs", "", "1: nothing is called `common`"),
        ("README.md", &machine, &machine_rule),
        ("xtask/src/a.rs", "#[ignore = \"slow\"]", ignored),
        ("xtask/src/a.rs", "    #[ignore]", ignored),
    ] {
        assert_eq!(rules_of(path, text), [rule], "{path}: {text}");
    }
    let long = "\n".repeat(LINES_MAX);
    assert_eq!(rules_of("crates/billing/src/a.rs", &long), ["601: more than 600 lines"]);
    let headless = Source { path: "xtask/src/a.rs".into(), text: "fn main() {}".into() };
    assert_eq!(check(&headless).len(), 1);
}

#[test]
fn what_only_looks_like_a_violation_is_left_alone() {
    for (path, text) in [
        ("crates/server/src/http/a.rs", "use axum::Json;"),
        ("crates/server/src/ops/a.rs", "// axum and redis:: in words\n/* reqwest::x /* f64 */"),
        ("crates/server/src/ops/a.rs", "let s = \"redis::x \\\" f64\"; let r = r#\"tokio::spawn(\"f64\")\"#;"),
        ("crates/server/src/ops/a.rs", "let c = '\"'; let d: &'static str = x; let e = '\\''; // f64"),
        ("crates/server/src/ops/a.rs", "crate::gateways::redis::x(); my_reqwest(); as_secs_f64(); let redis_url = 1;"),
        ("crates/server/src/ops/a.rs", "use crate::{store::http, gateways::{http, x}};"),
        ("crates/server/src/cli/a.rs", "use crate::http::x; use crate::store::y;"),
        (
            "crates/server/src/http/a.rs",
            "fn a() {}\n#[cfg(test)]\nmod tests { use reqwest::Client; use crate::gateways::x; }",
        ),
        (
            "crates/server/src/store/a.rs",
            "query(\"SELECT a FROM t\"); format!(\"update the program\"); format!(\"{x}\"); y(\"DELETE FROM t\")",
        ),
        ("crates/server/src/telemetry.rs", "let seconds = micros as f64;"),
        ("README.md", "a /workshop, a network/work, an api/home/x"),
    ] {
        assert_eq!(rules_of(path, text), [""; 0], "{path}: {text}");
    }
}
