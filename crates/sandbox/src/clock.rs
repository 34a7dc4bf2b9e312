//! The sandbox's clock: it follows the one that was given and can be put forward; what was due until then happens on the way,
//! each thing at its own instant, with the webhooks about it delivered before time goes on.

use crate::error::StripeError;
use crate::http::Desk;
use crate::kind::Kind;
use crate::lifecycle::{self, Dunning};
use crate::version::{DEFAULT, Version};
use crate::webhooks::chaos::Chaos;
use crate::webhooks::courier::Parcel;
use crate::webhooks::{Delivery, Letter, signature};
use serde_json::json;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How the sandbox's time differs from the clock that was given.
#[derive(Debug, Default)]
pub(crate) struct Time {
    /// Seconds ahead.
    pub(crate) ahead: i64,
    /// Where the clock stands while it is being put forward.
    pub(crate) step: Option<i64>,
}

impl Desk {
    /// The instant on the sandbox's clock, seconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        let time = self.time.lock().unwrap_or_else(PoisonError::into_inner);
        time.step.unwrap_or_else(|| self.given() + time.ahead)
    }

    /// The instant on the clock that was given, which is the one that receivers of signatures know.
    fn given(&self) -> i64 {
        (self.clock)().as_second()
    }

    fn stand_at(&self, step: Option<i64>) {
        self.time.lock().unwrap_or_else(PoisonError::into_inner).step = step;
    }

    /// Lets everything happen that is due by now. Cheap where nothing is.
    pub(crate) fn catch_up(&self) {
        let now = self.now();
        if self.read().events.is_stale(now) {
            self.write().events.sweep(now);
        }
        if self.read().store.next_due("").is_none_or(|due| due.at > now) {
            return;
        }
        lifecycle::run(&mut self.write(), now);
        self.bell.notify_one();
    }

    /// Puts the clock forward.
    pub(crate) async fn advance(&self, by: Duration) {
        let _turn = self.advancing.lock().await;
        self.catch_up();
        self.quiet().await;
        let seconds = i64::try_from(by.as_secs()).unwrap_or(i64::MAX / 4);
        let (mut at, until) = (self.now(), self.now().saturating_add(seconds));
        while let Some(next) = self.next_instant().filter(|next| *next <= until) {
            at = next.max(at);
            self.stand_at(Some(at));
            lifecycle::run(&mut self.write(), at);
            self.quiet().await;
            tokio::task::yield_now().await;
        }
        self.arrive(seconds);
        self.quiet().await;
    }

    /// The clock runs on from its new place, also after a restart.
    fn arrive(&self, seconds: i64) {
        let ahead = {
            let mut time = self.time.lock().unwrap_or_else(PoisonError::into_inner);
            time.ahead = time.ahead.saturating_add(seconds);
            time.step = None;
            time.ahead
        };
        // An error is in the log by now, and the clock has moved all the same.
        let _ = self.work(|world| {
            world.set("clock_ahead", json!(ahead));
            Ok(())
        });
    }

    /// When something happens next: to an object, or to a message.
    fn next_instant(&self) -> Option<i64> {
        let world = self.read();
        let due = world.store.next_due("").map(|due| due.at);
        due.into_iter().chain(world.queue.next_at()).min()
    }

    /// Waits until every webhook that is due has been tried.
    pub(crate) async fn quiet(&self) {
        loop {
            let calm = self.calm.notified();
            if self.read().queue.is_quiet(self.now()) {
                return;
            }
            self.bell.notify_one();
            let _ = tokio::time::timeout(Duration::from_millis(20), calm).await;
        }
    }

    /// Returns when there may be something to deliver.
    pub(crate) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// The endpoints with due messages, for one courier each.
    pub(crate) fn claim_endpoints(&self) -> Vec<Arc<str>> {
        let now = self.now();
        if self.read().queue.next_at().is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.write().queue.claim(now)
    }

    /// The next message for this endpoint, in its shape and signed with its secret.
    pub(crate) fn next_letter(&self, endpoint: &Arc<str>) -> Option<(Letter, Parcel)> {
        let now = self.now();
        let mut world = self.write();
        loop {
            let Some(letter) = world.queue.take(endpoint, now) else {
                self.calm.notify_waiters();
                return None;
            };
            let open = world.store.get(Kind::WebhookEndpoint, endpoint).filter(|row| row["status"] == "enabled");
            let secret = world.store.get(Kind::Secret, endpoint);
            let (Some(open), Some(secret)) = (open, secret) else {
                letter.event.delivered();
                world.note_delivered(&letter.event.id, endpoint);
                continue;
            };
            let label = open["api_version"].as_str().unwrap_or(DEFAULT);
            let Ok(version) = Version::parse(label) else { continue };
            let event = letter.event.written(&world.store, &version, label);
            let body = serde_json::to_vec_pretty(&event).unwrap_or_default();
            let signature = signature::header(secret["secret"].as_str().unwrap_or_default(), self.given(), &body);
            let url = open["url"].as_str().unwrap_or_default().to_owned();
            return Some((letter, Parcel { url, signature, body }));
        }
    }

    pub(crate) fn letter_tried(&self, letter: Letter, answer: &Result<u16, String>) {
        let now = self.now();
        let (event, endpoint) = (Arc::clone(&letter.event), Arc::clone(&letter.endpoint));
        let mut world = self.write();
        if world.queue.tried(letter, now, answer) {
            world.note_delivered(&event.id, &endpoint);
        }
    }

    pub(crate) fn set_dunning(&self, then: Dunning) -> Result<(), StripeError> {
        self.work(|world| {
            then.keep(world);
            Ok(())
        })
    }

    pub(crate) fn deliveries(&self) -> Vec<Delivery> {
        self.read().queue.tries()
    }

    pub(crate) fn chaos(&self) -> Chaos {
        self.read().queue.chaos()
    }

    pub(crate) fn set_chaos(&self, chaos: Chaos) {
        self.write().queue.set_chaos(chaos);
    }
}
