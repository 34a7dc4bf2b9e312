//! What is on its way to Lago: the cursor over the log, the window that is being sent, and what was not taken.

use std::collections::HashMap;

use super::Tx;
use super::db::{Row, args};
use crate::error::{Error, Result};

/// Periods of all time zones begin with a quarter of an hour.
pub const QUARTER_MS: i64 = 900_000;

/// How far the log has been taken into windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The last entry that is in a window, or was judged not to be for Lago.
    pub position: i64,
    /// Tries in a row that failed.
    pub failures: u32,
    /// What keeps us from going on.
    pub fault: Option<Fault>,
}

/// Why nothing is sent now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub text: String,
    pub since_ms: i64,
}

pub fn cursor(tx: &mut Tx<'_>) -> Result<Cursor> {
    let row = tx.row("SELECT position, failures, fault, fault_ms FROM lago_cursor WHERE one = 1", args![])?;
    let row = row.ok_or_else(|| Error::internal("lago_cursor is empty"))?;
    let fault = match (row.text_or_null(2)?, row.int_or_null(3)?) {
        (Some(text), Some(since_ms)) => Some(Fault { text, since_ms }),
        (None, None) => None,
        _ => return Err(Error::internal("impossible row: a fault of Lago's has a text and a time")),
    };
    Ok(Cursor { position: row.int(0)?, failures: u32::try_from(row.count(1)?).unwrap_or(u32::MAX), fault })
}

/// Moves the cursor, unless somebody else has moved it meanwhile.
pub fn advance(tx: &mut Tx<'_>, from: i64, to: i64) -> Result<bool> {
    let sql = "UPDATE lago_cursor SET position = ?2 WHERE one = 1 AND position = ?1";
    Ok(tx.run(sql, args![from, to])? == 1)
}

pub fn set_failing(tx: &mut Tx<'_>, failures: u32, fault: Option<&Fault>) -> Result<()> {
    tx.run(
        "UPDATE lago_cursor SET failures = ?1, fault = ?2, fault_ms = ?3 WHERE one = 1",
        args![failures, fault.map(|fault| fault.text.clone()), fault.map(|fault| fault.since_ms)],
    )?;
    Ok(())
}

/// What became of an event of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Waiting,
    Delivered,
    Dead,
}

/// Exact events, fixed before the first try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The entries that it was made of; 0 and 0 when it holds dead letters that are sent again.
    pub first_position: i64,
    pub last_position: i64,
    pub opened_ms: i64,
    pub items: Vec<Item>,
}

/// An event of the window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub position: i64,
    /// The JSON object as it is sent, each time the same while Lago may have it.
    pub event: String,
    pub state: State,
}

pub fn window(tx: &mut Tx<'_>) -> Result<Option<Window>> {
    let sql = "SELECT first_position, last_position, opened_ms, events, states FROM lago_window WHERE one = 1";
    let Some(row) = tx.row(sql, args![])? else { return Ok(None) };
    let impossible = || Error::internal("impossible row: a window of Lago's does not fit its states");
    let (events, states) = (row.text(3)?, row.text(4)?);
    let mut items = Vec::new();
    for (line, letter) in events.lines().zip(states.chars()) {
        let (position, event) = line.split_once('\t').ok_or_else(impossible)?;
        let state = match letter {
            'w' => State::Waiting,
            'd' => State::Delivered,
            'x' => State::Dead,
            _ => return Err(impossible()),
        };
        items.push(Item { position: position.parse().map_err(|_| impossible())?, event: event.to_owned(), state });
    }
    if items.len() != states.len() {
        return Err(impossible());
    }
    Ok(Some(Window { first_position: row.int(0)?, last_position: row.int(1)?, opened_ms: row.int(2)?, items }))
}

/// Stores a new window. There must be none.
pub fn open_window(tx: &mut Tx<'_>, window: &Window) -> Result<()> {
    tx.run(
        "INSERT INTO lago_window (one, first_position, last_position, opened_ms, events, states) VALUES (1, ?1, ?2, ?3, ?4, ?5)",
        args![window.first_position, window.last_position, window.opened_ms, lines(window), letters(window)],
    )?;
    Ok(())
}

fn lines(window: &Window) -> String {
    let lines: Vec<String> = window.items.iter().map(|item| format!("{}\t{}", item.position, item.event)).collect();
    lines.join("\n")
}

/// Writes down what became of the events; the window goes when nothing waits any more.
pub fn save_window(tx: &mut Tx<'_>, window: &Window) -> Result<()> {
    if window.items.iter().any(|item| item.state == State::Waiting) {
        tx.run(
            "UPDATE lago_window SET opened_ms = ?1, events = ?2, states = ?3 WHERE one = 1",
            args![window.opened_ms, lines(window), letters(window)],
        )?;
    } else {
        tx.run("DELETE FROM lago_window WHERE one = 1", args![])?;
    }
    Ok(())
}

fn letters(window: &Window) -> String {
    let letter = |item: &Item| match item.state {
        State::Waiting => 'w',
        State::Delivered => 'd',
        State::Dead => 'x',
    };
    window.items.iter().map(letter).collect()
}

/// An event that Lago does not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    pub transaction_id: String,
    /// Its entry in the log.
    pub position: i64,
    pub user: String,
    pub reason: String,
    pub dead_ms: i64,
    pub event: String,
    /// Lago has stored it, and finds no use for it.
    pub stored: bool,
    /// Somebody wants it sent again.
    pub replay: bool,
}

fn dead(row: &Row) -> Result<Dead> {
    Ok(Dead {
        transaction_id: row.text(0)?,
        position: row.int(1)?,
        user: row.text(2)?,
        reason: row.text(3)?,
        dead_ms: row.int(4)?,
        event: row.text(5)?,
        stored: row.flag(6)?,
        replay: row.flag(7)?,
    })
}

pub fn bury(tx: &mut Tx<'_>, dead: &Dead) -> Result<()> {
    tx.run(
        "INSERT INTO lago_dead (transaction_id, position, user_id, reason, dead_ms, event, stored, replay)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0)
         ON CONFLICT (transaction_id) DO UPDATE SET reason = excluded.reason, dead_ms = excluded.dead_ms, replay = 0",
        args![&dead.transaction_id, dead.position, &dead.user, &dead.reason, dead.dead_ms, &dead.event, dead.stored],
    )?;
    Ok(())
}

/// Dead letters after this one, by transaction id.
pub fn dead_after(tx: &mut Tx<'_>, after: &str, most: i64) -> Result<Vec<Dead>> {
    tx.rows(
        "SELECT transaction_id, position, user_id, reason, dead_ms, event, stored, replay FROM lago_dead
         WHERE transaction_id > ?1 ORDER BY transaction_id LIMIT ?2",
        args![after, most],
    )?
    .iter()
    .map(dead)
    .collect()
}

pub fn is_dead(tx: &mut Tx<'_>, transaction_id: &str) -> Result<bool> {
    Ok(tx.row("SELECT 1 FROM lago_dead WHERE transaction_id = ?1", args![transaction_id])?.is_some())
}

pub fn dead_count(tx: &mut Tx<'_>) -> Result<u64> {
    tx.row("SELECT COUNT(*) FROM lago_dead", args![])?.map_or(Ok(0), |row| row.count(0))
}

/// How many dead letters have each reason, the most frequent first.
pub fn dead_reasons(tx: &mut Tx<'_>, most: i64) -> Result<Vec<(String, u64)>> {
    tx.rows(
        "SELECT reason, COUNT(*) FROM lago_dead GROUP BY reason ORDER BY COUNT(*) DESC, reason LIMIT ?1",
        args![most],
    )?
    .iter()
    .map(|row| Ok((row.text(0)?, row.count(1)?)))
    .collect()
}

/// The dead letters of a user.
pub fn dead_of(tx: &mut Tx<'_>, user: &str) -> Result<Vec<Dead>> {
    tx.rows(
        "SELECT transaction_id, position, user_id, reason, dead_ms, event, stored, replay FROM lago_dead WHERE user_id = ?1",
        args![user],
    )?
    .iter()
    .map(dead)
    .collect()
}

/// Marks one dead letter, or all, to be sent again; how many.
pub fn ask_replay(tx: &mut Tx<'_>, transaction_id: Option<&str>) -> Result<u64> {
    match transaction_id {
        Some(id) => tx.run("UPDATE lago_dead SET replay = 1 WHERE transaction_id = ?1", args![id]),
        None => tx.run("UPDATE lago_dead SET replay = 1", args![]),
    }
}

/// Dead letters that are to be sent again, in the order of the log.
pub fn replays(tx: &mut Tx<'_>, most: i64) -> Result<Vec<Dead>> {
    tx.rows(
        "SELECT transaction_id, position, user_id, reason, dead_ms, event, stored, replay FROM lago_dead
         WHERE replay = 1 ORDER BY position, transaction_id LIMIT ?1",
        args![most],
    )?
    .iter()
    .map(dead)
    .collect()
}

/// Takes a dead letter away; false when somebody else has.
pub fn raise(tx: &mut Tx<'_>, transaction_id: &str) -> Result<bool> {
    Ok(tx.run("DELETE FROM lago_dead WHERE transaction_id = ?1 AND replay = 1", args![transaction_id])? == 1)
}

/// A subscription at Lago that is known to exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    pub user: String,
    pub external_id: String,
    /// The plan that was asked for.
    pub tier: String,
    /// Its first millisecond, or one that is surely not before it.
    pub began_ms: i64,
    pub delivered_ms: Option<i64>,
    pub compared_ms: Option<i64>,
    /// What the last comparison found.
    pub difference: Option<String>,
}

fn subscription_of(row: &Row) -> Result<Subscription> {
    Ok(Subscription {
        user: row.text(0)?,
        external_id: row.text(1)?,
        tier: row.text(2)?,
        began_ms: row.int(3)?,
        delivered_ms: row.int_or_null(4)?,
        compared_ms: row.int_or_null(5)?,
        difference: row.text_or_null(6)?,
    })
}

pub fn subscription(tx: &mut Tx<'_>, user: &str) -> Result<Option<Subscription>> {
    tx.row(
        "SELECT user_id, external_id, tier, began_ms, delivered_ms, compared_ms, difference FROM lago_subscriptions
         WHERE user_id = ?1",
        args![user],
    )?
    .as_ref()
    .map(subscription_of)
    .transpose()
}

/// Subscriptions after this user's, by user.
pub fn subscriptions_after(tx: &mut Tx<'_>, user: &str, most: i64) -> Result<Vec<Subscription>> {
    tx.rows(
        "SELECT user_id, external_id, tier, began_ms, delivered_ms, compared_ms, difference FROM lago_subscriptions
         WHERE user_id > ?1 ORDER BY user_id LIMIT ?2",
        args![user, most],
    )?
    .iter()
    .map(subscription_of)
    .collect()
}

/// Whose subscription this is.
pub fn user_of(tx: &mut Tx<'_>, external_id: &str) -> Result<Option<String>> {
    let sql = "SELECT user_id FROM lago_subscriptions WHERE external_id = ?1 ORDER BY user_id LIMIT 1";
    tx.row(sql, args![external_id])?.map(|row| row.text(0)).transpose()
}

/// Remembers that a subscription exists.
pub fn save_subscription(tx: &mut Tx<'_>, user: &str, external_id: &str, tier: &str, began_ms: i64) -> Result<()> {
    tx.run(
        "INSERT INTO lago_subscriptions (user_id, external_id, tier, began_ms) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (user_id) DO UPDATE SET
             external_id = excluded.external_id, tier = excluded.tier, began_ms = excluded.began_ms",
        args![user, external_id, tier, began_ms],
    )?;
    Ok(())
}

/// Writes down what a comparison found; nothing when both sides agree.
pub fn save_difference(tx: &mut Tx<'_>, user: &str, compared_ms: i64, difference: Option<&str>) -> Result<()> {
    tx.run(
        "UPDATE lago_subscriptions SET compared_ms = ?2, difference = ?3 WHERE user_id = ?1",
        args![user, compared_ms, difference.map(str::to_owned)],
    )?;
    Ok(())
}

pub fn count_subscriptions(tx: &mut Tx<'_>) -> Result<u64> {
    tx.row("SELECT COUNT(*) FROM lago_subscriptions", args![])?.map_or(Ok(0), |row| row.count(0))
}

/// Subscriptions whose last comparison found a difference.
pub fn count_differing(tx: &mut Tx<'_>) -> Result<u64> {
    let sql = "SELECT COUNT(*) FROM lago_subscriptions WHERE difference IS NOT NULL";
    tx.row(sql, args![])?.map_or(Ok(0), |row| row.count(0))
}

/// A user as Lago is to know them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Of the customer and of the subscription: the Lago id that the user brought along, or the user's own.
    pub external_id: String,
    pub email: Option<String>,
    pub name: Option<String>,
}

/// Who a user is at Lago. Somebody who has been removed here is still who they were: their usage is owed.
pub fn identity(tx: &mut Tx<'_>, user: &str) -> Result<Identity> {
    let row = tx.row("SELECT lago_customer_id, email, name FROM users WHERE id = ?1", args![user])?;
    let Some(row) = row else {
        let known = subscription(tx, user)?.map(|known| known.external_id);
        return Ok(Identity { external_id: known.unwrap_or_else(|| user.to_owned()), email: None, name: None });
    };
    let given = row.text_or_null(0)?.filter(|id| !id.trim().is_empty());
    let external_id = given.unwrap_or_else(|| user.to_owned());
    Ok(Identity { external_id, email: row.text_or_null(1)?, name: row.text_or_null(2)? })
}

/// The tier that the log gave a user last.
pub fn tier(tx: &mut Tx<'_>, user: &str) -> Result<Option<String>> {
    tx.row("SELECT tier FROM lago_tiers WHERE user_id = ?1", args![user])?.map(|row| row.text(0)).transpose()
}

pub fn save_tier(tx: &mut Tx<'_>, user: &str, tier: &str) -> Result<()> {
    tx.run(
        "INSERT INTO lago_tiers (user_id, tier) VALUES (?1, ?2) ON CONFLICT (user_id) DO UPDATE SET tier = excluded.tier",
        args![user, tier],
    )?;
    Ok(())
}

/// The ids of Lago's that a user has had, each with the position of the log from which on, in its order.
pub fn names(tx: &mut Tx<'_>, user: &str) -> Result<Vec<(i64, String)>> {
    let sql = "SELECT from_position, external_id FROM lago_names WHERE user_id = ?1 ORDER BY from_position";
    tx.rows(sql, args![user])?.iter().map(|row| Ok((row.int(0)?, row.text(1)?))).collect()
}

pub fn save_name(tx: &mut Tx<'_>, user: &str, from_position: i64, external_id: &str) -> Result<()> {
    tx.run(
        "INSERT INTO lago_names (user_id, from_position, external_id) VALUES (?1, ?2, ?3)
         ON CONFLICT (user_id, from_position) DO UPDATE SET external_id = excluded.external_id",
        args![user, from_position, external_id],
    )?;
    Ok(())
}

/// From which position of the log on a type has a code; an empty one keeps it from Lago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    pub event_type: String,
    pub from_position: i64,
    pub code: String,
}

/// The codes of all types, each type's in the order of the log.
pub fn codes(tx: &mut Tx<'_>) -> Result<Vec<Code>> {
    let rows = tx.rows("SELECT type, from_position, code FROM lago_codes ORDER BY type, from_position", args![])?;
    rows.iter()
        .map(|row| Ok(Code { event_type: row.text(0)?, from_position: row.int(1)?, code: row.text(2)? }))
        .collect()
}

pub fn save_code(tx: &mut Tx<'_>, code: &Code) -> Result<()> {
    tx.run(
        "INSERT INTO lago_codes (type, from_position, code) VALUES (?1, ?2, ?3)
         ON CONFLICT (type, from_position) DO UPDATE SET code = excluded.code",
        args![&code.event_type, code.from_position, &code.code],
    )?;
    Ok(())
}

/// What was delivered to a subscription under one code in one quarter of an hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    pub external_id: String,
    pub code: String,
    pub quarter_ms: i64,
    /// Millionths; less than nothing where events were taken back.
    pub units: i64,
    pub events: i64,
}

/// Adds to the sums, or takes from them.
pub fn add(tx: &mut Tx<'_>, sum: &Sum) -> Result<()> {
    let row = tx.row(
        "SELECT units_micro, events FROM lago_sums WHERE external_id = ?1 AND code = ?2 AND quarter_ms = ?3",
        args![&sum.external_id, &sum.code, sum.quarter_ms],
    )?;
    let (units, events) = row.map_or(Ok((0, 0)), |row| Ok::<_, Error>((row.int(0)?, row.int(1)?)))?;
    // Sums are only compared. Beyond 2^63 millionths they say "very much", and the comparison that there is a difference.
    let (units, events) = (units.saturating_add(sum.units), events.saturating_add(sum.events));
    tx.run(
        "INSERT INTO lago_sums (external_id, code, quarter_ms, units_micro, events) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (external_id, code, quarter_ms) DO UPDATE SET
             units_micro = excluded.units_micro, events = excluded.events",
        args![&sum.external_id, &sum.code, sum.quarter_ms, units, events],
    )?;
    Ok(())
}

/// Notes when something was last delivered to a subscription.
pub fn delivered(tx: &mut Tx<'_>, external_id: &str, at_ms: i64) -> Result<()> {
    tx.run("UPDATE lago_subscriptions SET delivered_ms = ?2 WHERE external_id = ?1", args![external_id, at_ms])?;
    Ok(())
}

/// The sums of a subscription whose quarters touch `from_ms..to_ms`.
pub fn sums(tx: &mut Tx<'_>, external_id: &str, from_ms: i64, to_ms: i64) -> Result<Vec<Sum>> {
    tx.rows(
        "SELECT external_id, code, quarter_ms, units_micro, events FROM lago_sums
         WHERE external_id = ?1 AND quarter_ms > ?2 AND quarter_ms < ?3 ORDER BY code, quarter_ms",
        args![external_id, from_ms.saturating_sub(QUARTER_MS), to_ms],
    )?
    .iter()
    .map(|row| {
        Ok(Sum {
            external_id: row.text(0)?,
            code: row.text(1)?,
            quarter_ms: row.int(2)?,
            units: row.int(3)?,
            events: row.int(4)?,
        })
    })
    .collect()
}

/// Whether anything was delivered under a code since a moment.
pub fn has_sums(tx: &mut Tx<'_>, code: &str, from_ms: i64) -> Result<bool> {
    let sql = "SELECT 1 FROM lago_sums WHERE code = ?1 AND quarter_ms >= ?2 LIMIT 1";
    Ok(tx.row(sql, args![code, from_ms])?.is_some())
}

/// Forgets what was delivered to a subscription from a moment on: all of it is sent again.
pub fn forget_sums(tx: &mut Tx<'_>, external_id: &str, from_ms: i64) -> Result<()> {
    tx.run("DELETE FROM lago_sums WHERE external_id = ?1 AND quarter_ms >= ?2", args![external_id, from_ms])?;
    Ok(())
}

/// Remembers that an entry is counted from another moment than its own.
pub fn save_moved(tx: &mut Tx<'_>, position: i64, at_ms: i64) -> Result<()> {
    tx.run(
        "INSERT INTO lago_moved (position, at_ms) VALUES (?1, ?2) ON CONFLICT (position) DO UPDATE SET at_ms = excluded.at_ms",
        args![position, at_ms],
    )?;
    Ok(())
}

/// The entries after this one, up to that one, that are counted from another moment than their own.
pub fn moved(tx: &mut Tx<'_>, after: i64, to: i64) -> Result<HashMap<i64, i64>> {
    let rows =
        tx.rows("SELECT position, at_ms FROM lago_moved WHERE position > ?1 AND position <= ?2", args![after, to])?;
    rows.iter().map(|row| Ok((row.int(0)?, row.int(1)?))).collect()
}

/// Counts entries that are not for Lago.
pub fn skip(tx: &mut Tx<'_>, reason: &str, entries: i64) -> Result<()> {
    tx.run(
        "INSERT INTO lago_skips (reason, entries) VALUES (?1, ?2)
         ON CONFLICT (reason) DO UPDATE SET entries = lago_skips.entries + excluded.entries",
        args![reason, entries],
    )?;
    Ok(())
}

pub fn skips(tx: &mut Tx<'_>) -> Result<Vec<(String, u64)>> {
    let rows = tx.rows("SELECT reason, entries FROM lago_skips ORDER BY reason", args![])?;
    rows.iter().map(|row| Ok((row.text(0)?, row.count(1)?))).collect()
}

/// Keeps a webhook under Lago's own key of it; false when it came before.
pub fn keep_notice(tx: &mut Tx<'_>, unique_key: &str, received_ms: i64, body: &str) -> Result<bool> {
    let kept = tx.run(
        "INSERT INTO lago_notices (unique_key, received_ms, body) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        args![unique_key, received_ms, body],
    )?;
    Ok(kept == 1)
}

/// The oldest webhooks that were not applied yet: key and body.
pub fn notices(tx: &mut Tx<'_>, most: i64) -> Result<Vec<(String, String)>> {
    tx.rows(
        "SELECT unique_key, body FROM lago_notices WHERE applied_ms IS NULL ORDER BY received_ms, unique_key LIMIT ?1",
        args![most],
    )?
    .iter()
    .map(|row| Ok((row.text(0)?, row.text(1)?)))
    .collect()
}

pub fn notice_applied(tx: &mut Tx<'_>, unique_key: &str, at_ms: i64) -> Result<()> {
    tx.run("UPDATE lago_notices SET applied_ms = ?2 WHERE unique_key = ?1", args![unique_key, at_ms])?;
    Ok(())
}

/// Removes sums and applied webhooks that nobody will ask for again.
pub fn forget(tx: &mut Tx<'_>, sums_before_ms: i64, notices_before_ms: i64) -> Result<()> {
    tx.run("DELETE FROM lago_sums WHERE quarter_ms < ?1", args![sums_before_ms])?;
    tx.run("DELETE FROM lago_notices WHERE applied_ms IS NOT NULL AND received_ms < ?1", args![notices_before_ms])?;
    Ok(())
}
