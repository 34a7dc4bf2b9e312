//! What has to be true of the log and of what lies beside it: every entry is known by its id, every id leads to its entry, and the
//! next entry comes after the last. What is wrong is named, and put right in steps.

use super::Tx;
use super::db::{Dialect, Row, args};
use super::log::{self, EntryId, Known, hold_head};
use crate::error::{Error, Result};

/// A page of ids that was looked at.
#[derive(Debug, Default)]
pub struct IdsChecked {
    /// Ids that lead to no entry of theirs, in words.
    pub wrong: Vec<String>,
    /// Where the next page goes on; nothing at the end.
    pub last: Option<(i64, Vec<u8>)>,
}

/// Ids after this one, in their order, each with the entry that it leads to and whether that is there.
const IDS: &str = "SELECT k.day, k.id, k.position, l.position FROM usage_ids k
     LEFT JOIN usage_log l ON l.position = k.position AND l.id = k.id
     WHERE (k.day, k.id) > (?1, ?2) ORDER BY k.day, k.id LIMIT ?3";

/// Looks at the ids after this one, in their order. An id without its entry would take an event for one that is there.
pub fn check_ids(tx: &mut Tx<'_>, (day, id): &(i64, Vec<u8>), most: i64) -> Result<IdsChecked> {
    let rows = tx.rows(IDS, args![*day, id.clone(), most])?;
    let mut checked = IdsChecked::default();
    for row in &rows {
        if row.int_or_null(3)?.is_none() {
            checked.wrong.push(format!("an id is known as that of the entry {}, which is not there", row.int(2)?));
        }
    }
    checked.last = rows.last().map(|row| Ok::<_, Error>((row.int(0)?, row.bytes(1)?.to_vec()))).transpose()?;
    Ok(checked)
}

/// Removes the ids after this one that lead to no entry of theirs; where the next page goes on.
pub fn drop_ids(tx: &mut Tx<'_>, (day, id): &(i64, Vec<u8>), most: i64) -> Result<Option<(i64, Vec<u8>)>> {
    let rows = tx.rows(IDS, args![*day, id.clone(), most])?;
    for row in &rows {
        if row.int_or_null(3)?.is_none() {
            tx.run("DELETE FROM usage_ids WHERE day = ?1 AND id = ?2", args![row.int(0)?, row.bytes(1)?.to_vec()])?;
        }
    }
    rows.last().map(|row| Ok((row.int(0)?, row.bytes(1)?.to_vec()))).transpose()
}

/// The entries after ?1, up to ?2, each with the day under which its id is known, as `Entry::day` says it; history that may still
/// come live also with its own day.
macro_rules! with_entries {
    ($sql:literal) => {
        concat!(
            "WITH e AS (SELECT position, id, kind, source, received_ms - event_ms AS age_ms,
                 (event_ms - CASE WHEN event_ms < 0 THEN 86399999 ELSE 0 END) / 86400000 AS day
                 FROM usage_log WHERE position > ?1 AND position <= ?2),
             l AS (SELECT position, id, CASE WHEN kind IN (1, 2, 3, 4, 5) THEN 2000000000 WHEN source = 4 THEN 1000000000 + day
                 ELSE day END AS day FROM e
                 UNION ALL SELECT position, id, day FROM e WHERE source = 4 AND kind IN (0, 6) AND age_ms < 34560000000) ",
            $sql
        )
    };
}

/// An entry and a day under which its id has to be known, with what that id leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownAs {
    pub position: i64,
    pub day: i64,
    pub known: Option<Known>,
}

/// The entries after this one, up to that one, by the ids of their days, in the order of the log. History is there for each of its
/// two days. What an entry says is not read, so it may be anything.
pub fn known_as(tx: &mut Tx<'_>, after: i64, to: i64) -> Result<Vec<KnownAs>> {
    let rows = tx.rows(
        with_entries!(
            "SELECT l.position, l.day, k.position, k.fingerprint FROM l
             LEFT JOIN usage_ids k ON k.day = l.day AND k.id = l.id ORDER BY l.position"
        ),
        args![after, to],
    )?;
    let read = |row: &Row| {
        let known = match (row.int_or_null(2)?, row.int_or_null(3)?) {
            (Some(position), Some(fingerprint)) => Some(Known { position, fingerprint }),
            _ => None,
        };
        Ok(KnownAs { position: row.int(0)?, day: row.int(1)?, known })
    };
    rows.iter().map(read).collect()
}

/// Whether two entries have the same id.
pub fn share_an_id(tx: &mut Tx<'_>, one: i64, other: i64) -> Result<bool> {
    let sql = "SELECT 1 FROM usage_log o, usage_log t WHERE o.position = ?1 AND t.position = ?2 AND o.id = t.id";
    Ok(tx.row(sql, args![one, other])?.is_some())
}

/// What an id of a day should say of its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    pub day: i64,
    pub id: EntryId,
    pub fingerprint: i64,
}

/// Has ids say of their entries what these say.
pub fn mend_fingerprints(tx: &mut Tx<'_>, right: &[Fingerprint]) -> Result<()> {
    for Fingerprint { day, id, fingerprint } in right {
        let sql = "UPDATE usage_ids SET fingerprint = ?3 WHERE day = ?1 AND id = ?2";
        tx.run(sql, args![*day, id.to_vec(), *fingerprint])?;
    }
    Ok(())
}

/// Makes the entries after this one, up to that one, known by their ids. What an event said is compared with the entry itself where
/// the fingerprint does not agree; of others it is made afterwards.
pub fn know_entries(tx: &mut Tx<'_>, after: i64, to: i64, oldest_day: i64) -> Result<u64> {
    tx.run(
        with_entries!(
            "INSERT INTO usage_ids (day, id, position, fingerprint)
             SELECT day, id, position, 0 FROM l WHERE day >= ?3 ORDER BY position ON CONFLICT DO NOTHING"
        ),
        args![after, to, oldest_day],
    )
}

/// From an entry to the one before it of the same user; on SQLite only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    pub position: i64,
    pub previous: Option<i64>,
}

/// Has entries lead to the ones before them.
pub fn mend_links(tx: &mut Tx<'_>, links: &[Link]) -> Result<()> {
    for link in links {
        tx.run("UPDATE usage_log SET previous = ?2 WHERE position = ?1", args![link.position, link.previous])?;
    }
    Ok(())
}

/// What is wrong with the end of the log where it is kept apart.
pub fn check_end(tx: &mut Tx<'_>, last: i64) -> Result<Option<String>> {
    let kept = tx.row("SELECT position FROM usage_head WHERE one = 1", args![])?.map_or(Ok(-1), |row| row.int(0))?;
    Ok(match tx.dialect() {
        Dialect::Postgres if kept != last => {
            Some(format!("the log ends at {last}, the next entry would come after {kept} (usage_head)"))
        }
        Dialect::Sqlite if kept == -1 => Some("usage_head is empty".to_owned()),
        Dialect::Sqlite if kept != 0 => Some(format!("usage_head is at {kept}: the log says by itself where it ends")),
        Dialect::Postgres | Dialect::Sqlite => None,
    })
}

/// Has the next entry come after the last one. To be run where every statement sees what was committed before it: whoever appends
/// is waited for.
pub fn mend_end(tx: &mut Tx<'_>) -> Result<()> {
    let mut last = 0;
    tx.run("INSERT INTO usage_head (one, position) VALUES (1, 0) ON CONFLICT DO NOTHING", args![])?;
    if tx.dialect() == Dialect::Postgres {
        hold_head(tx)?;
        last = log::head(tx)?;
    }
    tx.run("UPDATE usage_head SET position = ?1 WHERE one = 1 AND position <> ?1", args![last])?;
    Ok(())
}
