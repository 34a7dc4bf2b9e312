//! Disputes: a cardholder has the bank take a payment back. The owners of some test cards do that as soon as time goes on, and
//! what the evidence says decides how it ends.

use super::{Answer, Call, Reply, fill, find, list};
use crate::calendar::DAY;
use crate::error::StripeError;
use crate::kind::{Index, Kind};
use crate::params::{Field, Spec, opt};
use crate::store::Store;
use crate::world::World;
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) const LIST: &[Field] = &[opt("charge", Spec::Text), opt("payment_intent", Spec::Text)];

const EVIDENCE: &[Field] = &[
    opt("access_activity_log", Spec::Clearable),
    opt("appeal", Spec::Unsupported),
    opt("billing_address", Spec::Clearable),
    opt("cancellation_policy", Spec::Clearable),
    opt("cancellation_policy_disclosure", Spec::Clearable),
    opt("cancellation_rebuttal", Spec::Clearable),
    opt("customer_communication", Spec::Clearable),
    opt("customer_email_address", Spec::Email),
    opt("customer_name", Spec::Clearable),
    opt("customer_purchase_ip", Spec::Clearable),
    opt("customer_signature", Spec::Clearable),
    opt("duplicate_charge_documentation", Spec::Clearable),
    opt("duplicate_charge_explanation", Spec::Clearable),
    opt("duplicate_charge_id", Spec::Clearable),
    opt("enhanced_evidence", Spec::Unsupported),
    opt("product_description", Spec::Clearable),
    opt("receipt", Spec::Clearable),
    opt("refund_policy", Spec::Clearable),
    opt("refund_policy_disclosure", Spec::Clearable),
    opt("refund_refusal_explanation", Spec::Clearable),
    opt("service_date", Spec::Clearable),
    opt("service_documentation", Spec::Clearable),
    opt("shipping_address", Spec::Clearable),
    opt("shipping_carrier", Spec::Clearable),
    opt("shipping_date", Spec::Clearable),
    opt("shipping_documentation", Spec::Clearable),
    opt("shipping_tracking_number", Spec::Clearable),
    opt("uncategorized_file", Spec::Clearable),
    opt("uncategorized_text", Spec::Clearable),
];

pub(crate) const UPDATE: &[Field] = &[
    opt("evidence", Spec::Hash(EVIDENCE)),
    opt("intended_submission_method", Spec::Unsupported),
    opt("metadata", Spec::Metadata),
    opt("submit", Spec::Bool),
];

/// Cards whose owner disputes: their last digits, the reason, the network's code for it, and whether the bank only asks.
const DISPUTING: [(&str, &str, &str, bool); 3] = [
    ("0259", "fraudulent", "10.4", false),
    ("2685", "product_not_received", "13.1", false),
    ("1976", "general", "10.4", true),
];

/// What the bank takes for its work, in minor units.
const FEE: i64 = 1500;
/// How long there is for an answer.
const PATIENCE: i64 = 9 * DAY;

/// Why the owner of the card that paid this will dispute it, where they will and have not yet.
fn reason(charge: &Value) -> Option<&'static (&'static str, &'static str, &'static str, bool)> {
    let last4 = charge["payment_method_details"]["card"]["last4"].as_str()?;
    let waits = charge["status"] == "succeeded" && charge["captured"] == true && charge["disputed"] == false;
    DISPUTING.iter().find(|(known, ..)| waits && *known == last4)
}

/// Whether this charge will be disputed as soon as time goes on.
pub(crate) fn awaits(charge: &Value) -> bool {
    reason(charge).is_some()
}

/// When the bank decides: at once where the evidence says how, else when nobody has answered in time.
pub(crate) fn due(dispute: &Value) -> Option<i64> {
    match dispute["status"].as_str()? {
        "under_review" | "warning_under_review" => verdict(dispute).map(|_| 0),
        "needs_response" | "warning_needs_response" => dispute["evidence_details"]["due_by"].as_i64(),
        _ => None,
    }
}

/// The words by which a test says how a dispute is to end.
fn verdict(dispute: &Value) -> Option<&'static str> {
    match (dispute["evidence"]["uncategorized_text"].as_str()?, is_inquiry(dispute)) {
        ("winning_evidence", true) => Some("warning_closed"),
        ("winning_evidence", false) => Some("won"),
        ("losing_evidence" | "escalate_inquiry_evidence", true) => Some("needs_response"),
        ("losing_evidence", false) => Some("lost"),
        _ => None,
    }
}

fn is_inquiry(dispute: &Value) -> bool {
    dispute["status"].as_str().is_some_and(|status| status.starts_with("warning_"))
}

/// The owner of the card goes to the bank.
pub(crate) fn open(world: &mut World, charge: &Value) {
    let Some((_, reason, code, inquiry)) = reason(charge) else { return };
    let id = world.id("du");
    let mut dispute = object(&id, charge, world.now);
    dispute["reason"] = json!(reason);
    dispute["payment_method_details"]["card"]["network_reason_code"] = json!(code);
    let mut charge = charge.clone();
    charge["disputed"] = json!(true);
    world.store.put(Kind::Charge, charge);
    if *inquiry {
        world.store.put(Kind::Dispute, dispute);
    } else {
        begin(world, dispute);
    }
}

fn object(id: &str, charge: &Value, now: i64) -> Value {
    let card = &charge["payment_method_details"]["card"];
    let mut evidence = serde_json::Map::new();
    for field in EVIDENCE.iter().filter(|field| field.name != "appeal") {
        evidence.insert(field.name.to_owned(), Value::Null);
    }
    evidence["enhanced_evidence"] = json!({});
    json!({
        "id": id,
        "object": "dispute",
        "amount": charge["amount_captured"],
        "balance_transactions": [],
        "charge": charge["id"],
        "created": now,
        "currency": charge["currency"],
        "enhanced_eligibility_types": [],
        "evidence": evidence,
        "evidence_details": {
            "due_by": (now + PATIENCE) / DAY * DAY + DAY - 1, "enhanced_eligibility": {}, "has_evidence": false,
            "past_due": false, "submission_count": 0, "submission_method": "not_submitted"
        },
        "is_charge_refundable": true,
        "livemode": false,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "payment_method_details": {
            "card": {"brand": card["brand"], "case_type": "inquiry", "network": card["network"], "network_reason_code": null},
            "type": "card"
        },
        "reason": "general",
        "status": "warning_needs_response"
    })
}

/// The bank no longer asks: it takes the money, and its fee.
fn begin(world: &mut World, mut dispute: Value) {
    dispute["status"] = json!("needs_response");
    dispute["is_charge_refundable"] = json!(false);
    dispute["payment_method_details"]["card"]["case_type"] = json!("chargeback");
    let amount = dispute["amount"].as_i64().unwrap_or_default();
    book(world, &mut dispute, -amount, FEE, "dispute");
    let stored = world.store.put(Kind::Dispute, dispute);
    world.store.tell("charge.dispute.funds_withdrawn", stored);
}

/// Writes a movement of our balance into the dispute.
fn book(world: &mut World, dispute: &mut Value, amount: i64, fee: i64, category: &str) {
    let id = world.id("txn");
    let charge = dispute["charge"].as_str().unwrap_or_default();
    let details = json!([{
        "amount": fee, "application": null, "currency": dispute["currency"], "description": "Dispute fee", "type": "stripe_fee"
    }]);
    let transaction = json!({
        "id": id,
        "object": "balance_transaction",
        "amount": amount,
        "available_on": world.now,
        "balance_type": "payments",
        "created": world.now,
        "currency": dispute["currency"],
        "description": format!("Chargeback {}for {charge}", if fee == 0 { "reversal " } else { "withdrawal " }),
        "exchange_rate": null,
        "fee": fee,
        "fee_details": if fee == 0 { json!([]) } else { details },
        "net": amount - fee,
        "reporting_category": category,
        "source": dispute["id"],
        "status": "available",
        "type": "adjustment"
    });
    if let Some(booked) = dispute["balance_transactions"].as_array_mut() {
        booked.insert(0, transaction);
    }
}

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    list(world, Kind::Dispute, call, &[("charge", Index::Charge), ("payment_intent", Index::PaymentIntent)])
}

/// Evidence goes to the bank with the first change that does not hold it back.
pub(crate) fn update(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    let before = find(&world.store, Kind::Dispute, call.id())?;
    let mut dispute = (*before).clone();
    sent.merge_metadata(&mut dispute);
    if let Some(evidence) = sent.get("evidence") {
        refuse_closed(&before)?;
        fill(&mut dispute["evidence"], Some(evidence));
        dispute["evidence_details"]["has_evidence"] = json!(true);
    }
    let hands_in = sent.get("evidence").is_some() || sent.flag("submit") == Some(true);
    if hands_in && sent.flag("submit") != Some(false) && dispute["evidence_details"]["has_evidence"] == true {
        refuse_closed(&before)?;
        let times = dispute["evidence_details"]["submission_count"].as_i64().unwrap_or_default() + 1;
        let late = dispute["evidence_details"]["due_by"].as_i64().is_some_and(|due| due < world.now);
        let details = json!({"past_due": late, "submission_count": times, "submission_method": "manual"});
        fill(&mut dispute["evidence_details"], Some(&details));
        dispute["status"] = json!(if is_inquiry(&before) { "warning_under_review" } else { "under_review" });
    }
    Ok(Reply::One(world.store.put(Kind::Dispute, dispute)))
}

fn refuse_closed(dispute: &Value) -> Result<(), StripeError> {
    match dispute["status"].as_str() {
        Some("won" | "lost" | "warning_closed") => Err(StripeError::invalid("This dispute is already closed.")),
        _ => Ok(()),
    }
}

/// Nobody contests it.
pub(crate) fn close(world: &mut World, call: &Call<'_>) -> Answer {
    let dispute = find(&world.store, Kind::Dispute, call.id())?;
    refuse_closed(&dispute)?;
    let status = if is_inquiry(&dispute) { "warning_closed" } else { "lost" };
    Ok(Reply::One(end(world, &dispute, status)))
}

/// The bank decides, or the time for an answer is over.
pub(crate) fn happen(world: &mut World, dispute: &Value) {
    let unanswered = if is_inquiry(dispute) { "warning_closed" } else { "lost" };
    match verdict(dispute).unwrap_or(unanswered) {
        "needs_response" => begin(world, dispute.clone()),
        status => drop(end(world, dispute, status)),
    }
}

fn end(world: &mut World, dispute: &Value, status: &str) -> Arc<Value> {
    let mut dispute = dispute.clone();
    dispute["status"] = json!(status);
    let won = status == "won";
    if won {
        dispute["is_charge_refundable"] = json!(true);
        let amount = dispute["amount"].as_i64().unwrap_or_default();
        book(world, &mut dispute, amount, 0, "dispute_reversal");
    }
    let stored = world.store.put(Kind::Dispute, dispute);
    if won {
        world.store.tell("charge.dispute.funds_reinstated", Arc::clone(&stored));
    }
    stored
}

/// What the bank has taken back cannot be given back.
pub(crate) fn check_refund(store: &Store, charge: &Value) -> Result<(), StripeError> {
    let id = charge["id"].as_str().unwrap_or_default();
    let dispute = store.newest(Kind::Dispute, Index::Charge, id);
    if dispute.is_none_or(|dispute| dispute["is_charge_refundable"] == true) {
        return Ok(());
    }
    let text = format!("Charge {id} has been charged back; cannot issue a refund.");
    Err(StripeError::invalid(text).code("charge_disputed"))
}
