//! A refund: money that went back.

use std::collections::BTreeMap;

use billing::Currency;
use jiff::Timestamp;
use serde_json::Value;

use super::{ReadError, fields, parse};

/// A refund. The amount is minor units of its currency.
#[derive(Clone, Debug)]
pub struct Refund {
    pub id: String,
    pub charge: Option<String>,
    pub payment_intent: Option<String>,
    pub amount_minor: Option<i64>,
    pub currency: Option<Currency>,
    /// pending, requires_action, succeeded, failed, canceled, or a word of later days.
    pub status: Option<String>,
    pub reason: Option<String>,
    pub created: Option<Timestamp>,
    pub metadata: BTreeMap<String, String>,
}

/// Reads a refund.
///
/// # Errors
/// When there is no id.
pub fn refund(raw: &str) -> Result<Refund, ReadError> {
    let (id, value) = parse(raw)?;
    Ok(of(id, &value))
}

pub(super) fn of(id: String, value: &Value) -> Refund {
    Refund {
        id,
        charge: fields::reference(&value["charge"]),
        payment_intent: fields::reference(&value["payment_intent"]),
        amount_minor: fields::whole(&value["amount"]),
        currency: fields::currency(&value["currency"]),
        status: fields::text(&value["status"]),
        reason: fields::text(&value["reason"]),
        created: fields::instant(&value["created"]),
        metadata: fields::metadata(&value["metadata"]),
    }
}
