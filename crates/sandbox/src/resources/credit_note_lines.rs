//! What a credit note credits, line by line: with the discounts and taxes of what it takes back, or with rates of its own.

use super::credit_notes::{AMOUNT, parts};
use super::{lines, named, shares, taxes};
use crate::error::StripeError;
use crate::kind::Kind;
use crate::params::{Field, Params, Spec, opt, req};
use crate::store::Store;
use crate::world::array;
use serde_json::{Value, json};

pub(super) const LINE: &[Field] = &[
    req("type", Spec::OneOf(&["custom_line_item", "invoice_line_item"])),
    opt("amount", AMOUNT),
    opt("description", Spec::Text),
    opt("invoice_line_item", Spec::Text),
    opt("metadata", Spec::Ignored),
    opt("quantity", Spec::Int(1, 1_000_000)),
    opt("tax_amounts", Spec::Unsupported),
    opt("tax_rates", Spec::ClearableList(&Spec::Text)),
    opt("unit_amount", AMOUNT),
    opt("unit_amount_decimal", Spec::Unsupported),
];

/// What a line is about, before its taxes.
struct Credit<'a> {
    /// `custom_line_item` or `invoice_line_item`.
    kind: &'a str,
    amount: i64,
    unit: i64,
    quantity: i64,
    text: &'a str,
    /// The line of the invoice that is taken back.
    of: &'a Value,
    discounts: Vec<Value>,
    rates: Vec<Value>,
}

/// The lines that were asked for; a plain amount is one line without taxes.
pub(super) fn of(store: &Store, note: &str, invoice: &Value, sent: &Params) -> Result<Vec<Value>, StripeError> {
    let exempt = taxes::exemption(&invoice["customer_tax_exempt"]);
    let asked = sent.list("lines");
    if asked.is_empty() {
        let amount = sent.int("amount").unwrap_or_else(|| parts(sent));
        let credit = Credit {
            kind: "custom_line_item",
            amount,
            unit: amount,
            quantity: 1,
            text: "Credit",
            of: &Value::Null,
            discounts: Vec::new(),
            rates: Vec::new(),
        };
        return Ok(vec![row(note, 1, credit, exempt)]);
    }
    let one = |(place, line): (usize, &Value)| {
        let path = format!("lines[{place}]");
        let credit = match line["type"].as_str() {
            Some("custom_line_item") => custom(store, line, &path)?,
            _ => taken_back(store, invoice, line, &path)?,
        };
        Ok(row(note, place + 1, credit, exempt))
    };
    asked.iter().enumerate().map(one).collect()
}

fn custom<'a>(store: &Store, line: &'a Value, path: &str) -> Result<Credit<'a>, StripeError> {
    let missing = |name: &str| StripeError::missing(&format!("{path}[{name}]"));
    let unit = line["unit_amount"].as_i64().ok_or_else(|| missing("unit_amount"))?;
    let text = line["description"].as_str().ok_or_else(|| missing("description"))?;
    let quantity = line["quantity"].as_i64().unwrap_or(1);
    let mut rates = Vec::new();
    for id in array(&line["tax_rates"]).iter().filter_map(Value::as_str) {
        rates.push((*named(store, Kind::TaxRate, id, &format!("{path}[tax_rates]"))?).clone());
    }
    let amount = unit * quantity;
    let (of, discounts) = (&Value::Null, Vec::new());
    Ok(Credit { kind: "custom_line_item", amount, unit, quantity, text, of, discounts, rates })
}

fn taken_back<'a>(store: &Store, invoice: &'a Value, line: &'a Value, path: &str) -> Result<Credit<'a>, StripeError> {
    let id = line["invoice_line_item"].as_str();
    let id = id.ok_or_else(|| StripeError::missing(&format!("{path}[invoice_line_item]")))?;
    if !array(&line["tax_rates"]).is_empty() {
        let text = "You can only specify `tax_rates` for a line of type `custom_line_item`.";
        return Err(StripeError::invalid(text).param(format!("{path}[tax_rates]")));
    }
    let found = array(&invoice["lines"]["data"]).iter().find(|line| line["id"] == id);
    let missing = || StripeError::no_such("invoice line item", id, &format!("{path}[invoice_line_item]"));
    let found = found.ok_or_else(missing)?;
    let whole = found["amount"].as_i64().unwrap_or_default();
    let units = found["quantity"].as_i64().unwrap_or(1).max(1);
    let quantity = line["quantity"].as_i64();
    if quantity.is_some_and(|quantity| quantity > units) {
        let text = format!("The invoice line item {id} has a quantity of {units}.");
        return Err(StripeError::invalid(text).param(format!("{path}[quantity]")));
    }
    let of_units = quantity.map(|quantity| shares::share(whole, quantity.into(), units.into()));
    let amount = line["amount"].as_i64().or(of_units).unwrap_or(whole);
    let share = |part: &Value| {
        let off = part["amount"].as_i64().unwrap_or_default();
        json!({"amount": shares::share(off, amount.into(), whole.into()), "discount": part["discount"]})
    };
    Ok(Credit {
        kind: "invoice_line_item",
        amount,
        unit: amount / quantity.unwrap_or(1).max(1),
        quantity: quantity.unwrap_or(1),
        text: found["description"].as_str().unwrap_or_default(),
        of: &line["invoice_line_item"],
        discounts: array(&found["discount_amounts"]).iter().map(share).collect(),
        rates: taxes::rates(store, &found["taxes"]),
    })
}

fn row(note: &str, place: usize, credit: Credit<'_>, exempt: Option<&str>) -> Value {
    let off: i64 = credit.discounts.iter().filter_map(|part| part["amount"].as_i64()).sum();
    json!({
        "id": format!("cnli_{}_{place}", note.trim_start_matches("cn_")), "object": "credit_note_line_item",
        "amount": credit.amount, "description": credit.text, "discount_amount": off,
        "discount_amounts": credit.discounts, "invoice_line_item": credit.of, "livemode": false, "metadata": {},
        "pretax_credit_amounts": [], "quantity": credit.quantity,
        "tax_rates": if credit.kind == "custom_line_item" { json!(credit.rates) } else { json!([]) },
        "taxes": taxes::of_amount(&credit.rates, credit.amount - off, exempt), "type": credit.kind,
        "unit_amount": credit.unit, "unit_amount_decimal": credit.unit.to_string()
    })
}

/// What the lines come to.
pub(super) fn sums(rows: &[Value]) -> Value {
    let sum = |name: &str| rows.iter().filter_map(|row| row[name].as_i64()).sum::<i64>();
    let (subtotal, off, totals) = (sum("amount"), sum("discount_amount"), taxes::totals(rows));
    let (inside, added) = (taxes::sum(&totals, true), taxes::sum(&totals, false));
    let total = subtotal - off + added;
    json!({
        "amount": total, "discount_amount": off, "discount_amounts": lines::discount_totals(rows), "subtotal": subtotal,
        "subtotal_excluding_tax": subtotal - inside, "total": total, "total_excluding_tax": total - inside - added,
        "total_taxes": totals
    })
}
