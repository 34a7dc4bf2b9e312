//! Publishing: the accounts as they are in the log, in Redis, shard by shard, each with the position at which it stands.
//!
//! Redis may lose anything at any time. What it says of a shard's position is compared with every step, and where it is behind,
//! what is missing is read from the log again; where it has nothing, the whole shard is published anew.

pub mod proof;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use billing::account::Account;
use futures_util::stream::{self, StreamExt};

use crate::app::App;
use crate::counters::book::{self, Slot};
use crate::counters::{Counters, Mark, Pending, Redis, View};
use crate::error::{Error, Result};
use crate::ops::reservations;
use crate::ops::usage::following;
use crate::store::accounts::Snapshot;
use crate::store::log::Source;
use crate::store::{Tx, accounts, facts, leases, log};

/// Who publishes, and for how long nobody else does.
const LEASE: &str = "counters";
const LEASE_MS: i64 = 5_000;
/// How many entries are read at a time.
const READ: i64 = 5_000;
/// How many shards are published anew at a time.
const ABREAST: usize = 8;
/// Further behind than this, a shard is published anew instead of reading the log.
const BEHIND_MAX: i64 = 200_000;

/// Whether this process is the one that publishes; asked every second or so.
pub async fn is_ours(app: &App) -> Result<bool> {
    let Counters::Redis(shared) = &app.counters else { return Ok(false) };
    let holder = app.holder.clone();
    let is_ours = app.db.write(move |tx| leases::is_ours(tx, LEASE, &holder, LEASE_MS)).await?;
    if !is_ours {
        app.book.note_set_back(false); // whoever publishes has found it as well
        app.book.moves.stop();
        shared.view.lock().await.forget();
    }
    Ok(is_ours)
}

/// Works by the name that the log has by now, where something with a later one was seen in Redis.
pub async fn follow_name(app: &App) -> Result<()> {
    let Counters::Redis(shared) = &app.counters else { return Ok(()) };
    match shared.later_log() {
        Some(later) => rename(app, shared, later).await,
        None => Ok(()),
    }
}

/// Before anything is decided: whether what lies in Redis is of a log that does not exist any more. Redis that is away says nothing,
/// and is looked at again by whoever publishes.
pub async fn begin(app: &App) -> Result<()> {
    let Counters::Redis(shared) = &app.counters else { return Ok(()) };
    let Ok(marks) = shared.marks(&all_shards()?).await else { return Ok(()) };
    let position =
        marks.into_iter().filter_map(|mark| if let Mark::At(position) = mark { Some(position) } else { None });
    match position.max() {
        Some(position) if position > app.db.read(log::head).await? => ahead(app, shared, position).await,
        _ => Ok(()),
    }
}

fn all_shards() -> Result<Vec<i64>> {
    Ok((0..i64::try_from(book::SHARDS).map_err(Error::internal)?).collect())
}

/// Publishes what has moved since the last time.
pub async fn once(app: &App) -> Result<()> {
    let Counters::Redis(shared) = &app.counters else { return Ok(()) };
    let mut view = shared.view.lock().await;
    if app.book.is_set_back() {
        tracing::error!("the log ends before what was counted of it: the database was set back");
        rename(app, shared, shared.log_name()).await?;
        app.book.note_set_back(false);
        view.forget();
    }
    let (moves, to) = {
        let _turn = app.book.turn_between().await;
        (app.book.moves.take(), app.book.applied())
    };
    match moves {
        Some(moves) => view.add(moves),
        None => view.forget(),
    }
    let unknown = view.unknown();
    if !unknown.is_empty() {
        find_out(app, shared, &mut view, &unknown, to).await?;
    }
    let shards: Vec<i64> = view.pending.keys().copied().collect();
    for shard in shards {
        publish(app, shared, &mut view, shard, to).await?;
    }
    Ok(())
}

/// Looks whether every shard stands where it was left; what does not is published again.
pub async fn verify(app: &App) -> Result<()> {
    let Counters::Redis(shared) = &app.counters else { return Ok(()) };
    {
        let mut view = shared.view.lock().await;
        let shards = all_shards()?;
        let marks = shared.marks(&shards).await?;
        for (shard, there) in shards.into_iter().zip(marks) {
            if view.mark(shard).is_some_and(|known| there != Mark::At(known)) {
                view.set(shard, None);
            }
        }
    }
    once(app).await
}

async fn publish(app: &App, shared: &Redis, view: &mut View, shard: i64, to: i64) -> Result<()> {
    let (Some(from), Some(pending)) = (view.mark(shard), view.pending.get(&shard)) else { return Ok(()) };
    let there = shared.publish(shard, Mark::At(from), to, pending, app.clock.now()).await?;
    if there == Mark::At(to) {
        view.set(shard, Some(to));
        view.pending.remove(&shard);
    } else {
        tracing::warn!(shard, ?there, from, "a shard of the counters is not where it was left: it is published again");
        view.set(shard, None);
    }
    Ok(())
}

/// Asks Redis where these shards stand, and brings them to `to`.
async fn find_out(app: &App, shared: &Redis, view: &mut View, shards: &[i64], to: i64) -> Result<()> {
    let mut behind = BTreeMap::new();
    let mut anew = BTreeSet::new();
    let marks = shared.marks(shards).await?;
    for (shard, mark) in shards.iter().zip(marks) {
        match mark {
            Mark::At(position) if position > to => return ahead(app, shared, position).await,
            Mark::At(position) if to - position <= BEHIND_MAX => drop(behind.insert(*shard, position)),
            Mark::At(_) | Mark::None => drop(anew.insert(*shard)),
        }
    }
    read_again(app, view, &behind, to).await?;
    let lost: BTreeSet<i64> = behind.keys().chain(&anew).copied().collect();
    for (slot, id, hold) in reservations::open_in(app, &lost).await? {
        view.pending.entry(book::shard_of(&slot.user)).or_default().hold(slot, &id, hold);
    }
    for (shard, position) in behind {
        view.set(shard, Some(position));
        view.pending.entry(shard).or_default();
    }
    if !anew.is_empty() {
        publish_anew(app, shared, view, anew, to).await?;
    }
    Ok(())
}

/// Redis is further than this process. So is the log, or the database was set back to an earlier day: then what is published
/// is of a log that does not exist any more.
async fn ahead(app: &App, shared: &Redis, position: i64) -> Result<()> {
    let head = app.db.read(log::head).await?;
    if head >= position {
        app.follow_log.notify_one();
        return Ok(());
    }
    tracing::error!(position, head, "Redis knows of entries that the log does not have: the database was set back");
    rename(app, shared, shared.log_name()).await
}

/// Has the log go on under a name that is later than this one, or under the one that somebody else has given it: those who share it
/// work by one name, and publish nothing over what is of a later one.
async fn rename(app: &App, shared: &Redis, seen: String) -> Result<()> {
    let mut new = billing::id::new("log_", app.clock.now(), app.chance.bytes()?);
    if new <= seen {
        new = format!("{seen}.{new}"); // our clock is behind
    }
    let ours = shared.log_name();
    let name = app.db.write(move |tx| match facts::get(tx, facts::USAGE_LOG)? {
        Some(known) if known != ours => Ok(known),
        _ => facts::set(tx, facts::USAGE_LOG, &new).map(|()| new.clone()),
    });
    let name = name.await?;
    tracing::warn!(log = name, "the log has another name: everything is published anew");
    shared.set_log(&name);
    Ok(())
}

/// What shards that are behind have missed, from the log.
async fn read_again(app: &App, view: &mut View, behind: &BTreeMap<i64, i64>, to: i64) -> Result<()> {
    let Some(mut at) = behind.values().copied().min() else { return Ok(()) };
    while at < to {
        let entries = app.db.read(move |tx| log::read(tx, at, READ.min(to - at))).await?;
        let Some(last) = entries.last().map(|entry| entry.position) else { break };
        for entry in &entries {
            let shard = book::shard_of(&entry.user);
            if behind.get(&shard).is_none_or(|position| entry.position <= *position) {
                continue;
            }
            let source = source_of(app, &entry.user).await?;
            let pending = view.pending.entry(shard).or_default();
            source.add_to(&entry.user, pending);
            if entry.source == Source::Reservation {
                pending.commit(&entry.user, &entry.transaction_id);
            }
        }
        at = last;
    }
    Ok(())
}

/// Where an account is.
enum Kept {
    Memory(Arc<Slot>),
    Written(Box<Account>),
    Nowhere,
}

impl Kept {
    fn add_to(self, user: &str, pending: &mut Pending) {
        match self {
            Self::Memory(slot) => pending.slot(slot),
            Self::Written(account) => pending.account(user, *account),
            Self::Nowhere => {}
        }
    }
}

async fn source_of(app: &App, user: &str) -> Result<Kept> {
    if let Some(slot) = app.book.get(user) {
        return Ok(Kept::Memory(slot));
    }
    let asked = user.to_owned();
    let account =
        app.db.read(move |tx| accounts::whole(tx, &asked)?.map_or(Ok(None), |kept| readable(tx, &kept))).await?;
    Ok(account.map_or(Kept::Nowhere, |account| Kept::Written(Box::new(account))))
}

/// Publishes all accounts of these shards: those in memory, and of the others what is written down.
async fn publish_anew(app: &App, shared: &Redis, view: &mut View, shards: BTreeSet<i64>, to: i64) -> Result<()> {
    let mut in_memory: BTreeMap<i64, Vec<Arc<Slot>>> = BTreeMap::new();
    for slot in app.book.slots() {
        in_memory.entry(book::shard_of(&slot.user)).or_default().push(slot);
    }
    let (mut outcome, is_over) = (Ok(()), AtomicBool::new(false));
    let jobs: Vec<_> = shards
        .into_iter()
        .map(|shard| {
            let mut pending = view.pending.remove(&shard).unwrap_or_default();
            in_memory.remove(&shard).into_iter().flatten().for_each(|slot| pending.slot(slot));
            publish_whole(app, shared, shard, pending, to, &is_over)
        })
        .collect();
    // While Redis takes some in, others are read and written out; where one fails, no other is begun.
    let mut done = stream::iter(jobs).buffer_unordered(ABREAST);
    while let Some((shard, pending, there)) = done.next().await {
        match there {
            Some(Ok(Mark::At(position))) if position == to => view.set(shard, Some(to)),
            Some(Ok(_)) => view.set(shard, None),
            Some(Err(error)) => {
                is_over.store(true, Ordering::Relaxed);
                view.pending.insert(shard, pending);
                outcome = Err(error);
            }
            None => drop(view.pending.insert(shard, pending)),
        }
    }
    outcome
}

/// Publishes a shard with all its accounts: those that are to be published anyway, and what is written down of the others. Nothing
/// where it is over before this begins.
async fn publish_whole(
    app: &App,
    shared: &Redis,
    shard: i64,
    mut pending: Pending,
    to: i64,
    is_over: &AtomicBool,
) -> (i64, Pending, Option<Result<Mark>>) {
    if is_over.load(Ordering::Relaxed) {
        return (shard, pending, None);
    }
    let written = match app.db.read(move |tx| written(tx, shard)).await {
        Ok(written) => written,
        Err(error) => return (shard, pending, Some(Err(error))),
    };
    for (user, account) in written {
        pending.account(&user, account);
    }
    let there = shared.publish(shard, Mark::None, to, &pending, app.clock.now()).await;
    (shard, pending, Some(there.map_err(Error::from)))
}

fn written(tx: &mut Tx<'_>, shard: i64) -> Result<Vec<(String, Account)>> {
    let mut written = Vec::new();
    for kept in accounts::of_shard(tx, shard)? {
        if let Some(account) = readable(tx, &kept)? {
            written.push((kept.user, account));
        }
    }
    Ok(written)
}

/// A written account; nothing where neither it nor its entries can be read: others are published without it.
fn readable(tx: &mut Tx<'_>, kept: &Snapshot) -> Result<Option<Account>> {
    match following::account_of(tx, kept) {
        Err(Error::Internal(cause)) => {
            tracing::error!(user.id = kept.user, %cause, "an account cannot be published");
            Ok(None)
        }
        account => account.map(Some),
    }
}
