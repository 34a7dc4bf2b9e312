//! What is remembered of reservations: enough for late commits, and never without end.

use std::sync::Arc;

use billhook::counters::reservations::{Fate, Known, Reservations};
use billing::usage::{Credits, Quantity};

const HOUR_MS: i64 = 3_600_000;

fn held(expires_ms: i64) -> Known {
    Known {
        user: Arc::from("u_1"),
        kind: "inference".into(),
        quantity: Quantity::from_micro(1),
        credits: Credits::from_micro(1),
        expires_ms,
        fate: Fate::Held,
    }
}

fn reserve(all: &Reservations, id: &str, expires_ms: i64) {
    all.part(id).insert(&Arc::from(id), held(expires_ms));
}

fn opened(all: &Reservations, now_ms: i64) -> Vec<String> {
    all.changes(now_ms).opened.iter().map(|(id, _)| id.to_string()).collect()
}

/// Whoever reserves and never resolves fills no memory: 400,000 are over, and the newest of them are remembered.
#[test]
fn reservations_that_nobody_resolves_are_remembered_up_to_a_number() {
    let all = Reservations::default();
    for number in 0..400_000 {
        reserve(&all, &format!("res_{number}"), number / 100);
    }
    for now_ms in [2_000, 4_000] {
        all.expire(now_ms);
    }
    let known = (0..400_000).filter(|number| all.get(&format!("res_{number}")).is_some()).count();
    assert!((100_000..=64 * 2_048).contains(&known), "{known}");
    let newest = (390_000..400_000).filter(|number| all.get(&format!("res_{number}")).is_some()).count();
    assert_eq!(newest, 10_000, "the oldest go first");
}

#[test]
fn what_was_over_before_it_could_be_written_down_is_not_written() {
    let all = Reservations::default();
    reserve(&all, "short", 1_000);
    reserve(&all, "long", 60_000);
    assert_eq!(opened(&all, 5_000), ["long"]);
    assert_eq!(opened(&all, 10_000), Vec::<String>::new());
}

/// An id that was written down, forgotten and reserved again is written down again.
#[test]
fn an_id_may_live_twice() {
    let all = Reservations::default();
    reserve(&all, "a", 1_000);
    assert_eq!(opened(&all, 500), ["a"]);
    assert_eq!(all.expire(1_000).len(), 1);
    assert!(all.get("a").is_some_and(|known| known.is_over(1_000)), "a late commit finds whose it was");
    all.expire(1_000 + HOUR_MS);
    assert_eq!(all.get("a"), None);
    assert!(all.changes(1_000 + HOUR_MS).closed.is_empty(), "what the database has of it stays for its time");
    reserve(&all, "a", 9_000_000);
    assert_eq!(opened(&all, 8_000_000), ["a"]);
    // Its second life is not ended by what was noted of the first.
    all.expire(8_900_000);
    assert_eq!(all.get("a").map(|known| known.fate), Some(Fate::Held));
}

/// A commit that is under way when its time is over is neither forgotten nor freed. One that never arrives is not waited for for ever.
#[test]
fn a_commit_under_way_is_waited_for() {
    let all = Reservations::default();
    reserve(&all, "a", 1_000);
    assert!(all.commit_begins("a", false));
    reserve(&all, "b", 1_000);
    assert!(all.commit_begins("b", false));
    for now_ms in [1_000, 3_000, 60_999, HOUR_MS] {
        assert!(all.expire(now_ms).is_empty());
        assert!(all.get("a").is_some(), "{now_ms}");
    }
    all.committed("a", Quantity::from_micro(1), 7);
    assert!(all.get("a").is_some_and(|known| matches!(known.fate, Fate::Committed { .. })));
    all.expire(2 * HOUR_MS);
    assert_eq!((all.get("a"), all.get("b")), (None, None));
}
