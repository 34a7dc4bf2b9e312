//! F-39: one meaning out of the shapes of every age, and nothing that is missing or odd costs a whole object.

use std::collections::BTreeMap;

use billhook::gateways::stripe::read::{self, Coupon, Price, ReadError, Resolve, Subscription};
use billing::subscription::{DiscountAmount, Duration, Interval, Pricing, Status};
use billing::{Currency, Decimal, Money};
use jiff::Timestamp;
use serde_json::{Value, json};

const START: i64 = 1_790_000_000;
const END: i64 = 1_792_592_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn decimal(text: &str) -> Decimal {
    Decimal::parse(text).unwrap()
}

fn per_unit(text: &str) -> Pricing {
    Pricing::PerUnit { unit_minor: decimal(text) }
}

/// `base` with the fields of `change` put over it; `null` takes a field away.
fn with(base: &Value, change: Value) -> Value {
    let mut object = base.clone();
    let fields = object.as_object_mut().unwrap();
    for (name, value) in change.as_object().unwrap() {
        if value.is_null() {
            fields.remove(name);
        } else {
            fields.insert(name.clone(), value.clone());
        }
    }
    object
}

fn price() -> Value {
    json!({"id": "price_pro", "object": "price", "currency": "usd", "product": "prod_1", "unit_amount": 4900,
        "unit_amount_decimal": "4900", "billing_scheme": "per_unit", "type": "recurring",
        "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"}})
}

fn plan() -> Value {
    json!({"id": "price_pro", "object": "plan", "currency": "usd", "product": "prod_1", "amount": 4900,
        "interval": "month", "interval_count": 1, "usage_type": "licensed"})
}

/// As since 2025-03-31.basil: the period and the price are the item's.
fn subscription() -> Value {
    json!({"id": "sub_1", "object": "subscription", "customer": "cus_1", "status": "active", "created": START,
        "currency": "usd", "cancel_at_period_end": false, "discounts": [], "metadata": {"tier": "professional"},
        "items": {"object": "list", "has_more": false, "data": [{"id": "si_1", "object": "subscription_item",
            "quantity": 3, "current_period_start": START, "current_period_end": END, "price": price()}]}})
}

fn read_subscription(value: &Value) -> Subscription {
    read::subscription(&value.to_string(), &()).unwrap()
}

fn with_item(change: Value) -> Subscription {
    let mut subscription = subscription();
    let item = with(&subscription["items"]["data"][0], change);
    subscription["items"]["data"][0] = item;
    read_subscription(&subscription)
}

fn with_price(change: Value) -> Subscription {
    with_item(json!({"price": with(&price(), change)}))
}

#[test]
fn f39_one_subscription_in_four_ages() {
    let old = with(&subscription(), json!({"current_period_start": START, "current_period_end": END}));
    let item = |price: Value| json!({"data": [with(&json!({"id": "si_1", "quantity": 3}), price)]});
    let only_plan = json!({"items": null, "plan": plan(), "quantity": 3});
    for (age, value) in [
        ("basil", subscription()),
        ("acacia", with(&old, json!({"items": item(json!({"price": price(), "plan": plan()}))}))),
        ("a plan in the item", with(&old, json!({"items": item(json!({"plan": plan()}))}))),
        ("a plan and no items", with(&old, only_plan)),
    ] {
        let read = read_subscription(&value);
        let item = &read.core.items[0];
        assert_eq!((&*item.price, item.product.as_deref()), ("price_pro", Some("prod_1")), "{age}");
        assert_eq!((&item.pricing, item.quantity), (&per_unit("4900"), decimal("3")), "{age}");
        assert_eq!(
            (item.recurrence.interval, item.recurrence.count, item.metered),
            (Interval::Month, 1, false),
            "{age}"
        );
        let period = billing::subscription::period(&read.core).unwrap();
        assert_eq!((period.start, period.end), (at(START), at(END)), "{age}");
        assert!(!read.items_incomplete, "{age}");
    }
}

#[test]
fn references_are_ids_or_whole_objects_and_a_customer_may_be_an_account() {
    for customer in [
        json!({"customer": "cus_1"}),
        json!({"customer": {"id": "cus_1"}}),
        json!({"customer": {"id": "cus_1", "deleted": true}}),
        json!({"customer": null, "customer_account": "cus_1"}),
    ] {
        assert_eq!(read_subscription(&with(&subscription(), customer)).customer.as_deref(), Some("cus_1"));
    }
    for latest in [json!("in_1"), json!({"id": "in_1", "lines": {}})] {
        let read = read_subscription(&with(&subscription(), json!({"latest_invoice": latest})));
        assert_eq!(read.latest_invoice.as_deref(), Some("in_1"));
    }
}

type Reader = fn(&str) -> Result<(), ReadError>;

#[test]
fn only_a_missing_id_is_an_error() {
    let readers: [Reader; 12] = [
        |raw| read::id(raw).map(drop),
        |raw| read::customer(raw, &()).map(drop),
        |raw| read::subscription(raw, &()).map(drop),
        |raw| read::subscription_item(raw, &()).map(drop),
        |raw| read::product(raw).map(drop),
        |raw| read::price(raw).map(drop),
        |raw| read::coupon(raw).map(drop),
        |raw| read::invoice(raw).map(drop),
        |raw| read::payment_method(raw).map(drop),
        |raw| read::charge(raw).map(drop),
        |raw| read::refund(raw).map(drop),
        |raw| read::event(raw).map(drop),
    ];
    let odd = json!({"id": "x_1", "customer": 7, "status": 1, "currency": "dollars", "items": "none", "created": "now",
        "price": [], "plan": 1, "metadata": [], "discounts": 3, "discount": "di", "data": 1, "card": 4, "tiers": {},
        "amount": 1.5, "recurring": "often", "parent": [], "payments": 0, "refunds": [1, {}], "current_period_end": 1e300});
    for read in readers {
        assert_eq!(read(r#"{"id":"x_1"}"#), Ok(()));
        assert_eq!(read(r#"{"id":"x_1","object":"customer","deleted":true}"#), Ok(()));
        assert_eq!(read(&odd.to_string()), Ok(()));
        for id in ["", r#""id":null"#, r#""id":7"#, r#""id":"""#] {
            assert_eq!(read(&format!("{{{id}}}")), Err(ReadError::NoId), "{id}");
        }
        assert_eq!(read("[]"), Err(ReadError::NotAnObject));
        assert_eq!(read(r#"["x_1"]"#), Err(ReadError::NotAnObject));
        assert_eq!(read(r#"{"id":"x_1""#), Err(ReadError::NotJson));
    }
}

#[test]
fn f39_unknown_words_are_kept() {
    let read = read_subscription(&with(&subscription(), json!({"status": "hibernating"})));
    assert_eq!(read.core.status, Status::Other("hibernating".into()));
    assert_eq!(read::invoice(r#"{"id":"in_1","status":"forgiven"}"#).unwrap().status.as_deref(), Some("forgiven"));
    let method = read::payment_method(r#"{"id":"pm_1","type":"barter","barter":{}}"#).unwrap();
    assert_eq!((method.kind.as_deref(), method.card), (Some("barter"), None));
}

#[test]
fn prices() {
    for (change, pricing) in [
        (json!({}), per_unit("4900")),
        (json!({"unit_amount": null, "unit_amount_decimal": "0.25"}), per_unit("0.25")),
        (json!({"unit_amount": 1, "unit_amount_decimal": "0.5"}), per_unit("0.5")),
        (json!({"unit_amount_decimal": null}), per_unit("4900")),
        (json!({"unit_amount_decimal": 12}), per_unit("12")),
        (json!({"unit_amount": null, "unit_amount_decimal": null}), Pricing::Unknown),
        (json!({"unit_amount_decimal": "many"}), Pricing::Unknown),
        (json!({"billing_scheme": "tiered"}), Pricing::Unknown),
        (json!({"recurring": {"interval": "moon"}}), Pricing::Unknown),
        (json!({"recurring": {"interval": "month", "interval_count": 0}}), Pricing::Unknown),
        (json!({"transform_quantity": {"divide_by": 0, "round": "up"}}), Pricing::Unknown),
    ] {
        assert_eq!(with_price(change.clone()).core.items[0].pricing, pricing, "{change}");
    }
    assert!(with_price(json!({"recurring": {"interval": "month", "usage_type": "metered"}})).core.items[0].metered);
    let item = &with_price(json!({"transform_quantity": {"divide_by": 10, "round": "up"}})).core.items[0];
    let transform = item.transform.as_ref().unwrap();
    assert_eq!((transform.divide_by, transform.round_up), (10, true));
}

#[test]
fn tiers_are_read_where_they_were_expanded() {
    let tiers =
        json!([{"up_to": 5, "unit_amount": 100, "flat_amount": null}, {"up_to": null, "flat_amount_decimal": "0.5"}]);
    let tiered = json!({"billing_scheme": "tiered", "tiers_mode": "graduated", "tiers": tiers, "unit_amount": null});
    let Pricing::Tiered { steps, .. } = with_price(tiered.clone()).core.items[0].pricing.clone() else {
        panic!("not tiered")
    };
    let steps: Vec<_> = steps.iter().map(|step| (step.up_to, step.unit_minor, step.flat_minor)).collect();
    assert_eq!(steps, [(Some(5), decimal("100"), decimal("0")), (None, decimal("0"), decimal("0.5"))]);
    for odd in [json!([]), json!([{"up_to": 5}]), json!([{"up_to": "many", "unit_amount": 1}])] {
        assert_eq!(with_price(with(&tiered, json!({"tiers": odd}))).core.items[0].pricing, Pricing::Unknown);
    }
}

#[test]
fn the_price_wins_over_the_plan_and_each_fills_what_the_other_lacks() {
    let other = with(&plan(), json!({"amount": 1, "transform_usage": {"divide_by": 7, "round": "up"}}));
    let item = &with_item(json!({"plan": other})).core.items[0];
    assert_eq!((&item.pricing, &item.transform), (&per_unit("4900"), &None));
    let poor = json!({"id": "price_pro", "currency": "usd", "unit_amount": 4900});
    let item = &with_item(json!({"price": poor, "plan": with(&plan(), json!({"interval": "year"}))})).core.items[0];
    assert_eq!((item.recurrence.interval, &item.pricing), (Interval::Year, &per_unit("4900")));
}

#[test]
fn a_subscription_in_another_currency_than_its_price() {
    let euro = |options: Value| {
        let mut value = with(&subscription(), json!({"currency": "eur"}));
        value["items"]["data"][0]["price"] = with(&price(), json!({"currency_options": options}));
        read_subscription(&value).core.items.remove(0)
    };
    let item = euro(json!({"eur": {"unit_amount": 4500}}));
    assert_eq!((item.currency.code(), item.pricing), ("eur", per_unit("4500")));
    assert_eq!(euro(Value::Null).pricing, Pricing::Unknown, "4900 cents are not 4900 euro cents");
}

#[test]
fn quantities_are_exact_and_an_odd_one_is_not_a_one() {
    let quantity = |change: Value| {
        let item = with_item(change).core.items.remove(0);
        (item.pricing != Pricing::Unknown).then_some(item.quantity)
    };
    assert_eq!(quantity(json!({"quantity": null})), Some(decimal("1")));
    assert_eq!(quantity(json!({"quantity": 0})), Some(decimal("0")));
    assert_eq!(quantity(json!({"quantity": 1, "quantity_decimal": "2.5"})), Some(decimal("2.5")));
    assert_eq!(quantity(json!({"quantity": "lots"})), None);
}

#[test]
fn items_that_were_not_all_sent_are_said_to_be_incomplete() {
    let mut long = subscription();
    long["items"]["has_more"] = json!(true);
    assert!(read_subscription(&long).items_incomplete);
    assert!(read_subscription(&with(&subscription(), json!({"items": null}))).items_incomplete);

    let item = |id: &str| with(&subscription()["items"]["data"][0], json!({"id": id})).to_string();
    let (one, two) = (item("si_1"), item("si_2"));
    let read = read::subscription_with_items(&long.to_string(), &[&one, &two], &()).unwrap();
    assert_eq!((read.core.items.len(), read.items_incomplete), (2, false));
}

#[test]
fn the_end_of_the_period_is_a_flag_or_a_date() {
    for (change, ends) in [
        (json!({"cancel_at_period_end": true}), true),
        (json!({"cancel_at_period_end": false, "cancel_at": END}), false),
        (json!({"cancel_at_period_end": null, "cancel_at": END}), true),
        (json!({"cancel_at_period_end": null, "cancel_at": END + 1}), false),
        (json!({"cancel_at_period_end": null}), false),
    ] {
        assert_eq!(
            read_subscription(&with(&subscription(), change.clone())).core.cancel_at_period_end,
            ends,
            "{change}"
        );
    }
}

#[test]
fn paused_collection_is_not_the_status_paused() {
    let paused = json!({"pause_collection": {"behavior": "void", "resumes_at": null}});
    let read = read_subscription(&with(&subscription(), paused));
    assert!(read.core.paused_collection && read.core.status == Status::Active);
    let read = read_subscription(&with(&subscription(), json!({"status": "paused"})));
    assert!(!read.core.paused_collection && read.core.status == Status::Paused);
}

fn quarter_off() -> Value {
    json!({"id": "Q", "object": "coupon", "percent_off": 25.5, "duration": "forever"})
}

#[test]
fn f39_a_coupon_in_every_place() {
    for change in [
        json!({"discounts": [{"id": "di_1", "start": START, "source": {"type": "coupon", "coupon": quarter_off()}}]}),
        json!({"discounts": [{"id": "di_1", "start": START, "coupon": quarter_off()}]}),
        json!({"discounts": null, "discount": {"id": "di_1", "start": START, "coupon": quarter_off()}}),
        json!({"discounts": null, "discount": {"start": START, "coupon": quarter_off()}}),
        json!({"discounts": ["di_1"], "discount": {"id": "di_1", "start": START, "coupon": quarter_off()}}),
        json!({"discounts": [{"id": "di_1", "start": START, "coupon": quarter_off()}],
            "discount": {"id": "di_1", "start": START, "coupon": quarter_off()}}),
    ] {
        let read = read_subscription(&with(&subscription(), change.clone()));
        assert_eq!(read.core.discounts.len(), 1, "{change}");
        let discount = &read.core.discounts[0];
        assert_eq!(discount.amount, DiscountAmount::Percent(decimal("25.5")), "{change}");
        assert_eq!((discount.duration, discount.start, discount.end), (Duration::Forever, Some(at(START)), None));
        assert!(read.coupon_ids_unresolved.is_empty() && read.discount_ids_unresolved.is_empty(), "{change}");
    }
    let on_item = with_item(json!({"discounts": [{"id": "di_1", "coupon": quarter_off()}]}));
    assert_eq!((on_item.core.discounts.len(), on_item.core.items[0].discounts.len()), (0, 1));
}

struct Known;

impl Resolve for Known {
    fn coupon(&self, id: &str) -> Option<Coupon> {
        let coupon = json!({"id": id, "amount_off": 500, "currency": "usd", "duration": "repeating",
            "duration_in_months": 1, "applies_to": {"products": ["prod_1"]}});
        (id == "K").then(|| read::coupon(&coupon.to_string()).unwrap())
    }

    fn price(&self, id: &str) -> Option<Price> {
        let tiers = json!({"tiers_mode": "volume", "tiers": [{"up_to": "inf", "unit_amount": 9}]});
        let price = with(&price(), json!({"id": id, "billing_scheme": "tiered"}));
        Some(read::price(&with(&price, tiers).to_string()).unwrap())
    }

    fn product_metadata(&self, id: &str) -> Option<BTreeMap<String, String>> {
        Some([("tier".to_owned(), format!("of {id}"))].into())
    }
}

#[test]
fn what_is_only_named_is_looked_up_and_what_is_not_known_is_named() {
    let discount =
        |coupon: Value| json!({"discounts": [{"id": "di_1", "start": START, "source": {"coupon": coupon}}, "di_2"]});
    let known = with(&subscription(), discount(json!("K"))).to_string();
    let read = read::subscription(&known, &Known).unwrap();
    let found = &read.core.discounts[0];
    assert_eq!(found.amount, DiscountAmount::Off(Money::new(500, Currency::USD)));
    assert_eq!(found.duration, Duration::Repeating);
    assert_eq!(found.end.map(|end| (end - at(START)).get_seconds() / 86_400), Some(30), "a month from 21 September");
    assert_eq!(found.products.as_deref(), Some(&["prod_1".to_owned()][..]));
    assert_eq!((read.coupon_ids_unresolved.len(), &*read.discount_ids_unresolved), (0, &["di_2".to_owned()][..]));

    let read = read::subscription(&known, &()).unwrap();
    assert_eq!((read.core.discounts.len(), &*read.coupon_ids_unresolved), (0, &["K".to_owned()][..]));
    let odd = discount(json!({"id": "O", "percent_off": 5, "duration": "sometimes"}));
    assert_eq!(read_subscription(&with(&subscription(), odd)).coupon_ids_unresolved, ["O"]);

    // An embedded coupon does not say which products it is limited to.
    let short = discount(json!({"id": "K", "amount_off": 500, "currency": "usd", "duration": "once"}));
    let read = read::subscription(&with(&subscription(), short).to_string(), &Known).unwrap();
    assert!(read.core.discounts[0].products.is_some());
}

#[test]
fn tiers_and_metadata_that_were_not_expanded_are_looked_up() {
    let mut value = subscription();
    value["items"]["data"][0]["price"] = with(&price(), json!({"billing_scheme": "tiered"}));
    let read = read::subscription(&value.to_string(), &Known).unwrap();
    assert!(matches!(read.core.items[0].pricing, Pricing::Tiered { .. }));
    assert_eq!(read.product_metadata[0]["tier"], "of prod_1");

    let expanded = json!({"product": {"id": "prod_1", "metadata": {"tier": "starter"}}});
    let read = with_price(expanded);
    assert_eq!(read.core.items[0].product.as_deref(), Some("prod_1"));
    assert_eq!(read.product_metadata[0]["tier"], "starter");
}

#[test]
fn f39_the_subscription_and_payment_of_an_invoice() {
    let parent = |kind: Value, subscription: Value| json!({"parent": {"type": kind, "subscription_details": {"subscription": subscription}}});
    let payment = json!({"payments": {"data": [{"payment": {"payment_intent": "pi_0"}},
        {"is_default": true, "payment": {"type": "payment_intent", "payment_intent": {"id": "pi_1"}, "charge": "ch_1"}}]}});
    let invoice = |change: Value| read::invoice(&with(&json!({"id": "in_1"}), change).to_string()).unwrap();
    for change in [
        parent(json!("subscription_details"), json!("sub_1")),
        parent(json!("subscription_details"), json!({"id": "sub_1"})),
        json!({"subscription": "sub_1"}),
        json!({"subscription": {"id": "sub_1"}}),
    ] {
        assert_eq!(invoice(change).subscription.as_deref(), Some("sub_1"));
    }
    assert_eq!(invoice(parent(json!("quote_details"), json!("sub_1"))).subscription, None);
    for change in [payment, json!({"payment_intent": "pi_1", "charge": "ch_1"})] {
        let read = invoice(change);
        assert_eq!((read.payment_intent.as_deref(), read.charge.as_deref()), (Some("pi_1"), Some("ch_1")));
    }
}

#[test]
fn an_invoice_is_paid_by_its_status_else_by_its_flag() {
    for (change, paid) in [
        (json!({"status": "paid"}), true),
        (json!({"status": "open", "paid": true}), false),
        (json!({"paid": true}), true),
        (json!({}), false),
    ] {
        assert_eq!(
            read::invoice(&with(&json!({"id": "in_1"}), change.clone()).to_string()).unwrap().paid,
            paid,
            "{change}"
        );
    }
    let amounts = json!({"id": "in_1", "amount_due": 4900, "amount_paid": 1.5, "currency": "JPY", "total": "4900"});
    let read = read::invoice(&amounts.to_string()).unwrap();
    assert_eq!((read.amount_due_minor, read.amount_paid_minor, read.total_minor), (Some(4900), None, Some(4900)));
    assert_eq!(read.currency.unwrap().code(), "jpy");
}

#[test]
fn cards_of_both_ages_and_other_ways_to_pay() {
    for value in [
        json!({"id": "x", "object": "payment_method", "type": "card", "customer": "cus_1",
            "card": {"brand": "amex", "last4": "0005", "exp_month": 8, "exp_year": 2030}}),
        json!({"id": "x", "object": "card", "customer": "cus_1", "brand": "American Express", "last4": "0005",
            "exp_month": 8, "exp_year": 2030}),
        json!({"id": "x", "object": "source", "type": "card", "customer": "cus_1",
            "card": {"brand": "American Express", "last4": "0005", "exp_month": 8, "exp_year": 2030}}),
    ] {
        let method = read::payment_method(&value.to_string()).unwrap();
        let card = method.card.unwrap();
        assert_eq!(
            (method.kind.as_deref(), card.brand.as_deref(), card.last4.as_deref()),
            (Some("card"), Some("amex"), Some("0005"))
        );
        assert_eq!((card.exp_month, card.exp_year), (Some(8), Some(2030)));
    }
    let bank = read::payment_method(r#"{"id":"ba_1","object":"bank_account","last4":"6789"}"#).unwrap();
    assert_eq!((bank.kind.as_deref(), bank.card), (Some("bank_account"), None));
}

#[test]
fn charges_and_refunds() {
    let value = json!({"id": "ch_1", "amount": 4900, "amount_refunded": 4900, "currency": "usd", "created": START,
        "status": "succeeded", "invoice": {"id": "in_1"}, "refunds": {"data": [{"id": "re_1", "charge": "ch_1", "amount": 4900}]}});
    let charge = read::charge(&value.to_string()).unwrap();
    assert_eq!((charge.paid, charge.refunded, charge.invoice.as_deref()), (true, true, Some("in_1")));
    assert_eq!((charge.refunds.len(), charge.refunds[0].amount_minor), (1, Some(4900)));
    let charge = read::charge(r#"{"id":"ch_1","amount":0,"amount_refunded":0}"#).unwrap();
    assert!(!charge.paid && !charge.refunded);
}

#[test]
fn a_customer_and_its_own_discount() {
    let value = json!({"id": "cus_1", "email": "a@b.c", "name": "A", "created": START, "metadata": {"user_id": 7},
        "discount": {"id": "di_1", "coupon": quarter_off()}, "default_source": {"id": "card_1"}});
    let customer = read::customer(&value.to_string(), &()).unwrap();
    assert_eq!((customer.email.as_deref(), &*customer.metadata["user_id"]), (Some("a@b.c"), "7"));
    assert_eq!(customer.discount.unwrap().amount, DiscountAmount::Percent(decimal("25.5")));
    assert_eq!(customer.default_payment_method.as_deref(), Some("card_1"));
    let stub = read::customer(r#"{"id":"cus_1","object":"customer","deleted":true}"#, &()).unwrap();
    assert!(stub.deleted && stub.email.is_none());
}

#[test]
fn an_event_carries_its_object_as_it_was() {
    let raw = r#"{"id":"evt_1","object":"event","type":"invoice.paid","api_version":null,"created":1790000000,
        "data":{"object":{"id":"in_1", "object":"invoice","customer":{"id":"cus_1"}, "n":1.50}}}"#;
    let event = read::event(raw).unwrap();
    assert_eq!((event.kind.as_deref(), event.api_version), (Some("invoice.paid"), None));
    assert_eq!((event.object_id.as_deref(), event.object_kind.as_deref()), (Some("in_1"), Some("invoice")));
    assert_eq!(event.customer.as_deref(), Some("cus_1"));
    assert!(event.object.unwrap().get().ends_with(r#""n":1.50}"#), "byte for byte");
    let thin = r#"{"id":"evt_1","object":"v2.core.event","type":"v1.x"}"#;
    assert_eq!(read::event(thin).unwrap_err(), ReadError::ThinEvent);
}
