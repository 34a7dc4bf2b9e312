//! Takes a webhook of Stripe's: proves it, keeps it, and that is all. A job applies it.

use std::sync::atomic::Ordering;

use super::targets;
use crate::app::App;
use crate::error::{Error, Result};
use crate::gateways::stripe::read::{self, ReadError};
use crate::gateways::stripe::signature;
use crate::store::webhooks::{self, Source, State};

/// Proves a webhook by its raw body and keeps its event; the same event again is kept once. `Ok` means that it is on disk.
///
/// # Errors
/// `NotFound` where no secret is known. `webhook.signature` where it is not signed with one, and nothing is kept.
/// `webhook.thin` for an event that does not carry its object.
pub async fn receive(app: &App, header: Option<&str>, body: &[u8]) -> Result<()> {
    let secrets = &app.config.webhook_secrets;
    if secrets.is_empty() {
        return Err(Error::NotFound);
    }
    let now = app.clock.now();
    signature::verify(header, body, secrets, now).map_err(|unsigned| {
        app.webhooks.refused.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(reason = %unsigned, "a webhook is not signed as Stripe signs");
        malformed("webhook.signature", format!("Not taken: {unsigned}."))
    })?;
    let raw = std::str::from_utf8(body)
        .map_err(|_| malformed("body.malformed", "The body is not valid UTF-8.".to_owned()))?;
    let event = read::event(raw).map_err(|error| match error {
        ReadError::ThinEvent => malformed("webhook.thin", error.to_string()),
        ReadError::NotJson | ReadError::NotAnObject | ReadError::NoId => {
            malformed("body.malformed", format!("The body is no event of Stripe's: {error}."))
        }
    })?;
    let (kept, raw) = (targets::judged(&app.config, &event, Source::Webhook, now), raw.to_owned());
    if let State::Quarantined { reason } = &kept.state {
        tracing::warn!(event.id = kept.id, event.kind = kept.kind, reason, "an event is not applied");
    }
    let new = app.db.write(move |tx| webhooks::keep(tx, &kept, &raw)).await?;
    let counter = if new { &app.webhooks.received } else { &app.webhooks.repeated };
    counter.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

fn malformed(code: &'static str, detail: String) -> Error {
    Error::Malformed { code, detail }
}
