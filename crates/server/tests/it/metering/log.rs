//! The log and its sums, read: who may read whose, page by page.

use billhook::ops::keys::Scope;
use serde_json::{Value, json};

use super::{EVENTS, Meter, fault};
use crate::access::key;
use crate::harness::Answer;

/// Ten events of the user's, one in three of another type, and one of somebody else's.
async fn used() -> (Meter, String) {
    let meter = Meter::new().await;
    let (other, _) = meter.world.user("other@example.com", None, false).await;
    let mut events: Vec<Value> = (0..10).map(|n| meter.event(&format!("e{n}"))).collect();
    for event in events.iter_mut().step_by(3) {
        event["type"] = json!("tts");
        event["properties"] = json!({ "voice": "v" });
    }
    events.push(meter.changed("other", "user_id", json!(other)));
    assert_eq!(meter.post(EVENTS, &Value::from(events).to_string()).await.json()["recorded"], 11);
    (meter, other)
}

fn usage_ids(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.body);
    let events = answer.json()["events"].as_array().expect("events").clone();
    let usage = events.iter().filter(|event| event["kind"] == "usage");
    usage.map(|event| event["transaction_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_user_reads_their_own_newest_first_page_by_page() {
    let (meter, other) = used().await;
    let get = async |query: &str| meter.world.get(&format!("{EVENTS}{query}"), &meter.session).await;
    let all = usage_ids(&get("").await);
    assert_eq!(all, (0..10).rev().map(|n| format!("e{n}")).collect::<Vec<_>>());
    let (mut paged, mut query) = (Vec::new(), "?limit=3".to_owned());
    loop {
        let page = get(&query).await;
        paged.extend(usage_ids(&page));
        let Some(cursor) = page.json()["next_cursor"].as_str().map(str::to_owned) else { break };
        query = format!("?limit=3&cursor={cursor}");
    }
    assert_eq!(paged, all);
    assert_eq!(usage_ids(&get(&format!("?user_id={}", meter.user)).await), all, "their own name is theirs to say");
    assert_eq!(fault(&get("?lim=1").await).2, ["?lim"]);
    let [theirs, nobodys] = [get(&format!("?user_id={other}")).await, get("?user_id=usr_nobody").await];
    assert_eq!((theirs.status, theirs.shown()), (404, nobodys.shown()), "somebody else's is not there, as nobody's");
    let row = get("?limit=1").await.json()["events"][0].clone();
    let expected = json!({
        "position": row["position"], "kind": "usage", "transaction_id": "e9", "type": "tts", "quantity": 3,
        "timestamp": "2026-11-22T09:59:50Z", "received_at": "2026-11-22T10:00:00.456Z", "source": "own", "properties": { "voice": "v" },
    });
    assert_eq!(row, expected);
}

#[tokio::test]
async fn admins_and_reading_services_name_the_user() {
    let (meter, other) = used().await;
    let admin = meter.world.admin().await;
    let reader = key(&meter.world, Scope::UsageRead).await;
    let as_service = async |query: &str| {
        meter.world.request("GET", &format!("{EVENTS}{query}"), &[("authorization", &reader)]).await
    };
    let query = format!("?user_id={other}");
    assert_eq!(usage_ids(&meter.world.get(&format!("{EVENTS}{query}"), &admin).await), ["other"]);
    assert_eq!(usage_ids(&as_service(&query).await), ["other"]);
    assert_eq!(fault(&as_service("").await), (422, "invalid".into(), vec!["?user_id".into()]));
    for unknown in ["usr_nobody", "%00"] {
        let answer = as_service(&format!("?user_id={unknown}")).await;
        assert_eq!(fault(&answer), (422, "user.unknown".into(), vec!["?user_id".into()]));
    }
    let cursor = as_service(&format!("?user_id={}&limit=2", meter.user)).await.json()["next_cursor"].clone();
    let stolen = as_service(&format!("{query}&cursor={}", cursor.as_str().unwrap())).await;
    assert_eq!(fault(&stolen).2, ["?cursor"], "S-38: a cursor is good for its own list");
}

#[tokio::test]
async fn the_sums_of_everybody_by_day_user_and_type() {
    let (meter, other) = used().await;
    let admin = meter.world.admin().await;
    let get = async |query: &str| meter.world.get(&format!("/api/v1/admin/usage{query}"), &admin).await;
    let sum = |user: &str, kind: &str, quantity: i64, events: i64| json!({ "day": "2026-11-22", "user_id": user, "type": kind, "quantity": quantity, "events": events, "credits": quantity });
    let mine = [sum(&meter.user, "inference", 18, 6), sum(&meter.user, "tts", 12, 4)];
    let all: Vec<Value> = mine.iter().cloned().chain([sum(&other, "inference", 3, 1)]).collect();
    assert_eq!(get("").await.json(), json!({ "usage": all, "has_more": false, "next_cursor": null }));
    assert_eq!(get(&format!("?user_id={}&type=tts", meter.user)).await.json()["usage"], json!([mine[1]]));
    assert_eq!(get("?from=2026-11-22&to=2026-11-22").await.json()["usage"], json!(all));
    assert_eq!(get("?to=2026-11-21").await.json()["usage"], json!([]));
    let (mut paged, mut query) = (Vec::new(), "?limit=1".to_owned());
    loop {
        let page = get(&query).await.json();
        paged.extend(page["usage"].as_array().expect("rows").clone());
        let Some(cursor) = page["next_cursor"].as_str().map(str::to_owned) else { break };
        query = format!("?limit=1&cursor={cursor}");
    }
    assert_eq!(paged, all);
    let bad = fault(&get("?from=22.11.2026&to=2026-02-30&limit=0&type=a&type=b&cursor=x&cursor=y").await).2;
    assert_eq!(bad, ["?from", "?to", "?type", "?limit", "?cursor"], "all at once");
    assert_eq!(fault(&get("?cursor=x").await).2, ["?cursor"]);
    let misspelt = fault(&get("?tpye=tts&user=u").await);
    assert_eq!(misspelt, (422, "invalid".into(), vec!["?tpye".into(), "?user".into()]), "not everything");
    assert_eq!(fault(&get("?type=&user_id=").await).2, ["?user_id", "?type"]);
    assert_eq!(fault(&get("?from=2026-11-23&to=2026-11-22").await).2, ["?to"], "no day is in it");
}
