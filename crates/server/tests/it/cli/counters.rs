//! Who decides what may be held: all that serve one database have the same counters, or each would give out every cap (I-03).

use std::time::{Duration, Instant};

use super::{add_user, refused};
use crate::harness::Database;
use crate::harness::database::variable;
use crate::harness::program::{Program, Running};
use crate::harness::{client, send};

const SERVE: [&str; 3] = ["serve", "--listen", "127.0.0.1:0"];

fn program(database: &Database, redis: Option<&str>) -> Program {
    let program = Program::new().with("DATABASE_URL", &database.address());
    match redis {
        Some(redis) => program.with("REDIS_URL", redis),
        None => program,
    }
}

fn serving(database: &Database, redis: Option<&str>) -> Running {
    served(database, redis).0
}

/// A server, and where it listens.
fn served(database: &Database, redis: Option<&str>) -> (Running, String) {
    let running = program(database, redis).start(&SERVE);
    let base = running.stderr.base();
    (running, base)
}

/// What a server says to a reservation of sixty credits.
async fn reserved(base: &str, key: &str, user: &str, id: &str) -> (u16, String) {
    let ask = format!(r#"{{"id":"{id}","user_id":"{user}","type":"inference","quantity":60}}"#);
    let headers = [("authorization", key), ("content-type", "application/json")];
    let url = format!("{base}/api/v1/usage/reservations");
    let answer = send(&client(), "POST", &url, &headers, &ask).await;
    (answer.status, answer.header("billing-degraded").unwrap_or_default().to_owned())
}

/// What a server says to a release; "x" was reserved.
async fn released(base: &str, key: &str) -> u16 {
    let url = format!("{base}/api/v1/usage/reservations/x");
    send(&client(), "DELETE", &url, &[("authorization", key)], "").await.status
}

/// Of a trial's hundred credits sixty are held once, whoever is asked; and when the one that decides ends, the other does.
#[tokio::test(flavor = "multi_thread")]
async fn i03_of_two_servers_without_a_redis_one_decides() {
    let database = Database::postgres();
    let (first, one) = served(&database, None);
    let told = program(&database, None);
    let user = add_user(&told, "ada@here.test", &[]);
    let key = told.run(&["key", "issue", "--name", "gateway", "--scope", "usage:write"]);
    let key = format!("Bearer {}", key.line());
    let (second, other) = served(&database, None);
    assert_eq!(reserved(&one, &key, &user, "x").await, (201, String::new()));
    assert_eq!(reserved(&other, &key, &user, "y").await, (503, "counters".to_owned()), "it cannot be decided there");
    // Ten times a second it is written down what is held.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(released(&other, &key).await, 503, "nor freed");
    first.stop();
    let start = Instant::now();
    let mut said = reserved(&other, &key, &user, "y").await;
    while said.0 == 503 && start.elapsed() < Duration::from_secs(20) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        said = reserved(&other, &key, &user, "y").await;
    }
    assert_eq!(said, (402, String::new()), "what the first has held is held");
    assert_eq!(released(&other, &key).await, 204);
    second.stop();
}

#[test]
fn i03_two_servers_of_one_database_have_one_redis() {
    let (database, redis) = (Database::postgres(), variable("BILLHOOK_TEST_REDIS"));
    let address = redis.trim_end_matches('/');
    let first = serving(&database, Some(&redis));
    let running = program(&database, Some(&format!("{address}/1"))).start(&SERVE);
    assert_eq!(running.stderr.base_or_end(), None, "it serves with another Redis");
    let done = running.wait();
    let expected = "REDIS_URL: another billhook serve works on this database with another Redis";
    assert!(refused(&done, 78).contains(expected), "{done:?}");
    assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
    serving(&database, Some(&format!("{address}/0"))).stop();
    first.stop();
}

/// Whoever was killed does not serve any more, and says so to nobody.
#[test]
fn a_killed_server_is_waited_for_and_not_for_long() {
    let database = Database::postgres();
    for _ in 0..2 {
        serving(&database, None).kill();
    }
    let start = Instant::now();
    serving(&database, None).stop();
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}
