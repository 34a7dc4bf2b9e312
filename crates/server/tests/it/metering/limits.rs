//! Caps and rates through the door: what each of the three questions answers, how long one is told to wait, and how the limits stand.
//! What an id of a reservation stands for, and for whom.

mod fields;

use std::time::Duration;

use billhook::ops::keys::Scope;
use billhook::ops::usage;
use serde_json::{Value, json};

use self::fields::told;
use super::{EVENTS, Meter, fault};
use crate::access::key;
use crate::counters::server::Server;
use crate::counters::{Adapter, Rig};
use crate::harness::program::{Program, Running};
use crate::harness::{Answer, client, event, instant, send};

const CHECK: &str = "/api/v1/usage/check";
const RESERVE: &str = "/api/v1/usage/reservations";
const AUTHORIZE: &str = "/api/v1/usage/authorize";
const BOTH: [Adapter; 2] = [Adapter::Embedded, Adapter::Redis];

/// New users are in trial.
const CATALOGUE: &str = r#"
currency = "usd"
[events.inference]
credits = "1"
[tiers.trial]
name = "Trial"
price = "0.00"
included_credits = "1000"
overage = "block"
[tiers.trial.limits.tts]
per_day = "10"
per_month = "25"
when_unknown = "closed"
[tiers.trial.limits.stt]
per_minute = "60"
when_unknown = "closed"
"#;

/// A program that limits a user of it, and a service with its key.
struct Door {
    rig: Rig,
    key: String,
}

impl Door {
    async fn new(adapter: Adapter) -> Self {
        let rig = Rig::priced(adapter, CATALOGUE).await;
        let key = key(&rig.world, Scope::UsageWrite).await;
        Self { rig, key }
    }

    fn at(&self, text: &str) {
        self.rig.world.clock.set(instant(text));
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_by(&self.key, path, body).await
    }

    async fn post_by(&self, key: &str, path: &str, body: &Value) -> Answer {
        let headers = [("authorization", key), ("content-type", "application/json")];
        self.rig.world.send("POST", path, &headers, &body.to_string()).await
    }

    fn ask(&self, kind: &str, quantity: &str) -> Value {
        json!({ "user_id": self.rig.user, "type": kind, "quantity": quantity })
    }

    fn hold(&self, id: &str, kind: &str, quantity: &str) -> Value {
        let mut hold = self.ask(kind, quantity);
        hold["id"] = json!(id);
        hold["ttl_seconds"] = json!(600);
        hold
    }

    async fn authorize(&self, kind: &str, quantity: &str) -> Answer {
        let headers = [("authorization", self.key.as_str()), ("x-billhook-user", &self.rig.user)];
        self.rig.world.request("GET", &format!("{AUTHORIZE}?type={kind}&quantity={quantity}"), &headers).await
    }

    async fn is_used(&self, id: &str, kind: &str, quantity: &str) {
        let mut event = self.ask(kind, quantity);
        event["transaction_id"] = json!(id);
        event["timestamp"] = json!(self.rig.world.now().to_string());
        assert_eq!(self.post(EVENTS, &event).await.status, 201);
    }

    /// Holds it and counts it.
    async fn is_spent(&self, id: &str, kind: &str, quantity: &str) {
        assert_eq!(self.post(RESERVE, &self.hold(id, kind, quantity)).await.status, 201);
        let committed = self.post(&format!("{RESERVE}/{id}/commit"), &json!({ "quantity": quantity })).await;
        assert_eq!(committed.status, 200, "{}", committed.body);
    }

    /// What is said to a demand that is too much: the code, the pause, and how the limits stand. Whoever only asks hears the same of
    /// the limits, with 200 and no pause.
    async fn refused(&self, kind: &str, quantity: &str) -> (String, String, String) {
        let reserved = self.post(RESERVE, &self.ask(kind, quantity)).await;
        let authorized = self.authorize(kind, quantity).await;
        for refused in [&reserved, &authorized] {
            assert_eq!((refused.status, refused.header("content-type")), (429, Some("application/problem+json")));
            assert_eq!(refused.json()["upgrade_url"], "http://localhost:8084/billing/upgrade");
            assert_eq!(refused.header("billing-degraded"), None);
        }
        let checked = self.post(CHECK, &self.ask(kind, quantity)).await;
        assert_eq!((checked.status, &checked.json()["allowed"]), (200, &json!(false)), "{}", checked.body);
        let code = |answer: &Answer| answer.json()["code"].as_str().expect("a code").to_owned();
        let pause = |answer: &Answer| answer.header("retry-after").map(str::to_owned);
        assert_eq!([code(&authorized), code(&checked)], [code(&reserved), code(&reserved)]);
        assert_eq!([pause(&authorized), pause(&checked)], [pause(&reserved), None]);
        assert_eq!([told(&authorized), told(&checked)], [told(&reserved), told(&reserved)]);
        (code(&reserved), pause(&reserved).expect("a pause"), told(&reserved))
    }

    /// How the limits stand for a demand that is let through.
    async fn stands(&self, kind: &str, quantity: &str) -> String {
        let checked = self.post(CHECK, &self.ask(kind, quantity)).await;
        assert_eq!((checked.status, &checked.json()["allowed"]), (200, &json!(true)), "{}", checked.body);
        told(&checked)
    }
}

fn refusal(code: &str, pause: &str, limits: &str) -> (String, String, String) {
    (code.to_owned(), pause.to_owned(), limits.to_owned())
}

#[tokio::test]
async fn s37_a_cap_of_the_day_is_429_until_the_day_ends() {
    for adapter in BOTH {
        let door = Door::new(adapter).await;
        door.is_used("e1", "tts", "7.5").await;
        assert_eq!(door.post(RESERVE, &door.hold("r1", "tts", "2")).await.status, 201);
        let expected = "credits 990/1000 t=741600 w=2592000, day 0/10 t=50400 w=86400, month 15/25 t=741600 w=2592000";
        assert_eq!(door.refused("tts", "1").await, refusal("limit.day", "50400", expected), "{adapter:?}");
        // Headers have whole numbers, never more than there is; the body says it exactly.
        let checked = door.post(CHECK, &door.ask("tts", "1")).await.body;
        let limit = |name, quota, remaining, reset, window| {
            format!(
                r#"{{"name":"{name}","quota":{quota},"remaining":{remaining},"reset_seconds":{reset},"window_seconds":{window}}}"#
            )
        };
        let limits = [
            limit("credits", "1000", "990.5", 741_600, 2_592_000),
            limit("day", "10", "0.5", 50_400, 86_400),
            limit("month", "25", "15.5", 741_600, 2_592_000),
        ];
        let expected =
            format!(r#"{{"allowed":false,"code":"limit.day","remaining":990.5,"limits":[{}]}}"#, limits.join(","));
        assert_eq!(checked, expected, "{adapter:?}");
        assert!(door.stands("tts", "0.5").await.contains("day 0/10"), "{adapter:?}");

        let committed = door.post(&format!("{RESERVE}/r1/commit"), &json!({ "quantity": "2" })).await;
        assert_eq!(committed.status, 200, "{}", committed.body);
        door.at("2026-11-22T23:59:59.999Z");
        let expected = "credits 990/1000 t=691201 w=2592000, day 0/10 t=1 w=86400, month 15/25 t=691201 w=2592000";
        assert_eq!(door.refused("tts", "1").await, refusal("limit.day", "1", expected), "{adapter:?}");
        // Whoever has waited as long as they were told is let through.
        door.at("2026-11-23T00:00:00.999Z");
        let expected = "credits 990/1000 t=691200 w=2592000, day 10/10 t=86400 w=86400, month 15/25 t=691200 w=2592000";
        assert_eq!(door.stands("tts", "10").await, expected, "{adapter:?}");
        assert_eq!(door.authorize("tts", "10").await.status, 200, "{adapter:?}");
        door.is_spent("r2", "tts", "10").await;
    }
}

#[tokio::test]
async fn s37_a_cap_of_the_month_is_429_until_the_month_ends() {
    for adapter in BOTH {
        let door = Door::new(adapter).await;
        door.is_spent("r1", "tts", "9.5").await;
        door.at("2026-11-23T10:00:00Z");
        door.is_used("e1", "tts", "10").await;
        door.at("2026-11-24T10:00:00Z");
        let expected = "credits 980/1000 t=568800 w=2592000, day 10/10 t=50400 w=86400, month 5/25 t=568800 w=2592000";
        assert_eq!(door.refused("tts", "6").await, refusal("limit.month", "568800", expected), "{adapter:?}");
        // Both are in the way: the first is named, and the longer pause is told.
        assert_eq!(door.refused("tts", "11").await, refusal("limit.day", "568800", expected), "{adapter:?}");
        assert_eq!(door.stands("tts", "5.5").await, expected, "{adapter:?}");
        door.at("2026-11-30T23:59:59.999Z");
        let (code, pause, _) = door.refused("tts", "6").await;
        assert_eq!((code.as_str(), pause.as_str()), ("limit.month", "1"), "{adapter:?}");
        door.at("2026-12-01T00:00:00.999Z");
        let expected =
            "credits 1000/1000 t=2678400 w=2678400, day 10/10 t=86400 w=86400, month 25/25 t=2678400 w=2678400";
        assert_eq!(door.stands("tts", "10").await, expected, "{adapter:?}");
        door.is_spent("r2", "tts", "10").await;
    }
}

#[tokio::test]
async fn s37_a_rate_is_429_for_as_long_as_it_takes_to_refill() {
    for adapter in BOTH {
        let door = Door::new(adapter).await;
        let (key, user) = (("authorization", door.key.as_str()), ("x-billhook-user", door.rig.user.as_str()));
        let full = "credits 1000/1000 t=741600 w=2592000, minute 60/60 t=0 w=60";
        for _ in 0..2 {
            assert_eq!(door.stands("stt", "60").await, full, "{adapter:?}: who checks uses up nothing");
        }
        assert_eq!(door.refused("stt", "61").await, refusal("limit.minute", "60", full), "{adapter:?}: never so much");
        assert_eq!(door.authorize("stt", "40").await.status, 200, "{adapter:?}");
        assert_eq!(door.post(RESERVE, &door.hold("r1", "stt", "20")).await.status, 201, "{adapter:?}");
        let empty = "credits 980/1000 t=741600 w=2592000, minute 0/60 t=60 w=60";
        assert_eq!(door.refused("stt", "3").await, refusal("limit.minute", "3", empty), "{adapter:?}");
        door.rig.world.clock.advance(Duration::from_millis(2_999));
        let nearly = "credits 980/1000 t=741597 w=2592000, minute 2/60 t=58 w=60";
        assert_eq!(door.refused("stt", "3").await, refusal("limit.minute", "1", nearly), "{adapter:?}");
        // A refusal names nothing: the same id is asked for anew.
        let hold = door.hold("r2", "stt", "3");
        assert_eq!(door.post(RESERVE, &hold).await.status, 429, "{adapter:?}");
        door.rig.world.clock.advance(Duration::from_millis(1));
        let held = door.post(RESERVE, &hold).await;
        assert_eq!((held.status, held.header("idempotent-replayed")), (201, None), "{adapter:?}");
        assert_eq!(door.refused("stt", "1").await.1, "1", "{adapter:?}");
        // Asked for by header, it is the same rate.
        let asked = [key, user, ("x-billhook-type", "stt")];
        let refused = door.rig.world.request("GET", AUTHORIZE, &asked).await;
        assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")), "{adapter:?}");
    }
}

/// S-36: the same reservation again is the same answer to the byte, whenever and by whichever of its names; and what is another one
/// is refused by the member.
#[tokio::test]
async fn s36_a_reservation_said_again_is_the_same_bytes_also_after_redis_was_flushed() {
    for adapter in BOTH {
        let door = Door::new(adapter).await;
        let hold = door.hold("r1", "tts", "2");
        let first = door.post(RESERVE, &hold).await;
        let expected = r#"{"id":"r1","status":"held","quantity":2,"expires_at":"2026-11-22T10:10:00Z","remaining":998,"undecided":false}"#;
        assert_eq!((first.shown().as_str(), first.header("idempotent-replayed")), (&*format!("201\n{expected}"), None));
        let again = async |why: &str, body: &Value, named: &[(&str, &str)]| {
            let headers =
                [&[("authorization", door.key.as_str()), ("content-type", "application/json")], named].concat();
            let again = door.rig.world.send("POST", RESERVE, &headers, &body.to_string()).await;
            assert_eq!(again.shown(), first.shown(), "{adapter:?}: {why}");
            assert_eq!(again.header("idempotent-replayed"), Some("true"), "{adapter:?}: {why}");
        };
        again("at once", &hold, &[]).await;
        door.rig.world.clock.advance(Duration::from_secs(9));
        again("later", &hold, &[]).await;
        let mut unnamed = hold.clone();
        unnamed.as_object_mut().expect("an object").remove("id");
        again("by the header", &unnamed, &[("idempotency-key", "r1")]).await;
        again("by the header, as a structured string", &unnamed, &[("idempotency-key", "\"r1\"")]).await;
        unnamed["quantity"] = json!("2.000000");
        again("in another notation", &unnamed, &[("idempotency-key", "r1")]).await;
        // How long it is held was said the first time.
        unnamed["ttl_seconds"] = json!(1);
        again("for another time", &unnamed, &[("idempotency-key", "r1")]).await;
        if let Some(redis) = &door.rig.server {
            assert_eq!(redis.ask(&["FLUSHALL"]), "OK");
            assert_eq!(redis.ask(&["DBSIZE"]), "0");
            again("after everything in Redis was lost", &hold, &[]).await;
        }
        let (other, _) = door.rig.world.user("v@example.com", None, false).await;
        for (member, value) in [("quantity", json!(3)), ("type", json!("inference")), ("user_id", json!(other))] {
            let mut changed = hold.clone();
            changed[member] = value;
            let conflict = (409, "usage.conflict".to_owned(), vec![format!("/{member}")]);
            assert_eq!(fault(&door.post(RESERVE, &changed).await), conflict, "{adapter:?}");
        }
        again("after all those", &hold, &[]).await;
        // It was held once.
        assert!(door.stands("tts", "1").await.contains("day 8/10"), "{adapter:?}");
    }
}

const SERVE: [&str; 3] = ["serve", "--listen", "127.0.0.1:0"];

/// The same of the real program, stopped and started again, by itself and with a Redis that has lost everything meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s36_a_reservation_said_again_after_a_restart_is_the_same_bytes() {
    for redis in [None, Some(Server::single())] {
        let program = match &redis {
            Some(redis) => Program::new().with("REDIS_URL", &redis.url()),
            None => Program::new(),
        };
        let run = |args: &[&str]| program.run(args).line().to_owned();
        let user = run(&["user", "add", "--email", "u@example.com", "--name", "U"]);
        let key = format!("Bearer {}", run(&["key", "issue", "--name", "gateway", "--scope", "usage:write"]));
        let hold = json!({ "id": "r1", "user_id": user, "type": "tts", "quantity": 2, "ttl_seconds": 3600 });
        let reserve = async |running: &Running| {
            let headers = [("authorization", key.as_str()), ("content-type", "application/json")];
            let url = format!("{}{RESERVE}", running.stderr.base());
            let answer = send(&client(), "POST", &url, &headers, &hold.to_string()).await;
            (answer.shown(), answer.header("idempotent-replayed").map(str::to_owned))
        };
        let mut running = program.start(&SERVE);
        let (first, replayed) = reserve(&running).await;
        assert!(first.starts_with("201\n{\"id\":\"r1\",\"status\":\"held\"") && replayed.is_none(), "{first}");
        for round in 0..2 {
            let stopped = running.stop();
            assert_eq!(stopped.code, Some(0), "{stopped:?}");
            if let Some(redis) = redis.as_ref().filter(|_| round == 1) {
                assert_eq!(redis.ask(&["FLUSHALL"]), "OK");
            }
            running = program.start(&SERVE);
            let again = (first.clone(), Some("true".to_owned()));
            assert_eq!(reserve(&running).await, again, "{round}, with a Redis: {}", redis.is_some());
        }
    }
}

/// An id names a reservation, not a caller's request: whoever may write usage means the same one by it.
#[tokio::test]
async fn s36_two_services_mean_the_same_reservation_by_the_same_id() {
    for adapter in BOTH {
        let door = Door::new(adapter).await;
        let other = key(&door.rig.world, Scope::UsageWrite).await;
        assert_ne!(door.key, other);
        let hold = door.hold("r1", "tts", "2");
        let first = door.post(RESERVE, &hold).await;
        let theirs = door.post_by(&other, RESERVE, &hold).await;
        assert_eq!((first.status, theirs.shown()), (201, first.shown()), "{adapter:?}");
        assert_eq!(theirs.header("idempotent-replayed"), Some("true"), "{adapter:?}");
        let more = door.hold("r1", "tts", "3");
        assert_eq!(fault(&door.post_by(&other, RESERVE, &more).await).2, ["/quantity"], "{adapter:?}");
        let commit = async |key: &str, quantity: &str| {
            door.post_by(key, &format!("{RESERVE}/r1/commit"), &json!({ "quantity": quantity })).await
        };
        let committed = commit(&other, "1").await;
        let again = commit(&door.key, "1").await;
        assert_eq!((committed.status, again.shown()), (200, committed.shown()), "{adapter:?}");
        assert_eq!(again.header("idempotent-replayed"), Some("true"), "{adapter:?}");
        assert_eq!(fault(&commit(&door.key, "2").await).2, ["/quantity"], "{adapter:?}");
        let headers = [("authorization", other.as_str())];
        let released = door.rig.world.request("DELETE", &format!("{RESERVE}/r1"), &headers).await;
        assert_eq!(fault(&released), (409, "usage.conflict".into(), vec!["/status".into()]), "{adapter:?}");
        // Counted once.
        assert!(door.stands("tts", "1").await.contains("day 9/10"), "{adapter:?}");
    }
}

/// F-08: so much waits for the disk that nothing more is taken. It is told, and afterwards it is as if it had not been sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f08_where_too_much_waits_an_event_is_told_to_come_back() {
    let meter = Meter::new().await;
    let app = &meter.world.app;
    let hold = json!({ "id": "r1", "user_id": meter.user, "type": "inference", "quantity": 5 });
    assert_eq!(meter.post(RESERVE, &hold.to_string()).await.status, 201);
    let (let_go, held) = std::sync::mpsc::channel::<()>();
    let slow = app.db.write(move |_| Ok(held.recv().is_ok()));
    // Nobody has such a user, so all of it is refused quickly once its turn has come.
    let many = (0..100_000).map(|_| event("many", "usr_nobody", "inference", "1", None)).collect();
    let asked = async {
        while app.usage.waiting() < 100_000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let bodies = [meter.event("e1").to_string(), json!([meter.event("e1"), meter.event("e2")]).to_string()];
        let commit = json!({ "quantity": 5 }).to_string();
        let mut asked = Vec::new();
        for (path, body) in [
            (EVENTS.to_owned(), &bodies[0]),
            (EVENTS.to_owned(), &bodies[1]),
            (format!("{RESERVE}/r1/commit"), &commit),
        ] {
            let refused = meter.post(&path, body).await;
            assert_eq!(fault(&refused), (503, "usage.queue_full".into(), vec![]), "{path}: {}", refused.body);
            assert_eq!(refused.header("retry-after"), Some("1"), "{path}");
            asked.push((path, body.clone()));
        }
        assert_eq!(meter.used("inference").await, 0, "who reads is answered meanwhile");
        let_go.send(()).expect("it waits");
        asked
    };
    // What is before them is with the database, and waits for the other write; they wait for it.
    let first = usage::record(app, vec![event("first", "usr_nobody", "inference", "1", None)]);
    let (slow, first, verdicts, asked) = tokio::join!(slow, first, usage::record(app, many), asked);
    assert_eq!(first.expect("judged").len(), 1);
    assert!(slow.expect("written"));
    assert!(
        verdicts
            .expect("judged")
            .iter()
            .all(|verdict| matches!(verdict, usage::Verdict::Refused { code: "user.unknown", .. }))
    );
    for ((path, body), expected) in asked.into_iter().zip([201, 200, 200]) {
        let taken = meter.post(&path, &body).await;
        assert_eq!((taken.status, taken.header("idempotent-replayed")), (expected, None), "{path}: {}", taken.body);
    }
    assert_eq!(meter.used("inference").await, 3 + 3 + 5);
}
