//! Quotes: an offer that is written, made, and accepted or not. What was accepted is a subscription, or an invoice where
//! nothing of it comes again.

use super::checkout_rows::{self as rows, Terms};
use super::invoices::Head;
use super::{
    Answer, Call, add, changed, discounts, find, invoices, named, subscription_items, subscriptions, tax_rates, taxes,
};
use crate::calendar::DAY;
use crate::error::StripeError;
use crate::kind::Kind;
use crate::params::{Field, Params, Spec, opt};
use crate::world::{World, array};
use serde_json::{Value, json};
use std::sync::Arc;

const INVOICE_SETTINGS: &[Field] = &[opt("days_until_due", Spec::Int(0, 3650)), opt("issuer", Spec::Unsupported)];
const SUBSCRIPTION_DATA: &[Field] = &[
    opt("billing_mode", Spec::Ignored),
    opt("description", Spec::Text),
    opt("effective_date", Spec::Unsupported),
    opt("metadata", Spec::Metadata),
    opt("trial_period_days", Spec::Int(1, 730)),
];
const COMMON: &[Field] = &[
    opt("application_fee_amount", Spec::Unsupported),
    opt("application_fee_percent", Spec::Unsupported),
    opt("automatic_tax", Spec::Hash(super::invoice_writes::AUTOMATIC_TAX)),
    opt("collection_method", Spec::OneOf(&["charge_automatically", "send_invoice"])),
    opt("customer", Spec::Text),
    opt("customer_account", Spec::Unsupported),
    opt("default_tax_rates", Spec::ClearableList(&Spec::Text)),
    opt("description", Spec::Clearable),
    opt("discounts", Spec::ClearableList(&Spec::Hash(discounts::ASKED))),
    opt("expires_at", Spec::Time),
    opt("footer", Spec::Clearable),
    opt("header", Spec::Clearable),
    opt("invoice_settings", Spec::Hash(INVOICE_SETTINGS)),
    opt("line_items", Spec::List(&Spec::Hash(rows::ITEM))),
    opt("metadata", Spec::Metadata),
    opt("on_behalf_of", Spec::Unsupported),
    opt("subscription_data", Spec::Hash(SUBSCRIPTION_DATA)),
    opt("transfer_data", Spec::Unsupported),
];
pub(crate) const CREATE: &[&[Field]] =
    &[COMMON, &[opt("from_quote", Spec::Unsupported), opt("test_clock", Spec::Text)]];
pub(crate) const UPDATE: &[&[Field]] = &[COMMON];
pub(crate) const FINALIZE: &[Field] = &[opt("expires_at", Spec::Time)];
pub(crate) const LIST: &[Field] = &[
    opt("customer", Spec::Text),
    opt("status", Spec::OneOf(&["accepted", "canceled", "draft", "open"])),
    opt("test_clock", Spec::Text),
];

/// How long an offer holds unless it says something else.
const HOLDS: i64 = 30 * DAY;

pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let id = world.id("qt");
    if let Some(clock) = call.params.text("test_clock") {
        let clock = named(&world.store, Kind::TestClock, clock, "test_clock")?;
        world.follow_clock(&json!({"test_clock": clock["id"]}));
    }
    let mut quote = json!({
        "id": id, "object": "quote", "amount_subtotal": 0, "amount_total": 0, "application": null,
        "application_fee_amount": null, "application_fee_percent": null,
        "automatic_tax": {"enabled": false, "liability": null, "provider": null, "status": null},
        "collection_method": "charge_automatically", "computed": computed(&[]), "created": world.now, "currency": null,
        "customer": null, "customer_account": null, "default_tax_rates": [], "description": null, "discounts": [],
        "expires_at": world.now + HOLDS, "footer": null, "from_quote": null, "header": null, "invoice": null,
        "invoice_settings": {"days_until_due": null, "issuer": {"type": "self"}}, "livemode": false, "metadata": {},
        "number": null, "on_behalf_of": null, "status": "draft",
        "status_transitions": {"accepted_at": null, "canceled_at": null, "finalized_at": null}, "subscription": null,
        "subscription_data": {
            "billing_mode": {"flexible": {"proration_discounts": "included"}, "type": "flexible"}, "description": null,
            "effective_date": null, "metadata": null, "trial_period_days": null
        },
        "subscription_schedule": null, "test_clock": call.params.text("test_clock"), "transfer_data": null
    });
    add(&mut quote, rows::sums(&[]));
    world.store.put(Kind::Secret, json!({"id": id, "created": world.now, "secret": null, "rows": [], "discounts": []}));
    write(world, &mut quote, &call.params)?;
    changed(world, Kind::Quote, quote)
}

fn write(world: &mut World, quote: &mut Value, sent: &Params) -> Result<(), StripeError> {
    if let Some(id) = sent.text("customer") {
        quote["customer"] = named(&world.store, Kind::Customer, id, "customer")?["id"].clone();
    }
    sent.assign(quote, &["collection_method", "description", "expires_at", "footer", "header"]);
    for name in ["invoice_settings", "subscription_data"] {
        super::fill(&mut quote[name], sent.get(name));
    }
    tax_rates::take(&world.store, quote, "default_tax_rates", sent)?;
    sent.merge_metadata(quote);
    if ["customer", "default_tax_rates", "discounts", "line_items"].iter().any(|name| sent.get(name).is_some()) {
        reckon(world, quote, sent)?;
    }
    Ok(())
}

/// Writes the rows anew, and what they come to.
fn reckon(world: &mut World, quote: &mut Value, sent: &Params) -> Result<(), StripeError> {
    let id = quote["id"].as_str().unwrap_or_default().to_owned();
    let mut kept = rows::kept(&world.store, &id);
    sent.assign(&mut kept, &["discounts"]);
    let items = sent.get("line_items").cloned().unwrap_or_else(|| rows::again(&kept["rows"]));
    let asked = Params::over(&json!({"discounts": kept["discounts"], "line_items": items}));
    discounts::check(world, &asked)?;
    let customer = quote["customer"].as_str().and_then(|id| world.store.get(Kind::Customer, id));
    let exempt = customer.as_ref().and_then(|customer| taxes::exemption(&customer["tax_exempt"]));
    let terms = Terms { mode: "quote", exempt, default_rates: &quote["default_tax_rates"] };
    let rows = if asked.list("line_items").is_empty() { Vec::new() } else { rows::of(world, &asked, &terms)? };
    add(quote, rows::sums(&rows));
    quote["computed"] = computed(&rows);
    quote["currency"] = rows.first().map_or(Value::Null, |row| row["currency"].clone());
    kept["rows"] = Value::Array(rows);
    world.store.put(Kind::Secret, kept);
    Ok(())
}

/// What is paid again and again, and what is paid when it begins.
fn computed(rows: &[Value]) -> Value {
    let sums = |rows: &[Value], more: Value| {
        let mut sums = rows::sums(rows);
        add(&mut sums, more);
        sums
    };
    let again: Vec<Value> = rows.iter().filter(|row| row["price"]["type"] == "recurring").cloned().collect();
    let recurring = again.first().map(|row| {
        let every = &row["price"]["recurring"];
        sums(&again, json!({"interval": every["interval"], "interval_count": every["interval_count"]}))
    });
    json!({"recurring": recurring, "upfront": sums(rows, json!({}))})
}

/// A quote in one of these states, or why this cannot be done with it.
fn in_state(world: &mut World, id: &str, verb: &str, states: &[&str]) -> Result<Value, StripeError> {
    let quote = find(&world.store, Kind::Quote, id)?;
    world.follow_clock(&quote);
    let status = quote["status"].as_str().unwrap_or_default();
    if states.contains(&status) {
        return Ok((*quote).clone());
    }
    let text = format!("You cannot {verb} a quote that is {status}. It must be {}.", states.join(" or "));
    Err(StripeError::invalid(text))
}

pub(crate) fn update(world: &mut World, call: &Call<'_>) -> Answer {
    let only = ["metadata", "expires_at", "expand"];
    let rewritten = call.params.all().any(|(name, _)| !only.contains(&name));
    let mut quote = in_state(world, call.id(), "update", if rewritten { &["draft"] } else { &["draft", "open"] })?;
    write(world, &mut quote, &call.params)?;
    changed(world, Kind::Quote, quote)
}

/// The offer is made.
pub(crate) fn finalize(world: &mut World, call: &Call<'_>) -> Answer {
    let mut quote = in_state(world, call.id(), "finalize", &["draft"])?;
    if quote["customer"].is_null() {
        return Err(StripeError::invalid("A quote must have a customer before it can be finalized.").param("customer"));
    }
    if array(&rows::kept(&world.store, call.id())["rows"]).is_empty() {
        return Err(
            StripeError::invalid("A quote must have line items before it can be finalized.").param("line_items")
        );
    }
    let number = world.store.next();
    quote["number"] = json!(format!("QT-{number:06}-1"));
    quote["status"] = json!("open");
    quote["status_transitions"]["finalized_at"] = json!(world.now);
    call.params.assign(&mut quote, &["expires_at"]);
    changed(world, Kind::Quote, quote)
}

pub(crate) fn cancel(world: &mut World, call: &Call<'_>) -> Answer {
    let mut quote = in_state(world, call.id(), "cancel", &["draft", "open"])?;
    quote["status"] = json!("canceled");
    quote["status_transitions"]["canceled_at"] = json!(world.now);
    changed(world, Kind::Quote, quote)
}

pub(crate) fn accept(world: &mut World, call: &Call<'_>) -> Answer {
    let mut quote = in_state(world, call.id(), "accept", &["open"])?;
    let customer = find(&world.store, Kind::Customer, quote["customer"].as_str().unwrap_or_default())?;
    let kept = rows::kept(&world.store, call.id());
    let (items, once) = rows::of_subscription(&kept["rows"]);
    if items.is_empty() {
        quote["invoice"] = invoice(world, &quote, &customer, &kept)?;
    } else {
        let subscription = subscribe(world, &quote, &customer, (items, once, &kept["discounts"]))?;
        quote["subscription"] = subscription["id"].clone();
        quote["invoice"] = subscription["latest_invoice"].clone();
    }
    quote["status"] = json!("accepted");
    quote["status_transitions"]["accepted_at"] = json!(world.now);
    changed(world, Kind::Quote, quote)
}

fn subscribe(
    world: &mut World,
    quote: &Value,
    customer: &Value,
    bought: (Vec<Value>, Vec<Value>, &Value),
) -> Result<Arc<Value>, StripeError> {
    let (items, once, off) = bought;
    let mut asked = json!({
        "items": items, "add_invoice_items": once, "collection_method": quote["collection_method"],
        "default_tax_rates": quote["default_tax_rates"], "discounts": off
    });
    for (name, from) in [
        ("description", "subscription_data"),
        ("metadata", "subscription_data"),
        ("trial_period_days", "subscription_data"),
        ("days_until_due", "invoice_settings"),
    ] {
        if !quote[from][name].is_null() {
            asked[name] = quote[from][name].clone();
        }
    }
    let asked = Params::over(&asked);
    subscription_items::check_items(world, asked.list("items"))?;
    let subscription = subscriptions::compose(world, &asked, customer)?;
    Ok(subscriptions::open_later(world, subscription, customer))
}

/// The draft of what is bought once.
fn invoice(world: &mut World, quote: &Value, customer: &Value, kept: &Value) -> Result<Value, StripeError> {
    let id = world.id("in");
    let lines = rows::invoice_lines(world, &id, &kept["rows"]);
    let currency = quote["currency"].as_str().unwrap_or("usd");
    let head = Head { customer, subscription: None, reason: "manual", at: world.now, currency };
    let mut invoice = invoices::object(&id, &head, lines);
    invoice["collection_method"] = quote["collection_method"].clone();
    invoice["parent"] =
        json!({"quote_details": {"quote": quote["id"]}, "subscription_details": null, "type": "quote_details"});
    invoice["default_tax_rates"] = quote["default_tax_rates"].clone();
    if let Some(days) = quote["invoice_settings"]["days_until_due"].as_i64() {
        invoice["due_date"] = json!(invoices::due_date(world.now, days));
    }
    discounts::set(world, &mut invoice, &Params::over(kept))?;
    discounts::apply(world, &mut invoice);
    taxes::sum_up(&world.store, &mut invoice);
    world.store.put(Kind::Invoice, invoice);
    Ok(json!(id))
}

pub(crate) fn line_items(world: &World, call: &Call<'_>) -> Answer {
    rows::page(world, call, Kind::Quote)
}
