//! What is published in Redis, account by account against the log, and put right where it differs.
//!
//! Accounts move while they are looked at, and what was reserved a moment ago is not written down yet. So what differs is looked
//! at again until it has had the time to agree. What is a difference still is the same one: of the same reservation with the same
//! life, or of an account that has stood at the same entry. On a busy account something is always on its way, and never the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use billing::account::Account;
use billing::hold::Hold;

use crate::app::App;
use crate::counters::{About, Counters, Fault, Redis};
use crate::error::{Error, Result};
use crate::ops::reservations;
use crate::ops::usage::{following, plans};
use crate::store::{accounts, users};

/// Accounts that are compared at a time.
const PAGE: i64 = 500;
/// After so many accounts that differ it is enough, and after so many that differ at the first look.
const NAMED: usize = 100;
const FOLLOWED: usize = 10_000;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// How often an account that moves is put right.
const TRIES: usize = 8;
/// Within this time whatever is reserved is written down, and whatever is counted is published.
pub const SETTLED: Duration = Duration::from_secs(6);

/// A difference that was seen at these two instants, and at every look between.
#[derive(Debug)]
struct Doubt {
    fault: Fault,
    since: Instant,
    last: Instant,
}

impl Doubt {
    fn has_lasted(&self, patience: Duration) -> bool {
        self.last.duration_since(self.since) >= patience
    }
}

/// What differs of each user, in the order in which it is named.
type Doubts = BTreeMap<String, Vec<Doubt>>;

/// What is held of each user, by id.
type Open = BTreeMap<String, BTreeMap<String, Hold>>;

/// Every account in Redis against the log, each difference in words; none where there is no Redis. What differs may agree
/// within `patience`.
pub async fn compare(app: &App, patience: Duration) -> Result<Vec<String>> {
    let Counters::Redis(shared) = &app.counters else { return Ok(Vec::new()) };
    let differing = differing(app, shared, patience, FOLLOWED).await?;
    let named = |(user, doubts): (String, Vec<Doubt>)| -> Vec<String> {
        doubts.iter().map(|doubt| format!("user {user}{}", doubt.fault.words)).collect()
    };
    Ok(differing.into_iter().take(NAMED).flat_map(named).collect())
}

/// Writes every account anew that differs in Redis; how many those are.
pub async fn repair(app: &App, patience: Duration) -> Result<usize> {
    let Counters::Redis(shared) = &app.counters else { return Ok(0) };
    let differing = differing(app, shared, patience, usize::MAX).await?;
    let count = differing.len();
    let mut users: BTreeSet<String> = differing.into_keys().collect();
    for _ in 0..TRIES {
        if users.is_empty() {
            break;
        }
        users = mend(app, shared, users).await?;
    }
    match users.first() {
        None => Ok(count),
        Some(user) => Err(Error::internal(format!("the account of {user} in Redis does not stand still"))),
    }
}

/// Puts the accounts of these users right, each as it is found now; those that have moved meanwhile are left.
async fn mend(app: &App, shared: &Redis, users: BTreeSet<String>) -> Result<BTreeSet<String>> {
    // Before the accounts: a hold that is committed between stands beside its usage for a moment, and is never missing.
    let of = users.clone();
    let all = open(app, move |user| of.contains(user)).await?;
    let mut moved = BTreeSet::new();
    for user in users {
        let Some(account) = account(app, &user).await? else { continue };
        let (open, now) = (held(app, &all, &user), app.clock.now());
        let found = shared.inspect(&user, &account, &open, now).await?;
        if found.faults.is_empty() {
            continue;
        }
        if shared.mend(&user, &account, &open, &found, now).await? {
            tracing::info!(user.id = user, "an account was put right in Redis");
        } else {
            moved.insert(user);
        }
    }
    Ok(moved)
}

/// The users whose accounts differ, each with what has differed for as long as `patience`.
async fn differing(app: &App, shared: &Redis, patience: Duration, most: usize) -> Result<Doubts> {
    let mut differing = Doubts::new();
    let (mut after, mut held) = (String::new(), open(app, |_| true).await?);
    while differing.len() < most {
        let from = after.clone();
        let page = app.db.read(move |tx| accounts::page(tx, &from, PAGE)).await?;
        let Some(last) = page.last() else { break };
        after.clone_from(&last.user);
        for row in page {
            let account = match app.book.get(&row.user) {
                Some(slot) => Some(slot.lock().account.clone()),
                // One that cannot be read is named by the recount.
                None => Account::decode(&row.state).ok(),
            };
            look(app, shared, row.user, account, &held, &mut differing).await?;
        }
    }
    unused(app, shared, &held, most, &mut differing).await?;
    let start = Instant::now();
    // A little longer: what shows itself only at a second look has its time as well.
    let enough = patience + patience / 8;
    while differing.values().flatten().any(|doubt| !doubt.has_lasted(patience)) {
        let is_last = start.elapsed() >= enough;
        tokio::time::sleep(PAUSE).await;
        following::follow_log(app).await?;
        held = open(app, |_| true).await?;
        for user in differing.keys().cloned().collect::<Vec<_>>() {
            let account = account(app, &user).await?;
            look(app, shared, user, account, &held, &mut differing).await?;
        }
        if is_last {
            break;
        }
    }
    differing.retain(|_, doubts| {
        doubts.retain(|doubt| doubt.has_lasted(patience));
        !doubts.is_empty()
    });
    Ok(differing)
}

/// The same for users without an entry in the log: something may be held of them all the same.
async fn unused(app: &App, shared: &Redis, held: &Open, most: usize, differing: &mut Doubts) -> Result<()> {
    let mut after = String::new();
    while differing.len() < most {
        let from = after.clone();
        let page = app
            .db
            .read(move |tx| {
                let page = users::page(tx, &from, PAGE)?;
                page.into_iter()
                    .map(|user| Ok((accounts::get(tx, &user.id)?.is_none(), user.id)))
                    .collect::<Result<_>>()
            })
            .await?;
        let page: Vec<(bool, String)> = page;
        let Some((_, last)) = page.last() else { break };
        after.clone_from(last);
        for (_, user) in page.into_iter().filter(|(is_unused, _)| *is_unused) {
            let account = account(app, &user).await?;
            look(app, shared, user, account, held, differing).await?;
        }
    }
    Ok(())
}

async fn look(
    app: &App,
    shared: &Redis,
    user: String,
    account: Option<Account>,
    open: &Open,
    differing: &mut Doubts,
) -> Result<()> {
    let before = differing.remove(&user).unwrap_or_default();
    let Some(account) = account else { return Ok(()) };
    let open = held(app, open, &user);
    let found = shared.inspect(&user, &account, &open, app.clock.now()).await?;
    let (now, is_compared) = (Instant::now(), found.is_compared());
    let since: BTreeMap<&About, Instant> = before.iter().map(|doubt| (&doubt.fault.about, doubt.since)).collect();
    let doubt = |fault: Fault| Doubt { since: since.get(&fault.about).copied().unwrap_or(now), last: now, fault };
    let mut doubts: Vec<Doubt> = found.faults.into_iter().map(doubt).collect();
    // Where it has moved, this look says nothing of its fields.
    let unseen = |doubt: &Doubt| !is_compared && matches!(doubt.fault.about, About::Field(_));
    doubts.extend(before.into_iter().filter(unseen));
    if !doubts.is_empty() {
        differing.insert(user, doubts);
    }
    Ok(())
}

/// The account as the log has it now.
async fn account(app: &App, user: &str) -> Result<Option<Account>> {
    following::follow_log(app).await?;
    if let Some(slot) = app.book.get(user) {
        return Ok(Some(slot.lock().account.clone()));
    }
    let (asked, catalogue, now) = (user.to_owned(), Arc::clone(&app.catalogue), app.clock.now());
    app.db
        .read(move |tx| {
            if let Some(kept) = accounts::whole(tx, &asked)? {
                return following::account_of(tx, &kept).map(Some);
            }
            let Some(known) = users::get(tx, &asked)? else { return Ok(None) };
            let terms = plans::terms(tx, &catalogue, &known, now)?;
            Account::new(terms, now.as_millisecond()).map(Some).map_err(Error::internal)
        })
        .await
}

/// What is held of each of these users as far as the database knows.
async fn open(app: &App, of: impl Fn(&str) -> bool + Send + 'static) -> Result<Open> {
    let now_ms = app.clock.now().as_millisecond();
    let mut open = Open::new();
    for row in app.db.read(move |tx| reservations::uncommitted(tx, now_ms, &of)).await? {
        open.entry(row.user.clone()).or_default().insert(row.id.clone(), reservations::known(&row).hold());
    }
    Ok(open)
}

/// What is known to be held of a user: by the database, and by this process.
fn held(app: &App, open: &Open, user: &str) -> BTreeMap<String, Hold> {
    let mut held = open.get(user).cloned().unwrap_or_default();
    if let Some(slot) = app.book.get(user) {
        let (now_ms, state) = (app.clock.now().as_millisecond(), slot.lock());
        let live = state.held.iter().filter(|(_, hold)| hold.expires_ms > now_ms);
        held.extend(live.map(|(id, hold)| (id.to_string(), hold.clone())));
    }
    held
}
