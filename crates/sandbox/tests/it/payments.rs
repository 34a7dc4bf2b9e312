//! Payment intents, setup intents and the bank's question, refunds and what invoices become by them.

use crate::lab::{Lab, raw};
use sandbox::Seed;
use serde_json::{Value, json};
use std::time::Duration;

/// Sends a form to one of the pages, as a browser does.
pub fn submit(lab: &Lab, url: &str, form: &str) -> crate::lab::Answer {
    let path = url.split_once("/_sandbox").map(|(_, rest)| format!("/_sandbox{rest}")).unwrap();
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    raw(lab.sandbox().addr(), "POST", &path, &headers, form, Duration::from_secs(10)).unwrap()
}

#[test]
fn cards_do_what_their_numbers_say() {
    let lab = Lab::new(Seed::Empty);
    for (token, expected) in [
        ("pm_card_visa", "200 succeeded"),
        ("pm_card_chargeDeclined", "402 card_declined generic_decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "402 card_declined insufficient_funds"),
        ("pm_card_visa_chargeDeclinedLostCard", "402 card_declined lost_card"),
        ("pm_card_chargeDeclinedExpiredCard", "402 expired_card expired_card"),
        ("pm_card_chargeDeclinedIncorrectCvc", "402 incorrect_cvc incorrect_cvc"),
        ("pm_card_chargeDeclinedProcessingError", "402 processing_error processing_error"),
        ("pm_card_authenticationRequired", "200 requires_action"),
        ("pm_card_nobody", "400 resource_missing -"),
    ] {
        let form = format!("amount=2000&currency=usd&confirm=true&payment_method={token}");
        let answer = lab.post("/v1/payment_intents", &form);
        let (body, error) = (&answer.body, &answer.body["error"]);
        let part = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let seen = match answer.status {
            200 => format!("200 {}", part(&body["status"])),
            status => format!("{status} {} {}", part(&error["code"]), part(&error["decline_code"])),
        };
        assert_eq!(seen, expected, "{token}");
        if answer.status == 402 {
            let id = error["payment_intent"]["id"].as_str().unwrap();
            let kept = lab.get(&format!("/v1/payment_intents/{id}")).body;
            assert_eq!(kept["status"], "requires_payment_method", "{token}");
            assert_eq!(kept["last_payment_error"]["code"], error["code"], "{token}");
        }
    }
}

#[test]
fn steps_of_an_intent() {
    let lab = Lab::new(Seed::Empty);
    let told = lab.told(|lab| {
        let made = lab.made("/v1/payment_intents", "amount=500&currency=usd&capture_method=manual&description=Five");
        let path = format!("/v1/payment_intents/{}", made["id"].as_str().unwrap());
        assert_eq!(made["status"], "requires_payment_method");
        assert_eq!(lab.post(&format!("{path}/confirm"), "").status, 400, "without a method");
        assert_eq!(lab.made(&path, "payment_method=pm_card_visa")["status"], "requires_confirmation");
        let held = lab.made(&format!("{path}/confirm"), "expand[]=latest_charge");
        assert_eq!((&held["status"], &held["amount_capturable"]), (&json!("requires_capture"), &json!(500)));
        assert_eq!(held["latest_charge"]["captured"], false);
        let over = lab.post(&format!("{path}/capture"), "amount_to_capture=501");
        assert_eq!(over.error(), "400 invalid_request_error amount_too_large amount_to_capture");
        let taken = lab.made(&format!("{path}/capture"), "amount_to_capture=400");
        assert_eq!((&taken["status"], &taken["amount_received"]), (&json!("succeeded"), &json!(400)));
        let again = lab.post(&format!("{path}/cancel"), "");
        assert_eq!(again.error(), "400 invalid_request_error payment_intent_unexpected_state -");
    });
    let expected = [
        "payment_intent.created",
        "charge.succeeded",
        "charge.updated",
        "payment_intent.amount_capturable_updated",
        "charge.captured",
        "payment_intent.succeeded",
    ];
    assert_eq!(told, expected);
    let other = lab.made("/v1/payment_intents", "amount=500&currency=usd")["id"].as_str().unwrap().to_owned();
    let gone = lab.made(&format!("/v1/payment_intents/{other}/cancel"), "cancellation_reason=abandoned");
    assert_eq!((&gone["status"], &gone["cancellation_reason"]), (&json!("canceled"), &json!("abandoned")));
}

/// The name of the parameter changed with endive: each age refuses the other's.
#[test]
fn parameters_of_another_age_are_refused() {
    let lab = Lab::new(Seed::Business);
    let form = "amount=500&currency=usd&payment_method_types[]=card";
    let new = [("Stripe-Version", "2026-09-30.endive")];
    assert_eq!(
        lab.send("POST", "/v1/payment_intents", &new, form).unwrap().error(),
        "400 invalid_request_error parameter_unknown payment_method_types"
    );
    let old = [("Stripe-Version", "2026-03-25.dahlia")];
    assert_eq!(lab.send("POST", "/v1/payment_intents", &old, form).unwrap().status, 200);
    let path = "/v1/subscriptions/sub_sandbox_user";
    assert_eq!(lab.post("/v1/payment_intents", form).status, 200, "who names no version is not held to the newest");
    let anchor = lab.send("POST", path, &new, "billing_cycle_anchor=now").unwrap();
    assert_eq!(anchor.error(), "400 invalid_request_error - billing_cycle_anchor");
    assert_eq!(lab.send("POST", path, &old, "billing_cycle_anchor=now").unwrap().status, 200);
}

#[test]
fn the_bank_asks_the_owner() {
    for (outcome, status, told) in
        [("complete", "active", "invoice.paid"), ("fail", "incomplete", "payment_intent.payment_failed")]
    {
        let lab = Lab::new(Seed::Business);
        let customer = lab.payer("pm_card_authenticationRequired");
        let made = lab.subscribe(&customer, "items[0][price]=price_starter_monthly&expand[]=latest_invoice.payments");
        assert_eq!(made["status"], "incomplete");
        let intent = made["latest_invoice"]["payments"]["data"][0]["payment"]["payment_intent"].as_str().unwrap();
        let intent = lab.get(&format!("/v1/payment_intents/{intent}")).body;
        assert_eq!(intent["status"], "requires_action");
        let url = intent["next_action"]["redirect_to_url"]["url"].as_str().unwrap();
        let events = lab.told(|lab| {
            let page = submit(lab, url, &format!("outcome={outcome}"));
            assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
        });
        assert!(events.iter().any(|name| name == told), "{outcome}: {events:?}");
        let now = lab.get(&format!("/v1/subscriptions/{}", made["id"].as_str().unwrap())).body;
        assert_eq!(now["status"], status, "{outcome}");
        assert_eq!(submit(&lab, url, "outcome=complete").status, 400, "asked once");
    }
    let lab = Lab::new(Seed::Empty);
    let form = "amount=100&currency=usd&confirm=true&off_session=true&payment_method=pm_card_authenticationRequired";
    assert_eq!(lab.post("/v1/payment_intents", form).error(), "402 card_error authentication_required -");
}

#[test]
fn methods_are_set_up_for_later() {
    let lab = Lab::new(Seed::Empty);
    let customer = lab.made("/v1/customers", "name=Eve")["id"].as_str().unwrap().to_owned();
    let set_up = |token: &str| {
        lab.post("/v1/setup_intents", &format!("customer={customer}&confirm=true&payment_method={token}"))
    };
    let good = set_up("pm_card_visa").body;
    assert_eq!(good["status"], "succeeded");
    assert_eq!(
        lab.get(&format!("/v1/customers/{customer}/payment_methods")).ids(),
        [good["payment_method"].as_str().unwrap()]
    );
    assert_eq!(set_up("pm_card_chargeDeclined").error(), "402 card_error card_declined -");
    let asked = set_up("pm_card_authenticationRequiredOnSetup").body;
    assert_eq!(asked["status"], "requires_action");
    submit(&lab, asked["next_action"]["redirect_to_url"]["url"].as_str().unwrap(), "outcome=complete");
    let now = lab.get(&format!("/v1/setup_intents/{}", asked["id"].as_str().unwrap())).body;
    assert_eq!(now["status"], "succeeded");
    assert_eq!(lab.get(&format!("/v1/customers/{customer}/payment_methods")).rows().len(), 2);
}
