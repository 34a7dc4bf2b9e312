//! Ids that are in the log: which entry each stands for, and how long that is remembered.

use std::collections::{BTreeMap, HashMap};
use std::ops::{Range, RangeInclusive};

use super::{EntryId, HISTORY, Logged, entry_id};
use crate::error::{Error, Result};
use crate::store::db::{Dialect, Row, Value, args};
use crate::store::{Tx, facts};

/// An id that is in the log already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    pub position: i64,
    pub fingerprint: i64,
}

/// The entry of an id and its UTC day.
pub fn known(tx: &mut Tx<'_>, day: i64, id: &EntryId) -> Result<Option<Known>> {
    let sql = "SELECT position, fingerprint FROM usage_ids WHERE day = ?1 AND id = ?2";
    tx.row(sql, args![day, id.to_vec()])?.map(|row| found(&row, 0)).transpose()
}

/// The entry of an id on the last of these days that knows it: nearly all that is asked for is of late.
pub fn newest(tx: &mut Tx<'_>, days: RangeInclusive<i64>, id: &EntryId) -> Result<Option<Logged>> {
    for day in days.rev() {
        if let Some(known) = known(tx, day, id)? {
            return super::at(tx, known.position);
        }
    }
    Ok(None)
}

/// Which of these ids and UTC days are known, in one question.
pub fn known_among(tx: &mut Tx<'_>, asked: &[(i64, EntryId)]) -> Result<HashMap<(i64, EntryId), Known>> {
    if tx.dialect() == Dialect::Postgres {
        return known_in_columns(tx, asked);
    }
    let mut known_ones = HashMap::new();
    for (day, id) in asked {
        if let Some(known) = known(tx, *day, id)? {
            known_ones.insert((*day, *id), known);
        }
    }
    Ok(known_ones)
}

/// On which of these days ids are known from the one to the other.
pub fn days_between(tx: &mut Tx<'_>, ranges: &BTreeMap<i64, (EntryId, EntryId)>) -> Result<Vec<i64>> {
    if ranges.is_empty() {
        return Ok(Vec::new());
    }
    if tx.dialect() == Dialect::Postgres {
        let ids = |of: fn(&(EntryId, EntryId)) -> &EntryId| {
            Value::Blobs(ranges.values().map(|range| of(range).to_vec()).collect())
        };
        let rows = tx.rows(
            "SELECT r.day FROM UNNEST(?1::BIGINT[], ?2::BYTEA[], ?3::BYTEA[]) AS r (day, first, last)
             WHERE EXISTS (SELECT 1 FROM usage_ids k WHERE k.day = r.day AND k.id BETWEEN r.first AND r.last)",
            &[Value::Ints(ranges.keys().copied().collect()), ids(|(first, _)| first), ids(|(_, last)| last)],
        )?;
        return rows.iter().map(|row| row.int(0)).collect();
    }
    let mut days = Vec::new();
    for (day, (first, last)) in ranges {
        let sql = "SELECT 1 FROM usage_ids WHERE day = ?1 AND id BETWEEN ?2 AND ?3 LIMIT 1";
        if tx.row(sql, args![*day, first.to_vec(), last.to_vec()])?.is_some() {
            days.push(*day);
        }
    }
    Ok(days)
}

fn known_in_columns(tx: &mut Tx<'_>, asked: &[(i64, EntryId)]) -> Result<HashMap<(i64, EntryId), Known>> {
    let days = asked.iter().map(|(day, _)| *day).collect();
    let ids = asked.iter().map(|(_, id)| id.to_vec()).collect();
    tx.rows(
        "SELECT k.day, k.id, k.position, k.fingerprint FROM usage_ids k
         JOIN UNNEST(?1::BIGINT[], ?2::BYTEA[]) AS asked (day, id) ON asked.day = k.day AND asked.id = k.id",
        &[Value::Ints(days), Value::Blobs(ids)],
    )?
    .iter()
    .map(|row| Ok(((row.int(0)?, entry_id(row, 1)?), found(row, 2)?)))
    .collect()
}

fn found(row: &Row, column: usize) -> Result<Known> {
    Ok(Known { position: row.int(column)?, fingerprint: row.int(column + 1)? })
}

/// The days of which ids of live usage were forgotten: of an event of theirs nobody can say whether it was recorded before. They end
/// with the first day whose ids are all kept.
pub fn lost_days(tx: &mut Tx<'_>) -> Result<Range<i64>> {
    let (from, to) = facts::both(tx, facts::IDS_LOST_FROM_DAY, facts::IDS_FROM_DAY)?;
    let day = |stored: Option<String>, else_day| stored.map_or(Ok(else_day), |day| day.parse());
    let impossible = |_| Error::internal("impossible fact: ids_lost_from_day or ids_from_day");
    Ok(day(from, i64::MAX).map_err(impossible)?..day(to, i64::MIN).map_err(impossible)?)
}

/// Of the days with events of their own the so-manieth, from the newest on, or the oldest where there are fewer; nothing in an empty
/// log.
pub fn day_back(tx: &mut Tx<'_>, nth: i64) -> Result<Option<i64>> {
    // From day to day: one look into the index for each, however many ids it has.
    let sql = "WITH RECURSIVE days (day, nth) AS (
             SELECT MAX(day), CAST(1 AS BIGINT) FROM usage_ids WHERE day < ?1
             UNION ALL
             SELECT (SELECT MAX(k.day) FROM usage_ids k WHERE k.day < days.day), nth + 1 FROM days
             WHERE day IS NOT NULL AND nth < ?2)
         SELECT MIN(day) FROM days";
    tx.row(sql, args![HISTORY / 2, nth])?.map_or(Ok(None), |row| row.int_or_null(0))
}

/// Removes ids of days before this one, a few at a time; how many there were. A longer window later does not bring them back.
pub fn forget_ids(tx: &mut Tx<'_>, before_day: i64, most: i64) -> Result<u64> {
    note_first_lost(tx, before_day, most)?;
    let forgotten = tx.run(
        "DELETE FROM usage_ids WHERE (day, id) IN (SELECT day, id FROM usage_ids WHERE day < ?1 ORDER BY day, id LIMIT ?2)",
        args![before_day, most],
    )?;
    if forgotten > 0 && lost_days(tx)?.end < before_day {
        facts::set(tx, facts::IDS_FROM_DAY, &before_day.to_string())?;
    }
    Ok(forgotten)
}

/// Notes the first day of live usage among the ids that go next, once: the oldest go first, and no older ones come. History, which
/// is also known by the day on which it might have come live, is not meant.
fn note_first_lost(tx: &mut Tx<'_>, before_day: i64, most: i64) -> Result<()> {
    if facts::get(tx, facts::IDS_LOST_FROM_DAY)?.is_some() {
        return Ok(());
    }
    let sql = "SELECT MIN(k.day) FROM (SELECT day, position FROM usage_ids WHERE day < ?1 ORDER BY day, id LIMIT ?2) k
         JOIN usage_log l ON l.position = k.position WHERE l.source NOT IN (4, 8)";
    match tx.row(sql, args![before_day, most])?.map(|row| row.int_or_null(0)).transpose()?.flatten() {
        Some(day) => facts::set(tx, facts::IDS_LOST_FROM_DAY, &day.to_string()),
        None => Ok(()),
    }
}
