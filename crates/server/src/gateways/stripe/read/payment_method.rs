//! A payment method, or the card, bank account or source that it was before 2019.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::{ReadError, fields, parse};

/// A way to pay.
#[derive(Clone, Debug)]
pub struct PaymentMethod {
    pub id: String,
    pub customer: Option<String>,
    /// card, us_bank_account, sepa_debit and many more, as it was sent.
    pub kind: Option<String>,
    /// The card, where it is one.
    pub card: Option<Card>,
    pub created: Option<Timestamp>,
    pub metadata: BTreeMap<String, String>,
    pub livemode: Option<bool>,
    pub deleted: bool,
}

/// What may be shown of a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// As payment methods write it, in lower case.
    pub brand: Option<String>,
    pub last4: Option<String>,
    pub exp_month: Option<i64>,
    pub exp_year: Option<i64>,
}

/// Reads a payment method or a legacy card, bank account or source.
///
/// # Errors
/// When there is no id.
pub fn payment_method(raw: &str) -> Result<PaymentMethod, ReadError> {
    let (id, value) = parse(raw)?;
    let kind = kind(&value);
    let card = (kind.as_deref() == Some("card")).then(|| card(&value));
    Ok(PaymentMethod {
        id,
        customer: fields::holder(&value),
        kind,
        card,
        created: fields::instant(&value["created"]),
        metadata: fields::metadata(&value["metadata"]),
        livemode: value["livemode"].as_bool(),
        deleted: fields::flag(&value["deleted"]),
    })
}

/// A legacy card or bank account has no type: it is one by its object's name.
fn kind(value: &Value) -> Option<String> {
    match value["object"].as_str() {
        Some(legacy @ ("card" | "bank_account")) => Some(legacy.to_owned()),
        _ => fields::text(&value["type"]),
    }
}

fn card(value: &Value) -> Card {
    let card = if value["card"].is_object() { &value["card"] } else { value };
    Card {
        brand: fields::text(&card["brand"]).map(|brand| brand_word(&brand)),
        last4: fields::text(&card["last4"]),
        exp_month: fields::whole(&card["exp_month"]),
        exp_year: fields::whole(&card["exp_year"]),
    }
}

/// Legacy cards write `American Express` where payment methods write `amex`.
fn brand_word(brand: &str) -> String {
    match brand {
        "American Express" => "amex".to_owned(),
        "Diners Club" => "diners".to_owned(),
        "MasterCard" => "mastercard".to_owned(),
        other => other.to_ascii_lowercase(),
    }
}
