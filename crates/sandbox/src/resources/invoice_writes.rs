//! What people do with invoices: write, change and delete drafts, finalize, pay, void and write off.

use super::billing;
use super::collection::{self, Paid};
use super::invoices::{self, Head, find_draft};
use super::{Answer, Call, Reply, deleted, discounts, find, named, tax_ids, taxes};
use crate::error::StripeError;
use crate::kind::Kind;
use crate::params::{Field, Params, Spec, opt};
use crate::world::{World, array};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) const AUTOMATIC_TAX: &[Field] = &[opt("enabled", Spec::OneOf(&["false"]))];
const CUSTOM_FIELD: &[Field] = &[opt("name", Spec::Text), opt("value", Spec::Text)];
const COLLECTION: Spec = Spec::OneOf(&["charge_automatically", "send_invoice"]);

const COMMON: &[Field] = &[
    opt("account_tax_ids", Spec::Unsupported),
    opt("application_fee_amount", Spec::Unsupported),
    opt("auto_advance", Spec::Bool),
    opt("automatic_tax", Spec::Hash(AUTOMATIC_TAX)),
    opt("automatically_finalizes_at", Spec::Time),
    opt("collection_method", COLLECTION),
    opt("custom_fields", Spec::ClearableList(&Spec::Hash(CUSTOM_FIELD))),
    opt("days_until_due", Spec::Int(0, 3650)),
    opt("default_payment_method", Spec::Clearable),
    opt("default_source", Spec::Unsupported),
    opt("default_tax_rates", Spec::ClearableList(&Spec::Text)),
    opt("description", Spec::Clearable),
    opt("discounts", Spec::ClearableList(&Spec::Hash(discounts::ASKED))),
    opt("due_date", Spec::Time),
    opt("effective_at", Spec::Unsupported),
    opt("footer", Spec::Clearable),
    opt("issuer", Spec::Unsupported),
    opt("metadata", Spec::Metadata),
    opt("number", Spec::Unsupported),
    opt("on_behalf_of", Spec::Unsupported),
    opt("payment_settings", Spec::Ignored),
    opt("rendering", Spec::Ignored),
    opt("shipping_cost", Spec::Unsupported),
    opt("shipping_details", Spec::Unsupported),
    opt("statement_descriptor", Spec::Text),
    opt("transfer_data", Spec::Unsupported),
];

pub(crate) const CREATE: &[&[Field]] = &[
    COMMON,
    &[
        opt("currency", Spec::Text),
        opt("customer", Spec::Text),
        opt("customer_account", Spec::Unsupported),
        opt("from_invoice", Spec::Unsupported),
        opt("pending_invoice_items_behavior", Spec::OneOf(&["exclude", "include"])),
        opt("subscription", Spec::Text),
    ],
];
pub(crate) const UPDATE: &[&[Field]] = &[COMMON];
pub(crate) const FINALIZE: &[Field] = &[opt("auto_advance", Spec::Bool)];
pub(crate) const PAY: &[Field] = &[
    opt("forgive", Spec::Ignored),
    opt("mandate", Spec::Unsupported),
    opt("off_session", Spec::Bool),
    opt("paid_out_of_band", Spec::Bool),
    opt("payment_method", Spec::Text),
    opt("source", Spec::Text),
];

pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    let subscription = match sent.text("subscription") {
        Some(id) => Some(named(&world.store, Kind::Subscription, id, "subscription")?),
        None => None,
    };
    let owner = subscription.as_ref().and_then(|subscription| subscription["customer"].as_str().map(str::to_owned));
    let owner = sent.text("customer").map(str::to_owned).or(owner).ok_or_else(|| StripeError::missing("customer"))?;
    let customer = named(&world.store, Kind::Customer, &owner, "customer")?;
    world.follow_clock(&customer);
    let currency = sent.text("currency").or(customer["currency"].as_str()).unwrap_or("usd");
    let currency = super::currencies::parse(currency)?;
    let id = world.id("in");
    let own = subscription.as_ref().map_or(Value::Null, |subscription| subscription["id"].clone());
    let mut rows = Vec::new();
    let behavior = sent.text("pending_invoice_items_behavior");
    if behavior == Some("include") || (behavior.is_none() && subscription.is_some()) {
        let pending = billing::pending(&world.store, &customer["id"], &own, &json!(currency));
        rows.extend(pending.iter().zip(1..).map(|(item, place)| billing::line_of(item, &id, place)));
    }
    let subscription = subscription.as_deref();
    let head = Head { customer: &customer, subscription, reason: "manual", at: world.now, currency: &currency };
    let mut invoice = invoices::object(&id, &head, rows);
    invoice["customer_tax_ids"] = tax_ids::shown(&world.store, &customer);
    if array(&invoice["discounts"]).is_empty() && customer["discount"].is_object() {
        invoice["discounts"] = json!([customer["discount"]["id"]]);
    }
    discounts::apply(world, &mut invoice);
    write(world, &mut invoice, sent)?;
    billing::take_up(world, &invoice);
    Ok(Reply::One(world.store.put(Kind::Invoice, invoice)))
}

fn write(world: &mut World, invoice: &mut Value, sent: &Params) -> Result<(), StripeError> {
    discounts::check(world, sent)?;
    sent.assign(invoice, &["auto_advance", "collection_method", "custom_fields", "default_payment_method"]);
    sent.assign(invoice, &["description", "due_date", "footer", "statement_descriptor"]);
    sent.merge_metadata(invoice);
    if sent.text("collection_method") == Some("send_invoice") {
        match (sent.int("days_until_due"), sent.int("due_date")) {
            (Some(days), None) => invoice["due_date"] = json!(invoices::due_date(world.now, days)),
            (None, Some(_)) => {}
            _ => return Err(StripeError::missing("days_until_due")),
        }
    }
    if invoice["auto_advance"] == true {
        let at = sent.int("automatically_finalizes_at").unwrap_or(world.now + billing::DRAFT_SECONDS);
        invoice["automatically_finalizes_at"] = json!(at);
    } else {
        invoice["automatically_finalizes_at"] = Value::Null;
    }
    if sent.get("discounts").is_some() {
        discounts::set(world, invoice, sent)?;
        discounts::apply(world, invoice);
    }
    taxes::set_defaults(&world.store, invoice, sent)?;
    taxes::sum_up(&world.store, invoice);
    Ok(())
}

pub(crate) fn update(world: &mut World, call: &Call<'_>) -> Answer {
    let found = find(&world.store, Kind::Invoice, call.id())?;
    world.follow_clock(&found);
    let mut invoice = (*found).clone();
    if invoice["status"] == "draft" {
        write(world, &mut invoice, &call.params)?;
        return Ok(Reply::One(world.store.put(Kind::Invoice, invoice)));
    }
    let only = ["metadata", "auto_advance", "description", "default_payment_method"];
    if COMMON.iter().any(|field| call.params.get(field.name).is_some() && !only.contains(&field.name)) {
        return Err(
            StripeError::invalid("Finalized invoices can't be updated in this way").code("invoice_not_editable")
        );
    }
    call.params.assign(&mut invoice, &only[1..]);
    call.params.merge_metadata(&mut invoice);
    Ok(Reply::One(world.store.put(Kind::Invoice, invoice)))
}

pub(crate) fn delete(world: &mut World, call: &Call<'_>) -> Answer {
    let draft = find_draft(world, call.id())?;
    if draft["parent"]["subscription_details"]["subscription"].is_string() {
        let text = "You can only delete draft invoices that were not made by a subscription.";
        return Err(StripeError::invalid(text).code("invoice_not_editable"));
    }
    world.store.delete(Kind::Invoice, call.id());
    Ok(deleted(Kind::Invoice, call.id()))
}

pub(crate) fn finalize(world: &mut World, call: &Call<'_>) -> Answer {
    let draft = find_draft(world, call.id()).map_err(|error| {
        let again = "This invoice is already finalized, you can't re-finalize a non-draft invoice.";
        if error.status == 404 { error } else { StripeError { message: again.to_owned(), ..error } }
    })?;
    world.follow_clock(&draft);
    let mut draft = (*draft).clone();
    let advances = call.params.flag("auto_advance").unwrap_or(draft["auto_advance"] == true);
    draft["auto_advance"] = json!(advances);
    if advances && draft["collection_method"] == "charge_automatically" {
        // Stripe tries to collect an hour later.
        draft["next_payment_attempt"] = json!(world.now + billing::DRAFT_SECONDS);
    }
    Ok(Reply::One(billing::finalize(world, &draft)))
}

pub(crate) fn send(world: &mut World, call: &Call<'_>) -> Answer {
    let found = find(&world.store, Kind::Invoice, call.id())?;
    world.follow_clock(&found);
    if found["status"] == "draft" {
        let mut draft = (*found).clone();
        draft["collection_method"] = json!("send_invoice");
        return Ok(Reply::One(billing::finalize(world, &draft)));
    }
    world.store.tell("invoice.sent", Arc::clone(&found));
    Ok(Reply::One(found))
}

/// An invoice that is open, or why this cannot be done with it.
fn opened(world: &mut World, id: &str, verb: &str, also: &[&str]) -> Result<Arc<Value>, StripeError> {
    let found = find(&world.store, Kind::Invoice, id)?;
    world.follow_clock(&found);
    match found["status"].as_str() {
        Some("paid") if verb == "pay" => Err(StripeError::invalid("Invoice is already paid")),
        Some("open") => Ok(found),
        Some(status) if also.contains(&status) => Ok(found),
        _ => Err(StripeError::invalid("You can only pass in open invoices. This invoice isn't open.")),
    }
}

pub(crate) fn pay(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    let mut invoice = opened(world, call.id(), "pay", &["draft", "uncollectible"])?;
    if invoice["status"] == "draft" {
        invoice = billing::finalize(world, &invoice);
    }
    if invoice["status"] == "paid" {
        return Ok(Reply::One(invoice));
    }
    if sent.flag("paid_out_of_band") == Some(true) {
        return Ok(Reply::One(collection::settle(world, &invoice, false)));
    }
    let customer = billing::of_customer(&world.store, &invoice);
    let method = if let Some(name) = sent.text("payment_method").or(sent.text("source")) {
        Some(named(&world.store, Kind::PaymentMethod, name, "payment_method")?)
    } else {
        let subscription = collection::subscription_of(&world.store, &invoice);
        collection::method_of(&world.store, subscription.as_deref().unwrap_or(&invoice), &customer)
    };
    let Some(method) = method else {
        let text =
            "There is no default_payment_method set on this Customer or Invoice. Please set a default_payment_method.";
        return Err(StripeError::invalid(text).code("invoice_payment_intent_requires_action"));
    };
    match collection::collect(world, &invoice, Some(&method)) {
        Paid::Yes => find(&world.store, Kind::Invoice, call.id()).map(Reply::One),
        Paid::Declined(code) => Err(StripeError::declined(code).keeping()),
        Paid::NeedsOwner | Paid::NoMethod => {
            let text =
                "Payment for this invoice requires additional user action before it can be completed successfully.";
            Err(StripeError::new(402, "card_error", text).code("invoice_payment_intent_requires_action").keeping())
        }
    }
}

pub(crate) fn void(world: &mut World, call: &Call<'_>) -> Answer {
    let invoice = opened(world, call.id(), "void", &["uncollectible"])?;
    Ok(Reply::One(collection::void(world, &invoice)))
}

pub(crate) fn write_off(world: &mut World, call: &Call<'_>) -> Answer {
    let invoice = opened(world, call.id(), "mark as uncollectible", &[])?;
    Ok(Reply::One(collection::close(world, &invoice, "uncollectible", "marked_uncollectible_at")))
}
