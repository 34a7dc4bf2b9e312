//! What Stripe's nouns are and do here: a file for each. This one holds what they share: a call, an answer, a list.

pub(crate) mod account;
pub(crate) mod added_items;
pub(crate) mod balances;
pub(crate) mod billing;
pub(crate) mod cash_balances;
pub(crate) mod charges;
pub(crate) mod checkout_rows;
pub(crate) mod checkout_sessions;
pub(crate) mod collection;
pub(crate) mod coupons;
pub(crate) mod credit_note_lines;
pub(crate) mod credit_notes;
pub(crate) mod currencies;
pub(crate) mod customers;
pub(crate) mod debits;
pub(crate) mod discounts;
pub(crate) mod disputes;
pub(crate) mod events;
pub(crate) mod funds;
pub(crate) mod invoice_payments;
pub(crate) mod invoice_writes;
pub(crate) mod invoiceitems;
pub(crate) mod invoices;
pub(crate) mod issuing;
pub(crate) mod lines;
pub(crate) mod meters;
pub(crate) mod payment_intents;
pub(crate) mod payment_links;
pub(crate) mod payment_methods;
pub(crate) mod payments;
pub(crate) mod plain;
pub(crate) mod plans;
pub(crate) mod portal;
pub(crate) mod previews;
pub(crate) mod prices;
pub(crate) mod products;
pub(crate) mod promotion_codes;
pub(crate) mod prorations;
pub(crate) mod quotes;
pub(crate) mod refunds;
pub(crate) mod report_runs;
pub(crate) mod schedule_phases;
pub(crate) mod setup_intents;
pub(crate) mod shares;
pub(crate) mod shipping_rates;
pub(crate) mod sources;
pub(crate) mod subscription_changes;
pub(crate) mod subscription_items;
pub(crate) mod subscription_schedules;
pub(crate) mod subscription_status;
pub(crate) mod subscriptions;
pub(crate) mod tax_ids;
pub(crate) mod tax_rates;
pub(crate) mod taxes;
pub(crate) mod test_clocks;
pub(crate) mod verification_sessions;
pub(crate) mod webhook_endpoints;

use crate::error::StripeError;
use crate::kind::{Index, Kind};
use crate::params::Params;
use crate::store::{Query, Row, Start, Store};
use crate::version::{DEFAULT, Version};
use crate::world::World;
use serde_json::{Value, json};
use std::sync::Arc;

/// One request that has passed the door: whom it names in its path, and what it asks.
pub(crate) struct Call<'a> {
    pub(crate) path: &'a str,
    pub(crate) ids: Vec<&'a str>,
    pub(crate) params: Params,
    /// `object` of what the path is about.
    pub(crate) object: &'static str,
    /// Which age of the API the caller speaks.
    pub(crate) version: Version,
}

impl<'a> Call<'a> {
    /// What nobody asked for over the wire: a form on a page, a phase that begins.
    pub(crate) fn ours(object: &'static str, ids: Vec<&'a str>, params: Params) -> Result<Call<'a>, StripeError> {
        Ok(Call { path: "", ids, params, object, version: Version::parse(DEFAULT)? })
    }

    /// What the same caller asks of something else by it.
    pub(crate) fn about<'b>(&'b self, object: &'static str, ids: Vec<&'b str>, params: Params) -> Call<'b> {
        Call { path: self.path, ids, params, object, version: self.version.clone() }
    }

    /// The id in the path, `/v1/customers/{this}`.
    pub(crate) fn id(&self) -> &str {
        self.ids.first().copied().unwrap_or_default()
    }

    /// The kind of what the path is about, where it has a table.
    pub(crate) fn kind(&self) -> Result<Kind, StripeError> {
        Kind::parse(self.object).ok_or_else(|| StripeError::unsupported(self.object))
    }
}

/// An answer, still in the newest shape.
pub(crate) enum Reply {
    One(Arc<Value>),
    Page { url: String, rows: Vec<Row>, has_more: bool },
}

pub(crate) type Answer = Result<Reply, StripeError>;

/// The object that the path names.
pub(crate) fn find(store: &Store, kind: Kind, id: &str) -> Result<Arc<Value>, StripeError> {
    store.get(kind, id).ok_or_else(|| StripeError::not_found(kind.noun(), id, kind.id_param()))
}

/// The object that a parameter names.
pub(crate) fn named(store: &Store, kind: Kind, id: &str, param: &str) -> Result<Arc<Value>, StripeError> {
    store.get(kind, id).ok_or_else(|| StripeError::no_such(kind.noun(), id, param))
}

/// Retrieves by id what the path is about.
pub(crate) fn retrieve(world: &World, call: &Call<'_>) -> Answer {
    find(&world.store, call.kind()?, call.id()).map(Reply::One)
}

/// A list narrowed by indexes, each taken from the parameter of the name given.
pub(crate) fn list(world: &World, kind: Kind, call: &Call<'_>, filters: &[(&str, Index)]) -> Answer {
    list_where(world, kind, call, narrow(call, filters))
}

/// The query that these parameters make.
pub(crate) fn narrow<'a>(call: &Call<'_>, filters: &[(&str, Index)]) -> Query<'a> {
    let mut query = Query::default();
    for (name, index) in filters {
        match call.params.get(name) {
            Some(Value::String(text)) => query.equal.push((*index, Arc::from(text.as_str()))),
            Some(Value::Bool(flag)) => query.equal.push((*index, Arc::from(flag.to_string()))),
            _ => {}
        }
    }
    query
}

/// A list of what the query wants, paged and cut by creation time as the parameters say.
pub(crate) fn list_where(world: &World, kind: Kind, call: &Call<'_>, mut query: Query<'_>) -> Answer {
    let (low, high) = bounds(call.params.get("created"));
    (query.from, query.before) = (low, high);
    let start = start(world, kind, call)?;
    let limit = limit(call);
    let page = world.store.page(kind, &query, start, limit);
    Ok(Reply::Page { url: call.path.to_owned(), rows: page.rows, has_more: page.has_more })
}

fn limit(call: &Call<'_>) -> usize {
    call.params.int("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(10)
}

fn start(world: &World, kind: Kind, call: &Call<'_>) -> Result<Start, StripeError> {
    let place =
        |param: &str, id: &str| world.store.place(kind, id).ok_or_else(|| StripeError::no_such(kind.noun(), id, param));
    match (call.params.text("starting_after"), call.params.text("ending_before")) {
        (Some(_), Some(_)) => Err(both_ways()),
        (Some(id), None) => place("starting_after", id).map(Start::After),
        (None, Some(id)) => place("ending_before", id).map(Start::Before),
        (None, None) => Ok(Start::Newest),
    }
}

/// A list that is whole at hand, in its own order: cursors are looked up in place.
pub(crate) fn in_place(call: &Call<'_>, noun: &str, mut rows: Vec<Arc<Value>>) -> Answer {
    let place = |param: &str, rows: &[Arc<Value>]| match call.params.text(param) {
        Some(id) => match rows.iter().position(|row| row["id"] == id) {
            Some(place) => Ok(Some(place)),
            None => Err(StripeError::no_such(noun, id, param)),
        },
        None => Ok(None),
    };
    let limit = limit(call);
    let (after, before) = (place("starting_after", &rows)?, place("ending_before", &rows)?);
    let has_more = match (after, before) {
        (Some(_), Some(_)) => return Err(both_ways()),
        (None, Some(place)) => {
            rows.truncate(place);
            let over = rows.len().saturating_sub(limit);
            rows.drain(..over);
            over > 0
        }
        (after, None) => {
            rows.drain(..after.map_or(0, |place| place + 1));
            let over = rows.len() > limit;
            rows.truncate(limit);
            over
        }
    };
    let rows = rows.into_iter().map(Row::Made).collect();
    Ok(Reply::Page { url: call.path.to_owned(), rows, has_more })
}

fn both_ways() -> StripeError {
    let text = "Received both starting_after and ending_before parameters. Please pass in only one.";
    StripeError::invalid(text).code("parameters_exclusive")
}

/// A range parameter as from (inclusive) and before (exclusive).
pub(crate) fn bounds(range: Option<&Value>) -> (Option<i64>, Option<i64>) {
    let Some(range) = range else { return (None, None) };
    if let Some(exact) = range.as_i64() {
        return (Some(exact), Some(exact + 1));
    }
    let at = |name: &str, shift: i64| range[name].as_i64().map(|second| second + shift);
    let low = at("gte", 0).into_iter().chain(at("gt", 1)).max();
    let high = at("lt", 0).into_iter().chain(at("lte", 1)).min();
    (low, high)
}

/// Whether an instant lies in a range parameter.
pub(crate) fn within(range: Option<&Value>, at: Option<i64>) -> bool {
    let (low, high) = bounds(range);
    match at {
        Some(at) => low.is_none_or(|low| at >= low) && high.is_none_or(|high| at < high),
        None => low.is_none() && high.is_none(),
    }
}

/// An embedded list that holds all there is.
pub(crate) fn embedded(url: String, data: Vec<Value>) -> Value {
    let mut list = json!({"object": "list", "data": [], "has_more": false, "url": url});
    // Within `json!` the rows would be copied.
    list["data"] = Value::Array(data);
    list
}

/// A change of an object that is stored.
#[allow(clippy::unnecessary_wraps, reason = "it is what handlers end with")]
pub(crate) fn changed(world: &mut World, kind: Kind, object: Value) -> Answer {
    Ok(Reply::One(world.store.put(kind, object)))
}

/// What Stripe answers to a deletion.
pub(crate) fn deleted(kind: Kind, id: &str) -> Reply {
    Reply::One(Arc::new(json!({"id": id, "object": kind.name(), "deleted": true})))
}

/// How many elements a list has; none where it is missing.
pub(crate) fn array_len(value: &Value) -> usize {
    value.as_array().map_or(0, Vec::len)
}

/// An address with all its members, those not given being null.
pub(crate) fn address(given: Option<&Value>) -> Value {
    let mut out =
        json!({"city": null, "country": null, "line1": null, "line2": null, "postal_code": null, "state": null});
    fill(&mut out, given);
    out
}

/// Moves the members of one object into another.
pub(crate) fn add(object: &mut Value, more: Value) {
    if let (Value::Object(members), Value::Object(more)) = (object, more) {
        members.extend(more);
    }
}

/// Copies the members of a hash that was sent into an object.
pub(crate) fn fill(object: &mut Value, given: Option<&Value>) {
    for (name, value) in given.and_then(Value::as_object).into_iter().flatten() {
        object[name.as_str()] = value.clone();
    }
}
