//! Which entry a name stands for. An event is told by its transaction id, and several may have the same one: on two days, from
//! two sources, or an event and a reservation. Nobody guesses which of them is meant.

use std::fmt::Write;

use billing::time;
use billing::usage::Quantity;
use jiff::Timestamp;

use super::ids;
use crate::app::App;
use crate::error::{Error, Result};
use crate::store::log::{self, DAY_MS, Kind, Logged};

/// How many entries are looked through in one read.
const STEP: i64 = 50_000;
/// How many of one name are shown.
const SHOWN: usize = 5;

/// Which of the entries that have a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// There is only one.
    Only,
    /// That of this instant, or else of its day.
    At(Timestamp),
    /// That of the day (UTC) that begins then.
    On(Timestamp),
    /// That at this place in the log.
    Position(i64),
}

impl Which {
    /// Reads an instant (RFC 3339) or a day, such as `2026-11-18`.
    pub fn read(text: &str) -> Option<Self> {
        let day = || time::parse(&format!("{text}T00:00:00Z")).ok().map(Self::On);
        time::parse(text).ok().map(Self::At).or_else(day)
    }
}

impl From<Option<Timestamp>> for Which {
    fn from(at: Option<Timestamp>) -> Self {
        at.map_or(Self::Only, Self::At)
    }
}

/// The usage that a transaction id of ours or of Lago's names, the newest within the window.
pub async fn live(app: &App, transaction_id: &str) -> Result<Option<Logged>> {
    let id = ids::entry_id("", transaction_id);
    let window = i64::try_from(app.config.usage_window.as_millis()).map_err(Error::internal)?;
    let now_ms = app.clock.now().as_millisecond();
    let [first, last] = [now_ms - window, now_ms].map(|at_ms| at_ms.div_euclid(DAY_MS));
    let found = app.db.read(move |tx| log::newest(tx, first..=last + 1, &id)).await?;
    Ok(found.filter(|entry| entry.kind == Kind::Usage))
}

/// The usage that a transaction id names. The whole log is looked through: ids of other notations, of reservations and of old
/// history are kept in other places, and none of them may be missed.
pub async fn usage_named(app: &App, transaction_id: &str, which: Which) -> Result<Logged> {
    let mut named = match which {
        Which::Position(position) => app.db.read(move |tx| log::at(tx, position)).await?.into_iter().collect(),
        Which::Only | Which::At(_) | Which::On(_) => all_named(app, transaction_id).await?,
    };
    named.retain(|entry| entry.kind == Kind::Usage && entry.transaction_id == transaction_id);
    if let Which::At(at) | Which::On(at) = which {
        let at_ms = at.as_millisecond();
        named.retain(|entry| entry.event_ms.div_euclid(DAY_MS) == at_ms.div_euclid(DAY_MS));
        if matches!(which, Which::At(_)) && named.iter().any(|entry| entry.event_ms == at_ms) {
            named.retain(|entry| entry.event_ms == at_ms);
        }
    }
    match named.len() {
        0 => Err(Error::NotFound),
        1 => Ok(named.swap_remove(0)),
        _ => Err(Error::Conflict { code: "conflict", detail: several(&named) }),
    }
}

async fn all_named(app: &App, transaction_id: &str) -> Result<Vec<Logged>> {
    let (head, mut after) = (app.db.read(log::head).await?, 0);
    let mut named = Vec::new();
    while after < head {
        let (name, to) = (transaction_id.to_owned(), head.min(after + STEP));
        named.extend(app.db.read(move |tx| log::usage_named(tx, &name, after, to)).await?);
        after = to;
    }
    Ok(named)
}

fn several(named: &[Logged]) -> String {
    let mut text = format!("{} events have this id; say which one with --position:", named.len());
    for entry in named.iter().take(SHOWN) {
        let at = Timestamp::from_millisecond(entry.event_ms).map(time::wire).unwrap_or_default();
        let Logged { position, event_type, user, source, .. } = entry;
        let quantity = Quantity::from_micro(entry.quantity);
        let _ = write!(text, " {position} ({quantity} {event_type} of {user} at {at}, {});", source.as_str());
    }
    let more = named.len().saturating_sub(SHOWN);
    if more > 0 {
        let _ = write!(text, " and {more} more");
    }
    text.trim_end_matches(';').to_owned()
}
