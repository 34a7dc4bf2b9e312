//! The state file: a restart changes nothing, a torn line is cut off, and nobody writes it beside another.

use crate::lab::{Lab, event};
use sandbox::lago::{Fault, FaultKind, Store};
use serde_json::json;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;

/// A file of this test's own.
fn fresh(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("lago-{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

#[test]
fn a_restart_changes_nothing() {
    let path = fresh("restart");
    let lab = Lab::on(Store::Postgres, Some(path.clone())).unwrap().furnish();
    lab.lago().faults().push(Fault::always("", FaultKind::LegacyPartialStore));
    lab.event("a", "1.5");
    assert_eq!(lab.batch(vec![event("a", "1"), event("b", "2")]).status, 422);
    lab.lago().faults().clear();
    assert_eq!(lab.batch(vec![event("a", "1"), event("c", "2")]).status, 422);
    lab.set_clock("2026-12-02T00:00:00Z");
    lab.made("/customers", json!({"customer": {"external_id": "ada", "name": "Ada"}}));
    let shown = |lab: &Lab| {
        [
            "/subscriptions/sub",
            "/customers/ada",
            "/invoices",
            "/events",
            "/plans",
            "/customers/ada/past_usage?external_subscription_id=sub",
        ]
        .map(|path| lab.get(path).body)
    };
    let before = shown(&lab);
    assert_eq!(before[5]["usage_periods"][0]["charges_usage"][0]["units"], "3.5");
    drop(lab);
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(br#"{"at":1,"legacy":false,"method":"POST","pa"#).unwrap();
    let lab = Lab::on(Store::Postgres, Some(path.clone())).unwrap();
    lab.set_clock("2026-12-02T00:00:00Z");
    assert_eq!(shown(&lab), before);
    assert_eq!(lab.event("a", "1").status, 422);
    drop(lab);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn whose_file_it_is() {
    let path = fresh("whose");
    let lab = Lab::on(Store::ClickHouse, Some(path.clone())).unwrap();
    let second = |store| Lab::on(store, Some(path.clone())).map(drop).map_err(|error| error.kind());
    assert_eq!(second(Store::ClickHouse), Err(ErrorKind::ResourceBusy));
    drop(lab);
    assert_eq!(second(Store::Postgres), Err(ErrorKind::InvalidData));
    assert_eq!(second(Store::ClickHouse), Ok(()));
    std::fs::remove_file(path).unwrap();
}
