//! Every change is an event: its type, its object as it was then, and what was different before.

use crate::lab::{Lab, NOW};
use sandbox::Seed;
use serde_json::json;

const DAY: i64 = 24 * 60 * 60;

#[test]
fn a_seeded_sandbox_has_no_history() {
    assert_eq!(Lab::new(Seed::Business).events_since("").len(), 0);
}

#[test]
fn changes_say_what_was_different() {
    let lab = Lab::new(Seed::Empty);
    let id = lab.made("/v1/customers", "name=Eve&metadata[tier]=starter")["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/customers/{id}");
    let changed = lab.post_once("key-1", &path, "name=Eva&metadata[tier]=pro&metadata[seats]=3").unwrap();
    lab.made(&path, "name=Eva");
    lab.delete(&path);
    let events = lab.events_since("");
    let types: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(
        types,
        ["customer.created", "customer.updated", "customer.deleted"],
        "a change that changes nothing is none"
    );
    let update = &events[1];
    assert_eq!(update["data"]["object"], changed.body);
    assert_eq!(
        update["data"]["previous_attributes"],
        json!({"name": "Eve", "metadata": {"tier": "starter", "seats": null}})
    );
    assert_eq!(update["request"], json!({"id": changed.header("request-id"), "idempotency_key": "key-1"}));
    assert_eq!((&update["api_version"], &update["livemode"]), (&json!("2026-09-30.endive"), &json!(false)));
    assert_eq!((&update["created"], &update["pending_webhooks"]), (&json!(NOW), &json!(0)));
    assert_eq!(events[2]["data"].get("previous_attributes"), None);
    let again = lab.get(&format!("/v1/events/{}", update["id"].as_str().unwrap()));
    assert_eq!(&again.body, update, "I-06: an event does not change when its object does");
    assert_eq!(lab.get("/v1/events/evt_x").error(), "404 invalid_request_error resource_missing id");
}

#[test]
fn a_refused_request_is_no_event_and_no_change() {
    let lab = Lab::new(Seed::Business);
    let customer = lab.payer("pm_card_chargeCustomerFail");
    let strict =
        format!("customer={customer}&items[0][price]=price_starter_monthly&payment_behavior=error_if_incomplete");
    let told = lab.told(|lab| assert_eq!(lab.post("/v1/subscriptions", &strict).status, 402));
    assert_eq!(told, [""; 0]);
    assert_eq!(lab.get(&format!("/v1/subscriptions?status=all&customer={customer}")).rows().len(), 0);
    assert_eq!(lab.get(&format!("/v1/invoices?customer={customer}")).rows().len(), 0);
    let told = lab.told(|lab| {
        let declined = lab.post("/v1/charges", &format!("amount=100&currency=usd&customer={customer}"));
        assert_eq!(declined.error(), "402 card_error card_declined -");
    });
    assert_eq!(told, ["charge.failed"], "what was declined has happened");
}

#[test]
fn a_first_payment_in_order() {
    let lab = Lab::new(Seed::Business);
    let customer = lab.payer("pm_card_visa");
    let last = lab.last_event();
    let told = lab.told(|lab| drop(lab.subscribe(&customer, "items[0][price]=price_starter_monthly")));
    assert_eq!(
        told,
        [
            "customer.updated",
            "customer.subscription.created",
            "invoice.created",
            "payment_intent.created",
            "invoice.updated",
            "invoice.finalized",
            "charge.succeeded",
            "payment_intent.succeeded",
            "invoice_payment.paid",
            "invoice.updated",
            "invoice.paid",
            "invoice.payment_succeeded",
            "customer.subscription.updated"
        ]
    );
    let events = lab.events_since(&last);
    let object = |name: &str| &events.iter().find(|event| event["type"] == name).unwrap()["data"]["object"];
    assert_eq!(object("customer.subscription.created")["status"], "incomplete");
    assert_eq!(
        (&object("invoice.created")["status"], &object("invoice.created")["number"]),
        (&json!("draft"), &json!(null))
    );
    assert_eq!(object("invoice.finalized")["status"], "open");
    assert_eq!(object("invoice.paid")["amount_paid"], 1_900);
    assert_eq!(events.last().unwrap()["data"]["previous_attributes"]["status"], "incomplete");
}

#[test]
fn lists_are_narrowed_and_paged() {
    let lab = Lab::new(Seed::Empty);
    for name in ["a", "b", "c"] {
        lab.made("/v1/customers", &format!("name={name}"));
        lab.made("/v1/products", &format!("name={name}"));
        lab.wait(10);
    }
    let list = |query: &str| lab.get(&format!("/v1/events?{query}"));
    let count = |query: &str| list(query).rows().len();
    assert_eq!((count("type=customer.created"), count("types[]=customer.created&types[]=product.created")), (3, 6));
    assert_eq!((count("type=customer.*"), count("type=invoice.paid"), count("limit=100")), (3, 0, 6));
    assert_eq!((count(&format!("created[gte]={}", NOW + 10)), count(&format!("created[lt]={NOW}"))), (4, 0));
    assert_eq!((count("delivery_success=true"), count("delivery_success=false")), (6, 0));
    let all = list("limit=100");
    let (ids, first) = (all.ids(), list("limit=2"));
    assert_eq!((first.ids(), &first.body["has_more"]), (ids[..2].to_vec(), &json!(true)));
    assert_eq!(list(&format!("limit=2&starting_after={}", ids[1])).ids(), ids[2..4]);
    assert_eq!(list(&format!("limit=2&ending_before={}", ids[4])).ids(), ids[2..4]);
    assert_eq!(list(&format!("ending_before={}", ids[0])).ids(), [""; 0]);
    assert_eq!(list("starting_after=evt_x").error(), "400 invalid_request_error resource_missing starting_after");
    assert_eq!(list("type=customer.created&types[]=a").status, 400);
}

#[test]
fn events_are_kept_for_thirty_days() {
    let lab = Lab::new(Seed::Empty);
    lab.made("/v1/customers", "name=old");
    lab.wait(30 * DAY);
    lab.made("/v1/customers", "name=between");
    assert_eq!(lab.events_since("").len(), 2);
    lab.wait(1);
    let names: Vec<_> = lab.events_since("").iter().map(|event| event["data"]["object"]["name"].clone()).collect();
    assert_eq!(names, ["between"], "also where nobody has done anything since");
}

/// I-05: who applies the last event of each object has what Stripe has. No change goes by without one.
#[test]
fn the_last_event_of_an_object_is_the_object() {
    let lab = Lab::new(Seed::Business);
    let customer = lab.payer("pm_card_visa");
    let made = lab.subscribe(&customer, "items[0][price]=price_starter_monthly&items[0][quantity]=2");
    let path = format!("/v1/subscriptions/{}", made["id"].as_str().unwrap());
    lab.advance(9 * DAY);
    let item = made["items"]["data"][0]["id"].as_str().unwrap();
    lab.made(&path, &format!("items[0][id]={item}&items[0][quantity]=5&proration_behavior=always_invoice"));
    let failing = lab.made("/v1/payment_methods/pm_card_chargeCustomerFail/attach", "customer=cus_sandbox_110");
    lab.made(
        "/v1/subscriptions/sub_sandbox_110",
        &format!("default_payment_method={}", failing["id"].as_str().unwrap()),
    );
    lab.made("/v1/prices/price_professional_monthly", "nickname=Pro");
    lab.made("/v1/refunds", "charge=ch_sandbox_user_6&amount=100");
    lab.delete("/v1/customers/cus_sandbox_045");
    lab.advance(20 * DAY);
    let mut last = std::collections::BTreeMap::new();
    for event in lab.events_since("") {
        let object = event["data"]["object"].clone();
        last.insert(object["id"].as_str().unwrap_or_default().to_owned(), (event["type"].clone(), object));
    }
    assert!(last.len() > 400, "{}", last.len());
    for (id, (name, told)) in last {
        let noun = told["object"].as_str().unwrap().to_owned();
        let told_of =
            ["subscription", "invoice", "customer", "charge", "payment_intent", "payment_method", "price", "refund"];
        let name = name.as_str().unwrap();
        if told_of.contains(&noun.as_str()) && !name.ends_with("deleted") && name != "invoice.upcoming" {
            assert_eq!(lab.get(&format!("/v1/{noun}s/{id}")).body, told, "{id} after {name}");
        }
    }
}

/// The price that a plan is has events of its own, and so has the plan; each tells of its own object.
#[test]
fn a_plan_is_told_as_a_plan() {
    let lab = Lab::new(Seed::Empty);
    let plan = lab.made("/v1/plans", "amount=700&currency=usd&interval=month&product[name]=Wig");
    lab.made(&format!("/v1/plans/{}", plan["id"].as_str().unwrap()), "nickname=Curls");
    for (name, object, before) in [
        ("plan.updated", "plan", json!({"nickname": null})),
        ("price.updated", "price", json!({"nickname": null})),
        ("plan.created", "plan", json!(null)),
    ] {
        let told = &lab.get(&format!("/v1/events?type={name}")).rows()[0]["data"].clone();
        assert_eq!((&told["object"]["object"], &told["previous_attributes"]), (&json!(object), &before), "{name}");
        assert_eq!(told["object"]["id"], plan["id"], "{name}");
    }
}

#[test]
fn another_coupon_changes_a_customers_discount() {
    let lab = Lab::new(Seed::Empty);
    let coupon = |percent: u8| lab.made("/v1/coupons", &format!("percent_off={percent}"))["id"].clone();
    let (first, second) = (coupon(20), coupon(30));
    let form = |coupon: &serde_json::Value| format!("coupon={}", coupon.as_str().unwrap());
    let customer = lab.made("/v1/customers", &form(&first))["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/customers/{customer}");
    let told = lab.told(|lab| {
        lab.made(&path, &form(&second));
        lab.made(&path, "coupon=");
    });
    let about = |name: &&String| name.starts_with("customer.discount.");
    assert_eq!(
        told.iter().filter(about).collect::<Vec<_>>(),
        ["customer.discount.updated", "customer.discount.deleted"]
    );
    let change = lab.get("/v1/events?type=customer.discount.updated").rows()[0]["data"].clone();
    assert_eq!(change["object"]["source"]["coupon"], second);
    assert_eq!(change["previous_attributes"]["source"]["coupon"], first);
}
