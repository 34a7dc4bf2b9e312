//! Whether what was said under an id is said again: the question behind `duplicate` and `conflict`.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use super::ids;
use super::writer::{Candidate, Verdict};
use crate::error::{Error, Result};
use crate::store::Tx;
use crate::store::log::{self, EntryId, Known, Source};

/// The same again, or something else under the same id.
pub(super) fn verdict_on(tx: &mut Tx<'_>, Candidate { entry, timed }: &Candidate, known: Known) -> Result<Verdict> {
    if known.fingerprint == entry.fingerprint {
        return Ok(Verdict::Duplicate { position: known.position });
    }
    let first = log::at(tx, known.position)?.ok_or_else(|| Error::internal("an id of the log leads to no entry"))?;
    let differs = [
        ("transaction_id", first.transaction_id != entry.transaction_id),
        ("user_id", first.user != entry.user),
        ("type", first.event_type != entry.event_type || first.kind != entry.kind),
        ("quantity", first.quantity != entry.quantity),
        ("properties", first.body != entry.body),
        ("timestamp", *timed && first.event_ms != entry.event_ms),
    ];
    let member = differs.into_iter().find(|(_, differs)| *differs);
    Ok(match member {
        Some((member, _)) => Verdict::Conflict { member },
        // One of the two came without a time, or in another notation, and everything else is the same.
        None => Verdict::Duplicate { position: known.position },
    })
}

/// The days on which a candidate may have come before: the day before, too, where we gave it its time.
pub(super) fn days(Candidate { entry, timed }: &Candidate) -> RangeInclusive<i64> {
    let day = entry.event_ms.div_euclid(log::DAY_MS);
    if *timed { day..=day } else { day - 1..=day }
}

/// CloudEvents that a version before this one recorded, under their id alone: it did not keep their source.
#[derive(Debug, Default)]
pub(super) struct Former(HashMap<(i64, EntryId), Known>);

impl Former {
    /// What the log knows of these candidates in that way.
    pub(super) fn of<'c>(tx: &mut Tx<'_>, candidates: impl Iterator<Item = &'c Candidate>) -> Result<Self> {
        let mut asked = Vec::new();
        for candidate in candidates.filter(|candidate| candidate.entry.source == Source::CloudEvents) {
            let id = ids::entry_id("", &candidate.entry.transaction_id);
            asked.extend(days(candidate).map(|day| (day, id)));
        }
        Ok(Self(if asked.is_empty() { HashMap::new() } else { log::known_among(tx, &asked)? }))
    }

    /// What is to be said of a candidate that was recorded so; nothing where it was not.
    pub(super) fn verdict_on(&self, tx: &mut Tx<'_>, candidate: &Candidate) -> Result<Option<Verdict>> {
        if self.0.is_empty() || candidate.entry.source != Source::CloudEvents {
            return Ok(None);
        }
        let id = ids::entry_id("", &candidate.entry.transaction_id);
        for known in days(candidate).filter_map(|day| self.0.get(&(day, id))) {
            if log::at(tx, known.position)?.is_some_and(|first| first.source == Source::CloudEvents) {
                return verdict_on(tx, candidate, *known).map(Some);
            }
        }
        Ok(None)
    }
}
