//! `/customers`: an upsert by external id that changes only what is sent.

use super::asked::{Call, Fields, scalar};
use super::charges::decimals;
use super::desk::{Answer, Reply};
use super::instant;
use super::page::Page;
use super::refusal::{Faulty, Refusal};
use super::subscriptions;
use super::table::Place;
use super::world::{World, uuid};
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

/// Lago's own limit on metadata of a customer.
const METADATA_MAX: usize = 5;

#[derive(Debug)]
pub(super) struct Customer {
    /// As it is shown.
    pub(super) view: Map<String, Value>,
    pub(super) zone: TimeZone,
}

impl Customer {
    pub(super) fn text(&self, name: &str) -> &str {
        self.view.get(name).and_then(Value::as_str).unwrap_or_default()
    }
}

/// Members that are kept as they are sent.
const KEPT: &[&str] = &[
    "name",
    "firstname",
    "lastname",
    "customer_type",
    "email",
    "currency",
    "country",
    "timezone",
    "address_line1",
    "address_line2",
    "city",
    "state",
    "zipcode",
    "phone",
    "url",
    "legal_name",
    "legal_number",
    "logo_url",
    "net_payment_term",
    "external_salesforce_id",
    "finalize_zero_amount_invoice",
    "skip_invoice_custom_sections",
    "tax_identification_number",
    "shipping_address",
    "account_type",
];

/// `POST /customers`
pub(super) fn upsert(world: &mut World, call: &Call) -> Answer {
    let sent = call.root("customer")?;
    check(sent)?;
    let external_id = sent.text("external_id").unwrap_or_default();
    let (place, is_new) = match world.customers.find(&external_id) {
        Some(place) => (place, false),
        None => (add(world, &external_id), true),
    };
    change(world, place, sent);
    let view = Value::Object(world.customers[place].view.clone());
    world.tell(if is_new { "customer.created" } else { "customer.updated" }, "customer", &view);
    Ok(Reply::Json(json!({ "customer": view })))
}

fn check(sent: Fields<'_>) -> Result<(), Refusal> {
    let mut faulty = Faulty::default();
    faulty.add_if(sent.text("external_id").is_none(), "external_id", "value_is_mandatory");
    let wrong = |name: &str, good: fn(&str) -> bool| {
        sent.value(name).is_some_and(|value| !scalar(value).is_some_and(|text| good(&text)))
    };
    faulty.add_if(wrong("currency", |code| decimals(code).is_some()), "currency", "value_is_invalid");
    faulty.add_if(wrong("email", is_email), "email", "invalid_email_format");
    faulty.add_if(wrong("timezone", |name| TimeZone::get(name).is_ok()), "timezone", "value_is_invalid");
    let country = |code: &str| code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase());
    faulty.add_if(wrong("country", country), "country", "country_must_be_iso_3166_alpha_2");
    faulty.add_if(sent.list("metadata").len() > METADATA_MAX, "metadata", "invalid_count");
    faulty.verdict()
}

fn is_email(text: &str) -> bool {
    let parts = text.split_once('@');
    parts.is_some_and(|(name, host)| !name.is_empty() && host.contains('.') && !text.contains(char::is_whitespace))
}

/// A customer of whom nothing is known but the id; also made by a subscription of somebody unknown.
pub(super) fn add(world: &mut World, external_id: &str) -> Place {
    let number = world.customers.len() + 1;
    let mut view: Map<String, Value> = KEPT.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
    let rest = json!({
        "lago_id": uuid("customer", number),
        "billing_entity_code": "sandbox",
        "external_id": external_id,
        "sequential_id": number,
        "slug": format!("SAND-{number:03}"),
        "account_type": "customer",
        "applicable_timezone": "UTC",
        "finalize_zero_amount_invoice": "inherit",
        "skip_invoice_custom_sections": false,
        "created_at": instant::seconds(world.now),
        "updated_at": instant::seconds(world.now),
        "metadata": [],
        "integration_customers": [],
        "billing_configuration": {
            "invoice_grace_period": null, "payment_provider": null, "payment_provider_code": null, "provider_customer_id": null,
            "provider_payment_methods": null, "document_locale": null, "sync": null, "sync_with_provider": null,
        },
        "shipping_address": {
            "address_line1": null, "address_line2": null, "city": null, "zipcode": null, "state": null, "country": null,
        },
    });
    view.extend(rest.as_object().cloned().unwrap_or_default());
    world.customers.push(external_id, Customer { view, zone: TimeZone::UTC })
}

fn change(world: &mut World, place: Place, sent: Fields<'_>) {
    let now = world.now;
    let customer = &mut world.customers[place];
    for name in KEPT.iter().filter(|name| sent.has(name)) {
        customer.view.insert((*name).to_owned(), sent.sent(name));
    }
    if let Some(sent) = sent.value("billing_configuration").and_then(Value::as_object)
        && let Some(Value::Object(own)) = customer.view.get_mut("billing_configuration")
    {
        own.extend(sent.clone());
    }
    if sent.has("metadata") {
        let lago_id = customer.text("lago_id").to_owned();
        let metadata =
            sent.list("metadata").iter().enumerate().map(|(number, one)| metadata(&lago_id, number, one, now));
        customer.view.insert("metadata".to_owned(), metadata.collect());
    }
    if let Some(name) = sent.text("timezone")
        && let Ok(zone) = TimeZone::get(&name)
    {
        customer.zone = zone;
        customer.view.insert("applicable_timezone".to_owned(), name.into());
    }
    customer.view.insert("updated_at".to_owned(), instant::seconds(now).into());
}

fn metadata(owner: &str, number: usize, sent: &Value, now: instant::Micros) -> Value {
    json!({
        "lago_id": uuid(owner, number),
        "key": sent["key"],
        "value": sent["value"],
        "display_in_invoice": sent["display_in_invoice"] == true,
        "created_at": instant::seconds(now),
    })
}

/// `GET /customers/{external_id}`
pub(super) fn show(world: &World, external_id: &str) -> Answer {
    let customer = &world.customers[world.customer(external_id)?];
    Ok(Reply::Json(json!({"customer": customer.view})))
}

/// `GET /customers`
pub(super) fn list(world: &World, call: &Call) -> Reply {
    let all: Vec<&Customer> = world.customers.newest().collect();
    Page::of(call).show("customers", &all, |customer| Value::Object(customer.view.clone()))
}

/// `DELETE /customers/{external_id}`: their subscriptions end with them, and the id is free again.
pub(super) fn delete(world: &mut World, external_id: &str) -> Answer {
    let place = world.customer(external_id)?;
    for subscription in subscriptions::of_customer(world, place) {
        subscriptions::terminate(world, subscription);
    }
    world.customers.forget(external_id);
    Ok(Reply::Json(json!({"customer": world.customers[place].view})))
}
