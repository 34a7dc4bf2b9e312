//! I-23: a program whose Redis is not there, from its start on, answers as one without trouble does, byte for byte and header for
//! header. Only `Billing-Degraded` differs, and what a limit that is closed says.

use std::collections::BTreeMap;

use billhook::ops::keys::Scope;
use billhook::ops::usage::totals;
use serde_json::{Value, json};

use super::CATALOGUE;
use super::server::Server;
use crate::access::{key, session_operations};
use crate::harness::database::unique_name;
use crate::harness::{Answer, Plan, World};

const RESERVE: &str = "/api/v1/usage/reservations";

/// A program, its user in a tier whose limits are open, an admin, and a service with its key.
struct Side {
    world: World,
    user: String,
    session: String,
    admin: String,
    key: String,
}

impl Side {
    async fn new(redis: String) -> Self {
        let catalogue = std::env::temp_dir().join(format!("{}.toml", unique_name()));
        std::fs::write(&catalogue, CATALOGUE).expect("a catalogue");
        let environment = vec![("BILLHOOK_CATALOG", catalogue.display().to_string()), ("REDIS_URL", redis)];
        let world = World::planned(Plan { environment, seed: 23, ..Plan::default() }).await;
        let _ = std::fs::remove_file(catalogue);
        world.sync().await;
        let (user, session) = world.user("u@example.com", None, false).await;
        let database = rusqlite::Connection::open(world.database.path()).expect("the database");
        let sql = "UPDATE users SET subscription_tier = 'open' WHERE id = ?1";
        assert_eq!(database.execute(sql, [&user]).expect("a tier"), 1);
        let (_, admin) = world.user("admin@example.com", None, true).await;
        let key = key(&world, Scope::UsageWrite).await;
        Self { world, user, session, admin, key }
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        let headers = [("authorization", self.key.as_str()), ("content-type", "application/json")];
        self.world.send(method, path, &headers, &body.to_string()).await
    }

    /// Everything that is asked, in order: who asked for what, and what they got.
    async fn everything(&self) -> Vec<(String, Answer)> {
        let mut all = Vec::new();
        let (user, at) = (&self.user, self.world.now().to_string());
        let event = |id: &str, kind: &str, amount: &str| json!({ "transaction_id": id, "user_id": user, "type": kind, "quantity": amount, "timestamp": at });
        let ask = |kind: &str, amount: &str| json!({ "user_id": user, "type": kind, "quantity": amount });
        let hold = |id: &str, kind: &str, amount: &str| json!({ "id": id, "user_id": user, "type": kind, "quantity": amount, "ttl_seconds": 600 });
        let (events, check) = ("/api/v1/usage/events", "/api/v1/usage/check");
        for (path, body) in [
            (events, event("e1", "inference", "1.5")),
            (events, event("e1", "inference", "1.5")),
            (events, event("e1", "inference", "2")),
            (events, event("e2", "nothing", "1")),
            (events, json!([event("e3", "tts", "1"), event("e4", "tts", "-1"), event("e3", "tts", "1")])),
            ("/api/v1/events", json!({ "event": { "transaction_id": "l1" } })),
            (events, json!(7)),
            (check, ask("inference", "1")),
            (check, ask("tts", "1")),
            (check, ask("tts", "1.5")),
            (check, ask("nothing", "1")),
            (check, ask("inference", "-1")),
            (RESERVE, hold("r1", "inference", "1")),
            (RESERVE, hold("r1", "inference", "1")),
            (RESERVE, hold("r1", "inference", "2")),
            (RESERVE, hold("r2", "tts", "2")),
            (RESERVE, hold("r 3", "tts", "1")),
            (RESERVE, hold("r4", "embedding", "0.5")),
            (&format!("{RESERVE}/r1/commit"), json!({ "quantity": "0.5" })),
            (&format!("{RESERVE}/r1/commit"), json!({ "quantity": "0.5" })),
            (&format!("{RESERVE}/r1/commit"), json!({ "quantity": "0.6" })),
            (&format!("{RESERVE}/never/commit"), json!({ "quantity": "0.6" })),
            (events, event("e5", "embedding", "3")),
        ] {
            all.push((format!("POST {path} {body}"), self.send("POST", path, &body).await));
        }
        for id in ["r4", "r4", "r1"] {
            all.push((format!("DELETE {id}"), self.send("DELETE", &format!("{RESERVE}/{id}"), &Value::Null).await));
        }
        totals::write_down(&self.world.app).await.expect("written down");
        for query in ["type=inference&quantity=1", "type=tts&quantity=1.5", "type=", ""] {
            let headers = [("authorization", self.key.as_str()), ("x-billhook-user", user)];
            let path = format!("/api/v1/usage/authorize?{query}");
            all.push((path.clone(), self.world.request("GET", &path, &headers).await));
        }
        for operation in session_operations() {
            if operation.method == "GET" && !operation.path.contains('{') {
                let token = if operation.role == "admin" { &self.admin } else { &self.session };
                all.push((operation.path.clone(), self.world.get(&operation.path, token).await));
            }
        }
        all.push(("again".to_owned(), self.world.get("/api/v1/billing/usage", &self.session).await));
        all
    }
}

/// Status, headers and body, without what is another one every time, and without what may differ.
fn compared(answer: &Answer) -> (BTreeMap<&str, &str>, String) {
    let apart = ["date", "x-request-id", "content-length", "billing-degraded"];
    let names = answer.headers.keys().map(|name| name.as_str()).filter(|name| !apart.contains(name));
    let headers = names.map(|name| (name, answer.header(name).unwrap_or_default())).collect();
    (headers, answer.shown().replace("\"undecided\":true", "\"undecided\":false"))
}

/// What is compared, without what is said of the limits.
fn apart_from_limits(answer: &Answer) -> (BTreeMap<&str, &str>, Value) {
    let (mut headers, body) = compared(answer);
    headers.retain(|name, _| !name.starts_with("ratelimit"));
    let mut body: Value = serde_json::from_str(body.split_once('\n').expect("a status and a body").1).expect("JSON");
    if let Some(body) = body.as_object_mut() {
        body.remove("limits");
    }
    (headers, body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i23_a_program_whose_redis_is_not_there_answers_as_one_without_trouble() {
    let redis = Server::single();
    // Nobody listens where this one did.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let (well, away) = (Side::new(redis.url()).await, Side::new(format!("redis://{closed}")).await);
    let (well, away) = (well.everything().await, away.everything().await);
    assert_eq!(well.len(), away.len());
    assert!(well.len() >= 40, "{} were asked", well.len());
    let (mut degraded, mut open_limits) = (0, 0);
    for ((asked, with), (_, without)) in well.iter().zip(&away) {
        assert_eq!(with.header("billing-degraded"), None, "{asked}");
        let cause = without.header("billing-degraded");
        assert!([None, Some("redis")].contains(&cause), "{asked}: {cause:?}");
        degraded += usize::from(cause.is_some());
        if compared(without) != compared(with) {
            // What is left of an open limit nobody knows: what is held against it is in Redis.
            assert_eq!(apart_from_limits(without), apart_from_limits(with), "{asked}");
            assert!(asked.contains("tts") && cause.is_some(), "{asked}");
            open_limits += 1;
        }
    }
    assert_eq!(open_limits, 2, "what is left of a limit");
    assert!(degraded >= 5, "only {degraded} answers said that Redis is away");
}
