//! Checkout and the portal: sessions over the API, and their pages as a browser uses them.

use crate::lab::{Lab, NOW};
use crate::payments::submit;
use sandbox::Seed;
use serde_json::json;

const DAY: i64 = 24 * 60 * 60;
const PLACES: &str =
    "success_url=https%3A%2F%2Fexample.com%2Fdone%3Fs%3D%7BCHECKOUT_SESSION_ID%7D&cancel_url=https%3A%2F%2Fexample.com";

#[test]
fn a_subscription_is_bought() {
    let lab = Lab::new(Seed::Business);
    let form = format!(
        "mode=subscription&{PLACES}&line_items[0][price]=price_starter_monthly&line_items[0][quantity]=2\
         &customer_email=buyer%40example.com&client_reference_id=u_1&subscription_data[metadata][tier]=starter"
    );
    let session = lab.made("/v1/checkout/sessions", &form);
    let (path, url) =
        (format!("/v1/checkout/sessions/{}", session["id"].as_str().unwrap()), session["url"].as_str().unwrap());
    assert_eq!(
        (&session["status"], &session["payment_status"], &session["subscription"]),
        (&json!("open"), &json!("unpaid"), &json!(null))
    );
    assert_eq!((&session["amount_total"], &session["currency"]), (&json!(3_800), &json!("usd")));
    assert_eq!(lab.get(&format!("{path}/line_items")).rows()[0]["quantity"], 2);
    assert_eq!(lab.get(&format!("{path}?expand[]=line_items")).body["line_items"]["data"][0]["amount_total"], 3_800);
    let page = lab.get(url.split_once("/_sandbox").map(|(_, rest)| format!("/_sandbox{rest}")).unwrap().as_str());
    assert!(page.status == 200 && page.text.contains("$38.00") && page.text.contains("pm_card_visa"));
    let declined = submit(&lab, url, "card=pm_card_chargeCustomerFail");
    assert!(declined.status == 402 && declined.text.contains("Your card was declined."));
    assert_eq!(lab.get("/v1/customers?email=buyer%40example.com").rows().len(), 0, "nothing is left of it");
    let told = lab.told(|lab| {
        let done = submit(lab, url, "card=pm_card_visa");
        let expected = format!("https://example.com/done?s={}", session["id"].as_str().unwrap());
        assert_eq!((done.status, done.header("location")), (303, expected.as_str()));
    });
    assert_eq!(told.last().map(String::as_str), Some("checkout.session.completed"));
    let done = lab.get(&format!("{path}?expand[]=subscription&expand[]=invoice")).body;
    assert_eq!(
        (&done["status"], &done["payment_status"], &done["url"]),
        (&json!("complete"), &json!("paid"), &json!(null))
    );
    let subscription = &done["subscription"];
    assert_eq!((&subscription["status"], &subscription["metadata"]["tier"]), (&json!("active"), &json!("starter")));
    assert_eq!(
        (&subscription["items"]["data"][0]["quantity"], &done["invoice"]["amount_paid"]),
        (&json!(2), &json!(3_800))
    );
    assert_eq!(submit(&lab, url, "card=pm_card_visa").status, 400, "once");
}

#[test]
fn a_one_time_payment_a_trial_and_a_setup() {
    let lab = Lab::new(Seed::Business);
    let buy = |rest: &str| {
        let session = lab.made("/v1/checkout/sessions", &format!("{PLACES}&customer=cus_sandbox_149&{rest}"));
        assert_eq!(submit(&lab, session["url"].as_str().unwrap(), "card=pm_card_visa").status, 303, "{rest}");
        lab.get(&format!(
            "/v1/checkout/sessions/{}?expand[]=payment_intent&expand[]=subscription",
            session["id"].as_str().unwrap()
        ))
        .body
    };
    let item = "line_items[0][quantity]=1&line_items[0][price_data][currency]=usd&line_items[0][price_data][unit_amount]=750\
                &line_items[0][price_data][product_data][name]=Book";
    let paid = buy(&format!("mode=payment&{item}"));
    assert_eq!(
        (&paid["payment_intent"]["status"], &paid["payment_intent"]["amount"]),
        (&json!("succeeded"), &json!(750))
    );
    for until in ["trial_period_days]=7".to_owned(), format!("trial_end]={}", NOW + 7 * DAY)] {
        let form = format!("mode=subscription&line_items[0][price]=price_starter_monthly&subscription_data[{until}");
        let offered = lab.made("/v1/checkout/sessions", &format!("{PLACES}&{form}"));
        assert_eq!(offered["amount_total"], 0, "{until}: nothing is paid today");
        let trial = buy(&form);
        assert_eq!(
            (&trial["subscription"]["status"], &trial["payment_status"]),
            (&json!("trialing"), &json!("no_payment_required")),
            "{until}"
        );
    }
    assert_eq!(buy("mode=setup&currency=usd")["status"], "complete");
}

#[test]
fn sessions_expire_and_nonsense_is_refused() {
    let lab = Lab::new(Seed::Business);
    let form = format!("mode=subscription&{PLACES}&line_items[0][price]=price_starter_monthly");
    let session = lab.made("/v1/checkout/sessions", &form);
    let told = lab.told(|lab| lab.advance(DAY));
    assert!(told.iter().any(|name| name == "checkout.session.expired"), "{told:?}");
    assert_eq!(submit(&lab, session["url"].as_str().unwrap(), "card=pm_card_visa").status, 400);
    let other = lab.made("/v1/checkout/sessions", &form)["id"].as_str().unwrap().to_owned();
    assert_eq!(lab.made(&format!("/v1/checkout/sessions/{other}/expire"), "")["status"], "expired");
    for (form, expected) in [
        (format!("{PLACES}&mode=payment"), "parameter_missing line_items"),
        (format!("{PLACES}&mode=payment&line_items[0][price]=price_starter_monthly"), "- line_items[0]"),
        (format!("{PLACES}&mode=subscription&line_items[0][price]=price_x"), "resource_missing line_items[0][price]"),
        ("mode=setup".to_owned(), "parameter_missing success_url"),
        (format!("{PLACES}&mode=setup&expires_at={NOW}"), "- expires_at"),
    ] {
        assert_eq!(lab.post("/v1/checkout/sessions", &form).error(), format!("400 invalid_request_error {expected}"));
    }
}

#[test]
fn the_portal_does_what_its_buttons_say() {
    let lab = Lab::new(Seed::Business);
    let session =
        lab.made("/v1/billing_portal/sessions", "customer=cus_sandbox_user&return_url=https%3A%2F%2Fexample.com");
    let url = session["url"].as_str().unwrap();
    let path = format!("/_sandbox{}", url.split_once("/_sandbox").unwrap().1);
    let page = lab.get(&path);
    assert!(page.status == 200 && page.text.contains("Professional") && page.text.contains("ada@example.com"));
    let subscription = || lab.get("/v1/subscriptions/sub_sandbox_user").body;
    let press = |form: &str| submit(&lab, url, form).status;
    assert_eq!(press("subscription=sub_sandbox_user&do=cancel"), 303);
    assert_eq!(subscription()["cancel_at_period_end"], true);
    assert_eq!(press("subscription=sub_sandbox_user&do=keep"), 303);
    assert_eq!((&subscription()["cancel_at_period_end"], &subscription()["cancel_at"]), (&json!(false), &json!(null)));
    assert_eq!(press("subscription=sub_sandbox_user&do=switch&price=price_enterprise_monthly"), 303);
    assert_eq!(subscription()["items"]["data"][0]["price"]["id"], "price_enterprise_monthly");
    assert_eq!(press("do=card&card=pm_card_mastercard"), 303);
    let default = lab.get("/v1/customers/cus_sandbox_user").body["invoice_settings"]["default_payment_method"].clone();
    assert_eq!(lab.get(&format!("/v1/payment_methods/{}", default.as_str().unwrap())).body["card"]["last4"], "4444");
    assert_eq!(press("subscription=sub_sandbox_011&do=cancel"), 404, "S-02: somebody else's");
    lab.wait(3600);
    assert_eq!(lab.get(&path).status, 400, "an hour is enough");
    assert_eq!(lab.get("/v1/billing_portal/configurations").rows()[0]["is_default"], true);
}

#[test]
fn promotion_codes_are_typed_and_used_up() {
    let lab = Lab::new(Seed::Business);
    lab.made("/v1/coupons", "id=FALL&percent_off=50&duration=once");
    let form = "promotion[type]=coupon&promotion[coupon]=FALL&code=FALL50&max_redemptions=1";
    let code = lab.made("/v1/promotion_codes", form);
    let id = code["id"].as_str().unwrap();
    assert_eq!(lab.get("/v1/promotion_codes?code=FALL50").ids(), [id]);
    assert_eq!(lab.post("/v1/promotion_codes", form).error(), "400 invalid_request_error - code");
    let new = [("Stripe-Version", "2026-09-30.endive")];
    let moved = lab.send("POST", "/v1/promotion_codes", &new, "coupon=FALL").unwrap();
    assert_eq!(moved.error(), "400 invalid_request_error parameter_unknown coupon");
    let customer = lab.payer("pm_card_visa");
    let form = format!("items[0][price]=price_starter_monthly&discounts[0][promotion_code]={id}&expand[]=discounts");
    let made = lab.subscribe(&customer, &form);
    assert_eq!((&made["latest_invoice"]["total"], &made["discounts"][0]["promotion_code"]), (&json!(950), &json!(id)));
    let used = lab.get(&format!("/v1/promotion_codes/{id}")).body;
    assert_eq!((&used["times_redeemed"], &used["active"]), (&json!(1), &json!(false)));
    let again = lab.post("/v1/subscriptions", &format!("customer={customer}&{form}"));
    assert_eq!(again.error(), "400 invalid_request_error - discounts[0][promotion_code]");
    let old = lab.get_as("2025-02-24.acacia", &format!("/v1/promotion_codes/{id}")).body;
    assert_eq!((&old["coupon"]["percent_off"], old.get("promotion")), (&json!(50), None));
}
