//! Invoices that do not exist yet: the next one of a subscription, as it is or as it would be after a change.

use super::billing::{self, Bill};
use super::invoice_writes::AUTOMATIC_TAX;
use super::{
    Answer, Call, Reply, discounts, find, invoiceitems, named, subscription_changes, subscription_items as items,
};
use crate::error::StripeError;
use crate::kind::Kind;
use crate::params::{Field, Params, Spec, opt};
use crate::world::{World, array};
use serde_json::{Value, json};
use std::sync::Arc;

const DETAILS: &[Field] = &[
    opt("billing_cycle_anchor", Spec::Anchor),
    opt("billing_mode", Spec::Ignored),
    opt("cancel_at", Spec::Time),
    opt("cancel_at_period_end", Spec::Bool),
    opt("cancel_now", Spec::Bool),
    opt("default_tax_rates", Spec::ClearableList(&Spec::Text)),
    opt("items", Spec::List(&Spec::Hash(items::ITEM_UPDATE))),
    opt("proration_behavior", Spec::OneOf(&["always_invoice", "create_prorations", "none"])),
    opt("proration_date", Spec::Time),
    opt("resume_at", Spec::Unsupported),
    opt("start_date", Spec::Unsupported),
    opt("trial_end", Spec::TimeOrNow),
];

/// What would stand beside all that waits already.
const EXTRA: &[Field] = &[
    opt("amount", Spec::Int(-99_999_999, 99_999_999)),
    opt("currency", Spec::Text),
    opt("description", Spec::Text),
    opt("discountable", Spec::Bool),
    opt("price", Spec::Text),
    opt("price_data", Spec::Hash(invoiceitems::PRICE_DATA)),
    opt("quantity", Spec::Int(0, 1_000_000)),
    opt("tax_rates", Spec::List(&Spec::Text)),
];

pub(crate) const CREATE: &[Field] = &[
    opt("automatic_tax", Spec::Hash(AUTOMATIC_TAX)),
    opt("currency", Spec::Text),
    opt("customer", Spec::Text),
    opt("customer_account", Spec::Unsupported),
    opt("customer_details", Spec::Unsupported),
    opt("discounts", Spec::ClearableList(&Spec::Hash(discounts::ASKED))),
    opt("invoice_items", Spec::List(&Spec::Hash(EXTRA))),
    opt("issuer", Spec::Unsupported),
    opt("on_behalf_of", Spec::Unsupported),
    opt("preview_mode", Spec::OneOf(&["next", "recurring"])),
    opt("schedule", Spec::Unsupported),
    opt("schedule_details", Spec::Unsupported),
    opt("subscription", Spec::Text),
    opt("subscription_details", Spec::Hash(DETAILS)),
];

/// The next invoice of a subscription, as it is or as it would be after a change. Nothing of it happens.
pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let invoice = imagine(world, call)?;
    world.undo();
    Ok(Reply::One(Arc::new(invoice)))
}

/// Does all that is asked for, and writes the invoice that follows.
fn imagine(world: &mut World, call: &Call<'_>) -> Result<Value, StripeError> {
    let sent = &call.params;
    let details = sent.get("subscription_details").cloned().unwrap_or(Value::Null);
    let subscription = match sent.text("subscription") {
        Some(id) => named(&world.store, Kind::Subscription, id, "subscription")?,
        None if array(&details["items"]).is_empty() => {
            let text =
                "You must provide a subscription, a schedule or subscription_details[items] to preview an invoice.";
            return Err(StripeError::invalid(text).code("invoice_upcoming_none"));
        }
        None => imagined(world, sent, &details)?,
    };
    world.follow_clock(&subscription);
    wait(world, call, &subscription)?;
    if sent.text("subscription").is_none() {
        let items = array(&subscription["items"]["data"]).iter().collect();
        return Ok(imagined_invoice(world, &subscription, items, "subscription_create"));
    }
    if subscription["status"] == "canceled" || subscription["status"] == "incomplete_expired" {
        return Err(StripeError::invalid("No upcoming invoices for customer").code("invoice_upcoming_none"));
    }
    look_ahead(world, call, &subscription, details)
}

/// The items that would wait for the invoice.
fn wait(world: &mut World, call: &Call<'_>, subscription: &Value) -> Result<(), StripeError> {
    for (place, extra) in call.params.list("invoice_items").iter().enumerate() {
        let mut asked = Params::over(extra).with("customer", subscription["customer"].clone());
        if let Some(price) = extra.get("price") {
            asked = asked.with("pricing", json!({"price": price}));
        }
        if extra.get("currency").is_none() {
            asked = asked.with("currency", subscription["currency"].clone());
        }
        let said = |error: StripeError| StripeError { param: error.param.map(|param| said_as(place, &param)), ..error };
        let made = invoiceitems::create(world, &call.about("invoiceitem", Vec::new(), asked)).map_err(said)?;
        if matches!(made, Reply::One(item) if item["currency"] != subscription["currency"]) {
            let text = "The currency of an invoice item must be the currency of its invoice.";
            return Err(StripeError::invalid(text).param(said_as(place, "currency")));
        }
    }
    Ok(())
}

/// What a parameter of an invoice item is called where several are described.
fn said_as(place: usize, param: &str) -> String {
    let param = if param == "pricing[price]" { "price" } else { param };
    let (name, rest) = param.split_at(param.find('[').unwrap_or(param.len()));
    format!("invoice_items[{place}][{name}]{rest}")
}

/// Makes the change. Where that is billed at once, its invoice is the preview, before anybody pays it; else the next one is.
fn look_ahead(world: &mut World, call: &Call<'_>, subscription: &Value, details: Value) -> Result<Value, StripeError> {
    let id = subscription["id"].as_str().unwrap_or_default();
    let mut params = if details.is_object() { details } else { json!({}) };
    let (mut ends, behavior) = (false, params["proration_behavior"].as_str().map(str::to_owned));
    if let Some(members) = params.as_object_mut() {
        ends = members.remove("cancel_now").is_some_and(|now| now == true);
        members.extend(call.params.get("discounts").map(|asked| ("discounts".to_owned(), asked.clone())));
    }
    if ends {
        let prorate = behavior.as_deref() != Some("none");
        params = json!({"invoice_now": true, "prorate": prorate});
    }
    if params.as_object().is_some_and(|members| !members.is_empty()) {
        let change = call.about("subscription", vec![id], Params::over(&params));
        let make = if ends { subscription_changes::cancel } else { subscription_changes::update };
        make(world, &change)?;
    }
    let changed = find(&world.store, Kind::Subscription, id)?;
    let billed =
        changed["latest_invoice"].as_str().filter(|_| changed["latest_invoice"] != subscription["latest_invoice"]);
    Ok(match billed {
        Some(invoice) => {
            let billed = find(&world.store, Kind::Invoice, invoice)?;
            unpaid(world, &changed, &billed)
        }
        None if ends || behavior.as_deref() == Some("always_invoice") => {
            imagined_invoice(world, &changed, Vec::new(), "upcoming")
        }
        None => next(world, &changed),
    })
}

/// What an invoice says of its sums. The rest of it is of its payment.
const SUMS: [&str; 14] = [
    "amount_due",
    "default_tax_rates",
    "discounts",
    "lines",
    "period_end",
    "period_start",
    "starting_balance",
    "subtotal",
    "subtotal_excluding_tax",
    "total",
    "total_discount_amounts",
    "total_excluding_tax",
    "total_pretax_credit_amounts",
    "total_taxes",
];

/// An invoice that was written at once, as it is shown before it exists.
fn unpaid(world: &mut World, subscription: &Value, billed: &Value) -> Value {
    let mut preview = imagined_invoice(world, subscription, Vec::new(), "upcoming");
    for name in SUMS {
        preview[name] = billed[name].clone();
    }
    preview["amount_remaining"] = billed["amount_due"].clone();
    let id = preview["id"].clone();
    for line in preview["lines"]["data"].as_array_mut().into_iter().flatten() {
        line["invoice"] = id.clone();
    }
    preview
}

/// A subscription that does not exist, with the items that were asked for.
fn imagined(world: &mut World, sent: &Params, details: &Value) -> Result<Arc<Value>, StripeError> {
    let customer = named(&world.store, Kind::Customer, sent.need("customer")?, "customer")?;
    items::check_items(world, array(&details["items"]))?;
    let mut asked = Params::over(&json!({"items": details["items"]}));
    for (name, value) in [("default_tax_rates", details.get("default_tax_rates")), ("discounts", sent.get("discounts"))]
    {
        if let Some(value) = value {
            asked = asked.with(name, value.clone());
        }
    }
    discounts::check(world, &asked)?;
    super::subscriptions::compose(world, &asked, &customer).map(Arc::new)
}

/// The invoice that this subscription gets with its next period.
pub(crate) fn next(world: &mut World, subscription: &Value) -> Value {
    let (_, end) = items::current_period(&subscription["items"]);
    let (now, mut subscription) = (world.now, subscription.clone());
    let then = end.unwrap_or(now);
    world.now = then;
    let anchor = subscription["billing_cycle_anchor"].as_i64().unwrap_or(then);
    for item in subscription["items"]["data"].as_array_mut().into_iter().flatten() {
        items::set_period(item, anchor, then);
    }
    let ends = subscription["cancel_at"].as_i64().is_some_and(|at| at <= then);
    let rows = if ends { Vec::new() } else { array(&subscription["items"]["data"]).iter().collect() };
    let invoice = imagined_invoice(world, &subscription, rows, "upcoming");
    world.now = now;
    invoice
}

fn imagined_invoice(world: &mut World, subscription: &Value, rows: Vec<&Value>, reason: &str) -> Value {
    let id = format!("upcoming_{}", world.id("in"));
    let bill = Bill { id: &id, subscription, reason, items: rows, trial: false, usage_since: None };
    let mut invoice = billing::draft(world, &bill);
    invoice["next_payment_attempt"] = json!(world.now + billing::DRAFT_SECONDS);
    invoice
}
