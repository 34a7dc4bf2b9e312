//! An invoice, with its subscription and payment looked for in the places of every age.

use std::collections::BTreeMap;

use billing::Currency;
use jiff::Timestamp;
use serde_json::Value;

use super::{ReadError, fields, parse};

/// An invoice. Amounts are minor units of its currency.
#[derive(Clone, Debug)]
pub struct Invoice {
    pub id: String,
    pub customer: Option<String>,
    /// None while it is a draft.
    pub number: Option<String>,
    pub amount_due_minor: Option<i64>,
    pub amount_paid_minor: Option<i64>,
    pub total_minor: Option<i64>,
    pub currency: Option<Currency>,
    /// draft, open, paid, uncollectible, void, or a word of later days.
    pub status: Option<String>,
    pub created: Option<Timestamp>,
    /// None where the invoice is charged automatically.
    pub due_date: Option<Timestamp>,
    pub paid: bool,
    pub invoice_pdf: Option<String>,
    pub hosted_invoice_url: Option<String>,
    pub subscription: Option<String>,
    pub payment_intent: Option<String>,
    pub charge: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub livemode: Option<bool>,
    pub deleted: bool,
}

/// Reads an invoice.
///
/// # Errors
/// When there is no id.
pub fn invoice(raw: &str) -> Result<Invoice, ReadError> {
    let (id, value) = parse(raw)?;
    let payment = payment(&value);
    let paid_with = |name: &str| fields::reference(&value[name]).or_else(|| fields::reference(&payment[name]));
    Ok(Invoice {
        id,
        customer: fields::holder(&value),
        number: fields::text(&value["number"]),
        amount_due_minor: fields::whole(&value["amount_due"]),
        amount_paid_minor: fields::whole(&value["amount_paid"]),
        total_minor: fields::whole(&value["total"]),
        currency: fields::currency(&value["currency"]),
        status: fields::text(&value["status"]),
        // `date` until 2019-03-14.
        created: fields::instant(&value["created"]).or_else(|| fields::instant(&value["date"])),
        due_date: fields::instant(&value["due_date"]),
        paid: paid(&value),
        invoice_pdf: fields::text(&value["invoice_pdf"]),
        hosted_invoice_url: fields::text(&value["hosted_invoice_url"]),
        subscription: subscription(&value),
        payment_intent: paid_with("payment_intent"),
        charge: paid_with("charge"),
        metadata: fields::metadata(&value["metadata"]),
        livemode: value["livemode"].as_bool(),
        deleted: fields::flag(&value["deleted"]),
    })
}

/// The status says it in every version that has one; the flag went away with basil.
fn paid(value: &Value) -> bool {
    match value["status"].as_str() {
        Some(status) => status == "paid",
        None => fields::flag(&value["paid"]),
    }
}

/// `parent.subscription_details` since basil, when the parent is a subscription.
fn subscription(value: &Value) -> Option<String> {
    let parent = &value["parent"];
    let kind = parent["type"].as_str().unwrap_or("subscription_details");
    let details = (kind == "subscription_details").then_some(&parent["subscription_details"]["subscription"]);
    details.and_then(fields::reference).or_else(|| fields::reference(&value["subscription"]))
}

/// The payment of an invoice that has several: the default one, else the first.
fn payment(value: &Value) -> &Value {
    let payments = fields::list(&value["payments"]);
    let default = payments.iter().find(|payment| fields::flag(&payment["is_default"])).or_else(|| payments.first());
    default.map_or(&Value::Null, |payment| &payment["payment"])
}
