//! Payment methods: cards of several brands and bank debits, made from Stripe's own test tokens or test numbers.

use super::customers::ADDRESS;
use super::{Answer, Call, address, changed, fill, find, list, named};
use crate::error::StripeError;
use crate::kind::{Index, Kind};
use crate::params::{Field, Params, Spec, opt, req};
use crate::world::{World, opaque};
use serde_json::{Value, json};
use std::sync::Arc;

const TYPES: &[&str] =
    &["card", "us_bank_account", "sepa_debit", "link", "bacs_debit", "au_becs_debit", "customer_balance", "paypal"];

pub(crate) const LIST: &[Field] = &[
    opt("allow_redisplay", Spec::OneOf(REDISPLAY)),
    opt("customer", Spec::Text),
    opt("customer_account", Spec::Unsupported),
    opt("type", Spec::Text),
];

/// The same list below a customer's path.
pub(crate) const CUSTOMER_LIST: &[Field] = &[opt("allow_redisplay", Spec::OneOf(REDISPLAY)), opt("type", Spec::Text)];

const REDISPLAY: &[&str] = &["always", "limited", "unspecified"];

const BILLING: &[Field] = &[
    opt("address", Spec::ClearableHash(ADDRESS)),
    opt("email", Spec::Email),
    opt("name", Spec::Clearable),
    opt("phone", Spec::Clearable),
    opt("tax_id", Spec::Clearable),
];

const CARD: &[Field] = &[
    opt("cvc", Spec::Text),
    opt("exp_month", Spec::Int(0, 99)),
    opt("exp_year", Spec::Int(0, 9999)),
    opt("networks", Spec::Unsupported),
    opt("number", Spec::Text),
    opt("token", Spec::Text),
];

const US_BANK: &[Field] = &[
    opt("account_holder_type", Spec::OneOf(&["company", "individual"])),
    opt("account_number", Spec::Text),
    opt("account_type", Spec::OneOf(&["checking", "savings"])),
    opt("routing_number", Spec::Text),
];

const SEPA: &[Field] = &[req("iban", Spec::Text)];

pub(crate) const CREATE: &[Field] = &[
    req("type", Spec::OneOf(TYPES)),
    opt("customer_balance", Spec::Hash(&[])),
    opt("allow_redisplay", Spec::OneOf(REDISPLAY)),
    opt("billing_details", Spec::Hash(BILLING)),
    opt("card", Spec::Hash(CARD)),
    opt("metadata", Spec::Metadata),
    opt("sepa_debit", Spec::Hash(SEPA)),
    opt("us_bank_account", Spec::Hash(US_BANK)),
];

const CARD_UPDATE: &[Field] =
    &[opt("exp_month", Spec::Int(1, 12)), opt("exp_year", Spec::Int(0, 9999)), opt("networks", Spec::Unsupported)];

pub(crate) const UPDATE: &[Field] = &[
    opt("allow_redisplay", Spec::OneOf(REDISPLAY)),
    opt("billing_details", Spec::Hash(BILLING)),
    opt("card", Spec::Hash(CARD_UPDATE)),
    opt("metadata", Spec::Metadata),
    opt("us_bank_account", Spec::Unsupported),
];

pub(crate) const ATTACH: &[Field] = &[req("customer", Spec::Text), opt("customer_account", Spec::Unsupported)];

/// Test tokens: name, brand, funding, number.
const CARDS: &[(&str, &str, &str, &str)] = &[
    ("visa", "visa", "credit", "4242424242424242"),
    ("visa_debit", "visa", "debit", "4000056655665556"),
    ("mastercard", "mastercard", "credit", "5555555555554444"),
    ("mastercard_debit", "mastercard", "debit", "5200828282828210"),
    ("mastercard_prepaid", "mastercard", "prepaid", "5105105105105100"),
    ("amex", "amex", "credit", "378282246310005"),
    ("discover", "discover", "credit", "6011111111111117"),
    ("diners", "diners", "credit", "3056930009020004"),
    ("jcb", "jcb", "credit", "3566002020360505"),
    ("unionpay", "unionpay", "credit", "6200000000000005"),
    ("chargeCustomerFail", "visa", "credit", "4000000000000341"),
    ("chargeDeclined", "visa", "credit", "4000000000000002"),
    ("visa_chargeDeclined", "visa", "credit", "4000000000000002"),
    ("chargeDeclinedInsufficientFunds", "visa", "credit", "4000000000009995"),
    ("visa_chargeDeclinedInsufficientFunds", "visa", "credit", "4000000000009995"),
    ("visa_chargeDeclinedLostCard", "visa", "credit", "4000000000009987"),
    ("visa_chargeDeclinedStolenCard", "visa", "credit", "4000000000009979"),
    ("chargeDeclinedExpiredCard", "visa", "credit", "4000000000000069"),
    ("chargeDeclinedIncorrectCvc", "visa", "credit", "4000000000000127"),
    ("chargeDeclinedProcessingError", "visa", "credit", "4000000000000119"),
    ("visa_chargeDeclinedVelocityLimitExceeded", "visa", "credit", "4000000000006975"),
    ("bypassPending", "visa", "credit", "4000000000000077"),
    ("createDispute", "visa", "credit", "4000000000000259"),
    ("createDisputeProductNotReceived", "visa", "credit", "4000000000002685"),
    ("createDisputeInquiry", "visa", "credit", "4000000000001976"),
    ("authenticationRequired", "visa", "credit", "4000002760003184"),
    ("authenticationRequiredOnSetup", "visa", "credit", "4000002500003155"),
    ("authenticationRequiredChargeDeclinedInsufficientFunds", "visa", "credit", "4000008260003178"),
    ("threeDSecure2Required", "visa", "credit", "4000000000003220"),
    ("threeDSecureRequired", "visa", "credit", "4000000000003063"),
];

/// A method of any type, attached to nobody.
pub(crate) fn object(id: &str, kind: &str, created: i64) -> Value {
    json!({
        "id": id,
        "object": "payment_method",
        "allow_redisplay": "unspecified",
        "billing_details": {"address": address(None), "email": null, "name": null, "phone": null, "tax_id": null},
        "created": created,
        "customer": null,
        "customer_account": null,
        "livemode": false,
        "metadata": {},
        "type": kind
    })
}

/// The details of a card.
pub(crate) fn card(brand: &str, funding: &str, last4: &str, month: i64, year: i64) -> Value {
    let print = last4.bytes().fold(u64::from(brand.len() == 4), |sum, byte| sum * 251 + u64::from(byte));
    json!({
        "brand": brand,
        "checks": {"address_line1_check": null, "address_postal_code_check": null, "cvc_check": "pass"},
        "country": "US",
        "display_brand": brand,
        "exp_month": month,
        "exp_year": year,
        "fingerprint": opaque(print, 4, 16),
        "funding": funding,
        "generated_from": null,
        "last4": last4,
        "networks": {"available": [brand], "preferred": null},
        "regulated_status": "unregulated",
        "three_d_secure_usage": {"supported": true},
        "wallet": null
    })
}

/// The details of an American bank account.
pub(crate) fn us_bank(last4: &str, holder: &str, account: &str) -> Value {
    json!({
        "account_holder_type": holder,
        "account_type": account,
        "bank_name": "STRIPE TEST BANK",
        "financial_connections_account": null,
        "fingerprint": opaque(110, last4.bytes().map(u64::from).sum(), 16),
        "last4": last4,
        "networks": {"preferred": "ach", "supported": ["ach"]},
        "routing_number": "110000000",
        "status_details": {}
    })
}

/// The details of a European bank account.
pub(crate) fn sepa(iban: &str) -> Value {
    json!({
        "bank_code": "37040044",
        "branch_code": "",
        "country": iban.get(..2),
        "fingerprint": fingerprint(iban),
        "generated_from": {"charge": null, "setup_attempt": null},
        "last4": last4(iban)
    })
}

/// Test accounts without money in them. Two accounts can end in the same digits, so they are known by their fingerprints.
const POOR: [&str; 2] = ["AT861904300235473202", "IT60X0542811101000000123456"];

fn fingerprint(iban: &str) -> String {
    let sum = iban.bytes().fold(37_u64, |sum, byte| sum.wrapping_mul(131).wrapping_add(u64::from(byte)));
    opaque(37, sum, 16)
}

/// Why a charge of this method fails, when it does: Stripe's own test numbers say so.
pub(crate) fn decline(method: &Value) -> Option<&'static str> {
    if method["type"] == "sepa_debit" {
        let poor = POOR.iter().any(|iban| method["sepa_debit"]["fingerprint"] == fingerprint(iban));
        return poor.then_some("insufficient_funds");
    }
    match method["card"]["last4"].as_str() {
        Some("0341" | "0002") => Some("generic_decline"),
        Some("9995" | "3178") => Some("insufficient_funds"),
        Some("9987") => Some("lost_card"),
        Some("9979") => Some("stolen_card"),
        Some("0069") => Some("expired_card"),
        Some("0127") => Some("incorrect_cvc"),
        Some("0119") => Some("processing_error"),
        Some("6975") => Some("card_velocity_exceeded"),
        _ => None,
    }
}

/// Whether the bank wants to see the owner before this method pays (3-D Secure).
pub(crate) fn wants_owner(method: &Value) -> bool {
    let last4 = method["card"]["last4"].as_str().unwrap_or_default();
    match last4 {
        "3184" | "3178" | "3220" | "3063" => true,
        // Whoever saved it on purpose was asked then.
        "3155" => method["customer"].is_null(),
        _ => false,
    }
}

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    list(world, Kind::PaymentMethod, call, &[("customer", Index::Customer), ("type", Index::Type)])
}

pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    made(world, &call.params).map(super::Reply::One)
}

/// A new method of nobody's yet.
fn made(world: &mut World, sent: &Params) -> Result<Arc<Value>, StripeError> {
    let kind = sent.need("type")?.to_owned();
    let details = details(world, &kind, sent)?;
    let id = world.id("pm");
    let mut method = object(&id, &kind, world.now);
    method[kind.as_str()] = details;
    write(&mut method, sent);
    Ok(world.store.put(Kind::PaymentMethod, method))
}

/// The same parameters, with a method named where one was described.
pub(super) fn with_method(world: &mut World, sent: &Params) -> Result<Params, StripeError> {
    let Some(data) = sent.get("payment_method_data") else { return Ok(sent.clone()) };
    if sent.get("payment_method").is_some() {
        return Err(StripeError::exclusive(&["payment_method", "payment_method_data"]));
    }
    let method = made(world, &Params::over(data))?;
    Ok(sent.with("payment_method", method["id"].clone()))
}

fn details(world: &World, kind: &str, sent: &Params) -> Result<Value, StripeError> {
    let given = sent.get(kind);
    match kind {
        "card" => card_from(world, given.ok_or_else(|| StripeError::missing("card"))?),
        "us_bank_account" => {
            let given = given.ok_or_else(|| StripeError::missing("us_bank_account"))?;
            let number = given["account_number"].as_str().unwrap_or("000123456789");
            let holder = given["account_holder_type"].as_str().unwrap_or("individual");
            Ok(us_bank(last4(number), holder, given["account_type"].as_str().unwrap_or("checking")))
        }
        "sepa_debit" => {
            let given = given.ok_or_else(|| StripeError::missing("sepa_debit"))?;
            Ok(sepa(&given["iban"].as_str().unwrap_or_default().replace(' ', "")))
        }
        "customer_balance" => Ok(json!({})),
        "link" => Ok(json!({"email": null, "persistent_token": null})),
        other => Err(StripeError::unsupported(other)),
    }
}

fn last4(number: &str) -> &str {
    number.get(number.len().saturating_sub(4)..).unwrap_or(number)
}

fn card_from(world: &World, given: &Value) -> Result<Value, StripeError> {
    let year = i64::from(crate::calendar::year(world.now));
    if let Some(token) = given["token"].as_str() {
        let name = token.strip_prefix("tok_").unwrap_or(token);
        let known = CARDS.iter().find(|(known, ..)| *known == name);
        let (_, brand, funding, number) = known.ok_or_else(|| StripeError::no_such("token", token, "card[token]"))?;
        return Ok(card(brand, funding, last4(number), 12, year + 4));
    }
    let number = given["number"].as_str().ok_or_else(|| StripeError::missing("card[number]"))?.replace(' ', "");
    let known = CARDS.iter().find(|(.., known)| *known == number);
    let Some((_, brand, funding, number)) = known else {
        let text = "Your card number is incorrect.";
        return Err(StripeError::new(402, "card_error", text).code("incorrect_number").param("number"));
    };
    let month = given["exp_month"].as_i64().ok_or_else(|| StripeError::missing("card[exp_month]"))?;
    if !(1..=12).contains(&month) {
        let text = "Your card's expiration month is invalid.";
        return Err(StripeError::new(402, "card_error", text).code("invalid_expiry_month").param("exp_month"));
    }
    let until = given["exp_year"].as_i64().ok_or_else(|| StripeError::missing("card[exp_year]"))?;
    let until = if until < 100 { until + 2000 } else { until };
    if until < year {
        let text = "Your card's expiration year is invalid.";
        return Err(StripeError::new(402, "card_error", text).code("invalid_expiry_year").param("exp_year"));
    }
    Ok(card(brand, funding, last4(number), month, until))
}

pub(crate) fn update(world: &mut World, call: &Call<'_>) -> Answer {
    let mut method = (*find(&world.store, Kind::PaymentMethod, call.id())?).clone();
    if method["customer"].is_null() {
        let text = "You must save this PaymentMethod to a customer before you can update it.";
        return Err(StripeError::invalid(text));
    }
    write(&mut method, &call.params);
    if let Some(card) = call.params.get("card").filter(|_| method["type"] == "card") {
        fill(&mut method["card"], Some(card));
    }
    changed(world, Kind::PaymentMethod, method)
}

fn write(method: &mut Value, sent: &Params) {
    sent.assign(method, &["allow_redisplay"]);
    sent.merge_metadata(method);
    if let Some(billing) = sent.get("billing_details") {
        fill(&mut method["billing_details"], Some(billing));
        if billing.get("address").is_some() {
            method["billing_details"]["address"] = address(billing.get("address"));
        }
    }
}

/// A stored method by its id, or a new one from a test token (`pm_card_visa`, `tok_visa`).
pub(crate) fn resolve(world: &mut World, name: &str, param: &str) -> Result<Arc<Value>, StripeError> {
    if let Some(stored) = world.store.get(Kind::PaymentMethod, name) {
        return Ok(stored);
    }
    let year = i64::from(crate::calendar::year(world.now));
    let token = name.strip_prefix("pm_card_").or_else(|| name.strip_prefix("tok_"));
    let known = token.and_then(|token| CARDS.iter().find(|(known, ..)| *known == token));
    let (kind, details) = match (known, name) {
        (Some((_, brand, funding, number)), _) => ("card", card(brand, funding, last4(number), 12, year + 4)),
        (None, "pm_usBankAccount" | "pm_usBankAccount_success") => {
            ("us_bank_account", us_bank("6789", "individual", "checking"))
        }
        _ => return Err(StripeError::no_such("PaymentMethod", name, param)),
    };
    let id = world.id("pm");
    let mut method = object(&id, kind, world.now);
    method[kind] = details;
    Ok(Arc::new(method))
}

pub(crate) fn attach(world: &mut World, call: &Call<'_>) -> Answer {
    let customer = call.params.need("customer")?.to_owned();
    named(&world.store, Kind::Customer, &customer, "customer")?;
    let method = resolve(world, call.id(), "payment_method").map_err(|error| StripeError { status: 404, ..error })?;
    attach_to(world, method, &customer).map(super::Reply::One)
}

/// Gives the method to the customer; a method that is somebody else's stays theirs.
pub(crate) fn attach_to(world: &mut World, method: Arc<Value>, customer: &str) -> Result<Arc<Value>, StripeError> {
    match method["customer"].as_str() {
        Some(owner) if owner == customer => return Ok(method),
        Some(_) => {
            let text = "The payment method you provided has already been attached to a customer.";
            return Err(StripeError::invalid(text));
        }
        None => {}
    }
    if method["card"]["last4"] == "0002" {
        return Err(StripeError::declined("generic_decline"));
    }
    let mut method = (*method).clone();
    method["customer"] = json!(customer);
    Ok(world.store.put(Kind::PaymentMethod, method))
}

pub(crate) fn detach(world: &mut World, call: &Call<'_>) -> Answer {
    let method = find(&world.store, Kind::PaymentMethod, call.id())?;
    if method["customer"].is_null() {
        let text = "The payment method you provided is not attached to a customer so detachment is impossible.";
        return Err(StripeError::invalid(text).param("payment_method"));
    }
    Ok(super::Reply::One(detach_from(world, &method)))
}

/// Takes the method from its customer, also where it was the default.
pub(crate) fn detach_from(world: &mut World, method: &Value) -> Arc<Value> {
    let owner = method["customer"].as_str().unwrap_or_default();
    if let Some(customer) = world.store.get(Kind::Customer, owner)
        && customer["invoice_settings"]["default_payment_method"] == method["id"]
    {
        let mut customer = (*customer).clone();
        customer["invoice_settings"]["default_payment_method"] = Value::Null;
        world.store.put(Kind::Customer, customer);
    }
    let mut method = method.clone();
    method["customer"] = Value::Null;
    world.store.put(Kind::PaymentMethod, method)
}
