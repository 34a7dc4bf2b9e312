//! A charge: money that moved, or did not.

use std::collections::BTreeMap;

use billing::Currency;
use jiff::Timestamp;
use serde_json::Value;

use super::refund::{self, Refund};
use super::{ReadError, fields, parse};

/// A charge. Amounts are minor units of its currency.
#[derive(Clone, Debug)]
pub struct Charge {
    pub id: String,
    pub customer: Option<String>,
    pub amount_minor: Option<i64>,
    pub amount_refunded_minor: Option<i64>,
    pub currency: Option<Currency>,
    /// succeeded, pending, failed, or a word of later days.
    pub status: Option<String>,
    pub description: Option<String>,
    pub failure_code: Option<String>,
    pub created: Option<Timestamp>,
    pub paid: bool,
    /// All of it was given back.
    pub refunded: bool,
    /// Only before basil; later `GET /v1/invoice_payments` knows.
    pub invoice: Option<String>,
    pub payment_intent: Option<String>,
    pub payment_method: Option<String>,
    /// The refunds, where they were sent with the charge.
    pub refunds: Vec<Refund>,
    pub metadata: BTreeMap<String, String>,
    pub livemode: Option<bool>,
}

/// Reads a charge.
///
/// # Errors
/// When there is no id.
pub fn charge(raw: &str) -> Result<Charge, ReadError> {
    let (id, value) = parse(raw)?;
    let refunds = fields::list(&value["refunds"]).iter();
    Ok(Charge {
        customer: fields::holder(&value),
        amount_minor: fields::whole(&value["amount"]),
        amount_refunded_minor: fields::whole(&value["amount_refunded"]),
        currency: fields::currency(&value["currency"]),
        status: fields::text(&value["status"]),
        description: fields::text(&value["description"]),
        failure_code: fields::text(&value["failure_code"]),
        created: fields::instant(&value["created"]),
        paid: value["paid"].as_bool().unwrap_or_else(|| value["status"] == "succeeded"),
        refunded: refunded(&value),
        invoice: fields::reference(&value["invoice"]),
        payment_intent: fields::reference(&value["payment_intent"]),
        // `source` and `card` before there were payment methods.
        payment_method: ["payment_method", "source", "card"].iter().find_map(|name| fields::reference(&value[*name])),
        refunds: refunds.filter_map(|refund| Some(refund::of(fields::text(&refund["id"])?, refund))).collect(),
        metadata: fields::metadata(&value["metadata"]),
        livemode: value["livemode"].as_bool(),
        id,
    })
}

/// The flag; where it is not sent, a charge of which nothing is left.
fn refunded(value: &Value) -> bool {
    value["refunded"].as_bool().unwrap_or_else(|| {
        let amount = fields::whole(&value["amount"]).filter(|amount| *amount > 0);
        amount.is_some() && amount == fields::whole(&value["amount_refunded"])
    })
}
