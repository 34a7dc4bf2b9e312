//! Lists that lie, break, or are not there (F-31, F-32, S-30).

use billhook::error::Error;
use billhook::store::mirror::Resource;
use sandbox::{Fault, FaultKind};
use serde_json::{Value, json};

use super::shelf::{self, Shelf};
use super::{
    assert_counts_agree, assert_mirror_is_stripe, doctors_words, ids, in_front_of, list_state, mirrored, price,
    subscribed, subscription,
};
use crate::harness::{Plan, World, impatient};

fn customer(id: &str) -> Value {
    json!({"id": id, "object": "customer", "created": 1_790_000_000, "email": format!("{id}@example.com"), "metadata": {}})
}

fn customers(count: usize) -> Vec<Value> {
    (0..count).map(|number| customer(&format!("cus_{number:03}"))).collect()
}

fn upstream(error: &Error) -> &'static str {
    match error {
        Error::Upstream { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn f31_a_list_that_promises_more_and_sends_nothing_is_not_complete() {
    let shelf = Shelf::whole(&[("customers", customers(150))]);
    shelf.by_hand(|asked| {
        let second = asked.path == "/v1/customers" && asked.get("starting_after").is_some();
        second.then(|| (200, shelf::list(&[], true)))
    });
    let world = in_front_of(&shelf).await;
    assert_eq!(upstream(&world.sync_result().await.expect_err("a lie")), "stripe.inconsistent");
    let state = list_state(&world.app, Resource::Customers).await.expect("begun");
    assert_eq!((state.as_of, state.objects), (None, 100));
    shelf.by_hand(|_| None);
    world.sync().await;
    assert_eq!(ids(&world.app, Resource::Customers).await.len(), 150);
}

#[tokio::test]
async fn f31_a_full_page_that_says_it_is_the_last_is_not_believed() {
    let world = World::planned(Plan::default()).await;
    let faults = world.stripe.as_ref().expect("a sandbox").faults();
    for resource in ["customers", "subscriptions", "invoices", "charges"] {
        faults.push(Fault::new(format!("/v1/{resource}"), 1, FaultKind::HasMoreLie));
    }
    world.sync().await;
    assert!(faults.pending().is_empty(), "every lie was told");
    assert_mirror_is_stripe(&world).await;
}

#[tokio::test]
async fn f31_what_a_list_leaves_out_is_not_called_deleted() {
    for (list, of) in [("customers", 3), ("prices", 3), ("plans", 3)] {
        let object = |id: &str| if list == "customers" { customer(id) } else { price(id, 100, "month", 1, "usd") };
        let objects: Vec<Value> = (0..of).map(|n| object(&format!("{list}_{n}"))).collect();
        let shelf = match list {
            // A server of before 2020 has plans and no prices.
            "plans" => Shelf::of(
                &["coupons", "products", "customers", "subscriptions", "invoices", "charges", "refunds"]
                    .map(|name| (name, Vec::new())),
            ),
            _ => Shelf::whole(&[]),
        };
        shelf.put(list, objects.clone());
        let world = in_front_of(&shelf).await;
        world.sync().await;
        let left_out = objects[1].clone();
        let hidden = format!("/v1/{list}");
        shelf.by_hand(move |asked| {
            (asked.path == hidden).then(|| (200, shelf::list(&[&objects[0], &objects[2]], false)))
        });
        let outcome = world.sync().await;
        let resource = if list == "customers" { Resource::Customers } else { Resource::Prices };
        assert_eq!(outcome.deleted, 0, "{list}");
        assert!(
            outcome.faults.contains(&(resource.name(), "the list left out objects that exist".to_owned())),
            "{outcome:?}"
        );
        assert!(ids(&world.app, resource).await.contains(left_out["id"].as_str().expect("an id")), "{list}");
        assert!(
            doctors_words(&world.app).await.iter().any(|words| words.contains("left out")),
            "{list}: doctor names it"
        );
        assert_counts_agree(&world.app).await;
    }
}

/// Stripe lists the customers of a test clock only for those who ask for the clock: they are there, and nothing is wrong.
#[tokio::test]
async fn what_has_a_test_clock_is_in_no_list_and_no_fault() {
    let shelf = Shelf::whole(&[]);
    let mut timed = customer("cus_timed");
    timed["test_clock"] = json!("clock_1");
    shelf.put("customers", vec![customer("cus_1"), timed.clone()]);
    let world = in_front_of(&shelf).await;
    world.sync().await;
    shelf.by_hand(|asked| (asked.path == "/v1/customers").then(|| (200, shelf::list(&[&customer("cus_1")], false))));
    let outcome = world.sync().await;
    assert_eq!((outcome.deleted, outcome.faults.len()), (0, 0), "{outcome:?}");
    assert!(ids(&world.app, Resource::Customers).await.contains("cus_timed"));
}

#[tokio::test]
async fn f31_rows_that_come_twice_count_once() {
    let world = World::planned(Plan::default()).await;
    let faults = world.stripe.as_ref().expect("a sandbox").faults();
    faults.push(Fault { times: None, ..Fault::new("/v1/", 1, FaultKind::DuplicateRows) });
    world.sync().await;
    faults.clear();
    assert_mirror_is_stripe(&world).await;
}

#[tokio::test]
async fn f31_where_the_cursors_object_is_gone_the_list_is_read_from_its_beginning() {
    let world = World::planned(Plan { limits: impatient, ..Plan::default() }).await;
    let stripe = world.stripe.as_ref().expect("a sandbox");
    stripe.faults().push(Fault { times: None, ..Fault::new("/v1/customers", 1, FaultKind::Reset).after(1) });
    world.sync_result().await.expect_err("broken off");
    stripe.faults().clear();
    let state = list_state(&world.app, Resource::Customers).await.expect("begun");
    world.at_stripe("DELETE", &format!("/v1/customers/{}", state.cursor.expect("a cursor")), "").await;
    let outcome = world.sync().await;
    assert_eq!(outcome.faults, Vec::new());
    assert_mirror_is_stripe(&world).await;
}

#[tokio::test]
async fn f31_a_list_that_goes_in_circles_ends_in_an_error() {
    let rows = customers(4);
    let shelf = Shelf::whole(&[]);
    shelf.by_hand(move |asked| {
        let next = asked.get("starting_after").is_some_and(|after| after == "cus_001");
        let page = if next { &rows[2..] } else { &rows[..2] };
        (asked.path == "/v1/customers").then(|| (200, shelf::list(&page.iter().collect::<Vec<_>>(), true)))
    });
    let world = in_front_of(&shelf).await;
    assert_eq!(upstream(&world.sync_result().await.expect_err("a circle")), "stripe.inconsistent");
    assert_eq!(list_state(&world.app, Resource::Customers).await.expect("begun").as_of, None);
}

#[tokio::test]
async fn f31_f32_one_broken_page_is_asked_for_again_and_a_list_of_them_is_never_complete() {
    let status = |status| FaultKind::Status { status, retry_after: Some("0".to_owned()), should_retry: None };
    let broken = [
        FaultKind::TruncatedBody,
        FaultKind::CutJson,
        FaultKind::Html,
        FaultKind::Reset,
        FaultKind::DropAfterCommit,
        FaultKind::HugeBody { bytes: 9 * 1024 * 1024 },
        status(429),
        status(502),
    ];
    let invoices = |kind: &FaultKind| Fault::new("/v1/invoices", 1, kind.clone());
    let world = World::planned(Plan { limits: impatient, ..Plan::default() }).await;
    let faults = world.stripe.as_ref().expect("a sandbox").faults();
    for kind in &broken {
        faults.push(Fault { times: None, ..invoices(kind) });
        world.sync_result().await.expect_err("never to the end");
        assert_eq!(list_state(&world.app, Resource::Invoices).await.expect("begun").as_of, None, "{kind:?}");
        faults.clear();
    }
    // With a second try, once is no trouble at all. (A page that is too long is asked for again in smaller ones.)
    let world = World::planned(Plan::default()).await;
    let faults = world.stripe.as_ref().expect("a sandbox").faults();
    for kind in &broken {
        faults.push(invoices(kind).after(1));
        assert_eq!(world.sync().await.faults, Vec::new(), "{kind:?}");
        assert_eq!(faults.pending(), Vec::new(), "{kind:?}");
    }
    assert_mirror_is_stripe(&world).await;
}

#[tokio::test]
async fn an_object_without_an_id_makes_its_list_incomplete_and_costs_no_other() {
    let shelf = Shelf::whole(&[
        ("customers", vec![customer("cus_1"), json!({"object": "customer"})]),
        ("prices", vec![price("price_1", 1, "month", 1, "usd")]),
    ]);
    let world = in_front_of(&shelf).await;
    assert_eq!(upstream(&world.sync_result().await.expect_err("no id")), "stripe.inconsistent");
    assert_eq!(ids(&world.app, Resource::Customers).await.len(), 0);
    assert_eq!(ids(&world.app, Resource::Prices).await.len(), 1);
}

#[tokio::test]
async fn lists_that_the_server_does_not_have_are_named_and_stop_nothing_else() {
    let professional = price("price_professional_monthly", 4900, "month", 1, "usd");
    let shelf = Shelf::of(&[
        ("products", Vec::new()),
        ("customers", vec![customer("cus_1")]),
        ("subscriptions", vec![subscribed("sub_1", "active", &[(professional, 2)])]),
        ("invoices", Vec::new()),
        ("charges", Vec::new()),
        ("payment_methods", Vec::new()),
    ]);
    let world = in_front_of(&shelf).await;
    let outcome = world.sync().await;
    let named: Vec<&str> = outcome.faults.iter().map(|(list, _)| *list).collect();
    assert_eq!(named, ["coupons", "prices", "refunds"]);
    let words = doctors_words(&world.app).await;
    assert_eq!(words.len(), 3, "{words:?}");
    for list in named {
        assert!(words.contains(&format!("{list}: the server does not have this list")), "{words:?}");
    }
    // What the items embed is enough.
    let row = subscription(&world.app, "sub_1").await;
    assert_eq!((row.tier.as_str(), row.amount_minor, row.monthly_minor), ("professional", Some(9800), 9800));
    let stats = world.get("/api/v1/admin/billing/stats", &world.admin().await).await.json();
    assert_eq!(stats["monthly_revenue"].to_string(), "98.0");
}

#[tokio::test]
async fn a_server_without_the_list_of_subscriptions_has_no_revenue_that_we_know() {
    let shelf = Shelf::of(&[("customers", vec![customer("cus_1")]), ("invoices", Vec::new())]);
    let world = in_front_of(&shelf).await;
    let outcome = world.sync().await;
    assert!(outcome.faults.iter().any(|(list, _)| *list == "subscriptions"), "{outcome:?}");
    let admin = world.admin().await;
    for path in ["stats", "subscriptions", "recent-charges"] {
        let answer = world.get(&format!("/api/v1/admin/billing/{path}"), &admin).await;
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (500, Some("stripe.unavailable")),
            "{path}: no zero, no empty list"
        );
    }
    let customers = world.get("/api/v1/admin/billing/customers", &admin).await;
    assert_eq!((customers.status, &customers.json()["total"]), (200, &json!(1)), "what it has is shown");
}

#[tokio::test]
async fn plans_are_read_where_there_are_no_prices() {
    let plan = json!({"id": "price_starter_monthly", "object": "plan", "amount": 1900, "currency": "usd", "interval": "month", "interval_count": 1, "product": "prod_1"});
    // The subscription only names its plan: what it costs stands in the list of plans.
    let mut named = subscribed("sub_1", "active", &[(json!("price_starter_monthly"), 3)]);
    named["items"]["data"][0].as_object_mut().expect("an item").remove("price");
    named["items"]["data"][0]["plan"] = json!("price_starter_monthly");
    named["currency"] = json!("usd");
    let names = ["coupons", "products", "customers", "invoices", "charges", "refunds"];
    let shelf = Shelf::of(&names.map(|name| (name, Vec::new())));
    shelf.put("plans", vec![plan]);
    shelf.put("subscriptions", vec![named]);
    let world = in_front_of(&shelf).await;
    assert_eq!(world.sync().await.faults, Vec::new());
    let row = subscription(&world.app, "sub_1").await;
    assert_eq!((row.tier.as_str(), row.amount_minor, row.fault), ("starter", Some(5700), None));
}

#[tokio::test]
async fn items_beyond_the_first_page_are_fetched_and_counted() {
    let items: Vec<(Value, i64)> =
        (0..130).map(|number| (price(&format!("price_{number}"), 100, "month", 1, "usd"), 1)).collect();
    let mut whole = subscribed("sub_1", "active", &items);
    let all = whole["items"]["data"].as_array().expect("items").clone();
    whole["items"]["data"] = json!(all[..20]);
    whole["items"]["has_more"] = json!(true);
    let shelf = Shelf::whole(&[
        ("customers", vec![customer("cus_1")]),
        ("subscriptions", vec![whole]),
        ("subscription_items", all),
    ]);
    let world = in_front_of(&shelf).await;
    world.sync().await;
    assert_eq!(subscription(&world.app, "sub_1").await.amount_minor, Some(13_000));
    // Read alone, for its user, it is the same.
    let world = in_front_of(&shelf).await;
    let token = world.user("u@example.com", Some("cus_1"), false).await.1;
    let answer = world.get("/api/v1/billing/subscription", &token).await;
    assert!(answer.body.contains("\"amount\":130.00"), "{}", answer.body);
}

#[tokio::test]
async fn items_that_cannot_be_fetched_leave_the_list_incomplete_and_stop_no_other() {
    let mut part = subscribed("sub_1", "active", &[(price("price_1", 100, "month", 1, "usd"), 1)]);
    part["items"]["has_more"] = json!(true);
    let shelf = Shelf::whole(&[("customers", vec![customer("cus_1")]), ("subscriptions", vec![part])]);
    shelf.by_hand(|asked| (asked.path == "/v1/subscription_items").then(|| (500, "{}".to_owned())));
    let world = in_front_of(&shelf).await;
    let outcome = world.sync().await;
    assert!(outcome.incomplete && outcome.faults[0].1.contains("sub_1: Stripe answered 500"), "{outcome:?}");
    let state = list_state(&world.app, Resource::Subscriptions).await.expect("begun");
    assert_eq!((state.as_of, state.fault.is_some()), (None, true), "{state:?}");
    assert!(list_state(&world.app, Resource::Charges).await.expect("begun").as_of.is_some());
    assert!(ids(&world.app, Resource::Subscriptions).await.is_empty(), "half a subscription is not mirrored");
}

#[tokio::test]
async fn a_server_that_expands_nothing_is_read_plainly() {
    let shelf = Shelf::whole(&[
        ("customers", vec![customer("cus_1")]),
        ("prices", vec![price("price_1", 1, "month", 1, "usd")]),
    ]);
    let refused = || {
        (
            400,
            json!({"error": {"type": "invalid_request_error", "message": "This property cannot be expanded"}})
                .to_string(),
        )
    };
    shelf.by_hand(move |asked| {
        asked.query.iter().any(|(name, _)| name.starts_with("expand") || name == "status").then(refused)
    });
    let world = in_front_of(&shelf).await;
    assert_eq!(world.sync().await.faults, Vec::new());
    assert_eq!(ids(&world.app, Resource::Prices).await.len(), 1);
}

#[tokio::test]
async fn a_list_that_is_refused_however_it_is_asked_is_not_an_empty_list() {
    for (refused, page) in [
        ("/v1/invoices", "invoices"),
        ("/v1/subscriptions", "subscription"),
        ("/v1/payment_methods", "payment-methods"),
    ] {
        let shelf = Shelf::whole(&[("customers", vec![customer("cus_1")])]);
        let body = json!({"error": {"type": "invalid_request_error", "message": "no"}}).to_string();
        shelf.by_hand(move |asked| (asked.path == refused).then(|| (400, body.clone())));
        let world = in_front_of(&shelf).await;
        let token = world.user("u@example.com", Some("cus_1"), false).await.1;
        let answer = world.get(&format!("/api/v1/billing/{page}"), &token).await;
        assert_eq!(answer.status, 500, "{page}: {}", answer.body);
        assert!(answer.json()["code"].as_str().is_some_and(|code| code.starts_with("stripe.")), "{}", answer.body);
    }
}

#[tokio::test]
async fn a_list_that_is_missing_costs_a_user_no_other() {
    let professional = price("price_professional_monthly", 4900, "month", 1, "usd");
    // No invoices on this server.
    let shelf = Shelf::of(&[
        ("customers", vec![customer("cus_1")]),
        ("subscriptions", vec![subscribed("sub_1", "active", &[(professional, 1)])]),
        (
            "payment_methods",
            vec![
                json!({"id": "pm_1", "object": "payment_method", "type": "sepa_debit", "customer": "cus_1", "created": 5}),
            ],
        ),
    ]);
    let world = in_front_of(&shelf).await;
    let token = world.user("u@example.com", Some("cus_1"), false).await.1;
    let subscription = world.get("/api/v1/billing/subscription", &token).await;
    assert_eq!(
        (subscription.status, &subscription.json()["tier"]),
        (200, &json!("professional")),
        "{}",
        subscription.body
    );
    assert_eq!(world.get("/api/v1/billing/payment-methods", &token).await.json()[0]["id"], "pm_1");
}

/// A list asked for one customer's objects that sends another's as well.
#[tokio::test]
async fn s30_another_customers_object_is_refused_and_not_kept() {
    for (list, page) in
        [("invoices", "invoices"), ("subscriptions", "subscription"), ("payment_methods", "payment-methods")]
    {
        let theirs = json!({"id": "x_2", "object": "thing", "customer": "cus_2", "created": 5, "status": "active", "type": "card"});
        let shelf = Shelf::whole(&[("customers", vec![customer("cus_1"), customer("cus_2")])]);
        shelf
            .by_hand(move |asked| (asked.path == format!("/v1/{list}")).then(|| (200, shelf::list(&[&theirs], false))));
        let world = in_front_of(&shelf).await;
        let token = world.user("u@example.com", Some("cus_1"), false).await.1;
        let answer = world.get(&format!("/api/v1/billing/{page}"), &token).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (500, Some("stripe.inconsistent")), "{list}");
        assert!(answer.header("retry-after").is_some());
        assert!(mirrored(&world.app, "SELECT id FROM raw_objects").await.is_empty(), "{list}: nothing was stored");
    }
}

#[tokio::test]
async fn s30_an_object_that_is_not_the_one_asked_for_is_refused() {
    let shelf = Shelf::whole(&[]);
    shelf.by_hand(|asked| (asked.path == "/v1/customers/cus_1").then(|| (200, customer("cus_2").to_string())));
    let world = in_front_of(&shelf).await;
    let token = world.user("u@example.com", Some("cus_1"), false).await.1;
    let answer = world.get("/api/v1/billing/invoices", &token).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (500, Some("stripe.inconsistent")));
    assert!(mirrored(&world.app, "SELECT id FROM raw_objects").await.is_empty());
}

#[tokio::test]
async fn a_server_that_knows_no_pages_sends_its_list_once() {
    let rows = customers(250);
    let shelf = Shelf::whole(&[]);
    // Everything on one page, whatever is asked for.
    shelf.by_hand(move |asked| {
        (asked.path == "/v1/customers").then(|| (200, shelf::list(&rows.iter().collect::<Vec<_>>(), false)))
    });
    let world = in_front_of(&shelf).await;
    assert_eq!(world.sync().await.faults, Vec::new());
    assert_eq!(ids(&world.app, Resource::Customers).await.len(), 250);
}

#[tokio::test]
async fn f31_a_server_that_never_knows_its_own_cursor_is_not_asked_for_ever() {
    let rows = customers(150);
    let shelf = Shelf::whole(&[]);
    shelf.by_hand(move |asked| match (asked.path.as_str(), asked.get("starting_after")) {
        ("/v1/customers", None) => Some((200, shelf::list(&rows[..100].iter().collect::<Vec<_>>(), true))),
        ("/v1/customers", Some(_)) => Some(shelf::refusal("resource_missing", "No such customer", "starting_after")),
        _ => None,
    });
    let world = in_front_of(&shelf).await;
    world.sync_result().await.expect_err("never to the end");
    assert_eq!(list_state(&world.app, Resource::Customers).await.expect("begun").as_of, None);
}
