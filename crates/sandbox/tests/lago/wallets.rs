//! Wallets and their transactions: contract case 29.

use crate::lab::{Lab, event};
use serde_json::{Value, json};

fn wallet(lab: &Lab, more: Value) -> Value {
    let mut wallet = json!({"external_customer_id": "ada", "rate_amount": "0.5", "currency": "USD", "name": "credits"});
    wallet.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    lab.made("/wallets", json!({ "wallet": wallet }))["wallet"].clone()
}

fn balance(lab: &Lab, wallet: &Value) -> String {
    let shown = lab.get(&format!("/wallets/{}", wallet["lago_id"].as_str().unwrap())).body["wallet"].clone();
    format!("{} {}", shown["credits_balance"].as_str().unwrap(), shown["balance_cents"])
}

fn top_up(lab: &Lab, wallet: &Value, more: Value) -> crate::lab::Answer {
    let mut transaction = json!({"wallet_id": wallet["lago_id"]});
    transaction.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    lab.post("/wallet_transactions", &json!({ "wallet_transaction": transaction }))
}

#[test]
fn case_29_granted_credits_are_there_and_paid_ones_wait_for_the_payment() {
    let lab = Lab::furnished();
    let wallet = wallet(&lab, json!({"granted_credits": "10"}));
    assert_eq!(
        (&wallet["credits_balance"], &wallet["rate_amount"]),
        (&json!("0.0"), &json!("0.5")),
        "a job puts them in"
    );
    assert_eq!(balance(&lab, &wallet), "10.0 500");
    let made = top_up(
        &lab,
        &wallet,
        json!({"paid_credits": "4", "granted_credits": "1.000009", "metadata": [{"key": "ours", "value": "1"}]}),
    );
    let made = made.body["wallet_transactions"].clone();
    let kinds: Vec<String> = made
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            format!(
                "{} {} {}",
                one["transaction_status"].as_str().unwrap(),
                one["status"].as_str().unwrap(),
                one["credit_amount"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(kinds, ["purchased pending 4.0", "granted settled 1.0"]);
    assert_eq!(balance(&lab, &wallet), "11.0 550");
    let invoice = made[0]["lago_invoice_id"].as_str().unwrap();
    assert_eq!(lab.get(&format!("/invoices/{invoice}")).body["invoice"]["total_amount_cents"], 200);
    lab.put(&format!("/invoices/{invoice}"), &json!({"invoice": {"payment_status": "succeeded"}}));
    assert_eq!(balance(&lab, &wallet), "15.0 750");
    let listed = lab.get(&format!("/wallets/{}/wallet_transactions", wallet["lago_id"].as_str().unwrap())).body;
    assert_eq!(listed["meta"]["total_count"], 3);
}

#[test]
fn case_29_what_is_refused() {
    let lab = Lab::furnished();
    let wallet = wallet(&lab, json!({"granted_credits": "10", "paid_top_up_min_amount_cents": 100}));
    for (more, wanted) in [
        (json!({"wallet_id": "none"}), r#"{"wallet_id":["wallet_not_found"]}"#),
        (json!({"paid_credits": "1"}), r#"{"paid_credits":["amount_below_minimum"]}"#),
        (json!({"paid_credits": "many"}), r#"{"paid_credits":["invalid_paid_credits","invalid_amount"]}"#),
        (json!({"granted_credits": "0.000001"}), r#"{"granted_credits":["amount_rounds_to_zero"]}"#),
        (json!({"voided_credits": "10.1"}), r#"{"voided_credits":["insufficient_credits"]}"#),
    ] {
        assert_eq!(top_up(&lab, &wallet, more).details(), wanted);
    }
    assert_eq!(top_up(&lab, &wallet, json!({"voided_credits": "4"})).status, 200);
    assert_eq!(balance(&lab, &wallet), "6.0 300");
}

#[test]
fn case_29_a_repeated_request_doubles_the_credit() {
    let lab = Lab::furnished();
    let wallet = wallet(&lab, json!({}));
    for _ in 0..2 {
        top_up(&lab, &wallet, json!({"granted_credits": "5", "metadata": [{"key": "ours", "value": "same"}]}));
    }
    assert_eq!(balance(&lab, &wallet), "10.0 500");
}

#[test]
fn wallets_of_customers() {
    let lab = Lab::furnished();
    let ask = |more: Value| {
        let mut wallet = json!({"external_customer_id": "ada", "rate_amount": "1", "currency": "USD"});
        wallet.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        lab.post("/wallets", &json!({ "wallet": wallet }))
    };
    for (more, wanted) in [
        (json!({"external_customer_id": "nobody"}), r#"{"customer":["customer_not_found"]}"#),
        (json!({"currency": "EUR"}), r#"{"currency":["currencies_does_not_match"]}"#),
        (json!({"granted_credits": "-1"}), r#"{"granted_credits":["invalid_granted_credits","invalid_amount"]}"#),
        (json!({"expiration_at": "2026-01-01T00:00:00Z"}), r#"{"expiration_at":["invalid_date"]}"#),
    ] {
        assert_eq!(ask(more).details(), wanted);
    }
    for _ in 0..6 {
        assert_eq!(ask(json!({})).status, 200);
    }
    assert_eq!(ask(json!({})).details(), r#"{"customer":["wallet_limit_reached"]}"#);
    assert_eq!(lab.get("/wallets?external_customer_id=ada").body["meta"]["total_count"], 6);
    assert_eq!(lab.get("/wallets?external_customer_id=nobody").error(), "404 customer_not_found null");
}

#[test]
fn a_period_is_paid_out_of_the_wallet() {
    let lab = Lab::furnished();
    let wallet = wallet(&lab, json!({"granted_credits": "1"}));
    lab.batch((0..100).map(|number| event(&format!("t{number}"), "1.5")).collect());
    assert_eq!(balance(&lab, &wallet), "1.0 50", "it is only debited when the period is billed");
    lab.set_clock("2026-12-01T00:00:00Z");
    assert_eq!(balance(&lab, &wallet), "0.0 0");
    let invoice = lab.get("/invoices").body["invoices"][0].clone();
    let shown = ["fees_amount_cents", "prepaid_credit_amount_cents", "total_amount_cents"]
        .map(|member| invoice[member].clone());
    assert_eq!(shown, [json!(75), json!(50), json!(25)]);
}
