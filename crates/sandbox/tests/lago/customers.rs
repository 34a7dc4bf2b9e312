//! Customers: contract case 22.

use crate::lab::Lab;
use serde_json::json;

#[test]
fn case_22_an_upsert_changes_what_is_sent() {
    let lab = Lab::new();
    let save = |customer| lab.made("/customers", json!({ "customer": customer }))["customer"].clone();
    let first = save(
        json!({"external_id": "ada", "name": "Ada", "email": "ada@example.com", "metadata": [{"key": "a", "value": "1"}]}),
    );
    let second = save(
        json!({"external_id": "ada", "name": null, "timezone": "Europe/Paris", "billing_configuration": {"payment_provider": "stripe"}}),
    );
    assert_eq!(first["lago_id"], second["lago_id"]);
    for (member, wanted) in [
        ("name", json!(null)),
        ("email", json!("ada@example.com")),
        ("timezone", json!("Europe/Paris")),
        ("applicable_timezone", json!("Europe/Paris")),
    ] {
        assert_eq!(second[member], wanted, "{member}");
    }
    assert_eq!(second["metadata"][0]["key"], "a");
    assert_eq!(second["billing_configuration"]["payment_provider"], "stripe");
    assert_eq!(lab.get("/customers/ada").body["customer"], second);
    assert_eq!(lab.get("/customers").body["meta"]["total_count"], 1);
}

#[test]
fn what_is_wrong_is_named() {
    let lab = Lab::new();
    for (member, value, code) in [
        ("currency", "EURO", "value_is_invalid"),
        ("email", "nobody", "invalid_email_format"),
        ("timezone", "Mars/Olympus", "value_is_invalid"),
    ] {
        let answer = lab.post("/customers", &json!({"customer": {"external_id": "ada", member: value}}));
        assert_eq!(answer.details(), format!(r#"{{"{member}":["{code}"]}}"#));
    }
    assert_eq!(lab.get("/customers/ada").status, 404);
}

#[test]
fn who_is_deleted_has_no_subscription_and_the_id_is_free() {
    let lab = Lab::furnished();
    let first = lab.delete("/customers/ada").body["customer"]["lago_id"].clone();
    assert_eq!(lab.get("/customers/ada").status, 404);
    assert_eq!(lab.get("/subscriptions/sub").status, 404);
    lab.subscribe("ada", "sub", "basic", "2026-11-22");
    assert_ne!(lab.get("/customers/ada").body["customer"]["lago_id"], first);
}
