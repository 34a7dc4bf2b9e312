//! Everything that was used in the open month is sent again, where Lago or our notes of it have less. Lago counts an event once,
//! by its transaction id, its moment and its code, and all of them are those of the first time.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::draft::{Fit, Rules};
use super::event::{Event, counted_at, is_open, month, open_from};
use super::names::{self, Names, Together};
use super::reconcile::{Compared, Difference};
use super::replay::AGAIN;
use super::{configured, owed, reconcile, ship};
use crate::app::App;
use crate::error::Result;
use crate::store::lago::{self, Dead, Window};
use crate::store::{Tx, log};

/// Entries that are looked at in one transaction.
const READ: i64 = 1_000;

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub users: usize,
    pub events: u64,
    /// What keeps some of them from arriving now.
    pub trouble: Option<String>,
}

/// Sends the open month of everybody again whose usage Lago counts differently, or of whom not everything is noted as sent.
pub async fn repair(app: &App) -> Result<Sent> {
    configured(app)?;
    let open = month(open_from(app.clock.now().as_millisecond()));
    let noted = owed::compare(app).await?.into_iter().filter(|difference| difference.month >= open);
    let noted = noted.flat_map(|difference| difference.users);
    let mut users: BTreeSet<String> = noted.collect();
    let compared = reconcile::run(app, reconcile::Which::All).await?;
    let lacking = compared.into_iter().filter(|one| one.differences.iter().any(Difference::can_be_sent));
    users.extend(lacking.map(|one| one.user));
    if users.is_empty() {
        return Ok(Sent::default());
    }
    let events = send(app, forget(app, users.clone()).await?).await?;
    let trouble = ship::run(app).await?.trouble.map(|trouble| trouble.text);
    Ok(Sent { users: users.len(), events, trouble })
}

/// Compares what has moved. What went to somebody whom Lago does not have any more goes out again, and on the way there they are
/// made again; what else was found is left to whoever looks.
pub async fn mend(app: &App) -> Result<Vec<Compared>> {
    let compared = reconcile::run(app, reconcile::Which::Moved).await?;
    let gone: BTreeSet<String> = compared.iter().filter(|one| one.is_gone()).map(|one| one.user.clone()).collect();
    if !gone.is_empty() {
        let users = gone.len();
        let events = send(app, forget(app, gone).await?).await?;
        tracing::warn!(
            users,
            events,
            "Lago has lost subscriptions: they are made again, and the open month is sent again"
        );
    }
    Ok(compared)
}

/// Has the open month of those go out again whose subscription was made again; false when there are none.
pub(super) async fn follow(app: &App) -> Result<bool> {
    let users: BTreeSet<String> = app.db.read(lago::made_again).await?.into_iter().collect();
    if users.is_empty() {
        return Ok(false);
    }
    send(app, forget(app, users.clone()).await?).await?;
    app.db.write(move |tx| users.iter().try_for_each(|user| lago::forget_made_again(tx, user))).await?;
    Ok(true)
}

/// When the first of what a user has in the open month happened: noted as sent, or dead.
pub(super) async fn first(app: &App, user: &str) -> Result<i64> {
    let (user, now_ms) = (user.to_owned(), app.clock.now().as_millisecond());
    let first = move |tx: &mut Tx<'_>| {
        let mut first_ms = now_ms;
        for name in names::all(tx, &user)? {
            let sums = lago::sums(tx, &name, open_from(now_ms), i64::MAX)?;
            let sums = sums.iter().map(|sum| sum.quarter_ms).filter(|at_ms| is_open(*at_ms, now_ms));
            first_ms = sums.fold(first_ms, i64::min);
        }
        for letter in lago::dead_of(tx, &user)? {
            let at_ms = Event::read(&letter.event)?.at_ms()?;
            if is_open(at_ms, now_ms) {
                first_ms = first_ms.min(at_ms);
            }
        }
        Ok(first_ms)
    };
    app.db.read(first).await
}

/// Whether the open month of a user is being sent again already.
pub(super) fn is_on_its_way(tx: &mut Tx<'_>, user: &str) -> Result<bool> {
    Ok(lago::dead_of(tx, user)?.iter().any(|letter| letter.replay && letter.reason.starts_with(AGAIN)))
}

/// What is to be sent again, as everything stood when its notes were forgotten.
#[derive(Debug)]
pub struct Forgotten {
    users: BTreeSet<String>,
    now_ms: i64,
    /// Entries up to here had gone by.
    cursor: i64,
    /// Entries of which nothing was noted: they waited in the window, or lay dead. What becomes of them is noted when it has
    /// come to that, whoever sends meanwhile.
    unnoted: BTreeSet<i64>,
}

/// Forgets what is noted of these users, so that each of their entries is noted once when it has arrived, or was there.
pub async fn forget(app: &App, users: BTreeSet<String>) -> Result<Forgotten> {
    let now_ms = app.clock.now().as_millisecond();
    let (cursor, unnoted, users) = app
        .db
        .write(move |tx| {
            let window = lago::window(tx)?;
            let mut unnoted: BTreeSet<i64> =
                window.iter().flat_map(Window::waiting).map(|item| item.position).collect();
            let together = Together::read(tx)?;
            let users: BTreeSet<String> = users.iter().flat_map(|user| together.with(user)).collect();
            for user in &users {
                forget_noted(tx, user, now_ms)?;
                unnoted.extend(lago::dead_of(tx, user)?.iter().map(|letter| letter.position));
            }
            Ok((lago::cursor(tx)?.position, unnoted, users))
        })
        .await?;
    Ok(Forgotten { users, now_ms, cursor, unnoted })
}

/// Has it go out with the next windows; how many events that are.
pub async fn send(app: &App, forgotten: Forgotten) -> Result<u64> {
    let forgotten = Arc::new(forgotten);
    let (mut from, mut events, mut tiers) = (0, 0, Tiers::new());
    while from < forgotten.cursor {
        let (app_there, forgotten, before) = (app.clone(), Arc::clone(&forgotten), tiers);
        let to = forgotten.cursor.min(from + READ);
        let (buried, after) =
            app.db.write(move |tx| bury_some(tx, &app_there, &forgotten, (from, to), before.clone())).await?;
        (from, events, tiers) = (to, events + buried, after);
    }
    Ok(events)
}

fn forget_noted(tx: &mut Tx<'_>, user: &str, now_ms: i64) -> Result<()> {
    names::all(tx, user)?.iter().try_for_each(|name| lago::forget_sums(tx, name, open_from(now_ms)))
}

/// The tiers that the log has given to users so far.
type Tiers = HashMap<String, String>;

/// The entries after one, up to another, of the open month: each becomes a letter that is to be sent again.
fn bury_some(
    tx: &mut Tx<'_>,
    app: &App,
    forgotten: &Forgotten,
    (from, to): (i64, i64),
    mut tiers: Tiers,
) -> Result<(u64, Tiers)> {
    let rules = Rules::read(tx, &app.catalogue, app.clock.now())?;
    let moved = lago::moved(tx, from, to)?;
    let mut events = 0;
    for entry in log::read(tx, from, to - from)? {
        if entry.position > to || !forgotten.users.contains(&entry.user) {
            continue;
        }
        let at_ms = moved.get(&entry.position).copied().unwrap_or(entry.event_ms);
        // Also what is not sent: it may say the tier of what is.
        let fit = rules.fit(tx, &mut tiers, &entry)?;
        let (Some(Fit::For { code, .. }), true) = (fit, is_open(at_ms, forgotten.now_ms)) else { continue };
        if forgotten.unnoted.contains(&entry.position) {
            continue;
        }
        let names = Names::read(tx, &entry.user)?;
        let event = counted_at(&entry, names.of(&entry).unwrap_or(&entry.user), &code, at_ms);
        if lago::is_dead(tx, &event.transaction_id)? {
            continue; // it has a reason of its own
        }
        let letter = Dead {
            transaction_id: event.transaction_id.clone(),
            position: entry.position,
            user: entry.user,
            reason: AGAIN.to_owned(),
            dead_ms: forgotten.now_ms,
            event: event.line()?,
            stored: false,
            replay: true,
        };
        lago::bury(tx, &letter)?;
        events += 1;
    }
    Ok((events, tiers))
}
