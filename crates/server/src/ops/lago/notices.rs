//! Lago's webhooks: verified, kept under Lago's own key of them, answered, and applied by the job. Of what Lago tells, one
//! thing concerns us: events that it took and then found no use for.

use std::time::Duration;

use secrecy::SecretString;
use serde_json::Value;
use tokio::time::Instant;

use super::codes::Codes;
use super::event::{self, Event};
use super::names::Names;
use super::{Lago, configured};
use crate::app::App;
use crate::error::{Error, Result};
use crate::gateways::lago::{read, signature};
use crate::store::lago::{self, Dead, Sum};
use crate::store::{Tx, log};

/// A key that could not be fetched, or that did not fit, is asked for again after this time at the earliest: whoever sends
/// us nonsense must not make us ask Lago.
const KEY_PAUSE: Duration = Duration::from_secs(30);
const UNIQUE_KEY_MAX: usize = 255;

/// A webhook as it arrived.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    pub signature: Option<&'a str>,
    pub algorithm: Option<&'a str>,
    pub unique_key: Option<&'a str>,
    pub body: &'a [u8],
}

/// Lago's public key, and when it was last asked for.
#[derive(Debug, Default)]
pub struct KeptKey {
    key: Option<signature::PublicKey>,
    asked: Option<Instant>,
}

/// Verifies a webhook and keeps it; the same one again is kept once.
///
/// # Errors
/// `NotFound` where no webhook can be verified: Lago is not configured, or its key cannot be fetched. `Unauthenticated` where
/// this one is not Lago's.
pub async fn receive(app: &App, delivery: Delivery<'_>) -> Result<()> {
    let ours = app.lago.as_ref().ok_or(Error::NotFound)?;
    let genuine = match &app.config.lago_webhook_secret {
        Some(secret) => is_hmac(secret, &delivery),
        None => is_jwt(ours, &delivery).await?,
    };
    if !genuine {
        return Err(Error::Unauthenticated { code: "lago.signature" });
    }
    let fits = |key: &&str| (1..=UNIQUE_KEY_MAX).contains(&key.len());
    let key = delivery.unique_key.filter(fits);
    let key = key.ok_or_else(|| Error::invalid("X-Lago-Unique-Key", "expected 1 to 255 characters"))?.to_owned();
    let body = String::from_utf8(delivery.body.to_vec())
        .map_err(|_| Error::Malformed { code: "body.malformed", detail: "The body is not valid UTF-8.".to_owned() })?;
    let now_ms = app.clock.now().as_millisecond();
    app.db.write(move |tx| lago::keep_notice(tx, &key, now_ms, &body)).await.map(drop)
}

/// The algorithm is ours to choose: a header that names another one is refused with the signature.
fn is_hmac(secret: &SecretString, delivery: &Delivery<'_>) -> bool {
    let named = delivery.algorithm.is_none_or(|algorithm| algorithm.eq_ignore_ascii_case("hmac"));
    named && delivery.signature.is_some_and(|given| signature::is_hmac(secret, delivery.body, given))
}

async fn is_jwt(ours: &Lago, delivery: &Delivery<'_>) -> Result<bool> {
    let mut kept = ours.webhook_key.lock().await;
    if kept.key.is_none() {
        fetch(ours, &mut kept).await;
    }
    let key = kept.key.clone().ok_or(Error::NotFound)?;
    let named = delivery.algorithm.is_none_or(|algorithm| algorithm.eq_ignore_ascii_case("jwt"));
    let Some(token) = delivery.signature.filter(|_| named) else { return Ok(false) };
    if signature::is_jwt(&key, delivery.body, token) {
        return Ok(true);
    }
    // Lago may have a new key.
    fetch(ours, &mut kept).await;
    let fresh = kept.key.as_ref().filter(|fresh| **fresh != key);
    Ok(fresh.is_some_and(|fresh| signature::is_jwt(fresh, delivery.body, token)))
}

/// Asks Lago for its key, at most once in a while. An outage leaves the one that is known.
async fn fetch(ours: &Lago, kept: &mut KeptKey) {
    let now = Instant::now();
    if kept.asked.is_some_and(|asked| now.saturating_duration_since(asked) < KEY_PAUSE) {
        return;
    }
    kept.asked = Some(now);
    match ours.gateway.get("/webhooks/json_public_key", &[]).await {
        Ok(answer) => {
            let key = read::public_key(&answer).and_then(|text| signature::PublicKey::read(&text));
            if key.is_none() {
                tracing::warn!("the public key that Lago shows cannot be read");
            }
            kept.key = key.or(kept.key.take());
        }
        Err(error) => tracing::warn!(%error, "Lago's public key was not fetched"),
    }
}

/// Applies the webhooks that were kept; how many.
pub async fn apply(app: &App) -> Result<u64> {
    configured(app)?;
    let mut applied = 0;
    loop {
        if app.db.read(|tx| lago::notices(tx, 1)).await?.is_empty() {
            return Ok(applied);
        }
        let now_ms = app.clock.now().as_millisecond();
        let count = app
            .db
            .write(move |tx| {
                let waiting = lago::notices(tx, 20)?;
                for (key, body) in &waiting {
                    apply_one(tx, body, now_ms)?;
                    lago::notice_applied(tx, key, now_ms)?;
                }
                Ok(waiting.len() as u64)
            })
            .await?;
        applied += count;
    }
}

/// `events.errors` has lists of transaction ids, each under the name of what is wrong with them.
fn apply_one(tx: &mut Tx<'_>, body: &str, now_ms: i64) -> Result<()> {
    let Ok(body) = serde_json::from_str::<Value>(body) else { return Ok(()) };
    if body["webhook_type"] != "events.errors" {
        return Ok(());
    }
    let object = body["object_type"].as_str().unwrap_or("events_errors");
    let Some(lists) = body[object].as_object() else { return Ok(()) };
    for (reason, list) in lists {
        for id in list.as_array().into_iter().flatten().filter_map(Value::as_str) {
            disown(tx, id, reason, now_ms)?;
        }
    }
    Ok(())
}

/// An event that was delivered and is not counted: a dead letter, and no longer among what was delivered.
fn disown(tx: &mut Tx<'_>, transaction_id: &str, reason: &str, now_ms: i64) -> Result<()> {
    if lago::is_dead(tx, transaction_id)? {
        return Ok(());
    }
    let Some(event) = rebuilt(tx, transaction_id)? else {
        tracing::info!(lago.transaction_id = transaction_id, reason, "Lago has no use for an event that is not ours");
        return Ok(());
    };
    let (user, position, event) = event;
    let sum = event.sum()?;
    lago::add_sum(tx, &Sum { units: sum.units.saturating_neg(), events: -1, ..sum })?;
    tracing::warn!(lago.transaction_id = transaction_id, reason, "Lago took an event and has no use for it");
    lago::bury(
        tx,
        &Dead {
            transaction_id: transaction_id.to_owned(),
            position,
            user,
            reason: reason.to_owned(),
            dead_ms: now_ms,
            event: event.line()?,
            stored: true,
            replay: false,
        },
    )
}

/// The event of one of our entries, as it was sent: whose it is, and where it stands in the log.
fn rebuilt(tx: &mut Tx<'_>, transaction_id: &str) -> Result<Option<(String, i64, Event)>> {
    let Some((day, id)) = event::entry_of(transaction_id) else { return Ok(None) };
    let of_its_day = log::known(tx, day, &id)?;
    // Corrections are known by their name and not by a day.
    let known = if of_its_day.is_some() { of_its_day } else { log::known(tx, log::NAMED, &id)? };
    let Some(known) = known else { return Ok(None) };
    let Some(entry) = log::at(tx, known.position)? else { return Ok(None) };
    let names = Names::read(tx, &entry.user)?;
    let Some(external_id) = names.of(&entry) else { return Ok(None) };
    let codes = Codes::read(tx)?;
    let Some(code) = codes.of(&entry) else { return Ok(None) };
    let moved = lago::moved(tx, known.position - 1, known.position)?;
    let at_ms = moved.get(&known.position).copied().unwrap_or(entry.event_ms);
    let event = event::counted_at(&entry, external_id, code, at_ms);
    Ok((event.transaction_id == transaction_id).then_some((entry.user, known.position, event)))
}
