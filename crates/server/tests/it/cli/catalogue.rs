//! Whose catalogue holds: that of `serve`, whatever the shell of a command beside it has (I-10, I-30).

use std::fmt::Write;

use rusqlite::Connection;

use super::{add_user, refused};
use crate::harness::Database;
use crate::harness::program::{Program, Running};

const SERVE: [&str; 3] = ["serve", "--listen", "127.0.0.1:0"];

/// A catalogue in which an inference costs this many credits, as a file of the program's folder.
fn inference_costs(program: &Program, credits: u32) -> String {
    let built_in = billing::catalogue::Catalogue::BUILT_IN;
    let old = "[events.inference]\ncredits = \"1\"";
    assert!(built_in.contains(old));
    let path = program.path(&format!("inference-{credits}.toml"));
    let text = built_in.replace(old, &format!("[events.inference]\ncredits = \"{credits}\""));
    std::fs::write(&path, text).expect("a file");
    path.display().to_string()
}

fn serving(program: &Program) -> Running {
    let running = program.start(&SERVE);
    running.stderr.line("listening on");
    running
}

/// Everything that a catalogue decides and everything that was ever recorded, as text.
fn kept(database: &Connection) -> String {
    let mut text = String::new();
    for sql in [
        // How far the accounts are written down, `serve` itself moves on meanwhile.
        "SELECT name || value FROM facts WHERE name <> 'accounts_position' ORDER BY name",
        "SELECT position || kind || weight_micro || COALESCE(body, '') FROM usage_log ORDER BY position",
        "SELECT user_id FROM stale_plans ORDER BY user_id",
    ] {
        let mut statement = database.prepare(sql).expect("a statement");
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).expect("rows");
        rows.for_each(|row| writeln!(text, "{}", row.expect("a row")).expect("text"));
    }
    text
}

fn weights(database: &Connection) -> Vec<i64> {
    let sql = "SELECT weight_micro FROM usage_log WHERE type = 'inference' ORDER BY position";
    let mut statement = database.prepare(sql).expect("a statement");
    let rows = statement.query_map([], |row| row.get(0)).expect("rows");
    rows.map(|row| row.expect("a row")).collect()
}

#[test]
fn a_command_beside_serve_works_by_its_catalogue_and_a_look_writes_nothing() {
    let mut program = Program::new();
    let (served, other) = (inference_costs(&program, 3), inference_costs(&program, 8));
    program.set("BILLHOOK_CATALOG", &served);
    let running = serving(&program);
    let user = add_user(&program, "ada@here.test", &[]);
    let adjust = |program: &Program, id: &str| {
        let args =
            ["usage", "adjust", "--user", &user, "--type", "inference", "--quantity", "1", "--note", "n", "--id", id];
        assert_eq!(program.run(&args).code, Some(0), "{id}");
    };
    adjust(&program, "first");
    let before = kept(&program.database());
    program.set("BILLHOOK_CATALOG", &other);
    let told = program.run(&["user", "list"]).stderr;
    assert!(told.contains("BILLHOOK_CATALOG is not the catalogue of this database"), "{told}");
    let shell = Program::new().with("DATABASE_URL", &format!("sqlite://{}", program.path("billhook.db").display()));
    for look in [
        &["key", "list"][..],
        &["user", "list"],
        &["webhooks", "list"],
        &["doctor"],
        &["usage", "replay", "--dry-run"],
        &[
            "usage",
            "adjust",
            "--user",
            &user,
            "--type",
            "tts",
            "--quantity",
            "1",
            "--note",
            "n",
            "--id",
            "x",
            "--dry-run",
        ],
        &["session", "issue", "--user", &user],
    ] {
        let done = shell.run(look);
        assert_eq!((done.code, done.stderr.contains("catalogue")), (Some(0), false), "{look:?}: {done:?}");
        assert_eq!(kept(&program.database()), before, "{look:?}");
    }
    adjust(&program, "second");
    adjust(&shell, "third");
    assert_eq!(weights(&program.database()), [3_000_000; 3], "nobody prices by another catalogue than serve");
    running.stop();

    let changed = serving(&program);
    changed.stderr.line("the catalogue is not the one that this database was priced by");
    adjust(&shell, "fourth");
    assert_eq!(weights(&program.database())[3..], [8_000_000], "serve has put another in its place");
}

#[test]
fn a_command_that_cannot_know_the_catalogue_is_refused() {
    let mut program = Program::new();
    program.set("BILLHOOK_CATALOG", &inference_costs(&program, 3));
    serving(&program).stop();
    // As a version before this one leaves it.
    program.database().execute("DELETE FROM facts WHERE name = 'catalogue_text'", []).expect("forgotten");
    assert_eq!(program.run(&["user", "list"]).code, Some(0), "it has the same");
    program.set("BILLHOOK_CATALOG", &inference_costs(&program, 8));
    let done = program.run(&["user", "list"]);
    assert!(refused(&done, 78).contains("BILLHOOK_CATALOG: this database is priced by another catalogue"), "{done:?}");
}

/// Overage of two currencies could not be added up, and nobody has said what their credits are worth in the other.
#[test]
fn another_currency_is_refused_once_there_is_an_account() {
    let mut program = Program::new();
    let built_in = billing::catalogue::Catalogue::BUILT_IN;
    let euro = program.path("euro.toml");
    std::fs::write(&euro, built_in.replace("currency = \"usd\"", "currency = \"eur\"")).expect("a file");
    let usd = program.path("usd.toml");
    std::fs::write(&usd, built_in).expect("a file");
    program.set("BILLHOOK_CATALOG", &usd.display().to_string());
    serving(&program).stop();
    program.set("BILLHOOK_CATALOG", &euro.display().to_string());
    serving(&program).stop();
    program.set("BILLHOOK_CATALOG", &usd.display().to_string());
    let running = serving(&program);
    let user = add_user(&program, "ada@here.test", &[]);
    let args =
        ["usage", "adjust", "--user", &user, "--type", "inference", "--quantity", "1", "--note", "n", "--id", "a"];
    assert_eq!(program.run(&args).code, Some(0));
    running.stop();
    let before = kept(&program.database());
    program.set("BILLHOOK_CATALOG", &euro.display().to_string());
    let done = program.run(&SERVE);
    let expected = "BILLHOOK_CATALOG: its currency is eur, and the accounts of this database are in usd";
    assert!(refused(&done, 78).contains(expected), "{done:?}");
    assert_eq!(kept(&program.database()), before, "nothing was changed by it");
    program.set("BILLHOOK_CATALOG", &usd.display().to_string());
    serving(&program).stop();
    assert_eq!(program.run(&["doctor"]).code, Some(0));
}

#[test]
fn two_servers_of_one_database_have_one_catalogue() {
    let database = Database::postgres();
    let redis = crate::harness::database::variable("BILLHOOK_TEST_REDIS");
    let program = || Program::new().with("DATABASE_URL", &database.address()).with("REDIS_URL", &redis);
    let (mut one, mut other) = (program(), program());
    one.set("BILLHOOK_CATALOG", &inference_costs(&one, 3));
    let first = serving(&one);
    for mistaken in [Some(inference_costs(&other, 8)), None] {
        let mut beside = program();
        if let Some(path) = &mistaken {
            beside.set("BILLHOOK_CATALOG", path);
        }
        let done = beside.run(&SERVE);
        assert!(refused(&done, 78).contains("works on this database by another catalogue"), "{done:?}");
        assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
    }
    other.set("BILLHOOK_CATALOG", &inference_costs(&other, 3));
    let second = serving(&other);
    second.stop();
    first.stop();
    // Nobody serves any more: the catalogue may change.
    let changed = serving(&program());
    changed.stderr.line("the catalogue is not the one that this database was priced by");
}
