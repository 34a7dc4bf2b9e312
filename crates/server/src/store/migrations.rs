//! Brings the schema up to date, step by step, each in one transaction.

use super::db::{Dialect, args};
use super::{Db, Tx};
use crate::error::{Error, Result};

/// Every step that there ever was, oldest first. A step is never edited once it was released.
const STEPS: &[(&str, &str)] = &[
    ("0001_foundation", include_str!("migrations/0001_foundation.sql")),
    ("0002_metering", include_str!("migrations/0002_metering.sql")),
    ("0003_lago", include_str!("migrations/0003_lago.sql")),
    ("0004_webhooks", include_str!("migrations/0004_webhooks.sql")),
    ("0005_own_tier", include_str!("migrations/0005_own_tier.sql")),
    ("0006_revenue", include_str!("migrations/0006_revenue.sql")),
    ("0007_by_list", include_str!("migrations/0007_by_list.sql")),
    ("0008_told_by_others", include_str!("migrations/0008_told_by_others.sql")),
    ("0012_lago_moved", include_str!("migrations/0012_lago_moved.sql")),
    ("0013_reservation_notes", include_str!("migrations/0013_reservation_notes.sql")),
    ("0014_lago_codes", include_str!("migrations/0014_lago_codes.sql")),
    ("0015_spelt_ids", include_str!("migrations/0015_spelt_ids.sql")),
    ("0016_lago_names", include_str!("migrations/0016_lago_names.sql")),
    ("0017_ids_lost", include_str!("migrations/0017_ids_lost.sql")),
    ("0019_terms_by_others", include_str!("migrations/0019_terms_by_others.sql")),
    ("0020_terms_by_roles", include_str!("migrations/0020_terms_by_roles.sql")),
];

/// Columns that an older Ops Center file may lack, as it grew over time.
const GROWN_COLUMNS: &[(&str, &str)] = &[
    ("subscription_tier", "ALTER TABLE users ADD COLUMN subscription_tier TEXT DEFAULT 'trial'"),
    ("stripe_customer_id", "ALTER TABLE users ADD COLUMN stripe_customer_id TEXT"),
    ("lago_customer_id", "ALTER TABLE users ADD COLUMN lago_customer_id TEXT"),
    ("is_admin", "ALTER TABLE users ADD COLUMN is_admin BIGINT DEFAULT 0"),
    ("created_at", "ALTER TABLE users ADD COLUMN created_at TEXT"),
    ("updated_at", "ALTER TABLE users ADD COLUMN updated_at TEXT"),
];

/// What `run` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Steps applied now; empty when the schema was up to date.
    pub applied: Vec<&'static str>,
    /// Users found in a file that another program made.
    pub adopted_users: Option<u64>,
}

/// Whether there is a schema of ours at all; asked before anything is written. SQLite is asked before its file is opened.
pub fn are_there(tx: &mut Tx<'_>) -> Result<bool> {
    if tx.dialect() == Dialect::Sqlite {
        return Ok(true);
    }
    let table = tx.row("SELECT 1 WHERE to_regclass('schema_migrations') IS NOT NULL", args![])?;
    let step = "SELECT 1 FROM schema_migrations WHERE name = ?1";
    Ok(table.is_some() && tx.row(step, args![STEPS[0].0])?.is_some())
}

/// Applies the steps that are missing. A database of a newer version is refused by name.
pub async fn run(db: &Db) -> Result<Report> {
    db.write(migrate).await
}

fn migrate(tx: &mut Tx<'_>) -> Result<Report> {
    tx.run("CREATE TABLE IF NOT EXISTS schema_migrations (name TEXT PRIMARY KEY)", args![])?;
    let done: Vec<String> = tx
        .rows("SELECT name FROM schema_migrations ORDER BY name", args![])?
        .iter()
        .map(|row| row.text(0))
        .collect::<Result<_>>()?;
    if let Some(newer) = done.iter().find(|name| !STEPS.iter().any(|(step, _)| step == name)) {
        let detail = format!("the database has step {newer}, which this version does not know: run the newer version");
        return Err(Error::Conflict { code: "schema.newer", detail });
    }
    let adopted_users = if done.is_empty() { adopt(tx)? } else { None };
    let mut applied = Vec::new();
    for (name, sql) in STEPS.iter().filter(|(step, _)| !done.iter().any(|name| name == step)) {
        tx.script(sql)?;
        tx.run("INSERT INTO schema_migrations (name) VALUES (?1)", args![*name])?;
        applied.push(*name);
    }
    Ok(Report { applied, adopted_users })
}

/// A SQLite file may come from Ops Center: its `users` stay as they are, and columns that it lacks are added.
fn adopt(tx: &mut Tx<'_>) -> Result<Option<u64>> {
    if tx.dialect() != Dialect::Sqlite {
        return Ok(None);
    }
    let columns: Vec<String> = tx
        .rows("SELECT name FROM pragma_table_info('users')", args![])?
        .iter()
        .map(|row| row.text(0))
        .collect::<Result<_>>()?;
    if columns.is_empty() {
        return Ok(None);
    }
    for (column, sql) in GROWN_COLUMNS {
        if !columns.iter().any(|name| name == column) {
            tx.script(sql)?;
        }
    }
    if columns.iter().any(|name| name == "disabled_at") {
        let detail = "the table users has a column disabled_at of another meaning".to_owned();
        return Err(Error::Conflict { code: "schema.foreign", detail });
    }
    tx.row("SELECT COUNT(*) FROM users", args![])?.map(|row| row.count(0)).transpose()
}
