//! What never went to Lago, or was lost there, is found by the log and sent again; what Lago has counts once (facts are the log's).

use std::time::Duration;

use billhook::ops::lago::reconcile::{self, Which};
use billhook::ops::lago::{again, owed, replay};
use billhook::store::db::Value;
use sandbox::lago::{FaultKind, Store};

use super::bench::{Bench, everywhere, told};
use crate::harness::Database;

async fn run_sql(bench: &Bench, sql: &'static str, args: Vec<Value>) {
    assert!(bench.app.db.write(move |tx| tx.run(sql, &args)).await.expect(sql) > 0, "{sql}");
}

/// What the log says against what is noted as sent.
async fn unsent(bench: &Bench) -> Vec<String> {
    owed::compare(&bench.app).await.expect("a comparison").iter().map(ToString::to_string).collect()
}

/// What is noted as sent against what Lago says.
async fn miscounted(bench: &Bench) -> usize {
    let compared = reconcile::run(&bench.app, Which::All).await.expect("a comparison");
    compared.iter().map(|one| one.differences.len()).sum()
}

/// Seven events, two of which the cursor passes without anybody having sent them.
async fn with_two_passed_over(bench: &Bench) -> String {
    let user = bench.user("ada").await;
    bench.use_some(&user, "inference", &["1", "1", "1"]).await;
    bench.ship().await;
    bench.use_some(&user, "inference", &["1", "1", "1", "1"]).await;
    run_sql(bench, "UPDATE lago_cursor SET position = position + 2", Vec::new()).await;
    assert_eq!(bench.ship().await.delivered, 2);
    user
}

#[tokio::test]
async fn f41_what_the_cursor_passed_and_nobody_sent_is_named_and_sent() {
    for (database, store) in everywhere() {
        let bench = Bench::new(database, store).await;
        let user = with_two_passed_over(&bench).await;
        let new = bench.user("new").await;
        bench.use_some(&new, "tts", &["3"]).await;
        run_sql(&bench, "UPDATE lago_cursor SET position = position + 2", Vec::new()).await;
        assert_eq!((bench.ship().await.delivered, miscounted(&bench).await), (0, 0), "Lago alone cannot say");
        let of_user =
            "inference_call, 2026-11: the log says 7 units in 7 events, noted as sent are 5 units in 5 events";
        let of_new = "tts_call, 2026-11: the log says 3 units in 1 events, noted as sent are 0 units in 0 events";
        let mut expected = [format!("user {user}, {of_user}"), format!("user {new}, {of_new}")];
        expected.sort();
        let mut named = unsent(&bench).await;
        named.sort();
        assert_eq!(named, expected);
        let sent = again::repair(&bench.app).await.expect("sent");
        assert_eq!((sent.users, sent.events, sent.trouble), (2, 8, None));
        assert_eq!(miscounted(&bench).await, 0);
        bench.assert_equal().await;
        assert_eq!(again::repair(&bench.app).await.expect("nothing to do"), again::Sent::default());
    }
}

/// Facts 3.8: windows that are missing there are sent again, and count once.
#[tokio::test]
async fn what_lago_has_lost_is_sent_again_and_counts_once() {
    for (database, store) in everywhere() {
        let bench = Bench::new(database, store).await;
        let user = with_two_passed_over(&bench).await;
        // As if they had been sent: then it is Lago that has less.
        let sql =
            "UPDATE lago_sums SET units_micro = units_micro + 2000000, events = events + 2 WHERE external_id = ?1";
        run_sql(&bench, sql, vec![user.as_str().into()]).await;
        assert_eq!((unsent(&bench).await.len(), miscounted(&bench).await), (0, 1));
        assert_eq!(again::repair(&bench.app).await.expect("sent").events, 7);
        assert_eq!(miscounted(&bench).await, 0);
        bench.assert_equal().await;
    }
}

/// Our own notes are compared with the log, so that Lago is not blamed for them.
#[tokio::test]
async fn notes_that_are_wrong_are_put_right() {
    let bench = Bench::new(Database::sqlite(), Store::ClickHouse).await;
    let user = bench.user("ada").await;
    bench.use_some(&user, "inference", &["1", "2.5"]).await;
    bench.ship().await;
    for sql in [
        "UPDATE lago_sums SET units_micro = units_micro + 1",
        "UPDATE lago_sums SET events = 1",
        "DELETE FROM lago_sums",
    ] {
        run_sql(&bench, sql, Vec::new()).await;
        assert_eq!(unsent(&bench).await.len(), 1, "{sql}");
        again::repair(&bench.app).await.expect("sent");
        bench.assert_equal().await;
        assert_eq!(miscounted(&bench).await, 0, "{sql}");
    }
}

/// What is counted from another moment than its own (its month was billed, its subscription came later) is none of the differences,
/// and is sent again with the bytes of the first time.
#[tokio::test]
async fn what_was_moved_to_another_month_is_known_to_be_there() {
    for store in [Store::Postgres, Store::ClickHouse] {
        let bench = Bench::new(Database::sqlite(), store).await;
        let user = bench.user("ada").await;
        bench.use_some(&user, "inference", &["1"]).await;
        bench.ship().await;
        bench.clock.set("2026-11-30T20:00:00Z".parse().unwrap());
        bench.use_some(&user, "inference", &["2", "4"]).await;
        bench.clock.set("2026-12-02T09:00:00Z".parse().unwrap());
        bench.use_some(&user, "inference", &["8"]).await;
        bench.record(vec![told(&user, "tts", "1", "2026-11-01T00:00:00Z".parse().unwrap())]).await;
        bench.ship().await;
        bench.later(Duration::from_hours(1));
        assert_eq!(unsent(&bench).await, [""; 0]);
        let before = bench.lago.usage(&user, "inference_call");
        run_sql(&bench, "UPDATE lago_sums SET events = events + 1 WHERE code = 'tts_call'", Vec::new()).await;
        let sent = again::repair(&bench.app).await.expect("sent");
        assert_eq!(sent.events, 4, "of the open month, three of them moved into it");
        assert_eq!((unsent(&bench).await.len(), miscounted(&bench).await), (0, 0));
        assert_eq!(bench.lago.usage(&user, "inference_call"), before);
    }
}

/// A server goes on sending while a command forgets: what it settles in between is noted by it, and not once more.
#[tokio::test]
async fn what_is_settled_between_forgetting_and_sending_again_is_noted_once() {
    for (database, store) in everywhere() {
        let bench = Bench::bare(database, store).await;
        let dead = bench.user("bob").await;
        bench.use_some(&dead, "inference", &["8"]).await;
        assert_eq!(bench.ship().await.dead, 1, "nothing is set up");
        bench.set_up().await;
        let user = bench.user("ada").await;
        bench.use_some(&user, "inference", &["1"]).await;
        bench.ship().await;
        bench.use_some(&user, "inference", &["2", "4"]).await;
        bench.trouble_with_events(1, FaultKind::Close);
        assert!(bench.ship().await.trouble.is_some());
        replay::ask(&bench.app, None).await.expect("asked");
        let forgotten = again::forget(&bench.app, [user, dead].into()).await.expect("forgotten");
        assert_eq!(bench.ship().await.delivered, 3, "the window, and the letter");
        assert_eq!(again::send(&bench.app, forgotten).await.expect("asked for"), 1, "what had been noted");
        bench.ship().await;
        bench.assert_equal().await;
        assert_eq!(again::repair(&bench.app).await.expect("nothing to do"), again::Sent::default());
    }
}
