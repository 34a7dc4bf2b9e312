//! Refunds: making one changes its charge.

use super::{Answer, Call, changed, currencies, disputes, find, list, named};
use crate::error::StripeError;
use crate::kind::{Index, Kind};
use crate::params::{Field, Spec, opt};
use crate::world::World;
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) const LIST: &[Field] = &[opt("charge", Spec::Text), opt("payment_intent", Spec::Text)];

pub(crate) const CREATE: &[Field] = &[
    opt("amount", Spec::Int(1, 99_999_999)),
    opt("charge", Spec::Text),
    opt("currency", Spec::Unsupported),
    opt("customer", Spec::Unsupported),
    opt("instructions_email", Spec::Ignored),
    opt("metadata", Spec::Metadata),
    opt("origin", Spec::Unsupported),
    opt("payment_intent", Spec::Text),
    opt("reason", Spec::OneOf(&["duplicate", "fraudulent", "requested_by_customer"])),
    opt("refund_application_fee", Spec::Ignored),
    opt("reverse_transfer", Spec::Ignored),
];

pub(crate) const UPDATE: &[Field] = &[opt("metadata", Spec::Metadata)];

/// A refund of this charge that went through at once.
pub(crate) fn object(id: &str, charge: &Value, amount: i64, reason: Option<&str>, created: i64) -> Value {
    let kind = charge["payment_method_details"]["type"].as_str().unwrap_or("card");
    let destination = match kind {
        "card" => {
            json!({"card": {"reference": null, "reference_status": "pending", "reference_type": "acquirer_reference_number", "type": "refund"}, "type": "card"})
        }
        other => json!({other: {}, "type": other}),
    };
    json!({
        "id": id,
        "object": "refund",
        "amount": amount,
        "balance_transaction": null,
        "charge": charge["id"],
        "created": created,
        "currency": charge["currency"],
        "customer": charge["customer"],
        "customer_account": null,
        "destination_details": destination,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "payment_method": charge["payment_method"],
        "reason": reason,
        "receipt_number": null,
        "source_transfer_reversal": null,
        "status": "succeeded",
        "transfer_reversal": null
    })
}

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    list(world, Kind::Refund, call, &[("charge", Index::Charge), ("payment_intent", Index::PaymentIntent)])
}

/// The refunds of one charge, below the charge's path.
pub(crate) fn of_charge(world: &World, call: &Call<'_>) -> Answer {
    find(&world.store, Kind::Charge, call.id())?;
    let mut query = super::narrow(call, &[]);
    query.equal.push((Index::Charge, Arc::from(call.id())));
    super::list_where(world, Kind::Refund, call, query)
}

pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    let charge = match (sent.text("charge"), sent.text("payment_intent")) {
        (Some(id), _) => named(&world.store, Kind::Charge, id, "charge")?,
        (None, Some(id)) => {
            let intent = world.store.get(Kind::PaymentIntent, id);
            let intent = intent.ok_or_else(|| StripeError::no_such("payment_intent", id, "payment_intent"))?;
            let none = || {
                let text = format!("This PaymentIntent ({id}) does not have a successful charge to refund.");
                StripeError::invalid(text).param("payment_intent")
            };
            let charge = intent["latest_charge"].as_str().ok_or_else(none)?;
            named(&world.store, Kind::Charge, charge, "payment_intent")?
        }
        (None, None) => {
            return Err(StripeError::invalid(
                "One of the following params should be provided for this request: payment_intent or charge.",
            ));
        }
    };
    let mut refund = give(world, &charge, sent.int("amount"), sent.text("reason"))?;
    sent.merge_metadata(&mut refund);
    changed(world, Kind::Refund, refund)
}

/// A refund of so much, or of all that is left, booked on its charge. The caller stores it.
pub(crate) fn give(
    world: &mut World,
    charge: &Value,
    amount: Option<i64>,
    reason: Option<&str>,
) -> Result<Value, StripeError> {
    disputes::check_refund(&world.store, charge)?;
    let amount = allowed(charge, amount)?;
    let id = world.id("re");
    let refund = object(&id, charge, amount, reason, world.now);
    take_from(world, charge, amount);
    Ok(refund)
}

fn allowed(charge: &Value, asked: Option<i64>) -> Result<i64, StripeError> {
    let id = charge["id"].as_str().unwrap_or_default();
    if charge["status"] != "succeeded" {
        let text = format!("The charge {id} was not successful and cannot be refunded.");
        return Err(StripeError::invalid(text).code("charge_not_refundable").param("charge"));
    }
    let left = charge["amount"].as_i64().unwrap_or_default() - charge["amount_refunded"].as_i64().unwrap_or_default();
    if left == 0 {
        let text = format!("Charge {id} has already been refunded.");
        return Err(StripeError::invalid(text).code("charge_already_refunded"));
    }
    match asked {
        Some(amount) if amount > left => {
            let currency = charge["currency"].as_str().unwrap_or_default();
            let untouched = charge["amount_refunded"] == 0;
            let text = format!(
                "Refund amount ({}) is greater than {} ({})",
                currencies::written(amount, currency),
                if untouched { "charge amount" } else { "unrefunded amount on charge" },
                currencies::written(left, currency)
            );
            Err(StripeError::invalid(text).param("amount"))
        }
        Some(amount) => Ok(amount),
        None => Ok(left),
    }
}

/// Books the refund on its charge.
pub(crate) fn take_from(world: &mut World, charge: &Value, amount: i64) {
    let mut charge = charge.clone();
    let refunded = charge["amount_refunded"].as_i64().unwrap_or_default() + amount;
    charge["amount_refunded"] = json!(refunded);
    charge["refunded"] = json!(charge["amount"] == refunded);
    world.store.put(Kind::Charge, charge);
}

pub(crate) fn update(world: &mut World, call: &Call<'_>) -> Answer {
    let mut refund = (*find(&world.store, Kind::Refund, call.id())?).clone();
    call.params.merge_metadata(&mut refund);
    changed(world, Kind::Refund, refund)
}
