//! Sends the windows, one after the other, until the log is at its end or Lago is in the way.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;

use super::draft::{self, Draft};
use super::ensure::{self, Ready, Unready};
use super::event::{self, Moment};
use super::overdue::{self, Look};
use super::settling::{self, Became, Outcome};
use super::{Lago, again, configured, names, replay, start};
use crate::app::App;
use crate::error::{Error, Result};
use crate::gateways::backoff;
use crate::gateways::lago::{LagoError, Refusal, Remedy};
use crate::store::Tx;
use crate::store::lago::{self, Dead, Fault, Item, State, Window};

/// What Lago says of an event that it has already.
const SEEN: &str = "transaction_id: value_already_exist";

/// What one run has done, and what ended it.
#[derive(Debug, Default)]
pub struct Shipped {
    pub delivered: u64,
    pub dead: u64,
    /// Nothing when the end of the log was reached.
    pub trouble: Option<Trouble>,
}

/// Why it does not go on now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub code: &'static str,
    pub text: String,
    /// Until the next try.
    pub wait: Duration,
}

/// Sends everything that is waiting. In trouble the window stays as it is, and the next run sends the same bytes.
pub async fn run(app: &App) -> Result<Shipped> {
    let ours = configured(app)?;
    let _turn = ours.turn.lock().await;
    start::begin(app).await?;
    let mut shipped = Shipped::default();
    loop {
        match step(app, ours, &mut shipped).await {
            Ok(true) => {}
            Ok(false) => return Ok(shipped),
            Err(Halt::Lago(stop)) => {
                shipped.trouble = Some(note(app, &stop).await?);
                return Ok(shipped);
            }
            Err(Halt::Ours(error)) => return Err(error),
        }
    }
}

/// What ends a run early.
pub(super) enum Halt {
    Lago(Stop),
    Ours(Error),
}

/// What Lago's answer means for the run.
pub(super) struct Stop {
    remedy: Remedy,
    code: &'static str,
    text: String,
    asked: Option<Duration>,
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

impl From<LagoError> for Halt {
    fn from(error: LagoError) -> Self {
        let stop =
            Stop { remedy: error.remedy(), code: error.code(), text: error.to_string(), asked: error.asked_wait() };
        Self::Lago(stop)
    }
}

/// One window a little further: sends the one that is open, or opens the next. False when there is nothing to do.
async fn step(app: &App, ours: &Lago, shipped: &mut Shipped) -> Result<bool, Halt> {
    if let Some(window) = app.db.read(lago::window).await? {
        match overdue::look(app, ours, &window).await? {
            Look::InTime => send(app, ours, &window, shipped).await?,
            Look::NotYet => return Ok(false),
            Look::Settled(outcomes) => tell(ours, &outcomes, shipped),
        }
        return Ok(true);
    }
    if replay::open(app, ours).await? {
        return Ok(true);
    }
    let (catalogue, now) = (Arc::clone(&app.catalogue), app.clock.now());
    let draft = app.db.read(move |tx| draft::next(tx, &catalogue, now)).await?;
    if draft.to == draft.from {
        return Ok(again::follow(app).await?);
    }
    let standing = standing(app, ours, &draft).await?;
    open(app, draft, standing, shipped).await?;
    Ok(true)
}

/// The subscription of each user of a draft, or why there is none.
type Standing = HashMap<String, Result<Ready, String>>;

async fn standing(app: &App, ours: &Lago, draft: &Draft) -> Result<Standing, Halt> {
    let mut wanted: BTreeMap<&str, (&str, i64)> = BTreeMap::new();
    // No subscription is to begin in a month that is billed: the plan has a price of its own.
    let moment = Moment { began_ms: None, now_ms: app.clock.now().as_millisecond() };
    for item in &draft.items {
        let first = wanted.entry(&item.entry.user).or_insert((&item.tier, i64::MAX));
        first.1 = first.1.min(moment.count(item.entry.event_ms));
    }
    for (user, tier) in &draft.follow {
        wanted.entry(user).or_insert((tier, i64::MAX));
    }
    let mut standing = Standing::new();
    for (user, (tier, first_ms)) in wanted {
        standing.insert(user.to_owned(), of_user(app, ours, user, tier, first_ms).await?);
    }
    Ok(standing)
}

/// A refusal concerns one user and is kept as the reason of a dead letter; everything else ends the run.
pub(super) async fn of_user(
    app: &App,
    ours: &Lago,
    user: &str,
    tier: &str,
    first_ms: i64,
) -> Result<Result<Ready, String>, Halt> {
    match ensure::subscription(app, ours, user, tier, first_ms).await {
        Ok(ready) => Ok(Ok(ready)),
        Err(Unready::Refused(reason)) => Ok(Err(format!("subscription: {reason}"))),
        Err(Unready::Lago(error)) => Err(Halt::from(error)),
        Err(Unready::Ours(error)) => Err(Halt::Ours(error)),
    }
}

/// Fixes the window and moves the cursor, in one transaction: from here on its bytes do not change while Lago may have them.
async fn open(app: &App, draft: Draft, standing: Standing, shipped: &mut Shipped) -> Result<(), Error> {
    let now_ms = app.clock.now().as_millisecond();
    let mut window =
        Window { first_position: draft.from + 1, last_position: draft.to, opened_ms: now_ms, items: Vec::new() };
    let (mut buried, mut moved) = (Vec::new(), Vec::new());
    for item in &draft.items {
        let (ready, reason) = match standing.get(&item.entry.user) {
            Some(Ok(ready)) => (Some(ready), item.is_held.then_some(replay::HELD)),
            Some(Err(reason)) => (None, Some(reason.as_str())),
            None => return Err(Error::internal("a user of a draft was not looked after")),
        };
        let external_id = ready.map_or(item.entry.user.as_str(), |ready| &ready.external_id);
        let external_id = item.name.as_deref().unwrap_or(external_id);
        let moment = Moment { began_ms: ready.map(|ready| ready.began_ms), now_ms };
        let event = event::of_entry(&item.entry, external_id, &item.code, moment);
        let at_ms = event.at_ms()?;
        if at_ms != item.entry.event_ms {
            moved.push((item.entry.position, at_ms));
        }
        match reason {
            None => {
                window.items.push(Item { position: item.entry.position, event: event.line()?, state: State::Waiting });
            }
            Some(reason) => buried.push(Dead {
                position: item.entry.position,
                user: item.entry.user.clone(),
                reason: reason.to_owned(),
                dead_ms: now_ms,
                event: event.line()?,
                stored: false,
                replay: false,
                transaction_id: event.transaction_id,
            }),
        }
    }
    for user in draft.follow.keys() {
        if let Some(Err(reason)) = standing.get(user) {
            tracing::warn!(user.id = user, reason, "Lago does not take the tier of a user: their plan there stays");
        }
    }
    shipped.dead += buried.len() as u64;
    let names = standing.into_iter().filter_map(|(user, ready)| Some((user, ready.ok()?.external_id))).collect();
    let opening = Opening { window, buried, moved, names };
    app.db.write(move |tx| fix(tx, &draft, &opening)).await
}

/// What becomes of a draft.
struct Opening {
    window: Window,
    buried: Vec<Dead>,
    /// Entries that are counted from another moment than their own.
    moved: Vec<(i64, i64)>,
    /// Users, and the ids of Lago's under which their entries go out from here on.
    names: Vec<(String, String)>,
}

fn fix(tx: &mut Tx<'_>, draft: &Draft, Opening { window, buried, moved, names }: &Opening) -> Result<()> {
    // Another process has moved on meanwhile: what it has opened is as good as ours.
    if lago::window(tx)?.is_some() || !lago::advance(tx, draft.from, draft.to)? {
        return Ok(());
    }
    for (user, tier) in &draft.tiers {
        lago::save_tier(tx, user, tier)?;
    }
    names.iter().try_for_each(|(user, name)| names::follow(tx, user, draft.from + 1, name))?;
    for (reason, entries) in &draft.skipped {
        lago::skip(tx, reason, *entries)?;
    }
    buried.iter().try_for_each(|dead| lago::bury(tx, dead))?;
    moved.iter().try_for_each(|(position, at_ms)| lago::save_moved(tx, *position, *at_ms))?;
    if !window.items.is_empty() {
        return lago::open_window(tx, window);
    }
    // Lago has answered for whoever was asked about.
    if buried.is_empty() { Ok(()) } else { settling::recovered(tx) }
}

/// Lago shows each event that it has taken.
fn is_echo(answer: &Value, sent: usize) -> bool {
    answer["events"].as_array().is_some_and(|events| events.len() == sent)
}

/// Sends what is still waiting in the window, in one request, and writes down what became of each event.
async fn send(app: &App, ours: &Lago, window: &Window, shipped: &mut Shipped) -> Result<(), Halt> {
    let waiting: Vec<usize> =
        (0..window.items.len()).filter(|place| window.items[*place].state == State::Waiting).collect();
    let waiting = &waiting[..waiting.len().min(ours.batch.load(Ordering::Relaxed))];
    let events: Vec<&str> = waiting.iter().map(|place| window.items[*place].event.as_str()).collect();
    let body = format!("{{\"events\":[{}]}}", events.join(","));
    let outcomes: Vec<Outcome> = match ours.gateway.post("/events/batch", body).await {
        Ok(answer) if is_echo(&answer, waiting.len()) => {
            waiting.iter().map(|place| (*place, Became::Delivered)).collect()
        }
        // Something between us and Lago has answered.
        Ok(_) => return Err(LagoError::BadBody { fault: "a success without the events that were sent" }.into()),
        Err(error) if error.is_too_long() && waiting.len() > 1 => {
            send_less(ours, waiting.len(), &error);
            return Ok(());
        }
        Err(LagoError::Refused { refusal }) => judged(waiting, &refusal).ok_or_else(|| our_fault(&refusal))?,
        Err(error) if error.remedy() == Remedy::Content => {
            return Err(our_fault(&error.refusal().cloned().unwrap_or_default()));
        }
        Err(error) => return Err(error.into()),
    };
    let (sent, settled, now_ms) = (window.clone(), outcomes.clone(), app.clock.now().as_millisecond());
    app.db.write(move |tx| settling::settle(tx, &sent, &settled, now_ms)).await?;
    tell(ours, &outcomes, shipped);
    Ok(())
}

/// A Lago may be set to fewer events in a batch, and a proxy to shorter requests: from here on half as many go at once.
fn send_less(ours: &Lago, sent: usize, error: &LagoError) {
    let half = (sent / 2).max(1);
    tracing::warn!(%error, "Lago does not take {sent} events at once: {half} from now on");
    ours.batch.store(half, Ordering::Relaxed);
}

fn tell(ours: &Lago, outcomes: &[Outcome], shipped: &mut Shipped) {
    for (_, became) in outcomes {
        match became {
            Became::Delivered | Became::Stored { .. } => {
                ours.numbers.delivered.fetch_add(1, Ordering::Relaxed);
                shipped.delivered += 1;
            }
            Became::StoredTooLate { .. } | Became::Refused(_) => shipped.dead += 1,
            Became::Lost => {}
        }
    }
}

/// Reads a 422 that names events by their place in the request. The others wait for a request of their own: a Lago since
/// 1.39 has stored none of them, an older one may have, and then says so next time (F-42, F-43).
fn judged(waiting: &[usize], refusal: &Refusal) -> Option<Vec<Outcome>> {
    if refusal.items.is_empty() {
        return None;
    }
    let of = |(place, reason): &(usize, String)| {
        let became = if reason == SEEN { Became::Delivered } else { Became::Refused(reason.clone()) };
        Some((*waiting.get(*place)?, became))
    };
    refusal.items.iter().map(of).collect()
}

/// A batch that is refused as a whole is a fault of ours: sent again it is refused again, and it is not thrown away.
fn our_fault(refusal: &Refusal) -> Halt {
    let text = format!("Lago refuses a whole batch{refusal}");
    Halt::Lago(Stop { remedy: Remedy::Content, code: "lago.batch_refused", text, asked: None })
}

/// Writes down that Lago is in the way, and how long to wait. Nobody gives up: what waits is the log.
async fn note(app: &App, stop: &Stop) -> Result<Trouble> {
    let (text, since_ms) = (format!("{}: {}", stop.code, stop.text), app.clock.now().as_millisecond());
    let shown = text.clone();
    let failures = app
        .db
        .write(move |tx| {
            let before = lago::cursor(tx)?;
            let failures = before.failures.saturating_add(1);
            let since_ms = before.fault.map_or(since_ms, |fault| fault.since_ms);
            lago::set_failing(tx, failures, Some(&Fault { text: text.clone(), since_ms }))?;
            Ok(failures)
        })
        .await?;
    // What only a person can put right is tried slowly, and called what it is.
    let (first, longest) = match stop.remedy {
        Remedy::Again => (Duration::from_secs(1), Duration::from_mins(1)),
        Remedy::Operator | Remedy::Content => (Duration::from_secs(30), Duration::from_mins(5)),
    };
    if stop.remedy == Remedy::Again {
        tracing::warn!(failures, "{shown}");
    } else {
        tracing::error!(failures, "{shown}; nothing is lost, shipping goes on when this is put right");
    }
    // Jitter needs no secrecy: a source that fails gives no jitter.
    let random = app.chance.bytes::<8>().map_or(0, u64::from_le_bytes);
    let wait = backoff::wait(failures, first, longest, stop.asked, random);
    Ok(Trouble { code: stop.code, text: stop.text.clone(), wait })
}
