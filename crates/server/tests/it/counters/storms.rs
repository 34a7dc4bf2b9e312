//! Redis is flushed, killed, frozen and started again while many reserve: nothing is spent twice, nothing counted is lost.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use billhook::counters::Counters;
use billhook::error::Error;
use billhook::jobs::Jobs;
use billhook::ops::publishing;
use futures_util::future::join_all;

use super::server::Server;
use super::trace::{Dice, published, to_publish};
use super::{Adapter, Rig, code};

/// What a storm has done.
#[derive(Debug, Default)]
struct Tally {
    granted: AtomicU64,
    undecided: AtomicU64,
    /// Millionths that commits were acknowledged for.
    committed: AtomicU64,
}

/// Reserves a tenth, and commits or releases it, until told to stop.
async fn spender(rig: &Rig, tally: &Tally, stop: &AtomicBool, number: u64, name: &str) {
    let mut dice = Dice::new(number + 77);
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let id = format!("{name}-{number}-{round}");
        match code(rig.reserve(&id, "inference", "0.2").await).as_str() {
            "ok" => drop(tally.granted.fetch_add(1, Ordering::Relaxed)),
            "credits.exhausted" => {
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            }
            "limit.unknown" => {
                tally.undecided.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
            other => panic!("{other}"),
        }
        tokio::time::sleep(Duration::from_millis(dice.below(4))).await;
        // One in forty counts, so that the cap is not reached before the storm is over.
        if dice.below(40) == 0 {
            let committed = rig.commit(&id, "0.01").await.expect("committed");
            tally.committed.fetch_add(u64::try_from(committed.quantity.micro()).expect("positive"), Ordering::Relaxed);
        } else {
            rig.release(&id).await.expect("released");
        }
    }
}

/// Used and held together, in millionths of a credit; held as this process was told.
fn taken(rig: &Rig) -> i64 {
    let Some(slot) = rig.app().book.get(&rig.user) else { return 0 };
    let state = slot.lock();
    state.account.at(rig.world.now().as_millisecond()).used.micro() + state.held.credits().micro()
}

const CAP: i64 = 5_000_000;

/// Runs spenders while `trouble` happens; what they did, and the most that was used and held at once.
async fn storm(
    rig: &Rig,
    name: &str,
    server: &mut Server,
    length: Duration,
    mut trouble: impl FnMut(&mut Server, u32),
) -> (Tally, i64) {
    let (tally, stop) = (Tally::default(), AtomicBool::new(false));
    let jobs = Jobs::start(rig.app(), std::sync::Arc::new(|_| ()));
    let end = Instant::now() + length;
    let watch = async {
        let mut most = 0;
        while !stop.load(Ordering::Relaxed) {
            most = most.max(taken(rig));
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        most
    };
    let trouble = async {
        let mut round = 0;
        while Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(120)).await;
            tokio::task::block_in_place(|| trouble(server, round));
            round += 1;
        }
        stop.store(true, Ordering::Relaxed);
    };
    let spenders = join_all((0..24).map(|number| spender(rig, &tally, &stop, number, name)));
    let (_, most, ()) = tokio::join!(spenders, watch, trouble);
    jobs.stop().await;
    (tally, most)
}

/// What was acknowledged is in the log, and Redis says what the log says.
async fn adds_up(rig: &Rig, tally: &Tally) {
    let slot = rig.app().book.get(&rig.user).expect("an account");
    let used = slot.lock().account.at(rig.world.now().as_millisecond()).used.micro();
    assert_eq!(u64::try_from(used).expect("positive"), tally.committed.load(Ordering::Relaxed), "{tally:?}");
    let mut tries = 0;
    while let Err(error) = publishing::verify(rig.app()).await {
        tries += 1;
        assert!(tries < 100, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(published(rig), to_publish(rig));
    assert!(tally.granted.load(Ordering::Relaxed) > 50, "{tally:?}");
}

/// F-22, F-23, F-24, I-03.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f23_nothing_is_spent_twice_while_redis_is_flushed_killed_and_frozen() {
    let mut rig = Rig::new(Adapter::Redis).await;
    if let Counters::Redis(shared) = &rig.app().counters {
        shared.allow(Duration::from_millis(50));
    }
    let mut server = rig.server.take().expect("a Redis");
    let flush = |server: &mut Server, _: u32| drop(server.ask(&["FLUSHALL"]));
    let kill = |server: &mut Server, round: u32| match round % 6 {
        0 => server.kill(0),
        3 => server.start_again(0),
        _ => {}
    };
    let freeze = |server: &mut Server, round: u32| match round % 6 {
        0 => server.freeze(0),
        3 => server.thaw(0),
        _ => {}
    };
    let mut all = Tally::default();
    for (name, trouble, cure) in [
        ("flush", &flush as &dyn Fn(&mut Server, u32), None),
        ("kill", &kill, Some(&(|server: &mut Server| server.start_again(0)) as &dyn Fn(&mut Server))),
        ("freeze", &freeze, Some(&|server: &mut Server| server.thaw(0))),
    ] {
        let (tally, most) =
            storm(&rig, name, &mut server, Duration::from_secs(4), |server, round| trouble(server, round)).await;
        assert!(most <= CAP, "{name}: {most} of {CAP} were used and held at once");
        assert!(tally.granted.load(Ordering::Relaxed) > 0, "{name}: {tally:?}");
        for (sum, more) in [
            (&mut all.granted, &tally.granted),
            (&mut all.undecided, &tally.undecided),
            (&mut all.committed, &tally.committed),
        ] {
            *sum.get_mut() += more.load(Ordering::Relaxed);
        }
        if let Some(cure) = cure {
            if name == "kill" {
                server.kill(0);
            }
            cure(&mut server);
        }
    }
    rig.server = Some(server);
    adds_up(&rig, &all).await;
}

/// F-22: ingest, and whatever is open, go on without Redis; what is closed says so, and it is said in a header.
#[tokio::test]
async fn f22_without_redis_every_limit_follows_its_own_policy() {
    for (tier, kind, expected) in [
        ("trial", "inference", "limit.unknown"),
        ("trial", "tts", "limit.unknown"),
        ("open", "inference", "ok"),
        ("open", "tts", "ok"),
        ("open", "stt", "limit.unknown"),
    ] {
        let mut rig = Rig::new(Adapter::Redis).await.in_tier(tier);
        rig.record("before", "inference", "1").await;
        rig.server.as_mut().expect("a Redis").kill(0);
        let outcome = rig.reserve("a", kind, "1").await;
        let undecided = outcome.as_ref().is_ok_and(|reservation| reservation.undecided);
        assert_eq!((code(outcome), undecided), (expected.to_owned(), expected == "ok"), "{tier} {kind}");
        assert_eq!(rig.app().counters.degraded(), Some("redis"));
        rig.record("during", "inference", "1").await;
        if expected == "ok" {
            assert!(rig.reserve("a", kind, "1").await.expect("let through").replayed);
            assert!(!rig.commit("a", "1").await.expect("committed").late);
            rig.release("never").await.expect_err("unknown");
        }
        let used = rig.app().book.get(&rig.user).expect("an account").lock().account.entries();
        assert_eq!(used, if expected == "ok" { 4 } else { 3 }, "the terms, and each event once");

        rig.server.as_mut().expect("a Redis").start_again(0);
        let mut tries = 0;
        while rig.app().counters.degraded().is_some() {
            tries += 1;
            assert!(tries < 100, "Redis is back and nobody noticed");
            tokio::time::sleep(Duration::from_millis(50)).await;
            let _ = rig.reserve(&format!("again{tries}"), kind, "0").await;
        }
    }
}

/// F-24: nobody waits for a Redis that does not answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f24_a_frozen_redis_keeps_nobody_waiting() {
    let rig = Rig::new(Adapter::Redis).await;
    rig.reserve("a", "inference", "1").await.expect("held");
    let Counters::Redis(shared) = &rig.app().counters else { panic!("this is Redis") };
    shared.allow(Duration::from_millis(50));
    let server = rig.server.as_ref().expect("a Redis");
    server.freeze(0);
    let mut lengths = Vec::new();
    for number in 0..100 {
        let from = Instant::now();
        let outcome = rig.reserve(&format!("r{number}"), "inference", "0.01").await;
        assert!(matches!(outcome, Err(Error::Refused(_))));
        lengths.push(from.elapsed());
    }
    lengths.sort_unstable();
    // Five wait for the deadline, then the way is closed for half a second at a time.
    assert!(lengths[98] <= Duration::from_millis(150), "{:?}", lengths[98]);
    assert!(lengths[80] <= Duration::from_millis(20), "{:?}", lengths[80]);
    server.thaw(0);
}
