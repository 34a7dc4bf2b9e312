//! Events: what happened in the last thirty days, in the shape of the account's own version.

use super::{Answer, Call, Reply};
use crate::error::StripeError;
use crate::events::Wanted;
use crate::kind::Kind;
use crate::params::{Field, Spec, opt, req};
use crate::store::Row;
use crate::version::{DEFAULT, Version};
use crate::world::World;
use serde_json::Value;
use std::sync::Arc;

pub(crate) const LIST: &[Field] =
    &[opt("type", Spec::Text), opt("types", Spec::List(&Spec::Text)), opt("delivery_success", Spec::Bool)];

pub(crate) const RETRY: &[Field] = &[req("webhook_endpoint", Spec::Text)];

fn written(world: &World, event: &crate::events::Event) -> Result<Arc<Value>, StripeError> {
    let version = Version::parse(DEFAULT)?;
    Ok(Arc::new(event.written(&world.store, &version, DEFAULT)))
}

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    let mut names: Vec<&str> = sent.list("types").iter().filter_map(Value::as_str).collect();
    if names.len() > 20 {
        return Err(StripeError::invalid("You may pass at most 20 types.").param("types"));
    }
    if let Some(name) = sent.text("type") {
        if !names.is_empty() {
            return Err(StripeError::invalid("You may only specify one of these parameters: type, types."));
        }
        names.push(name);
    }
    let (from, before) = super::bounds(sent.get("created"));
    let wanted = Wanted { names, delivered: sent.flag("delivery_success"), from, before };
    let place = |param: &str| match sent.text(param) {
        Some(id) => match world.events.get(id) {
            Some(event) => Ok(Some(event.key)),
            None => Err(StripeError::no_such("event", id, param)),
        },
        None => Ok(None),
    };
    let (after, before) = (place("starting_after")?, place("ending_before")?);
    if after.is_some() && before.is_some() {
        let text = "Received both starting_after and ending_before parameters. Please pass in only one.";
        return Err(StripeError::invalid(text));
    }
    let limit = sent.int("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(10);
    let (events, has_more) = world.events.page(&wanted, after, before, limit);
    let rows: Result<Vec<Row>, StripeError> =
        events.into_iter().map(|event| written(world, event).map(Row::Made)).collect();
    Ok(Reply::Page { url: call.path.to_owned(), rows: rows?, has_more })
}

fn find<'a>(world: &'a World, call: &Call<'_>) -> Result<&'a Arc<crate::events::Event>, StripeError> {
    world.events.get(call.id()).ok_or_else(|| StripeError::not_found("event", call.id(), "id"))
}

pub(crate) fn one(world: &World, call: &Call<'_>) -> Answer {
    written(world, find(world, call)?).map(Reply::One)
}

/// Sends an event to one endpoint once more, as `stripe events resend` asks.
pub(crate) fn retry(world: &mut World, call: &Call<'_>) -> Answer {
    let event = Arc::clone(find(world, call)?);
    let endpoint = call.params.need("webhook_endpoint")?;
    super::named(&world.store, Kind::WebhookEndpoint, endpoint, "webhook_endpoint")?;
    world.queue.post_again(&event, endpoint, world.wall);
    written(world, &event).map(Reply::One)
}
