//! Issuing: cardholders, the cards that they are given, and what is bought with them.

use super::customers::ADDRESS;
use super::{Answer, Call, add, address, changed, currencies, find, named, plain, prices};
use crate::error::StripeError;
use crate::kind::Kind;
use crate::params::{Field, Spec, opt, req};
use crate::world::World;
use serde_json::{Value, json};
use std::sync::Arc;

const BILLING: &[Field] = &[req("address", Spec::Hash(ADDRESS))];
const COMMON: &[Field] = &[
    opt("company", Spec::Ignored),
    opt("email", Spec::Email),
    opt("individual", Spec::Ignored),
    opt("metadata", Spec::Metadata),
    opt("phone_number", Spec::Text),
    opt("preferred_locales", Spec::List(&Spec::Text)),
    opt("spending_controls", Spec::Unsupported),
    opt("status", Spec::OneOf(&["active", "inactive"])),
];
pub(crate) const CARDHOLDER: &[&[Field]] = &[
    COMMON,
    &[
        req("billing", Spec::Hash(BILLING)),
        req("name", Spec::Text),
        opt("type", Spec::OneOf(&["company", "individual"])),
    ],
];
pub(crate) const CARDHOLDER_UPDATE: &[&[Field]] = &[COMMON, &[opt("billing", Spec::Hash(BILLING))]];
pub(crate) const CARDHOLDER_LIST: &[Field] = &[
    opt("email", Spec::Text),
    opt("phone_number", Spec::Text),
    opt("status", Spec::OneOf(&["active", "blocked", "inactive"])),
    opt("type", Spec::OneOf(&["company", "individual"])),
];
pub(crate) const CARD: &[Field] = &[
    req("currency", Spec::Text),
    req("type", Spec::OneOf(&["physical", "virtual"])),
    opt("cardholder", Spec::Text),
    opt("metadata", Spec::Metadata),
    opt("shipping", Spec::Unsupported),
    opt("spending_controls", Spec::Unsupported),
    opt("status", Spec::OneOf(&["active", "inactive"])),
];
pub(crate) const CARD_LIST: &[Field] = &[
    opt("cardholder", Spec::Text),
    opt("last4", Spec::Text),
    opt("status", Spec::OneOf(&["active", "canceled", "inactive"])),
    opt("type", Spec::OneOf(&["physical", "virtual"])),
];
pub(crate) const CARD_UPDATE: &[Field] = &[
    opt("cancellation_reason", Spec::OneOf(&["lost", "stolen"])),
    opt("metadata", Spec::Metadata),
    opt("status", Spec::OneOf(&["active", "canceled", "inactive"])),
];
const MERCHANT: &[Field] = &[
    opt("category", Spec::Text),
    opt("city", Spec::Text),
    opt("country", Spec::Text),
    opt("name", Spec::Text),
    opt("network_id", Spec::Text),
    opt("postal_code", Spec::Text),
    opt("state", Spec::Text),
    opt("terminal_id", Spec::Text),
    opt("url", Spec::Text),
];
const RECEIPT: &[Field] = &[
    opt("description", Spec::Text),
    opt("quantity", Spec::Decimal),
    opt("total", Spec::Int(0, prices::AMOUNT_MAX)),
    opt("unit_cost", Spec::Int(0, prices::AMOUNT_MAX)),
];
const DETAILS: &[Field] = &[opt("receipt", Spec::List(&Spec::Hash(RECEIPT))), opt("reference", Spec::Text)];
pub(crate) const AUTHORIZE: &[Field] = &[
    opt("amount", Spec::Int(0, prices::AMOUNT_MAX)),
    opt("authorization_method", Spec::OneOf(&["chip", "contactless", "keyed_in", "online", "swipe"])),
    opt("card", Spec::Text),
    opt("currency", Spec::Text),
    opt("held_amount", Spec::Int(0, prices::AMOUNT_MAX)),
    opt("held_currency", Spec::Text),
    opt("merchant_data", Spec::Hash(MERCHANT)),
];
pub(crate) const CAPTURE: &[Field] = &[
    req("amount", Spec::Int(1, prices::AMOUNT_MAX)),
    req("card", Spec::Text),
    opt("currency", Spec::Text),
    opt("merchant_data", Spec::Hash(MERCHANT)),
    opt("purchase_details", Spec::Hash(DETAILS)),
];
pub(crate) const LIST: &[Field] = &[opt("card", Spec::Text), opt("cardholder", Spec::Text)];

fn controls() -> Value {
    json!({
        "allowed_card_presences": null, "allowed_categories": null, "allowed_merchant_countries": null,
        "blocked_card_presences": null, "blocked_categories": null, "blocked_merchant_countries": null,
        "spending_limits": [], "spending_limits_currency": null
    })
}

pub(crate) fn create_cardholder(world: &mut World, call: &Call<'_>) -> Answer {
    let id = world.id("ich");
    let mut holder = json!({
        "id": id, "object": "issuing.cardholder", "billing": null, "company": null, "created": world.now, "email": null,
        "individual": null, "livemode": false, "metadata": {}, "name": null, "phone_number": null,
        "preferred_locales": null, "requirements": {"disabled_reason": null, "past_due": []},
        "spending_controls": controls(), "status": "active", "type": "individual"
    });
    plain::write(&mut holder, &call.params);
    holder["billing"]["address"] = address(call.params.get("billing").map(|billing| &billing["address"]));
    changed(world, Kind::Cardholder, holder)
}

pub(crate) fn create_card(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    let currency = currencies::parse(sent.need("currency")?)?;
    let holder = named(&world.store, Kind::Cardholder, sent.need("cardholder")?, "cardholder")?;
    let id = world.id("ic");
    let last4 = format!("{:04}", world.store.next() % 10_000);
    let mut card = json!({
        "id": id, "object": "issuing.card", "brand": "Visa", "cancellation_reason": null, "cardholder": null,
        "created": world.now, "currency": null, "exp_month": 12,
        "exp_year": i64::from(crate::calendar::year(world.now)) + 3, "last4": last4, "latest_fraud_warning": null,
        "lifecycle_controls": null, "livemode": false, "metadata": {}, "personalization_design": null,
        "replaced_by": null, "replacement_for": null, "replacement_reason": null, "second_line": null,
        "shipping": null, "spending_controls": controls(), "status": "inactive", "type": null, "wallets": {
            "apple_pay": {"eligible": true, "ineligible_reason": null},
            "google_pay": {"eligible": true, "ineligible_reason": null}, "primary_account_identifier": null
        }
    });
    plain::write(&mut card, sent);
    card["cardholder"] = (*holder).clone();
    card["currency"] = json!(currency);
    changed(world, Kind::IssuingCard, card)
}

/// A canceled card stays canceled.
pub(crate) fn update_card(world: &mut World, call: &Call<'_>) -> Answer {
    let card = find(&world.store, Kind::IssuingCard, call.id())?;
    if card["status"] == "canceled" && call.params.get("status").is_some() {
        let text = "You cannot update the status of a card that has been canceled.";
        return Err(StripeError::invalid(text).param("status"));
    }
    plain::update(world, call)
}

/// What everything that is bought with a card says of where it is bought.
fn bought(card: &Value, amount: i64, currency: &Value, call: &Call<'_>) -> Value {
    let mut merchant = json!({
        "category": "computer_software_stores", "category_code": "5734", "city": "San Francisco", "country": "US",
        "name": "Stripe", "network_id": "1234567890", "postal_code": "94103", "state": "CA", "tax_id": null,
        "terminal_id": null, "url": null
    });
    super::fill(&mut merchant, call.params.get("merchant_data"));
    json!({
        "amount": amount, "amount_details": {"atm_fee": null, "cashback_amount": null}, "cardholder": card["cardholder"]["id"],
        "currency": currency, "livemode": false, "merchant_amount": amount, "merchant_currency": currency,
        "merchant_data": merchant, "metadata": {}, "token": null, "wallet": null
    })
}

fn usable(world: &World, id: &str) -> Result<Arc<Value>, StripeError> {
    let card = named(&world.store, Kind::IssuingCard, id, "card")?;
    if card["status"] == "canceled" {
        return Err(StripeError::invalid("This card is canceled and cannot be used.").param("card"));
    }
    Ok(card)
}

/// Somebody wants to pay with a card: who listens is asked, and an active card is approved.
pub(crate) fn authorize(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    let card = usable(world, sent.text("card").unwrap_or(call.id()))?;
    let amount = sent.int("held_amount").map_or_else(|| sent.need_int("amount"), Ok)?;
    let currency = sent.text("held_currency").or(sent.text("currency"));
    let currency = currency.map_or(Ok(card["currency"].clone()), |text| currencies::parse(text).map(Value::from))?;
    let (id, approved) = (world.id("iauth"), card["status"] == "active");
    let asked = json!({
        "amount": amount, "amount_details": {"atm_fee": null, "cashback_amount": null}, "currency": currency,
        "is_amount_controllable": false, "merchant_amount": amount, "merchant_currency": currency,
        "network_risk_score": null
    });
    let mut authorization = bought(&card, 0, &currency, call);
    add(
        &mut authorization,
        json!({
            "id": id, "object": "issuing.authorization", "approved": false,
            "authorization_method": sent.text("authorization_method").unwrap_or("online"), "balance_transactions": [],
            "card": *card, "card_presence": null, "created": world.now, "fleet": null, "fuel": null,
            "network_data": null, "pending_request": asked, "request_history": [], "status": "pending", "transactions": [],
            "verification_data": {
                "address_line1_check": "not_provided", "address_postal_code_check": "not_provided",
                "authentication_exemption": null, "cvc_check": "match", "expiry_check": "match", "postal_code": null,
                "three_d_secure": null
            },
            "verified_by_fraud_challenge": null
        }),
    );
    world.store.tell("issuing_authorization.request", Arc::new(authorization.clone()));
    let reason = if approved { "webhook_timeout" } else { "card_inactive" };
    let mut answered = asked;
    add(
        &mut answered,
        json!({
            "approved": approved, "authorization_code": null, "created": world.now, "reason": reason,
            "reason_message": null, "requested_at": world.now
        }),
    );
    if let Some(members) = answered.as_object_mut() {
        members.remove("is_amount_controllable");
    }
    let held = if approved { amount } else { 0 };
    add(
        &mut authorization,
        json!({
            "amount": held, "approved": approved, "merchant_amount": held, "pending_request": null,
            "request_history": [answered], "status": if approved { "pending" } else { "closed" }
        }),
    );
    changed(world, Kind::Authorization, authorization)
}

/// A shop takes money without asking first.
pub(crate) fn capture(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    let card = usable(world, sent.need("card")?)?;
    let currency = sent.text("currency");
    let currency = currency.map_or(Ok(card["currency"].clone()), |text| currencies::parse(text).map(Value::from))?;
    let (id, amount) = (world.id("ipi"), -sent.need_int("amount")?);
    let details = sent.get("purchase_details").map(|given| {
        let receipt: Vec<Value> = crate::world::array(&given["receipt"]).iter().map(receipt_row).collect();
        json!({
            "fleet": null, "flight": null, "fuel": null, "lodging": null, "receipt": receipt,
            "reference": given["reference"]
        })
    });
    let mut transaction = bought(&card, amount, &currency, call);
    add(
        &mut transaction,
        json!({
            "id": id, "object": "issuing.transaction", "authorization": null, "balance_transaction": null,
            "card": card["id"], "created": world.now, "dispute": null,
            "network_data": {"authorization_code": null, "processing_date": null, "transaction_id": null},
            "purchase_details": details, "type": "capture"
        }),
    );
    changed(world, Kind::IssuingTransaction, transaction)
}

fn receipt_row(given: &Value) -> Value {
    let quantity = given["quantity"].as_str().and_then(|text| text.parse::<serde_json::Number>().ok());
    json!({
        "description": given["description"], "quantity": quantity, "total": given["total"],
        "unit_cost": given["unit_cost"]
    })
}
