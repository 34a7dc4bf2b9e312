//! History is bounded like everything else: what is in the log can be counted, and the sums of a day can be kept.

use billhook::app::App;
use billhook::ops::usage::{self, Told, Verdict, history};

use super::{add_users, now, one, program, record, settled, told};
use crate::harness::Database;

/// The greatest event there is.
const GREATEST: i64 = 1_000_000_000 * 1_000_000;
/// So many of them an account can count.
const FIT: usize = 1_152;

fn refused(verdicts: &[Verdict]) -> usize {
    verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Refused { code: "invalid", .. })).count()
}

/// Brings in greatest events of one day, a portion at a time; how many were refused.
async fn bring_in(app: &App, user: &str, kind: &str, portions: std::ops::Range<usize>) -> usize {
    let (mut many, at) = (0, "2024-03-05T10:00:00Z".parse().expect("an instant"));
    for portion in portions {
        let event = |number| told(&format!("{kind}-{portion}-{number}"), user, kind, GREATEST, at);
        let verdicts = history::backfill(app, "run", (0..1_000).map(event).collect()).await.expect("verdicts");
        many += refused(&verdicts);
        usage::totals::write_down_now(app).await.expect("written down");
    }
    many
}

/// The sum of a day that is over is looked at as well. Once it was too large to be kept, nothing of anybody was written down any more.
async fn a_day_takes_no_more_history_than_it_can_hold(database: Database) {
    let app = program(&database, &now()).await;
    let users = add_users(&app, 2).await;
    assert_eq!(bring_in(&app, &users[0], "tts", 0..10).await, 10_000 - FIT);
    // It is the day of one user and type that is full.
    assert_eq!(bring_in(&app, &users[0], "stt", 0..1).await + bring_in(&app, &users[1], "tts", 0..1).await, 0);
    let live = record(&app, vec![one("live", &users[0])]).await;
    assert!(matches!(live[0], Verdict::Recorded { .. }), "{live:?}");
    settled(&app).await;
}

on_each_database!(a_day_takes_no_more_history_than_it_can_hold);

/// Many that are not large fill an account as well: what it cannot count any more is refused.
#[tokio::test]
async fn an_account_that_is_nearly_full_looks_at_small_events_too() {
    let database = Database::sqlite();
    let app = program(&database, &now()).await;
    let user = add_users(&app, 1).await.remove(0);
    let events = |name: &'static str, count: usize, micro: i64| {
        let user = user.clone();
        (0..count).map(move |number| Told {
            quantity: billing::usage::Quantity::from_micro(micro),
            ..one(&format!("{name}-{number}"), &user)
        })
    };
    assert_eq!(refused(&record(&app, events("great", FIT, GREATEST).collect()).await), 0);
    // What is left, 921,504,606 units and a rest, takes 922 events of just under a million.
    let verdicts = record(&app, events("small", 1_000, 999_999 * 1_000_000).collect()).await;
    assert_eq!(refused(&verdicts), 1_000 - 921);
    settled(&app).await;
}

/// A dry run is the run itself, and then none of it is there.
async fn a_dry_run_says_what_would_be_done(database: Database) {
    let app = program(&database, &now()).await;
    let user = add_users(&app, 1).await.remove(0);
    let event =
        |id: &str, quantity| told(id, &user, "tts", quantity, "2025-03-05T10:00:00Z".parse().expect("an instant"));
    let head = async || app.db.read(billhook::store::log::head).await.expect("the head");
    assert!(matches!(
        history::backfill(&app, "run", vec![event("a", 1)]).await.expect("verdicts")[..],
        [Verdict::Recorded { .. }]
    ));
    let (before, first) = (head().await, 2);
    let file = || vec![event("a", 1), event("a", 2), event("b", 1), Told { user: "nobody".into(), ..event("c", 1) }];
    let tried = history::try_backfill(&app, file()).await.expect("verdicts");
    assert_eq!(head().await, before, "nothing is recorded");
    assert_eq!(tried, history::backfill(&app, "run", file()).await.expect("verdicts"));
    assert_eq!(tried[..2], [Verdict::Duplicate { position: first }, Verdict::Conflict { member: "quantity" }]);
    assert!(
        matches!(tried[2..], [Verdict::Recorded { .. }, Verdict::Refused { code: "user.unknown", .. }]),
        "{tried:?}"
    );
    assert_eq!(head().await, before + 1);
    settled(&app).await;
}

on_each_database!(a_dry_run_says_what_would_be_done);
