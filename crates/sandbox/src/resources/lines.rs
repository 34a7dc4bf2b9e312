//! Invoice lines: what an item costs, what is written on its line, and what coupons take off.

use super::{coupons, currencies, taxes};
use crate::calendar::Period;
use crate::kind::Kind;
use crate::store::Store;
use crate::world::array;
use serde_json::{Value, json};

/// What lines are made of.
pub(crate) struct Source<'a> {
    pub(crate) subscription: &'a Value,
    pub(crate) invoice: &'a str,
    pub(crate) trial: bool,
    /// The period that all lines are for; each item's own where none is given.
    pub(crate) period: Option<Period>,
}

/// What a licensed item costs for one period, in minor units; a metered one has no quantity and costs nothing yet.
pub(crate) fn item_amount(store: &Store, item: &Value) -> i64 {
    if item["price"]["recurring"]["usage_type"] == "metered" {
        return 0;
    }
    amount(store, &item["price"], item["quantity"].as_i64().unwrap_or(1))
}

/// What so many units of a price cost.
pub(crate) fn amount(store: &Store, price: &Value, quantity: i64) -> i64 {
    let quantity = transformed(price, quantity);
    if let Some(unit) = price["unit_amount"].as_i64() {
        return unit.saturating_mul(quantity);
    }
    if let Some(decimal) = price["unit_amount_decimal"].as_str() {
        return rounded(decimal, quantity);
    }
    let stored = store.get(Kind::Price, price["id"].as_str().unwrap_or_default());
    stored.map_or(0, |stored| tiered(&stored, quantity))
}

fn transformed(price: &Value, quantity: i64) -> i64 {
    let transform = &price["transform_quantity"];
    match (transform["divide_by"].as_i64(), transform["round"].as_str()) {
        (Some(by), Some("up")) => quantity.div_euclid(by) + i64::from(quantity.rem_euclid(by) > 0),
        (Some(by), _) => quantity.div_euclid(by),
        (None, _) => quantity,
    }
}

/// `0.5` times 3 is 2: decimals of minor units, rounded half up once.
fn rounded(decimal: &str, quantity: i64) -> i64 {
    let (whole, part) = decimal.split_once('.').unwrap_or((decimal, ""));
    let digits = format!("{whole}{part:0<12}");
    let scaled = digits.get(..whole.len() + 12).and_then(|digits| digits.parse::<i128>().ok()).unwrap_or_default();
    let product = scaled * i128::from(quantity);
    i64::try_from((product * 2 + 1_000_000_000_000).div_euclid(2_000_000_000_000)).unwrap_or_default()
}

fn tiered(price: &Value, quantity: i64) -> i64 {
    let mut sum = 0_i64;
    let mut below = 0_i64;
    for tier in array(&price["tiers"]) {
        let end = tier["up_to"].as_i64().unwrap_or(i64::MAX);
        let units = if price["tiers_mode"] == "volume" { quantity } else { quantity.min(end) - below };
        let cost = rounded(tier["unit_amount_decimal"].as_str().unwrap_or("0"), units)
            + rounded(tier["flat_amount_decimal"].as_str().unwrap_or("0"), 1);
        if price["tiers_mode"] == "volume" {
            sum = cost;
        } else if units > 0 {
            sum += cost;
        }
        if quantity <= end {
            break;
        }
        below = end;
    }
    sum
}

/// The lines of these items, numbered from one.
pub(crate) fn of_items(store: &Store, source: &Source<'_>, items: &[&Value]) -> Vec<Value> {
    let licensed = items.iter().filter(|item| item["price"]["recurring"]["usage_type"] != "metered");
    licensed.enumerate().map(|(place, item)| of_item(store, source, item, &id(source.invoice, place + 1))).collect()
}

/// The id of the line at this place of an invoice.
pub(crate) fn id(invoice: &str, place: usize) -> String {
    format!("il_{}_{place}", invoice.strip_prefix("in_").unwrap_or(invoice))
}

fn of_item(store: &Store, source: &Source<'_>, item: &Value, id: &str) -> Value {
    let price = &item["price"];
    let amount = if source.trial { 0 } else { item_amount(store, item) };
    let name = product_name(store, price);
    let currency = price["currency"].as_str().unwrap_or_default();
    let interval = price["recurring"]["interval"].as_str().unwrap_or("month");
    let description = if source.trial {
        format!("Trial period for {name}")
    } else {
        let unit = currencies::written(price["unit_amount"].as_i64().unwrap_or_default(), currency);
        format!("{} × {name} (at {unit} / {interval})", item["quantity"].as_i64().unwrap_or(1))
    };
    let (start, end) = match source.period {
        Some(period) => (json!(period.start), json!(period.end)),
        None => (item["current_period_start"].clone(), item["current_period_end"].clone()),
    };
    let mut line = blank(id, source.invoice, amount, currency, &description);
    line["metadata"] = source.subscription["metadata"].clone();
    line["parent"] = item_parent(&source.subscription["id"], &item["id"], &Value::Null);
    line["period"] = json!({"start": start, "end": end});
    line["pricing"] = pricing(price, if source.trial { json!("0") } else { price["unit_amount_decimal"].clone() });
    line["quantity"] = item["quantity"].clone();
    line["quantity_decimal"] = json!(item["quantity"].as_i64().map(|quantity| quantity.to_string()));
    line["subscription"] = source.subscription["id"].clone();
    line["taxes"] = taxes::asked(&item["tax_rates"]);
    line
}

/// What a product is called on an invoice.
pub(crate) fn product_name(store: &Store, price: &Value) -> String {
    let product = store.get(Kind::Product, price["product"].as_str().unwrap_or_default());
    product.as_ref().and_then(|product| product["name"].as_str()).unwrap_or("Subscription").to_owned()
}

/// Which price a line is about.
pub(crate) fn pricing(price: &Value, unit: Value) -> Value {
    json!({
        "price_details": {"price": price["id"], "product": price["product"]},
        "type": "price_details",
        "unit_amount_decimal": unit
    })
}

/// Where a line of a subscription item comes from; `invoice_item` where it is a proration.
pub(crate) fn item_parent(subscription: &Value, item: &Value, invoice_item: &Value) -> Value {
    json!({
        "invoice_item_details": null,
        "subscription_item_details": {
            "invoice_item": invoice_item, "proration": !invoice_item.is_null(),
            "proration_details": {"credited_items": null}, "subscription": subscription, "subscription_item": item
        },
        "type": "subscription_item_details"
    })
}

/// A line about nothing yet.
pub(crate) fn blank(id: &str, invoice: &str, amount: i64, currency: &str, description: &str) -> Value {
    json!({
        "id": id,
        "object": "line_item",
        "amount": amount,
        "currency": currency,
        "description": description,
        "discount_amounts": [],
        "discountable": true,
        "discounts": [],
        "invoice": invoice,
        "livemode": false,
        "metadata": {},
        "parent": null,
        "period": {"start": 0, "end": 0},
        "pretax_credit_amounts": [],
        "pricing": null,
        "quantity": 1,
        "quantity_decimal": "1",
        "subscription": null,
        "subtotal": amount,
        "taxes": []
    })
}

/// Takes these discounts off the lines, as far as their coupons cover them and leave something.
pub(crate) fn discounted(store: &Store, discounts: &[&str], mut lines: Vec<Value>) -> Vec<Value> {
    for id in discounts {
        let Some(discount) = store.get(Kind::Discount, id) else { continue };
        let coupon = discount["source"]["coupon"].as_str().and_then(|coupon| store.get(Kind::Coupon, coupon));
        let Some(coupon) = coupon else { continue };
        let mut left = coupon["amount_off"].as_i64().unwrap_or(i64::MAX);
        let covered = |line: &&mut Value| {
            let product = &line["pricing"]["price_details"]["product"];
            line["discountable"] == true && coupons::covers(&coupon, product, &line["currency"])
        };
        for line in lines.iter_mut().filter(covered) {
            let already: i64 = array(&line["discount_amounts"]).iter().filter_map(|part| part["amount"].as_i64()).sum();
            let amount = line["subtotal"].as_i64().unwrap_or_default() - already;
            let off = coupons::taken_off(&coupon, amount).min(left);
            if let (Some(parts), true) = (line["discount_amounts"].as_array_mut(), off > 0) {
                left -= off;
                parts.push(json!({"amount": off, "discount": id}));
            }
        }
    }
    lines
}

/// The discounts of all lines, summed by discount.
pub(crate) fn discount_totals(lines: &[Value]) -> Vec<Value> {
    let mut totals: Vec<(Value, i64)> = Vec::new();
    for part in lines.iter().flat_map(|line| array(&line["discount_amounts"])) {
        let amount = part["amount"].as_i64().unwrap_or_default();
        match totals.iter_mut().find(|(discount, _)| *discount == part["discount"]) {
            Some((_, sum)) => *sum += amount,
            None => totals.push((part["discount"].clone(), amount)),
        }
    }
    totals.into_iter().map(|(discount, amount)| json!({"amount": amount, "discount": discount})).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_rounded_once() {
        for (decimal, quantity, expected) in
            [("0.5", 3, 2), ("0.25", 1, 0), ("4900", 2, 9800), ("0.000000000001", 1, 0)]
        {
            assert_eq!(rounded(decimal, quantity), expected, "{decimal} x {quantity}");
        }
    }

    #[test]
    fn tiers_graduated_and_by_volume() {
        let tiers = json!([
            {"up_to": 10, "unit_amount_decimal": "100", "flat_amount_decimal": null},
            {"up_to": null, "unit_amount_decimal": "50", "flat_amount_decimal": "500"}
        ]);
        for (mode, quantity, expected) in [
            ("graduated", 10, 1000),
            ("graduated", 12, 1600),
            ("volume", 10, 1000),
            ("volume", 12, 1100),
            ("volume", 0, 0),
        ] {
            assert_eq!(tiered(&json!({"tiers": tiers, "tiers_mode": mode}), quantity), expected, "{mode} {quantity}");
        }
    }

    #[test]
    fn quantities_are_bundled() {
        let price = |round: &str| json!({"transform_quantity": {"divide_by": 10, "round": round}});
        assert_eq!(
            (transformed(&price("up"), 11), transformed(&price("down"), 19), transformed(&json!({}), 7)),
            (2, 1, 7)
        );
    }
}
