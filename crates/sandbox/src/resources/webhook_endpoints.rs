//! Webhook endpoints: where events are sent, which, and in the shape of which version.

use super::{Answer, Call, Reply, changed, deleted, find, list};
use crate::error::StripeError;
use crate::events;
use crate::kind::Kind;
use crate::params::{Field, Params, Spec, opt, req};
use crate::version::Version;
use crate::world::{World, opaque};
use serde_json::{Value, json};
use std::sync::Arc;

/// Stripe's own limit for test mode and live mode each.
const MOST: usize = 16;

pub(crate) const CREATE: &[Field] = &[
    req("enabled_events", Spec::List(&Spec::Text)),
    req("url", Spec::Text),
    opt("api_version", Spec::Text),
    opt("connect", Spec::Unsupported),
    opt("description", Spec::Clearable),
    opt("metadata", Spec::Metadata),
];

pub(crate) const UPDATE: &[Field] = &[
    opt("description", Spec::Clearable),
    opt("disabled", Spec::Bool),
    opt("enabled_events", Spec::List(&Spec::Text)),
    opt("metadata", Spec::Metadata),
    opt("url", Spec::Text),
];

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    list(world, Kind::WebhookEndpoint, call, &[])
}

pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    check(sent)?;
    if let Some(version) = sent.text("api_version") {
        Version::parse(version).map_err(|error| error.param("api_version"))?;
    }
    if world.store.held(Kind::WebhookEndpoint).count() >= MOST {
        let text = format!("You have reached the maximum of {MOST} test webhook endpoints.");
        return Err(StripeError::invalid(text));
    }
    let id = world.id("we");
    let secret = format!("whsec_{}", opaque(world.born().unsigned_abs() ^ 0x5EC, world.store.next(), 32));
    let mut endpoint = json!({
        "id": id, "object": "webhook_endpoint", "api_version": sent.text("api_version"), "application": null,
        "created": world.now, "description": null, "enabled_events": [], "livemode": false, "metadata": {},
        "status": "enabled", "url": null
    });
    write(&mut endpoint, sent);
    world.store.put(Kind::Secret, json!({"id": id, "created": world.now, "secret": secret}));
    let stored = world.store.put(Kind::WebhookEndpoint, endpoint);
    let mut shown = (*stored).clone();
    shown["secret"] = json!(secret);
    Ok(Reply::One(Arc::new(shown)))
}

fn write(endpoint: &mut Value, sent: &Params) {
    sent.assign(endpoint, &["description", "enabled_events", "url"]);
    sent.merge_metadata(endpoint);
    if let Some(disabled) = sent.flag("disabled") {
        endpoint["status"] = json!(if disabled { "disabled" } else { "enabled" });
    }
}

fn check(sent: &Params) -> Result<(), StripeError> {
    if let Some(url) = sent.text("url") {
        let good = url.strip_prefix("http://").or(url.strip_prefix("https://"));
        if !good.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/')) {
            let text = "Invalid URL: An explicit scheme (such as https) must be provided.";
            return Err(StripeError::invalid(text).code("url_invalid").param("url"));
        }
    }
    let asked = sent.list("enabled_events");
    if sent.get("enabled_events").is_some() && asked.is_empty() {
        return Err(StripeError::missing("enabled_events"));
    }
    for (place, name) in asked.iter().enumerate() {
        let name = name.as_str().unwrap_or_default();
        if name != "*" && !events::names().contains(name) {
            let text = format!("Invalid enabled_events[{place}]: must be one of the known types of event, or *");
            return Err(StripeError::invalid(text).param(format!("enabled_events[{place}]")));
        }
    }
    Ok(())
}

pub(crate) fn update(world: &mut World, call: &Call<'_>) -> Answer {
    let mut endpoint = (*find(&world.store, Kind::WebhookEndpoint, call.id())?).clone();
    check(&call.params)?;
    write(&mut endpoint, &call.params);
    changed(world, Kind::WebhookEndpoint, endpoint)
}

pub(crate) fn delete(world: &mut World, call: &Call<'_>) -> Answer {
    find(&world.store, Kind::WebhookEndpoint, call.id())?;
    world.store.delete(Kind::WebhookEndpoint, call.id());
    world.store.delete(Kind::Secret, call.id());
    world.queue.forget(call.id());
    Ok(deleted(Kind::WebhookEndpoint, call.id()))
}
