//! `billhook migrate`: an Ops Center file is adopted without loss, and nobody goes back.

use std::os::unix::fs::PermissionsExt;

use super::refused;
use crate::harness::program::{Program, is_private};

/// The table and the indexes as Ops Center makes them, and rows as its years left them.
const OPS_CENTER: &str = "
    CREATE TABLE users (
        id TEXT PRIMARY KEY, email TEXT UNIQUE NOT NULL, name TEXT, oauth_provider TEXT NOT NULL, oauth_id TEXT NOT NULL,
        subscription_tier TEXT DEFAULT 'trial', stripe_customer_id TEXT, lago_customer_id TEXT, is_admin BOOLEAN DEFAULT 0,
        created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
    );
    CREATE INDEX idx_users_email ON users (email);
    CREATE INDEX idx_users_stripe ON users (stripe_customer_id);
    CREATE TABLE byok_keys (id INTEGER PRIMARY KEY, secret TEXT);
    INSERT INTO byok_keys (secret) VALUES ('of somebody else');
    INSERT INTO users VALUES
        ('Qm9yaW5nLXRva2Vu', 'old@here.test', 'Old Hand', 'google', '1001', 'professional', 'cus_old', 'lago_1', 1,
            '2024-02-29 23:59:59', '2025-10-08 03:45:12'),
        ('c2Vjb25k', 'legacy@here.test', NULL, 'github', '1002', NULL, 'sub_1Nv0legacy', NULL, 0,
            '2025-09-01 12:34:56', '2025-09-01 12:34:56');
    INSERT INTO users (id, email, oauth_provider, oauth_id) VALUES ('third', 'third@here.test', 'google', '1001');
";

/// A folder with such a file, readable by everybody.
fn ops_center(sql: &str) -> Program {
    let program = Program::new();
    program.database().execute_batch(sql).expect("the file");
    std::fs::set_permissions(program.path("billhook.db"), PermissionsExt::from_mode(0o644)).expect("chmod");
    program
}

/// Every column that Ops Center knows, of every row, as text.
fn rows(program: &Program) -> Vec<String> {
    let file = program.database();
    let sql = "SELECT quote(id) || quote(email) || quote(name) || quote(oauth_provider) || quote(oauth_id) || quote(subscription_tier)
        || quote(stripe_customer_id) || quote(lago_customer_id) || quote(is_admin) || quote(created_at) || quote(updated_at)
        FROM users ORDER BY id";
    let mut statement = file.prepare(sql).expect("sql");
    statement.query_map([], |row| row.get(0)).expect("rows").collect::<Result<_, _>>().expect("rows")
}

/// What a migration from nothing says: each step, oldest first.
fn every_step() -> String {
    let steps = [
        "0001_foundation",
        "0002_metering",
        "0003_lago",
        "0004_webhooks",
        "0005_own_tier",
        "0006_revenue",
        "0007_by_list",
        "0008_told_by_others",
        "0012_lago_moved",
        "0013_reservation_notes",
        "0014_lago_codes",
        "0015_spelt_ids",
        "0016_lago_names",
        "0017_ids_lost",
        "0019_terms_by_others",
        "0020_terms_by_roles",
    ];
    steps.iter().map(|step| format!("applied {step}\n")).collect::<Vec<_>>().concat()
}

/// A tier that Ops Center writes in its own way is none of the catalogue's: that is said, because nothing is allowed in it.
#[test]
fn tiers_that_the_catalogue_does_not_have_are_said_when_they_are_adopted() {
    let program =
        ops_center(&format!("{OPS_CENTER} UPDATE users SET subscription_tier = 'Professional' WHERE id <> 'third';"));
    let done = program.run(&["migrate"]);
    let told = "2 users are in tiers that the catalogue does not have (Professional): nothing is allowed to them";
    assert!(done.code == Some(0) && done.stderr.contains(told), "{done:?}");
}

#[test]
fn an_ops_center_file_is_adopted_without_loss() {
    let program = ops_center(OPS_CENTER);
    let before = rows(&program);
    let done = program.run(&["migrate"]);
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (Some(0), &*format!("{}adopted 3 users\n", every_step())),
        "{done:?}"
    );
    assert!(done.stderr.contains("user c2Vjb25k: stripe_customer_id holds no customer id"), "{done:?}");
    assert!(!done.stderr.contains("Qm9yaW5nLXRva2Vu") && !done.stderr.contains("third"), "{done:?}");
    assert_eq!(rows(&program), before);
    assert!(before[0].contains("'2024-02-29 23:59:59''2025-10-08 03:45:12'"), "{before:?}");
    assert!(is_private(&program.path("billhook.db")));
    let kept: String =
        program.database().query_row("SELECT secret FROM byok_keys", [], |row| row.get(0)).expect("kept");
    assert_eq!(kept, "of somebody else");

    let again = program.run(&["migrate"]);
    assert_eq!((again.code, again.stdout.as_str()), (Some(0), "up to date\n"), "{again:?}");
    assert_eq!(rows(&program), before);
    let listed = program.run(&["user", "list", "--json"]).objects();
    let told: Vec<_> = listed
        .iter()
        .map(|user| (user["tier"].as_str(), user["stripe_customer_id"].as_str(), user["is_admin"] == true))
        .collect();
    let trial = Some("trial");
    assert_eq!(told, [(Some("professional"), Some("cus_old"), true), (trial, None, false), (trial, None, false)]);
    let doctor = program.run(&["doctor"]);
    assert_eq!(doctor.code, Some(0), "{doctor:?}");
    assert!(doctor.stdout.lines().any(|line| line.starts_with("warn") && line.contains("c2Vjb25k")), "{doctor:?}");
}

#[test]
fn a_file_from_before_the_columns_grew_is_adopted_too() {
    let program = ops_center(
        "CREATE TABLE users (id TEXT PRIMARY KEY, email TEXT UNIQUE NOT NULL, name TEXT, oauth_provider TEXT NOT NULL, oauth_id TEXT NOT NULL);
         INSERT INTO users VALUES ('u1', 'first@here.test', 'First', 'google', '1');",
    );
    assert_eq!(program.run(&["migrate"]).stdout, format!("{}adopted 1 users\n", every_step()));
    let listed = program.run(&["user", "list", "--json"]).objects();
    assert_eq!((listed.len(), &listed[0]["tier"], &listed[0]["is_admin"]), (1, &"trial".into(), &false.into()));
}

#[test]
fn a_new_database_and_then_nothing_to_do() {
    let program = Program::new();
    assert_eq!(program.run(&["migrate"]).stdout, every_step());
    assert_eq!(program.run(&["migrate"]).stdout, "up to date\n");
    assert!(is_private(&program.path("billhook.db")));
}

#[test]
fn a_newer_database_is_refused_by_the_name_of_its_step() {
    let program = Program::new();
    program.run(&["migrate"]);
    program.database().execute("INSERT INTO schema_migrations VALUES ('9999_from_the_future')", []).expect("planted");
    for args in [&["migrate"][..], &["user", "list"], &["doctor"], &["sync"], &["serve", "--listen", "127.0.0.1:0"]] {
        let done = program.run(args);
        assert!(refused(&done, 78).contains("9999_from_the_future"), "{args:?}: {done:?}");
    }
}

#[test]
fn a_file_that_is_no_database_is_refused_and_not_touched() {
    let program = Program::new();
    let text = "This is a letter, not a database. ".repeat(200);
    std::fs::write(program.path("billhook.db"), &text).expect("written");
    let done = program.run(&["migrate"]);
    assert_eq!(done.code, Some(78), "{done:?}");
    assert!(done.stderr.contains("billhook: DATABASE_URL: file is not a database"), "{done:?}");
    assert_eq!(std::fs::read_to_string(program.path("billhook.db")).expect("still there"), text);
}
