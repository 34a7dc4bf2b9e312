//! A believable little business, the same for the same instant of birth.
//!
//! 150 customers. 120 of them subscribe: 10 trials, 30 starter, 70 professional, 10 enterprise; a few pay by the year, one
//! in yen, one has an add-on, one is past due. Of the other 30 one has canceled. In dollars a month that is
//! 0 + 570 + 3,430 + 990 = 4,990.00: the coupons that run forever stand where they do not touch it.

use super::billing::{Bill, bill};
use super::{catalogue, people};
use crate::calendar::{DAY, Period, Recurrence, period, step};
use crate::kind::Kind;
use crate::resources::{coupons, customers, discounts, payment_methods, refunds, subscription_items, subscriptions};
use crate::world::{World, mix};
use serde_json::{Value, json};
use std::sync::Arc;

/// The customer that the sandbox's own user is: Ada Moreno, professional at 49.00 USD a month.
pub const USER_CUSTOMER: &str = "cus_sandbox_user";

const CUSTOMERS: usize = 150;

/// How far back invoices and charges go.
const HISTORY: i64 = 92 * DAY;

/// One subscription that is to be planted.
struct Plan {
    customer: usize,
    prices: &'static [&'static str],
    tier: &'static str,
    oddity: Oddity,
}

/// What sets one subscription apart from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Oddity {
    None,
    /// The sandbox's own user: ten days into the sixth month.
    User,
    Trial,
    PastDue,
    Canceled,
    Leaving,
    /// A coupon that runs for good, where nobody's dollars are counted.
    Forever,
    /// A coupon for the first invoice only.
    Once,
    Refunded,
}

/// One invoice that is to be written, in the order of its instant.
struct Due {
    at: i64,
    subscription: usize,
    number: i64,
    period: Period,
    last: bool,
}

pub(super) fn plant(world: &mut World) {
    let born = world.born();
    catalogue::plant(&mut world.store, born);
    plant_coupons(world);
    let plans = plans();
    for number in 0..CUSTOMERS {
        let plan = plans.iter().find(|plan| plan.customer == number);
        plant_customer(world, number, plan);
    }
    let subscriptions: Vec<Value> = plans.iter().map(|plan| plant_subscription(world, plan)).collect();
    plant_invoices(world, &plans, subscriptions);
}

/// Who subscribes to what.
fn plans() -> Vec<Plan> {
    let plan = |customer, tier, prices, oddity| Plan { customer, prices, tier, oddity };
    let mut out = vec![plan(0, "professional", &["price_professional_monthly"], Oddity::User)];
    out.extend((1..=10).map(|customer| plan(customer, "trial", &["price_trial_monthly"], Oddity::Trial)));
    out.extend((11..=40).map(|customer| match customer {
        14 | 21 | 28 | 35 => plan(customer, "starter", &["price_starter_yearly"], Oddity::None),
        17 => plan(customer, "starter", &["price_starter_monthly"], Oddity::PastDue),
        23 => plan(customer, "starter", &["price_starter_monthly"], Oddity::Once),
        31 => plan(customer, "starter", &["price_starter_monthly"], Oddity::Leaving),
        _ => plan(customer, "starter", &["price_starter_monthly"], Oddity::None),
    }));
    out.extend((41..=109).map(|customer| match customer {
        44 | 57 | 70 | 83 | 96 => plan(customer, "professional", &["price_professional_yearly"], Oddity::None),
        61 => plan(customer, "professional", &["price_professional_monthly_jpy"], Oddity::Forever),
        66 => {
            plan(customer, "professional", &["price_professional_monthly", "price_addon_support_monthly"], Oddity::None)
        }
        75 => plan(customer, "professional", &["price_professional_monthly"], Oddity::Refunded),
        _ => plan(customer, "professional", &["price_professional_monthly"], Oddity::None),
    }));
    out.extend((110..=119).map(|customer| match customer {
        113 => plan(customer, "enterprise", &["price_enterprise_yearly"], Oddity::None),
        _ => plan(customer, "enterprise", &["price_enterprise_monthly"], Oddity::None),
    }));
    out.push(plan(120, "starter", &["price_starter_monthly"], Oddity::Canceled));
    out
}

fn name_of(number: usize) -> String {
    if number == 0 { "sandbox_user".to_owned() } else { format!("sandbox_{number:03}") }
}

/// A number from 0 (inclusive) to `below`, the same for the same customer and question.
fn chance(number: usize, question: u64, below: i64) -> i64 {
    let mut state = u64::try_from(number).unwrap_or_default().wrapping_mul(7_919) ^ question;
    let drawn = mix(&mut state) % below.unsigned_abs().max(1);
    i64::try_from(drawn).unwrap_or_default()
}

fn plant_coupons(world: &mut World) {
    let at = world.born() - 400 * DAY;
    let mut forever = coupons::object("FOUNDING20", "forever", at);
    crate::resources::fill(
        &mut forever,
        Some(&json!({"name": "Founding customer", "percent_off": 20, "times_redeemed": 1})),
    );
    world.store.put(Kind::Coupon, forever);
    let mut once = coupons::object("WELCOME5", "once", at + 60);
    let facts =
        json!({"name": "Five dollars off the first month", "amount_off": 500, "currency": "usd", "times_redeemed": 1});
    crate::resources::fill(&mut once, Some(&facts));
    world.store.put(Kind::Coupon, once);
}

/// When the subscription began, and so the anchor of its periods.
fn began(world: &World, plan: &Plan) -> i64 {
    let now = world.born();
    let month = Recurrence { interval: "month", count: 1 };
    match plan.oddity {
        Oddity::User => step(now - 10 * DAY, month, -5),
        Oddity::Trial => now - chance(plan.customer, 1, 12 * DAY) - 3_600,
        Oddity::PastDue => step(now - 2 * DAY, month, -4),
        Oddity::Canceled => step(now - 12 * DAY, month, -5),
        Oddity::Refunded => step(now - 6 * DAY, month, -7),
        Oddity::Once => now - 40 * DAY,
        _ => now - 20 * DAY - chance(plan.customer, 1, 380 * DAY),
    }
}

fn plant_customer(world: &mut World, number: usize, plan: Option<&Plan>) {
    let suffix = name_of(number);
    let id = format!("cus_{suffix}");
    let created = match plan {
        Some(plan) => began(world, plan) - 60 - chance(number, 2, 2 * DAY),
        None => world.born() - DAY - chance(number, 2, 400 * DAY),
    };
    let person = people::person(number);
    let mut customer = customers::object(&id, created);
    let tier = plan.filter(|plan| plan.oddity != Oddity::Canceled).map_or("trial", |plan| plan.tier);
    let facts = json!({
        "address": people::home(number), "email": person.email, "name": person.name,
        "metadata": {"user_id": format!("user_{number:04}"), "tier": tier},
        "preferred_locales": if number.is_multiple_of(7) { json!(["en"]) } else { json!([]) }
    });
    crate::resources::fill(&mut customer, Some(&facts));
    if let Some(plan) = plan {
        let method = plant_method(world, number, created + 30, &customer, plan);
        customer["invoice_settings"]["default_payment_method"] = method["id"].clone();
        customer["currency"] = json!(if plan.prices[0].ends_with("_jpy") { "jpy" } else { "usd" });
        customer["delinquent"] = json!(plan.oddity == Oddity::PastDue);
    }
    world.store.put(Kind::Customer, customer);
}

/// A card for most, a bank debit for three, none for people who only look around.
fn plant_method(world: &mut World, number: usize, created: i64, customer: &Value, plan: &Plan) -> Arc<Value> {
    let id = format!("pm_{}", name_of(number));
    let year = i64::from(crate::calendar::year(world.born()));
    let (kind, details) = match number {
        52 | 115 => ("us_bank_account", payment_methods::us_bank("6789", "company", "checking")),
        88 => ("sepa_debit", payment_methods::sepa("DE89370400440532013000")),
        _ => {
            let (brand, funding, last4) = people::card(number);
            let last4 = if plan.oddity == Oddity::PastDue { "0341".to_owned() } else { last4 };
            let (month, until) = (1 + chance(number, 3, 12), year + 1 + chance(number, 4, 4));
            ("card", payment_methods::card(brand, funding, &last4, month, until))
        }
    };
    let mut method = payment_methods::object(&id, kind, created);
    method[kind] = details;
    method["customer"] = customer["id"].clone();
    method["billing_details"]["name"] = customer["name"].clone();
    method["billing_details"]["email"] = customer["email"].clone();
    if customer["address"].is_object() {
        method["billing_details"]["address"] = customer["address"].clone();
    }
    world.store.put(Kind::PaymentMethod, method)
}

/// The subscription without its invoices; it is stored once these are known.
fn plant_subscription(world: &mut World, plan: &Plan) -> Value {
    let suffix = name_of(plan.customer);
    let (id, customer) = (format!("sub_{suffix}"), format!("cus_{suffix}"));
    let start = began(world, plan);
    let prices: Vec<Value> = plan.prices.iter().map(|id| catalogue::price(&world.store, id)).collect();
    let currency = prices[0]["currency"].as_str().unwrap_or("usd");
    let mut subscription = subscriptions::object(&id, &customer, currency, start);
    let items = prices
        .iter()
        .zip(1..)
        .map(|(price, place)| subscription_items::object(&format!("si_{suffix}_{place}"), &id, price, 1, start));
    subscription["items"]["data"] = Value::Array(items.collect());
    subscription["description"] = json!(format!("{} subscription", catalogue::tier_name(plan.tier)));
    if plan.customer.is_multiple_of(3) {
        subscription["metadata"] = json!({"tier": plan.tier});
    }
    if plan.oddity == Oddity::Trial {
        subscription["status"] = json!("trialing");
        subscription["trial_start"] = json!(start);
        subscription["trial_end"] = json!(start + 14 * DAY);
        subscription["billing_cycle_anchor"] = json!(start + 14 * DAY);
        subscription["trial_settings"]["end_behavior"]["missing_payment_method"] = json!("cancel");
    }
    let coupon = match plan.oddity {
        Oddity::Forever => Some("FOUNDING20"),
        Oddity::Once => Some("WELCOME5"),
        _ => None,
    };
    if let Some(coupon) = coupon.and_then(|coupon| world.store.get(Kind::Coupon, coupon)) {
        let discount = discounts::object(&format!("di_{suffix}"), &coupon, &customer, &id, start);
        subscription["discounts"] = json!([discount["id"]]);
        world.store.put(Kind::Discount, discount);
    }
    subscription
}

/// All invoices of the last months in the order of their instants, so that their numbers count up.
fn plant_invoices(world: &mut World, plans: &[Plan], mut subscriptions: Vec<Value>) {
    let mut due: Vec<Due> = Vec::new();
    for (place, plan) in plans.iter().enumerate() {
        due.extend(dues(world, plan, place, &subscriptions[place]));
    }
    due.sort_by_key(|due| (due.at, due.subscription));
    for due in &due {
        let plan = &plans[due.subscription];
        let invoice = write_invoice(world, plan, due, &subscriptions[due.subscription]);
        subscriptions[due.subscription]["latest_invoice"] = invoice["id"].clone();
    }
    for (plan, mut subscription) in plans.iter().zip(subscriptions) {
        finish(world, plan, &mut subscription);
        world.store.put(Kind::Subscription, subscription);
    }
}

fn dues(world: &World, plan: &Plan, place: usize, subscription: &Value) -> Vec<Due> {
    let now = world.born();
    let start = began(world, plan);
    let price = &subscription["items"]["data"][0]["price"];
    let recurrence = subscription_items::recurrence(price);
    if plan.oddity == Oddity::Trial {
        let period = Period { start, end: start + 14 * DAY };
        return vec![Due { at: start, subscription: place, number: 1, period, last: true }];
    }
    let until = if plan.oddity == Oddity::Canceled { ended(now) } else { now };
    let history = if plan.oddity == Oddity::User { 200 * DAY } else { HISTORY };
    let current = period(start, recurrence, until);
    let mut out = Vec::new();
    for number in 1.. {
        let (from, to) = (step(start, recurrence, number - 1), step(start, recurrence, number));
        if from > until {
            break;
        }
        let last = from == current.start;
        if last || from >= now - history {
            out.push(Due { at: from, subscription: place, number, period: Period { start: from, end: to }, last });
        }
    }
    out
}

/// When the one who left was gone.
fn ended(now: i64) -> i64 {
    now - 33 * DAY
}

fn write_invoice(world: &mut World, plan: &Plan, due: &Due, subscription: &Value) -> Arc<Value> {
    let suffix = name_of(plan.customer);
    let customer = world.store.get(Kind::Customer, &format!("cus_{suffix}")).unwrap_or_default();
    let mut method = (*world.store.get(Kind::PaymentMethod, &format!("pm_{suffix}")).unwrap_or_default()).clone();
    if plan.oddity == Oddity::PastDue && !due.last {
        // The card was good until this month.
        method["card"]["last4"] = json!("4444");
    }
    let invoice = bill(
        world,
        &Bill {
            name: &format!("{suffix}_{}", due.number),
            subscription,
            customer: &customer,
            reason: if due.number == 1 { "subscription_create" } else { "subscription_cycle" },
            at: due.at,
            period: due.period,
            trial: plan.oddity == Oddity::Trial,
            method: &method,
        },
    );
    if plan.oddity == Oddity::Refunded && due.last {
        give_back(world, &format!("ch_{suffix}_{}", due.number), due.at + DAY);
    }
    invoice
}

fn give_back(world: &mut World, charge: &str, at: i64) {
    let Some(charge) = world.store.get(Kind::Charge, charge) else { return };
    let amount = charge["amount"].as_i64().unwrap_or_default();
    let id = charge["id"].as_str().unwrap_or_default().replacen("ch_", "re_", 1);
    world.store.put(Kind::Refund, refunds::object(&id, &charge, amount, Some("requested_by_customer"), at));
    refunds::take_from(world, &charge, amount);
}

/// What the oddity makes of a subscription in the end.
fn finish(world: &World, plan: &Plan, subscription: &mut Value) {
    let now = world.born();
    subscription_items::set_periods(subscription, if plan.oddity == Oddity::Canceled { ended(now) } else { now });
    match plan.oddity {
        Oddity::PastDue => subscription["status"] = json!("past_due"),
        Oddity::Canceled => {
            subscription["status"] = json!("canceled");
            subscription["canceled_at"] = json!(ended(now));
            subscription["ended_at"] = json!(ended(now));
            subscription["cancellation_details"] =
                json!({"comment": null, "feedback": "unused", "reason": "cancellation_requested"});
        }
        Oddity::Leaving => {
            let (_, end) = subscription_items::current_period(&subscription["items"]);
            subscription["cancel_at_period_end"] = json!(true);
            subscription["cancel_at"] = json!(end);
            subscription["canceled_at"] = json!(now - 5 * DAY);
            subscription["cancellation_details"]["reason"] = json!("cancellation_requested");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Index;
    use crate::store::Store;
    use crate::world::array;

    fn objects(store: &Store, kind: Kind) -> Vec<Value> {
        store.held(kind).map(|(_, object)| (**object).clone()).collect()
    }

    fn month_value(subscription: &Value) -> i64 {
        let of = |item: &Value| {
            let amount = item["price"]["unit_amount"].as_i64().unwrap();
            if item["price"]["recurring"]["interval"] == "year" { amount / 12 } else { amount }
        };
        array(&subscription["items"]["data"]).iter().map(of).sum()
    }

    /// Short months, leap days and turns of the year: the business is the same on whatever day it is planted.
    #[test]
    fn every_day_of_planting_is_a_good_day() {
        let days = (0..6).map(|turn| 1_735_689_600 + turn * 97 * DAY + turn * 7_777);
        let odd = ["2028-02-29", "2026-03-31", "2026-12-31", "2027-01-01", "2026-03-10", "2026-05-31"]
            .map(|day| format!("{day}T23:59:59Z").parse::<jiff::Timestamp>().unwrap().as_second());
        for born in days.chain(odd) {
            let mut world = World::new(born);
            plant(&mut world);
            let store = &world.store;
            let subscriptions = objects(store, Kind::Subscription);
            let count = |status: &str| subscriptions.iter().filter(|row| row["status"] == status).count();
            assert_eq!(["active", "trialing", "past_due", "canceled"].map(count), [109, 10, 1, 1], "{born}");
            let counted = subscriptions.iter().filter(|row| row["currency"] == "usd" && row["status"] != "canceled");
            assert_eq!(counted.map(month_value).sum::<i64>(), 499_000, "{born}");
            for row in &subscriptions {
                let (start, end) = subscription_items::current_period(&row["items"]);
                let inside = start <= Some(born) && Some(born) < end;
                assert!(inside || row["status"] == "canceled", "{born} {}", row["id"]);
                assert!(row["latest_invoice"].is_string(), "{born} {}", row["id"]);
            }
            let charges = objects(store, Kind::Charge);
            assert_eq!(charges.iter().filter(|row| row["status"] == "failed").count(), 1, "{born}");
            assert_eq!(charges.iter().filter(|row| row["refunded"] == true).count(), 1, "{born}");
            assert_eq!(store.all(Kind::Invoice, Index::Customer, USER_CUSTOMER).len(), 6, "{born}");
            for kind in Kind::ALL {
                let late = objects(store, kind).into_iter().find(|row| row["created"].as_i64() > Some(born));
                assert_eq!(late, None, "{born}");
            }
        }
    }
}
