//! Several programs on one PostgreSQL and one Redis: they share every cap, and each knows what another holds.

use std::sync::Arc;
use std::time::Duration;

use billhook::counters::book;
use billhook::jobs::Jobs;
use billhook::ops::publishing::{self, proof};
use billhook::ops::reservations::{self, Ask, Commit};
use billhook::ops::usage;
use billhook::store::log::{self, Source};
use billhook::store::{facts, leases};
use futures_util::future::join_all;
use jiff::SignedDuration;

use super::groups::reserve_new;
use super::lines::settled;
use super::server::Server;
use super::trace::{published, to_publish};
use super::{Adapter, Rig, code, quantity};
use crate::harness::Database;

/// Two programs with the same database, Redis and user.
pub async fn two() -> (Rig, Rig) {
    sharing(Server::single()).await
}

/// Two programs that share this Redis.
pub async fn sharing(server: Server) -> (Rig, Rig) {
    let database = Database::postgres();
    let same = Database::Postgres {
        server: crate::harness::database::variable("BILLHOOK_TEST_POSTGRES"),
        name: name(&database),
    };
    let mut one = Rig::at(Some(server.url()), database).await;
    let other = Rig::at(Some(server.url()), same).await;
    assert_eq!(one.user, other.user);
    one.server = Some(server);
    (one, other)
}

fn name(database: &Database) -> String {
    match database {
        Database::Postgres { name, .. } => name.clone(),
        Database::Sqlite(_) | Database::Elsewhere(_) => unreachable!("this is PostgreSQL"),
    }
}

/// An id that was made here leads every program to what is held under it, before anybody has written it down.
#[tokio::test]
async fn an_id_leads_to_its_hold() {
    let (one, other) = two().await;
    for (ttl, amount) in [(Duration::from_mins(5), "0.5"), (Duration::from_millis(2_500), "0.25")] {
        let [committed, released] =
            [reserve_new(&one, "inference", amount, ttl).await, reserve_new(&one, "inference", amount, ttl).await];
        let (committed, released) = (committed.expect("held").id, released.expect("held").id);
        let known = proof::compare(other.app(), Duration::ZERO).await.expect("compared");
        assert_eq!(known, [""; 0], "somebody knows of them");
        assert!(!other.commit(&committed, amount).await.expect("committed").late);
        other.release(&released).await.expect("released");
        assert_eq!(code(one.commit(&released, amount).await), "usage.conflict /status");
    }
    assert_eq!((one.left().await, other.left().await), ("4.25".to_owned(), "4.25".to_owned()));
    assert_eq!(code(other.release("res_01M82HFZB4Y9P6SYZPX6G6C3A7").await), "not found");
}

/// I-03 across processes: two programs grant together what one would, under ids of the callers' and under their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i03_of_a_thousand_reservations_at_two_programs_exactly_fifty_fit() {
    let (one, other) = two().await;
    let asked = (0..1_000).map(|number| {
        let rig = if number % 2 == 0 { &one } else { &other };
        async move {
            if number % 4 < 2 {
                settled(rig, &format!("r{number}"), "0.1").await
            } else {
                code(reserve_new(rig, "inference", "0.1", Duration::from_mins(5)).await)
            }
        }
    });
    let codes = join_all(asked).await;
    assert_eq!(codes.iter().filter(|code| *code == "ok").count(), 50);
    assert!(codes.iter().all(|code| code == "ok" || code == "credits.exhausted"), "{codes:?}");
    assert_eq!((one.left().await, other.left().await), ("0".to_owned(), "0".to_owned()));
}

/// I-03, I-04: a commit and a release of one reservation at the same moment: one of them resolves it, and the other hears so. What
/// was committed is not free again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i04_committed_and_released_at_once_is_resolved_once() {
    let (one, other) = two().await;
    let (alone, on_redis) = (Rig::new(Adapter::Embedded).await, Rig::new(Adapter::Redis).await);
    for (name, commits, releases) in
        [("alone", &alone, &alone), ("on Redis", &on_redis, &on_redis), ("two", &one, &other)]
    {
        let mut committed = 0_u32;
        for number in 0..60 {
            let id = format!("race{number}");
            commits.reserve(&id, "inference", "0.05").await.expect("held");
            let (commit, release) = (commits.commit(&id, "0.05"), releases.release(&id));
            // At once, whoever begins; and where one was over before the other began, who may not have heard of it.
            let (commit, release) = match number % 4 {
                0 => tokio::join!(commit, release),
                1 => {
                    let (release, commit) = tokio::join!(release, commit);
                    (commit, release)
                }
                2 => (commit.await, release.await),
                _ => {
                    let release = release.await;
                    (commit.await, release)
                }
            };
            committed += u32::from(commit.is_ok());
            let told = (commit.map(|_| "ok".to_owned()), release.map(|()| "ok".to_owned()));
            match told {
                (Ok(_), Err(error)) | (Err(error), Ok(_)) => {
                    assert_eq!(code::<()>(Err(error)), "usage.conflict /status", "{name} {id}");
                }
                both => panic!("{name} {id}: {both:?}"),
            }
        }
        assert!((15..=45).contains(&committed), "{name}: {committed} committed of sixty");
        let left = quantity("5").micro() - i64::from(committed) * quantity("0.05").micro();
        assert_eq!(quantity(&commits.left().await).micro(), left, "{name}: {committed} committed");
    }
}

/// I-04: a reservation is committed once, whatever time each commit tells: at the same moment in one program, and one after the
/// other where the second program still takes it for held.
#[tokio::test]
async fn i04_one_reservation_is_one_commit_whatever_its_time() {
    let (alone, (one, other)) = (Rig::new(Adapter::Embedded).await, two().await);
    let commit = async |rig: &Rig, id: &str, days: i64| {
        let at = (days > 0).then(|| rig.world.now() - SignedDuration::from_hours(24 * days));
        let commit = Commit { quantity: quantity("0.05"), at, user: None, kind: None };
        reservations::commit(rig.app(), id, commit).await.expect("committed")
    };
    let times = [(0, 2), (3, 0), (3, 9), (30, 1)];
    for (first, second) in times {
        let id = format!("at {first} and {second} days");
        alone.reserve(&id, "inference", "0.05").await.expect("held");
        let (done, again) = tokio::join!(commit(&alone, &id, first), commit(&alone, &id, second));
        assert_eq!((done.position, done.replayed != again.replayed), (again.position, true), "{id}");

        one.reserve(&id, "inference", "0.05").await.expect("held");
        assert!(other.reserve(&id, "inference", "0.05").await.expect("held").replayed);
        let done = commit(&one, &id, first).await;
        let again = commit(&other, &id, second).await;
        assert_eq!((again.position, again.replayed), (done.position, true), "{id}");
    }
    for rig in [&alone, &one] {
        usage::totals::write_down_now(rig.app()).await.expect("written down");
        let recount = usage::recount::recount(rig.app()).await.expect("a recount");
        assert!(recount.agrees(), "{recount:?}");
        let entries = rig.app().db.read(|tx| log::read(tx, 0, i64::MAX)).await.expect("the log");
        assert_eq!(entries.iter().filter(|entry| entry.source == Source::Reservation).count(), times.len());
    }
}

/// A database of before knows a commit by the day of its time alone.
#[tokio::test]
async fn a_commit_of_before_is_found_on_its_day() {
    let rig = Rig::new(Adapter::Embedded).await;
    let at = Some(rig.world.now() - SignedDuration::from_hours(24 * 3));
    rig.reserve("old", "inference", "0.05").await.expect("held");
    let commit = |at| Commit {
        quantity: quantity("0.05"),
        at,
        user: Some(rig.user.clone()),
        kind: Some("inference".to_owned()),
    };
    let done = reservations::commit(rig.app(), "old", commit(at)).await.expect("committed");
    let [today, _] = log::days(rig.world.now().as_millisecond());
    let sql = "DELETE FROM usage_ids WHERE day = ?1 AND position = ?2";
    let forgotten = rig.app().db.write(move |tx| tx.run(sql, &[today.into(), done.position.into()])).await;
    assert_eq!(forgotten.expect("a write"), 1, "it is known on both days");
    let tried = [commit(at), commit(None)];
    let rig = rig.after_a_crash().await;
    for commit in tried {
        let again = reservations::commit(rig.app(), "old", commit).await.expect("committed");
        assert_eq!((again.position, again.replayed), (done.position, true));
    }
    let recount = usage::recount::recount(rig.app()).await.expect("a recount");
    assert!(recount.differences.is_empty() && recount.damage.is_empty(), "{recount:?}");
}

/// I-04: what was late where it was committed is late wherever it is asked for.
#[tokio::test]
async fn i04_a_late_commit_is_late_at_every_program() {
    let (one, other) = two().await;
    one.reserve_for("mine", "inference", "0.5", Duration::from_secs(1)).await.expect("held");
    for rig in [&one, &other] {
        rig.world.clock.advance(Duration::from_secs(10));
    }
    let commit = Commit {
        quantity: quantity("0.5"),
        at: None,
        user: Some(one.user.clone()),
        kind: Some("inference".to_owned()),
    };
    let done = reservations::commit(other.app(), "mine", commit).await.expect("committed");
    assert!(done.late);
    usage::following::follow_log(one.app()).await.expect("followed");
    let again = one.commit("mine", "0.5").await.expect("committed");
    assert_eq!((again.position, again.late, again.replayed), (done.position, true, true));
}

/// What one program has reserved, another commits and releases; the user's account moves on both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_program_holds_another_resolves() {
    let (one, other) = two().await;
    let jobs = [&one, &other].map(|rig| Jobs::start(rig.app(), Arc::new(|_| ())));
    let ask = |id: Option<&str>| Ask {
        id: id.map(str::to_owned),
        user: one.user.clone(),
        kind: "inference".to_owned(),
        quantity: quantity("1"),
        ttl: Duration::from_mins(5),
    };
    let made = reservations::reserve(one.app(), ask(None)).await.expect("held").id;
    reservations::reserve(one.app(), ask(Some("mine"))).await.expect("held");
    assert!(reservations::reserve(other.app(), ask(Some("mine"))).await.expect("held").replayed);
    assert_eq!(code(other.reserve("mine", "inference", "2").await), "usage.conflict /quantity");
    assert_eq!(other.left().await, "3");

    let committed = other.commit(&made, "0.5").await.expect("committed");
    assert!(!committed.late);
    let again = one.commit(&made, "0.5").await.expect("committed");
    assert_eq!((again.position, again.replayed), (committed.position, true));
    other.release("mine").await.expect("released");
    assert_eq!(code(one.commit("mine", "1").await), "usage.conflict /status");
    assert_eq!((one.left().await, other.left().await), ("4.5".to_owned(), "4.5".to_owned()));

    // One publishes; when it goes, the other takes over.
    for (number, (job, rig)) in jobs.into_iter().zip([&one, &other]).enumerate() {
        other.record(&format!("e{number}"), "inference", "0.5").await;
        let mut tries = 0;
        while published(&one) != to_publish(&other) {
            tries += 1;
            assert!(tries < 200, "nobody publishes");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        job.stop().await;
        // Its lease would run for some seconds more.
        let holder = rig.app().holder.clone();
        one.app().db.write(move |tx| leases::release(tx, "counters", &holder)).await.expect("a write");
    }
}

/// What is taken for a while is taken by the time of the database: a machine whose clock is ahead takes nothing from another.
#[tokio::test]
async fn a_clock_that_is_ahead_ends_no_lease_of_others() {
    let (one, other) = two().await;
    let is_ours = async |rig: &Rig| publishing::is_ours(rig.app()).await.expect("asked");
    assert!(is_ours(&one).await);
    other.world.clock.advance(Duration::from_hours(1));
    assert!(!is_ours(&other).await, "it is the other's");
    one.world.clock.advance(Duration::from_hours(2));
    let holder = one.app().holder.clone();
    one.app().db.write(move |tx| leases::release(tx, "counters", &holder)).await.expect("given back");
    assert!(is_ours(&other).await);
    assert!(!is_ours(&one).await, "nor the other way round");
}

/// I-03: one of two programs finds that Redis is ahead of the log and gives that another name. The other has not heard of it, and
/// decides nothing until it has.
#[tokio::test]
async fn i03_of_a_log_with_another_name_each_cap_is_given_out_once() {
    let (one, other) = two().await;
    assert!(publishing::is_ours(one.app()).await.expect("asked"));
    publishing::verify(one.app()).await.expect("published");
    let name = one.app().db.read(|tx| facts::get(tx, facts::USAGE_LOG)).await.expect("read").expect("a name");
    let mark = format!("bh:{{{}}}:wm", book::shard_of(&one.user));
    one.server.as_ref().expect("a Redis").ask(&["SET", &mark, &format!("2.{name}:9999")]);
    publishing::verify(one.app()).await.expect("noticed");
    publishing::verify(one.app()).await.expect("published anew");
    let storm = async |round: &str| {
        let mut granted = 0;
        for number in 0..60 {
            for rig in [&one, &other] {
                let asked = rig.reserve(&format!("{round}{number}{}", rig.app().holder), "inference", "0.1").await;
                granted += usize::from(asked.is_ok());
            }
        }
        granted
    };
    let before = storm("a").await;
    publishing::follow_name(other.app()).await.expect("followed");
    assert_eq!(before + storm("b").await, 50);
    assert_eq!(code(other.reserve("more", "inference", "0.1").await), "credits.exhausted", "it decides again");
    let there = one.app().db.read(|tx| facts::get(tx, facts::USAGE_LOG)).await.expect("read").expect("a name");
    assert!(there > name, "{there} {name}");
}

/// I-03: programs that start over a database that was set back find that out before they decide anything, whoever publishes.
#[tokio::test]
async fn i03_after_a_backup_was_put_back_each_cap_is_given_out_once() {
    let (one, _other) = two().await;
    let server = one.server.as_ref().expect("a Redis");
    let name = one.app().db.read(|tx| facts::get(tx, facts::USAGE_LOG)).await.expect("read").expect("a name");
    server.ask(&["SET", "bh:{7}:wm", &format!("2.{name}:9999")]);
    let started = async || {
        let same = Database::Postgres {
            server: crate::harness::database::variable("BILLHOOK_TEST_POSTGRES"),
            name: self::name(&one.world.database),
        };
        Rig::at(Some(server.url()), same).await
    };
    let both = [started().await, started().await];
    let mut granted = 0;
    for number in 0..60 {
        // Whoever publishes comes to it a little later.
        if number == 20 && publishing::is_ours(both[0].app()).await.expect("asked") {
            publishing::verify(both[0].app()).await.expect("published");
            publishing::verify(both[0].app()).await.expect("published");
        }
        for rig in &both {
            let asked = rig.reserve(&format!("{number}{}", rig.app().holder), "inference", "0.1").await;
            granted += usize::from(asked.is_ok());
        }
    }
    assert_eq!(granted, 50);
}

/// The database goes back to an earlier state while programs serve, less far than they have written down: what was published of the
/// entries that are gone counts for nobody.
#[tokio::test]
async fn i03_what_a_database_has_lost_is_free_again() {
    let (one, other) = two().await;
    for number in 0..6 {
        one.record(&format!("e{number}"), "inference", "0.5").await;
    }
    let both = [&one, &other];
    for rig in both {
        publishing::is_ours(rig.app()).await.expect("asked");
        usage::following::follow_log(rig.app()).await.expect("followed");
    }
    publishing::once(one.app()).await.expect("published");
    assert_eq!((one.left().await, other.left().await), ("2".to_owned(), "2".to_owned()));
    for sql in [
        "DELETE FROM usage_log WHERE position > 3",
        "DELETE FROM usage_ids WHERE position > 3",
        "UPDATE usage_head SET position = 3",
    ] {
        one.app().db.write(move |tx| tx.run(sql, &[])).await.expect("set back");
    }
    for rig in both {
        usage::following::follow_log(rig.app()).await.expect("followed");
        publishing::is_ours(rig.app()).await.expect("asked");
    }
    publishing::once(one.app()).await.expect("published");
    other.reserve("first", "inference", "0").await.expect_err("it hears of the name");
    publishing::follow_name(other.app()).await.expect("followed");
    assert_eq!((one.left().await, other.left().await), ("4".to_owned(), "4".to_owned()));
}
