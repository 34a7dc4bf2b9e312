//! CONTRACT: no retry, however late, counts twice; also not after the window was shorter for a while.

use billhook::ops::usage::upkeep::Upkeep;
use billhook::ops::usage::{Told, Verdict};
use jiff::SignedDuration;

use super::{add_users, instant, now, one, program_with, record};
use crate::harness::{Database, NOW};

#[tokio::test]
async fn an_event_whose_id_was_forgotten_is_refused_and_not_counted_again() {
    let (database, clock) = (Database::sqlite(), now());
    let app = program_with(&database.address(), &clock, &[]).await;
    let user = add_users(&app, 1).await.remove(0);
    let days_ago = |days: i64| {
        let at = Some(instant(NOW) - SignedDuration::from_hours(24 * days));
        vec![Told { at, ..one(&format!("{days} days ago"), &user) }]
    };
    for days in [20, 1] {
        let verdicts = record(&app, days_ago(days)).await;
        assert!(matches!(verdicts[0], Verdict::Recorded { .. }), "{verdicts:?}");
    }
    drop(app);
    let shorter = program_with(&database.address(), &clock, &[("BILLHOOK_USAGE_WINDOW", "1d")]).await;
    Upkeep::default().once(&shorter).await.expect("ids are forgotten");
    drop(shorter);
    let longer_again = program_with(&database.address(), &clock, &[]).await;
    for days in [20, 10] {
        let verdicts = record(&longer_again, days_ago(days)).await;
        assert!(matches!(verdicts[0], Verdict::Refused { code: "too_old", .. }), "{days}: {verdicts:?}");
    }
    let verdicts = record(&longer_again, days_ago(1)).await;
    assert!(matches!(verdicts[0], Verdict::Duplicate { .. }), "{verdicts:?}");
}
