//! Other terms: what becomes of usage when the catalogue changes.

use billhook::ops::doctor;
use serde_json::{Value, json};

use super::{Catalogue, record, session, shown, somebody, told};
use crate::harness::{Database, Plan, World};

/// The next start of the program on the same database, by another catalogue.
async fn restarted(first: &World, catalogue: &Catalogue) -> World {
    let database = Database::Sqlite(first.database.path().clone());
    World::planned(Plan { database, ..catalogue.plan(None) }).await
}

/// Used, remaining, and the cost of the overage.
fn credits(answer: &Value) -> (Value, Value, Value) {
    let credits = &answer["credits"];
    (credits["used"].clone(), credits["remaining"].clone(), credits["overage_cost"].clone())
}

fn period(answer: &Value) -> (&str, &str) {
    let text = |name: &str| answer[name].as_str().expect("an instant");
    (text("period_start"), text("period_end"))
}

/// Faults of one check of the doctor's.
async fn faults(world: &World, check: &str) -> Vec<String> {
    let report = doctor::examine(&world.app).await.expect("a report").0;
    let bad = report.into_iter().filter(|one| one.check == check && one.state == doctor::State::Fault);
    bad.map(|one| one.detail).collect()
}

#[tokio::test]
async fn another_zone_gives_nobody_their_credits_anew() {
    let zone = |name: &str| Catalogue::with(&[(r#"time_zone = "UTC""#, &format!("time_zone = \"{name}\""))]);
    let utc = Catalogue::with(&[]);
    for (name, end) in [
        ("America/Los_Angeles", "2026-12-01T08:00:00Z"),
        ("Asia/Tokyo", "2026-11-30T15:00:00Z"),
        ("Pacific/Niue", "2026-12-01T11:00:00Z"),
    ] {
        let first = World::planned(utc.plan(None)).await;
        let (user, _) = somebody(&first, None).await;
        record(&first, vec![told("e1", &user, "inference", "60", "2026-11-22T09:00:00Z")]).await;
        let other = zone(name);
        let moved = restarted(&first, &other).await;
        let token = session(&moved, &user).await;
        let there = shown(&moved, &token).await;
        assert_eq!((credits(&there).0, credits(&there).1), (json!(60), json!(40)), "{name}");
        assert_eq!(period(&there), ("2026-11-01T00:00:00Z", end), "{name}");
        let back = restarted(&first, &utc).await;
        let here = shown(&back, &token).await;
        assert_eq!((credits(&here).0, credits(&here).1), (json!(60), json!(40)), "{name} and back");
        assert_eq!(period(&here), ("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"), "{name} and back");
        assert_eq!(faults(&back, "usage").await, Vec::<String>::new(), "{name} and back");
    }
}
