//! A log of any length: what is read costs the same, and a start reads only the rest that is not written down.

use std::time::{Duration, Instant};

use billhook::app::App;
use billhook::ops::usage;
use billhook::store::log;
use billhook::store::users::User;

use super::{add_users, now, one, program, record};
use crate::harness::Database;

/// Makes the log this long, past the program: entries like the last one of the user, each leading to the one before.
pub async fn lengthen(app: &App, to: i64) {
    usage::totals::write_down_now(app).await.expect("written down");
    app.db
        .write(move |tx| {
            let head = log::head(tx)?;
            tx.run(
                "WITH RECURSIVE more (n) AS (SELECT ?1 + 1 UNION ALL SELECT n + 1 FROM more WHERE n < ?2)
                 INSERT INTO usage_log (position, kind, user_id, type, quantity_micro, weight_micro, event_ms, received_ms, id,
                     transaction_id, source, previous)
                 SELECT n, l.kind, l.user_id, l.type, 0, l.weight_micro, l.event_ms, l.received_ms, randomblob(16), 'more-' || n,
                     l.source, n - 1 FROM more, usage_log l WHERE l.position = ?1",
                &[head.into(), to.into()],
            )
        })
        .await
        .expect("longer");
    usage::following::follow_log(app).await.expect("followed");
    usage::totals::write_down_now(app).await.expect("written down");
}

/// The median of some tries.
async fn median<T>(work: impl AsyncFn() -> T) -> Duration {
    let mut times = Vec::new();
    for _ in 0..21 {
        let start = Instant::now();
        work().await;
        times.push(start.elapsed());
    }
    times.sort();
    times[10]
}

async fn reads(app: &App, user: &User) -> [Duration; 4] {
    let middle = app.book.applied() / 2;
    [
        median(async || usage::overview(app, user).await.expect("an overview")).await,
        median(async || usage::events(app, user, None, 50).await.expect("a page")).await,
        median(async || app.db.read(move |tx| log::read(tx, middle, 100)).await.expect("a page")).await,
        median(async || usage::totals::totals(app, usage::totals::Totals::default(), None, 50).await.expect("totals"))
            .await,
    ]
}

async fn run(short: i64, long: i64, ready: Duration) {
    let (database, clock) = (Database::sqlite(), now());
    let app = program(&database, &clock).await;
    let name = add_users(&app, 1).await.remove(0);
    record(&app, vec![one("e1", &name)]).await;
    let found = app.db.read(move |tx| billhook::store::users::get(tx, &name)).await.expect("a read").expect("the user");
    lengthen(&app, short).await;
    let at_first = reads(&app, &found).await;
    lengthen(&app, long).await;
    let later = reads(&app, &found).await;
    // The rest that a start has to count: what came after the accounts were written down last.
    record(&app, (0..1_000).map(|number| one(&format!("rest-{number}"), &found.id)).collect()).await;
    drop(app);
    let start = Instant::now();
    let again = program(&database, &clock).await;
    let started = start.elapsed();
    assert_eq!(again.book.applied(), long + 1_000);
    assert!(started < ready, "{started:?}; {short}: {at_first:?}, {long}: {later:?}");
    for (short, long) in at_first.into_iter().zip(later) {
        // A busy machine may be three times as slow for a moment; what grows with the log would be a hundred times.
        assert!(long < short * 3 + Duration::from_millis(3), "{at_first:?} {later:?}");
    }
}

#[tokio::test]
async fn reads_cost_the_same_at_a_thousand_entries_and_at_a_hundred_thousand() {
    run(1_000, 100_000, Duration::from_secs(10)).await;
}

#[tokio::test]
#[ignore = "nightly: ten million entries"]
async fn reads_cost_the_same_at_ten_thousand_entries_and_at_ten_million() {
    run(10_000, 10_000_000, Duration::from_secs(2)).await;
}
