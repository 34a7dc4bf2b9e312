//! A user gets another id of Lago's while a month is open. What went out under one id stays under it.

use std::time::Duration;

use billhook::ops::lago::reconcile::{self, Which};
use billhook::ops::lago::replay;
use billhook::ops::usage::corrections;
use billhook::store::db::Value;
use sandbox::lago::{Fault, FaultKind, Store};
use serde_json::json;

use super::bench::{Bench, everywhere, told, units};
use crate::harness::Database;

async fn rename(bench: &Bench, user: &str, id: &str) {
    let (user, id) = (user.to_owned(), id.to_owned());
    let sql = "UPDATE users SET lago_customer_id = ?2 WHERE id = ?1";
    bench
        .app
        .db
        .write(move |tx| tx.run(sql, &[Value::from(user.clone()), Value::from(id.clone())]))
        .await
        .expect("renamed");
}

async fn use_named(bench: &Bench, user: &str, id: &str, quantity: &str) {
    let mut event = told(user, "inference", quantity, bench.app.clock.now());
    id.clone_into(&mut event.transaction_id);
    bench.record(vec![event]).await;
}

async fn void(bench: &Bench, id: &str) {
    corrections::void(&bench.app, id, None, false).await.expect("a void");
    bench.ship().await;
}

/// Log, notes and Lago agree; what Lago has under each of these ids.
async fn assert_at_lago(bench: &Bench, expected: &[(&str, &str, u64)]) {
    bench.later(Duration::from_mins(5));
    bench.assert_sound().await;
    for (id, sum, events) in expected {
        assert_eq!(bench.at_lago_of(id), units(sum, *events), "{id}");
    }
}

#[tokio::test]
async fn what_went_out_under_one_id_stays_under_it() {
    for (database, store) in everywhere() {
        let bench = Bench::new(database, store).await;
        let user = bench.user("ada").await;
        use_named(&bench, &user, "a1", "1").await;
        use_named(&bench, &user, "a2", "2").await;
        bench.ship().await;
        rename(&bench, &user, "customer-b").await;
        assert_at_lago(&bench, &[(&user, "3.0", 2)]).await;
        assert_eq!(bench.send_everything_again().await, 2, "before anything goes out under the new one");
        use_named(&bench, &user, "b1", "4").await;
        use_named(&bench, &user, "b2", "8").await;
        bench.ship().await;
        assert_at_lago(&bench, &[(&user, "3.0", 2), ("customer-b", "12.0", 2)]).await;
        // What takes something back goes where that is.
        void(&bench, "a2").await;
        void(&bench, "b2").await;
        assert_at_lago(&bench, &[(&user, "1.0", 3), ("customer-b", "4.0", 3)]).await;
        assert_eq!(bench.send_everything_again().await, 6);
        assert_at_lago(&bench, &[(&user, "1.0", 3), ("customer-b", "4.0", 3)]).await;
        // And back.
        rename(&bench, &user, &user).await;
        use_named(&bench, &user, "c1", "0.5").await;
        bench.ship().await;
        assert_eq!(bench.send_everything_again().await, 7);
        assert_at_lago(&bench, &[(&user, "1.5", 4), ("customer-b", "4.0", 3)]).await;
    }
}

/// A Lago that has lost what was sent under the old id has lost it whatever the user is called now.
#[tokio::test]
async fn what_lago_lacks_under_an_old_id_is_found() {
    let bench = Bench::new(Database::sqlite(), Store::Postgres).await;
    let user = bench.user("ada").await;
    use_named(&bench, &user, "a1", "1").await;
    bench.ship().await;
    rename(&bench, &user, "customer-b").await;
    use_named(&bench, &user, "b1", "4").await;
    bench.ship().await;
    let sql = "UPDATE lago_sums SET units_micro = units_micro + 1 WHERE external_id = ?1";
    let old = user.clone();
    bench.app.db.write(move |tx| tx.run(sql, &[Value::from(old.clone())])).await.expect("more was noted");
    let compared = reconcile::run(&bench.app, Which::All).await.expect("a comparison");
    let found: Vec<String> = compared[0].differences.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        ["inference_call: delivered 1.000001 units in 1 events, Lago has counted 1 units in 1 events"],
        "{user}"
    );
}

/// A letter that has never been at Lago goes out under the id that its user has when it does.
#[tokio::test]
async fn what_was_refused_under_one_id_goes_out_under_the_next_and_stays_there() {
    for database in [Database::sqlite(), Database::postgres()] {
        let bench = Bench::new(database, Store::Postgres).await;
        let user = bench.user("ada").await;
        use_named(&bench, &user, "a1", "1").await;
        bench.ship().await;
        // This id is somebody else's there.
        let taken = json!({ "subscription": {
            "external_customer_id": "eve", "external_id": "customer-b", "plan_code": "professional", "billing_time": "calendar",
        } });
        bench.at_lago("POST", "/subscriptions", &taken).await;
        rename(&bench, &user, "customer-b").await;
        use_named(&bench, &user, "b1", "2").await;
        assert_eq!(bench.ship().await.dead, 1);
        rename(&bench, &user, &user).await;
        use_named(&bench, &user, "a2", "4").await;
        bench.ship().await;
        rename(&bench, &user, "customer-c").await;
        replay::ask(&bench.app, None).await.expect("asked");
        bench.ship().await;
        assert_at_lago(&bench, &[(&user, "5.0", 2), ("customer-c", "2.0", 1)]).await;
        assert_eq!(bench.send_everything_again().await, 3);
        void(&bench, "b1").await;
        void(&bench, "a2").await;
        assert_at_lago(&bench, &[(&user, "1.0", 3), ("customer-c", "0.0", 2)]).await;
    }
}

/// A window that was sent under the old id, and one of which Lago heard nothing yet.
#[tokio::test]
async fn what_waits_while_the_id_changes_is_sent_once() {
    for database in [Database::sqlite(), Database::postgres()] {
        let bench = Bench::new(database, Store::Postgres).await;
        let user = bench.user("ada").await;
        use_named(&bench, &user, "a1", "1").await;
        bench.ship().await;
        use_named(&bench, &user, "a2", "2").await;
        bench.trouble_with_events(1, FaultKind::CommitThenClose);
        assert!(bench.ship().await.trouble.is_some());
        rename(&bench, &user, "customer-b").await;
        use_named(&bench, &user, "b1", "4").await;
        bench.trouble(Fault::new("/api/v1/subscriptions", 1, FaultKind::Close));
        assert!(bench.ship().await.trouble.is_some());
        bench.ship_through().await;
        assert_at_lago(&bench, &[(&user, "3.0", 2), ("customer-b", "4.0", 1)]).await;
    }
}
