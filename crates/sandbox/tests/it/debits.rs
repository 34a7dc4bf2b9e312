//! Bank debits: nobody knows at once whether they will be paid.

use crate::lab::Lab;
use sandbox::Seed;
use serde_json::{Value, json};

const GOOD: &str = "AT611904300234573201";
const POOR: &str = "IT60X0542811101000000123456";

fn account(lab: &Lab, iban: &str) -> String {
    let form = format!("type=sepa_debit&sepa_debit[iban]={iban}&billing_details[email]=ada@example.com");
    lab.made("/v1/payment_methods", &form)["id"].as_str().unwrap().to_owned()
}

fn status(lab: &Lab, path: &str, id: &Value) -> Value {
    lab.get(&format!("/v1/{path}/{}", id.as_str().unwrap())).body["status"].clone()
}

#[test]
fn a_debit_is_processing_until_the_bank_has_spoken() {
    let lab = Lab::new(Seed::Empty);
    for (iban, intent_at_last, charge_at_last) in
        [(GOOD, "succeeded", "succeeded"), (POOR, "requires_payment_method", "failed")]
    {
        let last = lab.last_event();
        let method = account(&lab, iban);
        let form = format!("amount=1000&currency=eur&confirm=true&payment_method={method}&expand[]=latest_charge");
        let asked = lab.made("/v1/payment_intents", &form);
        let charge = &asked["latest_charge"];
        assert_eq!((&asked["status"], &charge["status"]), (&json!("processing"), &json!("pending")), "{iban}");
        assert_eq!((&charge["paid"], &asked["amount_received"]), (&json!(false), &json!(0)), "{iban}");
        assert_eq!(status(&lab, "payment_intents", &asked["id"]), intent_at_last);
        assert_eq!(status(&lab, "charges", &charge["id"]), charge_at_last);
        let told = lab.events_since(&last);
        let told: Vec<&str> = told.iter().map(|event| event["type"].as_str().unwrap()).collect();
        let ended = if iban == GOOD { "payment_intent.succeeded" } else { "payment_intent.payment_failed" };
        let charged = format!("charge.{charge_at_last}");
        let expected = ["payment_intent.created", "charge.pending", "payment_intent.processing", &charged, ended];
        assert_eq!(told, expected, "{iban}");
    }
}

#[test]
fn a_session_is_complete_before_it_is_paid() {
    let lab = Lab::new(Seed::Empty);
    for (iban, paid, told) in [
        (GOOD, "paid", "checkout.session.async_payment_succeeded"),
        (POOR, "unpaid", "checkout.session.async_payment_failed"),
    ] {
        let line = "line_items[0][quantity]=2&line_items[0][price_data][currency]=eur\
                    &line_items[0][price_data][unit_amount]=1500&line_items[0][price_data][product_data][name]=Wig";
        let form = format!("mode=payment&payment_method_types[]=sepa_debit&success_url=https://example.com&{line}");
        let session = lab.made("/v1/checkout/sessions", &form);
        let id = session["id"].as_str().unwrap();
        let method = account(&lab, iban);
        let done = lab.made(&format!("/v1/payment_pages/{id}/confirm"), &format!("payment_method={method}"));
        assert_eq!((&done["status"], &done["payment_status"]), (&json!("complete"), &json!("unpaid")), "{iban}");
        assert_eq!(lab.get(&format!("/v1/checkout/sessions/{id}")).body["payment_status"], paid, "{iban}");
        let told = lab.get(&format!("/v1/events?type={told}"));
        assert_eq!(told.rows()[0]["data"]["object"]["id"], *id, "{iban}");
    }
}
