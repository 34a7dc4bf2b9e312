//! The way to Lago and what can happen on it: outages, lost answers, crashes, limits. At the end Lago has what the log has.

use std::sync::Arc;
use std::time::Duration;

use billhook::app::App;
use billhook::clock::Chance;
use billhook::jobs::Jobs;
use billhook::ops::lago::reconcile::{self, Which};
use billhook::ops::lago::{details, is_ours, setup, ship, status};
use billhook::ops::usage::corrections;
use billhook::store::db::Value;
use billhook::store::leases;
use billhook::telemetry::Metrics;
use jiff::Timestamp;
use sandbox::lago::{Fault, FaultKind, Store};
use serde_json::json;

use super::bench::{Bench, everywhere, told};
use crate::harness::Database;

const HOUR: Duration = Duration::from_hours(1);

/// Two days of three people.
async fn two_days(bench: &Bench) -> Vec<String> {
    let mut users = Vec::new();
    for name in ["ada", "bob", "cyn"] {
        users.push(bench.user(name).await);
    }
    for hour in 0..48_u32 {
        for (place, user) in users.iter().enumerate() {
            let quantity = format!("{}.{:06}", hour % 7, 1 + hour * 17 + u32::try_from(place).unwrap());
            bench.use_some(user, ["inference", "embedding", "tts", "stt"][place], &[&quantity, "1", "0"]).await;
            bench.use_some(user, "inference", &["2.5"]).await;
        }
        bench.later(HOUR);
    }
    users
}

#[tokio::test]
async fn two_days_arrive_to_the_last_unit_on_every_database_and_store() {
    for (database, store) in everywhere() {
        let bench = Bench::new(database, store).await;
        two_days(&bench).await;
        let shipped = bench.ship().await;
        assert_eq!((shipped.delivered, shipped.dead, shipped.trouble), (48 * 12, 0, None));
        bench.assert_equal().await;
        let status = status(&bench.app).await.unwrap();
        assert_eq!((status.depth, status.lag_ms), (0, 0));
        assert_eq!(details(&bench.app).await.unwrap().subscriptions, 3);
        bench.ship().await;
        assert_eq!(bench.batches().len(), 6, "batches of a hundred, and nothing twice");
    }
}

#[tokio::test]
async fn f41_lago_is_down_for_a_day_and_usage_goes_on() {
    for (database, store) in everywhere() {
        let bench = Bench::new(database, store).await;
        let user = bench.user("ada").await;
        bench.use_some(&user, "inference", &["1"]).await;
        bench.ship().await;
        bench.trouble(Fault::always("/api/v1", FaultKind::Close));
        let mut waits = Vec::new();
        for _ in 0..24 {
            bench.use_some(&user, "inference", &["0.5", "2"]).await;
            let trouble = bench.ship().await.trouble.expect("Lago is down");
            assert_eq!(trouble.code, "lago.unavailable");
            waits.push(trouble.wait);
            bench.later(HOUR);
        }
        assert!(waits.iter().all(|wait| *wait <= Duration::from_mins(1)), "nobody gives up: {waits:?}");
        assert!(waits.iter().any(|wait| *wait > Duration::from_secs(5)), "the pauses grow: {waits:?}");
        let down = status(&bench.app).await.unwrap();
        assert_eq!((down.depth, down.lag_ms, down.failures), (48, 24 * 3_600_000, 24));
        let numbers = rendered(&bench.app);
        for line in
            ["outbox_depth 48", "lag_milliseconds 86400000", "failures 24", "dead_letters 0", "delivered_total 1"]
        {
            assert!(numbers.contains(&format!("billhook_lago_{line}\n")), "{line} in {numbers}");
        }
        bench.lago.faults().clear();
        assert_eq!(bench.ship_through().await, 0);
        bench.assert_equal().await;
        let up = status(&bench.app).await.unwrap();
        assert_eq!((up.depth, up.failures, up.fault), (0, 0, None));
    }
}

/// What a scraper reads.
fn rendered(app: &App) -> String {
    let mut metrics = Metrics::new();
    metrics.registry().register_collector(Box::new(Arc::clone(&app.lago.as_ref().expect("Lago").numbers)));
    metrics.render().expect("numbers")
}

#[tokio::test]
async fn the_job_ships_by_itself_until_it_is_told_to_stop() {
    let bench = Bench::new(Database::sqlite(), Store::Postgres).await;
    let user = bench.user("ada").await;
    let jobs = Jobs::start(&bench.app, Arc::new(|_| ()));
    for round in 1..=3_u64 {
        bench.use_some(&user, "inference", &["1"]).await;
        let arrived = async {
            while bench.lago.usage(&user, "inference_call").is_none_or(|(_, events)| events < round) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), arrived).await.expect("it arrives");
    }
    jobs.stop().await;
    bench.assert_equal().await;
}

/// The pauses that a seed gives are all longer than this, whoever takes its first numbers: those of a key that is refused are up to
/// half a minute at first.
fn seed_of_pauses_beyond(least: Duration) -> u64 {
    let is_long = |number: u64| u128::from(number % 30_001) > least.as_millis();
    let all_long = |seed: &u64| {
        let chance = Chance::seeded(*seed);
        (0..64).all(|_| is_long(u64::from_le_bytes(chance.bytes().expect("seeded"))))
    };
    (1..100_000).find(all_long).expect("a seed")
}

/// F-44: a key that Lago refuses is told to the operator, and Lago is left alone meanwhile.
#[tokio::test]
async fn f44_the_job_itself_waits_while_lago_refuses_the_key() {
    let watched = Duration::from_secs(2);
    let mut bench = Bench::new(Database::sqlite(), Store::Postgres).await;
    bench.crash_into(seed_of_pauses_beyond(watched + Duration::from_millis(500))).await;
    let user = bench.user("ada").await;
    bench.use_some(&user, "inference", &["1", "2"]).await;
    bench.trouble(Fault::always("/api/v1/events/batch", FaultKind::status(401)));
    let jobs = Jobs::start(&bench.app, Arc::new(|_| ()));
    let refused = async {
        while status(&bench.app).await.expect("a status").failures == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), refused).await.expect("it is refused");
    assert!(rendered(&bench.app).contains("billhook_lago_failures 1\n"), "it is shown");
    // At the end of the log it rests for half a second: this is four times that.
    let asked = bench.lago.requests().len();
    bench.use_some(&user, "inference", &["4"]).await;
    tokio::time::sleep(watched).await;
    assert_eq!((bench.lago.requests().len(), bench.batches().len()), (asked, 1), "it waits");
    let down = status(&bench.app).await.expect("a status");
    assert_eq!((down.depth, down.failures), (3, 1));
    assert!(down.fault.expect("an alert").text.starts_with("lago.auth: "));
    jobs.stop().await;
    bench.lago.faults().clear();
    assert_eq!((bench.ship().await.delivered, bench.batches().len()), (3, 3));
    bench.assert_equal().await;
}

/// What waits is a matter of the database: a process that does not ship shows it as well, and nothing before it knows.
#[tokio::test]
async fn what_waits_is_shown_by_every_process() {
    let bench = Bench::new(Database::postgres(), Store::Postgres).await;
    let user = bench.user("ada").await;
    assert!(is_ours(&bench.app).await.expect("a lease"));
    let other = bench.second_process().await;
    assert!(!rendered(&other).contains("billhook_lago_outbox_depth"), "{}", rendered(&other));
    let jobs = Jobs::start(&other, Arc::new(|_| ()));
    // Twice: what is seen at the beginning, and what comes after it.
    for depth in [2, 3] {
        bench.use_some(&user, "inference", &["1"]).await;
        let line = format!("billhook_lago_outbox_depth {depth}\n");
        let shown = async {
            while !rendered(&other).contains(&line) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        // One that looks only when it has asked for the right to ship does so every ten seconds.
        tokio::time::timeout(Duration::from_secs(8), shown).await.expect("it is shown");
    }
    jobs.stop().await;
    assert!(bench.batches().is_empty(), "the other one ships");
}

#[tokio::test]
async fn f42_answers_that_were_lost_after_the_commit_count_nothing_twice() {
    for (database, store) in everywhere() {
        let bench = Bench::new(database, store).await;
        let user = bench.user("ada").await;
        for kind in [FaultKind::CommitThenClose, FaultKind::CommitThenStatus { status: 502 }] {
            bench.use_some(&user, "inference", &["1", "2", "0.25"]).await;
            bench.trouble_with_events(2, kind);
            assert_eq!(bench.ship_through().await, 2);
            bench.assert_equal().await;
            bench.later(HOUR);
        }
        let batches = bench.batches();
        assert_eq!(batches[0], batches[1], "the same bytes on every try");
        assert_eq!(batches[1], batches[2], "the same bytes on every try");
    }
}

/// A queue, a firewall, a page that says sorry: none of them has counted anything.
#[tokio::test]
async fn a_success_that_is_not_lagos_is_no_delivery() {
    let bench = Bench::new(Database::sqlite(), Store::Postgres).await;
    let user = bench.user("ada").await;
    for (status, body) in [(200, "{}"), (200, r#"{"events":[]}"#), (202, ""), (204, ""), (200, r#"{"events":{}}"#)] {
        bench.use_some(&user, "inference", &["1", "2"]).await;
        bench.trouble_with_events(1, FaultKind::Answered { status, body: body.to_owned() });
        assert_eq!(bench.ship_through().await, 1, "{status} {body}: tried again");
        bench.assert_equal().await;
        bench.later(HOUR);
    }
}

#[tokio::test]
async fn a_process_that_dies_between_sending_and_writing_down_sends_the_same_again() {
    for (database, store) in everywhere() {
        let mut bench = Bench::new(database, store).await;
        let user = bench.user("ada").await;
        bench.use_some(&user, "inference", &["1", "2", "3"]).await;
        // Lago has it, and the program will never hear of it.
        bench.trouble_with_events(1, FaultKind::CommitThenClose);
        assert!(bench.ship().await.trouble.is_some());
        bench.later(26 * HOUR);
        bench.crash().await;
        bench.use_some(&user, "inference", &["4"]).await;
        assert_eq!(bench.ship().await.trouble, None);
        bench.assert_equal().await;
        let batches = bench.batches();
        assert_eq!((batches[0] == batches[1], batches.len()), (true, 3), "a window, again, and the next one");
    }
}

#[tokio::test]
async fn two_processes_on_one_database_deliver_everything_once() {
    for (database, store) in [(Database::postgres(), Store::Postgres), (Database::postgres(), Store::ClickHouse)] {
        let bench = Bench::new(database, store).await;
        let other = bench.second_process().await;
        let user = bench.user("ada").await;
        for _ in 0..5 {
            bench.use_some(&user, "inference", &["1"; 130]).await;
            let (one, two) = tokio::join!(ship::run(&bench.app), ship::run(&other));
            assert_eq!((one.unwrap().trouble, two.unwrap().trouble), (None, None));
        }
        bench.assert_equal().await;
        let compared = reconcile::run(&bench.app, Which::All).await.unwrap();
        assert!(compared[0].differences.is_empty(), "{compared:?}");
        assert!(is_ours(&bench.app).await.unwrap() && !is_ours(&other).await.unwrap(), "one of them ships");
        let holder = bench.app.holder.clone();
        bench.app.db.write(move |tx| leases::release(tx, "lago", &holder)).await.unwrap();
        assert!(is_ours(&other).await.unwrap(), "when the one is gone, the other does");
    }
}

#[tokio::test]
async fn an_outage_over_the_end_of_a_month_is_billed_in_the_next() {
    let bench = Bench::new(Database::sqlite(), Store::Postgres).await;
    let user = bench.user("ada").await;
    bench.use_some(&user, "inference", &["1"]).await;
    bench.ship().await;
    bench.clock.set("2026-11-30T20:00:00Z".parse().unwrap());
    bench.use_some(&user, "inference", &["2", "4"]).await;
    bench.clock.set("2026-12-01T09:00:00Z".parse().unwrap());
    bench.use_some(&user, "inference", &["8"]).await;
    bench.ship().await;
    bench.later(HOUR);
    // November's invoice is made: what comes late would be taken, and never billed.
    assert_eq!(bench.lago.usage(&user, "inference_call"), Some(("14.0".to_owned(), 3)));
    let compared = reconcile::run(&bench.app, Which::All).await.unwrap();
    assert!(compared[0].differences.is_empty(), "{compared:?}");
}

#[tokio::test]
async fn f43_an_old_lago_that_keeps_half_a_batch_ends_with_the_same_sums() {
    for database in [Database::sqlite(), Database::postgres()] {
        let bench = Bench::bare(database, Store::Postgres).await;
        bench.make_refusing_metric("tts_call").await;
        setup::run(&bench.app, setup::Mode::Make).await.unwrap();
        bench.trouble(Fault::always("", FaultKind::LegacyPartialStore));
        let user = bench.user("ada").await;
        bench.use_some(&user, "inference", &["1", "2"]).await;
        bench.use_some(&user, "tts", &["9"]).await;
        bench.use_some(&user, "inference", &["4", "8"]).await;
        bench.trouble_with_events(1, FaultKind::CommitThenClose);
        bench.ship_through().await;
        assert_eq!(bench.lago.usage(&user, "inference_call"), Some(("15.0".to_owned(), 4)));
        assert_eq!(status(&bench.app).await.unwrap().dead, 1);
    }
}

#[tokio::test]
async fn f44_a_429_is_waited_for_as_long_as_lago_says() {
    let bench = Bench::new(Database::sqlite(), Store::Postgres).await;
    let user = bench.user("ada").await;
    bench.use_some(&user, "inference", &["1"]).await;
    bench.trouble_with_events(1, FaultKind::rate_limited(50, 7));
    let trouble = bench.ship().await.trouble.expect("too many requests");
    assert_eq!((trouble.code, trouble.wait >= Duration::from_secs(7)), ("lago.rate_limited", true));
    assert!(trouble.wait <= Duration::from_secs(8), "{:?}", trouble.wait);
}

#[tokio::test]
async fn f44_a_key_that_is_refused_stops_everything_and_says_so_until_it_is_put_right() {
    for status_code in [401, 403] {
        let bench = Bench::new(Database::sqlite(), Store::Postgres).await;
        let user = bench.user("ada").await;
        bench.use_some(&user, "inference", &["1"]).await;
        bench.trouble(Fault::always("/api/v1", FaultKind::status(status_code)));
        for _ in 0..3 {
            assert_eq!(bench.ship().await.trouble.expect("refused").code, "lago.auth");
        }
        let facts = billhook::ops::lago::examine::probe(&bench.app).await.0;
        assert!(facts["fault"].as_str().unwrap().starts_with("lago.auth"), "{facts}");
        assert!(!facts.to_string().contains("canary"), "S-56: {facts}");
        bench.lago.faults().clear();
        assert_eq!(bench.ship_through().await, 0);
        bench.assert_equal().await;
        assert_eq!(billhook::ops::lago::examine::probe(&bench.app).await.0["fault"], json!(null));
    }
}

#[tokio::test]
async fn corrections_arrive_as_less_and_dead_weight_stays_here() {
    for database in [Database::sqlite(), Database::postgres()] {
        let bench = Bench::new(database, Store::Postgres).await;
        let user = bench.user("ada").await;
        let mut first = told(&user, "inference", "7.5", bench.app.clock.now());
        first.transaction_id = "to-be-voided".to_owned();
        bench.record(vec![first]).await;
        bench.use_some(&user, "inference", &["5"]).await;
        bench.ship().await;
        corrections::void(&bench.app, "to-be-voided", None, false).await.unwrap();
        let less = told(&user, "inference", "1.25", bench.app.clock.now());
        corrections::adjust(&bench.app, less, true, "a mistake", false).await.unwrap();
        bench.ship().await;
        assert_eq!(bench.lago.usage(&user, "inference_call"), Some(("3.75".to_owned(), 4)));
        bench.assert_equal().await;
    }
}

#[tokio::test]
async fn a_user_whose_tier_is_not_sold_is_skipped_and_counted() {
    let bench = Bench::new(Database::sqlite(), Store::Postgres).await;
    let user = bench.user("ada").await;
    let sql = "UPDATE users SET subscription_tier = 'legacy' WHERE id = ?1";
    let id = user.clone();
    bench.app.db.write(move |tx| tx.run(sql, &[Value::from(id.clone())])).await.unwrap();
    bench.use_some(&user, "inference", &["1", "2"]).await;
    let shipped = bench.ship().await;
    assert_eq!((shipped.delivered, shipped.dead), (0, 0));
    assert_eq!(status(&bench.app).await.unwrap().depth, 0);
    assert_eq!(details(&bench.app).await.unwrap().skipped, [("tier_not_sold".to_owned(), 2)]);
}

#[tokio::test]
async fn what_was_used_before_a_change_of_tier_is_sent_before_it() {
    for database in [Database::sqlite(), Database::postgres()] {
        let bench = Bench::new(database, Store::Postgres).await;
        let (user, other) = (bench.user("ada").await, bench.user("bob").await);
        bench.use_some(&user, "inference", &["1", "2"]).await;
        bench.use_some(&other, "inference", &["10"]).await;
        bench.later(HOUR);
        bench.change_tier(&user, "enterprise").await;
        bench.use_some(&user, "inference", &["4"]).await;
        bench.use_some(&other, "inference", &["10"]).await;
        // Lago hears of all of it on the next day.
        bench.later(20 * HOUR);
        assert_eq!(bench.ship().await.delivered, 5);
        let posts: Vec<(String, String)> = bench
            .lago
            .requests()
            .into_iter()
            .filter(|request| request.path.ends_with("/subscriptions") || request.path.ends_with("/batch"))
            .map(|request| (request.path.rsplit('/').next().unwrap().to_owned(), request.body))
            .collect();
        let order: Vec<&str> = posts.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(order, ["subscriptions", "subscriptions", "batch", "subscriptions", "batch"]);
        assert!(posts[3].1.contains("enterprise"), "{}", posts[3].1);
        assert_eq!(bench.lago.usage(&other, "inference_call"), Some(("20.0".to_owned(), 2)));
        // The new subscription counts what came after the change, from its first moment on.
        assert_eq!(bench.lago.usage(&user, "inference_call"), Some(("4.0".to_owned(), 1)));
        let compared = reconcile::run(&bench.app, Which::All).await.unwrap();
        assert!(compared.iter().all(|one| one.differences.is_empty()));
    }
}

#[tokio::test]
async fn no_event_lies_before_its_subscription() {
    for store in [Store::Postgres, Store::ClickHouse] {
        let bench = Bench::new(Database::sqlite(), store).await;
        let user = bench.user("ada").await;
        // Somebody else has made the subscription, in this very second.
        let made = json!({ "subscription": {
            "external_customer_id": user, "external_id": user, "plan_code": "professional", "billing_time": "calendar",
        } });
        bench.at_lago("POST", "/subscriptions", &made).await;
        let second: Timestamp = "2026-11-20T09:00:00Z".parse().unwrap();
        let earlier: Timestamp = "2026-11-18T23:00:00Z".parse().unwrap();
        let times = [second, earlier, bench.app.clock.now()];
        bench.record(times.map(|at| told(&user, "inference", "1", at)).into()).await;
        bench.ship().await;
        bench.later(HOUR);
        bench.assert_equal().await;
    }
}

#[tokio::test]
async fn a_subscription_begins_with_the_day_of_its_first_event_and_is_asked_for_once() {
    let bench = Bench::new(Database::sqlite(), Store::Postgres).await;
    let user = bench.user("ada").await;
    let days = ["2026-11-19T23:59:59.999Z", "2026-11-18T00:00:00Z", "2026-11-20T08:00:00Z"];
    let days = days.map(|at| told(&user, "inference", "1", at.parse().unwrap()));
    bench.record(days.into()).await;
    bench.ship().await;
    bench.use_some(&user, "inference", &["1"]).await;
    bench.ship().await;
    let requests = bench.lago.requests();
    let orders: Vec<_> = requests.iter().filter(|request| request.path == "/api/v1/subscriptions").collect();
    assert_eq!(orders.len(), 1);
    assert!(orders[0].body.contains(r#""subscription_at":"2026-11-18T00:00:00Z""#), "{}", orders[0].body);
    bench.assert_equal().await;
}

#[tokio::test]
async fn a_user_who_brought_a_lago_id_along_keeps_it() {
    let bench = Bench::new(Database::sqlite(), Store::Postgres).await;
    let user = bench.user("ada").await;
    let id = user.clone();
    let sql = "UPDATE users SET lago_customer_id = 'customer-of-old' WHERE id = ?1";
    bench.app.db.write(move |tx| tx.run(sql, &[Value::from(id.clone())])).await.unwrap();
    bench.use_some(&user, "inference", &["3"]).await;
    bench.ship().await;
    assert_eq!(bench.lago.usage("customer-of-old", "inference_call"), Some(("3.0".to_owned(), 1)));
}
