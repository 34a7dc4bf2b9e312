//! I-23, F-22: what does not need Redis is answered without it as with it, byte for byte; what needs it says that it is away.

use std::time::Duration;

use billhook::counters::book::shard_of;
use billhook::ops::keys::Scope;
use billhook::ops::reservations::{self, Ask};
use serde_json::json;

use super::lost::agrees;
use super::server::wait_for;
use super::{Adapter, CATALOGUE, Rig, code, quantity};
use crate::access::key;

#[tokio::test]
async fn i23_without_redis_reads_and_records_are_the_same() {
    let mut rig = Rig::new(Adapter::Redis).await;
    let (user, session) = rig.world.user("reader@example.com", None, false).await;
    rig.user.clone_from(&user);
    let mut rig = rig.in_tier("open");
    rig.record("e1", "inference", "1.5").await;
    let key = key(&rig.world, Scope::UsageWrite).await;
    let service = [("authorization", key.as_str()), ("content-type", "application/json")];
    let at = rig.world.now().to_string();
    let event =
        json!({ "transaction_id": "e1", "user_id": user, "type": "inference", "quantity": "1.5", "timestamp": at });
    let check = json!({ "user_id": user, "type": "inference", "quantity": 1 });
    let asked = async |rig: &Rig| {
        let usage = rig.world.get("/api/v1/billing/usage", &session).await.shown();
        let subscription = rig.world.get("/api/v1/billing/subscription", &session).await.shown();
        let recorded = rig.world.send("POST", "/api/v1/usage/events", &service, &event.to_string()).await.shown();
        let checked = rig.world.send("POST", "/api/v1/usage/check", &service, &check.to_string()).await;
        let degraded = checked.header("billing-degraded").map(str::to_owned);
        ((usage, subscription, recorded), (checked.status, degraded))
    };
    let with = asked(&rig).await;
    assert!(with.0.2.contains("duplicate"), "{}", with.0.2);
    assert_eq!(with.1, (200, None));
    rig.server.as_mut().expect("a Redis").kill(0);
    let without = asked(&rig).await;
    assert_eq!(without, (with.0, (200, Some("redis".to_owned()))));
}

/// What is too much whatever others hold is refused by whoever knows the account, also where limits are open.
#[tokio::test]
async fn without_redis_nothing_is_let_through_that_the_log_refuses() {
    let mut rig = Rig::new(Adapter::Redis).await.in_tier("open");
    rig.record("e1", "tts", "1").await;
    assert_eq!(code(rig.reserve("a", "tts", "1").await), "ok");
    rig.server.as_mut().expect("a Redis").kill(0);
    assert_eq!(code(rig.reserve("b", "tts", "2").await), "limit.day", "1 of 2 is used up");
    let let_through = rig.reserve("c", "inference", "1").await.expect("let through");
    assert!(let_through.undecided);
    let ask = |kind, amount| reservations::check(rig.app(), &rig.user, kind, quantity(amount));
    assert!(!ask("tts", "2").await.expect("a standing").allowed);
    assert!(ask("inference", "1").await.expect("a standing").allowed);
}

/// A tier that bills no more than so much has a cap like any other: nothing passes it undecided.
#[tokio::test]
async fn without_redis_nothing_is_let_through_under_an_overage_cap() {
    let capped = CATALOGUE.replacen("overage = \"bill\"", "overage = \"bill\"\noverage_cap = \"10\"", 1);
    for (catalogue, said) in [(CATALOGUE, "ok"), (&capped, "limit.unknown")] {
        let mut rig = Rig::priced(Adapter::Redis, catalogue).await.in_tier("open");
        assert_eq!(code(rig.reserve("a", "inference", "1").await), "ok");
        rig.server.as_mut().expect("a Redis").kill(0);
        assert_eq!(code(rig.reserve("b", "inference", "1").await), said);
    }
}

/// The answer was lost, so it was let through; Redis holds it all the same, and is told better. Its commit is nobody else's business.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_let_through_is_committed_although_redis_held_it_after_all() {
    let rig = Rig::new(Adapter::Redis).await.in_tier("open");
    rig.reserve("before", "inference", "1").await.expect("held");
    let redis = rig.server.as_ref().expect("a Redis");
    redis.freeze(0);
    let ask = Ask {
        id: None,
        user: rig.user.clone(),
        kind: "inference".into(),
        quantity: quantity("1"),
        ttl: Duration::from_mins(5),
    };
    let let_through = reservations::reserve(rig.app(), ask).await.expect("let through");
    assert!(let_through.undecided);
    redis.thaw(0);
    let holds = format!("bh:{{{}}}:h:{}", shard_of(&rig.user), rig.user);
    wait_for("the hold of which nobody heard", || redis.ask(&["HEXISTS", &holds, &let_through.id]) == "1");
    let swept = async || rig.app().counters.sweep(&rig.app().book, rig.app().clock.now()).await;
    while swept().await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let committed = rig.commit(&let_through.id, "1").await.expect("committed");
    assert_eq!(committed.quantity, quantity("1"));
    assert_eq!(agrees(&rig).await, Vec::<String>::new());
}
