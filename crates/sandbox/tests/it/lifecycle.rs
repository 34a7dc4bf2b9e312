//! What happens as time goes by, each thing at its own instant.

use crate::lab::{Lab, NOW};
use sandbox::{Dunning, Seed};
use serde_json::{Value, json};

const HOUR: i64 = 60 * 60;
const DAY: i64 = 24 * HOUR;

/// Instant since the beginning and type of what happened by itself to one customer.
fn story(lab: &Lab, customer: &str, since: &str) -> Vec<String> {
    let mut out = Vec::new();
    for event in lab.events_since(since) {
        let object = &event["data"]["object"];
        let quiet = ["invoice.updated", "customer.updated", "invoice_payment.paid", "payment_intent.created"];
        let name = event["type"].as_str().unwrap();
        let hours = (event["created"].as_i64().unwrap() - NOW) / HOUR;
        if object["customer"] == customer && hours > 0 && !quiet.contains(&name) {
            out.push(format!("{}d{}h {name}", hours / 24, hours % 24));
        }
    }
    out
}

fn field(lab: &Lab, path: &str, name: &str) -> Value {
    lab.get(path).body[name].clone()
}

fn path(object: &Value) -> String {
    format!("/v1/{}s/{}", object["object"].as_str().unwrap(), object["id"].as_str().unwrap())
}

#[test]
fn a_month_is_renewed_and_paid() {
    let lab = Lab::new(Seed::Business);
    let customer = lab.payer("pm_card_visa");
    let made = lab.subscribe(&customer, "items[0][price]=price_starter_monthly");
    let last = lab.last_event();
    lab.advance(30 * DAY + 2 * HOUR);
    assert_eq!(
        story(&lab, &customer, &last),
        [
            "23d0h invoice.upcoming",
            "30d0h customer.subscription.updated",
            "30d0h invoice.created",
            "30d1h invoice.finalized",
            "30d1h charge.succeeded",
            "30d1h payment_intent.succeeded",
            "30d1h invoice.paid",
            "30d1h invoice.payment_succeeded",
        ]
    );
    let now = lab.get(&format!("{}?expand[]=latest_invoice", path(&made))).body;
    let (item, invoice) = (&now["items"]["data"][0], &now["latest_invoice"]);
    assert_eq!(
        (&item["current_period_start"], &item["current_period_end"]),
        (&json!(NOW + 30 * DAY), &json!(NOW + 61 * DAY))
    );
    assert_eq!(
        (&invoice["billing_reason"], &invoice["created"]),
        (&json!("subscription_cycle"), &json!(NOW + 30 * DAY))
    );
    assert_eq!(
        (&invoice["status"], &invoice["amount_paid"], &invoice["attempt_count"]),
        (&json!("paid"), &json!(1_900), &json!(1))
    );
    assert_eq!(invoice["lines"]["data"][0]["period"], json!({"start": NOW + 30 * DAY, "end": NOW + 61 * DAY}));
}

/// F-31: the 31st clamps and does not drift, also through a leap February.
/// A week before: what it will cost, of which nothing exists yet.
#[test]
fn an_invoice_is_announced_while_there_will_be_one() {
    let lab = Lab::new(Seed::Business);
    for (terms, change, announced) in [
        ("items[0][price]=price_starter_monthly&items[0][quantity]=2", "", Some(3800)),
        ("items[0][price]=price_starter_monthly&discounts[0][coupon]=FOUNDING20", "", Some(1520)),
        ("items[0][price]=price_starter_monthly&trial_period_days=30", "", Some(1900)),
        ("items[0][price]=price_starter_monthly", "cancel_at_period_end=true", None),
        ("items[0][price]=price_starter_monthly", "pause", None),
    ] {
        let customer = lab.payer("pm_card_visa");
        let made = lab.subscribe(&customer, terms);
        match change {
            "" => {}
            "pause" => drop(lab.made(&format!("{}/pause", path(&made)), "type=subscription")),
            form => drop(lab.made(&path(&made), form)),
        }
        let last = lab.last_event();
        lab.advance(29 * DAY);
        let told = lab.events_since(&last);
        let mine: Vec<&Value> = told.iter().filter(|event| event["data"]["object"]["customer"] == customer).collect();
        let case = format!("{terms} {change}");
        let upcoming: Vec<&&Value> = mine.iter().filter(|event| event["type"] == "invoice.upcoming").collect();
        assert_eq!(
            upcoming.first().map(|event| event["data"]["object"]["total"].as_i64().unwrap()),
            announced,
            "{case}"
        );
        if let [event] = upcoming.as_slice() {
            let invoice = &event["data"]["object"];
            assert_eq!(
                (&invoice["status"], &invoice["billing_reason"]),
                (&json!("draft"), &json!("upcoming")),
                "{case}"
            );
            assert_eq!(lab.get(&path(invoice)).status, 404, "{case}");
        }
    }
}

#[test]
fn anchors_clamp_and_come_back() {
    let lab = Lab::new(Seed::Business);
    lab.advance(39 * DAY); // 2026-12-31 10:00
    let customer = lab.payer("pm_card_visa");
    let made = lab.subscribe(&customer, "items[0][price]=price_starter_monthly");
    lab.advance(430 * DAY);
    let invoices = lab.get(&format!("/v1/invoices?limit=100&customer={customer}"));
    let day = |second: i64| jiff::Timestamp::from_second(second).unwrap().to_string()[..10].to_owned();
    let mut starts: Vec<String> =
        invoices.rows().iter().map(|row| day(row["lines"]["data"][0]["period"]["start"].as_i64().unwrap())).collect();
    starts.reverse();
    let expected = [
        "2026-12-31",
        "2027-01-31",
        "2027-02-28",
        "2027-03-31",
        "2027-04-30",
        "2027-05-31",
        "2027-06-30",
        "2027-07-31",
        "2027-08-31",
        "2027-09-30",
        "2027-10-31",
        "2027-11-30",
        "2027-12-31",
        "2028-01-31",
        "2028-02-29",
    ];
    assert_eq!(starts, expected);
    assert_eq!(field(&lab, &path(&made), "status"), "active");
}

#[test]
fn a_trial_is_announced_and_ends() {
    let lab = Lab::new(Seed::Business);
    let customer = lab.payer("pm_card_visa");
    let made = lab.subscribe(&customer, "items[0][price]=price_starter_monthly&trial_period_days=14");
    let last = lab.last_event();
    lab.advance(14 * DAY + 2 * HOUR);
    assert_eq!(
        story(&lab, &customer, &last),
        [
            "7d0h invoice.upcoming",
            "11d0h customer.subscription.trial_will_end",
            "14d0h customer.subscription.updated",
            "14d0h invoice.created",
            "14d1h invoice.finalized",
            "14d1h charge.succeeded",
            "14d1h payment_intent.succeeded",
            "14d1h invoice.paid",
            "14d1h invoice.payment_succeeded",
        ]
    );
    let now = lab.get(&path(&made)).body;
    assert_eq!((&now["status"], &now["billing_cycle_anchor"]), (&json!("active"), &json!(NOW + 14 * DAY)));
    assert_eq!(now["items"]["data"][0]["current_period_end"], NOW + 45 * DAY);
}

#[test]
fn a_trial_that_nobody_can_pay_for_ends_as_asked() {
    for (behavior, status, told) in [
        ("cancel", "canceled", "customer.subscription.deleted"),
        ("pause", "paused", "customer.subscription.paused"),
        ("create_invoice", "past_due", "invoice.payment_failed"),
    ] {
        let lab = Lab::new(Seed::Business);
        let form = format!(
            "items[0][price]=price_starter_monthly&trial_period_days=7&trial_settings[end_behavior][missing_payment_method]={behavior}"
        );
        let made = lab.subscribe("cus_sandbox_149", &form);
        let last = lab.last_event();
        lab.advance(7 * DAY + 2 * HOUR);
        assert_eq!(field(&lab, &path(&made), "status"), status, "{behavior}");
        let story = story(&lab, "cus_sandbox_149", &last);
        assert!(story.iter().any(|line| line.ends_with(told)), "{behavior}: {story:?}");
    }
}

#[test]
fn a_card_that_stopped_working_is_tried_again_and_given_up() {
    for (then, status) in [(Dunning::Cancel, "canceled"), (Dunning::Unpaid, "unpaid"), (Dunning::PastDue, "past_due")] {
        let lab = Lab::new(Seed::Business);
        lab.sandbox().set_dunning(then);
        let customer = lab.payer("pm_card_visa");
        let made = lab.subscribe(&customer, "items[0][price]=price_starter_monthly");
        let failing =
            lab.made("/v1/payment_methods/pm_card_chargeCustomerFail/attach", &format!("customer={customer}"));
        let default = format!("default_payment_method={}", failing["id"].as_str().unwrap());
        lab.made(&path(&made), &default);
        let last = lab.last_event();
        lab.advance(30 * DAY + 2 * HOUR);
        assert_eq!(field(&lab, &path(&made), "status"), "past_due", "{then:?}");
        assert_eq!(field(&lab, &format!("/v1/customers/{customer}"), "delinquent"), true);
        lab.advance(8 * DAY);
        let mut failures = story(&lab, &customer, &last);
        failures.retain(|line| line.ends_with("invoice.payment_failed"));
        let days: Vec<&str> = failures.iter().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(days, ["30d1h", "31d1h", "33d1h", "35d1h", "37d1h"], "{then:?}");
        let now = lab.get(&format!("{}?expand[]=latest_invoice", path(&made))).body;
        assert_eq!(now["status"], status, "{then:?}");
        assert_eq!(
            (&now["latest_invoice"]["status"], &now["latest_invoice"]["attempt_count"]),
            (&json!("open"), &json!(5))
        );
        assert_eq!(now["latest_invoice"]["next_payment_attempt"], json!(null));
        if then == Dunning::Cancel {
            assert_eq!(now["cancellation_details"]["reason"], "payment_failed");
        }
    }
}

#[test]
fn a_new_card_heals_what_is_past_due() {
    let lab = Lab::new(Seed::Business);
    let subscription = "/v1/subscriptions/sub_sandbox_017";
    assert_eq!(field(&lab, subscription, "status"), "past_due");
    let card = lab.made("/v1/payment_methods/pm_card_visa/attach", "customer=cus_sandbox_017");
    lab.made(subscription, &format!("default_payment_method={}", card["id"].as_str().unwrap()));
    lab.advance(2 * DAY);
    let now = lab.get(&format!("{subscription}?expand[]=latest_invoice")).body;
    assert_eq!((&now["status"], &now["latest_invoice"]["status"]), (&json!("active"), &json!("paid")));
    assert_eq!(field(&lab, "/v1/customers/cus_sandbox_017", "delinquent"), false);
}

#[test]
fn cancelling_at_the_end_of_the_period() {
    let lab = Lab::new(Seed::Business);
    let customer = lab.payer("pm_card_visa");
    let made = lab.subscribe(&customer, "items[0][price]=price_starter_monthly");
    lab.made(&path(&made), "cancel_at_period_end=true");
    let last = lab.last_event();
    lab.advance(40 * DAY);
    assert_eq!(story(&lab, &customer, &last), ["30d0h customer.subscription.deleted"]);
    let now = lab.get(&path(&made)).body;
    assert_eq!(
        (&now["status"], &now["ended_at"], &now["canceled_at"]),
        (&json!("canceled"), &json!(NOW + 30 * DAY), &json!(NOW))
    );
    assert_eq!((&now["cancel_at_period_end"], &now["cancel_at"]), (&json!(true), &json!(NOW + 30 * DAY)));
    assert_eq!(lab.get(&format!("/v1/invoices?customer={customer}")).rows().len(), 1);
}

#[test]
fn coupons_run_out() {
    let lab = Lab::new(Seed::Business);
    lab.made("/v1/coupons", "id=TWO&percent_off=50&duration=repeating&duration_in_months=2");
    lab.made("/v1/coupons", "id=ONE&amount_off=900&currency=usd&duration=once");
    let customer = lab.payer("pm_card_visa");
    let price = "items[0][price]=price_starter_monthly";
    let two = lab.subscribe(&customer, &format!("{price}&discounts[0][coupon]=TWO"));
    let one = lab.subscribe(&customer, &format!("{price}&discounts[0][coupon]=ONE"));
    lab.advance(62 * DAY);
    let told = story(&lab, &customer, "");
    let over: Vec<&String> = told.iter().filter(|line| line.ends_with("customer.discount.deleted")).collect();
    assert_eq!(over, ["61d0h customer.discount.deleted"], "the other one was thirty days ago, and is not kept");
    lab.advance(33 * DAY);
    let totals = |made: &Value| {
        let list = lab.get(&format!("/v1/invoices?subscription={}", made["id"].as_str().unwrap()));
        list.rows().iter().rev().map(|row| row["total"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((totals(&two), totals(&one)), (vec![950, 950, 1_900, 1_900], vec![1_000, 1_900, 1_900, 1_900]));
    assert_eq!(field(&lab, &path(&two), "discounts"), json!([]));
}

#[test]
fn a_first_payment_is_waited_for_23_hours() {
    let lab = Lab::new(Seed::Business);
    let customer = lab.payer("pm_card_visa");
    let made = lab.subscribe(&customer, "items[0][price]=price_starter_monthly&payment_behavior=default_incomplete");
    assert_eq!(made["status"], "incomplete");
    lab.advance(23 * HOUR - 1);
    assert_eq!(field(&lab, &path(&made), "status"), "incomplete");
    lab.advance(1);
    let now = lab.get(&format!("{}?expand[]=latest_invoice", path(&made))).body;
    assert_eq!((&now["status"], &now["latest_invoice"]["status"]), (&json!("incomplete_expired"), &json!("void")));
    assert_eq!(lab.get(&format!("/v1/payment_intents?customer={customer}")).rows()[0]["status"], "canceled");
}

#[test]
fn invoices_that_are_sent_become_overdue() {
    let lab = Lab::new(Seed::Business);
    let form = "items[0][price]=price_starter_monthly&collection_method=send_invoice&days_until_due=5";
    let made = lab.subscribe("cus_sandbox_149", form);
    let last = lab.last_event();
    lab.advance(6 * DAY);
    assert_eq!(story(&lab, "cus_sandbox_149", &last), ["5d0h invoice.overdue", "5d0h customer.subscription.updated"]);
    assert_eq!(field(&lab, &path(&made), "status"), "past_due");
}

#[test]
fn paused_collection_changes_what_becomes_of_invoices() {
    for (behavior, status) in [("keep_as_draft", "draft"), ("void", "void"), ("mark_uncollectible", "uncollectible")] {
        let lab = Lab::new(Seed::Business);
        let customer = lab.payer("pm_card_visa");
        let made = lab.subscribe(&customer, "items[0][price]=price_starter_monthly");
        let resumes = NOW + 35 * DAY;
        let form = format!("pause_collection[behavior]={behavior}&pause_collection[resumes_at]={resumes}");
        lab.made(&path(&made), &form);
        lab.advance(31 * DAY);
        let now = lab.get(&format!("{}?expand[]=latest_invoice", path(&made))).body;
        assert_eq!(
            (&now["latest_invoice"]["status"], &now["status"]),
            (&json!(status), &json!("active")),
            "{behavior}"
        );
        lab.advance(5 * DAY);
        assert_eq!(field(&lab, &path(&made), "pause_collection"), json!(null), "{behavior}");
    }
}

/// The clock that was given moves the sandbox as well: nothing has to be asked for.
#[test]
fn time_that_passes_by_itself_does_the_same() {
    let lab = Lab::new(Seed::Business);
    let customer = lab.payer("pm_card_visa");
    let made = lab.subscribe(&customer, "items[0][price]=price_starter_monthly");
    lab.wait(31 * DAY);
    let now = lab.get(&format!("{}?expand[]=latest_invoice", path(&made))).body;
    assert_eq!(
        (&now["latest_invoice"]["status"], &now["latest_invoice"]["created"]),
        (&json!("paid"), &json!(NOW + 30 * DAY))
    );
}

#[test]
fn the_clock_is_told_over_http() {
    let lab = Lab::new(Seed::Empty);
    assert_eq!(lab.get("/_sandbox/clock").body, json!({"now": NOW}));
    assert_eq!(lab.control("/_sandbox/clock", &json!({"advance": "40d"})).body, json!({"now": NOW + 40 * DAY}));
    lab.wait(5);
    assert_eq!(lab.made("/v1/customers", "name=Late")["created"], NOW + 40 * DAY + 5);
    for bad in [json!({"advance": "-1d"}), json!({"advance": "soon"}), json!({"advance": 5}), json!({})] {
        assert_eq!(lab.control("/_sandbox/clock", &bad).status, 422, "{bad}");
    }
    assert_eq!(lab.control("/_sandbox/dunning", &json!({"then": "unpaid"})).body, json!({"then": "unpaid"}));
    assert_eq!(lab.get("/_sandbox/dunning").body, json!({"then": "unpaid"}));
}

/// A year of the little business: everybody is billed twelve times, and nothing is left undone.
#[test]
fn a_year_of_the_business() {
    let lab = Lab::new(Seed::Business);
    lab.advance(366 * DAY);
    let user = lab.get("/v1/invoices?limit=100&customer=cus_sandbox_user");
    assert_eq!(user.rows().len(), 6 + 12);
    assert!(user.rows().iter().all(|row| row["status"] == "paid" && row["total"] == 4_900));
    let drafts = lab.get("/v1/invoices?status=draft&limit=100").rows().len();
    assert_eq!(drafts, 0);
    let left = lab.get("/v1/subscriptions/sub_sandbox_031").body;
    assert_eq!(left["status"], "canceled");
    assert_eq!(lab.get("/v1/subscriptions/sub_sandbox_017").body["status"], "canceled", "its card never worked");
    assert_eq!(lab.get("/v1/subscriptions/sub_sandbox_001").body["status"], "active", "trials become paying");
}
