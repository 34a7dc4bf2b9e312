//! From when on usage goes to Lago: from the month in which there was a Lago first, or from a day that somebody says.

use billhook::ops::lago::{details, start};
use billhook::ops::usage::corrections;
use billhook::store::facts;
use jiff::Timestamp;
use sandbox::lago::{Fault, FaultKind, Store};

use super::bench::{Bench, everywhere, named, units};
use crate::harness::Database;

const OCTOBER: &str = "2026-10-10T08:00:00Z";

/// One of October and one of November are recorded before anything goes to Lago, on the 20th of November.
async fn with_a_past(database: Database, store: Store) -> (Bench, String) {
    let bench = Bench::new(database, store).await;
    let user = bench.user("ada").await;
    bench.go_to("2026-10-10T09:00:00Z");
    bench.record(vec![named("october", &user, "100", OCTOBER)]).await;
    bench.go_to("2026-11-03T09:00:00Z");
    bench.use_some(&user, "inference", &["1"]).await;
    bench.go_to("2026-11-20T09:00:00Z");
    (bench, user)
}

#[tokio::test]
async fn what_was_used_before_the_month_in_which_there_was_a_lago_is_not_shipped() {
    for (database, store) in everywhere() {
        let (bench, user) = with_a_past(database, store).await;
        assert_eq!((bench.ship().await.delivered, bench.at_lago_of(&user)), (1, units("1.0", 1)));
        assert_eq!(details(&bench.app).await.unwrap().skipped, [("before_start".to_owned(), 1)]);
        bench.assert_sound().await;
        // Neither is what is said of that time later.
        bench.record(vec![named("late", &user, "50", "2026-10-31T23:59:59Z")]).await;
        let october = Some(OCTOBER.parse::<Timestamp>().unwrap());
        corrections::void(&bench.app, "october", october, false).await.expect("a void");
        assert_eq!(bench.ship().await.delivered, 0);
        assert_eq!((bench.send_everything_again().await, bench.at_lago_of(&user)), (1, units("1.0", 1)));
        bench.assert_sound().await;
        // From then on what comes late is counted in the month that is open.
        bench.go_to("2026-12-02T09:00:00Z");
        bench.record(vec![named("later", &user, "2", "2026-11-30T23:00:00Z")]).await;
        assert_eq!((bench.ship().await.delivered, bench.at_lago_of(&user)), (1, units("2.0", 1)));
        bench.assert_sound().await;
    }
}

/// Nobody has asked for a subscription of theirs, which has a price of its own.
#[tokio::test]
async fn who_used_nothing_since_then_is_not_at_lago() {
    let bench = Bench::new(Database::sqlite(), Store::Postgres).await;
    let user = bench.user("ada").await;
    bench.go_to("2026-10-10T09:00:00Z");
    bench.use_some(&user, "inference", &["1", "2"]).await;
    bench.go_to("2026-11-20T09:00:00Z");
    assert_eq!((bench.ship().await.delivered, bench.at_lago_of(&user)), (0, units("", 0)));
}

/// It was Lago's from the first moment on, also where Lago was not there to be asked.
#[tokio::test]
async fn an_outage_on_the_first_day_moves_the_start_to_no_other_month() {
    let bench = Bench::new(Database::sqlite(), Store::Postgres).await;
    let user = bench.user("ada").await;
    bench.go_to("2026-11-30T20:00:00Z");
    bench.trouble(Fault::always("/api/v1", FaultKind::Close));
    bench.use_some(&user, "inference", &["1"]).await;
    assert!(bench.ship().await.trouble.is_some());
    bench.go_to("2026-12-01T09:00:00Z");
    bench.lago.faults().clear();
    assert_eq!((bench.ship().await.delivered, bench.at_lago_of(&user)), (1, units("1.0", 1)));
    bench.assert_sound().await;
}

#[tokio::test]
async fn an_operator_may_say_another_day_before_anything_has_gone() {
    for (day, delivered, counted) in [
        ("2026-10-01T00:00:00Z", 2, units("101.0", 2)),
        ("2026-10-11T00:00:00Z", 1, units("1.0", 1)),
        ("2026-11-20T00:00:00Z", 0, units("", 0)),
    ] {
        let (bench, user) = with_a_past(Database::sqlite(), Store::Postgres).await;
        let day: Timestamp = day.parse().unwrap();
        assert!(start::choose(&bench.app, day).await.unwrap());
        assert_eq!(start::foreseen(&bench.app).await.unwrap(), Some(day));
        assert_eq!((bench.ship().await.delivered, bench.at_lago_of(&user)), (delivered, counted), "{day}");
        bench.assert_sound().await;
        assert!(start::choose(&bench.app, day).await.unwrap(), "it is so already");
        assert!(!start::choose(&bench.app, Timestamp::UNIX_EPOCH).await.unwrap(), "it has begun");
        assert_eq!(start::foreseen(&bench.app).await.unwrap(), Some(day));
    }
}

/// A version before this one decided nothing and sent everything.
#[tokio::test]
async fn what_has_begun_goes_on_as_it_was() {
    let (bench, user) = with_a_past(Database::sqlite(), Store::Postgres).await;
    assert_eq!(start::foreseen(&bench.app).await.unwrap(), Some("2026-11-01T00:00:00Z".parse().unwrap()));
    start::choose(&bench.app, Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(bench.ship().await.delivered, 2);
    bench.app.db.write(|tx| facts::remove(tx, facts::LAGO_FROM)).await.expect("as it was");
    bench.record(vec![named("late", &user, "50", "2026-10-31T23:59:59Z")]).await;
    assert_eq!((bench.ship().await.delivered, start::foreseen(&bench.app).await.unwrap()), (1, None));
    bench.assert_sound().await;
}
