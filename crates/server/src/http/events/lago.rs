//! Lago's own wire for events, so that a client that was written for Lago can point here unchanged.
//!
//! It differs from Lago in one point, on purpose: an event of an unknown subscription or code is an error and not a silent
//! loss.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use billing::usage::Quantity;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::exact;
use super::lago_errors::{self, Fields, field};
use super::read::named;
use crate::app::App;
use crate::error::{Error, Result};
use crate::http::answer;
use crate::http::body::{self, Kind};
use crate::http::extract::{Service, Writer};
use crate::ops::lago::codes::{self, Codes};
use crate::ops::usage::{Told, Verdict, properties};
use crate::ops::{identities, usage};
use crate::store::log::{Logged, Source};

/// Events of one batch, as Lago has it by default.
const EVENTS_MAX: usize = 100;
/// Which property says how many units an event is of, first found first.
const UNITS: [&str; 3] = ["units", "quantity", "value"];
const NOT_WRITABLE: &str = "write_action_not_allowed_for_event";
const NOT_READABLE: &str = "read_action_not_allowed_for_event";

/// An event as Lago's clients send it. Whatever else is in it is passed over, as Lago does.
#[derive(Debug, Deserialize)]
struct Sent<'a> {
    #[serde(borrow)]
    transaction_id: Option<&'a RawValue>,
    #[serde(borrow)]
    external_subscription_id: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    properties: Option<&'a RawValue>,
    #[serde(borrow)]
    precise_total_amount_cents: Option<&'a RawValue>,
}

/// An event as Lago's clients read it.
#[derive(Debug, Serialize)]
struct Event<'a> {
    lago_id: String,
    transaction_id: String,
    lago_customer_id: Option<()>,
    code: String,
    timestamp: String,
    precise_total_amount_cents: Option<String>,
    properties: Cow<'a, RawValue>,
    lago_subscription_id: Option<()>,
    external_subscription_id: String,
    created_at: String,
}

/// An event that can be told.
struct Read<'a> {
    sent: &'a Sent<'a>,
    /// The subscription as the client names it.
    subscription: String,
    code: String,
    told: Told,
}

/// Record an event in Lago's notation
///
/// For clients written for Lago: set their base URL to this server and their key to a service key. The subscription is the user's id
/// or Lago id, `code` the `lago_code` of an event type, and the quantity the property `units`, `quantity` or `value`, else 1.
/// Errors have Lago's shape. An unknown subscription or code is a 422 here.
#[utoipa::path(post, path = "/api/v1/events", tag = "lago", operation_id = "lago_create_event",
    request_body(content = Object, content_type = "application/json", description = "`{\"event\": {…}}`"),
    responses((status = 200, description = "`{\"event\": {…}}`: recorded"), (status = 422, description = "In Lago's shape")),
    extensions(("x-role" = json!("service"))), security(("key" = [])))]
pub async fn create(State(app): State<App>, who: Result<Writer>, headers: HeaderMap, body: Body) -> Response {
    #[derive(Deserialize)]
    struct Root<'a> {
        #[serde(borrow)]
        event: Sent<'a>,
    }
    let bytes = match admitted(&app, who.map(drop), &headers, body).await {
        Ok(bytes) => bytes,
        Err(response) => return response,
    };
    let Ok(root) = serde_json::from_slice::<Root<'_>>(&bytes) else { return rootless(&app, "event") };
    match record(&app, std::slice::from_ref(&root.event)).await {
        Ok(Ok(events)) => rendered(&app, "event", events.first()),
        Ok(Err(mut faults)) => lago_errors::invalid(&faults.pop_first().map(|(_, fields)| fields)),
        Err(error) => lago_errors::failed(error, NOT_WRITABLE),
    }
}

/// Record up to 100 events in Lago's notation
///
/// All or nothing, as in Lago: where one is faulty or was recorded before, the answer is a 422 with its index, and none of them is
/// recorded.
#[utoipa::path(post, path = "/api/v1/events/batch", tag = "lago", operation_id = "lago_create_events",
    request_body(content = Object, content_type = "application/json", description = "`{\"events\": [{…}]}`"),
    responses((status = 200, description = "`{\"events\": [{…}]}`: recorded"), (status = 422, description = "In Lago's shape, by index")),
    extensions(("x-role" = json!("service"))), security(("key" = [])))]
pub async fn create_batch(State(app): State<App>, who: Result<Writer>, headers: HeaderMap, body: Body) -> Response {
    #[derive(Deserialize)]
    struct Root<'a> {
        #[serde(borrow, default)]
        events: Vec<Sent<'a>>,
    }
    let bytes = match admitted(&app, who.map(drop), &headers, body).await {
        Ok(bytes) => bytes,
        Err(response) => return response,
    };
    let Ok(root) = serde_json::from_slice::<Root<'_>>(&bytes) else { return rootless(&app, "events") };
    match root.events.len() {
        0 => return lago_errors::invalid(&field("events", "no_events")),
        1..=EVENTS_MAX => {}
        _ => {
            app.usage.refusals.add("batch.too_large", 1);
            return lago_errors::invalid(&field("events", "too_many_events"));
        }
    }
    match record(&app, &root.events).await {
        Ok(Ok(events)) => rendered(&app, "events", Some(&events)),
        Ok(Err(faults)) => lago_errors::invalid(&faults),
        Err(error) => lago_errors::failed(error, NOT_WRITABLE),
    }
}

/// One event in Lago's notation
#[utoipa::path(get, path = "/api/v1/events/{transaction_id}", tag = "lago", operation_id = "lago_event",
    params(("transaction_id" = String, Path, description = "As it was sent, percent-encoded")),
    responses((status = 200, description = "`{\"event\": {…}}`"), (status = 404, description = "In Lago's shape")),
    extensions(("x-role" = json!("service"))), security(("key" = [])))]
pub async fn show(State(app): State<App>, who: Result<Service>, Path(id): Path<String>) -> Response {
    if let Err(error) = who {
        return lago_errors::failed(error, NOT_READABLE);
    }
    match usage::naming::live(&app, &id).await {
        Ok(Some(found)) => match codes::known(&app).await {
            Ok(codes) => match stored(&codes, found) {
                Ok(event) => rendered(&app, "event", event),
                Err(error) => lago_errors::failed(error, NOT_READABLE),
            },
            Err(error) => lago_errors::failed(error, NOT_READABLE),
        },
        Ok(None) => lago_errors::not_found(),
        Err(error) => lago_errors::failed(error, NOT_READABLE),
    }
}

/// The body, once it is clear who sends it.
async fn admitted(app: &App, who: Result<()>, headers: &HeaderMap, body: Body) -> Result<bytes::Bytes, Response> {
    who.map_err(|error| lago_errors::failed(error, NOT_WRITABLE))?;
    let read = if body::kind(headers) == Some(Kind::Json) {
        body::whole(body).await
    } else {
        Err(body::no_kind("Send Content-Type: application/json."))
    };
    super::noted(app, read).map_err(|error| lago_errors::failed(error, NOT_WRITABLE))
}

/// The answer to a body that does not have what it is read for.
fn rootless(app: &App, root: &str) -> Response {
    app.usage.refusals.add("body.malformed", 1);
    lago_errors::missing(root)
}

/// What is wrong, by index of the event.
type Faults = BTreeMap<usize, Fields>;

/// Records all of the events or, where one cannot be, none; then says why.
async fn record<'a>(app: &App, sent: &'a [Sent<'a>]) -> Result<Result<Vec<Event<'a>>, Faults>> {
    let readable = readable(app, sent).await;
    let (mut read, faults) = readable.inspect_err(|error| usage::note_unread(app, error, sent.len()))?;
    if !faults.is_empty() {
        for fields in faults.values() {
            app.usage.refusals.add(code_of(fields), 1);
        }
        return Ok(Err(faults));
    }
    let now = app.clock.now();
    let told = |read: &[Read<'_>]| read.iter().map(|read| read.told.clone()).collect();
    let mut outcome = usage::record_all(app, told(&read)).await?;
    if let Err(faults) = &outcome
        && faults.values().any(is_anothers)
    {
        for place in faults.iter().filter(|(_, verdict)| is_anothers(verdict)).map(|(place, _)| *place) {
            let told = &mut read[place].told;
            told.producer = Some(format!("subscription {}", told.user));
        }
        outcome = usage::record_all(app, told(&read)).await?;
    }
    Ok(match outcome {
        Ok(positions) => {
            Ok(read.into_iter().zip(positions).map(|(read, position)| read.event(position, now)).collect())
        }
        Err(faults) => {
            usage::note_refusals(app, faults.values());
            Err(faults.into_iter().map(|(place, verdict)| (place, fields_of(&verdict))).collect())
        }
    })
}

/// Whether the id is taken by an event of somebody else's. At Lago an id is unique within its subscription, and a client of Lago's
/// takes `value_already_exist` for done: its event gets an id of that subscription's own.
fn is_anothers(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Conflict { member: "user_id" })
}

/// The events that can be told, or what is wrong with the others.
async fn readable<'a>(app: &App, sent: &'a [Sent<'a>]) -> Result<(Vec<Read<'a>>, Faults)> {
    let mut faults = Faults::new();
    let mut read: Vec<(usize, Read<'a>)> = Vec::with_capacity(sent.len());
    for (index, sent) in sent.iter().enumerate() {
        match sent.read(app) {
            Ok(event) => read.push((index, event)),
            Err(fields) => drop(faults.insert(index, fields)),
        }
    }
    let named: BTreeSet<String> = read.iter().map(|(_, event)| event.subscription.clone()).collect();
    let users = identities::users_of_subscriptions(app, named).await?;
    for (index, event) in &mut read {
        match users.get(&event.subscription) {
            Some(user) => event.told.user.clone_from(user),
            None => drop(faults.insert(*index, field("external_subscription_id", "subscription_not_found"))),
        }
    }
    Ok((read.into_iter().map(|(_, event)| event).collect(), faults))
}

/// Our own code for what Lago says of an event.
fn code_of(fields: &Fields) -> &'static str {
    match (fields.get("code"), fields.get("external_subscription_id"), fields.len()) {
        (Some(["billable_metric_not_found"]), None, 1) => "type.unknown",
        (None, Some(["subscription_not_found"]), 1) => "user.unknown",
        _ => "invalid",
    }
}

/// What Lago says about a verdict that is not good.
fn fields_of(verdict: &Verdict) -> Fields {
    match verdict {
        Verdict::Recorded { .. } => Fields::new(),
        Verdict::Duplicate { .. } | Verdict::Conflict { .. } => field("transaction_id", "value_already_exist"),
        Verdict::Refused { code, pointer, .. } => match (*code, *pointer) {
            ("user.unknown", _) => field("external_subscription_id", "subscription_not_found"),
            ("type.unknown", _) => field("code", "billable_metric_not_found"),
            (code, "/timestamp") => field("timestamp", code),
            (_, "/transaction_id") => field("transaction_id", "value_is_invalid"),
            (_, _) => field("properties", "value_is_invalid"),
        },
    }
}

impl<'a> Sent<'a> {
    /// Everything that Lago would judge at once, and the quantity, which Lago judges at the end of the month.
    fn read(&'a self, app: &App) -> Result<Read<'a>, Fields> {
        let mut faults = Fields::new();
        let transaction_id = name(self.transaction_id, "transaction_id", &mut faults);
        let code = name(self.code, "code", &mut faults);
        let subscription = name(self.external_subscription_id, "external_subscription_id", &mut faults);
        let at = self.timestamp.map(|json| exact::seconds(json.get()));
        if at == Some(None) {
            faults.insert("timestamp", ["invalid_format"]);
        }
        let quantity = self.quantity();
        if quantity.is_none() {
            faults.insert("properties", ["value_is_invalid"]);
        }
        let mut kinds = app.catalogue.events.iter().filter(|(_, event)| event.lago_code == code);
        let kind = match (kinds.next(), kinds.next()) {
            (Some((kind, _)), None) => Some(kind.to_string()),
            // A code of two types means neither: they may weigh differently.
            _ => None,
        };
        if kind.is_none() {
            faults.entry("code").or_insert(["billable_metric_not_found"]);
        }
        let (Some(kind), Some(quantity), true) = (kind, quantity, faults.is_empty()) else { return Err(faults) };
        let told = Told {
            transaction_id,
            producer: None,
            user: String::new(),
            kind,
            quantity,
            at: at.flatten(),
            properties: self.properties.map(|json| json.get().to_owned()),
            source: Source::Lago,
        };
        Ok(Read { sent: self, subscription, code, told })
    }

    /// The units of the event; nothing where they are no number.
    fn quantity(&self) -> Option<Quantity> {
        let one = Some(Quantity::from_micro(1_000_000));
        let Some(json) = self.properties else { return one };
        properties::look(json.get(), properties::FOREIGN_MAX).ok()?;
        let members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(json.get()).ok()?;
        UNITS.iter().find_map(|name| members.get(*name)).map_or(one, |units| exact::quantity(units.get()))
    }
}

/// A text that names something; Lago takes numbers as well.
fn name(json: Option<&RawValue>, field: &'static str, faults: &mut Fields) -> String {
    let text = json.map(RawValue::get).unwrap_or_default();
    let name = match text.as_bytes().first() {
        Some(b'"') => serde_json::from_str(text).unwrap_or_default(),
        Some(b'0'..=b'9' | b'-') => text.to_owned(),
        _ => String::new(),
    };
    let mut strange = Vec::new();
    named(&name, "", &mut strange);
    if name.is_empty() {
        faults.insert(field, ["value_is_mandatory"]);
    } else if !strange.is_empty() {
        faults.insert(field, ["value_is_invalid"]);
    }
    name
}

impl<'a> Read<'a> {
    fn event(self, position: i64, now: Timestamp) -> Event<'a> {
        Event {
            lago_id: lago_id(position),
            transaction_id: self.told.transaction_id,
            lago_customer_id: None,
            code: self.code,
            timestamp: to_the_millisecond(self.told.at.unwrap_or(now)),
            precise_total_amount_cents: self.sent.precise_total_amount_cents.map(|json| decimal(json.get())),
            properties: self.sent.properties.map_or_else(no_properties, Cow::Borrowed),
            lago_subscription_id: None,
            external_subscription_id: self.subscription,
            created_at: billing::time::wire(now),
        }
    }
}

/// An entry of the log as Lago would show it.
fn stored(codes: &Codes, entry: Logged) -> Result<Event<'static>> {
    let instant = |at_ms| Timestamp::from_millisecond(at_ms).map_err(Error::internal);
    let (at, received) = (instant(entry.event_ms)?, instant(entry.received_ms)?);
    let code = codes.of(&entry).map(str::to_owned);
    let units = format!(r#"{{"units":"{}"}}"#, Quantity::from_micro(entry.quantity));
    Ok(Event {
        lago_id: lago_id(entry.position),
        transaction_id: entry.transaction_id,
        lago_customer_id: None,
        code: code.unwrap_or(entry.event_type),
        timestamp: to_the_millisecond(at),
        precise_total_amount_cents: None,
        properties: Cow::Owned(RawValue::from_string(entry.body.unwrap_or(units)).map_err(Error::internal)?),
        lago_subscription_id: None,
        external_subscription_id: entry.user,
        created_at: billing::time::wire(received),
    })
}

fn no_properties<'a>() -> Cow<'a, RawValue> {
    Cow::Owned(RawValue::from_string("{}".to_owned()).unwrap_or_default())
}

fn rendered(app: &App, root: &'static str, value: impl Serialize) -> Response {
    answer::view(app, StatusCode::OK, &BTreeMap::from([(root, value)]))
        .unwrap_or_else(|error| lago_errors::failed(error, NOT_WRITABLE))
}

/// Lago's ids have the form of a UUID; ours holds the position.
fn lago_id(position: i64) -> String {
    format!("00000000-0000-8000-8000-{position:012x}")
}

fn to_the_millisecond(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// A decimal as Lago shows it, at least one decimal; what is none is zero there, without an error.
fn decimal(json: &str) -> String {
    let text = json.trim_matches('"');
    match billing::decimal::Decimal::parse(text) {
        Ok(_) if text.contains('.') => text.to_owned(),
        Ok(_) => format!("{text}.0"),
        Err(_) => "0.0".to_owned(),
    }
}
