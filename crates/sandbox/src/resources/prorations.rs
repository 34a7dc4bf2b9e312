//! Prorations: what is given back for time that was paid and not used, and what is charged for the time that remains.
//!
//! They are invoice items that wait for the next invoice, unless an invoice is asked for at once.

use super::{coupons, invoiceitems, lines, shares};
use crate::kind::Kind;
use crate::store::Store;
use crate::world::{World, array};
use jiff::Timestamp;
use serde_json::{Value, json};

/// One change of an item: as it was, as it is; one of them is missing where it was added or removed.
struct Step<'a> {
    before: Option<&'a Value>,
    after: Option<&'a Value>,
}

/// Notes the difference between two states of a subscription's items at an instant. Returns how many items were written.
pub(crate) fn note(world: &mut World, before: &Value, after: &Value, at: i64) -> usize {
    let (old, new) = (array(&before["items"]["data"]), array(&after["items"]["data"]));
    let same = |a: &Value, b: &Value| a["id"] == b["id"];
    let mut steps: Vec<Step<'_>> = Vec::new();
    for item in old {
        let now = new.iter().find(|other| same(item, other));
        let changed =
            now.is_none_or(|now| now["price"]["id"] != item["price"]["id"] || now["quantity"] != item["quantity"]);
        if changed {
            steps.push(Step { before: Some(item), after: now });
        }
    }
    let added = new.iter().filter(|item| !old.iter().any(|other| same(item, other)));
    steps.extend(added.map(|item| Step { before: None, after: Some(item) }));
    let mut count = 0;
    for step in &steps {
        count += usize::from(step.before.is_some_and(|item| credit(world, before, item, at)));
        count += usize::from(step.after.is_some_and(|item| charge(world, after, item, at)));
    }
    count
}

/// Gives back what was paid for the rest of all periods.
pub(crate) fn give_back(world: &mut World, subscription: &Value, at: i64) {
    for item in array(&subscription["items"]["data"]) {
        credit(world, subscription, item, at);
    }
}

fn credit(world: &mut World, subscription: &Value, item: &Value, at: i64) -> bool {
    let name = lines::product_name(&world.store, &item["price"]);
    let text = format!("Unused time on {}{name} after {}", times(item), day(at));
    write(world, subscription, item, -part(&world.store, subscription, item, at), &text, at)
}

fn charge(world: &mut World, subscription: &Value, item: &Value, at: i64) -> bool {
    let name = lines::product_name(&world.store, &item["price"]);
    let text = format!("Remaining time on {}{name} after {}", times(item), day(at));
    write(world, subscription, item, part(&world.store, subscription, item, at), &text, at)
}

fn times(item: &Value) -> String {
    match item["quantity"].as_i64() {
        Some(1) | None => String::new(),
        Some(quantity) => format!("{quantity} × "),
    }
}

fn day(at: i64) -> String {
    let at = Timestamp::from_second(at).unwrap_or_default().to_zoned(jiff::tz::TimeZone::UTC);
    at.strftime("%d %b %Y").to_string()
}

/// What the rest of an item's period costs, discounts taken off, rounded half up once.
fn part(store: &Store, subscription: &Value, item: &Value, at: i64) -> i64 {
    let time = |name: &str| item[name].as_i64().unwrap_or(at);
    let (start, end) = (time("current_period_start"), time("current_period_end"));
    let left = (end - at).min(end - start).max(0);
    shares::share(discounted(store, subscription, item), left.into(), (end - start).into())
}

fn discounted(store: &Store, subscription: &Value, item: &Value) -> i64 {
    let mut amount = lines::item_amount(store, item);
    for id in array(&subscription["discounts"]).iter().filter_map(Value::as_str) {
        let discount = store.get(Kind::Discount, id);
        let coupon = discount.and_then(|discount| store.get(Kind::Coupon, discount["source"]["coupon"].as_str()?));
        if let Some(coupon) = coupon.filter(|coupon| coupon["percent_off"].is_number()) {
            amount -= coupons::taken_off(&coupon, amount);
        }
    }
    amount
}

fn write(world: &mut World, subscription: &Value, item: &Value, amount: i64, text: &str, at: i64) -> bool {
    if amount == 0 {
        return false;
    }
    let id = world.id("ii");
    let mut row = invoiceitems::object(&id, &subscription["customer"], amount, &subscription["currency"], world.now);
    row["description"] = json!(text);
    row["discountable"] = json!(false);
    row["proration"] = json!(true);
    row["proration_details"] = json!({"discount_amounts": []});
    row["period"] = json!({"start": at, "end": item["current_period_end"]});
    row["parent"] = json!({
        "subscription_details": {"subscription": subscription["id"], "subscription_item": item["id"]},
        "type": "subscription_details"
    });
    row["pricing"] = lines::pricing(&item["price"], item["price"]["unit_amount_decimal"].clone());
    let quantity = item["quantity"].as_i64().unwrap_or(1);
    row["quantity"] = json!(quantity);
    row["quantity_decimal"] = json!(quantity.to_string());
    row["tax_rates"] = item["tax_rates"].clone();
    row["test_clock"] = subscription["test_clock"].clone();
    world.store.put(Kind::InvoiceItem, row);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_a_period_costs_its_share() {
        let store = Store::new();
        let item = |amount: i64| {
            json!({
                "price": {"unit_amount": amount, "recurring": {}}, "quantity": 1,
                "current_period_start": 0, "current_period_end": 30
            })
        };
        for (amount, at, expected) in
            [(3_000, 0, 3_000), (3_000, 15, 1_500), (3_000, 30, 0), (4_900, 10, 3_267), (1, 15, 1), (100, 29, 3)]
        {
            assert_eq!(part(&store, &json!({}), &item(amount), at), expected, "{amount} {at}");
        }
    }
}
