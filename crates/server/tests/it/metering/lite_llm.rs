//! LiteLLM's generic callback, as it sends it.

use serde_json::{Value, json};

use super::{Meter, fault};

const PATH: &str = "/api/v1/usage/litellm";

/// A logged call with the members that LiteLLM fills, most of which are none of our business.
fn call(meter: &Meter, id: &str) -> Value {
    json!({
        "id": format!("chatcmpl-{id}"), "trace_id": "t1", "call_id": id, "call_type": "acompletion", "stream": false,
        "response_cost": 0.000_031_5, "status": "success", "custom_llm_provider": "openai", "total_tokens": 30, "prompt_tokens": 10,
        "completion_tokens": 20, "startTime": 1_795_341_580.123_456, "endTime": 1_795_341_590.654_321, "model": "gpt-4o",
        "metadata": { "user_api_key_hash": "h", "user_api_key_end_user_id": meter.user, "user_api_key_user_id": "owner" },
        "cache_hit": null, "end_user": "somebody", "messages": [{ "role": "user", "content": "canary" }], "response": { "a": [1] },
        "hidden_params": { "x": null }, "model_parameters": {}, "request_tags": [],
    })
}

fn words(answer: &Value) -> Vec<&str> {
    answer["results"].as_array().expect("results").iter().map(|result| result["status"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn calls_are_counted_once_by_their_call_id_in_every_framing() {
    let meter = Meter::new().await;
    let (a, b) = (call(&meter, "a"), call(&meter, "b"));
    let list = meter.post(PATH, &json!([a, b]).to_string()).await;
    assert_eq!((list.status, words(&list.json())), (200, vec!["recorded", "recorded"]), "{}", list.body);
    assert_eq!(words(&meter.post(PATH, &a.to_string()).await.json()), ["duplicate"], "log_format: single");
    let lines = format!("{a}\n{}\n", call(&meter, "c"));
    assert_eq!(words(&meter.post(PATH, &lines).await.json()), ["duplicate", "recorded"], "log_format: ndjson");
    assert_eq!(words(&meter.post_as(PATH, "application/x-ndjson", &lines).await.json()), ["duplicate", "duplicate"]);
    assert_eq!(meter.used("inference").await, 3);
}

#[tokio::test]
async fn kinds_of_calls_are_types_and_failed_ones_are_nobodys() {
    let meter = Meter::new().await;
    let kinds = ["acompletion", "litellm.completion", "aembedding", "aspeech", "atranscription", "arerank"];
    let mut calls: Vec<Value> = kinds.iter().map(|kind| call(&meter, kind)).collect();
    for (call, kind) in calls.iter_mut().zip(kinds) {
        call["call_type"] = json!(kind);
    }
    let mut failed = call(&meter, "failed");
    failed["status"] = json!("failure");
    calls.push(failed);
    let answer = meter.post(PATH, &Value::from(calls).to_string()).await.json();
    assert_eq!(words(&answer), ["recorded", "recorded", "recorded", "recorded", "recorded", "rejected", "ignored"]);
    assert_eq!((&answer["ignored"], &answer["rejected"]), (&json!(1), &json!(1)));
    assert_eq!(answer["results"][5]["code"], "type.unknown");
    for (kind, used) in [("inference", 2), ("embedding", 1), ("tts", 1), ("stt", 1)] {
        assert_eq!(meter.used(kind).await, used, "{kind}");
    }
}

#[tokio::test]
async fn the_user_is_the_nearest_to_the_call_and_what_was_said_is_not_kept() {
    let meter = Meter::new().await;
    let user = json!(meter.user);
    for (number, (end, in_metadata, owner, other)) in
        [(&user, &Value::Null, "x", "x"), (&Value::Null, &user, "x", "x"), (&json!(""), &user, "x", "x")]
            .into_iter()
            .enumerate()
    {
        let mut call = call(&meter, &format!("n{number}"));
        call["metadata"] = json!({ "user_api_key_end_user_id": end, "user_api_key_user_id": owner, "user_id": other });
        call["end_user"] = in_metadata.clone();
        assert_eq!(words(&meter.post(PATH, &call.to_string()).await.json()), ["recorded"], "{number}");
    }
    for member in ["user_api_key_user_id", "user_id"] {
        let mut call = call(&meter, member);
        call["metadata"] = json!({ member: meter.user });
        call["end_user"] = Value::Null;
        assert_eq!(words(&meter.post(PATH, &call.to_string()).await.json()), ["recorded"], "{member}");
    }
    let mut nobody = call(&meter, "nobody");
    nobody["metadata"] = json!({});
    nobody["end_user"] = Value::Null;
    let answer = meter.post(PATH, &nobody.to_string()).await.json();
    assert_eq!(answer["results"][0]["pointer"], "/0/metadata/user_api_key_end_user_id");
    let log = meter.world.get("/api/v1/usage/events", &meter.session).await;
    assert!(log.body.contains("\"model\":\"gpt-4o\"") && !log.body.contains("canary"), "{}", log.body);
}

#[tokio::test]
async fn tokens_count_where_the_operator_says_so() {
    let meter = Meter::new().await;
    let path = format!("{PATH}?count=tokens");
    assert_eq!(words(&meter.post(&path, &call(&meter, "a").to_string()).await.json()), ["recorded"]);
    let mut without = call(&meter, "b");
    without["total_tokens"] = Value::Null;
    assert_eq!(meter.post(&path, &without.to_string()).await.json()["results"][0]["pointer"], "/0/total_tokens");
    assert_eq!(meter.used("inference").await, 30);
    for query in ["count=words", "count=calls&count=calls"] {
        assert_eq!(fault(&meter.post(&format!("{PATH}?{query}"), "[]").await).2, ["?count"]);
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_call_is_said_and_the_others_count() {
    let meter = Meter::new().await;
    for (member, value, pointer) in [
        ("endTime", json!("yesterday"), "/0/endTime"),
        ("endTime", json!("2026-11-22T10:00:00"), "/0/endTime"),
        ("endTime", json!(1_700_000_000), "/0/timestamp"),
        ("call_type", Value::Null, "/0/call_type"),
        ("metadata", json!(7), "/0/metadata"),
    ] {
        let mut bad = call(&meter, &format!("bad {member}"));
        bad[member] = value;
        let answer = meter.post(PATH, &json!([bad, call(&meter, "good")]).to_string()).await.json();
        assert_eq!(answer["results"][0]["pointer"], pointer, "{answer}");
        assert!(matches!(words(&answer)[1], "recorded" | "duplicate"));
    }
    for body in ["", "{", "[", "{}{"] {
        assert_eq!(fault(&meter.post(PATH, body).await).0, 400, "{body}");
    }
}
