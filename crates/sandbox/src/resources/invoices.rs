//! Invoices as objects: from a draft over an open invoice to a paid one, and the lists of them.
//!
//! What moves them is in `billing` (making and finalizing) and `collection` (having them paid).

use super::{Answer, Call, embedded, lines, list_where, narrow};
use crate::calendar::DAY;
use crate::error::StripeError;
use crate::kind::{Index, Kind};
use crate::params::{Field, Spec, opt};
use crate::world::{World, array};
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) const LIST: &[Field] = &[
    opt("collection_method", Spec::OneOf(&["charge_automatically", "send_invoice"])),
    opt("customer", Spec::Text),
    opt("customer_account", Spec::Unsupported),
    opt("due_date", Spec::Range),
    opt("status", Spec::OneOf(&["draft", "open", "paid", "uncollectible", "void"])),
    opt("subscription", Spec::Text),
];

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    let filters = [("subscription", Index::Subscription), ("customer", Index::Customer), ("status", Index::Status)];
    let mut query = narrow(call, &filters);
    let (method, due) = (call.params.get("collection_method"), call.params.get("due_date"));
    if method.is_some() || due.is_some() {
        query.keep = Some(Box::new(move |invoice| {
            method.is_none_or(|method| invoice["collection_method"] == *method)
                && super::within(due, invoice["due_date"].as_i64())
        }));
    }
    list_where(world, Kind::Invoice, call, query)
}

/// The lines of one invoice.
pub(crate) fn lines(world: &World, call: &Call<'_>) -> Answer {
    let invoice = super::find(&world.store, Kind::Invoice, call.id())?;
    let lines = array(&invoice["lines"]["data"]).iter().map(|line| Arc::new(line.clone()));
    super::in_place(call, "line item", lines.collect())
}

/// What stands at the head of an invoice.
pub(crate) struct Head<'a> {
    pub(crate) customer: &'a Value,
    /// None for an invoice that somebody wrote by hand.
    pub(crate) subscription: Option<&'a Value>,
    /// `subscription_create`, `subscription_cycle`, `subscription_update`, `manual`, `upcoming`.
    pub(crate) reason: &'a str,
    pub(crate) at: i64,
    pub(crate) currency: &'a str,
}

/// A draft of these lines. Its number comes when it is finalized.
pub(crate) fn object(id: &str, head: &Head<'_>, lines: Vec<Value>) -> Value {
    let mut invoice = blank(id);
    let (customer, subscription) = (head.customer, head.subscription.unwrap_or(&Value::Null));
    let parent = head.subscription.map(|subscription| {
        json!({
            "quote_details": null,
            "subscription_details": {"metadata": subscription["metadata"], "subscription": subscription["id"]},
            "type": "subscription_details"
        })
    });
    let facts = json!({
        "billing_reason": head.reason,
        "collection_method": subscription["collection_method"].as_str().unwrap_or("charge_automatically"),
        "created": head.at,
        "currency": head.currency,
        "customer": customer["id"],
        "customer_address": customer["address"],
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_phone": customer["phone"],
        "customer_shipping": customer["shipping"],
        "customer_tax_exempt": customer["tax_exempt"],
        "parent": parent,
        "period_end": head.at,
        "period_start": head.at,
        "status": "draft",
        "discounts": subscription.get("discounts").cloned().unwrap_or_else(|| json!([])),
        "test_clock": customer["test_clock"]
    });
    super::add(&mut invoice, facts);
    invoice["lines"] = embedded(format!("/v1/invoices/{id}/lines"), lines);
    sum_up(&mut invoice);
    invoice
}

/// Adds the lines up.
pub(crate) fn sum_up(invoice: &mut Value) {
    let lines = array(&invoice["lines"]["data"]);
    let subtotal: i64 = lines.iter().filter_map(|line| line["subtotal"].as_i64()).sum();
    let discounts = lines::discount_totals(lines);
    let total = subtotal - discounts.iter().filter_map(|part| part["amount"].as_i64()).sum::<i64>();
    let facts = json!({
        "amount_due": total.max(0), "amount_remaining": total.max(0), "subtotal": subtotal,
        "subtotal_excluding_tax": subtotal, "total": total, "total_discount_amounts": discounts,
        "total_excluding_tax": total
    });
    super::add(invoice, facts);
}

/// Makes an open invoice of a draft.
pub(crate) fn open(invoice: &mut Value, number: &str, at: i64) {
    let id = invoice["id"].as_str().unwrap_or_default();
    let page = format!("https://invoice.stripe.com/i/{}/test_{id}?s=ap", super::account::ID);
    let pdf = format!("https://pay.stripe.com/invoice/{}/test_{id}/pdf?s=ap", super::account::ID);
    let facts = json!({
        "automatically_finalizes_at": null, "effective_at": at, "hosted_invoice_url": page, "invoice_pdf": pdf,
        "number": number, "status": "open"
    });
    super::add(invoice, facts);
    invoice["status_transitions"]["finalized_at"] = json!(at);
}

/// The invoice after a charge was tried; `again` is when it will be tried once more.
pub(crate) fn attempted(invoice: &mut Value, paid: bool, at: i64, again: Option<i64>) {
    invoice["attempt_count"] = json!(invoice["attempt_count"].as_i64().unwrap_or_default() + 1);
    invoice["attempted"] = json!(true);
    if paid {
        settle(invoice, at);
    } else {
        invoice["next_payment_attempt"] = json!(again);
    }
}

/// The invoice is paid in full.
pub(crate) fn settle(invoice: &mut Value, at: i64) {
    invoice["status"] = json!("paid");
    invoice["attempted"] = json!(true);
    invoice["auto_advance"] = json!(false);
    invoice["next_payment_attempt"] = Value::Null;
    invoice["amount_paid"] = invoice["amount_due"].clone();
    invoice["amount_remaining"] = json!(0);
    invoice["status_transitions"]["paid_at"] = json!(at);
}

/// When an invoice that is sent has to be paid.
pub(crate) fn due_date(at: i64, days: i64) -> i64 {
    at + days * DAY
}

/// An invoice that must still be a draft.
pub(crate) fn find_draft(world: &World, id: &str) -> Result<Arc<Value>, StripeError> {
    let invoice = super::find(&world.store, Kind::Invoice, id)?;
    if invoice["status"] == "draft" {
        return Ok(invoice);
    }
    let text = "This invoice is no longer editable";
    Err(StripeError::invalid(text).code("invoice_not_editable"))
}

/// What every invoice of this sandbox has in common.
fn blank(id: &str) -> Value {
    let mut invoice = json!({
        "id": id, "object": "invoice", "account_country": "US", "account_name": "Billhook Sandbox",
        "account_tax_ids": null, "amount_overpaid": 0, "amount_paid": 0, "amount_paid_off_stripe": 0,
        "amount_shipping": 0, "application": null, "attempt_count": 0, "attempted": false, "auto_advance": false,
        "automatic_tax": {"disabled_reason": null, "enabled": false, "liability": null, "provider": null, "status": null},
        "automatically_finalizes_at": null, "custom_fields": null, "customer_account": null, "customer_tax_ids": [],
        "default_payment_method": null, "default_source": null, "default_tax_rates": [], "description": null,
        "due_date": null, "ending_balance": 0, "footer": null, "from_invoice": null, "issuer": {"type": "self"},
        "last_finalization_error": null, "latest_revision": null, "livemode": false, "metadata": {},
        "next_payment_attempt": null, "on_behalf_of": null, "effective_at": null, "hosted_invoice_url": null,
        "invoice_pdf": null, "number": null
    });
    let rest = json!({
        "payment_settings": {"default_mandate": null, "payment_method_options": null, "payment_method_types": null},
        "post_payment_credit_notes_amount": 0, "pre_payment_credit_notes_amount": 0, "receipt_number": null,
        "rendering": null, "shipping_cost": null, "shipping_details": null, "starting_balance": 0,
        "statement_descriptor": null, "status_details": null,
        "status_transitions": {"finalized_at": null, "marked_uncollectible_at": null, "paid_at": null, "voided_at": null},
        "test_clock": null, "total_pretax_credit_amounts": [], "total_taxes": [], "webhooks_delivered_at": null
    });
    super::add(&mut invoice, rest);
    invoice
}
