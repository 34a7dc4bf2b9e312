//! The next window as it will be: which entries of the log are for Lago, and under whose subscription.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use billing::catalogue::Catalogue;
use jiff::Timestamp;

use super::codes::{self, Codes};
use super::event::is_open;
use super::names::Names;
use super::{replay, start};
use crate::counters::reading;
use crate::error::{Error, Result};
use crate::ops::usage::plans;
use crate::store::log::{self, Kind, Logged, Source};
use crate::store::{Tx, lago, users};

/// Lago's own limit for a batch.
pub const BATCH: usize = 100;
/// Entries that are looked at in one read of the log.
const READ: i64 = 1_000;

/// What the next window is made of.
#[derive(Debug, Default)]
pub struct Draft {
    /// Where the cursor stood.
    pub from: i64,
    /// Where it will stand.
    pub to: i64,
    pub items: Vec<Drafted>,
    /// Entries that are not for Lago, by reason.
    pub skipped: BTreeMap<&'static str, i64>,
    /// Tiers that the log gives to users.
    pub tiers: HashMap<String, String>,
    /// Of those, the ones to which a subscription at Lago is to follow, used or not: its plan has a price of its own.
    pub follow: BTreeMap<String, String>,
}

/// An entry that is for Lago.
#[derive(Debug, Clone)]
pub struct Drafted {
    pub entry: Logged,
    pub code: String,
    /// The tier that its user had when it was recorded.
    pub tier: String,
    /// The id of Lago's under which that is there which it takes back.
    pub name: Option<String>,
    /// What it takes back is a dead letter: taken off alone, it would be missing from what Lago did get.
    pub is_held: bool,
}

/// Why an entry is not for Lago, or what is left to be known.
pub(super) enum Fit {
    Skip(&'static str),
    For { code: String, tier: String },
}

/// By what it is decided what an entry is to Lago: read once for many of them.
pub(super) struct Rules {
    catalogue: Arc<Catalogue>,
    codes: Codes,
    /// When usage began to go to Lago.
    from_ms: i64,
    now: Timestamp,
}

/// Reads on from the cursor until a window is full, the log ends, or a user's tier changes: what was used in the old tier is
/// sent before the subscription is changed.
pub fn next(tx: &mut Tx<'_>, catalogue: &Arc<Catalogue>, now: Timestamp) -> Result<Draft> {
    let from = lago::cursor(tx)?.position;
    let rules = Rules::read(tx, catalogue, now)?;
    let mut draft = Draft { from, to: from, ..Draft::default() };
    let mut drafted: HashMap<String, String> = HashMap::new();
    for entry in log::read(tx, from, READ)? {
        let position = entry.position;
        if entry.kind == Kind::Plan {
            let tier = tier_in(&entry)?;
            if draft.follow.len() == BATCH || drafted.get(&entry.user).is_some_and(|before| *before != tier) {
                break;
            }
            if is_to_follow(tx, catalogue, &entry.user, &tier)? {
                drafted.insert(entry.user.clone(), tier.clone());
                draft.follow.insert(entry.user.clone(), tier);
            }
        }
        match rules.fit(tx, &mut draft.tiers, &entry)? {
            None => {}
            Some(Fit::Skip(reason)) => *draft.skipped.entry(reason).or_insert(0) += 1,
            Some(Fit::For { code, tier }) => {
                if draft.items.len() == BATCH || drafted.get(&entry.user).is_some_and(|before| *before != tier) {
                    break;
                }
                drafted.insert(entry.user.clone(), tier.clone());
                let name = name_there(tx, &entry, from)?;
                let is_held = replay::is_held(tx, &entry, now.as_millisecond())?;
                draft.items.push(Drafted { entry, code, tier, name, is_held });
            }
        }
        draft.to = position;
    }
    Ok(draft)
}

impl Rules {
    pub(super) fn read(tx: &mut Tx<'_>, catalogue: &Arc<Catalogue>, now: Timestamp) -> Result<Self> {
        Ok(Self { catalogue: Arc::clone(catalogue), codes: Codes::read(tx)?, from_ms: start::from_ms(tx)?, now })
    }

    /// Whether an entry is for Lago; nothing for entries that use nothing.
    pub(super) fn fit(
        &self,
        tx: &mut Tx<'_>,
        tiers: &mut HashMap<String, String>,
        entry: &Logged,
    ) -> Result<Option<Fit>> {
        match entry.kind {
            Kind::Usage | Kind::Adjust | Kind::Void => {}
            Kind::Plan => {
                tiers.insert(entry.user.clone(), tier_in(entry)?);
                return Ok(None);
            }
            Kind::Grant | Kind::Revoke | Kind::Expire => return Ok(None),
        }
        let Some(code) = self.codes.of(entry).map(str::to_owned) else {
            return Ok(Some(Fit::Skip("type_without_code")));
        };
        if is_over(tx, entry)? {
            return Ok(Some(Fit::Skip("history")));
        }
        // What takes something back has its moment.
        if entry.event_ms < self.from_ms {
            return Ok(Some(Fit::Skip("before_start")));
        }
        let Some(tier) = tier_of(tx, &self.catalogue, tiers, &entry.user, self.now)? else {
            return Ok(Some(Fit::Skip("user_unknown")));
        };
        if self.catalogue.tier(&tier).is_none() && !has_plan(tx, &entry.user, &tier)? {
            return Ok(Some(Fit::Skip("tier_not_sold")));
        }
        Ok(Some(Fit::For { code, tier }))
    }
}

/// The id of Lago's of what an entry takes back, where that has gone out before.
fn name_there(tx: &mut Tx<'_>, entry: &Logged, passed: i64) -> Result<Option<String>> {
    if codes::taken_back(entry).is_none_or(|position| position > passed) {
        return Ok(None);
    }
    Ok(Names::read(tx, &entry.user)?.of(entry).map(str::to_owned))
}

/// Whether this is history of a month that Lago had billed when it came in, or takes such back: Lago would count it in the open
/// month, and it is to be shown on its day and billed nowhere. So is what went from one user to another: there it was billed. (What was in the log of the first version came in its own time, and
/// before there was a Lago.)
fn is_over(tx: &mut Tx<'_>, entry: &Logged) -> Result<bool> {
    let is_late = |entry: &Logged| entry.source.is_history() || entry.source == Source::Merge;
    let is_over = |entry: &Logged| is_late(entry) && !is_open(entry.event_ms, entry.received_ms);
    let taken_back = codes::taken_back(entry).map(|position| log::at(tx, position)).transpose()?.flatten();
    Ok(is_over(taken_back.as_ref().unwrap_or(entry)))
}

/// Whether a user has a subscription of this tier at Lago: there it goes on when the catalogue has the tier no more.
fn has_plan(tx: &mut Tx<'_>, user: &str, tier: &str) -> Result<bool> {
    Ok(lago::subscription(tx, user)?.is_some_and(|known| known.tier == tier))
}

/// Whether there is a subscription at Lago that is still of another tier. One that several users have is none's to change who
/// uses nothing.
fn is_to_follow(tx: &mut Tx<'_>, catalogue: &Catalogue, user: &str, tier: &str) -> Result<bool> {
    let other = lago::subscription(tx, user)?.filter(|known| known.tier != tier && catalogue.tier(tier).is_some());
    other.map_or(Ok(false), |known| Ok(!lago::is_shared(tx, &known.external_id)?))
}

fn tier_in(entry: &Logged) -> Result<String> {
    let body = entry.body.as_deref().ok_or_else(|| Error::internal("impossible row: a plan has terms"))?;
    reading::plan(body).map(|(_, terms, _)| terms.tier)
}

/// The tier by the log; for entries that are older than its first word about their user, by what holds now.
fn tier_of(
    tx: &mut Tx<'_>,
    catalogue: &Arc<Catalogue>,
    tiers: &mut HashMap<String, String>,
    user: &str,
    now: Timestamp,
) -> Result<Option<String>> {
    if let Some(tier) = tiers.get(user) {
        return Ok(Some(tier.clone()));
    }
    let tier = match lago::tier(tx, user)? {
        Some(tier) => tier,
        None => match users::get(tx, user)? {
            Some(known) => plans::terms(tx, catalogue, &known, now)?.tier,
            None => return Ok(None),
        },
    };
    tiers.insert(user.to_owned(), tier.clone());
    Ok(Some(tier))
}
