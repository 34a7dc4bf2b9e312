//! Answers against the OpenAPI document.

use jiff::Timestamp;
use serde_json::Value;

use super::SUBSCRIPTIONS;
use crate::access::{Operation, session_operations};
use crate::endpoints::use_some;
use crate::harness::World;

/// What a value breaks of a schema of the document; nothing when it fits. Stricter than the standard in one point: a member
/// that the schema does not name is a fault.
pub fn check(value: &Value, schema: &Value) -> Vec<String> {
    let document = billhook::http::openapi::document();
    let mut faults = Vec::new();
    hold(&document, value, schema, "", &mut faults);
    faults
}

fn hold(document: &Value, value: &Value, schema: &Value, at: &str, faults: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let target = document.pointer(name.trim_start_matches('#')).unwrap_or_else(|| panic!("{name} leads nowhere"));
        return hold(document, value, target, at, faults);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let fits = |choice: &&Value| {
            let mut found = Vec::new();
            hold(document, value, choice, at, &mut found);
            found.is_empty()
        };
        if choices.iter().filter(fits).count() != 1 {
            faults.push(format!("{at}: {value} is not exactly one of {}", schema["oneOf"]));
        }
        return;
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        other => panic!("{at}: a schema without a type: {other} in {schema}"),
    };
    if !types.iter().any(|name| is_of(value, name)) {
        faults.push(format!("{at}: {value} is not {types:?}"));
        return;
    }
    if schema["format"] == "date-time" && !value.as_str().is_some_and(is_time) {
        faults.push(format!("{at}: {value} is not a time"));
    }
    if schema["minimum"].as_i64().is_some_and(|least| value.as_i64().is_some_and(|number| number < least)) {
        faults.push(format!("{at}: {value} is below {}", schema["minimum"]));
    }
    for (number, item) in value.as_array().into_iter().flatten().enumerate() {
        hold(document, item, &schema["items"], &format!("{at}/{number}"), faults);
    }
    if let Some(members) = value.as_object() {
        hold_members(document, members, schema, at, faults);
    }
}

fn hold_members(
    document: &Value,
    members: &serde_json::Map<String, Value>,
    schema: &Value,
    at: &str,
    faults: &mut Vec<String>,
) {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let missing = required.iter().filter_map(Value::as_str).filter(|name| !members.contains_key(*name));
    faults.extend(missing.map(|name| format!("{at}/{name} is missing")));
    for (name, member) in members {
        let named = &schema["properties"][name];
        let schema = if named.is_null() { &schema["additionalProperties"] } else { named };
        match schema {
            Value::Null | Value::Bool(_) => faults.push(format!("{at}/{name} is not in the document")),
            schema => hold(document, member, schema, &format!("{at}/{name}"), faults),
        }
    }
}

fn is_of(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("unknown type {other}"),
    }
}

/// RFC 3339, UTC, whole seconds, `Z`.
fn is_time(text: &str) -> bool {
    text.len() == 20 && text.ends_with('Z') && text.parse::<Timestamp>().is_ok()
}

#[test]
fn the_checker_finds_what_is_planted() {
    let schema = serde_json::json!({ "$ref": "#/components/schemas/PaymentMethod" });
    let good = serde_json::json!({ "id": "pm_1", "type": "card", "card": null, "created": "2026-11-22T10:00:00Z" });
    assert_eq!(check(&good, &schema), [""; 0]);
    for (pointer, value) in [
        ("/id", serde_json::json!(7)),
        ("/created", serde_json::json!("2026-11-22T10:00:00.5Z")),
        ("/card", serde_json::json!("none")),
        ("/card", serde_json::json!({ "last4": 4242 })),
        ("/type", Value::Null),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).expect("member") = value;
        assert_eq!(check(&bad, &schema).len(), 1, "{bad}");
    }
    for bad in [
        serde_json::json!({ "id": "pm_1", "type": "card", "card": null }),
        serde_json::json!([]),
        serde_json::json!({ "id": "p", "type": "c", "card": null, "created": "2026-11-22T10:00:00Z", "more": 1 }),
    ] {
        assert_eq!(check(&bad, &schema).len(), 1, "{bad}");
    }
}

/// Every member that a schema names, followed through references: what an answer must not leave out, null or not.
fn leaves_out(value: &Value, schema: &Value, at: &str, faults: &mut Vec<String>) {
    let document = billhook::http::openapi::document();
    let mut schema = schema.clone();
    while let Some(name) = schema["$ref"].as_str().map(str::to_owned) {
        schema = document.pointer(name.trim_start_matches('#')).expect("target").clone();
    }
    for item in value.as_array().into_iter().flatten() {
        leaves_out(item, &schema["items"], &format!("{at}/-"), faults);
    }
    for (name, member) in schema["properties"].as_object().into_iter().flatten().filter(|_| value.is_object()) {
        match value.get(name) {
            None => faults.push(format!("{at}/{name}")),
            Some(found) => leaves_out(found, member, &format!("{at}/{name}"), faults),
        }
    }
}

#[tokio::test]
async fn every_answer_of_every_operation_fits_the_document() {
    let world = World::new().await;
    let (user, ada) = world.user("ada@example.com", Some(sandbox::USER_CUSTOMER), false).await;
    use_some(&world, &user).await;
    let (admin, nobody) = (world.admin().await, world.user("nobody@here.test", None, false).await.1);
    let mut looked_at = 0;
    for Operation { path, role, described, .. } in session_operations() {
        let schema = &described["responses"]["200"]["content"]["application/json"]["schema"];
        let tokens = if role == "admin" { vec![&admin] } else { vec![&ada, &admin, &nobody] };
        let queries = if path == SUBSCRIPTIONS { vec!["", "?status=all&limit=1000", "?limit=1"] } else { vec![""] };
        for (token, query) in tokens.iter().flat_map(|token| queries.iter().map(move |query| (token, query))) {
            let answer = world.get(&format!("{path}{query}"), token).await;
            assert_eq!(answer.header("content-type"), Some("application/json"), "{path}");
            let mut faults = check(&answer.json(), schema);
            leaves_out(&answer.json(), schema, "", &mut faults);
            assert!(faults.is_empty(), "{path}{query}: {faults:#?}");
            looked_at += 1;
        }
    }
    assert_eq!(looked_at, 4 * 3 + 4 + 3);
}
