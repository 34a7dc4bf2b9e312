//! Lago: what was used goes there from the log, counted once whatever happens on the way. Nothing of it is on a request's
//! path: a Lago that is down for a day costs nobody anything but a longer way to catch up.
//!
//! A cursor walks over the log. What it passes becomes a window of exact events, which is stored before the first try and
//! repeated byte for byte until each of its events is delivered or dead, or their month is over (see `overdue`). Lago drops what it has
//! seen before by its transaction id, which is made once of the entry, so sending at least once counts once.

pub mod again;
pub mod billed;
pub mod codes;
pub mod draft;
pub mod ensure;
pub mod event;
pub mod examine;
pub mod names;
pub mod notices;
mod overdue;
pub mod owed;
pub mod reconcile;
pub mod replay;
mod settling;
pub mod setup;
pub mod ship;
pub mod start;
pub mod strangers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

pub use examine::examine;

use crate::app::App;
use crate::error::{Error, Result};
use crate::gateways::lago as gateway;
use crate::store::{lago, leases, log};
use crate::telemetry::LagoNumbers;

/// The part of the program that knows Lago; there is none where Lago is not configured.
#[derive(Debug)]
pub struct Lago {
    pub gateway: gateway::Lago,
    pub numbers: Arc<LagoNumbers>,
    /// As many events as Lago, or what stands before it, has taken at once.
    batch: AtomicUsize,
    /// Held by whoever sends: one request with events in flight.
    turn: tokio::sync::Mutex<()>,
    webhook_key: tokio::sync::Mutex<notices::KeptKey>,
}

impl Lago {
    pub fn new(gateway: gateway::Lago) -> Self {
        Self {
            gateway,
            numbers: Arc::default(),
            batch: AtomicUsize::new(draft::BATCH),
            turn: tokio::sync::Mutex::default(),
            webhook_key: tokio::sync::Mutex::default(),
        }
    }
}

/// Lago, or that it is not configured.
pub fn configured(app: &App) -> Result<&Lago> {
    let detail = || "LAGO_API_URL and LAGO_API_KEY are not set".to_owned();
    app.lago.as_ref().ok_or_else(|| Error::Conflict { code: "lago.not_configured", detail: detail() })
}

const LEASE: &str = "lago";
const LEASE_MS: i64 = 60 * 1000;

/// Whether this process is the one that ships, among those that share the database. Two at once would send the same bytes
/// twice, which counts them once and costs requests.
pub async fn is_ours(app: &App) -> Result<bool> {
    let holder = app.holder.clone();
    app.db.write(move |tx| leases::is_ours(tx, LEASE, &holder, LEASE_MS)).await
}

/// How far everything has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The last entry of the log, and the last that is in a window or not for Lago.
    pub head: i64,
    pub position: i64,
    /// Entries between the two, and events of the open window that are still waiting.
    pub depth: u64,
    /// How long the oldest of them has been waiting.
    pub lag_ms: i64,
    pub dead: u64,
    /// Subscriptions whose last comparison found a difference.
    pub differing: u64,
    pub failures: u32,
    pub fault: Option<lago::Fault>,
}

/// What takes longer to count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Details {
    /// Why letters are dead, the most frequent reason first.
    pub dead_reasons: Vec<(String, u64)>,
    /// The same of those that no invoice will have, since their month is billed: somebody has to bill them by hand.
    pub dead_billed: BTreeMap<String, u64>,
    /// Entries that are not for Lago, by reason.
    pub skipped: Vec<(String, u64)>,
    pub subscriptions: u64,
    /// What was used before is not sent; nothing where everything is, or where it is not decided yet.
    pub from: Option<jiff::Timestamp>,
}

/// Counts what nobody needs to know every few seconds.
pub async fn details(app: &App) -> Result<Details> {
    let now_ms = app.clock.now().as_millisecond();
    app.db
        .read(move |tx| {
            let mut dead_billed = BTreeMap::new();
            for letter in replay::billed(lago::dead_stored(tx)?, now_ms)? {
                *dead_billed.entry(letter.reason).or_insert(0) += 1;
            }
            Ok(Details {
                dead_billed,
                dead_reasons: lago::dead_reasons(tx, 20)?,
                skipped: lago::skips(tx)?,
                subscriptions: lago::count_subscriptions(tx)?,
                from: start::shown(tx)?,
            })
        })
        .await
}

/// Looks how far everything has come, and shows it on `/metrics`. Quick enough for a probe.
pub async fn status(app: &App) -> Result<Status> {
    let now_ms = app.clock.now().as_millisecond();
    let status = app
        .db
        .read(move |tx| {
            let (head, cursor, window) = (log::head(tx)?, lago::cursor(tx)?, lago::window(tx)?);
            let waiting: Vec<i64> = window.iter().flat_map(lago::Window::waiting).map(|item| item.position).collect();
            let oldest = match waiting.first() {
                Some(position) => log::at(tx, *position)?,
                None => log::read(tx, cursor.position, 1)?.pop(),
            };
            let behind = u64::try_from(head.saturating_sub(cursor.position)).unwrap_or(0);
            Ok(Status {
                head,
                position: cursor.position,
                depth: behind + waiting.len() as u64,
                lag_ms: oldest.map_or(0, |entry| now_ms.saturating_sub(entry.received_ms).max(0)),
                dead: lago::dead_count(tx)?,
                differing: lago::count_differing(tx)?,
                failures: cursor.failures,
                fault: cursor.fault,
            })
        })
        .await;
    if let Some(lago) = &app.lago {
        show(&lago.numbers, status.as_ref().ok());
    }
    status
}

/// Sums are kept for so many days, beyond every monthly period that Lago still shows; applied webhooks for fewer.
const SUMS_KEPT_DAYS: i64 = 100;
const NOTICES_KEPT_DAYS: i64 = 30;

/// Removes what nobody will compare or repeat any more.
pub async fn sweep(app: &App) -> Result<()> {
    let now_ms = app.clock.now().as_millisecond();
    let before = move |days: i64| now_ms.saturating_sub(days * log::DAY_MS);
    app.db
        .write(move |tx| {
            lago::sweep_sums(tx, before(SUMS_KEPT_DAYS))?;
            lago::sweep_notices(tx, before(NOTICES_KEPT_DAYS))
        })
        .await
}

/// What the database does not tell is not known, and not shown.
fn show(numbers: &LagoNumbers, status: Option<&Status>) {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    numbers.depth.note(status.map(|status| count(status.depth)));
    numbers.lag_ms.note(status.map(|status| status.lag_ms));
    numbers.dead.note(status.map(|status| count(status.dead)));
    numbers.differing.note(status.map(|status| count(status.differing)));
    numbers.failures.note(status.map(|status| i64::from(status.failures)));
}
