//! Bodies that are JSON and of the wrong shape for their type, and bodies that are not JSON: for each of the types that events come as.

use serde_json::{Value, json};

use super::{EVENTS, Meter, fault};

const OWN: &str = "application/json";
const ONE: &str = "application/cloudevents+json";
const MANY: &str = "application/cloudevents-batch+json";

fn cloud_event(meter: &Meter) -> Value {
    json!({
        "specversion": "1.0", "id": "c1", "source": "/gateway", "type": "inference", "subject": meter.user,
        "time": "2026-11-22T09:59:50Z", "data": { "quantity": 1 },
    })
}

/// It is JSON and can be read, and is not what the type says: 422, as every other bad input. What cannot be read is 400.
#[tokio::test]
async fn s32_a_root_that_is_not_what_the_type_says_is_422_and_what_is_not_json_is_400() {
    let meter = Meter::new().await;
    let (own, cloud) = (meter.event("e1").to_string(), cloud_event(&meter).to_string());
    let (object, list) = ("expected an object", "expected an array of objects");
    let mut asked = 0;
    for kind in [OWN, ONE, MANY] {
        let event = if kind == OWN { &own } else { &cloud };
        let expected = if kind == MANY { list } else { object };
        let alone = (kind == MANY).then_some(event.as_str());
        let listed = format!("[{event}]");
        let listed = (kind == ONE).then_some(listed.as_str());
        for body in ["null", "true", "7", "-0.5", "\"text\"", " null\n"].into_iter().chain(alone).chain(listed) {
            let answer = meter.post_as(EVENTS, kind, body).await;
            assert_eq!(fault(&answer), (422, "invalid".into(), vec![String::new()]), "{kind} {body}: {}", answer.body);
            assert_eq!(answer.json()["errors"][0]["detail"], expected, "{kind} {body}");
            asked += 1;
        }
        let (cut, twice) = (&event[..event.len() - 1], format!("{event}{event}"));
        let open = format!("[{event}");
        for body in ["", " ", "{", "[", "nul", "NaN", "7x", "\"text", "{'a':1}", "[{},]", cut, &twice, &open] {
            let answer = meter.post_as(EVENTS, kind, body).await;
            assert_eq!(fault(&answer), (400, "body.malformed".into(), vec![]), "{kind} {body}: {}", answer.body);
            assert!(answer.json()["detail"].as_str().expect("a detail").len() > 10, "{}", answer.body);
            asked += 1;
        }
    }
    assert_eq!(asked, 3 * (6 + 13) + 2);
    assert_eq!(meter.used("inference").await, 0);
    // An empty list is a list.
    for kind in [OWN, MANY] {
        let answer = meter.post_as(EVENTS, kind, "[]").await;
        assert_eq!((answer.status, answer.json()["results"].clone()), (200, json!([])), "{kind}");
    }
    // The bodies above were good events: in their own shape they count.
    for (kind, body) in [(OWN, &own), (ONE, &cloud)] {
        assert_eq!(meter.post_as(EVENTS, kind, body).await.status, 201, "{kind}");
    }
    assert_eq!(meter.used("inference").await, 4);
}
