//! Disputes: opened by the owners of test cards, answered with evidence, decided by the bank.

use crate::lab::Lab;
use sandbox::Seed;
use serde_json::{Value, json};

const DAY: i64 = 24 * 60 * 60;

/// A payment with this card, and the dispute about it.
fn disputed(lab: &Lab, card: &str) -> Value {
    let form = format!("amount=2000&currency=usd&confirm=true&payment_method=pm_card_{card}");
    let intent = lab.made("/v1/payment_intents", &form)["id"].as_str().unwrap().to_owned();
    let found = lab.get(&format!("/v1/disputes?payment_intent={intent}&expand[]=data.charge"));
    assert_eq!(found.rows().len(), 1, "{card}: {}", found.text);
    found.rows()[0].clone()
}

fn path(dispute: &Value) -> String {
    format!("/v1/disputes/{}", dispute["id"].as_str().unwrap())
}

/// What our balance was moved by.
fn booked(dispute: &Value) -> Vec<i64> {
    dispute["balance_transactions"].as_array().unwrap().iter().map(|row| row["net"].as_i64().unwrap()).collect()
}

#[test]
fn evidence_decides() {
    let lab = Lab::new(Seed::Empty);
    let evidence = |text: &str| format!("evidence[uncategorized_text]={text}&evidence[customer_name]=Ada");
    for (card, answer, asked, status, net, told) in [
        (
            "createDispute",
            "winning_evidence",
            "under_review",
            "won",
            vec![2000, -3500],
            "updated closed funds_reinstated",
        ),
        ("createDispute", "losing_evidence", "under_review", "lost", vec![-3500], "updated closed"),
        ("createDispute", "an_honest_letter", "under_review", "under_review", vec![-3500], "updated"),
        (
            "createDisputeInquiry",
            "winning_evidence",
            "warning_under_review",
            "warning_closed",
            vec![],
            "updated closed",
        ),
        (
            "createDisputeInquiry",
            "escalate_inquiry_evidence",
            "warning_under_review",
            "needs_response",
            vec![-3500],
            "updated updated funds_withdrawn",
        ),
    ] {
        let case = format!("{card} {answer}");
        let begun = disputed(&lab, card);
        assert_eq!(begun["charge"]["disputed"], true, "{case}");
        let last = lab.last_event();
        let sent = lab.made(&path(&begun), &evidence(answer));
        assert_eq!(
            (&sent["status"], &sent["evidence_details"]["submission_count"]),
            (&json!(asked), &json!(1)),
            "{case}"
        );
        let ended = lab.get(&path(&begun)).body;
        assert_eq!((&ended["status"], booked(&ended)), (&json!(status), net), "{case}");
        let events = lab.events_since(&last);
        let names = events.iter().map(|event| event["type"].as_str().unwrap());
        let names: Vec<&str> = names.map(|name| name.strip_prefix("charge.dispute.").unwrap()).collect();
        assert_eq!(names.join(" "), told, "{case}");
    }
}

#[test]
fn silence_loses_and_closing_is_final() {
    let lab = Lab::new(Seed::Empty);
    let (silent, asked, closed) =
        (disputed(&lab, "createDispute"), disputed(&lab, "createDisputeInquiry"), disputed(&lab, "createDispute"));
    assert_eq!(lab.made(&format!("{}/close", path(&closed)), "")["status"], "lost");
    for (place, form) in [("", "evidence[customer_name]=Ada"), ("/close", "")] {
        let again = lab.post(&format!("{}{place}", path(&closed)), form);
        assert_eq!(again.error(), "400 invalid_request_error - -", "{place}");
    }
    assert_eq!(lab.made(&path(&closed), "metadata[a]=b")["metadata"], json!({"a": "b"}));
    lab.advance(8 * DAY);
    assert_eq!(lab.get(&path(&silent)).body["status"], "needs_response");
    lab.advance(2 * DAY);
    assert_eq!(lab.get(&path(&silent)).body["status"], "lost");
    assert_eq!(lab.get(&path(&asked)).body["status"], "warning_closed");
}

#[test]
fn evidence_may_be_held_back() {
    let lab = Lab::new(Seed::Empty);
    let dispute = disputed(&lab, "createDispute");
    let held = lab.made(&path(&dispute), "evidence[uncategorized_text]=winning_evidence&submit=false");
    assert_eq!((&held["status"], &held["evidence_details"]["has_evidence"]), (&json!("needs_response"), &json!(true)));
    assert_eq!(lab.made(&path(&dispute), "submit=true")["status"], "under_review");
    assert_eq!(lab.get(&path(&dispute)).body["status"], "won");
}

#[test]
fn what_the_bank_took_is_not_given_back() {
    let lab = Lab::new(Seed::Empty);
    let refund =
        |dispute: &Value| lab.post("/v1/refunds", &format!("charge={}", dispute["charge"]["id"].as_str().unwrap()));
    let taken = disputed(&lab, "createDisputeProductNotReceived");
    assert_eq!((&taken["reason"], &taken["is_charge_refundable"]), (&json!("product_not_received"), &json!(false)));
    assert_eq!(refund(&taken).error(), "400 invalid_request_error charge_disputed -");
    assert_eq!(refund(&disputed(&lab, "createDisputeInquiry")).status, 200, "the bank has only asked");
}

#[test]
fn bad_requests_are_refused() {
    let lab = Lab::new(Seed::Empty);
    let place = path(&disputed(&lab, "createDispute"));
    for (path, form, expected) in [
        (place.as_str(), "status=won", "400 invalid_request_error parameter_unknown status"),
        (&place, "evidence[mood]=bad", "400 invalid_request_error parameter_unknown evidence[mood]"),
        (&place, "evidence=x", "400 invalid_request_error - evidence"),
        (&place, "submit=perhaps", "400 invalid_request_error - submit"),
        ("/v1/disputes/du_x", "", "404 invalid_request_error resource_missing dispute"),
        ("/v1/disputes/du_x/close", "", "404 invalid_request_error resource_missing dispute"),
    ] {
        assert_eq!(lab.post(path, form).error(), expected, "{path} {form}");
    }
    assert_eq!(lab.get("/v1/disputes?charge=ch_x").rows().len(), 0);
    assert_eq!(lab.get("/v1/disputes?status=won").error(), "400 invalid_request_error parameter_unknown status");
}
