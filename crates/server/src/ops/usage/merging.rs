//! Two users who are one person: what one of them has counted goes to the other, by corrections of both, so that no sum over the two
//! changes, whatever the type or the day.

use std::collections::{BTreeMap, BTreeSet};

use billing::account::{Account, PackLeft};
use billing::entry::Pack;
use billing::usage::{Credits, Quantity};
use jiff::Timestamp;

use super::corrections::Adjustment;
use super::{Candidate, Verdict, following, judging, may_name, packs};
use crate::app::App;
use crate::counters::reading::{self, Said};
use crate::error::{Error, Result};
use crate::store::log::{self, Entry, Kind, Logged};
use crate::store::users::User;

/// How often it begins anew because something was recorded meanwhile.
const TRIES: usize = 50;

/// What goes from one user to the other, or would.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Moved {
    /// What was used in the running credit period, by event type.
    pub used: BTreeMap<String, Quantity>,
    /// What is left of packs.
    pub packs: Vec<PackLeft>,
}

/// Usage that one correction can stand for: of one type and one day, at one weight.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Part {
    event_type: String,
    /// The first millisecond of the day.
    day: i64,
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
struct History {
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

/// Moves what `from` has used in the running credit period, and what is left of their packs. Closed periods stay where they were
/// billed. All of it is written, or nothing; said again it moves what has come since.
pub(in crate::ops) async fn move_usage(app: &App, from: &User, into: &User, preview: bool) -> Result<Moved> {
    let mut history = History::default();
    for _ in 0..TRIES {
        let now = app.clock.now();
        let account = super::account(app, from).await?.lock().account.clone();
        if account.position() == 0 {
            return Ok(Moved::default());
        }
        // The second time only what has come since, so that less comes meanwhile.
        let (user, after, position) = (from.id.clone(), history.position(), account.position());
        let entries = app.db.read(move |tx| log::of_user_between(tx, &user, after, position)).await?;
        entries.iter().try_for_each(|entry| history.count(entry))?;
        if history.account.as_ref() != Some(&account) {
            let what = format!("the account of {} is not what the log says (billhook doctor)", from.id);
            return Err(Error::internal(what));
        }
        let (moved, entries) = history.entries(app, account, from, into, now)?;
        if preview || entries.is_empty() {
            return Ok(moved);
        }
        let candidates = entries.into_iter().map(|entry| Candidate { entry, timed: true }).collect();
        let verdicts = app.usage.append_all_behind(app, candidates, (from.id.clone(), position)).await?;
        match verdicts.into_iter().find(|verdict| !matches!(verdict, Verdict::Recorded { .. })) {
            None => return Ok(moved),
            Some(judging::MOVED_ON) => {}
            Some(Verdict::Refused { pointer, detail, .. }) => return Err(Error::invalid(pointer, detail)),
            Some(other) => return Err(Error::internal(format!("a correction has the id of another: {other:?}"))),
        }
    }
    let detail = "something is recorded for this user all the time".to_owned();
    Err(Error::Conflict { code: "usage.moved_on", detail })
}

impl History {
    fn position(&self) -> i64 {
        self.account.as_ref().map_or(0, Account::position)
    }

    /// Counts the next entry of the user.
    fn count(&mut self, entry: &Logged) -> Result<()> {
        let account = match &mut self.account {
            Some(account) => account,
            None => self.account.insert(following::opened_by(entry)?.lock().account.clone()),
        };
        let said = Said::from(entry);
        if said.is_only_shown(account) {
            account.fold(&said.passing()).map_err(Error::internal)?;
            return Ok(());
        }
        let folded = said.read(|entry| account.fold(entry))?.map_err(Error::internal)?;
        if entry.kind == Kind::Plan {
            let (_, _, moved) = reading::plan(entry.body.as_deref().unwrap_or_default())?;
            let running_ms = running_ms(account, entry.received_ms);
            self.went_over.extend(moved.into_iter().map(|moved| (running_ms, moved.kind)));
        }
        if matches!(entry.kind, Kind::Usage | Kind::Adjust | Kind::Void) {
            let part = Part { event_type: entry.event_type.clone(), day: folded.day, weight: entry.weight };
            let (quantity, at_ms) = (said.signed(), entry.event_ms);
            self.counted.push(Counted { part, quantity, at_ms, period: folded.period });
        }
        Ok(())
    }

    /// What was counted in the period that begins there, or went over into it.
    fn running(&self, running_ms: i64) -> BTreeMap<Part, Sum> {
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
        running
    }

    /// What moves, and the entries that say so: what is given back first, then what it leaves of packs, as used credits go back into
    /// them.
    fn entries(
        &self,
        app: &App,
        mut account: Account,
        from: &User,
        into: &User,
        now: Timestamp,
    ) -> Result<(Moved, Vec<Entry>)> {
        let (position, now_ms) = (account.position(), now.as_millisecond());
        let mut parts: Vec<(Part, Sum)> = self.running(running_ms(&account, now_ms)).into_iter().collect();
        let mut moved = Moved::default();
        let [mut given_back, mut taken_over] = [Vec::new(), Vec::new()];
        // Nothing is taken before it is there.
        parts.sort_by_key(|(_, sum)| sum.quantity);
        for (number, (part, sum)) in parts.iter().enumerate() {
            let quantity = i64::try_from(sum.quantity).map_err(Error::internal)?;
            let adjustment = |user: &User, quantity, end, other: &User| Adjustment {
                user: user.id.clone(),
                event_type: part.event_type.clone(),
                quantity,
                weight: part.weight,
                at_ms: sum.last_ms.min(now_ms),
                is_timed: true,
                id: format!("merged-{position}-{number}-{end}"),
                note: format!("merged {end} {}", other.id),
            };
            given_back.push(adjustment(from, -quantity, "into", into).entry(now_ms)?);
            taken_over.push(adjustment(into, quantity, "from", from).entry(now_ms)?);
            let used = moved.used.entry(part.event_type.clone()).or_default();
            *used = used.plus(Quantity::from_micro(quantity)).map_err(Error::internal)?;
        }
        taken_over.reverse();
        for entry in &given_back {
            let said = Said::at(account.position() + 1, entry);
            said.read(|entry| account.fold(entry))?.map_err(Error::internal)?;
        }
        let view = account.at(now_ms);
        if !view.in_period.is_empty() {
            let detail = "a credit period has just ended: try again in an hour".to_owned();
            return Err(Error::Conflict { code: "usage.moved_on", detail });
        }
        moved.packs = view.packs.into_iter().filter(|kept| kept.left > Credits::ZERO).collect();
        let mut entries = given_back;
        for PackLeft { pack, left } in &moved.packs {
            entries.push(packs::revocation(app, &from.id, &pack.id));
            let own = Pack { id: id_of_pack(pack, from, position), amount: *left, ..pack.clone() };
            entries.push(packs::grant_of(app, &into.id, &own));
        }
        entries.append(&mut taken_over);
        Ok((moved, entries))
    }
}

/// The first millisecond of the period that runs then.
fn running_ms(account: &Account, now_ms: i64) -> i64 {
    account.at(now_ms).period.start.as_millisecond()
}

/// Both may have been given a pack of one name.
fn id_of_pack(pack: &Pack, from: &User, position: i64) -> String {
    let id = format!("{} of {}", pack.id, from.id);
    if may_name(&id) { id } else { format!("merged-{position}-{:016x}", pack.granted_ms) }
}
