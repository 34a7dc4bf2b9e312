//! The entries of a portion of the log, each with what its ids say of it. What is missing or cannot be read is named, and the rest
//! goes on.

use std::collections::HashMap;
use std::ops::Range;

use super::{CHANGED, LOST, Recount, TWICE};
use crate::error::{Error, Result};
use crate::ops::usage::{corrections, ids};
use crate::store::log::Logged;
use crate::store::proof::{self, Fingerprint, KnownAs, Link};
use crate::store::{Tx, log};

/// A portion of the log that can be counted.
pub struct Portion {
    pub entries: Vec<Logged>,
    /// The entry that it ends with.
    pub to: i64,
    /// Those that are wrong, as they should be.
    pub fingerprints: Vec<Fingerprint>,
}

/// What entries, and the ids that lead to them, say wrongly beside what counts; as it should be.
#[derive(Debug, Default)]
pub struct Wrong {
    pub links: Vec<Link>,
    pub fingerprints: Vec<Fingerprint>,
}

impl Wrong {
    pub fn is_empty(&self) -> bool {
        self.links.is_empty() && self.fingerprints.is_empty()
    }

    pub fn mend(&self, tx: &mut Tx<'_>) -> Result<()> {
        proof::mend_links(tx, &self.links)?;
        proof::mend_fingerprints(tx, &self.fingerprints)
    }
}

/// Of entries that have one id, the one that counts: by the entry that the id leads to, where that one was taken back itself.
#[derive(Debug, Default)]
pub struct Counted(HashMap<i64, i64>);

impl Counted {
    /// Whether this entry counts beside another one of the same id, less what was taken back.
    fn is_one_more(&mut self, tx: &mut Tx<'_>, position: i64, known: i64) -> Result<bool> {
        if corrections::is_voided(tx, position)? {
            return Ok(false);
        }
        Ok(!corrections::is_voided(tx, known)? || *self.0.entry(known).or_insert(position) != position)
    }
}

/// What is to be known of the whole log beside a portion of it.
pub struct Whole<'a> {
    /// The first day of which events are still accepted.
    pub oldest_day: i64,
    pub counted: &'a mut Counted,
    pub recount: &'a mut Recount,
}

/// Reads the entries after the first of these positions, up to the last. Each is known by its id, where an event of its day is still
/// accepted: else it could come again.
pub fn read(tx: &mut Tx<'_>, range: Range<i64>, whole: &mut Whole<'_>) -> Result<Portion> {
    let known = proof::known_as(tx, range.start, range.end)?;
    name_gaps(&known, &range, whole.recount);
    let entries = read_each(tx, &known, &range, whole.recount)?;
    let mut fingerprints = Vec::new();
    for one in &known {
        let entry = entries.binary_search_by_key(&one.position, |entry| entry.position).ok().map(|at| &entries[at]);
        fingerprints.extend(look(tx, one, entry, whole)?);
    }
    Ok(Portion { entries, to: range.end, fingerprints })
}

fn name_gaps(known: &[KnownAs], range: &Range<i64>, recount: &mut Recount) {
    let mut last = range.start;
    for next in known.iter().map(|one| one.position).chain([range.end + 1]) {
        match next - last {
            ..=1 => {}
            2 => recount.damaged(format!("the log has no entry {}", last + 1), LOST),
            _ => recount.damaged(format!("the log has no entry {} to {}", last + 1, next - 1), LOST),
        }
        last = next;
    }
}

/// All at once; where one of them cannot be read, one by one.
fn read_each(tx: &mut Tx<'_>, known: &[KnownAs], range: &Range<i64>, recount: &mut Recount) -> Result<Vec<Logged>> {
    match log::read(tx, range.start, range.end - range.start) {
        Err(Error::Internal(_)) => {}
        read => {
            let mut entries = read?;
            entries.retain(|entry| entry.position <= range.end);
            return Ok(entries);
        }
    }
    let mut positions: Vec<i64> = known.iter().map(|one| one.position).collect();
    positions.dedup();
    let mut entries = Vec::with_capacity(positions.len());
    for position in positions {
        match log::at(tx, position) {
            Err(Error::Internal(cause)) => {
                recount.damaged(format!("the entry {position} cannot be read: {cause}"), LOST);
            }
            entry => entries.extend(entry?),
        }
    }
    Ok(entries)
}

/// What an id says of its entry, where it is wrong and can be put right: as it should be.
fn look(tx: &mut Tx<'_>, one: &KnownAs, entry: Option<&Logged>, whole: &mut Whole<'_>) -> Result<Option<Fingerprint>> {
    let Whole { oldest_day, counted, recount } = whole;
    let KnownAs { position, day, known } = *one;
    let Some(known) = known else {
        if day >= *oldest_day {
            recount.differs(format!("the id of the entry {position} is not known: it could come again"));
        }
        return Ok(None);
    };
    if known.position != position {
        let what = format!("the entry {position} has the id of the entry {}", known.position);
        if !proof::share_an_id(tx, position, known.position)? {
            recount.differs(what);
        } else if counted.is_one_more(tx, position, known.position)? {
            recount.damaged(what, TWICE);
        }
        return Ok(None);
    }
    let Some((entry, Err(right))) = entry.map(|entry| (entry, ids::is_fingerprint_of(entry, known.fingerprint))) else {
        return Ok(None);
    };
    let what = "its id was given to something else than the entry says (fingerprint)";
    recount.damaged(format!("user {}, entry {position}: {what}", entry.user), CHANGED);
    Ok(right.map(|fingerprint| Fingerprint { day, id: entry.id, fingerprint }))
}
