//! I-22: a caller who goes away while a reservation is made, committed or released leaves the whole or nothing, and no room that is
//! given out twice.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use billhook::counters::book;
use billhook::ops::reservations;
use futures_util::FutureExt;

use super::groups::reserve_new;
use super::server::Server;
use super::{Adapter, BOTH, Rig, code, quantity};

/// Polls a future so many times and lets go of it then.
async fn dropped_at<T>(work: impl Future<Output = T>, polls: usize) {
    let mut work = pin!(work);
    for _ in 0..polls {
        let ended = std::future::poll_fn(|context| Poll::Ready(work.as_mut().poll(context).is_ready())).await;
        if ended {
            return;
        }
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
}

/// Microcredits that are used.
fn used(rig: &Rig) -> i64 {
    let slot = rig.app().book.get(&rig.user).expect("an account");
    slot.lock().account.at(rig.world.now().as_millisecond()).used.micro()
}

/// The commit waits for the disk when its caller goes: it is under way, and its hold is nobody's to free.
#[tokio::test]
async fn i22_a_commit_whose_caller_goes_away_is_not_free_before_it_counts() {
    let rig = Rig::new(Adapter::Embedded).await;
    rig.record("first", "inference", "0").await;
    rig.reserve("a", "inference", "5").await.expect("held");
    let (let_go, held) = std::sync::mpsc::channel::<()>();
    let mut slow = Box::pin(rig.app().db.write(move |_| Ok(held.recv().is_ok())));
    assert!((&mut slow).now_or_never().is_none());
    // Its caller goes away at once, whether or not the log has refused it by then.
    drop(Box::pin(rig.commit("a", "5")).now_or_never());
    // Its caller is gone.
    assert_eq!(code(rig.release("a").await), "usage.conflict /status");
    assert_eq!(code(rig.reserve("b", "inference", "5").await), "credits.exhausted");
    let_go.send(()).expect("it waits");
    slow.await.expect("written");
    rig.record("last", "inference", "0").await;
    assert_eq!((used(&rig), rig.left().await.as_str()), (5_000_000, "0"));
    assert!(rig.commit("a", "5").await.expect("committed").replayed);
}

/// Two attempts, and only one of them comes to nothing: as long as the other may be recorded, nobody releases what is held.
#[tokio::test]
async fn i04_an_attempt_that_fails_leaves_the_other_its_hold() {
    let rig = Rig::new(Adapter::Embedded).await;
    rig.reserve("a", "inference", "5").await.expect("held");
    let book = &rig.app().book;
    assert!(book.commit_begins("a", false) && book.commit_begins("a", false));
    book.commit_failed("a");
    assert_eq!(code(rig.release("a").await), "usage.conflict /status");
    rig.world.clock.advance(Duration::from_secs(301));
    rig.app().counters.sweep(book, rig.world.now()).await.expect("swept");
    assert_eq!(code(rig.reserve("b", "inference", "5").await), "credits.exhausted");
    book.commit_failed("a");
    assert_eq!(code(rig.reserve("b", "inference", "5").await), "ok", "it was over");
}

/// The same where it could not be written: then the reservation is as it was.
#[tokio::test]
async fn i22_a_commit_that_fails_after_its_caller_went_away_is_held_again() {
    let rig = Rig::new(Adapter::Embedded).await;
    rig.record("first", "inference", "0").await;
    rig.reserve("a", "inference", "5").await.expect("held");
    let on_the_writer = async |sql: &'static str| {
        rig.app().db.write(move |tx| tx.rows(sql, &[]).map(drop)).await.expect(sql);
    };
    on_the_writer("CREATE TRIGGER no_room BEFORE INSERT ON usage_log BEGIN SELECT RAISE(ABORT, 'no room'); END").await;
    // Its caller goes away at once, whether or not the log has refused it by then.
    drop(Box::pin(rig.commit("a", "5")).now_or_never());
    on_the_writer("DROP TRIGGER no_room").await;
    assert_eq!(rig.left().await, "0", "it is held");
    rig.release("a").await.expect("released");
    assert_eq!((used(&rig), rig.left().await.as_str()), (0, "5"));
}

#[tokio::test]
async fn i22_whoever_lets_go_at_any_point_spends_nothing_twice() {
    for adapter in BOTH {
        let rig = Rig::new(adapter).await;
        for polls in 0..24 {
            let (first, second) = (format!("a{polls}"), format!("b{polls}"));
            dropped_at(rig.reserve(&first, "inference", "0.2"), polls % 7).await;
            let _ = rig.reserve(&first, "inference", "0.2").await.expect("held");
            Box::pin(dropped_at(rig.commit(&first, "0.2"), polls % 11)).await;
            let released = code(rig.release(&first).await);
            let _ = rig.reserve(&second, "inference", "0.2").await;
            dropped_at(rig.release(&second), polls % 5).await;
            let _ = rig.release(&second).await;
            // The writer has done everything before this one.
            rig.record(&format!("e{polls}"), "inference", "0").await;
            let again = code(rig.commit(&first, "0.2").await);
            // Resolved one way and for good, whichever it was.
            let one_way = (released == "ok") != (again == "ok");
            assert!(one_way, "{adapter:?}, {polls}: {released}, {again}");
            if released == "ok" {
                rig.record(&format!("f{polls}"), "inference", "0.2").await;
            }
            let left = 5_000_000 - used(&rig);
            assert_eq!(used(&rig), 200_000 * (i64::try_from(polls).expect("few") + 1), "{adapter:?}, {polls}");
            assert_eq!(rig.left().await, billing::usage::Credits::from_micro(left).wire(), "{adapter:?}, {polls}");
        }
    }
}

/// Asks while Redis takes nothing that is written, and goes away before it does; what was asked is done then, or is lost with its
/// connection.
async fn gone_meanwhile<T>(server: &Server, is_lost: bool, work: impl Future<Output = T>) {
    server.ask(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    let left = tokio::time::timeout(Duration::from_millis(50), Box::pin(work)).await;
    assert!(left.is_err(), "nobody could answer");
    if is_lost {
        server.ask(&["CLIENT", "KILL", "TYPE", "normal"]);
    }
    server.ask(&["CLIENT", "UNPAUSE"]);
}

async fn swept(rig: &Rig) {
    rig.app().counters.sweep(&rig.app().book, rig.world.now()).await.expect("swept");
}

/// Claims that are not given up keep a reservation from everybody until its time is over, and a minute longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i22_a_commit_that_nobody_waits_for_any_more_before_it_is_begun_leaves_the_reservation_free() {
    let rig = Rig::new(Adapter::Redis).await;
    let server = rig.server.as_ref().expect("a Redis");
    for (round, is_lost) in [false, true].into_iter().enumerate() {
        let [id, other] = [format!("a{round}"), format!("b{round}")];
        for id in [&id, &other] {
            rig.reserve(id, "inference", "1").await.expect("held");
        }
        if !is_lost {
            gone_meanwhile(server, false, rig.commit(&other, "1")).await;
        }
        gone_meanwhile(server, is_lost, rig.commit(&id, "1")).await;
        // Whoever tries again is not kept waiting by it, whether or not it was given up by then.
        assert!(!rig.commit(&other, "1").await.expect("committed").replayed, "lost: {is_lost}");
        swept(&rig).await;
        assert_eq!(code(rig.release(&other).await), "usage.conflict /status", "lost: {is_lost}");
        assert_eq!(code(rig.release(&id).await), "ok", "lost: {is_lost}");
    }
    assert_eq!((used(&rig), rig.left().await.as_str()), (2_000_000, "3"));
}

/// What was handed to the log is under way, whoever says the same again and goes away meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i22_a_commit_under_way_is_nobodys_to_release_although_its_caller_and_another_went_away() {
    let rig = Rig::new(Adapter::Redis).await;
    let server = rig.server.as_ref().expect("a Redis");
    rig.record("first", "inference", "0").await;
    rig.reserve("a", "inference", "5").await.expect("held");
    let (let_go, held) = std::sync::mpsc::channel::<()>();
    let mut slow = Box::pin(rig.app().db.write(move |_| Ok(held.recv().is_ok())));
    assert!((&mut slow).now_or_never().is_none());
    let left = tokio::time::timeout(Duration::from_millis(200), Box::pin(rig.commit("a", "5"))).await;
    assert!(left.is_err(), "the log is busy");
    gone_meanwhile(server, true, rig.commit("a", "5")).await;
    // The connection was lost, which the next who asks finds out.
    let _ = rig.reserve("b", "inference", "0").await;
    swept(&rig).await;
    assert_eq!(code(rig.release("a").await), "usage.conflict /status");
    assert_eq!(code(rig.reserve("c", "inference", "5").await), "credits.exhausted");
    let_go.send(()).expect("it waits");
    slow.await.expect("written");
    rig.record("last", "inference", "0").await;
    assert_eq!((used(&rig), rig.left().await.as_str()), (5_000_000, "0"));
    assert!(rig.commit("a", "5").await.expect("committed").replayed);
}

/// A release of which Redis has not heard is told when it is swept, although its caller went away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i22_a_release_that_nobody_waits_for_any_more_is_told_all_the_same() {
    let rig = Rig::new(Adapter::Redis).await;
    let server = rig.server.as_ref().expect("a Redis");
    rig.reserve("a", "inference", "1").await.expect("held");
    gone_meanwhile(server, true, rig.release("a")).await;
    let key = format!("bh:{{{}}}:h:{}", book::shard_of(&rig.user), rig.user);
    assert!(server.ask(&["HGET", &key, "a"]).starts_with('h'), "Redis has not heard of it");
    // The connection was lost, which the next who asks finds out.
    let _ = rig.reserve("b", "inference", "0").await;
    swept(&rig).await;
    assert!(server.ask(&["HGET", &key, "a"]).starts_with('r'));
    assert_eq!((code(rig.commit("a", "1").await).as_str(), rig.left().await.as_str()), ("usage.conflict /status", "5"));
}

/// Of a question that uses up a rate nobody can say whether it was asked: it is not asked again for those who waited behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i22_a_rate_is_used_up_once_although_whoever_asked_for_all_went_away() {
    let rig = Rig::new(Adapter::Redis).await.in_tier("open");
    let server = rig.server.as_ref().expect("a Redis");
    let pass = |amount| Box::pin(reservations::pass(rig.app(), &rig.user, "stt", quantity(amount)));
    reserve_new(&rig, "stt", "0", Duration::from_mins(5)).await.expect("held");
    server.ask(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    let mut first = pass("1");
    assert!((&mut first).now_or_never().is_none(), "it asks for itself");
    let (mut leads, mut waits) = (pass("20"), pass("30"));
    assert!((&mut leads).now_or_never().is_none() && (&mut waits).now_or_never().is_none());
    server.ask(&["CLIENT", "UNPAUSE"]);
    first.await.expect("a standing");
    server.ask(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    assert!((&mut leads).now_or_never().is_none(), "it asks for itself and the other");
    // What is dropped before it was sent is not sent at all.
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(leads);
    server.ask(&["CLIENT", "UNPAUSE"]);
    assert_eq!(code(waits.await), "limit.unknown", "it is told that nobody knows");
    // 1, 20 and 30 are used up of 60, and not 30 once more.
    assert_eq!(code(reserve_new(&rig, "stt", "9", Duration::from_mins(5)).await), "ok");
    assert_eq!(code(reserve_new(&rig, "stt", "1", Duration::from_mins(5)).await), "limit.minute");
}
