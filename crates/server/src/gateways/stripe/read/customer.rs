//! A customer, or what is left of a deleted one.

use std::collections::BTreeMap;

use billing::Currency;
use billing::subscription::Discount;
use jiff::Timestamp;
use serde_json::Value;

use super::coupon::{Found, discounts};
use super::{ReadError, Resolve, fields, parse};

/// A customer as Stripe knows it.
#[derive(Clone, Debug)]
pub struct Customer {
    pub id: String,
    pub email: Option<String>,
    pub name: Option<String>,
    pub description: Option<String>,
    pub phone: Option<String>,
    pub created: Option<Timestamp>,
    pub currency: Option<Currency>,
    /// What the customer owes (above zero) or has to their credit (below), in minor units.
    pub balance_minor: Option<i64>,
    pub delinquent: Option<bool>,
    pub metadata: BTreeMap<String, String>,
    /// The payment method of the invoices, else the legacy source.
    pub default_payment_method: Option<String>,
    /// The customer's own discount, which holds for subscriptions that have none.
    pub discount: Option<Discount>,
    /// The coupon of that discount, when it is only named and not known.
    pub coupon_ids_unresolved: Vec<String>,
    pub livemode: Option<bool>,
    /// Only the id is left.
    pub deleted: bool,
}

/// Reads a customer.
///
/// # Errors
/// When there is no id.
pub fn customer(raw: &str, resolve: &dyn Resolve) -> Result<Customer, ReadError> {
    let (id, value) = parse(raw)?;
    let currency = fields::currency(&value["currency"]);
    let Found { discounts, coupon_ids, .. } = discounts(&value, currency, resolve);
    Ok(Customer {
        id,
        email: fields::text(&value["email"]),
        name: fields::text(&value["name"]),
        description: fields::text(&value["description"]),
        phone: fields::text(&value["phone"]),
        created: fields::instant(&value["created"]),
        currency,
        // `account_balance` until 2019-10-17.
        balance_minor: fields::whole(&value["balance"]).or_else(|| fields::whole(&value["account_balance"])),
        delinquent: value["delinquent"].as_bool(),
        metadata: fields::metadata(&value["metadata"]),
        default_payment_method: default_payment_method(&value),
        discount: discounts.into_iter().next(),
        coupon_ids_unresolved: coupon_ids,
        livemode: value["livemode"].as_bool(),
        deleted: fields::flag(&value["deleted"]),
    })
}

fn default_payment_method(value: &Value) -> Option<String> {
    let places =
        [&value["invoice_settings"]["default_payment_method"], &value["default_source"], &value["default_card"]];
    places.into_iter().find_map(fields::reference)
}
