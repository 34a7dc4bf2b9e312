//! Tax rates, and the tax that they make of an invoice: line by line and rate by rate, each rounded once.

use super::{Answer, Call, add, changed, find, invoices, list, named, retrieve};
use crate::error::StripeError;
use crate::kind::{Index, Kind};
use crate::params::{Field, Params, Spec, opt, req};
use crate::store::Store;
use crate::world::{World, array};
use serde_json::{Number, Value, json};

pub(crate) const LIST: &[Field] = &[opt("active", Spec::Bool), opt("inclusive", Spec::Bool)];

const COMMON: &[Field] = &[
    opt("active", Spec::Bool),
    opt("country", Spec::Text),
    opt("description", Spec::Text),
    opt("jurisdiction", Spec::Text),
    opt("metadata", Spec::Metadata),
    opt("state", Spec::Text),
    opt("tax_type", Spec::Text),
];
pub(crate) const CREATE: &[&[Field]] =
    &[COMMON, &[req("display_name", Spec::Text), req("inclusive", Spec::Bool), req("percentage", Spec::Decimal)]];
pub(crate) const UPDATE: &[&[Field]] = &[COMMON, &[opt("display_name", Spec::Text)]];

/// A hundred per cent, in the ten-thousandths of a per cent in which rates are counted.
const WHOLE: i128 = 1_000_000;

const TEXTS: &[&str] = &["active", "country", "description", "display_name", "jurisdiction", "state", "tax_type"];

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    list(world, Kind::TaxRate, call, &[("active", Index::Active), ("inclusive", Index::Type)])
}

pub(crate) fn one(world: &World, call: &Call<'_>) -> Answer {
    retrieve(world, Kind::TaxRate, call)
}

pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    let text = sent.need("percentage")?;
    let bad = || StripeError::invalid(format!("Invalid percentage: {text}")).param("percentage");
    let percentage = text.parse::<Number>().ok().filter(|_| in_range(text)).ok_or_else(bad)?;
    let id = world.id("txr");
    let mut rate = json!({
        "id": id,
        "object": "tax_rate",
        "active": true,
        "country": null,
        "created": world.now,
        "description": null,
        "display_name": null,
        "effective_percentage": null,
        "flat_amount": null,
        "inclusive": sent.flag("inclusive"),
        "jurisdiction": null,
        "jurisdiction_level": null,
        "livemode": false,
        "metadata": {},
        "percentage": percentage,
        "rate_type": "percentage",
        "state": null,
        "tax_type": null
    });
    sent.assign(&mut rate, TEXTS);
    sent.merge_metadata(&mut rate);
    changed(world, Kind::TaxRate, rate)
}

fn in_range(text: &str) -> bool {
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

pub(crate) fn update(world: &mut World, call: &Call<'_>) -> Answer {
    let mut rate = (*find(&world.store, Kind::TaxRate, call.id())?).clone();
    call.params.assign(&mut rate, TEXTS);
    call.params.merge_metadata(&mut rate);
    changed(world, Kind::TaxRate, rate)
}

/// Puts the rates of these ids, where any were sent, into the member of the same name.
pub(super) fn take(store: &Store, object: &mut Value, name: &str, sent: &Params) -> Result<(), StripeError> {
    if sent.get(name).is_none() {
        return Ok(());
    }
    let mut rates = Vec::new();
    for id in sent.list(name).iter().filter_map(Value::as_str) {
        let rate = named(store, Kind::TaxRate, id, name)?;
        if rate["active"] != true {
            let text = format!("The tax rate {id} is archived and cannot be used.");
            return Err(StripeError::invalid(text).param(name));
        }
        rates.push((*rate).clone());
    }
    object[name] = Value::Array(rates);
    Ok(())
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
    take(store, invoice, "default_tax_rates", sent)?;
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
    let exempt = match invoice["customer_tax_exempt"].as_str() {
        Some("exempt") => Some("customer_exempt"),
        Some("reverse") => Some("reverse_charge"),
        _ => None,
    };
    let mut inside = 0;
    for line in invoice["lines"]["data"].as_array_mut().into_iter().flatten() {
        let own = if array(&line["taxes"]).is_empty() { &defaults } else { &line["taxes"] };
        let rates: Vec<_> = ids(own)
            .iter()
            .filter_map(|id| store.get(Kind::TaxRate, id.as_str()?))
            .map(|rate| (*rate).clone())
            .collect();
        let amount = |name: &str| line[name].as_i64().unwrap_or_default();
        let off: i64 = array(&line["discount_amounts"]).iter().filter_map(|part| part["amount"].as_i64()).sum();
        let subtotal = amount("subtotal");
        inside +=
            of_amount(&rates, subtotal, exempt).iter().filter(|tax| is_inside(tax)).filter_map(tax_of).sum::<i64>();
        line["taxes"] = Value::Array(of_amount(&rates, subtotal - off, exempt));
    }
    invoices::sum_up(invoice);
    let totals = totals(array(&invoice["lines"]["data"]));
    let sum = |inclusive: bool| totals.iter().filter(|tax| is_inside(tax) == inclusive).filter_map(tax_of).sum::<i64>();
    let (before, subtotal) = (invoice["total"].as_i64().unwrap_or_default(), invoice["subtotal"].as_i64());
    let total = before + sum(false);
    let facts = json!({
        "amount_due": total.max(0), "amount_remaining": total.max(0), "total": total,
        "subtotal_excluding_tax": subtotal.unwrap_or_default() - inside, "total_excluding_tax": before - sum(true),
        "total_taxes": totals
    });
    add(invoice, facts);
}

fn is_inside(tax: &Value) -> bool {
    tax["tax_behavior"] == "inclusive"
}

fn tax_of(tax: &Value) -> Option<i64> {
    tax["amount"].as_i64()
}

/// The tax of an amount by each of these rates. What is inclusive is in the amount already, and is no base for the others.
fn of_amount(rates: &[Value], amount: i64, exempt: Option<&str>) -> Vec<Value> {
    let share = |rate: &Value| scaled(&rate["percentage"].to_string()).unwrap_or_default();
    let inside: i128 = rates.iter().filter(|rate| rate["inclusive"] == true).map(share).sum();
    let base = if exempt.is_some() { amount } else { amount - part(amount, inside, WHOLE + inside) };
    let tax = |rate: &Value| {
        let inclusive = rate["inclusive"] == true;
        let due = if inclusive { part(amount, share(rate), WHOLE + inside) } else { part(base, share(rate), WHOLE) };
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

/// So much of an amount, rounded half away from zero, so that a credit gives back what its charge took.
fn part(amount: i64, share: i128, whole: i128) -> i64 {
    let size = (i128::from(amount.unsigned_abs()) * share * 2 + whole) / (whole * 2);
    i64::try_from(size).unwrap_or_default() * amount.signum()
}

/// The taxes of all lines, summed by rate.
fn totals(lines: &[Value]) -> Vec<Value> {
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
        assert!(in_range("100") && !in_range("100.0001") && !in_range("-1"));
    }
}
