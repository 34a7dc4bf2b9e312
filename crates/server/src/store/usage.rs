//! The usage log and the sums by hour that move with it.

use std::collections::BTreeMap;

use billing::time::Window;
use billing::usage::Quantity;

use super::db::args;
use super::{Change, Tx};
use crate::error::{Error, Result};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// An event to be recorded; already validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub transaction_id: String,
    pub user: String,
    pub kind: String,
    pub quantity: Quantity,
    pub event_ms: i64,
    /// JSON text of an object.
    pub properties: Option<String>,
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Recorded {
        position: i64,
    },
    /// The same event is in the log already.
    Duplicate {
        position: i64,
    },
    /// Another event with this id is in the log; names the member that differs.
    Conflict {
        member: &'static str,
    },
}

/// Appends an event: key, event and sums in one transaction.
pub fn record(tx: &mut Tx<'_>, event: &Event, received_ms: i64) -> Result<Verdict> {
    let day = event.event_ms.div_euclid(DAY_MS);
    if let Some(verdict) = recorded_before(tx, event, day)? {
        return Ok(verdict);
    }
    let position =
        tx.row("SELECT COALESCE(MAX(position), 0) + 1 FROM usage_events", args![])?.map_or(Ok(1), |row| row.int(0))?;
    tx.run(
        "INSERT INTO usage_keys (day, transaction_id, position) VALUES (?1, ?2, ?3)",
        args![day, &event.transaction_id, position],
    )?;
    tx.run(
        "INSERT INTO usage_events (position, transaction_id, user_id, type, quantity_micro, event_ms, received_ms, properties)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        args![
            position,
            &event.transaction_id,
            &event.user,
            &event.kind,
            event.quantity.micro(),
            event.event_ms,
            received_ms,
            &event.properties
        ],
    )?;
    tx.run(
        "INSERT INTO usage_hours (user_id, hour, type, quantity_micro) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (user_id, hour, type) DO UPDATE SET
             quantity_micro = usage_hours.quantity_micro + excluded.quantity_micro",
        args![&event.user, event.event_ms.div_euclid(HOUR_MS), &event.kind, event.quantity.micro()],
    )?;
    tx.changed(Change::User(event.user.clone()));
    Ok(Verdict::Recorded { position })
}

fn recorded_before(tx: &mut Tx<'_>, event: &Event, day: i64) -> Result<Option<Verdict>> {
    let found = tx.row(
        "SELECT e.position, e.user_id, e.type, e.quantity_micro, e.event_ms, e.properties FROM usage_keys k
         JOIN usage_events e ON e.position = k.position WHERE k.day = ?1 AND k.transaction_id = ?2",
        args![day, &event.transaction_id],
    )?;
    let Some(row) = found else { return Ok(None) };
    let differs = [
        ("user_id", row.text(1)? != event.user),
        ("type", row.text(2)? != event.kind),
        ("quantity", row.int(3)? != event.quantity.micro()),
        ("timestamp", row.int(4)? != event.event_ms),
        ("properties", row.text_or_null(5)? != event.properties),
    ];
    Ok(Some(match differs.into_iter().find(|(_, differs)| *differs) {
        Some((member, _)) => Verdict::Conflict { member },
        None => Verdict::Duplicate { position: row.int(0)? },
    }))
}

/// What a user has used of each type in a window: whole hours from the sums, the ragged edges from the log.
pub fn sums(tx: &mut Tx<'_>, user: &str, window: &Window) -> Result<BTreeMap<String, Quantity>> {
    let (start, end) = (window.start.as_millisecond(), window.end.as_millisecond());
    let first_hour = start.div_euclid(HOUR_MS) + i64::from(start.rem_euclid(HOUR_MS) != 0);
    let last_hour = end.div_euclid(HOUR_MS);
    let mut sums = BTreeMap::new();
    if first_hour >= last_hour {
        add_edge(tx, user, start, end, &mut sums)?;
        return Ok(sums);
    }
    for row in tx.rows(
        "SELECT type, CAST(SUM(quantity_micro) AS BIGINT) FROM usage_hours
         WHERE user_id = ?1 AND hour >= ?2 AND hour < ?3 GROUP BY type",
        args![user, first_hour, last_hour],
    )? {
        add(&mut sums, row.text(0)?, row.int(1)?)?;
    }
    add_edge(tx, user, start, first_hour * HOUR_MS, &mut sums)?;
    add_edge(tx, user, last_hour * HOUR_MS, end, &mut sums)?;
    Ok(sums)
}

fn add_edge(tx: &mut Tx<'_>, user: &str, from: i64, to: i64, sums: &mut BTreeMap<String, Quantity>) -> Result<()> {
    if from >= to {
        return Ok(());
    }
    for row in tx.rows(
        "SELECT type, CAST(SUM(quantity_micro) AS BIGINT) FROM usage_events
         WHERE user_id = ?1 AND event_ms >= ?2 AND event_ms < ?3 GROUP BY type",
        args![user, from, to],
    )? {
        add(sums, row.text(0)?, row.int(1)?)?;
    }
    Ok(())
}

fn add(sums: &mut BTreeMap<String, Quantity>, kind: String, micro: i64) -> Result<()> {
    let before = sums.get(&kind).copied().unwrap_or(Quantity::from_micro(0));
    let after = before.plus(Quantity::from_micro(micro)).map_err(|error| Error::internal(error.to_string()))?;
    sums.insert(kind, after);
    Ok(())
}

/// How many events the log holds, and sums by hour that are not the sums of their events: for `doctor`.
pub fn check(tx: &mut Tx<'_>) -> Result<(u64, Vec<String>)> {
    let events = tx.row("SELECT COUNT(*) FROM usage_events", args![])?.map_or(Ok(0), |row| row.count(0))?;
    let wrong = tx.rows(
        "SELECT COALESCE(e.user_id, h.user_id), COALESCE(e.type, h.type), COALESCE(e.hour, h.hour) FROM
             (SELECT user_id, type, event_ms / 3600000 AS hour, CAST(SUM(quantity_micro) AS BIGINT) AS total
              FROM usage_events GROUP BY user_id, type, event_ms / 3600000) e
         FULL JOIN usage_hours h ON h.user_id = e.user_id AND h.type = e.type AND h.hour = e.hour
         WHERE e.total IS NULL OR h.quantity_micro IS NULL OR e.total <> h.quantity_micro LIMIT 100",
        args![],
    )?;
    let wrong = wrong
        .iter()
        .map(|row| Ok(format!("user {}, {}, hour {}", row.text(0)?, row.text(1)?, row.int(2)?)))
        .collect::<Result<_>>()?;
    Ok((events, wrong))
}

/// Sums the log anew.
pub fn rebuild(tx: &mut Tx<'_>) -> Result<()> {
    tx.run("DELETE FROM usage_hours", args![])?;
    tx.run(
        "INSERT INTO usage_hours (user_id, hour, type, quantity_micro)
         SELECT user_id, event_ms / 3600000, type, CAST(SUM(quantity_micro) AS BIGINT)
         FROM usage_events GROUP BY user_id, event_ms / 3600000, type",
        args![],
    )?;
    tx.changed(Change::Everything);
    Ok(())
}
