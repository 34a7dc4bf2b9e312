//! Lago's webhooks: only Lago's own count, each once, and what they say of events is kept.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use billhook::clock::{Clock, Manual};
use billhook::ops::lago::{notices, replay, setup, ship, status};
use billhook::ops::usage;
use ring::hmac;
use sandbox::lago::{Fault, FaultKind, HMAC_KEY, Lago, Store};
use serde_json::{Value, json};

use super::bench::{KEY, start, told};
use crate::harness::{Answer, Database, NOW, Plan, World, client, send};

const PATH: &str = "/api/v1/webhooks/lago";

/// A program behind its door, and a Lago that can reach it.
struct Place {
    world: World,
    lago: Lago,
    clock: Arc<Manual>,
}

impl Place {
    async fn new(secret: Option<&str>, database: Database) -> Self {
        let clock = Arc::new(Manual::at(NOW.parse().expect("instant")));
        let lago = start(Store::Postgres, &clock).await;
        let mut environment = vec![
            ("LAGO_API_URL", lago.base_url()),
            ("LAGO_API_KEY", KEY.to_owned()),
            ("BILLHOOK_LAGO_RATE", "10000".to_owned()),
        ];
        environment.extend(secret.map(|secret| ("LAGO_WEBHOOK_SECRET", secret.to_owned())));
        let world = World::planned(Plan { database, stripe: None, environment, ..Plan::default() }).await;
        Self { world, lago, clock }
    }

    async fn at_lago(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}/api/v1{path}", self.lago.base_url());
        let bearer = format!("Bearer {KEY}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let answer = send(&client(), "POST", &url, &headers, &body.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    async fn send(&self, body: &str, algorithm: &str, signature: &str) -> Answer {
        let headers = [
            ("x-lago-signature", signature),
            ("x-lago-signature-algorithm", algorithm),
            ("x-lago-unique-key", "key-1"),
            ("content-type", "application/json"),
        ];
        self.world.send("POST", PATH, &headers, body).await
    }
}

fn sign(key: &str, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    STANDARD.encode(hmac::sign(&key, body.as_bytes()))
}

#[tokio::test]
async fn s47_only_the_agreed_signature_over_the_raw_bytes_is_taken() {
    let place = Place::new(Some(HMAC_KEY), Database::sqlite()).await;
    let body = r#"{"webhook_type":"customer.created","object_type":"customer","customer":{"name":"A\u0026B"}}"#;
    let good = sign(HMAC_KEY, body);
    let hex = good.bytes().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    for (what, algorithm, signature, sent) in [
        ("another key", "hmac", sign("another", body), body.to_owned()),
        ("another body", "hmac", good.clone(), body.replace('A', "C")),
        ("the same JSON in other bytes", "hmac", good.clone(), body.replace("\\u0026", "&")),
        ("hexadecimal", "hmac", hex, body.to_owned()),
        ("nothing", "hmac", String::new(), body.to_owned()),
        ("another algorithm", "jwt", good.clone(), body.to_owned()),
        ("no algorithm at all", "none", good.clone(), body.to_owned()),
    ] {
        let answer = place.send(&sent, algorithm, &signature).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (401, Some("lago.signature")), "{what}");
    }
    for _ in 0..2 {
        let answer = place.send(body, "hmac", &good).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    assert_eq!(notices::apply(&place.world.app).await.unwrap(), 1, "the same key is one webhook");
}

#[tokio::test]
async fn s47_a_token_is_verified_with_lagos_own_key_and_its_algorithm_is_pinned() {
    let place = Place::new(None, Database::sqlite()).await;
    let endpoint = json!({ "webhook_endpoint": { "webhook_url": format!("{}{PATH}", place.world.base), "signature_algo": "jwt" } });
    place.at_lago("/webhook_endpoints", &endpoint).await;
    place.at_lago("/customers", &json!({ "customer": { "external_id": "ada", "name": "<A&B>" } })).await;
    place.lago.deliver_webhooks().await;
    let sent = place.lago.webhooks();
    assert!(!sent.is_empty() && sent.iter().all(|webhook| webhook.attempts == 1), "{sent:?}");
    assert_eq!(notices::apply(&place.world.app).await.unwrap(), sent.len() as u64);
    let body = &sent[0].body;
    let claims = URL_SAFE_NO_PAD.encode(json!({ "data": body, "iss": place.lago.base_url() }).to_string());
    let public = send(
        &client(),
        "GET",
        &format!("{}/api/v1/webhooks/json_public_key", place.lago.base_url()),
        &[("authorization", &format!("Bearer {KEY}"))],
        "",
    )
    .await
    .json();
    let public = STANDARD.decode(public["webhook"]["public_key"].as_str().unwrap()).unwrap();
    let token = |algorithm: &str, signature: &dyn Fn(&str) -> String| {
        let head = URL_SAFE_NO_PAD.encode(json!({ "alg": algorithm, "typ": "JWT" }).to_string());
        let message = format!("{head}.{claims}");
        format!("{message}.{}", signature(&message))
    };
    let with_public = |message: &str| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &public);
        URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()))
    };
    for (what, algorithm, signature) in [
        ("alg none", "jwt", token("none", &|_| String::new())),
        ("HS256 with the public key", "jwt", token("HS256", &with_public)),
        ("RS256 with another signature", "jwt", token("RS256", &with_public)),
        ("no token", "jwt", String::new()),
        ("a header that says hmac", "hmac", sign(&String::from_utf8_lossy(&public), body)),
    ] {
        assert_eq!(place.send(body, algorithm, &signature).await.status, 401, "{what}");
    }
}

#[tokio::test]
async fn without_a_key_to_verify_with_there_is_no_such_route() {
    let place = Place::new(None, Database::sqlite()).await;
    place.lago.faults().push(Fault::always("/api/v1/webhooks", FaultKind::status(503)));
    assert_eq!(place.send("{}", "jwt", "a.b.c").await.status, 404);
    let asked = place.lago.requests().len();
    assert_eq!(place.send("{}", "jwt", "a.b.c").await.status, 404);
    assert_eq!(place.lago.requests().len(), asked, "nonsense does not make us ask Lago each time");
    let without = World::planned(Plan { stripe: None, ..Plan::default() }).await;
    assert_eq!(without.send("POST", PATH, &[("content-type", "application/json")], "{}").await.status, 404);
}

#[tokio::test]
async fn events_that_lago_has_no_use_for_become_dead_letters() {
    for database in [Database::sqlite(), Database::postgres()] {
        let place = Place::new(Some(HMAC_KEY), database).await;
        let app = &place.world.app;
        let endpoint = json!({ "webhook_endpoint": {
            "webhook_url": format!("{}{PATH}", place.world.base), "signature_algo": "hmac", "event_types": ["events.errors"],
        } });
        place.at_lago("/webhook_endpoints", &endpoint).await;
        // A plan, and no metrics: Lago takes the events and never bills them.
        let plan = json!({ "plan": { "name": "T", "code": "trial", "interval": "monthly", "amount_cents": 0,
            "amount_currency": "USD", "pay_in_advance": false, "charges": [] } });
        place.at_lago("/plans", &plan).await;
        let (user, _) = place.world.user("ada@example.com", None, false).await;
        let events = ["3", "4"].map(|quantity| told(&user, "tts", quantity, place.clock.now()));
        usage::record(app, events.into()).await.unwrap();
        assert_eq!(ship::run(app).await.unwrap().delivered, 2);
        place.clock.advance(Duration::from_hours(2));
        place.lago.run_hourly().await;
        notices::apply(app).await.unwrap();
        let letters = replay::list(app, "", 10).await.unwrap();
        let said: Vec<_> = letters.iter().map(|letter| (letter.reason.as_str(), letter.user.as_str())).collect();
        assert_eq!(said, [("invalid_code", user.as_str()); 2]);
        // With the metric there Lago finds them by itself. Sending them again could only count them twice.
        setup::run(app, setup::Mode::Make).await.unwrap();
        replay::ask(app, None).await.unwrap();
        assert_eq!(ship::run(app).await.unwrap().delivered, 0);
        assert_eq!(status(app).await.unwrap().dead, 0);
        assert_eq!(place.lago.usage(&user, "tts_call"), Some(("7.0".to_owned(), 2)));
    }
}
