//! Somebody whose row the platform has deleted: nothing more is let in for them, and what was done before counts.

use std::time::Duration;

use billhook::ops::usage::totals;
use serde_json::{Value, json};

use super::{EVENTS, Meter, fault};
use crate::harness::{Database, Plan};

const CHECK: &str = "/api/v1/usage/check";
const RESERVE: &str = "/api/v1/usage/reservations";
/// What the platform writes is heard by then.
const HEARD: Duration = Duration::from_secs(1);
const NOBODY: &str = "usr_of_nobody";

/// Status, code and pointers of all that may be asked for a user.
async fn asked_for(meter: &Meter, user: &str, id: &str) -> Vec<(u16, String, Vec<String>)> {
    let ask = json!({ "user_id": user, "type": "inference", "quantity": 1 });
    let mut hold = ask.clone();
    hold["id"] = json!(format!("r-{id}"));
    let event = meter.changed(id, "user_id", json!(user)).to_string();
    let authorize = "/api/v1/usage/authorize?type=inference";
    let headers = [("authorization", meter.key.as_str()), ("x-billhook-user", user)];
    vec![
        fault(&meter.post(EVENTS, &event).await),
        fault(&meter.post(CHECK, &ask.to_string()).await),
        fault(&meter.post(RESERVE, &hold.to_string()).await),
        fault(&meter.world.request("GET", authorize, &headers).await),
    ]
}

async fn held(meter: &Meter, user: &str, id: &str) {
    let hold = json!({ "id": id, "user_id": user, "type": "inference", "quantity": 5 });
    assert_eq!(meter.post(RESERVE, &hold.to_string()).await.status, 201);
}

async fn committed(meter: &Meter, id: &str) -> u16 {
    meter.post(&format!("{RESERVE}/{id}/commit"), r#"{"quantity":2}"#).await.status
}

async fn who_is_gone_is_unknown(database: Database) {
    let meter = Meter::planned(Plan { stripe: None, database, ..Plan::default() }).await;
    let (fresh, _) = meter.world.user("fresh@example.com", None, false).await;
    let admin = meter.world.admin().await;
    let before = asked_for(&meter, &meter.user, "e1").await;
    assert!(before.iter().all(|(status, ..)| (200..300).contains(status)), "{before:?}");
    held(&meter, &meter.user, "r1").await;
    held(&meter, &fresh, "r2").await;

    let nobody = asked_for(&meter, NOBODY, "e2").await;
    let unknown = |pointer: &str| (422, "user.unknown".to_owned(), vec![pointer.to_owned()]);
    assert_eq!(nobody[..3], ["/user_id"; 3].map(unknown));
    assert_eq!(nobody[3], unknown("X-Billhook-User"));
    meter.world.database.by_others(
        "CREATE TABLE kept AS SELECT * FROM users; DELETE FROM sessions WHERE user_id IN
         (SELECT id FROM users WHERE email <> 'admin@example.com'); DELETE FROM users WHERE email <> 'admin@example.com'",
    );
    tokio::time::sleep(HEARD).await;
    for id in ["e2", "e3"] {
        assert_eq!(asked_for(&meter, &meter.user, id).await, nobody);
        assert_eq!(asked_for(&meter, &fresh, id).await, nobody);
    }
    let again = meter.post(EVENTS, &meter.event("e1").to_string()).await;
    assert_eq!(again.json()["status"], "duplicate", "what was recorded is, whoever asks again");

    // The work was begun while they were here, and is done.
    let mixed = json!([meter.event("e4"), meter.changed("e5", "user_id", json!(fresh))]).to_string();
    let (refused, first, second) =
        tokio::join!(meter.post(EVENTS, &mixed), committed(&meter, "r1"), committed(&meter, "r2"));
    assert_eq!((first, second), (200, 200));
    assert_eq!((&refused.json()["recorded"], &refused.json()["rejected"]), (&json!(0), &json!(2)), "{}", refused.body);
    assert_eq!(committed(&meter, "r1").await, 200, "again");
    assert_eq!(asked_for(&meter, &fresh, "e6").await, nobody, "who has an account now is as unknown as before");
    let shown = meter.world.get(&format!("/api/v1/admin/usage?user_id={}", meter.user), &admin).await;
    assert_eq!(shown.status, 200, "{}", shown.body);
    assert_eq!(sum(&shown.json()), 5, "three and the two of the commit: {}", shown.body);

    totals::write_down_now(&meter.world.app).await.expect("written down");
    let there = Meter::planned(Plan {
        stripe: None,
        database: Database::Elsewhere(meter.world.database.address()),
        seed: 8,
        ..Plan::default()
    });
    let there = there.await;
    assert_eq!(asked_for(&there, &meter.user, "e6").await, nobody, "also where nobody has asked for them before");
    meter.world.database.by_others("INSERT INTO users SELECT * FROM kept WHERE email NOT IN (SELECT email FROM users)");
    tokio::time::sleep(HEARD).await;
    for (meter, id) in [(&meter, "e7"), (&there, "e8")] {
        assert_eq!(asked_for(meter, &fresh, id).await[0].0, 201, "back again");
    }
}

/// What is shown of a user's inference on all days.
fn sum(shown: &Value) -> i64 {
    let rows = shown["usage"].as_array().expect("rows");
    rows.iter().filter_map(|row| row["quantity"].as_i64()).sum()
}

#[tokio::test]
async fn who_is_gone_is_unknown_on_sqlite() {
    who_is_gone_is_unknown(Database::sqlite()).await;
}

#[tokio::test]
async fn who_is_gone_is_unknown_on_postgres() {
    who_is_gone_is_unknown(Database::postgres()).await;
}
