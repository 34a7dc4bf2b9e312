//! Refusals: keys, versions, paths, parameters, and the shape of an error.

use crate::lab::{Lab, raw};
use sandbox::Seed;
use std::time::Duration;

fn asked_with(lab: &Lab, headers: &[(&str, &str)]) -> crate::lab::Answer {
    raw(lab.sandbox().addr(), "GET", "/v1/customers", headers, "", Duration::from_secs(5)).unwrap()
}

#[test]
fn keys_are_judged_first() {
    let lab = Lab::new(Seed::Empty);
    for (header, status) in [
        ("Bearer sk_test_lab", 200),
        ("bearer sk_test_lab", 200),
        ("Basic c2tfdGVzdF9sYWI6", 200),     // sk_test_lab:
        ("Basic c2tfdGVzdF9sYWI6eHg=", 200), // sk_test_lab:xx
        ("Basic !!!", 401),
        ("Bearer sk_test_other", 401),
        ("Bearer ", 401),
        ("sk_test_lab", 401),
    ] {
        assert_eq!(asked_with(&lab, &[("Authorization", header)]).status, status, "{header}");
    }
    let none = asked_with(&lab, &[]);
    assert_eq!(none.error(), "401 invalid_request_error - -");
    assert!(none.body["error"]["message"].as_str().unwrap().starts_with("You did not provide an API key."));
    assert_eq!(none.header("www-authenticate"), "Bearer realm=\"Stripe\"");
}

/// S-56: a refused key is recognisable in the answer, not usable.
#[test]
fn a_refused_key_is_masked() {
    let lab = Lab::new(Seed::Empty);
    let answer = asked_with(&lab, &[("Authorization", "Bearer sk_test_51abcdefghijklmnop9876")]);
    assert_eq!(answer.body["error"]["message"], "Invalid API Key provided: sk_test_******************9876");
}

#[test]
fn the_shape_of_an_error_and_the_headers_of_every_answer() {
    let lab = Lab::new(Seed::Empty);
    let answer = lab.get("/v1/customers/cus_nobody");
    assert_eq!(answer.status, 404);
    let error = &answer.body["error"];
    assert_eq!(error["code"], "resource_missing");
    assert_eq!(error["doc_url"], "https://stripe.com/docs/error-codes/resource-missing");
    assert_eq!(error["message"], "No such customer: 'cus_nobody'");
    assert_eq!((&error["param"], &error["type"]), (&"id".into(), &"invalid_request_error".into()));
    let request = answer.header("request-id");
    assert!(request.starts_with("req_") && error["request_log_url"].as_str().unwrap().ends_with(request));
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("stripe-version"), "2026-09-30.endive");
    assert_eq!(answer.header("date"), "Sun, 22 Nov 2026 10:00:00 GMT");
    assert_ne!(lab.get("/v1/customers").header("request-id"), request);
}

#[test]
fn versions_are_echoed_or_refused() {
    let lab = Lab::new(Seed::Empty);
    for version in ["2020-08-27", "2025-03-31.basil", "2099-01-01.zinnia"] {
        let answer = lab.get_as(version, "/v1/customers");
        assert_eq!((answer.status, answer.header("stripe-version")), (200, version));
    }
    let answer = lab.get_as("tomorrow", "/v1/customers");
    assert_eq!(answer.error(), "400 invalid_request_error - -");
    assert!(answer.body["error"]["message"].as_str().unwrap().starts_with("Invalid Stripe API version: tomorrow."));
}

#[test]
fn what_does_not_exist_is_named() {
    let lab = Lab::new(Seed::Business);
    let missing = "404 invalid_request_error resource_missing";
    for (method, path, form, expected) in [
        ("GET", "/v1/nothing", "", "404 invalid_request_error - -".to_owned()),
        ("GET", "/v1/customers/", "", "404 invalid_request_error - -".to_owned()),
        ("PUT", "/v1/customers", "", "404 invalid_request_error - -".to_owned()),
        ("GET", "/v1/prices/price_x", "", format!("{missing} price")),
        ("GET", "/v1/plans/price_x", "", format!("{missing} plan")),
        ("GET", "/v1/invoices/in_x", "", format!("{missing} invoice")),
        ("GET", "/v1/payment_intents/pi_x", "", format!("{missing} intent")),
        ("GET", "/v1/payment_methods/pm_x", "", format!("{missing} payment_method")),
        (
            "GET",
            "/v1/customers/cus_sandbox_001/payment_methods/pm_sandbox_user",
            "",
            format!("{missing} payment_method"),
        ),
        ("GET", "/v1/customers/cus_x/payment_methods", "", format!("{missing} id")),
        ("DELETE", "/v1/coupons/X", "", format!("{missing} coupon")),
        ("DELETE", "/v1/subscriptions/sub_sandbox_120", "", format!("{missing} id")),
        ("POST", "/v1/refunds", "charge=ch_x", "400 invalid_request_error resource_missing charge".to_owned()),
        (
            "POST",
            "/v1/subscriptions",
            "customer=cus_x&items[0][price]=price_starter_monthly",
            "400 invalid_request_error resource_missing customer".to_owned(),
        ),
        (
            "POST",
            "/v1/subscriptions",
            "customer=cus_sandbox_user&items[0][price]=price_x",
            "400 invalid_request_error resource_missing items[0][price]".to_owned(),
        ),
    ] {
        assert_eq!(lab.send(method, path, &[], form).unwrap().error(), expected, "{method} {path} {form}");
    }
}

#[test]
fn bad_parameters_change_nothing() {
    let lab = Lab::new(Seed::Business);
    let bad = "400 invalid_request_error";
    let newest = lab.get("/v1/customers?limit=1").text;
    for (path, form, expected) in [
        ("/v1/customers", "nmae=x", "parameter_unknown nmae"),
        ("/v1/customers", "email=nobody", "email_invalid email"),
        ("/v1/customers", "expand[]=nothing", "- -"),
        ("/v1/products", "", "parameter_missing name"),
        ("/v1/products", "name=x&id=prod_trial", "resource_already_exists id"),
        ("/v1/prices", "currency=usd&product=prod_trial", "parameter_missing unit_amount"),
        ("/v1/prices", "currency=dollars&product=prod_trial&unit_amount=1", "- currency"),
        ("/v1/prices", "currency=usd&product=prod_trial&unit_amount=1&lookup_key=trial_monthly", "- lookup_key"),
        ("/v1/coupons", "duration=once", "- percent_off"),
        ("/v1/coupons", "percent_off=101", "- percent_off"),
        ("/v1/coupons", "percent_off=10&duration=repeating", "parameter_missing duration_in_months"),
        ("/v1/subscriptions", "customer=cus_sandbox_user", "parameter_missing items"),
        ("/v1/subscriptions", "customer=cus_sandbox_149&items[0][price]=price_starter_monthly", "resource_missing -"),
        (
            "/v1/subscriptions",
            "customer=cus_sandbox_user&items[0][price]=price_starter_monthly&items[1][price]=price_professional_monthly_jpy",
            "- -",
        ),
        (
            "/v1/subscriptions",
            "customer=cus_sandbox_user&items[0][price]=price_starter_monthly&application_fee_percent=5",
            "sandbox_unsupported application_fee_percent",
        ),
        ("/v1/refunds", "charge=ch_sandbox_user_6&amount=4901", "- amount"),
        ("/v1/refunds", "", "- -"),
    ] {
        assert_eq!(lab.post(path, form).error(), format!("{bad} {expected}"), "{path} {form}");
    }
    assert_eq!(lab.get("/v1/customers?limit=1").text, newest);
    assert_eq!(lab.get("/v1/coupons").rows().len(), 2);
    assert_eq!(lab.get("/v1/products").rows().len(), 5);
    assert_eq!(lab.get("/v1/charges/ch_sandbox_user_6").body["amount_refunded"], 0);
}

#[test]
fn a_body_that_is_too_large_is_refused() {
    let lab = Lab::new(Seed::Empty);
    let form = format!("name={}", "x".repeat(1_100_000));
    assert_eq!(lab.post("/v1/customers", &form).status, 413);
}
