//! Demands that wait at the same moment are decided by one call: fewer calls, and nobody is told anything else.

use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use billhook::counters::book;
use billhook::error::Error;
use billhook::ops::publishing::{self, proof};
use billhook::ops::reservations::{self, Ask, Reservation};
use billing::usage::Quantity;
use futures_util::future::join_all;

use super::server::Server;
use super::{Adapter, BOTH, Rig, code, quantity};

/// A reservation whose id the program makes.
pub async fn reserve_new(rig: &Rig, kind: &str, amount: &str, ttl: Duration) -> Result<Reservation, Error> {
    let ask = Ask { id: None, user: rig.user.clone(), kind: kind.to_owned(), quantity: quantity(amount), ttl };
    reservations::reserve(rig.app(), ask).await
}

const TTL: Duration = Duration::from_mins(5);

/// Calls of scripts that a server has counted.
fn calls(server: &Server) -> u32 {
    let stats = server.ask(&["INFO", "commandstats"]);
    let calls =
        stats.lines().filter_map(|line| line.strip_prefix("cmdstat_eval")?.split_once("calls=")?.1.split_once(','));
    calls.map(|(calls, _)| calls.parse::<u32>().expect("a number")).sum()
}

/// I-03, and what it costs: the first goes alone, and a hundred fit into a call.
#[tokio::test]
async fn i03_a_thousand_that_wait_for_one_account_are_a_few_calls() {
    let rig = Rig::new(Adapter::Redis).await;
    reserve_new(&rig, "inference", "0", TTL).await.expect("held");
    let server = rig.server.as_ref().expect("a Redis");
    server.ask(&["CONFIG", "RESETSTAT"]);
    let all = join_all((0..1_000).map(|_| reserve_new(&rig, "inference", "0.1", TTL))).await;
    assert_eq!(all.iter().filter(|outcome| outcome.is_ok()).count(), 50);
    assert!(calls(server) <= 12, "{} calls", calls(server));

    // Commits that are counted at the same moment are told there at once as well.
    let ids: Vec<String> = all.into_iter().flatten().map(|reservation| reservation.id).collect();
    server.ask(&["CONFIG", "RESETSTAT"]);
    let committed = join_all(ids.iter().map(|id| rig.commit(id, "0.05"))).await;
    assert!(committed.iter().all(Result::is_ok));
    assert!(calls(server) <= 12, "{} calls", calls(server));
    assert_eq!(rig.left().await, "2.5");
    billhook::ops::usage::totals::write_down(rig.app()).await.expect("written down");
    publishing::verify(rig.app()).await.expect("published");
    assert_eq!(proof::compare(rig.app(), Duration::ZERO).await.expect("compared"), [""; 0]);
}

async fn users(rig: &Rig, count: usize) -> Vec<String> {
    let mut users = Vec::new();
    for number in 0..count {
        users.push(rig.world.user(&format!("u{number}@example.com"), None, false).await.0);
    }
    users
}

async fn reserve_of(rig: &Rig, user: &str, amount: &str) -> String {
    let ask = Ask { id: None, user: user.to_owned(), kind: "inference".into(), quantity: quantity(amount), ttl: TTL };
    code(reservations::reserve(rig.app(), ask).await)
}

/// I-03 for many users: each has room for two, whoever is asked for beside them. On one server, that is a few calls.
#[tokio::test]
async fn i03_what_waits_for_many_accounts_is_a_few_calls() {
    for adapter in [Adapter::Redis, Adapter::Cluster] {
        let rig = Rig::new(adapter).await;
        let users = users(&rig, 40).await;
        // They are published once.
        join_all(users.iter().map(|user| reserve_of(&rig, user, "0"))).await;
        let server = rig.server.as_ref().expect("a Redis");
        server.ask(&["CONFIG", "RESETSTAT"]);
        let asked = (0..120).map(|number| reserve_of(&rig, &users[number % 40], "2"));
        let codes = join_all(asked).await;
        for (number, user) in users.iter().enumerate() {
            let told: Vec<&str> = codes.iter().skip(number).step_by(40).map(String::as_str).collect();
            assert_eq!(told, ["ok", "ok", "credits.exhausted"], "{adapter:?} {user}");
        }
        if adapter == Adapter::Redis {
            assert!(calls(server) <= 3, "{} calls", calls(server));
        }
    }
}

/// What is wrong with one account is told to nobody else.
#[tokio::test]
async fn an_account_that_cannot_be_read_is_asked_for_alone() {
    let rig = Rig::new(Adapter::Redis).await;
    let users = users(&rig, 3).await;
    join_all(users.iter().map(|user| reserve_of(&rig, user, "0"))).await;
    let key = format!("bh:{{{}}}:a:{}", book::shard_of(&users[1]), users[1]);
    rig.server.as_ref().expect("a Redis").ask(&["HSET", &key, "until", "soon"]);
    let codes = join_all(users.iter().map(|user| reserve_of(&rig, user, "5"))).await;
    assert_eq!(codes, ["ok", "limit.unknown", "ok"]);
    // What is asked beside an account that Redis has lost is decided all the same, and so is that one.
    rig.server.as_ref().expect("a Redis").ask(&["DEL", &key]);
    let codes = join_all(users.iter().map(|user| reserve_of(&rig, user, "1"))).await;
    assert_eq!(codes, ["credits.exhausted", "ok", "credits.exhausted"]);
}

/// However much is counted on an account between two publications, it is noted once; what is committed is noted each.
#[tokio::test]
async fn an_account_that_moves_often_is_noted_once() {
    let rig = Rig::new(Adapter::Embedded).await;
    let moves = &rig.app().book.moves;
    rig.record("e0", "inference", "0.1").await;
    assert!(moves.take().is_none(), "the log has to be asked");
    for round in 1..=2 {
        for number in 0..3 {
            rig.record(&format!("e{round}-{number}"), "inference", "0.1").await;
        }
        let id = format!("r{round}");
        rig.reserve(&id, "inference", "0.1").await.expect("held");
        rig.commit(&id, "0.1").await.expect("committed");
        let noted = moves.take().expect("what has moved");
        let committed: Vec<Option<&str>> = noted.iter().map(|moved| moved.committed.as_deref()).collect();
        assert_eq!(committed, [None, Some(&*id)], "round {round}");
    }
    assert_eq!(moves.take().map(|noted| noted.len()), Some(0));
}

/// At once: an id that is asked for twice, a type with a cap of its own, and one with a rate. Whoever is first, as many fit.
#[tokio::test]
async fn what_is_asked_at_once_is_decided_one_after_another() {
    for adapter in BOTH {
        let rig = Rig::new(adapter).await.in_tier("open");
        let rig = &rig;
        let twice = join_all((0..2).map(|_| rig.reserve("twice", "inference", "1")));
        let capped = join_all((0..3).map(|_| reserve_new(rig, "tts", "1", TTL)));
        let rated = join_all((0..4).map(|_| reserve_new(rig, "stt", "20", TTL)));
        let (twice, capped, rated) = tokio::join!(twice, capped, rated);
        let mut replayed: Vec<bool> = twice.into_iter().map(|outcome| outcome.expect("held").replayed).collect();
        replayed.sort_unstable();
        assert_eq!(replayed, [false, true], "{adapter:?}");
        let told = |outcomes: Vec<Result<Reservation, Error>>| {
            let mut codes: Vec<String> = outcomes.into_iter().map(code).collect();
            codes.sort_unstable();
            codes
        };
        assert_eq!(told(capped), ["limit.day", "ok", "ok"], "{adapter:?}");
        assert_eq!(told(rated), ["limit.minute", "ok", "ok", "ok"], "{adapter:?}");
        // Asking whether there is room leaves as much as there was.
        rig.world.clock.advance(Duration::from_secs(30));
        for _ in 0..2 {
            let standing = reservations::check(rig.app(), &rig.user, "stt", quantity("30")).await;
            assert!(standing.expect("a standing").allowed, "{adapter:?}");
        }
        assert_eq!(code(reserve_new(rig, "stt", "30", TTL).await), "ok", "{adapter:?}");
    }
}

/// I-17: a proxy that asks lets the work through by that, and nobody says anything more. So the rate is used up, in the order of
/// the questions.
#[tokio::test]
async fn i17_what_a_proxy_lets_through_uses_up_its_rate() {
    for adapter in BOTH {
        let rig = Rig::new(adapter).await.in_tier("open");
        let before = rig.left().await;
        let pass = || reservations::pass(rig.app(), &rig.user, "stt", quantity("20"));
        let passed = join_all((0..4).map(|_| pass())).await;
        let mut codes: Vec<&str> = (passed.iter().map(|standing| standing.as_ref().expect("a standing")))
            .map(|standing| standing.refusal.as_ref().map_or("ok", |refused| refused.code))
            .collect();
        codes.sort_unstable();
        assert_eq!(codes, ["limit.minute", "ok", "ok", "ok"], "{adapter:?}");
        assert_eq!(rig.left().await, before, "{adapter:?}: nothing is held");
        assert_eq!(code(reserve_new(&rig, "stt", "1", TTL).await), "limit.minute", "{adapter:?}");
        rig.world.clock.advance(Duration::from_secs(20));
        assert!(pass().await.expect("a standing").allowed, "{adapter:?}");
    }
}

/// One step of a future, as when its task is woken once.
async fn step<F: Future>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// F-11: the caller whose request asks for all others goes away. They are asked for again, and nothing is held twice.
#[tokio::test]
async fn f11_a_group_outlives_whoever_asked_for_it() {
    let rig = Rig::new(Adapter::Redis).await;
    reserve_new(&rig, "inference", "0", TTL).await.expect("held");
    let ask = || Box::pin(reserve_new(&rig, "inference", "0.5", TTL));
    let (mut first, mut second) = (ask(), ask());
    let mut others = Box::pin(join_all((0..3).map(|_| ask())));
    assert!(step(&mut first).await.is_pending(), "it asks for itself");
    assert!(step(&mut second).await.is_pending(), "it waits, and the others behind it");
    assert!(step(&mut others).await.is_pending());
    first.await.expect("held");
    assert!(step(&mut second).await.is_pending(), "it asks for itself and the others");
    drop(second);
    let others = others.await;
    assert!(others.iter().all(|outcome| outcome.as_ref().is_ok_and(|held| !held.replayed)), "{others:?}");
    // What was asked for whoever left is held until its time is over, and for nobody twice.
    let left = Quantity::parse(&rig.left().await).expect("a number");
    assert!([quantity("2.5"), quantity("3")].contains(&left), "{left:?}");
    rig.world.clock.advance(TTL);
    assert_eq!(rig.left().await, "5");
}

/// What is over is free, however much it is, and is freed bit by bit: one call does not keep the server for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_over_is_free_however_much_it_is() {
    let rig = Rig::new(Adapter::Redis).await;
    let all = join_all((0..5_000).map(|_| reserve_new(&rig, "inference", "0.001", Duration::from_secs(1)))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(code(reserve_new(&rig, "inference", "0.001", TTL).await), "credits.exhausted");
    rig.world.clock.advance(Duration::from_secs(1));
    let server = rig.server.as_ref().expect("a Redis");
    server.ask(&["CONFIG", "RESETSTAT"]);
    assert_eq!(code(reserve_new(&rig, "inference", "5", TTL).await), "ok");
    assert_eq!(calls(server), 2, "all but a few, and then those");
    let key = format!("bh:{{{}}}:h:{}", book::shard_of(&rig.user), rig.user);
    assert_eq!(
        ["HLEN", "OBJECT ENCODING"].map(|what| {
            let words: Vec<&str> = what.split(' ').chain([key.as_str()]).collect();
            server.ask(&words)
        }),
        ["1", "hashtable"],
        "found by its id, not searched for"
    );
}

/// Numbers of Lua are exact below 2^53 only. What would leave them is refused, in one group as in many.
#[tokio::test]
async fn what_is_held_stays_a_number_that_redis_can_count() {
    let rig = Rig::new(Adapter::Redis).await.in_tier("open");
    let all = join_all((0..10).map(|_| reserve_new(&rig, "inference", "1000000000", TTL))).await;
    let codes: Vec<_> = all.into_iter().map(code).collect();
    assert_eq!(codes.iter().filter(|code| *code == "ok").count(), 9);
    assert!(codes.iter().any(|code| code == "invalid /quantity"), "{codes:?}");
    assert_eq!(code(reserve_new(&rig, "inference", "7199254", TTL).await), "ok");
    assert_eq!(code(reserve_new(&rig, "inference", "0.740992", TTL).await), "invalid /quantity");
    assert_eq!(code(reserve_new(&rig, "inference", "0.740991", TTL).await), "ok");
}
