//! Commits: what was really used of a reservation becomes an entry of the usage log, once, whoever says it how often.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use billing::usage::{Credits, Quantity};
use jiff::Timestamp;

use super::{TTL_MAX_MS, conflict, find, remaining, resolved_otherwise};
use crate::app::App;
use crate::counters::reading::LATE_COMMIT;
use crate::counters::reservations::{Fate, Known, Recorded};
use crate::error::{Error, Result};
use crate::ops::limits;
use crate::ops::usage::{self, Candidate, Verdict, ids};
use crate::store::Tx;
use crate::store::log::{self, Entry, Kind, Source};

/// How long a commit waits to be counted where another process has written to the log meanwhile.
const COUNTED_WITHIN: Duration = Duration::from_millis(250);
/// What ids of commits are kept apart by in the log.
const SPACE: &str = "commit";

/// What was really used: less than was held, or more.
#[derive(Debug, Clone)]
pub struct Commit {
    pub quantity: Quantity,
    /// When; now where it is left out.
    pub at: Option<Timestamp>,
    /// Whose and of what, for a reservation that may have been forgotten.
    pub user: Option<String>,
    pub kind: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    pub id: String,
    /// Its place in the log.
    pub position: i64,
    pub quantity: Quantity,
    /// Nothing was held for it any more. It counts all the same.
    pub late: bool,
    pub remaining: Option<Credits>,
    pub replayed: bool,
}

/// Counts what was really used. It is on disk when the answer comes; the same commit again is the same answer.
///
/// # Errors
/// `usage.conflict` where it was committed with another quantity or released; a fault at `/user_id` or `/type` where the
/// reservation is unknown and the body does not say them; the errors of recording usage.
pub async fn commit(app: &App, id: &str, commit: Commit) -> Result<Committed> {
    let now = app.clock.now();
    let known = find(app, id).await?;
    if let Some(Known { user, kind, fate, .. }) = &known {
        if commit.user.as_ref().is_some_and(|told| **told != **user) {
            return Err(conflict("user_id"));
        }
        if commit.kind.as_ref().is_some_and(|told| **told != **kind) {
            return Err(conflict("type"));
        }
        match *fate {
            Fate::Committed(Some(recorded)) => return again(app, id, user, kind, commit.quantity, recorded).await,
            Fate::Released => return Err(resolved_otherwise("this reservation was released")),
            Fate::Committed(None) | Fate::Held | Fate::Undecided | Fate::Committing { .. } => {}
        }
    }
    let is_live = |known: &Known| known.fate != Fate::Committed(None) && !known.is_over(now.as_millisecond());
    let is_live = known.as_ref().is_some_and(is_live);
    // What is remembered as held is in no entry yet. Of the rest, the log knows.
    if !is_live && let Some((recorded, entry)) = in_log(app, id).await? {
        return again(app, id, &entry.user, &entry.event_type, commit.quantity, recorded).await;
    }
    let missing = |pointer| {
        Error::invalid(pointer, "this reservation is unknown or long over: say user_id and type to commit it")
    };
    let (user, kind) = match &known {
        Some(known) => (known.user.to_string(), known.kind.to_string()),
        None => (commit.user.ok_or_else(|| missing("/user_id"))?, commit.kind.ok_or_else(|| missing("/type"))?),
    };
    let wanted = Wanted { id, user, kind, quantity: commit.quantity, at: commit.at, late: !is_live, now };
    let candidate = candidate(app, &wanted)?;
    let attempt = app.counters.new_attempt();
    begin(app, known.as_ref(), &wanted, &attempt).await?;
    let committed = append(app, wanted, candidate).await;
    if let (Err(Error::Invalid(_) | Error::Rule { .. } | Error::LimitReached { .. }), Some(known)) =
        (&committed, &known)
    {
        // Nothing was recorded, for certain.
        app.counters.give_up_commit(id, known, &attempt).await;
    }
    committed
}

/// A commit on its way to the log.
struct Wanted<'a> {
    id: &'a str,
    user: String,
    kind: String,
    quantity: Quantity,
    at: Option<Timestamp>,
    late: bool,
    now: Timestamp,
}

/// The answer to who commits again.
async fn again(
    app: &App,
    id: &str,
    user: &str,
    kind: &str,
    quantity: Quantity,
    Recorded { position, quantity: recorded, late }: Recorded,
) -> Result<Committed> {
    if quantity != recorded {
        return Err(Error::rule("usage.conflict", "/quantity", "differs from what was committed under this id"));
    }
    let remaining = remaining(app, user, kind).await;
    Ok(Committed { id: id.to_owned(), position, quantity, late, remaining, replayed: true })
}

/// A commit that is under way in this process. Until it is handed to the writer of the log, it has come to nothing where nobody
/// goes on with it.
struct Begun<'a> {
    app: &'a App,
    id: &'a str,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.app.book.commit_failed(self.id);
    }
}

/// From now on nobody releases it, in whichever process; a conflict where somebody has.
async fn begin(app: &App, known: Option<&Known>, wanted: &Wanted<'_>, attempt: &str) -> Result<()> {
    let released = || Err(resolved_otherwise("this reservation was released"));
    if !app.book.commit_begins(wanted.id, wanted.late) {
        return released();
    }
    let begun = Begun { app, id: wanted.id };
    if let Some(known) = known
        // Where nobody can say whether another process has released it, the work was done and counts.
        && !app.counters.begin_commit(wanted.id, known, attempt, wanted.now).await.unwrap_or(true)
    {
        drop(begun);
        app.counters.released_elsewhere(&app.book, wanted.id, wanted.now);
        return released();
    }
    // The writer says how it ends, also where our caller goes away meanwhile.
    std::mem::forget(begun);
    Ok(())
}

async fn append(app: &App, wanted: Wanted<'_>, candidate: Candidate) -> Result<Committed> {
    let outcome = app.usage.append(app, vec![candidate]).await.inspect_err(|error| {
        // What never came to the writer, it cannot say of.
        if matches!(error, Error::LimitReached { .. }) {
            app.book.commit_failed(wanted.id);
        }
    });
    let verdict = outcome?.pop();
    let position = match verdict {
        Some(Verdict::Recorded { position, .. }) => position,
        Some(Verdict::Refused { code: "invalid", pointer, detail }) => return Err(Error::invalid(pointer, detail)),
        Some(Verdict::Refused { code, pointer, detail }) => return Err(Error::rule(code, pointer, detail)),
        // Somebody was faster with the same id.
        Some(Verdict::Duplicate { .. } | Verdict::Conflict { .. }) | None => {
            let (recorded, entry) =
                in_log(app, wanted.id).await?.ok_or_else(|| Error::internal("a known commit is not in the log"))?;
            return again(app, wanted.id, &entry.user, &entry.event_type, wanted.quantity, recorded).await;
        }
    };
    if app.book.applied() < position {
        app.book.wait_for(position, COUNTED_WITHIN).await;
    }
    remember(app, &wanted, position);
    // It is in the log, so it is answered also where their account is not at hand.
    let slot = limits::slot_of(app, &wanted.user).await.ok();
    if let Some(slot) = slot {
        app.counters.counted(&slot, wanted.now).await;
    }
    let remaining = remaining(app, &wanted.user, &wanted.kind).await;
    Ok(Committed {
        id: wanted.id.to_owned(),
        position,
        quantity: wanted.quantity,
        late: wanted.late,
        remaining,
        replayed: false,
    })
}

/// How long the commit of a reservation that was unknown is answered from memory.
const ANSWERED_MS: i64 = 60_000;

/// Whoever commits again finds the same answer, also for a reservation that was unknown here.
fn remember(app: &App, wanted: &Wanted<'_>, position: i64) {
    let fate = Fate::Committed(Some(Recorded { position, quantity: wanted.quantity, late: wanted.late }));
    let mut part = app.book.reservations.part(wanted.id);
    if part.get(wanted.id).is_some() {
        part.resolve(wanted.id, fate);
        return;
    }
    part.insert(
        &Arc::from(wanted.id),
        Known {
            user: Arc::from(&*wanted.user),
            kind: wanted.kind.as_str().into(),
            quantity: wanted.quantity,
            credits: Credits::ZERO,
            // Only for who tries again at once: the log knows of it for good.
            expires_ms: wanted.now.as_millisecond().saturating_add(ANSWERED_MS),
            fate,
        },
    );
}

fn candidate(app: &App, wanted: &Wanted<'_>) -> Result<Candidate> {
    let Wanted { id, user, kind, quantity, at, late, now } = wanted;
    let weight = usage::weight(app, kind)
        .ok_or_else(|| Error::rule("type.unknown", "/type", "expected an event type of the catalogue"))?;
    let cost = billing::limit::credits_for(*quantity, weight);
    if *quantity > usage::QUANTITY_MAX || cost.is_err() {
        return Err(Error::invalid("/quantity", "expected 0 to 1000000000"));
    }
    let event = at.unwrap_or(*now);
    if event < now.checked_sub(app.config.usage_window).map_err(Error::internal)? {
        return Err(Error::rule("too_old", "/timestamp", "this is older than events may be"));
    }
    if event > now.checked_add(usage::AHEAD).map_err(Error::internal)? {
        return Err(Error::rule("too_early", "/timestamp", "expected at most 5 minutes ahead"));
    }
    let mut entry = Entry {
        kind: Kind::Usage,
        user: user.clone(),
        event_type: kind.clone(),
        quantity: quantity.micro(),
        weight: weight.micro(),
        event_ms: event.as_millisecond(),
        received_ms: now.as_millisecond(),
        id: ids::entry_id(SPACE, id),
        fingerprint: 0,
        transaction_id: (*id).to_owned(),
        source: Source::Reservation,
        body: late.then(|| LATE_COMMIT.to_owned()),
    };
    entry.fingerprint = ids::fingerprint(&entry, at.is_some());
    Ok(Candidate { entry, timed: at.is_some() })
}

/// The commit of a reservation in the log, on whichever day of the window it happened or came.
pub(super) async fn in_log(app: &App, id: &str) -> Result<Option<(Recorded, log::Logged)>> {
    let (now_ms, window_ms) = (app.clock.now().as_millisecond(), millis(app.config.usage_window)?);
    in_log_on(app, id, now_ms.saturating_sub(window_ms)..=now_ms.saturating_add(log::DAY_MS)).await
}

/// The same where it came on this day or the one before: so long an id stands for that reservation, whoever asks for it anew.
pub(super) async fn lately_in_log(app: &App, id: &str) -> Result<Option<(Recorded, log::Logged)>> {
    let now_ms = app.clock.now().as_millisecond();
    in_log_on(app, id, now_ms.saturating_sub(log::DAY_MS)..=now_ms).await
}

async fn in_log_on(app: &App, id: &str, span_ms: RangeInclusive<i64>) -> Result<Option<(Recorded, log::Logged)>> {
    let entry_id = ids::entry_id(SPACE, id);
    let days = span_ms.start().div_euclid(log::DAY_MS)..=span_ms.end().div_euclid(log::DAY_MS);
    let entry = app.db.read(move |tx| log::newest(tx, days.clone(), &entry_id)).await?;
    Ok(entry.map(|entry| {
        let (position, quantity) = (entry.position, Quantity::from_micro(entry.quantity));
        (Recorded { position, quantity, late: entry.body.as_deref() == Some(LATE_COMMIT) }, entry)
    }))
}

fn millis(length: Duration) -> Result<i64> {
    i64::try_from(length.as_millis()).map_err(Error::internal)
}

/// Whether a reservation was committed by now. Nobody commits before it is held, nor is it held for longer than a day.
pub(super) fn is_committed(tx: &mut Tx<'_>, id: &str, expires_ms: i64, now_ms: i64) -> Result<bool> {
    let days = (expires_ms - TTL_MAX_MS).div_euclid(log::DAY_MS)..=now_ms.div_euclid(log::DAY_MS) + 1;
    Ok(log::newest(tx, days, &ids::entry_id(SPACE, id))?.is_some())
}
