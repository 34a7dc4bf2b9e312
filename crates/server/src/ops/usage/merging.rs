//! What goes over when two users are found to be one person: usage of the running credit period and packs, by corrections of both, so
//! that no sum over the two changes, whatever the type or the day, and nothing is to be paid that was not before.

use std::collections::{BTreeMap, BTreeSet};

use billing::account::{Account, PackLeft};
use billing::entry::Pack;
use billing::usage::{Credits, Quantity};
use jiff::Timestamp;

use super::batch::With;
use super::corrections::Adjustment;
use super::{Candidate, Verdict, following, judging, may_name, packs};
use crate::app::App;
use crate::counters::reading::{self, Said};
use crate::error::{Error, Result};
use crate::store::log::{self, DAY_MS, Entry, Kind, Logged, Source};

/// What goes from one user to the other, or would.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Moved {
    /// What was used in the running credit period, by event type.
    pub used: BTreeMap<String, Quantity>,
    /// What is left of packs.
    pub packs: Vec<PackLeft>,
    /// Credits that make up for what paid for it where it was: of a tier's included ones there are those of one user from now on.
    pub made_up: Credits,
}

/// Usage that one correction can stand for: of one type and one day, in the zone of the account and in that of Lago's months, at one
/// weight.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Part {
    event_type: String,
    /// The first millisecond of the day.
    day: i64,
    utc_day: i64,
    weight: i64,
}

#[derive(Debug, Clone, Copy)]
struct Sum {
    quantity: i128,
    /// When the last of it happened.
    last_ms: i64,
}

/// What an account has counted.
#[derive(Debug, Default)]
pub struct History {
    /// Nothing before its first entry.
    account: Option<Account>,
    counted: Vec<Counted>,
    /// Types of which something went over into a period that had begun before anybody heard of it, by that period.
    went_over: BTreeSet<(i64, String)>,
}

/// One entry that counted.
#[derive(Debug)]
struct Counted {
    part: Part,
    quantity: i64,
    /// When it happened.
    at_ms: i64,
    /// The first millisecond of the period in which it counted.
    period: i64,
}

impl History {
    pub fn position(&self) -> i64 {
        self.account.as_ref().map_or(0, Account::position)
    }

    /// Counts what a user's log has since it was counted last, up to where this account stands.
    ///
    /// # Errors
    /// Where the account is another one than the log says.
    pub async fn follow(&mut self, app: &App, user: &str, account: &Account) -> Result<()> {
        if account.position() == 0 {
            return Ok(());
        }
        let (id, after, to) = (user.to_owned(), self.position(), account.position());
        let entries = app.db.read(move |tx| log::of_user_between(tx, &id, after, to)).await?;
        entries.iter().try_for_each(|entry| self.count(entry))?;
        if self.account.as_ref() == Some(account) {
            return Ok(());
        }
        Err(Error::internal(format!("the account of {user} is not what the log says (billhook doctor)")))
    }

    fn count(&mut self, entry: &Logged) -> Result<()> {
        let account = match &mut self.account {
            Some(account) => account,
            None => self.account.insert(following::opened_by(entry)?.lock().account.clone()),
        };
        let said = Said::from(entry);
        let folded = if said.is_only_shown(account) { None } else { said.read(|entry| account.fold(entry))?.ok() };
        // What is only shown, and what could not be counted, has nothing that could go over.
        let Some(folded) = folded else {
            return account.fold(&said.passing()).map(drop).map_err(Error::internal);
        };
        if entry.kind == Kind::Plan {
            let (_, _, moved) = reading::plan(entry.body.as_deref().unwrap_or_default())?;
            let running_ms = running_ms(account, entry.received_ms);
            self.went_over.extend(moved.into_iter().map(|moved| (running_ms, moved.kind)));
        }
        if matches!(entry.kind, Kind::Usage | Kind::Adjust | Kind::Void) {
            let part = Part {
                event_type: entry.event_type.clone(),
                day: folded.day,
                utc_day: entry.event_ms.div_euclid(DAY_MS),
                weight: entry.weight,
            };
            let (quantity, at_ms) = (said.signed(), entry.event_ms);
            self.counted.push(Counted { part, quantity, at_ms, period: folded.period });
        }
        Ok(())
    }

    /// What was counted in the period that begins there, or went over into it. What is given back stands first: nothing is taken before
    /// it is there.
    fn running(&self, running_ms: i64) -> Vec<(Part, Sum)> {
        let is_here = |one: &&Counted| {
            let went_over = || self.went_over.contains(&(running_ms, one.part.event_type.clone()));
            one.period == running_ms || (one.at_ms >= running_ms && went_over())
        };
        let mut running: BTreeMap<Part, Sum> = BTreeMap::new();
        for one in self.counted.iter().filter(is_here) {
            let sum = running.entry(one.part.clone()).or_insert(Sum { quantity: 0, last_ms: one.at_ms });
            sum.quantity = sum.quantity.saturating_add(i128::from(one.quantity));
            sum.last_ms = sum.last_ms.max(one.at_ms);
        }
        running.retain(|_, sum| sum.quantity != 0);
        let mut parts: Vec<_> = running.into_iter().collect();
        parts.sort_by_key(|(_, sum)| sum.quantity);
        parts
    }
}

/// One of the two, as the account stands and as it would stand.
#[derive(Debug, Clone)]
pub struct Side {
    pub user: String,
    pub account: Account,
}

impl Side {
    /// What the account does with an entry that is not in the log yet; refused where the writer would refuse it.
    fn take(&mut self, entry: &Entry, now: Timestamp) -> Result<i64> {
        if let Some(Verdict::Refused { pointer, detail, .. }) = judging::refusal(&self.account, entry, now)? {
            return Err(Error::invalid(pointer, detail));
        }
        let said = Said::at(self.account.position() + 1, entry);
        let folded = said.read(|entry| self.account.fold(entry))?.map_err(Error::internal)?;
        Ok(folded.period)
    }
}

/// What moves from an account to another, and the entries that say so.
#[derive(Debug)]
pub struct Move {
    pub moved: Moved,
    pub entries: Vec<Entry>,
}

impl Move {
    /// `into` stands by the terms that it will have.
    ///
    /// # Errors
    /// `usage.moved_on` where a period of one of them has just begun, so that not everything would count in the running one.
    /// `user.owes` where it would change what is to be paid.
    pub fn of(app: &App, history: &History, from: &Side, into: &Side, now: Timestamp) -> Result<Self> {
        let mut made = Self { moved: Moved::default(), entries: Vec::new() };
        if history.account.is_none() {
            return Ok(made);
        }
        let (position, now_ms) = (history.position(), now.as_millisecond());
        let (mut left, mut taken_over) = (from.clone(), Vec::new());
        for (number, (part, sum)) in history.running(running_ms(&from.account, now_ms)).iter().enumerate() {
            let quantity = i64::try_from(sum.quantity).map_err(Error::internal)?;
            let adjustment = |user: &str, quantity, end, other: &str| Adjustment {
                user: user.to_owned(),
                event_type: part.event_type.clone(),
                quantity,
                weight: part.weight,
                at_ms: sum.last_ms.min(now_ms),
                is_timed: true,
                id: format!("merged-{position}-{number}-{end}"),
                source: Source::Merge,
                note: format!("merged {end} {other}"),
            };
            let entry = adjustment(&from.user, -quantity, "into", &into.user).entry(now_ms)?;
            left.take(&entry, now)?;
            made.entries.push(entry);
            taken_over.push(adjustment(&into.user, quantity, "from", &from.user).entry(now_ms)?);
            let used = made.moved.used.entry(part.event_type.clone()).or_default();
            *used = used.plus(Quantity::from_micro(quantity)).map_err(Error::internal)?;
        }
        // What was taken last is given first: what takes something back stands behind what it takes it from.
        taken_over.reverse();
        let after = left.account.at(now_ms);
        if !after.in_period.is_empty() {
            return Err(too_early(&from.user));
        }
        made.moved.packs = after.packs.into_iter().filter(|kept| kept.left > Credits::ZERO).collect();
        let mut granted = Vec::new();
        for (number, PackLeft { pack, left }) in made.moved.packs.iter().enumerate() {
            made.entries.push(packs::revocation(app, &from.user, &pack.id));
            let id = format!("{} of {}", pack.id, from.user);
            let id = if may_name(&id) { id } else { format!("merged-{position}-{number}") };
            granted.push(packs::grant_of(app, &into.user, &Pack { id, amount: *left, ..pack.clone() }));
        }
        // A tier's credits are there once for one person. What they have paid for is not to be paid now.
        let [owed, owes] = [from, into].map(|side| side.account.at(now_ms));
        let without = counted(into, granted.iter().chain(&taken_over), now)?;
        let owed_before = owed.overage.plus(owes.overage).map_err(Error::internal)?;
        let more = without.at(now_ms).overage.minus(owed_before).map_err(Error::internal)?;
        if more > Credits::ZERO {
            let pack = Pack {
                id: format!("merged-{position}"),
                amount: more,
                priority: i64::MIN,
                // For what has happened only.
                expires_ms: Some(now_ms.saturating_add(1)),
                granted_ms: now_ms,
            };
            granted.push(packs::grant_of(app, &into.user, &pack));
            made.moved.made_up = more;
        }
        let cost_before = owed.overage_cost.plus(owes.overage_cost).map_err(Error::internal)?;
        let cost = counted(into, granted.iter().chain(&taken_over), now)?.at(now_ms).overage_cost;
        // Each was rounded by itself.
        if cost.minus(cost_before).map_err(Error::internal)?.minor().abs() > cost.currency().step().max(1) {
            let detail = format!(
                "for usage beyond their credits {} owes {} and {} owes {}, and together that would be {}",
                from.user,
                owed.overage_cost.wire(),
                into.user,
                owes.overage_cost.wire(),
                cost.wire()
            );
            return Err(Error::Conflict { code: "user.owes", detail });
        }
        made.entries.append(&mut granted);
        made.entries.append(&mut taken_over);
        Ok(made)
    }

    /// Writes it, with a change of the database's own: all of it, or nothing.
    ///
    /// # Errors
    /// `usage.moved_on` where something else was recorded for one of the two since then.
    pub async fn write(self, app: &App, into: &str, with: With) -> Result<Moved> {
        let candidates = self.entries.into_iter().map(|entry| Candidate { entry, timed: true }).collect();
        let verdicts = app.usage.append_with(app, vec![into.to_owned()], candidates, with).await?;
        match verdicts.into_iter().find(|verdict| !matches!(verdict, Verdict::Recorded { .. })) {
            None => Ok(self.moved),
            Some(Verdict::Refused { pointer, detail, .. }) => Err(Error::invalid(pointer, detail)),
            Some(other) => Err(Error::internal(format!("a correction has the id of another: {other:?}"))),
        }
    }
}

/// An account with these entries, all of which have to count in the running period.
fn counted<'e>(side: &Side, entries: impl Iterator<Item = &'e Entry>, now: Timestamp) -> Result<Account> {
    let mut side = side.clone();
    for entry in entries {
        let period = side.take(entry, now)?;
        if entry.kind == Kind::Adjust && period != running_ms(&side.account, now.as_millisecond()) {
            return Err(too_early(&side.user));
        }
    }
    Ok(side.account)
}

fn too_early(user: &str) -> Error {
    let detail = format!("a credit period of {user} has just begun: try again in an hour");
    Error::Conflict { code: "usage.moved_on", detail }
}

/// The first millisecond of the period that runs then.
fn running_ms(account: &Account, now_ms: i64) -> i64 {
    account.at(now_ms).period.start.as_millisecond()
}
