//! History that is brought in: Lago gets what lies in its running month, and nothing that it would have to count in another one.

use billhook::ops::lago::details;
use billhook::ops::usage::{Told, corrections, history};
use billhook::store::log::Source;
use sandbox::lago::Store;

use super::bench::{Bench, everywhere, named, units};
use crate::harness::Database;

async fn bring_in(bench: &Bench, user: &str, events: &[(&str, &str, &str)]) {
    let history = |(id, quantity, instant): &(&str, &str, &str)| Told {
        source: Source::Backfill,
        ..named(id, user, quantity, instant)
    };
    let verdicts = history::backfill(&bench.app, "import", events.iter().map(history).collect()).await;
    assert_eq!(verdicts.expect("brought in").len(), events.len());
}

async fn void(bench: &Bench, id: &str, instant: &str) -> u64 {
    let at: jiff::Timestamp = instant.parse().expect("an instant");
    corrections::void(&bench.app, id, Some(at), false).await.expect("a void");
    bench.ship().await.delivered
}

#[tokio::test]
async fn history_is_sent_where_lago_has_not_billed_its_month_and_else_it_is_not() {
    let (old, late) = ("2025-02-03T00:00:00Z", "2026-10-31T23:59:59.999Z");
    let (first, now) = ("2026-11-01T00:00:00Z", "2026-11-20T09:00:00Z");
    for (database, store) in everywhere() {
        let bench = Bench::new(database, store).await;
        let user = bench.user("ada").await;
        bench.go_to(now);
        bench.use_some(&user, "inference", &["1"]).await;
        bring_in(&bench, &user, &[("old", "100", old), ("late", "50", late), ("first", "4", first)]).await;
        assert_eq!((bench.ship().await.delivered, bench.at_lago_of(&user)), (2, units("5.0", 2)));
        assert_eq!(details(&bench.app).await.unwrap().skipped, [("history".to_owned(), 2)]);
        bench.assert_sound().await;
        // What takes it back goes where it went.
        assert_eq!((void(&bench, "old", old).await, void(&bench, "late", late).await), (0, 0));
        assert_eq!((void(&bench, "first", first).await, bench.at_lago_of(&user)), (1, units("1.0", 3)));
        assert_eq!(bench.send_everything_again().await, 3);
        bench.assert_sound().await;
        // History of the month that was open when it came in is owed, however late it is sent.
        bring_in(&bench, &user, &[("last", "8", "2026-11-20T08:00:00Z")]).await;
        bench.go_to("2026-12-02T09:00:00Z");
        bring_in(&bench, &user, &[("too late", "16", "2026-11-30T08:00:00Z")]).await;
        assert_eq!((bench.ship().await.delivered, bench.at_lago_of(&user)), (1, units("8.0", 1)));
        bench.assert_sound().await;
    }
}

/// Whether Lago bills it is a matter of Lago's month: the credit period of its account may be over, or not, as it likes.
#[tokio::test]
async fn history_that_counts_nothing_here_and_is_in_lagos_month_is_sent_and_taken_back() {
    let mut bench = Bench::bare(Database::sqlite(), Store::ClickHouse).await;
    // There the month begins fourteen hours before Lago's.
    bench.change_catalogue(&[("time_zone = \"UTC\"", "time_zone = \"Pacific/Kiritimati\"")]).await;
    bench.set_up().await;
    let user = bench.user("ada").await;
    bench.go_to("2026-11-30T22:00:00Z");
    bench.use_some(&user, "inference", &["1"]).await;
    let instant = "2026-11-20T08:00:00Z";
    bring_in(&bench, &user, &[("shown", "4", instant)]).await;
    assert_eq!((bench.ship().await.delivered, bench.at_lago_of(&user)), (2, units("5.0", 2)));
    let looked_at = corrections::void(&bench.app, "shown", Some(instant.parse().unwrap()), true).await.expect("a look");
    assert_eq!(looked_at.effect, Some(corrections::Effect::Nothing), "its credit period is over");
    assert_eq!((void(&bench, "shown", instant).await, bench.at_lago_of(&user)), (1, units("1.0", 3)));
    bench.assert_sound().await;
}
