//! Invoice payments: what connects an invoice with the payment intent or charge that paid it.

use super::{Answer, Call, list_where, narrow};
use crate::kind::{Index, Kind};
use crate::params::{Field, Spec, opt, req};
use crate::world::World;
use serde_json::{Value, json};
use std::sync::Arc;

const PAYMENT: &[Field] = &[
    req("type", Spec::OneOf(&["charge", "payment_intent", "payment_record"])),
    opt("charge", Spec::Text),
    opt("payment_intent", Spec::Text),
    opt("payment_record", Spec::Text),
];

pub(crate) const LIST: &[Field] = &[
    opt("invoice", Spec::Text),
    opt("payment", Spec::Hash(PAYMENT)),
    opt("status", Spec::OneOf(&["canceled", "open", "paid"])),
];

/// The default payment of an invoice by a payment intent, paid when `paid_at` is known.
pub(crate) fn object(id: &str, invoice: &Value, intent: &str, paid_at: Option<i64>) -> Value {
    json!({
        "id": id,
        "object": "invoice_payment",
        "amount_paid": paid_at.map(|_| &invoice["total"]),
        "amount_requested": invoice["total"],
        "created": invoice["created"],
        "currency": invoice["currency"],
        "invoice": invoice["id"],
        "is_default": true,
        "livemode": false,
        "payment": {"payment_intent": intent, "type": "payment_intent"},
        "status": if paid_at.is_some() { "paid" } else { "open" },
        "status_transitions": {"canceled_at": null, "paid_at": paid_at}
    })
}

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    let mut query = narrow(call, &[("invoice", Index::Invoice)]);
    if let Some(payment) = call.params.get("payment") {
        for (name, index) in [("payment_intent", Index::PaymentIntent), ("charge", Index::Charge)] {
            if let Some(id) = payment[name].as_str() {
                query.equal.push((index, Arc::from(id)));
            }
        }
        let kind = payment["type"].clone();
        query.keep = Some(Box::new(move |row| row["payment"]["type"] == kind));
    }
    if let Some(status) = call.params.text("status") {
        query.equal.push((Index::Status, Arc::from(status)));
    }
    list_where(world, Kind::InvoicePayment, call, query)
}
