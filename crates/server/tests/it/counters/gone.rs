//! I-22: a caller who goes away while a reservation is made, committed or released leaves the whole or nothing, and no room that is
//! given out twice.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;

use super::{Adapter, BOTH, Rig, code};

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
            dropped_at(rig.commit(&first, "0.2"), polls % 11).await;
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
