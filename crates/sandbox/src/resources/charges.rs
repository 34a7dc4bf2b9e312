//! Charges.

use super::{Answer, Call, changed, collection, fill, find, list_where, named, narrow, payment_methods};
use crate::error::StripeError;
use crate::kind::{Index, Kind};
use crate::params::{Field, Spec, opt, req};
use crate::world::World;
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) const LIST: &[Field] =
    &[opt("customer", Spec::Text), opt("payment_intent", Spec::Text), opt("transfer_group", Spec::Text)];

pub(crate) const CREATE: &[Field] = &[
    req("amount", Spec::Int(1, i64::MAX)),
    req("currency", Spec::Text),
    opt("application_fee", Spec::Unsupported),
    opt("application_fee_amount", Spec::Unsupported),
    opt("capture", Spec::Bool),
    opt("customer", Spec::Text),
    opt("description", Spec::Text),
    opt("destination", Spec::Unsupported),
    opt("metadata", Spec::Metadata),
    opt("on_behalf_of", Spec::Unsupported),
    opt("radar_options", Spec::Ignored),
    opt("receipt_email", Spec::Text),
    opt("shipping", Spec::Unsupported),
    opt("source", Spec::Text),
    opt("statement_descriptor", Spec::Text),
    opt("statement_descriptor_suffix", Spec::Text),
    opt("transfer_data", Spec::Unsupported),
    opt("transfer_group", Spec::Text),
];

const FRAUD: &[Field] = &[opt("user_report", Spec::OneOf(&["fraudulent", "safe"]))];

pub(crate) const UPDATE: &[Field] = &[
    opt("customer", Spec::Unsupported),
    opt("description", Spec::Clearable),
    opt("fraud_details", Spec::Hash(FRAUD)),
    opt("metadata", Spec::Metadata),
    opt("receipt_email", Spec::Clearable),
    opt("shipping", Spec::Unsupported),
    opt("transfer_group", Spec::Text),
];

/// What a new charge is about.
pub(crate) struct Asked<'a> {
    pub(crate) id: &'a str,
    pub(crate) created: i64,
    pub(crate) amount: i64,
    pub(crate) currency: &'a str,
    pub(crate) customer: &'a Value,
    pub(crate) description: Option<&'a str>,
    pub(crate) intent: Option<&'a str>,
    pub(crate) method: &'a Value,
    /// Why it fails, when it does.
    pub(crate) decline: Option<&'a str>,
}

/// A charge that went through at once, or failed at once.
pub(crate) fn object(asked: &Asked<'_>) -> Value {
    let mut charge = json!({
        "id": asked.id,
        "object": "charge",
        "amount": asked.amount,
        "amount_captured": asked.amount,
        "amount_refunded": 0,
        "application": null,
        "application_fee": null,
        "application_fee_amount": null,
        "balance_transaction": null,
        "billing_details": asked.method["billing_details"],
        "calculated_statement_descriptor": "BILLHOOK",
        "captured": true,
        "created": asked.created,
        "currency": asked.currency,
        "customer": asked.customer,
        "description": asked.description,
        "disputed": false,
        "failure_balance_transaction": null,
        "failure_code": null,
        "failure_message": null,
        "fraud_details": {},
        "livemode": false,
        "metadata": {},
        "on_behalf_of": null,
        "outcome": outcome(None),
        "paid": true,
        "payment_intent": asked.intent,
        "payment_method": asked.method["id"],
        "payment_method_details": details(asked.method, asked.amount),
        "receipt_email": null,
        "receipt_number": null,
        "receipt_url": format!("https://pay.stripe.com/receipts/payment/{}", asked.id),
        "refunded": false,
        "review": null,
        "shipping": null,
        "source": null,
        "source_transfer": null,
        "statement_descriptor": null,
        "statement_descriptor_suffix": null,
        "status": "succeeded",
        "transfer_data": null,
        "transfer_group": null
    });
    come_to(&mut charge, asked.decline);
    charge
}

/// The end of a charge: paid, or failed for this reason.
pub(crate) fn come_to(charge: &mut Value, decline: Option<&str>) {
    charge["outcome"] = outcome(decline);
    charge["paid"] = json!(decline.is_none());
    charge["status"] = json!("succeeded");
    let Some(code) = decline else { return };
    let error = StripeError::declined(code);
    charge["amount_captured"] = json!(0);
    charge["captured"] = json!(false);
    charge["failure_code"] = json!(error.code);
    charge["failure_message"] = json!(error.message);
    charge["receipt_url"] = Value::Null;
    charge["status"] = json!("failed");
}

fn outcome(decline: Option<&str>) -> Value {
    let message = match decline {
        None => "Payment complete.",
        Some("insufficient_funds") => "The bank returned the decline code `insufficient_funds`.",
        Some(_) => "The bank did not return any further details with this decline.",
    };
    json!({
        "advice_code": decline.map(|_| "try_again_later"),
        "network_advice_code": null,
        "network_decline_code": null,
        "network_status": if decline.is_some() { "declined_by_network" } else { "approved_by_network" },
        "reason": decline,
        "risk_level": "normal",
        "risk_score": 12,
        "seller_message": message,
        "type": if decline.is_some() { "issuer_declined" } else { "authorized" }
    })
}

/// What a charge remembers of the method that paid it.
pub(crate) fn details(method: &Value, amount: i64) -> Value {
    let kind = method["type"].as_str().unwrap_or("card");
    let given = &method[kind];
    let details = match kind {
        "card" => json!({
            "amount_authorized": amount, "authorization_code": null, "brand": given["brand"], "checks": given["checks"],
            "country": given["country"], "exp_month": given["exp_month"], "exp_year": given["exp_year"],
            "extended_authorization": {"status": "disabled"}, "fingerprint": given["fingerprint"],
            "funding": given["funding"], "incremental_authorization": {"status": "unavailable"}, "installments": null,
            "last4": given["last4"], "mandate": null, "multicapture": {"status": "unavailable"},
            "network": given["brand"], "network_token": {"used": false}, "network_transaction_id": null,
            "overcapture": {"maximum_amount_capturable": amount, "status": "unavailable"},
            "regulated_status": "unregulated", "three_d_secure": null, "transaction_link_id": null, "wallet": null
        }),
        "us_bank_account" => json!({
            "account_holder_type": given["account_holder_type"], "account_type": given["account_type"],
            "bank_name": given["bank_name"], "fingerprint": given["fingerprint"], "last4": given["last4"],
            "mandate": null, "payment_reference": null, "routing_number": given["routing_number"]
        }),
        "sepa_debit" => json!({
            "bank_code": given["bank_code"], "branch_code": given["branch_code"], "country": given["country"],
            "expected_debit_date": null, "fingerprint": given["fingerprint"], "last4": given["last4"], "mandate": null
        }),
        _ => json!({}),
    };
    json!({ kind: details, "type": kind })
}

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    let mut query = narrow(call, &[("payment_intent", Index::PaymentIntent), ("customer", Index::Customer)]);
    if let Some(group) = call.params.get("transfer_group") {
        query.keep = Some(Box::new(move |charge| charge["transfer_group"] == *group));
    }
    list_where(world, Kind::Charge, call, query)
}

pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    let currency = super::currencies::parse(sent.need("currency")?)?;
    let amount = sent.need_int("amount")?;
    super::currencies::chargeable(amount, &currency)?;
    let customer = match sent.text("customer") {
        Some(id) => Some(named(&world.store, Kind::Customer, id, "customer")?),
        None => None,
    };
    let method = source(world, sent.text("source"), customer.as_deref())?;
    let id = world.id("ch");
    let decline = payment_methods::decline(&method);
    let mut charge = object(&Asked {
        id: &id,
        created: world.now,
        amount,
        currency: &currency,
        customer: customer.as_ref().map_or(&Value::Null, |customer| &customer["id"]),
        description: sent.text("description"),
        intent: None,
        method: &method,
        decline,
    });
    sent.assign(
        &mut charge,
        &["receipt_email", "statement_descriptor", "statement_descriptor_suffix", "transfer_group"],
    );
    sent.merge_metadata(&mut charge);
    if sent.flag("capture") == Some(false) {
        return Err(StripeError::unsupported("capture"));
    }
    let charge = world.store.put(Kind::Charge, charge);
    match decline {
        Some(code) => Err(StripeError::declined(code).with("charge", json!(id)).keeping()),
        None => Ok(super::Reply::One(charge)),
    }
}

fn source(world: &mut World, source: Option<&str>, customer: Option<&Value>) -> Result<Arc<Value>, StripeError> {
    if let Some(source) = source {
        return payment_methods::resolve(world, source, "source");
    }
    let default = customer.and_then(|customer| collection::default_of(&world.store, customer));
    match (default, customer) {
        (Some(method), _) => Ok(method),
        (None, Some(_)) => {
            let text = "Cannot charge a customer that has no active card";
            Err(StripeError::new(402, "card_error", text).code("missing").param("card"))
        }
        (None, None) => Err(StripeError::invalid("Must provide source or customer.").code("parameter_missing")),
    }
}

pub(crate) fn update(world: &mut World, call: &Call<'_>) -> Answer {
    let mut charge = (*find(&world.store, Kind::Charge, call.id())?).clone();
    call.params.assign(&mut charge, &["description", "receipt_email", "transfer_group"]);
    call.params.merge_metadata(&mut charge);
    fill(&mut charge["fraud_details"], call.params.get("fraud_details"));
    changed(world, Kind::Charge, charge)
}
