//! What tax rates make of an invoice: line by line and rate by rate, each rounded once.

use super::{add, invoices, shares, tax_rates};
use crate::error::StripeError;
use crate::kind::Kind;
use crate::params::Params;
use crate::store::Store;
use crate::world::array;
use serde_json::{Value, json};

/// A hundred per cent, in the ten-thousandths of a per cent in which rates are counted.
const WHOLE: i128 = 1_000_000;

pub(super) fn is_percentage(text: &str) -> bool {
    scaled(text).is_some_and(|share| (0..=WHOLE).contains(&share))
}

/// `7.375` is 73,750: per cent with four decimals, as an integer.
fn scaled(text: &str) -> Option<i128> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 4 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    format!("{whole}{part:0<4}").parse().ok()
}

/// What a line with rates of its own begins with; the amounts come with the invoice.
pub(super) fn asked(rates: &Value) -> Value {
    array(rates).iter().map(|rate| json!({"tax_rate_details": {"tax_rate": rate["id"]}})).collect()
}

fn ids(taxes: &Value) -> Vec<&Value> {
    array(taxes).iter().map(|tax| &tax["tax_rate_details"]["tax_rate"]).collect()
}

/// Other rates for all lines that have none of their own.
pub(super) fn set_defaults(store: &Store, invoice: &mut Value, sent: &Params) -> Result<(), StripeError> {
    let before = asked(&invoice["default_tax_rates"]);
    tax_rates::take(store, invoice, "default_tax_rates", sent)?;
    for line in invoice["lines"]["data"].as_array_mut().into_iter().flatten() {
        if ids(&line["taxes"]) == ids(&before) {
            line["taxes"] = json!([]);
        }
    }
    Ok(())
}

/// Adds an invoice up, with its taxes.
pub(crate) fn sum_up(store: &Store, invoice: &mut Value) {
    let taxed = |line: &Value| !array(&line["taxes"]).is_empty();
    if array(&invoice["default_tax_rates"]).is_empty() && !array(&invoice["lines"]["data"]).iter().any(taxed) {
        invoice["total_taxes"] = json!([]);
        return invoices::sum_up(invoice);
    }
    let defaults = asked(&invoice["default_tax_rates"]);
    let exempt = exemption(&invoice["customer_tax_exempt"]);
    let mut inside = 0;
    for line in invoice["lines"]["data"].as_array_mut().into_iter().flatten() {
        let own = if array(&line["taxes"]).is_empty() { &defaults } else { &line["taxes"] };
        let rates = rates(store, own);
        let amount = |name: &str| line[name].as_i64().unwrap_or_default();
        let off: i64 = array(&line["discount_amounts"]).iter().filter_map(|part| part["amount"].as_i64()).sum();
        let subtotal = amount("subtotal");
        inside += sum(&of_amount(&rates, subtotal, exempt), true);
        line["taxes"] = Value::Array(of_amount(&rates, subtotal - off, exempt));
    }
    invoices::sum_up(invoice);
    let totals = totals(array(&invoice["lines"]["data"]));
    let (before, subtotal) = (invoice["total"].as_i64().unwrap_or_default(), invoice["subtotal"].as_i64());
    let total = before + sum(&totals, false);
    let facts = json!({
        "amount_due": total.max(0), "amount_remaining": total.max(0), "total": total,
        "subtotal_excluding_tax": subtotal.unwrap_or_default() - inside, "total_excluding_tax": before - sum(&totals, true),
        "total_taxes": totals
    });
    add(invoice, facts);
}

/// Why a customer pays no tax, where they do not.
pub(super) fn exemption(tax_exempt: &Value) -> Option<&'static str> {
    match tax_exempt.as_str() {
        Some("exempt") => Some("customer_exempt"),
        Some("reverse") => Some("reverse_charge"),
        _ => None,
    }
}

/// The rates by which these taxes were computed, or are to be.
pub(super) fn rates(store: &Store, taxes: &Value) -> Vec<Value> {
    let found = |id: &&Value| store.get(Kind::TaxRate, id.as_str()?).map(|rate| (*rate).clone());
    ids(taxes).iter().filter_map(found).collect()
}

/// What comes on top of an amount, or is in it already.
pub(super) fn sum(taxes: &[Value], inside: bool) -> i64 {
    taxes.iter().filter(|tax| is_inside(tax) == inside).filter_map(tax_of).sum()
}

fn is_inside(tax: &Value) -> bool {
    tax["tax_behavior"] == "inclusive"
}

fn tax_of(tax: &Value) -> Option<i64> {
    tax["amount"].as_i64()
}

/// The tax of an amount by each of these rates. What is inclusive is in the amount already, and is no base for the others.
pub(super) fn of_amount(rates: &[Value], amount: i64, exempt: Option<&str>) -> Vec<Value> {
    let percent = |rate: &Value| scaled(&rate["percentage"].to_string()).unwrap_or_default();
    let inside: i128 = rates.iter().filter(|rate| rate["inclusive"] == true).map(percent).sum();
    let base = if exempt.is_some() { amount } else { amount - shares::share(amount, inside, WHOLE + inside) };
    let tax = |rate: &Value| {
        let inclusive = rate["inclusive"] == true;
        let (of, whole) = if inclusive { (amount, WHOLE + inside) } else { (base, WHOLE) };
        let due = shares::share(of, percent(rate), whole);
        json!({
            "amount": if exempt.is_some() { 0 } else { due },
            "tax_behavior": if inclusive { "inclusive" } else { "exclusive" },
            "tax_rate_details": {"tax_rate": rate["id"]},
            "taxability_reason": exempt.unwrap_or("not_available"),
            "taxable_amount": if exempt.is_some() { 0 } else { base },
            "type": "tax_rate_details"
        })
    };
    rates.iter().map(tax).collect()
}

/// The taxes of all lines, summed by rate.
pub(super) fn totals(lines: &[Value]) -> Vec<Value> {
    let mut totals: Vec<Value> = Vec::new();
    for tax in lines.iter().flat_map(|line| array(&line["taxes"])) {
        match totals.iter_mut().find(|total| total["tax_rate_details"] == tax["tax_rate_details"]) {
            Some(total) => {
                for name in ["amount", "taxable_amount"] {
                    total[name] =
                        json!(total[name].as_i64().unwrap_or_default() + tax[name].as_i64().unwrap_or_default());
                }
            }
            None => totals.push(tax.clone()),
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Number;

    #[test]
    fn each_rate_is_rounded_once() {
        let rate = |percentage: &str, inclusive: bool| json!({"id": percentage, "percentage": percentage.parse::<Number>().unwrap(), "inclusive": inclusive});
        for (amount, rates, expected) in [
            (1000, vec![rate("19", false)], vec![190]),
            (1190, vec![rate("19", true)], vec![190]),
            (1000, vec![rate("19", true)], vec![160]),
            (999, vec![rate("7.375", false)], vec![74]),
            (-999, vec![rate("7.375", false)], vec![-74]),
            (10, vec![rate("5", false)], vec![1]),
            (-10, vec![rate("5", false)], vec![-1]),
            (1000, vec![rate("5", false), rate("9.975", false)], vec![50, 100]),
            (1100, vec![rate("10", true), rate("5", false)], vec![100, 50]),
            (0, vec![rate("19", false)], vec![0]),
        ] {
            let taxes: Vec<i64> = of_amount(&rates, amount, None).iter().filter_map(tax_of).collect();
            assert_eq!(taxes, expected, "{amount} {rates:?}");
        }
        assert_eq!(tax_of(&of_amount(&[rate("19", false)], 1000, Some("reverse_charge"))[0]), Some(0));
    }

    #[test]
    fn percentages_have_four_decimals() {
        for (text, expected) in
            [("19", Some(190_000)), ("7.375", Some(73_750)), ("0", Some(0)), ("1.23456", None), ("x", None)]
        {
            assert_eq!(scaled(text), expected, "{text}");
        }
        assert!(is_percentage("100") && !is_percentage("100.0001") && !is_percentage("-1"));
    }
}
