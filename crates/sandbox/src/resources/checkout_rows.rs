//! The rows of a checkout page: what is bought, and what it costs with discounts and taxes.

use super::{Answer, Call, coupons, embedded, find, in_place, lines, named, prices, tax_rates, taxes};
use crate::error::StripeError;
use crate::kind::Kind;
use crate::params::{Field, Params, Spec, opt, req};
use crate::store::Store;
use crate::world::{World, array};
use serde_json::{Value, json};
use std::sync::Arc;

const PRODUCT_DATA: &[Field] = &[
    req("name", Spec::Text),
    opt("description", Spec::Text),
    opt("images", Spec::Ignored),
    opt("metadata", Spec::Metadata),
    opt("tax_code", Spec::Ignored),
];
const RECURRING: &[Field] =
    &[req("interval", Spec::OneOf(prices::INTERVALS)), opt("interval_count", Spec::Int(1, 1095))];
const PRICE_DATA: &[Field] = &[
    req("currency", Spec::Text),
    opt("product", Spec::Text),
    opt("product_data", Spec::Hash(PRODUCT_DATA)),
    opt("recurring", Spec::Hash(RECURRING)),
    opt("tax_behavior", Spec::Ignored),
    opt("unit_amount", Spec::Int(0, prices::AMOUNT_MAX)),
    opt("unit_amount_decimal", Spec::Decimal),
];
pub(super) const ITEM: &[Field] = &[
    opt("adjustable_quantity", Spec::Ignored),
    opt("dynamic_tax_rates", Spec::Unsupported),
    opt("metadata", Spec::Ignored),
    opt("price", Spec::Text),
    opt("price_data", Spec::Hash(PRICE_DATA)),
    opt("quantity", Spec::Int(0, 1_000_000)),
    opt("tax_rates", Spec::ClearableList(&Spec::Text)),
];
/// What holds for all rows.
pub(super) struct Terms<'a> {
    /// `payment`, `subscription`, `setup`; a quote has none.
    pub(super) mode: &'a str,
    /// Why whoever pays pays no tax.
    pub(super) exempt: Option<&'a str>,
    /// The ids of the rates of all rows that have none of their own.
    pub(super) default_rates: &'a Value,
}

/// The rows that were asked for, with what they cost.
pub(super) fn of(world: &mut World, sent: &Params, terms: &Terms<'_>) -> Result<Vec<Value>, StripeError> {
    let mode = terms.mode;
    let items = sent.list("line_items");
    if items.is_empty() && mode != "setup" {
        return Err(StripeError::missing("line_items"));
    }
    let mut rows = Vec::new();
    for (place, item) in items.iter().enumerate() {
        let price = price_of(world, item, place)?;
        if rows.first().is_some_and(|first: &Value| first["currency"] != price["currency"]) {
            let text = "All prices that are paid together must have the same currency.";
            return Err(StripeError::invalid(text).param(format!("line_items[{place}]")));
        }
        if mode == "payment" && price["type"] == "recurring" {
            let text = "You specified `payment` mode but passed a recurring price. Either switch to `subscription` mode or use only one-time prices.";
            return Err(StripeError::invalid(text).param(format!("line_items[{place}]")));
        }
        let quantity = item["quantity"].as_i64().unwrap_or(1);
        let amount = lines::amount(&world.store, &price, quantity);
        let mut row = json!({
            "id": world.id("li"), "object": "item", "amount_discount": 0, "amount_subtotal": amount, "amount_tax": 0,
            "amount_total": amount, "currency": price["currency"], "metadata": {},
            "description": lines::product_name(&world.store, &price), "price": prices::shown(&price), "quantity": quantity
        });
        tax_rates::take(&world.store, &mut row, "tax_rates", &Params::over(item))?;
        rows.push(row);
    }
    if mode == "subscription" && !rows.iter().any(|row| row["price"]["type"] == "recurring") {
        let text = "You must provide at least one recurring price in `subscription` mode when using prices.";
        return Err(StripeError::invalid(text).param("line_items"));
    }
    take_off(world, &mut rows, sent);
    let mut held = json!({});
    tax_rates::take(&world.store, &mut held, "tax_rates", &Params::over(&json!({"tax_rates": terms.default_rates})))?;
    for row in &mut rows {
        tax(row, &held["tax_rates"], terms.exempt);
    }
    Ok(rows)
}

/// The price that was named, or a new one that was described.
fn price_of(world: &mut World, item: &Value, place: usize) -> Result<Arc<Value>, StripeError> {
    match (item["price"].as_str(), item.get("price_data")) {
        (Some(id), None) => named(&world.store, Kind::Price, id, &format!("line_items[{place}][price]")),
        (None, Some(data)) => price_from(world, data, place).map(Arc::new),
        (Some(_), Some(_)) => Err(StripeError::exclusive(&["price", "price_data"])),
        (None, None) => {
            let text = "You must provide either price or price_data for each line item when using prices.";
            Err(StripeError::invalid(text).param(format!("line_items[{place}]")))
        }
    }
}

fn price_from(world: &mut World, data: &Value, place: usize) -> Result<Value, StripeError> {
    let product = match (data["product"].as_str(), data.get("product_data")) {
        (Some(id), _) => {
            let param = format!("line_items[{place}][price_data][product]");
            named(&world.store, Kind::Product, id, &param)?["id"].as_str().unwrap_or(id).to_owned()
        }
        (None, Some(product)) => prices::new_product(world, &Params::over(product))?,
        (None, None) => return Err(StripeError::missing(&format!("line_items[{place}][price_data][product]"))),
    };
    prices::from_data(world, data, &product)
}

/// What the coupons take off, as far as they cover a row and leave something.
fn take_off(world: &World, rows: &mut [Value], sent: &Params) {
    for asked in sent.list("discounts") {
        let code = asked["promotion_code"].as_str().and_then(|id| world.store.get(Kind::PromotionCode, id));
        let coupon = asked["coupon"].as_str().or(code.as_ref().and_then(|code| code["promotion"]["coupon"].as_str()));
        let Some(coupon) = coupon.and_then(|id| world.store.get(Kind::Coupon, id)) else { continue };
        let mut left = coupon["amount_off"].as_i64().unwrap_or(i64::MAX);
        for row in rows.iter_mut().filter(|row| coupons::covers(&coupon, &row["price"]["product"], &row["currency"])) {
            let cost = row["amount_total"].as_i64().unwrap_or_default();
            let off = coupons::taken_off(&coupon, cost).min(left);
            left -= off;
            row["amount_discount"] = json!(row["amount_discount"].as_i64().unwrap_or_default() + off);
            row["amount_total"] = json!(cost - off);
        }
    }
}

/// Adds the taxes of a row: by its own rates, else by those of all.
fn tax(row: &mut Value, defaults: &Value, exempt: Option<&str>) {
    let own = array(&row["tax_rates"]);
    let rates = if own.is_empty() { array(defaults) } else { own };
    let net = row["amount_total"].as_i64().unwrap_or_default();
    let taxes = taxes::of_amount(rates, net, exempt);
    let (inside, added) = (taxes::sum(&taxes, true), taxes::sum(&taxes, false));
    row["amount_tax"] = json!(inside + added);
    row["amount_total"] = json!(net + added);
}

/// What all rows come to: before, after, and what stands between.
pub(super) fn sums(rows: &[Value]) -> Value {
    let sum = |name: &str| rows.iter().filter_map(|row| row[name].as_i64()).sum::<i64>();
    json!({
        "amount_subtotal": sum("amount_subtotal"), "amount_total": sum("amount_total"),
        "total_details":
            {"amount_discount": sum("amount_discount"), "amount_shipping": 0, "amount_tax": sum("amount_tax")}
    })
}

/// What was asked for and is needed when somebody pays; it is not part of the object that it was asked with.
pub(super) fn kept(store: &Store, id: &str) -> Value {
    store.get(Kind::Secret, id).map_or(Value::Null, |kept| (*kept).clone())
}

/// The rows as they stand in an object that shows them; `place` is the beginning of its path.
pub(crate) fn list(store: &Store, id: &str, place: &str) -> Value {
    let rows = array(&kept(store, id)["rows"]).iter().map(shown).collect();
    embedded(format!("/v1/{place}/{id}/line_items"), rows)
}

pub(super) fn page(world: &World, call: &Call<'_>, kind: Kind) -> Answer {
    find(&world.store, kind, call.id())?;
    let rows = kept(&world.store, call.id());
    in_place(call, "line item", array(&rows["rows"]).iter().map(|row| Arc::new(shown(row))).collect())
}

/// A row as it is listed; its rates are for whoever pays.
fn shown(row: &Value) -> Value {
    let mut row = row.clone();
    if let Some(members) = row.as_object_mut() {
        members.remove("tax_rates");
    }
    row
}

/// A row as it is asked for: its price was made when it was first.
fn asked(row: &Value) -> Value {
    let mut asked = json!({"price": row["price"]["id"], "quantity": row["quantity"]});
    if !array(&row["tax_rates"]).is_empty() {
        asked["tax_rates"] = row["tax_rates"].clone();
    }
    asked
}

/// The same rows once more.
pub(super) fn again(rows: &Value) -> Value {
    array(rows).iter().map(asked).collect()
}

/// What these rows are on a subscription: items, and what is sold once beside them.
pub(super) fn of_subscription(rows: &Value) -> (Vec<Value>, Vec<Value>) {
    let (recurring, once): (Vec<&Value>, Vec<&Value>) =
        array(rows).iter().partition(|row| row["price"]["type"] == "recurring");
    (recurring.into_iter().map(asked).collect(), once.into_iter().map(asked).collect())
}

/// The same rows as lines of an invoice, where everything is bought once.
pub(super) fn invoice_lines(world: &World, invoice: &str, rows: &Value) -> Vec<Value> {
    let one = |(place, row): (usize, &Value)| {
        let number = |name: &str| row[name].as_i64().unwrap_or_default();
        let amount = number("amount_subtotal");
        let (currency, text) = (row["currency"].as_str().unwrap_or("usd"), row["description"].as_str());
        let mut line =
            lines::blank(&lines::id(invoice, place + 1), invoice, amount, currency, text.unwrap_or_default());
        line["period"] = json!({"start": world.now, "end": world.now});
        line["pricing"] = lines::pricing(&row["price"], row["price"]["unit_amount_decimal"].clone());
        line["quantity"] = row["quantity"].clone();
        line["quantity_decimal"] = json!(number("quantity").to_string());
        line["taxes"] = taxes::asked(&row["tax_rates"]);
        line
    };
    array(rows).iter().enumerate().map(one).collect()
}
