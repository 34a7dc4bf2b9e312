//! Subscription schedules: phases that begin by themselves, and what people do with them meanwhile.

use crate::lab::{Lab, NOW};
use sandbox::Seed;
use serde_json::{Value, json};

const DAY: i64 = 24 * 60 * 60;
const HOUR: i64 = 60 * 60;
const STARTER: &str = "price_starter_monthly";
const PRO: &str = "price_professional_monthly";

fn phase(place: usize, price: &str, rest: &str) -> String {
    format!("phases[{place}][items][0][price]={price}&phases[{place}]{rest}")
}

fn scheduled(lab: &Lab, rest: &str) -> Value {
    let customer = lab.payer("pm_card_visa");
    lab.made("/v1/subscription_schedules", &format!("customer={customer}&{rest}"))
}

fn again(lab: &Lab, object: &Value) -> Value {
    lab.get(&format!("/v1/{}s/{}", object["object"].as_str().unwrap(), object["id"].as_str().unwrap())).body
}

fn subscription(lab: &Lab, schedule: &Value) -> Value {
    lab.get(&format!("/v1/subscriptions/{}", again(lab, schedule)["subscription"].as_str().unwrap())).body
}

/// What was billed, oldest first: total, and the prices of its lines.
fn billed(lab: &Lab, subscription: &Value) -> Vec<(i64, String)> {
    let list = lab.get(&format!("/v1/invoices?subscription={}", subscription["id"].as_str().unwrap()));
    let prices = |invoice: &Value| {
        let lines = invoice["lines"]["data"].as_array().unwrap();
        let price = |line: &Value| line["pricing"]["price_details"]["price"].as_str().unwrap().to_owned();
        lines.iter().map(price).collect::<Vec<_>>().join(" ")
    };
    list.rows().iter().rev().map(|invoice| (invoice["total"].as_i64().unwrap(), prices(invoice))).collect()
}

#[test]
fn phases_begin_by_themselves_and_each_period_is_billed_once() {
    let lab = Lab::new(Seed::Business);
    let form = format!(
        "start_date={}&end_behavior=release&{}&{}&{}",
        NOW + 5 * DAY,
        phase(0, STARTER, "[duration][interval]=month"),
        phase(1, PRO, "[duration][interval]=month&phases[1][duration][interval_count]=2"),
        phase(2, PRO, "[items][0][quantity]=3&phases[2][metadata][size]=big")
    );
    let made = scheduled(&lab, &form);
    assert_eq!(
        (&made["status"], &made["subscription"], &made["current_phase"]),
        (&json!("not_started"), &json!(null), &json!(null))
    );
    lab.advance(5 * DAY + 2 * HOUR);
    let begun = subscription(&lab, &made);
    assert_eq!((&begun["status"], &begun["schedule"]), (&json!("active"), &made["id"]));
    assert_eq!(begun["start_date"], NOW + 5 * DAY);
    for (days, price, quantity) in [(20, STARTER, 1), (15, PRO, 1), (31, PRO, 1), (30, PRO, 3)] {
        lab.advance(days * DAY);
        let item = subscription(&lab, &made)["items"]["data"][0].clone();
        assert_eq!((&item["price"]["id"], &item["quantity"]), (&json!(price), &json!(quantity)), "{days}");
    }
    assert_eq!(subscription(&lab, &made)["metadata"], json!({"size": "big"}));
    let expected =
        [(1900, STARTER), (4900, PRO), (4900, PRO), (14700, PRO)].map(|(total, price)| (total, price.to_owned()));
    assert_eq!(billed(&lab, &begun), expected);
    lab.advance(31 * DAY);
    let over = again(&lab, &made);
    assert_eq!((&over["status"], &over["current_phase"]), (&json!("completed"), &json!(null)));
    let free = again(&lab, &begun);
    assert_eq!((&free["status"], &free["schedule"]), (&json!("active"), &json!(null)));
    assert_eq!(billed(&lab, &begun).len(), 5, "the subscription goes on");
}

/// In the midst of a period the rest of it is prorated; another interval begins a cycle of its own.
#[test]
fn a_phase_may_cut_a_period() {
    let lab = Lab::new(Seed::Business);
    for (last, prices, cut, expected) in [
        (15, [STARTER, PRO], "", 1900 + (4900 - 1900) / 2 + 4900),
        (15, [STARTER, PRO], "[proration_behavior]=none", 1900 + 4900),
        (30, [STARTER, "price_professional_yearly"], "[proration_behavior]=none", 1900 + 58800),
    ] {
        let form = format!(
            "start_date=now&{}&{}",
            phase(0, prices[0], &format!("[end_date]={}", NOW + lab_days(&lab) + last * DAY)),
            phase(1, prices[1], &format!("[duration][interval]=year&phases[1]{cut}")),
        );
        let made = scheduled(&lab, form.trim_end_matches("&phases[1]"));
        lab.advance(31 * DAY);
        let begun = subscription(&lab, &made);
        let totals: Vec<i64> = billed(&lab, &begun).into_iter().map(|(total, _)| total).collect();
        assert_eq!(totals.iter().sum::<i64>(), expected, "{prices:?} {cut}: {totals:?}");
    }
}

fn lab_days(lab: &Lab) -> i64 {
    lab.sandbox().now().as_second() - NOW
}

#[test]
fn the_end_may_be_the_subscriptions_end() {
    let lab = Lab::new(Seed::Business);
    let made = scheduled(
        &lab,
        &format!("end_behavior=cancel&start_date=now&{}", phase(0, STARTER, "[duration][interval]=month")),
    );
    assert_eq!(made["status"], "active");
    let last = lab.last_event();
    lab.advance(31 * DAY);
    let told = lab.events_since(&last);
    let at = |name: &str| {
        let event =
            told.iter().find(|event| event["type"] == name && event["data"]["object"]["customer"] == made["customer"]);
        event.map(|event| (event["created"].as_i64().unwrap() - NOW) / DAY)
    };
    assert_eq!(at("subscription_schedule.expiring"), Some(23));
    assert_eq!(at("subscription_schedule.completed"), Some(30));
    assert_eq!(at("customer.subscription.deleted"), Some(30));
    assert_eq!(billed(&lab, &json!({"id": again(&lab, &made)["subscription"]})).len(), 1, "nothing after the end");
}

#[test]
fn a_running_subscription_gets_a_schedule() {
    let lab = Lab::new(Seed::Business);
    let customer = lab.payer("pm_card_visa");
    let begun = lab.subscribe(&customer, &format!("items[0][price]={STARTER}"));
    let id = begun["id"].as_str().unwrap();
    let made = lab.made("/v1/subscription_schedules", &format!("from_subscription={id}"));
    let end = begun["items"]["data"][0]["current_period_end"].clone();
    assert_eq!((&made["status"], &made["phases"][0]["end_date"]), (&json!("active"), &end));
    let twice = lab.post("/v1/subscription_schedules", &format!("from_subscription={id}"));
    assert_eq!(twice.error(), "400 invalid_request_error - from_subscription");
    let directly = lab.post(&format!("/v1/subscriptions/{id}"), "cancel_at_period_end=true");
    assert_eq!(directly.error(), "400 invalid_request_error - -");
    let path = format!("/v1/subscription_schedules/{}", made["id"].as_str().unwrap());
    let form =
        format!("{}&{}", phase(0, STARTER, &format!("[end_date]={end}")), phase(1, PRO, "[duration][interval]=month"));
    let planned = lab.made(&path, &form);
    assert_eq!(planned["phases"].as_array().unwrap().len(), 2);
    assert_eq!(planned["current_phase"], made["current_phase"]);
    // A change of the phase that runs is a change of the subscription, now.
    lab.advance(10 * DAY);
    lab.made(
        &path,
        &format!(
            "{}&proration_behavior=none",
            phase(0, STARTER, &format!("[items][0][quantity]=4&phases[0][end_date]={end}"))
        ),
    );
    assert_eq!(again(&lab, &begun)["items"]["data"][0]["quantity"], 4);
    let released = lab.made(&format!("{path}/release"), "");
    assert_eq!((&released["status"], &released["released_subscription"]), (&json!("released"), &json!(id)));
    assert_eq!(released["subscription"], json!(null));
    assert_eq!(again(&lab, &begun)["schedule"], json!(null));
    assert_eq!(lab.post(&format!("{path}/release"), "").error(), "400 invalid_request_error - -");
}

#[test]
fn who_ends_what() {
    let lab = Lab::new(Seed::Business);
    let form = format!("start_date=now&{}", phase(0, STARTER, "[duration][interval]=year"));
    let later = format!("start_date={}&{}", NOW + DAY, phase(0, STARTER, "[duration][interval]=year"));
    let name = |events: &[String]| {
        let mut names = events
            .iter()
            .filter(|name| name.starts_with("subscription_schedule.") || name.ends_with("subscription.deleted"));
        let found: Vec<&str> = names.by_ref().map(String::as_str).collect();
        found.join(" ")
    };
    let (first, second, third) = (scheduled(&lab, &form), scheduled(&lab, &form), scheduled(&lab, &later));
    let place = |schedule: &Value| format!("/v1/subscription_schedules/{}", schedule["id"].as_str().unwrap());
    let told = lab.told(|lab| drop(lab.made(&format!("{}/cancel", place(&first)), "prorate=false")));
    assert_eq!(name(&told), "subscription_schedule.canceled customer.subscription.deleted");
    let told = lab.told(|lab| {
        lab.delete(&format!("/v1/subscriptions/{}", second["subscription"].as_str().unwrap()));
    });
    assert_eq!(name(&told), "customer.subscription.deleted subscription_schedule.canceled");
    let told = lab.told(|lab| drop(lab.made(&format!("{}/cancel", place(&third)), "")));
    assert_eq!(name(&told), "subscription_schedule.canceled");
    // Nobody pays for this one any more.
    let poor = lab.payer("pm_card_chargeCustomerFail");
    let unpaid = lab.made("/v1/subscription_schedules", &format!("customer={poor}&{form}"));
    let told = lab.told(|lab| lab.advance(20 * DAY));
    assert!(told.contains(&"subscription_schedule.aborted".to_owned()), "{told:?}");
    assert_eq!(again(&lab, &unpaid)["status"], "canceled");
    for (query, expected) in [("", 4), ("&scheduled=true", 0), ("&canceled_at[gte]=1", 4), ("&released_at[gte]=1", 0)] {
        assert_eq!(lab.get(&format!("/v1/subscription_schedules?limit=100{query}")).rows().len(), expected, "{query}");
    }
}

#[test]
fn bad_requests_are_refused() {
    let lab = Lab::new(Seed::Business);
    let customer = lab.payer("pm_card_visa");
    let good = phase(0, STARTER, "[duration][interval]=month");
    for (form, expected) in [
        (good.clone(), "parameter_missing customer"),
        (format!("customer={customer}"), "parameter_missing phases"),
        (format!("customer=cus_x&{good}"), "resource_missing customer"),
        (format!("customer={customer}&{}", phase(0, "price_x", "[iterations]=1")), "resource_missing items[0][price]"),
        (
            format!("customer={customer}&{}", phase(0, STARTER, &format!("[end_date]={}", NOW - 5))),
            "- phases[0][end_date]",
        ),
        (format!("customer={customer}&{good}&phases[0][colour]=red"), "parameter_unknown phases[0][colour]"),
        (format!("customer={customer}&{good}&end_behavior=explode"), "- end_behavior"),
        (format!("from_subscription=sub_sandbox_user&{good}"), "- phases"),
        ("from_subscription=sub_x".to_owned(), "resource_missing from_subscription"),
    ] {
        let answer = lab.post("/v1/subscription_schedules", &form);
        assert_eq!(answer.error(), format!("400 invalid_request_error {expected}"), "{form}");
    }
    let old = format!("customer={customer}&{}", phase(0, STARTER, "[iterations]=2"));
    let as_of =
        |version: &str| lab.send("POST", "/v1/subscription_schedules", &[("Stripe-Version", version)], &old).unwrap();
    assert_eq!(as_of("2025-09-30.clover").error(), "400 invalid_request_error parameter_unknown phases[0][iterations]");
    assert_eq!(as_of("2025-03-31.basil").status, 200);
    assert_eq!(
        lab.get("/v1/subscription_schedules/sub_sched_x").error(),
        "404 invalid_request_error resource_missing schedule"
    );
}
