//! Payment intents: one for each invoice that had to be paid.

use super::{Answer, Call, list, retrieve};
use crate::kind::{Index, Kind};
use crate::params::{Field, Spec, opt};
use crate::world::{World, opaque};
use serde_json::{Value, json};

pub(crate) const LIST: &[Field] = &[opt("customer", Spec::Text), opt("customer_account", Spec::Unsupported)];

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    list(world, Kind::PaymentIntent, call, &[("customer", Index::Customer)])
}

pub(crate) fn one(world: &World, call: &Call<'_>) -> Answer {
    retrieve(world, Kind::PaymentIntent, call)
}

/// An intent that waits for somebody to pay.
pub(crate) fn object(id: &str, created: i64, amount: i64, currency: &str, customer: &Value) -> Value {
    let salt = id.bytes().fold(5_u64, |sum, byte| sum.wrapping_mul(33).wrapping_add(u64::from(byte)));
    json!({
        "id": id,
        "object": "payment_intent",
        "amount": amount,
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "application": null,
        "application_fee_amount": null,
        "automatic_payment_methods": null,
        "canceled_at": null,
        "cancellation_reason": null,
        "capture_method": "automatic",
        "client_secret": format!("{id}_secret_{}", opaque(salt, 9, 25)),
        "confirmation_method": "automatic",
        "created": created,
        "currency": currency,
        "customer": customer,
        "customer_account": null,
        "description": null,
        "excluded_payment_method_types": null,
        "last_payment_error": null,
        "latest_charge": null,
        "livemode": false,
        "managed_payments": {"enabled": false},
        "metadata": {},
        "next_action": null,
        "on_behalf_of": null,
        "payment_method": null,
        "payment_method_configuration_details": null,
        "payment_method_options": {},
        "payment_method_types": ["card"],
        "processing": null,
        "receipt_email": null,
        "review": null,
        "setup_future_usage": "off_session",
        "shipping": null,
        "source": null,
        "statement_descriptor": null,
        "statement_descriptor_suffix": null,
        "status": "requires_payment_method",
        "transfer_data": null,
        "transfer_group": null
    })
}

/// The intent after a charge: paid, or waiting for another method with the reason why.
pub(crate) fn charged(intent: &mut Value, charge: &Value, method: &Value) {
    intent["latest_charge"] = charge["id"].clone();
    intent["payment_method_types"] = json!([method["type"]]);
    intent["description"] = charge["description"].clone();
    if charge["status"] == "succeeded" {
        intent["status"] = json!("succeeded");
        intent["amount_received"] = intent["amount"].clone();
        intent["payment_method"] = method["id"].clone();
    } else {
        intent["last_payment_error"] = json!({
            "charge": charge["id"], "code": charge["failure_code"], "decline_code": charge["outcome"]["reason"],
            "doc_url": "https://stripe.com/docs/error-codes/card-declined", "message": charge["failure_message"],
            "payment_method": method, "type": "card_error"
        });
    }
}
