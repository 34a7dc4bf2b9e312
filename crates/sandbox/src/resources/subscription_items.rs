//! Subscription items: they live in their subscription.

use super::{Answer, Call, Reply, named};
use crate::error::StripeError;
use crate::kind::{Index, Kind};
use crate::params::{Field, Spec, req};
use crate::world::{World, array};
use serde_json::Value;
use std::sync::Arc;

pub(crate) const LIST: &[Field] = &[req("subscription", Spec::Text)];

/// Newest first like every list; there are few, so cursors are looked up in place.
pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    let subscription = named(&world.store, Kind::Subscription, call.params.need("subscription")?, "subscription")?;
    let mut items: Vec<&Value> = array(&subscription["items"]["data"]).iter().collect();
    let place = |param: &str, items: &[&Value]| match call.params.text(param) {
        Some(id) => match items.iter().position(|item| item["id"] == id) {
            Some(place) => Ok(Some(place)),
            None => Err(StripeError::no_such("subscription_item", id, param)),
        },
        None => Ok(None),
    };
    let limit = call.params.int("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(10);
    let mut has_more = false;
    if let Some(place) = place("starting_after", &items)? {
        items.drain(..=place);
    } else if let Some(place) = place("ending_before", &items)? {
        items.truncate(place);
        has_more = items.len() > limit;
        items.drain(..items.len().saturating_sub(limit));
    }
    has_more |= items.len() > limit;
    items.truncate(limit);
    let rows = items.into_iter().map(|item| Arc::new(item.clone())).collect();
    Ok(Reply::Page { url: call.path.to_owned(), rows, has_more })
}

pub(crate) fn one(world: &World, call: &Call<'_>) -> Answer {
    let missing = || StripeError::not_found("subscription_item", call.id(), "item");
    let subscription = world.store.newest(Kind::Subscription, Index::Item, call.id()).ok_or_else(missing)?;
    let item = array(&subscription["items"]["data"]).iter().find(|item| item["id"] == call.id());
    item.map(|item| Reply::One(Arc::new(item.clone()))).ok_or_else(missing)
}
