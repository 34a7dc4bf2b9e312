//! Sessions that Ops Center keeps in Redis, and a Redis that is away.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use billhook::ops::users;

use super::{STATS, USAGE};
use crate::harness::database::variable;
use crate::harness::{Plan, World};

/// Puts a session where Ops Center puts them.
async fn ops_center_session(redis: &str, token: &str, payload: &serde_json::Value) {
    let client = redis::Client::open(redis).expect("an address");
    let mut connection = client.get_multiplexed_async_connection().await.expect("Redis");
    let mut command = redis::cmd("SET");
    command.arg(format!("session:{token}")).arg(payload.to_string()).arg("EX").arg(600);
    command.query_async::<()>(&mut connection).await.expect("set");
}

async fn end_ops_center_session(redis: &str, token: &str) {
    let client = redis::Client::open(redis).expect("an address");
    let mut connection = client.get_multiplexed_async_connection().await.expect("Redis");
    redis::cmd("DEL").arg(format!("session:{token}")).query_async::<()>(&mut connection).await.expect("deleted");
}

async fn world_with_redis(redis: &str) -> World {
    World::planned(Plan { environment: vec![("REDIS_URL", redis.to_owned())], stripe: None, ..Plan::default() }).await
}

/// A token as Python's `token_urlsafe(32)` makes them, another one in each test.
fn foreign_token(world: &World, name: &str) -> String {
    let port = world.base.rsplit(':').next().expect("a port");
    format!("{:A<43}", format!("{name}-{}-{port}-", std::process::id()))
}

#[tokio::test]
async fn sessions_of_ops_center_name_a_user_and_the_database_says_the_rest() {
    let redis = variable("BILLHOOK_TEST_REDIS");
    let world = world_with_redis(&redis).await;
    let (user, _) = world.user("u@here.test", None, false).await;
    let (boss, _) = world.user("boss@here.test", None, true).await;
    let (gone, _) = world.user("gone@here.test", None, false).await;
    users::set_disabled(&world.app, &gone, true).await.expect("disabled");
    for (name, payload, usage, stats) in [
        ("flat", serde_json::json!({"user_id": user, "email": "x", "is_admin": true}), 200, 403),
        ("nested", serde_json::json!({"user": {"id": user, "role": "admin"}, "access_token": "t"}), 200, 403),
        ("nested-user-id", serde_json::json!({"user": {"user_id": user}}), 200, 403),
        ("admin", serde_json::json!({"user_id": boss, "is_admin": false}), 200, 200),
        ("unknown", serde_json::json!({"user_id": "somebody"}), 401, 401),
        ("disabled", serde_json::json!({"user_id": gone}), 401, 401),
        ("nobody", serde_json::json!({"user": {}}), 401, 401),
        ("no-object", serde_json::json!("text"), 401, 401),
    ] {
        let token = foreign_token(&world, name);
        assert_eq!(world.get(USAGE, &token).await.status, 401, "{name}: before the session");
        ops_center_session(&redis, &token, &payload).await;
        assert_eq!(
            (world.get(USAGE, &token).await.status, world.get(STATS, &token).await.status),
            (usage, stats),
            "{name}"
        );
        end_ops_center_session(&redis, &token).await;
        assert_eq!(world.get(USAGE, &token).await.status, 401, "{name}: after the session");
    }
}

#[tokio::test]
async fn s09_holds_for_sessions_of_ops_center_too() {
    let redis = variable("BILLHOOK_TEST_REDIS");
    let world = world_with_redis(&redis).await;
    let (boss, _) = world.user("boss@here.test", None, true).await;
    let token = foreign_token(&world, "boss");
    ops_center_session(&redis, &token, &serde_json::json!({"user_id": boss})).await;
    assert_eq!(world.get(STATS, &token).await.status, 200);
    users::set_admin(&world.app, &boss, false).await.expect("demoted");
    assert_eq!(world.get(STATS, &token).await.status, 403);
    users::set_disabled(&world.app, &boss, true).await.expect("disabled");
    assert_eq!(world.get(USAGE, &token).await.status, 401);
}

/// A way to Redis that can be closed: who goes it while it is closed, or was on it, is cut off.
struct Gate {
    address: String,
    open: Arc<AtomicBool>,
}

impl Gate {
    fn to(redis: &str) -> Self {
        let target = redis.trim_start_matches("redis://").trim_end_matches('/').to_owned();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("redis://{}", listener.local_addr().expect("address"));
        let open = Arc::new(AtomicBool::new(true));
        let gate = Self { address, open: Arc::clone(&open) };
        std::thread::spawn(move || {
            for guest in listener.incoming().flatten() {
                if open.load(Ordering::SeqCst) {
                    let redis = TcpStream::connect(&target).expect("Redis");
                    for (from, to) in [(&guest, &redis), (&redis, &guest)] {
                        let (from, to) = (from.try_clone().expect("socket"), to.try_clone().expect("socket"));
                        let open = Arc::clone(&open);
                        std::thread::spawn(move || carry(from, to, &open));
                    }
                }
            }
        });
        gate
    }
}

/// Carries bytes one way until the gate is closed.
fn carry(mut from: TcpStream, mut to: TcpStream, open: &AtomicBool) {
    let mut bytes = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        if !open.load(Ordering::SeqCst) || to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(std::net::Shutdown::Both), to.shutdown(std::net::Shutdown::Both));
}

#[tokio::test]
async fn redis_down_leaves_own_sessions_alone_and_says_so_to_the_others() {
    let redis = variable("BILLHOOK_TEST_REDIS");
    let gate = Gate::to(&redis);
    let world = world_with_redis(&gate.address).await;
    let (user, own) = world.user("u@here.test", None, false).await;
    let token = foreign_token(&world, "down");
    ops_center_session(&redis, &token, &serde_json::json!({"user_id": user})).await;
    assert_eq!(world.get(USAGE, &token).await.status, 200);

    gate.open.store(false, Ordering::SeqCst);
    for _ in 0..2 {
        let answer = world.get(USAGE, &token).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some("redis.unavailable")));
        assert!(answer.header("retry-after").is_some_and(|wait| wait.parse::<u32>().is_ok_and(|wait| wait > 0)));
        assert_eq!(world.get(USAGE, &own).await.status, 200, "own sessions need no Redis");
    }
    assert_eq!(world.get_anonymous(USAGE).await.status, 401, "nobody is nobody without asking Redis");

    gate.open.store(true, Ordering::SeqCst);
    let mut status = 0;
    for _ in 0..50 {
        status = world.get(USAGE, &token).await.status;
        if status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(status, 200, "Redis is back, and nobody restarted anything");
}

#[tokio::test]
async fn a_redis_that_never_answers_is_not_waited_for() {
    // Accepts and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let world = world_with_redis(&format!("redis://{}", silent.local_addr().expect("address"))).await;
    let own = world.admin().await;
    let answer = world.get(USAGE, &foreign_token(&world, "silent")).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some("redis.unavailable")));
    assert_eq!(world.get(USAGE, &own).await.status, 200);
}
