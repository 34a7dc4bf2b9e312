//! What creating, changing and ending a subscription does to everything around it.

use crate::lab::{Lab, NOW};
use sandbox::Seed;
use serde_json::{Value, json};

const DAY: i64 = 24 * 60 * 60;

/// A customer with a card, in a sandbox with the seeded catalogue.
fn payer(lab: &Lab, token: &str) -> String {
    let customer = lab.made("/v1/customers", "email=payer%40example.com")["id"].as_str().unwrap().to_owned();
    let method = lab.made(&format!("/v1/payment_methods/{token}/attach"), &format!("customer={customer}"));
    let method = method["id"].as_str().unwrap();
    lab.made(&format!("/v1/customers/{customer}"), &format!("invoice_settings[default_payment_method]={method}"));
    customer
}

fn subscribe(lab: &Lab, customer: &str, rest: &str) -> Value {
    let form = format!("customer={customer}&expand[]=latest_invoice.payments&{rest}");
    lab.made("/v1/subscriptions", &form)
}

#[test]
fn a_first_invoice_is_made_and_paid() {
    let lab = Lab::new(Seed::Business);
    let customer = payer(&lab, "pm_card_visa");
    let made = subscribe(&lab, &customer, "items[0][price]=price_professional_monthly&items[0][quantity]=3");
    let (item, invoice) = (&made["items"]["data"][0], &made["latest_invoice"]);
    assert_eq!((&made["status"], &made["currency"]), (&json!("active"), &json!("usd")));
    assert_eq!((&item["quantity"], &item["current_period_start"]), (&json!(3), &json!(NOW)));
    assert_eq!(item["current_period_end"], NOW + 30 * DAY);
    assert_eq!(
        (&invoice["status"], &invoice["total"], &invoice["amount_paid"]),
        (&json!("paid"), &json!(14_700), &json!(14_700))
    );
    assert_eq!(
        (&invoice["billing_reason"], &invoice["customer_email"]),
        (&json!("subscription_create"), &json!("payer@example.com"))
    );
    assert_eq!(invoice["lines"]["data"][0]["description"], "3 × Professional (at $49.00 / month)");
    let intent = invoice["payments"]["data"][0]["payment"]["payment_intent"].as_str().unwrap();
    let intent = lab.get(&format!("/v1/payment_intents/{intent}?expand[]=latest_charge")).body;
    assert_eq!((&intent["status"], &intent["amount_received"]), (&json!("succeeded"), &json!(14_700)));
    assert_eq!(intent["latest_charge"]["payment_method_details"]["card"]["last4"], "4242");
    assert_eq!(lab.get(&format!("/v1/customers/{customer}")).body["currency"], "usd");
}

#[test]
fn a_trial_has_a_zero_invoice_and_no_charge() {
    let lab = Lab::new(Seed::Business);
    let made = subscribe(&lab, "cus_sandbox_149", "items[0][price]=price_starter_monthly&trial_period_days=14");
    assert_eq!((&made["status"], &made["trial_end"]), (&json!("trialing"), &json!(NOW + 14 * DAY)));
    assert_eq!(made["items"]["data"][0]["current_period_end"], NOW + 14 * DAY);
    assert_eq!((&made["latest_invoice"]["total"], &made["latest_invoice"]["status"]), (&json!(0), &json!("paid")));
    assert_eq!(made["latest_invoice"]["payments"]["data"], json!([]));
    assert_eq!(lab.get("/v1/charges?customer=cus_sandbox_149").rows().len(), 0);
}

#[test]
fn what_a_coupon_takes_off() {
    let lab = Lab::new(Seed::Business);
    lab.made("/v1/coupons", "id=HALF&percent_off=12.5&duration=repeating&duration_in_months=3");
    lab.made("/v1/coupons", "id=OFF&amount_off=5000&currency=usd&duration=once&max_redemptions=1");
    let customer = payer(&lab, "pm_card_visa");
    let items = "items[0][price]=price_starter_monthly&items[1][price]=price_professional_monthly";
    let made = subscribe(&lab, &customer, &format!("{items}&discounts[0][coupon]=HALF&expand[]=discounts"));
    let invoice = &made["latest_invoice"];
    assert_eq!((&invoice["subtotal"], &invoice["total"]), (&json!(6_800), &json!(6_800 - 238 - 613)));
    assert_eq!(invoice["total_discount_amounts"][0]["amount"], 238 + 613);
    assert_eq!(made["discounts"][0]["end"], NOW + 92 * DAY, "three months on");
    let off = subscribe(&lab, &customer, &format!("{items}&discounts[0][coupon]=OFF"));
    assert_eq!(off["latest_invoice"]["total"], 1_800);
    let spent = lab.post("/v1/subscriptions", &format!("customer={customer}&{items}&discounts[0][coupon]=OFF"));
    assert_eq!(spent.error(), "400 invalid_request_error coupon_expired discounts[0][coupon]");
}

#[test]
fn a_declined_card_leaves_it_incomplete() {
    let lab = Lab::new(Seed::Business);
    let customer = payer(&lab, "pm_card_chargeCustomerFail");
    let made = subscribe(&lab, &customer, "items[0][price]=price_starter_monthly");
    assert_eq!((&made["status"], &made["latest_invoice"]["status"]), (&json!("incomplete"), &json!("open")));
    let charge = lab.get(&format!("/v1/charges?customer={customer}")).rows()[0].clone();
    assert_eq!((&charge["status"], &charge["failure_code"]), (&json!("failed"), &json!("card_declined")));
    let strict =
        format!("customer={customer}&items[0][price]=price_starter_monthly&payment_behavior=error_if_incomplete");
    assert_eq!(lab.post("/v1/subscriptions", &strict).error(), "402 card_error card_declined -");
    let refund = lab.post("/v1/refunds", &format!("charge={}", charge["id"].as_str().unwrap()));
    assert_eq!(refund.error(), "400 invalid_request_error charge_not_refundable charge");
}

#[test]
fn sent_invoices_are_open_and_due() {
    let lab = Lab::new(Seed::Business);
    let made = subscribe(
        &lab,
        "cus_sandbox_149",
        "items[0][price]=price_starter_yearly&collection_method=send_invoice&days_until_due=30",
    );
    assert_eq!((&made["status"], &made["latest_invoice"]["due_date"]), (&json!("active"), &json!(NOW + 30 * DAY)));
    let due = lab.get(&format!("/v1/invoices?due_date[lte]={}", NOW + 31 * DAY));
    assert_eq!(due.ids(), [made["latest_invoice"]["id"].as_str().unwrap()]);
}

#[test]
fn jpy_has_no_decimals() {
    let lab = Lab::new(Seed::Business);
    let customer = payer(&lab, "pm_card_jcb");
    let made = subscribe(&lab, &customer, "items[0][price]=price_professional_monthly_jpy");
    assert_eq!((&made["currency"], &made["latest_invoice"]["total"]), (&json!("jpy"), &json!(7_000)));
}

#[test]
fn metered_items_have_no_quantity_and_cost_nothing_yet() {
    let lab = Lab::new(Seed::Business);
    let price = "currency=usd&product=prod_starter&unit_amount_decimal=0.2&recurring[interval]=month&recurring[usage_type]=metered";
    let price = lab.made("/v1/prices", price)["id"].as_str().unwrap().to_owned();
    let customer = payer(&lab, "pm_card_visa");
    let made = subscribe(&lab, &customer, &format!("items[0][price]={price}&items[1][price]=price_starter_monthly"));
    assert_eq!(made["items"]["data"][0].get("quantity"), None);
    assert_eq!(
        (&made["latest_invoice"]["total"], &made["latest_invoice"]["lines"]["data"].as_array().unwrap().len()),
        (&json!(1_900), &1)
    );
}

#[test]
fn changing_items_and_metadata() {
    let lab = Lab::new(Seed::Business);
    let path = "/v1/subscriptions/sub_sandbox_user";
    let form = "items[0][id]=si_sandbox_user_1&items[0][price]=price_enterprise_monthly&items[1][price]=price_addon_support_monthly\
                &metadata[tier]=enterprise&cancel_at_period_end=true&cancellation_details[feedback]=unused";
    let changed = lab.made(path, form);
    let prices: Vec<&Value> =
        changed["items"]["data"].as_array().unwrap().iter().map(|item| &item["price"]["id"]).collect();
    assert_eq!(prices, ["price_enterprise_monthly", "price_addon_support_monthly"]);
    assert_eq!((&changed["metadata"]["tier"], &changed["cancel_at_period_end"]), (&json!("enterprise"), &json!(true)));
    assert_eq!(changed["cancel_at"], changed["items"]["data"][0]["current_period_end"]);
    assert_eq!(lab.get("/v1/subscriptions?price=price_professional_monthly&customer=cus_sandbox_user").rows().len(), 0);
    let kept = lab.made(path, "cancel_at_period_end=false&items[0][id]=si_sandbox_user_1&items[0][deleted]=true");
    assert_eq!((&kept["cancel_at"], kept["items"]["data"].as_array().unwrap().len()), (&json!(null), 1));
    let last = kept["items"]["data"][0]["id"].as_str().unwrap();
    let none = lab.post(path, &format!("items[0][id]={last}&items[0][deleted]=true"));
    assert_eq!(none.error(), "400 invalid_request_error - items");
    assert_eq!(lab.get(&format!("/v1/subscription_items/{last}")).body["subscription"], "sub_sandbox_user");
}

#[test]
fn a_price_that_changes_is_seen_in_its_subscriptions() {
    let lab = Lab::new(Seed::Business);
    lab.made("/v1/prices/price_professional_monthly", "nickname=Pro&metadata[a]=b");
    let item = lab.get("/v1/subscriptions/sub_sandbox_user").body["items"]["data"][0].clone();
    assert_eq!((&item["price"]["nickname"], &item["plan"]["metadata"]["a"]), (&json!("Pro"), &json!("b")));
}

#[test]
fn deleting_a_customer_ends_what_it_had() {
    let lab = Lab::new(Seed::Business);
    assert_eq!(lab.delete("/v1/customers/cus_sandbox_user").body["deleted"], true);
    assert_eq!(lab.get("/v1/customers/cus_sandbox_user").body["deleted"], true);
    assert_eq!(lab.get("/v1/subscriptions/sub_sandbox_user").body["status"], "canceled");
    assert_eq!(lab.get("/v1/customers?email=ada%40example.com").rows().len(), 0);
    assert_eq!(lab.get("/v1/customers/cus_sandbox_user/payment_methods").status, 404);
    assert_eq!(lab.get("/v1/charges?customer=cus_sandbox_user").rows().len(), 6);
}

#[test]
fn refunds_are_booked_on_the_charge() {
    let lab = Lab::new(Seed::Business);
    let charge = || lab.get("/v1/charges/ch_sandbox_user_6").body;
    lab.made("/v1/refunds", "charge=ch_sandbox_user_6&amount=1000&reason=duplicate");
    assert_eq!((&charge()["amount_refunded"], &charge()["refunded"]), (&json!(1_000), &json!(false)));
    assert_eq!(lab.made("/v1/refunds", "payment_intent=pi_sandbox_user_6")["amount"], 3_900);
    assert_eq!((&charge()["amount_refunded"], &charge()["refunded"]), (&json!(4_900), &json!(true)));
    let more = lab.post("/v1/refunds", "charge=ch_sandbox_user_6");
    assert_eq!(more.error(), "400 invalid_request_error charge_already_refunded -");
    assert_eq!(lab.get("/v1/charges/ch_sandbox_user_6/refunds").rows().len(), 2);
}

/// A trial that is ended by hand ends as one that ends by itself: without a card it pauses where that was asked for.
#[test]
fn a_trial_ended_without_a_card_pauses() {
    let lab = Lab::new(Seed::Business);
    for (asked, expected) in [("pause", "paused"), ("create_invoice", "past_due")] {
        let customer = lab.made("/v1/customers", "name=Ada")["id"].as_str().unwrap().to_owned();
        let form = format!(
            "items[0][price]=price_starter_monthly&trial_period_days=7\
             &trial_settings[end_behavior][missing_payment_method]={asked}"
        );
        let begun = lab.subscribe(&customer, &form);
        let path = format!("/v1/subscriptions/{}", begun["id"].as_str().unwrap());
        let told = lab.told(|lab| assert_eq!(lab.made(&path, "trial_end=now")["status"], expected, "{asked}"));
        let paused = told.iter().any(|name| name == "customer.subscription.paused");
        assert_eq!(paused, asked == "pause", "{told:?}");
    }
}
