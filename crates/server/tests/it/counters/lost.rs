//! F-26: a failover to a replica that has not heard everything. What was acknowledged to somebody is put back.

use std::time::Duration;

use billhook::counters::{Counters, book};
use billhook::ops::publishing::{self, proof};
use billhook::store::db::Value;

use super::lines::settled;
use super::server::{Server, wait_for};
use super::trace::{published, to_publish};
use super::{Adapter, Rig, code};

/// What Redis has is what the log says, and what is held is the sum of its holds (I-03).
pub async fn agrees(rig: &Rig) -> Vec<String> {
    billhook::ops::usage::totals::write_down(rig.app()).await.expect("written down");
    proof::compare(rig.app(), Duration::ZERO).await.expect("compared")
}

/// Redis is set back to an earlier state, as a stale replica is: every way in which that can be noticed.
#[tokio::test]
async fn f26_a_redis_that_is_set_back_is_brought_up_to_date_before_it_decides() {
    let rig = Rig::new(Adapter::Redis).await;
    let server = rig.server.as_ref().expect("a Redis");
    let key = format!("bh:{{{}}}:", book::shard_of(&rig.user));
    let names = ["a", "h"].map(|part| format!("{key}{part}:{}", rig.user));
    let names = [names[0].clone(), names[1].clone(), "bh:x".to_owned(), format!("{key}wm")];

    rig.record("e1", "inference", "0.5").await;
    rig.reserve("first", "inference", "1").await.expect("held");
    publishing::verify(rig.app()).await.expect("published");
    // All keys are copied aside; later they take the place of the real ones.
    for name in &names {
        server.ask(&["COPY", name, &format!("old:{name}")]);
    }
    rig.reserve("second", "inference", "2").await.expect("held");
    rig.commit("first", "1").await.expect("committed");
    rig.record("e2", "inference", "1").await;
    publishing::verify(rig.app()).await.expect("published");
    let old = |name: &String| server.ask(&["COPY", &format!("old:{name}"), name, "REPLACE"]);
    for name in &names {
        assert_eq!(old(name), "1", "{name}");
    }
    // 0.5 + 1 + 1 are used and 2 held: there is room for a half, and for no more.
    assert_eq!(code(rig.reserve("third", "inference", "0.6").await), "credits.exhausted");
    assert_eq!(code(rig.reserve("third", "inference", "0.5").await), "ok");
    publishing::verify(rig.app()).await.expect("published");
    assert_eq!(agrees(&rig).await, [""; 0]);
    assert_eq!(published(&rig), to_publish(&rig));
}

/// An evicting Redis takes the holds of an account and leaves their sum: that is free when their time is over, and no earlier.
#[tokio::test]
async fn f23_what_lost_holds_sum_to_is_free_when_their_time_is_over() {
    let rig = Rig::new(Adapter::Redis).await;
    rig.reserve_for("short", "inference", "3", Duration::from_secs(20)).await.expect("held");
    rig.reserve_for("long", "inference", "1", Duration::from_mins(2)).await.expect("held");
    let server = rig.server.as_ref().expect("a Redis");
    server.ask(&["DEL", &format!("bh:{{{}}}:h:{}", book::shard_of(&rig.user), rig.user)]);
    assert_eq!(code(rig.reserve("more", "inference", "2").await), "credits.exhausted");
    rig.world.clock.advance(Duration::from_secs(21));
    assert_eq!(code(rig.reserve("most", "inference", "4").await), "ok");
    assert_eq!(code(rig.reserve("more", "inference", "0.5").await), "credits.exhausted", "the long one is held");
    assert_eq!(agrees(&rig).await, [""; 0]);
}

/// An account that nobody can read, nor count anew, is the trouble of its user: everybody else's is published.
#[tokio::test]
async fn an_account_that_cannot_be_read_keeps_nobody_elses_from_redis() {
    let mut rig = Rig::new(Adapter::Redis).await;
    let (broken, _) = rig.world.user("broken@example.com", None, false).await;
    rig.record("good", "inference", "1").await;
    let good = std::mem::replace(&mut rig.user, broken.clone());
    rig.record("bad", "inference", "1").await;
    billhook::ops::usage::totals::write_down(rig.app()).await.expect("written down");
    let spoil = |sql: &'static str, args: Vec<Value>| rig.app().db.write(move |tx| tx.run(sql, &args));
    let state = Value::from(Vec::<u8>::new());
    spoil("UPDATE accounts SET state = ?2 WHERE user_id = ?1", vec![broken.clone().into(), state])
        .await
        .expect("spoilt");
    spoil("DELETE FROM usage_log WHERE user_id = ?1", vec![broken.clone().into()]).await.expect("lost");
    let rig = rig.after_a_crash().await;
    let server = rig.server.as_ref().expect("a Redis");
    server.ask(&["FLUSHALL"]);
    publishing::verify(rig.app()).await.expect("published");
    let there = |user: &str| server.ask(&["EXISTS", &format!("bh:{{{}}}:a:{user}", book::shard_of(user))]);
    assert_eq!([there(&good), there(&broken)], ["1", "0"]);
}

/// Publishing a million accounts takes seconds: what has expired is free meanwhile.
#[tokio::test]
async fn what_has_expired_is_freed_while_accounts_are_published() {
    let rig = Rig::new(Adapter::Redis).await;
    let Counters::Redis(shared) = &rig.app().counters else { panic!("counters in Redis") };
    let _publishing = shared.view.lock().await;
    let freed = rig.app().counters.sweep(&rig.app().book, rig.app().clock.now());
    tokio::time::timeout(Duration::from_secs(5), freed).await.expect("waits for nobody").expect("freed");
}

/// An id that is held anew has the end of its new life, also where nobody has looked at the old one's end.
#[tokio::test]
async fn f26_what_is_held_anew_is_put_back_as_well() {
    let rig = Rig::new(Adapter::Redis).await;
    rig.reserve_for("again", "inference", "3", Duration::from_secs(20)).await.expect("held");
    rig.world.clock.advance(Duration::from_secs(21));
    rig.reserve_for("again", "inference", "3", Duration::from_mins(2)).await.expect("held anew");
    rig.app().counters.sweep(&rig.app().book, rig.app().clock.now()).await.expect("freed");
    rig.server.as_ref().expect("a Redis").ask(&["FLUSHALL"]);
    assert_eq!(code(rig.reserve("more", "inference", "2.5").await), "credits.exhausted");
    assert_eq!(code(rig.reserve("fits", "inference", "2").await), "ok");
}

/// The same with real servers: replicas are cut off, masters written to and killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f26_a_failover_that_loses_writes_loses_no_hold_and_no_usage() {
    let mut rig = Rig::new(Adapter::Cluster).await;
    let mut server = rig.server.take().expect("a cluster");
    let pairs = server.pairs();
    assert_eq!(pairs.len(), 3, "three masters, each with a replica");
    // One of three: the others have to agree on the failover.
    let (master, replica) = pairs[0];
    let key = |user: &str| format!("bh:{{{}}}:a:{user}", book::shard_of(user));
    let (mut users, mut hit) = (Vec::new(), Vec::new());
    while users.len() < 12 || hit.len() < 3 {
        let user = rig.world.user(&format!("u{}@example.com", users.len()), None, false).await.0;
        // Whoever does not have it says where it is.
        if server.at(master, &["EXISTS", &key(&user)]) == "0" {
            hit.push(user.clone());
        }
        users.push(user);
    }
    for user in &users {
        rig.user.clone_from(user);
        settled(&rig, &format!("{user}-kept"), "1").await;
    }
    publishing::verify(rig.app()).await.expect("published");

    for (_, replica) in &pairs {
        server.freeze(*replica);
    }
    for (master, _) in &pairs {
        server.at(*master, &["CLIENT", "KILL", "TYPE", "replica"]);
    }
    // Nobody but the masters hears of this.
    for user in &users {
        rig.user.clone_from(user);
        settled(&rig, &format!("{user}-lost"), "2").await;
        rig.record(&format!("{user}-e"), "inference", "1").await;
    }
    let held = |server: &Server, node: usize| -> Vec<String> {
        hit.iter().map(|user| server.at(node, &["HGET", &key(user), "held"])).collect()
    };
    assert!(held(&server, master).iter().all(|held| held == "3000000"));
    server.kill(master);
    for (_, replica) in &pairs {
        server.thaw(*replica);
    }
    wait_for("the failover", || server.role(replica) == "master");
    assert!(held(&server, replica).iter().all(|held| held == "1000000"), "its replica never heard of the rest");
    for user in &users {
        rig.user.clone_from(user);
        // 1 is used and 3 are held of 5.
        assert_eq!(settled(&rig, &format!("{user}-more"), "1.1").await, "credits.exhausted", "{user}");
        // Under another id: the failover may have kept the refused one's claim for a while.
        assert_eq!(settled(&rig, &format!("{user}-fits"), "1").await, "ok", "{user}");
    }
    let mut tries = 0;
    while let Err(error) = publishing::verify(rig.app()).await {
        tries += 1;
        assert!(tries < 100, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
