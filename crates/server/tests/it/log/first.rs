//! The log of the first version is taken over: everything is there once, and what was used in a month that is over is not charged
//! to the running one.

use billhook::app::App;
use billhook::store::log::Source;
use jiff::SignedDuration;

use super::{add_users, instant, now, one, program, program_with, record, settled, times_recorded};
use crate::harness::{Database, NOW};

/// The tables as the first version has left them and the migration has put them aside.
const TABLES: &str = "
    CREATE TABLE usage_events_0001 (position BIGINT PRIMARY KEY, transaction_id TEXT NOT NULL, user_id TEXT NOT NULL,
        type TEXT NOT NULL, quantity_micro BIGINT NOT NULL, event_ms BIGINT NOT NULL, received_ms BIGINT NOT NULL, properties TEXT);
    CREATE TABLE usage_keys (day BIGINT); CREATE TABLE usage_hours (hour BIGINT);";

async fn with_first_log(database: &Database, late: &str) -> App {
    let clock = now();
    let app = program(database, &clock).await;
    let users = add_users(&app, 1).await;
    let user = users[0].clone();
    drop(app);
    let file = rusqlite::Connection::open(database.path()).expect("the file");
    file.execute_batch(TABLES).expect("tables");
    for (number, days_ago) in (1_i64..).zip([60, 40, 30, 2, 1, 0]) {
        let at = (instant(NOW) - SignedDuration::from_hours(24 * days_ago)).as_millisecond();
        let row = rusqlite::params![number, format!("old-{number}"), user, 1_000_000 << number, at];
        file.execute("INSERT INTO usage_events_0001 VALUES (?1, ?2, ?3, 'inference', ?4, ?5, ?5, NULL)", row)
            .expect("a row");
    }
    drop(file);
    program_with(&database.address(), &clock, &[("BILLHOOK_LATE_EVENTS", late)]).await
}

#[tokio::test]
async fn the_first_log_is_taken_over_and_old_months_are_not_charged_again() {
    for late in ["count", "reject"] {
        let database = Database::sqlite();
        let app = with_first_log(&database, late).await;
        assert_eq!(times_recorded(&app).await.len(), 6, "{late}: all of it is there");
        let slot = app.book.slots().remove(0);
        let view = slot.lock().account.at(instant(NOW).as_millisecond());
        // Of this month: the last three.
        assert_eq!(view.used.micro(), (16 + 32 + 64) * 1_000_000, "{late}");
        settled(&app).await;
        // What its sender tells again is known, and a start that finds nothing to take over changes nothing.
        let again =
            record(&app, vec![billhook::ops::usage::Told { source: Source::Own, ..one("old-6", &slot.user) }]).await;
        assert!(matches!(again[0], billhook::ops::usage::Verdict::Conflict { member: "quantity" }), "{again:?}");
        drop(app);
        let restarted = program(&database, &now()).await;
        assert_eq!(times_recorded(&restarted).await.len(), 6);
        settled(&restarted).await;
    }
}
