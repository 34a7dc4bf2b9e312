//! Whatever is changed in Redis behind the program's back is named by user, type and period, and put right (I-12).

use std::collections::BTreeMap;
use std::time::Duration;

use billhook::counters::{Counters, book};
use billhook::ops::publishing::{self, proof};
use billhook::ops::reservations;
use billhook::store::db::Value;

use super::lost::agrees;
use super::{Adapter, Rig, code};
use crate::harness::Database;

/// The names of the keys that concern a user: account, holds, ends of holds, position of the shard.
pub(super) fn keys(user: &str) -> [String; 4] {
    let prefix = format!("bh:{{{}}}:", book::shard_of(user));
    [format!("{prefix}a:{user}"), format!("{prefix}h:{user}"), "bh:x".to_owned(), format!("{prefix}wm")]
}

/// Half a credit is used and one is held.
async fn rig() -> Rig {
    let rig = Rig::new(Adapter::Redis).await;
    rig.record("e1", "inference", "0.5").await;
    rig.reserve("a", "inference", "1").await.expect("held");
    reservations::write_down(rig.app()).await.expect("written down");
    publishing::verify(rig.app()).await.expect("published");
    assert_eq!(agrees(&rig).await, [""; 0]);
    rig
}

fn ask(rig: &Rig, command: &[&str]) -> String {
    rig.server.as_ref().expect("a Redis").ask(command)
}

/// Another process, as `billhook doctor` is one: it knows what the database knows.
async fn doctor(rig: &Rig) -> Rig {
    let url = rig.server.as_ref().expect("a Redis").url();
    Rig::at(Some(url), Database::Elsewhere(rig.world.database.address())).await
}

async fn named(doctor: &Rig) -> Vec<String> {
    proof::compare(doctor.app(), Duration::ZERO).await.expect("compared")
}

/// Does this to Redis: it is named so, put right as one account, and nothing was given away by it.
async fn is_put_right(rig: &Rig, command: &[&str], faults: &[&str]) {
    ask(rig, command);
    let doctor = doctor(rig).await;
    let expected: Vec<String> = faults.iter().map(|fault| format!("user {}{fault}", rig.user)).collect();
    assert_eq!(named(&doctor).await, expected, "{command:?}");
    assert_eq!(proof::repair(doctor.app(), Duration::ZERO).await.expect("put right"), 1, "{command:?}");
    assert_eq!(named(&doctor).await, [""; 0], "{command:?}");
    assert_eq!(rig.left().await, "3.5", "{command:?}");
    assert_eq!(agrees(rig).await, [""; 0], "{command:?}");
}

/// The reservation outlived all of it, and nothing more was given away.
async fn is_still_held(rig: &Rig) {
    assert_eq!(code(rig.reserve("c", "inference", "3.6").await), "credits.exhausted");
    rig.commit("a", "1").await.expect("committed");
    assert_eq!(rig.left().await, "3.5");
}

/// Everything by which Redis decides: credits, sums of day and period, the instant until which it goes by them, sums of holds.
#[tokio::test]
async fn what_differs_in_an_account_in_redis_is_named_and_put_right() {
    let rig = rig().await;
    let [account, ..] = keys(&rig.user);
    let of_the_day = |kind: &str, there: &str, log: &str| {
        format!(", {kind}, day from 2026-11-22T00:00:00Z: Redis has {there} used, the log says {log}")
    };
    let (month, until) = ("period from 2026-11-01T00:00:00Z", "2026-11-23T00:00:00Z");
    for (command, field, value, fault) in [
        ("HINCRBY", "credits", "100000000", format!(", credits, {month}: Redis leaves 104.5, the log says 4.5")),
        ("HSET", "credits", "all", format!(", credits, {month}: Redis leaves \"all\", the log says 4.5")),
        ("HSET", "d:inference", "0", of_the_day("inference", "0", "0.5")),
        ("HSET", "d:tts", "-3000000", of_the_day("tts", "-3", "0")),
        ("HSET", "m:inference", "x", format!(", inference, {month}: Redis has \"x\" used, the log says 0.5")),
        ("HSET", "over", "1", ": Redis says that the terms have ended".to_owned()),
        (
            "HSET",
            "until",
            "1900000000000",
            format!(": Redis goes by the account until 2030-03-17T17:46:40Z, it is right until {until}"),
        ),
        ("HSET", "h:inference", "0", ", inference: Redis holds 0, its reservations are 1".to_owned()),
        ("HINCRBY", "held", "-1", ", credits: Redis holds 0.999999, its reservations are 1".to_owned()),
        ("HSET", "entry", "1", ": the account in Redis is published at 1, the log is at 2".to_owned()),
        ("HSET", "entry", "900", ": the account in Redis is published at 900, the log is at 2".to_owned()),
        ("HSET", "log", "log_of_another", ": the account in Redis is not published".to_owned()),
    ] {
        is_put_right(&rig, &[command, &account, field, value], &[&fault]).await;
    }
    let fault = format!(", inference, {month}: Redis has \"\" used, the log says 0.5");
    is_put_right(&rig, &["HDEL", &account, "m:inference"], &[&fault]).await;
    is_put_right(&rig, &["DEL", &account], &[": the account in Redis is not published"]).await;
    is_still_held(&rig).await;
}

/// Reservations that are lost there, that end at another time, and that nobody has made.
#[tokio::test]
async fn what_differs_in_the_holds_in_redis_is_named_and_put_right() {
    let rig = rig().await;
    let [account, holds, ends, _] = keys(&rig.user);
    let lost = [
        ", credits: Redis holds 1, its reservations are 0",
        ", inference: Redis holds 1, its reservations are 0",
        ": the reservation a is open and not held in Redis",
    ];
    is_put_right(&rig, &["DEL", &holds], &lost).await;
    let endless = ": the reservation a in Redis does not end with its time";
    is_put_right(&rig, &["DEL", &ends], &[endless]).await;
    let later = "redis.call('ZADD', KEYS[1], 1900000000000, ARGV[1] .. '\\0a')";
    let owner = format!("{}:{}", book::shard_of(&rig.user), rig.user);
    is_put_right(&rig, &["EVAL", later, "1", &ends, &owner], &[endless]).await;
    let one_more = "redis.call('HSET', KEYS[2], 'b', 'h:500000:500000:1800000000000:inference')
        redis.call('HINCRBY', KEYS[1], 'held', 500000) redis.call('HINCRBY', KEYS[1], 'h:inference', 500000)
        redis.call('ZADD', KEYS[3], 1800000000000, ARGV[1] .. '\\0b')";
    let command = ["EVAL", one_more, "3", &account, &holds, &ends, &owner];
    is_put_right(&rig, &command, &[", inference: nobody knows of the reservation b in Redis"]).await;
    is_still_held(&rig).await;
}

/// Somebody else's program has written over our keys.
#[tokio::test]
async fn what_is_not_of_ours_in_redis_is_named_and_put_right() {
    let rig = rig().await;
    for key in &keys(&rig.user)[..3] {
        ask(&rig, &["DEL", key]);
        is_put_right(&rig, &["SET", key, "mine"], &[": what lies in Redis is not of this program"]).await;
    }
    is_still_held(&rig).await;
}

/// Each with what is held of them and of nobody else.
#[tokio::test]
async fn several_accounts_are_put_right_in_one_go() {
    let mut rig = rig().await;
    // What is held later it knows from the database alone.
    let doctor = doctor(&rig).await;
    let first = rig.user.clone();
    let mut users = vec![(first.clone(), "3.5")];
    for (name, used, left) in [("v", "2", "2"), ("w", "0.5", "3.5")] {
        rig.user = rig.world.user(&format!("{name}@example.com"), None, false).await.0;
        rig.record(&format!("e-{name}"), "inference", used).await;
        rig.reserve(&format!("r-{name}"), "inference", "1").await.expect("held");
        users.push((rig.user.clone(), left));
    }
    reservations::write_down(rig.app()).await.expect("written down");
    publishing::verify(rig.app()).await.expect("published");
    for (user, _) in &users {
        let [account, holds, ..] = keys(user);
        ask(&rig, &["DEL", &account, &holds]);
    }
    assert_eq!(proof::repair(doctor.app(), Duration::ZERO).await.expect("put right"), users.len());
    assert_eq!(named(&doctor).await, [""; 0]);
    for (user, left) in users {
        rig.user = user;
        assert_eq!(rig.left().await, left, "{}", rig.user);
    }
    rig.user = first;
    is_still_held(&rig).await;
}

/// What was found of it is of another moment: the next round looks again.
#[tokio::test]
async fn an_account_that_has_moved_since_it_was_looked_at_is_not_written_over() {
    let rig = rig().await;
    let Counters::Redis(shared) = &rig.app().counters else { panic!("a Redis") };
    let (now, open) = (rig.world.now(), BTreeMap::new());
    let account = || rig.app().book.get(&rig.user).expect("an account").lock().account.clone();
    let seen = account();
    let found = shared.inspect(&rig.user, &seen, &open, now).await.expect("looked at");
    rig.record("e2", "inference", "2").await;
    publishing::verify(rig.app()).await.expect("published");
    assert!(!shared.mend(&rig.user, &seen, &open, &found, now).await.expect("asked"), "it has moved");
    assert_eq!(agrees(&rig).await, [""; 0]);
    let found = shared.inspect(&rig.user, &account(), &open, now).await.expect("looked at");
    assert!(shared.mend(&rig.user, &account(), &open, &found, now).await.expect("asked"), "it has stood still");
}

/// Also of somebody who has not used anything yet.
#[tokio::test]
async fn an_account_without_an_entry_is_compared_too() {
    let rig = Rig::new(Adapter::Redis).await;
    assert_eq!(agrees(&rig).await, [""; 0], "nobody has asked for it");
    assert_eq!(rig.left().await, "5");
    assert_eq!(agrees(&rig).await, [""; 0]);
    ask(&rig, &["HINCRBY", &keys(&rig.user)[0], "credits", "100000000"]);
    let doctor = doctor(&rig).await;
    let fault = "credits, period from 2026-11-01T00:00:00Z: Redis leaves 105, the log says 5";
    assert_eq!(named(&doctor).await, [format!("user {}, {fault}", rig.user)]);
    assert_eq!(proof::repair(doctor.app(), Duration::ZERO).await.expect("put right"), 1);
    assert_eq!((named(&doctor).await.len(), rig.left().await.as_str()), (0, "5"));
}

/// Their terms may change before the first entry: the new ones hold at once.
#[tokio::test]
async fn new_terms_of_an_account_without_an_entry_are_published() {
    let rig = Rig::new(Adapter::Redis).await;
    rig.reserve("a", "inference", "5").await.expect("held");
    assert_eq!(code(rig.reserve("b", "inference", "1").await), "credits.exhausted");
    let rig = rig.in_tier("open");
    let user = rig.user.clone();
    rig.app().db.write(move |tx| billhook::store::plans::mark_user(tx, &user)).await.expect("marked");
    billhook::ops::usage::plans::follow(rig.app()).await.expect("followed");
    assert_eq!(code(rig.reserve("b", "inference", "1").await), "ok");
    reservations::write_down(rig.app()).await.expect("written down");
    assert_eq!(named(&doctor(&rig).await).await, [""; 0]);
}

/// A key of ours that holds something else keeps nobody from their work: it is thrown away and published anew.
#[tokio::test]
async fn a_key_of_another_kind_is_put_right_by_whoever_meets_it() {
    let rig = rig().await;
    for (number, key) in keys(&rig.user).iter().enumerate() {
        ask(&rig, &["DEL", key]);
        ask(&rig, &["LPUSH", key, "something"]);
        let id = format!("r{number}");
        assert_eq!(code(rig.reserve(&id, "inference", "3.6").await), "credits.exhausted", "{key}");
        rig.reserve(&id, "inference", "3.5").await.expect(key);
        assert_eq!(rig.left().await, "0", "{key}");
        rig.release(&id).await.expect(key);
        publishing::verify(rig.app()).await.expect(key);
        proof::repair(rig.app(), Duration::ZERO).await.expect(key);
        assert_eq!((rig.left().await.as_str(), agrees(&rig).await.len()), ("3.5", 0), "{key}");
    }
}

/// What moves while it is looked at is no difference.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_that_move_do_not_differ() {
    let rig = rig().await;
    let doctor = doctor(&rig).await;
    let moving = async {
        for number in 0..40 {
            let id = format!("m{number}");
            rig.reserve(&id, "inference", "0.01").await.expect("held");
            rig.commit(&id, "0.01").await.expect("committed");
            reservations::write_down(rig.app()).await.expect("written down");
        }
    };
    let looking = proof::compare(doctor.app(), Duration::from_secs(20));
    let ((), differences) = tokio::join!(moving, looking);
    assert_eq!(differences.expect("compared"), [""; 0]);
}

/// There is always one that is open and not held, as beside reservations of a second: never the same one, or one id with another
/// life. What stays so meanwhile is named, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_stays_different_for_the_same_reservation_is_named() {
    let rig = rig().await;
    let doctor = doctor(&rig).await;
    let [account, ..] = keys(&rig.user);
    let lasting = format!("user {}: the reservation lasting is open and not held in Redis", rig.user);
    for (case, is_missing) in [("nothing", false), ("one", true)] {
        let done = std::sync::atomic::AtomicBool::new(false);
        open_anew(&rig, &[("first", 4_000_000_000_000), ("lasting", 4_000_000_000_000)][..=usize::from(is_missing)])
            .await;
        let coming_and_going = async {
            for number in 0_i64.. {
                if done.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                let (id, expires_ms) = (format!("m{number}"), 4_000_000_000_000 + number);
                let mut open = vec![(id.as_str(), 4_000_000_000_000), ("again", expires_ms)];
                open.extend(is_missing.then_some(("lasting", 4_000_000_000_000)));
                open_anew(&rig, &open).await;
                ask(&rig, &["HSET", &account, "entry", &(900 + number).to_string()]);
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
        };
        let looking = async {
            let differences = proof::compare(doctor.app(), Duration::from_secs(2)).await;
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            differences.expect("compared")
        };
        let ((), differences) = tokio::join!(coming_and_going, looking);
        assert_eq!(differences, if is_missing { vec![lasting.clone()] } else { Vec::new() }, "{case}");
    }
}

/// Of what is written down as open, besides the one of the rig, exactly these are left.
async fn open_anew(rig: &Rig, open: &[(&str, i64)]) {
    let rows: Vec<Vec<Value>> = open
        .iter()
        .map(|(id, expires_ms)| vec![(*id).into(), rig.user.as_str().into(), Value::Int(*expires_ms)])
        .collect();
    let write = move |tx: &mut billhook::store::Tx<'_>| {
        tx.run("DELETE FROM reservations WHERE expires_ms >= 4000000000000", &[])?;
        rows.iter().try_for_each(|row| {
            tx.run("INSERT INTO reservations VALUES (?1, ?2, 'inference', 1, 1, ?3)", row).map(drop)
        })
    };
    rig.app().db.write(write).await.expect("rows");
}

/// What is written down as open and cannot be: after a restart it would be held, or would give credits.
#[tokio::test]
async fn reservations_that_cannot_be_open_are_named_and_taken_away() {
    let rig = Rig::new(Adapter::Embedded).await;
    let app = rig.app();
    let named = async || reservations::proof::compare(app).await.expect("compared");
    let kept = async || app.db.read(|tx| billhook::store::reservations::open(tx, 0)).await.expect("rows").len();
    rig.reserve("a", "inference", "1").await.expect("held");
    rig.reserve("b", "inference", "1").await.expect("held");
    reservations::write_down(app).await.expect("written down");
    assert_eq!(named().await, [""; 0]);
    rig.commit("a", "1").await.expect("committed");
    for (id, user, credits) in [("c", "nobody", 1), ("d", rig.user.as_str(), -1)] {
        let sql = "INSERT INTO reservations VALUES (?1, ?2, 'inference', 1, ?3, 4000000000000)";
        let row: Vec<Value> = vec![id.into(), user.into(), Value::Int(credits)];
        app.db.write(move |tx| tx.run(sql, &row)).await.expect("a row");
    }
    let user = &rig.user;
    assert_eq!(
        named().await,
        [
            "user nobody, inference: c is written down for somebody whom nobody knows".to_owned(),
            format!("user {user}, inference: d is written down with less than nothing"),
        ]
    );
    reservations::proof::repair(app).await.expect("taken away");
    assert_eq!((named().await.len(), kept().await), (0, 2), "what is committed goes with the next note");
}
