//! LiteLLM's generic callback, as it sends it.

use serde_json::{Value, json};

use super::{Meter, fault};

const PATH: &str = "/api/v1/usage/litellm";

/// A list of calls, each named by its number.
fn list(meter: &Meter, numbers: std::ops::Range<usize>) -> String {
    Value::from(numbers.map(|number| call(meter, &format!("n{number}"))).collect::<Vec<_>>()).to_string()
}

fn tally(answer: &Value) -> [&Value; 4] {
    ["recorded", "duplicates", "rejected", "ignored"].map(|name| &answer[name])
}

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

/// Python's numbers that JSON has not: the call that has some counts, and so do those beside it.
#[tokio::test]
async fn numbers_that_only_python_writes_cost_nobody_their_calls() {
    let meter = Meter::new().await;
    let odd = call(&meter, "odd NaN").to_string().replacen(
        '{',
        r#"{"logprobs":[-Infinity,{"a":NaN},Infinity],"said":"\\\"-Infinity","#,
        1,
    );
    let list = format!("[{},{odd},{}]", call(&meter, "a"), call(&meter, "b"));
    let answer = meter.post(PATH, &list).await;
    assert_eq!(answer.status, 200, "{}", answer.shown());
    let answer = answer.json();
    assert_eq!(words(&answer), ["recorded", "recorded", "recorded"]);
    assert_eq!(answer["results"][1]["transaction_id"], "odd NaN");
    let lines = format!("{odd}\n{}\n", call(&meter, "c"));
    assert_eq!(words(&meter.post(PATH, &lines).await.json()), ["duplicate", "recorded"]);
    let tokens = call(&meter, "t").to_string().replacen("\"total_tokens\":30", "\"total_tokens\":NaN", 1);
    let answer = meter.post(&format!("{PATH}?count=tokens"), &tokens).await.json();
    assert_eq!(answer["results"][0]["pointer"], "/0/total_tokens");
    assert_eq!(meter.post(PATH, "[NaN").await.status, 400);
}

/// F-08: what is said of each is kept until the last is judged.
#[tokio::test]
async fn f08_a_list_of_more_calls_than_anybody_gathers_is_refused() {
    let meter = Meter::new().await;
    let list = |calls: usize| format!("[{}{{}}]", "{},".repeat(calls - 1));
    assert_eq!(fault(&meter.post(PATH, &list(100_001)).await), (413, "batch.too_large".into(), vec![]));
    assert_eq!(meter.post(PATH, &list(2_001)).await.json()["rejected"], 2_001);
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
        ("endTime", json!(1_700_000_000), "/0/endTime"),
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

#[tokio::test]
async fn a_list_of_any_length_is_recorded_and_each_call_has_its_verdict() {
    let meter = Meter::new().await;
    let mut calls: Vec<Value> = (0..2_500).map(|number| call(&meter, &format!("n{number}"))).collect();
    calls[1_500]["call_type"] = json!("telepathy");
    calls[1_501]["metadata"] = json!(7);
    calls[2_400]["status"] = json!("failure");
    let body = Value::from(calls).to_string();
    for expected in [[2_497, 0, 2, 1], [0, 2_497, 2, 1]] {
        let answer = meter.post(PATH, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let answer = answer.json();
        assert_eq!(tally(&answer), expected.map(|number| json!(number)).each_ref());
        let results = answer["results"].as_array().expect("results");
        assert_eq!(results.len(), 2_500);
        for (place, id) in [(0, "n0"), (999, "n999"), (1_000, "n1000"), (2_499, "n2499")] {
            assert_eq!(results[place]["transaction_id"], id);
        }
        assert_eq!(results[1_500]["pointer"], "/1500/call_type");
        assert_eq!(results[1_501]["pointer"], "/1501/metadata");
        assert_eq!(results[2_400]["status"], "ignored");
    }
    assert_eq!(meter.used("inference").await, 2_497);
    // The other notations of a batch keep their thousand.
    let events = Value::from((0..1_001).map(|number| meter.event(&format!("e{number}"))).collect::<Vec<_>>());
    assert_eq!(fault(&meter.post("/api/v1/usage/events", &events.to_string()).await).0, 413);
}

/// Something keeps the second thousand from being recorded.
#[tokio::test]
async fn what_is_not_recorded_of_a_list_is_said_and_comes_again_without_counting_twice() {
    let meter = Meter::new().await;
    let on_the_writer = async |sql: &'static str| {
        meter.world.app.db.write(move |tx| tx.run(sql, &[]).map(drop)).await.expect(sql);
    };
    on_the_writer(
        "CREATE TRIGGER in_the_way BEFORE INSERT ON usage_log WHEN NEW.transaction_id = 'n1700'
         BEGIN SELECT RAISE(ABORT, 'in the way'); END",
    )
    .await;
    let body = list(&meter, 0..2_500);
    let answer = meter.post(PATH, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = answer.json();
    assert_eq!(tally(&answer), [1_000, 0, 1_500, 0].map(|number| json!(number)).each_ref());
    for place in [1_000, 1_999, 2_000, 2_499] {
        assert_eq!(answer["results"][place]["code"], "internal");
        assert_eq!(answer["results"][place]["pointer"], format!("/{place}"));
    }
    assert_eq!(meter.used("inference").await, 1_000);
    // Where nothing at all was recorded, nobody has to read the verdicts.
    assert_eq!(meter.post(PATH, &list(&meter, 1_000..2_500)).await.status, 500);
    on_the_writer("DROP TRIGGER in_the_way").await;
    let again = meter.post(PATH, &body).await.json();
    assert_eq!(tally(&again), [1_500, 1_000, 0, 0].map(|number| json!(number)).each_ref());
    assert_eq!(meter.used("inference").await, 2_500);
}
