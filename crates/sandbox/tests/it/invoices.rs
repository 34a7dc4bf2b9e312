//! Invoices that people write, change, pay, write off and look ahead to; items, credit notes and prorations on them.

use crate::lab::{Lab, NOW};
use sandbox::Seed;
use serde_json::{Value, json};

const DAY: i64 = 24 * 60 * 60;

fn id(object: &Value) -> String {
    object["id"].as_str().unwrap().to_owned()
}

/// A finalized invoice over so much.
fn open(lab: &Lab, customer: &str, amount: i64) -> String {
    lab.made("/v1/invoiceitems", &format!("customer={customer}&amount={amount}&currency=usd&description=Work"));
    let form = format!("customer={customer}&pending_invoice_items_behavior=include&auto_advance=false");
    let draft = id(&lab.made("/v1/invoices", &form));
    let open = lab.made(&format!("/v1/invoices/{draft}/finalize"), "");
    assert_eq!((&open["status"], &open["amount_due"]), (&json!("open"), &json!(amount)));
    draft
}

#[test]
fn written_by_hand_and_paid() {
    let lab = Lab::new(Seed::Empty);
    let customer = lab.payer("pm_card_visa");
    let item = lab.made("/v1/invoiceitems", &format!("customer={customer}&amount=700&currency=usd&description=Setup"));
    assert_eq!((&item["invoice"], &item["net_amount"]), (&json!(null), &json!(700)));
    let form = format!("customer={customer}&pending_invoice_items_behavior=include&description=Hello");
    let draft = lab.made("/v1/invoices", &form);
    let path = format!("/v1/invoices/{}", id(&draft));
    assert_eq!((&draft["status"], &draft["number"], &draft["total"]), (&json!("draft"), &json!(null), &json!(700)));
    assert_eq!(lab.get(&format!("/v1/invoiceitems/{}", id(&item))).body["invoice"], draft["id"]);
    lab.made("/v1/invoiceitems", &format!("customer={customer}&amount=-200&invoice={}", id(&draft)));
    assert_eq!(lab.get(&path).body["total"], 500);
    let open = lab.made(&format!("{path}/finalize"), "auto_advance=false");
    assert_eq!((&open["status"], &open["number"]), (&json!("open"), &json!("INV-2026-0001")));
    assert_eq!(lab.post(&path, "footer=x").error(), "400 invalid_request_error invoice_not_editable -");
    let paid = lab.made(&format!("{path}/pay"), "");
    assert_eq!(
        (&paid["status"], &paid["amount_paid"], &paid["amount_remaining"]),
        (&json!("paid"), &json!(500), &json!(0))
    );
    assert_eq!(lab.post(&format!("{path}/pay"), "").error(), "400 invalid_request_error - -");
    assert_eq!(lab.get(&format!("/v1/charges?customer={customer}")).rows()[0]["amount"], 500);
    let other = id(&lab.made("/v1/invoices", &format!("customer={customer}")));
    assert_eq!(lab.delete(&format!("/v1/invoices/{other}")).body["deleted"], true);
}

#[test]
fn ends_other_than_being_paid() {
    let lab = Lab::new(Seed::Empty);
    let customer = lab.payer("pm_card_chargeCustomerFail");
    let end = |verb: &str, form: &str| {
        let invoice = open(&lab, &customer, 900);
        let told = lab.told(|lab| drop(lab.post(&format!("/v1/invoices/{invoice}/{verb}"), form)));
        let now = lab.get(&format!("/v1/invoices/{invoice}")).body;
        format!("{} {} {}", now["status"].as_str().unwrap(), now["attempt_count"], told.last().unwrap())
    };
    assert_eq!(end("void", ""), "void 0 invoice.voided");
    assert_eq!(end("mark_uncollectible", ""), "uncollectible 0 invoice.marked_uncollectible");
    assert_eq!(end("pay", "paid_out_of_band=true"), "paid 0 invoice.payment_succeeded");
    assert_eq!(end("pay", ""), "open 1 customer.updated");
    assert_eq!(end("send", ""), "open 0 invoice.sent");
}

#[test]
fn credit_is_used_before_cards() {
    let lab = Lab::new(Seed::Business);
    let customer = lab.payer("pm_card_visa");
    lab.made(&format!("/v1/customers/{customer}"), "balance=-2500");
    let first = lab.subscribe(&customer, "items[0][price]=price_starter_monthly");
    let invoice = &first["latest_invoice"];
    assert_eq!(
        (&invoice["total"], &invoice["amount_due"], &invoice["status"]),
        (&json!(1_900), &json!(0), &json!("paid"))
    );
    assert_eq!((&invoice["starting_balance"], &invoice["ending_balance"]), (&json!(-2_500), &json!(-600)));
    lab.advance(31 * DAY);
    let list = lab.get(&format!("/v1/invoices?customer={customer}"));
    assert_eq!((&list.rows()[0]["amount_due"], &list.rows()[0]["amount_paid"]), (&json!(1_300), &json!(1_300)));
}

#[test]
fn credit_notes_before_and_after_payment() {
    let lab = Lab::new(Seed::Empty);
    let customer = lab.payer("pm_card_visa");
    let invoice = open(&lab, &customer, 1_000);
    let note = lab.made("/v1/credit_notes", &format!("invoice={invoice}&amount=400&reason=order_change"));
    assert_eq!((&note["type"], &note["number"]), (&json!("pre_payment"), &json!("INV-2026-0001-CN-01")));
    let now = || lab.get(&format!("/v1/invoices/{invoice}")).body;
    assert_eq!((&now()["amount_remaining"], &now()["total"]), (&json!(600), &json!(1_000)));
    lab.made(&format!("/v1/credit_notes/{}/void", id(&note)), "");
    assert_eq!(now()["amount_remaining"], 1_000);
    lab.made("/v1/credit_notes", &format!("invoice={invoice}&amount=400"));
    lab.made(&format!("/v1/invoices/{invoice}/pay"), "");
    assert_eq!(now()["amount_paid"], 600);
    let over = lab.post("/v1/credit_notes", &format!("invoice={invoice}&amount=700&credit_amount=700"));
    assert_eq!(over.error(), "400 invalid_request_error - amount");
    let unequal = lab.post("/v1/credit_notes", &format!("invoice={invoice}&amount=500&refund_amount=100"));
    assert_eq!(unequal.error(), "400 invalid_request_error - -");
    let form = format!("invoice={invoice}&amount=500&refund_amount=300&credit_amount=200");
    let after = lab.made("/v1/credit_notes", &form);
    assert_eq!((&after["type"], &after["refunds"][0]["amount_refunded"]), (&json!("post_payment"), &json!(300)));
    assert_eq!(now()["post_payment_credit_notes_amount"], 500);
    assert_eq!(lab.get(&format!("/v1/customers/{customer}")).body["balance"], -200);
    assert_eq!(lab.get(&format!("/v1/charges?customer={customer}")).rows()[0]["amount_refunded"], 300);
    let lines = lab.get(&format!("/v1/credit_notes/{}/lines", id(&after)));
    assert_eq!(lines.rows()[0]["amount"], 500);
}

/// A third of the month is over: two thirds are given back and charged anew.
#[test]
fn changes_are_prorated() {
    let upgraded = |behavior: &str| {
        let lab = Lab::new(Seed::Business);
        let customer = lab.payer("pm_card_visa");
        let made = lab.subscribe(&customer, "items[0][price]=price_starter_monthly");
        lab.advance(10 * DAY);
        let item = id(&made["items"]["data"][0]);
        let form =
            format!("items[0][id]={item}&items[0][price]=price_enterprise_monthly&expand[]=latest_invoice{behavior}");
        let changed = lab.made(&format!("/v1/subscriptions/{}", id(&made)), &form);
        let invoices = |lab: &Lab| {
            let list = lab.get(&format!("/v1/invoices?customer={customer}"));
            list.rows().iter().map(|row| row["total"].as_i64().unwrap()).collect::<Vec<_>>()
        };
        let now = invoices(&lab);
        lab.advance(21 * DAY);
        (changed, now, invoices(&lab))
    };
    let (credit, debit) = (-1_267, 6_600); // 1,900 and 9,900, twenty of thirty days
    assert_eq!(upgraded("").2, [9_900 + debit + credit, 1_900], "with the next invoice");
    assert_eq!(upgraded("&proration_behavior=none").2, [9_900, 1_900]);
    let (changed, now, later) = upgraded("&proration_behavior=always_invoice");
    assert_eq!((now, later), (vec![debit + credit, 1_900], vec![9_900, debit + credit, 1_900]));
    let lines: Vec<&str> = changed["latest_invoice"]["lines"]["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["description"].as_str().unwrap())
        .collect();
    assert_eq!(lines, ["Unused time on Starter after 02 Dec 2026", "Remaining time on Enterprise after 02 Dec 2026"]);
    assert_eq!(changed["latest_invoice"]["billing_reason"], "subscription_update");
    assert_eq!(changed["latest_invoice"]["lines"]["data"][0]["parent"]["subscription_item_details"]["proration"], true);
    assert_eq!(changed["items"]["data"][0]["current_period_end"], NOW + 30 * DAY, "the period stays");
}

#[test]
fn another_interval_begins_anew() {
    let lab = Lab::new(Seed::Business);
    let customer = lab.payer("pm_card_visa");
    let made = lab.subscribe(&customer, "items[0][price]=price_starter_monthly");
    lab.advance(15 * DAY);
    let form = format!(
        "items[0][id]={}&items[0][price]=price_starter_yearly&expand[]=latest_invoice",
        id(&made["items"]["data"][0])
    );
    let changed = lab.made(&format!("/v1/subscriptions/{}", id(&made)), &form);
    assert_eq!((&changed["billing_cycle_anchor"], &changed["status"]), (&json!(NOW + 15 * DAY), &json!("active")));
    assert_eq!(changed["items"]["data"][0]["current_period_end"], NOW + 380 * DAY);
    assert_eq!(changed["latest_invoice"]["total"], 22_800 - 950);
}

/// The same of a change, as a preview takes it.
fn details(change: &str) -> String {
    let member = |one: &str| {
        let Some((name, value)) = one.split_once('=') else { panic!("{one}") };
        let (name, rest) =
            name.split_once('[').map_or((name, String::new()), |(name, rest)| (name, format!("[{rest}")));
        format!("subscription_details[{name}]{rest}={value}")
    };
    change.split('&').map(member).collect::<Vec<_>>().join("&")
}

#[test]
fn a_preview_says_what_the_change_then_costs() {
    for change in [
        "items[0][id]=ITEM&items[0][price]=price_starter_yearly",
        "items[0][id]=ITEM&items[0][price]=price_starter_yearly&proration_behavior=none",
        "items[0][id]=ITEM&items[0][price]=price_enterprise_monthly&proration_behavior=always_invoice",
        "billing_cycle_anchor=now&proration_behavior=create_prorations",
        "cancel_now=true",
    ] {
        let lab = Lab::new(Seed::Business);
        let customer = lab.payer("pm_card_visa");
        let made = lab.subscribe(&customer, "items[0][price]=price_starter_monthly");
        lab.advance(10 * DAY);
        let (subscription, item) = (id(&made), id(&made["items"]["data"][0]));
        let change = change.replace("ITEM", &item);
        let shown =
            lab.made("/v1/invoices/create_preview", &format!("subscription={subscription}&{}", details(&change)));
        let path = format!("/v1/subscriptions/{subscription}");
        let expand = "expand[]=latest_invoice";
        let changed = if change == "cancel_now=true" {
            lab.delete(&format!("{path}?prorate=true&invoice_now=true&{expand}")).body.clone()
        } else {
            lab.made(&path, &format!("{change}&{expand}"))
        };
        let billed = &changed["latest_invoice"];
        let sums = |invoice: &Value| {
            let lines: Vec<_> = invoice["lines"]["data"].as_array().expect("lines").iter().collect();
            let lines: Vec<_> = lines.iter().map(|line| (line["amount"].clone(), line["period"].clone())).collect();
            (invoice["subtotal"].clone(), invoice["total"].clone(), invoice["amount_due"].clone(), lines)
        };
        assert_eq!(sums(&shown), sums(billed), "{change}");
        assert_eq!((&shown["status"], &shown["amount_paid"]), (&json!("draft"), &json!(0)), "{change}");
    }
}

#[test]
fn looking_ahead_changes_nothing() {
    let lab = Lab::new(Seed::Business);
    let customer = lab.payer("pm_card_visa");
    let made = lab.subscribe(&customer, "items[0][price]=price_starter_monthly");
    lab.advance(10 * DAY);
    let (path, item) = (format!("/v1/subscriptions/{}", id(&made)), id(&made["items"]["data"][0]));
    let before = lab.get(&path).text;
    let told = lab.told(|lab| {
        let next = lab.made("/v1/invoices/create_preview", &format!("subscription={}", id(&made)));
        assert_eq!((&next["total"], &next["billing_reason"], &next["status"]), (&json!(1_900), &json!("upcoming"), &json!("draft")));
        let form = format!(
            "subscription={}&subscription_details[items][0][id]={item}&subscription_details[items][0][price]=price_enterprise_monthly",
            id(&made)
        );
        let changed = lab.made("/v1/invoices/create_preview", &form);
        assert_eq!(changed["total"], 9_900 + 6_600 - 1_267);
        let now = lab.made("/v1/invoices/create_preview", &format!("{form}&subscription_details[proration_behavior]=always_invoice"));
        assert_eq!(now["total"], 6_600 - 1_267);
        let new = format!("customer={customer}&subscription_details[items][0][price]=price_professional_monthly");
        assert_eq!(lab.made("/v1/invoices/create_preview", &new)["total"], 4_900);
        let none = lab.post("/v1/invoices/create_preview", &format!("customer={customer}"));
        assert_eq!(none.error(), "400 invalid_request_error invoice_upcoming_none -");
    });
    assert_eq!((told, lab.get(&path).text), (Vec::<String>::new(), before));
    assert_eq!(lab.get(&format!("/v1/invoiceitems?customer={customer}")).rows().len(), 0);
    assert_eq!(lab.get(&format!("/v1/subscriptions?customer={customer}")).rows().len(), 1);
}

#[test]
fn pausing_gives_back_and_resuming_begins_anew() {
    let lab = Lab::new(Seed::Business);
    let customer = lab.payer("pm_card_visa");
    let made = lab.subscribe(&customer, "items[0][price]=price_starter_monthly");
    let path = format!("/v1/subscriptions/{}", id(&made));
    lab.advance(15 * DAY);
    let paused = lab.made(&format!("{path}/pause"), "type=subscription");
    assert_eq!(
        (&paused["status"], &paused["status_details"]["paused"]["transitioned_at"]),
        (&json!("paused"), &json!(NOW + 15 * DAY))
    );
    lab.advance(60 * DAY);
    assert_eq!(lab.get(&format!("/v1/invoices?customer={customer}")).rows().len(), 1, "nothing is billed meanwhile");
    let told = lab.told(|lab| {
        let resumed = lab.made(&format!("{path}/resume"), "billing_cycle_anchor[type]=now&expand[]=latest_invoice");
        assert_eq!((&resumed["status"], &resumed["latest_invoice"]["total"]), (&json!("active"), &json!(1_900 - 950)));
    });
    assert!(told.iter().any(|name| name == "customer.subscription.resumed"), "{told:?}");
    assert_eq!(lab.post(&format!("{path}/resume"), "").status, 400);
}

#[test]
fn usage_is_billed_when_its_period_is_over() {
    let lab = Lab::new(Seed::Business);
    let meter = "display_name=Calls&event_name=calls&default_aggregation[formula]=sum";
    let meter = id(&lab.made("/v1/billing/meters", meter));
    let price = format!(
        "currency=usd&product=prod_starter&unit_amount_decimal=0.5&recurring[interval]=month&recurring[usage_type]=metered&recurring[meter]={meter}"
    );
    let price = id(&lab.made("/v1/prices", &price));
    let customer = lab.payer("pm_card_visa");
    let made = lab.subscribe(&customer, &format!("items[0][price]={price}"));
    assert_eq!((&made["status"], &made["latest_invoice"]["total"]), (&json!("active"), &json!(0)));
    let report = |value: &str, identifier: &str| {
        let form = format!(
            "event_name=calls&payload[stripe_customer_id]={customer}&payload[value]={value}&identifier={identifier}"
        );
        lab.post("/v1/billing/meter_events", &form)
    };
    assert_eq!(report("1001", "a").status, 200);
    lab.advance(5 * DAY);
    assert_eq!(report("200", "b").status, 200);
    assert_eq!(report("200", "b").error(), "400 invalid_request_error duplicate_meter_event identifier");
    assert_eq!(report("x", "c").error(), "400 invalid_request_error - payload[value]");
    let summary = format!(
        "/v1/billing/meters/{meter}/event_summaries?customer={customer}&start_time={NOW}&end_time={}",
        NOW + 10 * DAY
    );
    assert_eq!(lab.get(&summary).rows()[0]["aggregated_value"], 1_201);
    lab.advance(26 * DAY);
    let list = lab.get(&format!("/v1/invoices?customer={customer}"));
    let newest = &list.rows()[0];
    assert_eq!((&newest["total"], &newest["status"]), (&json!(601), &json!("paid")), "600.5 cents, rounded once");
    assert_eq!(newest["lines"]["data"][0]["quantity"], 1_201);
}

#[test]
fn discounts_of_an_invoice_are_its_own_or_its_customers() {
    let lab = Lab::new(Seed::Business);
    let half = lab.made("/v1/coupons", "amount_off=300&currency=usd&duration=once")["id"].as_str().unwrap().to_owned();
    let customer = lab.payer("pm_card_visa");
    let item = |amount: i64, more: &str| {
        lab.made("/v1/invoiceitems", &format!("customer={customer}&currency=usd&amount={amount}{more}"));
    };
    let invoice = |more: &str| {
        lab.made("/v1/invoices", &format!("customer={customer}&pending_invoice_items_behavior=include{more}"))
    };
    item(1000, "");
    let own = invoice(&format!("&discounts[0][coupon]=FOUNDING20&discounts[1][coupon]={half}&expand[]=discounts"));
    assert_eq!((&own["subtotal"], &own["total"]), (&json!(1000), &json!(500)));
    assert_eq!((&own["discounts"][0]["invoice"], &own["discounts"][0]["subscription"]), (&own["id"], &Value::Null));
    // What comes later is discounted as well, and what is taken away is not.
    let path = format!("/v1/invoices/{}", own["id"].as_str().unwrap());
    item(500, &format!("&invoice={}", own["id"].as_str().unwrap()));
    assert_eq!(lab.get(&path).body["total"], 1500 - 300 - 300);
    assert_eq!(lab.made(&path, "discounts=")["total"], 1500);
    let refused = lab.post(&path, "discounts[0][coupon]=NONE").error();
    assert_eq!(refused, "400 invalid_request_error resource_missing discounts[0][coupon]");
    lab.send("POST", &format!("/v1/customers/{customer}"), &[("Stripe-Version", "2024-06-20")], "coupon=FOUNDING20")
        .unwrap();
    item(1000, "");
    assert_eq!(invoice("")["total"], 800);
    item(1000, "");
    assert_eq!(invoice("&discounts=")["total"], 1000);
}

/// A third of a line that cannot be divided is rounded, the whole of it is the whole.
#[test]
fn all_units_of_a_line_are_credited_with_all_that_they_cost() {
    let lab = Lab::new(Seed::Business);
    let customer = lab.payer("pm_card_visa");
    let price = lab.made("/v1/prices", "product_data[name]=Setup&unit_amount_decimal=33.35&currency=usd");
    let item = format!("customer={customer}&pricing[price]={}&quantity=3", id(&price));
    lab.made("/v1/invoiceitems", &item);
    let invoice = lab.made("/v1/invoices", &format!("customer={customer}&pending_invoice_items_behavior=include"));
    let line = id(&invoice["lines"]["data"][0]);
    lab.made(&format!("/v1/invoices/{}/finalize", id(&invoice)), "");
    for (quantity, amount) in [(3, 100), (2, 67), (1, 33)] {
        let form = format!(
            "invoice={}&lines[0][type]=invoice_line_item&lines[0][invoice_line_item]={line}&lines[0][quantity]={quantity}",
            id(&invoice)
        );
        assert_eq!(lab.get(&format!("/v1/credit_notes/preview?{form}")).body["amount"], amount, "{quantity}");
    }
    let over = format!(
        "invoice={}&lines[0][type]=invoice_line_item&lines[0][invoice_line_item]={line}&lines[0][quantity]=4",
        id(&invoice)
    );
    assert_eq!(lab.post("/v1/credit_notes", &over).error(), "400 invalid_request_error - lines[0][quantity]");
}

/// A coupon that works once does so on one invoice, whoever it was given to.
#[test]
fn a_customers_coupon_that_works_once_works_once() {
    let lab = Lab::new(Seed::Business);
    let coupon = id(&lab.made("/v1/coupons", "percent_off=50&duration=once"));
    let customer = lab.payer("pm_card_visa");
    let path = format!("/v1/customers/{customer}");
    let old = [("Stripe-Version", "2025-02-24.acacia")];
    assert_eq!(lab.send("POST", &path, &old, &format!("coupon={coupon}")).unwrap().status, 200);
    for total in [250, 500] {
        lab.made("/v1/invoiceitems", &format!("customer={customer}&amount=500&currency=usd"));
        let draft = lab.made("/v1/invoices", &format!("customer={customer}&pending_invoice_items_behavior=include"));
        assert_eq!(draft["total"], total);
        // What it took off stays off when the draft is written again.
        assert_eq!(lab.made(&format!("/v1/invoices/{}", id(&draft)), "description=x")["total"], total);
        lab.made("/v1/invoiceitems", &format!("customer={customer}&amount=0&currency=usd&invoice={}", id(&draft)));
        assert_eq!(lab.get(&format!("/v1/invoices/{}", id(&draft))).body["total"], total);
    }
}

/// Also where the number of them is changed later.
#[test]
fn an_item_costs_what_so_many_units_cost() {
    let lab = Lab::new(Seed::Business);
    let customer = lab.payer("pm_card_visa");
    let price = id(&lab.made("/v1/prices", "product_data[name]=Setup&unit_amount=700&currency=usd"));
    for (item, one, three) in [
        (format!("pricing[price]={price}"), 700, 2_100),
        ("unit_amount_decimal=33.35&currency=usd".to_owned(), 33, 100),
        ("amount=500&currency=usd".to_owned(), 500, 1_500),
    ] {
        let made = lab.made("/v1/invoiceitems", &format!("customer={customer}&{item}"));
        let path = format!("/v1/invoiceitems/{}", id(&made));
        for (form, amount, quantity) in
            [("description=x", one, 1), ("quantity=3", three, 3), ("metadata[a]=b", three, 3)]
        {
            let changed = lab.made(&path, form);
            assert_eq!((&changed["amount"], &changed["quantity"]), (&json!(amount), &json!(quantity)), "{item} {form}");
            assert_eq!(
                (&changed["net_amount"], &changed["description"]),
                (&json!(amount), &json!("x")),
                "{item} {form}"
            );
        }
    }
}
