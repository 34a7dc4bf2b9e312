//! Dead letters: events that Lago did not take. They stay until somebody has put the reason right and has them sent again.

use std::collections::{BTreeMap, HashMap};

use super::draft::BATCH;
use super::ensure::Ready;
use super::event::{self, Event, Moment, is_open};
use super::names::{self, Names};
use super::reconcile::Count;
use super::ship::{self, Halt};
use super::{Lago, codes, configured};
use crate::app::App;
use crate::error::{Error, Result};
use crate::ops::usage::plans;
use crate::store::lago::{self, Dead, Item, State, Sum, Window};
use crate::store::log::Logged;
use crate::store::{Tx, log, users};

/// The reason of letters that Lago may have taken before: they go out with the bytes of the first time, or a Lago on ClickHouse
/// would count them twice.
pub(super) const AGAIN: &str = "counted differently: it is sent again";

/// The reason of letters that take back another one. That may be at Lago, billed nowhere, or may never have been there.
pub(super) const HELD: &str = "what it takes back is a dead letter: it waits for that";

/// Whether an entry takes back what lies dead. What Lago has stored in the open month it counts as soon as it can: that may be
/// taken back.
pub(super) fn is_held(tx: &mut Tx<'_>, entry: &Logged, now_ms: i64) -> Result<bool> {
    let Some(position) = codes::taken_back(entry) else { return Ok(false) };
    let Some(taken_back) = log::at(tx, position)? else { return Ok(false) };
    let letter = lago::dead_letter(tx, &event::transaction_id(&taken_back))?;
    letter.map_or(Ok(false), |letter| Ok(!letter.stored || is_billed(&letter, now_ms)?))
}

/// Letters that take this one back.
fn held_for(tx: &mut Tx<'_>, letter: &Dead) -> Result<Vec<Dead>> {
    let mut held = Vec::new();
    for other in lago::dead_of(tx, &letter.user)? {
        if log::at(tx, other.position)?.as_ref().and_then(codes::taken_back) == Some(letter.position) {
            held.push(other);
        }
    }
    Ok(held)
}

/// A page of dead letters, after this transaction id.
pub async fn list(app: &App, after: &str, most: i64) -> Result<Vec<Dead>> {
    let after = after.to_owned();
    app.db.read(move |tx| lago::dead_after(tx, &after, most)).await
}

/// What is not billed at Lago because it is dead, by user and code.
pub async fn unbilled(app: &App) -> Result<BTreeMap<(String, String), Count>> {
    let (mut unbilled, mut after) = (BTreeMap::<_, Count>::new(), String::new());
    loop {
        let page = list(app, &after, 500).await?;
        let Some(last) = page.last() else { return Ok(unbilled) };
        after.clone_from(&last.transaction_id);
        for letter in page {
            let sum = Event::read(&letter.event)?.sum()?;
            let count = unbilled.entry((letter.user, sum.code)).or_default();
            count.units += i128::from(sum.units);
            count.events += i128::from(sum.events);
        }
    }
}

/// What became of asking.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// Letters that go out with the next window.
    pub count: u64,
    /// Letters that stay: Lago has them, and has made the invoice of their month without them.
    pub billed: Vec<Dead>,
}

/// Asks that one dead letter, or all of them, be sent again with the next window.
pub async fn ask(app: &App, transaction_id: Option<&str>) -> Result<Asked> {
    configured(app)?;
    let (one, now_ms) = (transaction_id.map(str::to_owned), app.clock.now().as_millisecond());
    let ask = move |tx: &mut Tx<'_>| {
        let mut asked = Asked { count: lago::ask_replay(tx, one.as_deref())?, billed: Vec::new() };
        let letters = match &one {
            Some(id) => lago::dead_letter(tx, id)?.into_iter().collect(),
            None => lago::dead_stored(tx)?,
        };
        for letter in &letters {
            // With one that is asked for by itself go those that take it back.
            for held in if one.is_some() { held_for(tx, letter)? } else { Vec::new() } {
                asked.count += lago::ask_replay(tx, Some(&held.transaction_id))?;
            }
        }
        asked.billed = billed(letters, now_ms)?;
        for letter in &asked.billed {
            lago::leave_dead(tx, &letter.transaction_id)?;
            asked.count -= 1;
            for held in held_for(tx, letter)?.iter().filter(|held| held.reason == HELD) {
                lago::leave_dead(tx, &held.transaction_id)?;
                asked.count -= 1;
            }
        }
        Ok(asked)
    };
    let asked = app.db.write(ask).await?;
    let is_none = asked.count == 0 && asked.billed.is_empty() && transaction_id.is_some();
    if is_none { Err(Error::NotFound) } else { Ok(asked) }
}

/// Those of them that no invoice will ever have: sent again they would be what Lago has already.
pub(super) fn billed(letters: Vec<Dead>, now_ms: i64) -> Result<Vec<Dead>> {
    let mut billed = Vec::new();
    for letter in letters {
        if is_billed(&letter, now_ms)? {
            billed.push(letter);
        }
    }
    Ok(billed)
}

/// Whether Lago has a letter, and its month is over.
fn is_billed(letter: &Dead, now_ms: i64) -> Result<bool> {
    Ok(letter.stored && !is_open(Event::read(&letter.event)?.at_ms()?, now_ms))
}

/// Puts a letter away that was billed by hand; false where it can still be sent, or counted by Lago itself.
pub async fn forget(app: &App, transaction_id: &str) -> Result<bool> {
    configured(app)?;
    let (id, now_ms) = (transaction_id.to_owned(), app.clock.now().as_millisecond());
    let put_away = move |tx: &mut Tx<'_>| {
        let Some(letter) = lago::dead_letter(tx, &id)? else { return Err(Error::NotFound) };
        if !is_billed(&letter, now_ms)? {
            return Ok(false);
        }
        // What takes it back has never been sent: the two of them are nothing.
        let held = held_for(tx, &letter)?.into_iter().filter(|held| held.reason == HELD);
        for letter in held.chain([letter]) {
            let Dead { transaction_id, user, reason, event, .. } = letter;
            lago::ask_replay(tx, Some(&transaction_id))?;
            if lago::raise(tx, &transaction_id)? {
                let sum = Event::read(&event)?.sum()?;
                lago::add_sum(tx, &Sum { external_id: names::by_hand(&user), ..sum })?;
            }
            tracing::info!(lago.transaction_id = transaction_id, user.id = user, reason, "put away");
        }
        Ok(true)
    };
    app.db.write(put_away).await
}

/// What is to become of the letters that somebody wants sent again.
#[derive(Debug, Default)]
struct Raised {
    /// They go into a window.
    sent: Vec<(String, Item)>,
    /// Those of them that have never been at Lago: users, places in the log, and the ids under which they go out now.
    names: Vec<(String, i64, String)>,
    /// Those of them that are counted from another moment than before.
    moved: Vec<(i64, i64)>,
    /// Lago has stored them: it counts them as soon as it can, and sending could only count them twice.
    stored: Vec<Event>,
    /// Their users still have no subscription, their month was billed meanwhile, or what they take back stays dead.
    refused: Vec<Dead>,
}

/// Opens a window of dead letters that somebody wants to be sent again; false when there are none.
pub(super) async fn open(app: &App, ours: &Lago) -> Result<bool, Halt> {
    let most = i64::try_from(BATCH).unwrap_or(i64::MAX);
    let now_ms = app.clock.now().as_millisecond();
    let letters = app.db.read(move |tx| letters(tx, most, now_ms)).await?;
    if letters.is_empty() {
        return Ok(false);
    }
    let mut raised = Raised::default();
    let mut standing = HashMap::new();
    for Asking { letter, name, takes_back, is_held } in letters {
        let event = Event::read(&letter.event)?;
        if is_held {
            let reason = HELD.to_owned();
            raised.refused.push(Dead { reason, dead_ms: now_ms, replay: false, ..letter });
            continue;
        }
        // Its month may have ended since somebody asked.
        if is_billed(&letter, now_ms)? {
            raised.refused.push(Dead { replay: false, ..letter });
            continue;
        }
        if letter.stored {
            raised.stored.push(event);
            continue;
        }
        if !standing.contains_key(&letter.user) {
            let first_ms = Moment { began_ms: None, now_ms }.count(event.at_ms()?);
            let fresh = subscription(app, ours, &letter, first_ms).await?;
            standing.insert(letter.user.clone(), fresh);
        }
        match standing.get(&letter.user) {
            Some(Ok(ready)) => {
                // What takes back another one goes where that goes.
                let beside = raised.names.iter().find(|(_, position, _)| Some(*position) == takes_back);
                let name = beside.map(|(_, _, name)| name.clone()).or(name);
                // It may have died before its subscription was there, and then it never was on the wire.
                let name = name.unwrap_or_else(|| {
                    raised.names.push((letter.user.clone(), letter.position, ready.external_id.clone()));
                    ready.external_id.clone()
                });
                let event = Event { external_subscription_id: name, ..event };
                let before_ms = event.at_ms()?;
                let moment = Moment { began_ms: Some(ready.began_ms), now_ms };
                let event = if is_again(&letter) { event } else { event.counted_from(moment)? };
                let at_ms = event.at_ms()?;
                if at_ms != before_ms {
                    raised.moved.push((letter.position, at_ms));
                }
                let event = event.line()?;
                raised
                    .sent
                    .push((letter.transaction_id, Item { position: letter.position, event, state: State::Waiting }));
            }
            Some(Err(reason)) => {
                let reason = if is_again(&letter) { format!("{AGAIN}; {reason}") } else { reason.clone() };
                raised.refused.push(Dead { reason, dead_ms: now_ms, replay: false, ..letter });
            }
            None => {}
        }
    }
    app.db.write(move |tx| fix(tx, &raised, now_ms)).await?;
    Ok(true)
}

fn is_again(letter: &Dead) -> bool {
    letter.reason.starts_with(AGAIN)
}

/// A letter that somebody wants sent again.
struct Asking {
    letter: Dead,
    /// The id of Lago's under which it may be there, or that is there which it takes back; nothing where it has never been at
    /// Lago, and goes out under the id that its user has now.
    name: Option<String>,
    /// The place of the entry that it takes back.
    takes_back: Option<i64>,
    /// That lies dead, and nobody wants it sent again.
    is_held: bool,
}

fn letters(tx: &mut Tx<'_>, most: i64, now_ms: i64) -> Result<Vec<Asking>> {
    let asked = lago::replays(tx, most)?;
    let mut letters: Vec<Asking> = Vec::new();
    for letter in asked {
        let names = Names::read(tx, &letter.user)?;
        let entry = log::at(tx, letter.position)?;
        let takes_back = entry.as_ref().and_then(codes::taken_back);
        let is_beside = letters.iter().any(|one| !one.is_held && Some(one.letter.position) == takes_back);
        let is_held = match &entry {
            Some(entry) => !is_again(&letter) && !is_beside && is_held(tx, entry, now_ms)?,
            None => false,
        };
        let entry = entry.filter(|_| is_again(&letter) || takes_back.is_some());
        let name = entry.and_then(|entry| names.of(&entry).map(str::to_owned));
        letters.push(Asking { letter, name, takes_back, is_held });
    }
    Ok(letters)
}

async fn subscription(app: &App, ours: &Lago, letter: &Dead, first_ms: i64) -> Result<Result<Ready, String>, Halt> {
    let (user, catalogue, now) = (letter.user.clone(), app.catalogue.clone(), app.clock.now());
    let tier = app
        .db
        .read(move |tx| match lago::tier(tx, &user)? {
            Some(tier) => Ok(Some(tier)),
            None => users::get(tx, &user)?.map(|known| Ok(plans::terms(tx, &catalogue, &known, now)?.tier)).transpose(),
        })
        .await?;
    match tier {
        Some(tier) => ship::of_user(app, ours, &letter.user, &tier, first_ms).await,
        None => Ok(Err("subscription: nothing is known of this user".to_owned())),
    }
}

fn fix(tx: &mut Tx<'_>, raised: &Raised, now_ms: i64) -> Result<()> {
    if lago::window(tx)?.is_some() {
        return Ok(());
    }
    raised.refused.iter().try_for_each(|dead| lago::bury(tx, dead))?;
    raised.moved.iter().try_for_each(|(position, at_ms)| lago::save_moved(tx, *position, *at_ms))?;
    for event in &raised.stored {
        if lago::raise(tx, &event.transaction_id)? {
            lago::add_sum(tx, &event.sum()?)?;
        }
    }
    raised.names.iter().try_for_each(|(user, position, name)| names::set(tx, user, *position, name))?;
    let mut window = Window { first_position: 0, last_position: 0, opened_ms: now_ms, items: Vec::new() };
    for (transaction_id, item) in &raised.sent {
        if lago::raise(tx, transaction_id)? {
            window.items.push(item.clone());
        }
    }
    if window.items.is_empty() { Ok(()) } else { lago::open_window(tx, &window) }
}
