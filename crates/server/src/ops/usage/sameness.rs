//! Whether what was said under an id is said again: the question behind `duplicate` and `conflict`.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use serde_json::value::RawValue;

use super::properties::DEPTH_MAX;
use super::writer::{Candidate, Verdict};
use super::{ids, judging};
use crate::error::{Error, Result};
use crate::store::Tx;
use crate::store::log::{self, EntryId, Kind, Known, Source};

/// What was said of an event before, where it is in the log; else that it is refused now.
pub(super) fn as_before(tx: &mut Tx<'_>, candidate: &Candidate, refused: Verdict) -> Result<Verdict> {
    Ok(judging::known_before(tx, candidate)?.unwrap_or(refused))
}

/// The same again, or something else under the same id.
pub(super) fn verdict_on(tx: &mut Tx<'_>, Candidate { entry, timed }: &Candidate, known: Known) -> Result<Verdict> {
    // A void is called by what it takes back, and may be told in another period again.
    if known.fingerprint == entry.fingerprint || entry.kind == Kind::Void {
        return Ok(Verdict::Duplicate { position: known.position });
    }
    let first = log::at(tx, known.position)?.ok_or_else(|| Error::internal("an id of the log leads to no entry"))?;
    let differs = [
        ("transaction_id", first.transaction_id != entry.transaction_id),
        ("user_id", first.user != entry.user),
        ("type", first.event_type != entry.event_type || first.kind != entry.kind),
        ("quantity", first.quantity != entry.quantity),
        ("properties", !say_the_same(first.body.as_deref(), entry.body.as_deref())),
        ("timestamp", *timed && first.event_ms != entry.event_ms),
    ];
    let member = differs.into_iter().find(|(_, differs)| *differs);
    Ok(match member {
        Some((member, _)) => Verdict::Conflict { member },
        // One of the two came without a time, or in another notation, and everything else is the same.
        None => Verdict::Duplicate { position: known.position },
    })
}

/// The days on which a candidate may have come before: its own, and those beside it, for a sender that stamps it anew each time.
fn days(Candidate { entry, .. }: &Candidate) -> [i64; 3] {
    let day = entry.event_ms.div_euclid(log::DAY_MS);
    [day - 1, day, day + 1]
}

/// Days beside its own on which a candidate may be known: those around it and, of a commit, those around the day on which it came.
fn beside([told, came]: [i64; 2]) -> impl Iterator<Item = i64> {
    let days = [told - 1, told + 1, came - 1, came, came + 1];
    days.into_iter().take(if told == came { 2 } else { 5 })
}

/// Makes the range under a key, from the least to the most, reach over this one as well.
fn widen<K: Ord>(ranges: &mut BTreeMap<K, (EntryId, EntryId)>, key: K, (first, last): (EntryId, EntryId)) {
    let (least, most) = ranges.entry(key).or_insert((first, last));
    (*least, *most) = ((*least).min(first), (*most).max(last));
}

/// Events that came before on a day beside their own (UTC). On its own day an id is met when it is appended.
#[derive(Debug, Default)]
pub(super) struct Beside {
    known: HashMap<(i64, EntryId), Known>,
    /// Where these candidates are of several days: the first of each.
    firsts: Option<HashMap<(i64, EntryId), usize>>,
}

impl Beside {
    /// What the log knows of these candidates in that way. Ids that grow with time are told apart from those of other days by one
    /// look at each day.
    pub(super) fn of<'c>(tx: &mut Tx<'_>, candidates: impl Iterator<Item = &'c Candidate> + Clone) -> Result<Self> {
        let stamped = candidates.filter(|candidate| is_stamped(candidate));
        // Most of a group are of one day: so each is looked at once.
        let mut told: BTreeMap<[i64; 2], (EntryId, EntryId)> = BTreeMap::new();
        for Candidate { entry, .. } in stamped.clone() {
            widen(&mut told, entry.told_and_came(), (entry.id, entry.id));
        }
        let mut ranges = BTreeMap::new();
        for (days, ids) in &told {
            beside(*days).for_each(|day| widen(&mut ranges, day, *ids));
        }
        let days = told.keys().map(|[day, _]| *day);
        let shared = log::days_between(tx, &ranges)?;
        let mut known = HashMap::new();
        if !shared.is_empty() {
            let asked = stamped
                .flat_map(|candidate| beside(candidate.entry.told_and_came()).map(|day| (day, candidate.entry.id)));
            known = log::known_among(tx, &asked.filter(|(day, _)| shared.contains(day)).collect::<Vec<_>>())?;
        }
        let are_several = days.clone().min() < days.max();
        Ok(Self { known, firsts: are_several.then(HashMap::new) })
    }

    /// What the log knows of a candidate.
    pub(super) fn known(&self, candidate: &Candidate) -> Option<Known> {
        if self.known.is_empty() || !is_stamped(candidate) {
            return None;
        }
        beside(candidate.entry.told_and_came()).find_map(|day| self.known.get(&(day, candidate.entry.id)).copied())
    }

    /// The place of the same event among those before it in this call; else this is its place.
    pub(super) fn first(&mut self, candidate: &Candidate, place: usize) -> Option<usize> {
        let firsts = self.firsts.as_mut().filter(|_| is_stamped(candidate))?;
        let ([told, came], id) = (candidate.entry.told_and_came(), candidate.entry.id);
        // A commit may be that of another time whose day of coming is this one's own.
        let own = (candidate.entry.source == Source::Reservation).then_some(told);
        let found = beside(candidate.entry.told_and_came()).chain(own).find_map(|day| firsts.get(&(day, id)).copied());
        if found.is_none() {
            for day in [told, came] {
                firsts.entry((day, id)).or_insert(place);
            }
        }
        found
    }
}

/// Whether it may be sent again with another time. History has the times that it had.
fn is_stamped(Candidate { entry, .. }: &Candidate) -> bool {
    entry.kind == Kind::Usage && !entry.source.is_history()
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
            asked.extend(days(candidate).into_iter().map(|day| (day, id)));
        }
        Ok(Self(if asked.is_empty() { HashMap::new() } else { log::known_among(tx, &asked)? }))
    }

    /// What is to be said of a candidate that was recorded so; nothing where it was not.
    pub(super) fn verdict_on(&self, tx: &mut Tx<'_>, candidate: &Candidate) -> Result<Option<Verdict>> {
        if self.0.is_empty() || candidate.entry.source != Source::CloudEvents {
            return Ok(None);
        }
        let id = ids::entry_id("", &candidate.entry.transaction_id);
        for known in days(candidate).into_iter().filter_map(|day| self.0.get(&(day, id))) {
            if log::at(tx, known.position)?.is_some_and(|first| first.source == Source::CloudEvents) {
                return verdict_on(tx, candidate, *known).map(Some);
            }
        }
        Ok(None)
    }
}

/// Whether two JSON objects say the same, whatever their order, their spaces and the notation of their numbers. None is one
/// that says nothing.
fn say_the_same(left: Option<&str>, right: Option<&str>) -> bool {
    left == right || same(left.unwrap_or("{}").trim(), right.unwrap_or("{}").trim(), DEPTH_MAX + 1)
}

/// Nothing deeper is taken. What an earlier version took all the same says the same only in the same text.
fn same(left: &str, right: &str, levels: u32) -> bool {
    if left == right {
        return true;
    }
    let Some(levels) = levels.checked_sub(1) else { return false };
    match (left.as_bytes().first(), right.as_bytes().first()) {
        (Some(b'{'), Some(b'{')) => both(left, right, |left: BTreeMap<Cow<'_, str>, &RawValue>, right| {
            let mut right: BTreeMap<_, _> = right;
            left.len() == right.len()
                && left.iter().all(|(name, value)| {
                    right.remove(name).is_some_and(|other: &RawValue| same(value.get(), other.get(), levels))
                })
        }),
        (Some(b'['), Some(b'[')) => both(left, right, |left: Vec<&RawValue>, right| {
            left.len() == right.len()
                && left.iter().zip(&right).all(|(left, right)| same(left.get(), right.get(), levels))
        }),
        (Some(b'"'), Some(b'"')) => both(left, right, |left: Cow<'_, str>, right| left == right),
        _ => Number::read(left).is_some_and(|left| Number::read(right) == Some(left)),
    }
}

/// Compares two texts that are read in the same way; what cannot be read is not the same.
fn both<'t, T: serde::Deserialize<'t>>(left: &'t str, right: &'t str, alike: impl FnOnce(T, T) -> bool) -> bool {
    match (serde_json::from_str(left), serde_json::from_str(right)) {
        (Ok(left), Ok(right)) => alike(left, right),
        _ => false,
    }
}

/// The exact value of a JSON number: its digits, without zeros at either end, times a power of ten.
#[derive(Debug, PartialEq, Eq)]
struct Number {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Number {
    fn read(text: &str) -> Option<Self> {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (negative, mantissa) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let significant = digits.trim_end_matches('0');
        let zeros = i64::try_from(digits.len() - significant.len()).ok()?;
        let exponent = exponent.parse::<i64>().ok()?.checked_sub(i64::try_from(fraction.len()).ok()?)?;
        Some(match significant.trim_start_matches('0') {
            "" => Self { negative: false, digits: String::new(), exponent: 0 },
            digits => Self { negative, digits: digits.to_owned(), exponent: exponent.checked_add(zeros)? },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_the_same_in_any_notation() {
        for (left, right, expected) in [
            (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#, true),
            (r#"{"a":{"x":[1,{"y":null}]},"b":""}"#, "{ \"b\": \"\",\n\t\"a\": {\"x\": [1, {\"y\":null}]} }", true),
            (r#"{"a":"\u0061\/"}"#, r#"{"\u0061":"a/"}"#, true),
            (r#"{"a":1.50}"#, r#"{"a":15e-1}"#, true),
            (r#"{"a":0.1}"#, r#"{"a":1E-1}"#, true),
            (r#"{"a":-0.0}"#, r#"{"a":0}"#, true),
            (r#"{"a":1e400}"#, r#"{"a":10e399}"#, true),
            // A float would take these for the same.
            (r#"{"a":9007199254740993}"#, r#"{"a":9007199254740992}"#, false),
            (r#"{"a":0.1}"#, r#"{"a":0.1000000000000000055511151231257827}"#, false),
            (r#"{"a":1e999999999999999999999}"#, r#"{"a":1e999999999999999999998}"#, false),
            (r#"{"a":1}"#, r#"{"a":"1"}"#, false),
            (r#"{"a":1}"#, r#"{"a":-1}"#, false),
            (r#"{"a":1}"#, r#"{"a":1,"b":2}"#, false),
            (r#"{"a":1,"b":2}"#, r#"{"a":1,"c":2}"#, false),
            (r#"{"a":[1,2]}"#, r#"{"a":[2,1]}"#, false),
            (r#"{"a":true}"#, r#"{"a":false}"#, false),
            (r#"{"a":null}"#, "{}", false),
        ] {
            assert_eq!(say_the_same(Some(left), Some(right)), expected, "{left} {right}");
            assert_eq!(say_the_same(Some(right), Some(left)), expected, "{right} {left}");
        }
        // Of a version that took any depth: the stack has an end, and the texts differ.
        let deep = "[".repeat(20_000) + &"]".repeat(20_000);
        assert!(say_the_same(Some(&deep), Some(&deep)) && !say_the_same(Some(&deep), Some(&deep.replace("[]", "[ ]"))));
        assert!(say_the_same(None, Some("{ }")) && say_the_same(None, None) && !say_the_same(Some(r#"{"a":1}"#), None));
    }
}
