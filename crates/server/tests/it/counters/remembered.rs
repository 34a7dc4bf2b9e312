//! What is remembered of reservations: enough for late commits, and never without end.

use std::sync::Arc;

use billhook::counters::reservations::{Fate, Known, Recorded, Reservations};
use billhook::store::reservations::note;
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

fn recorded() -> Recorded {
    Recorded { position: 7, quantity: Quantity::from_micro(1), late: false }
}

fn reserve(all: &Reservations, id: &str, expires_ms: i64) {
    all.part(id).insert(&Arc::from(id), held(expires_ms));
}

/// What is to be written down: the ids of what was opened, and of what has ended with whether that may have a row of its own.
fn noted(all: &Reservations, now_ms: i64) -> (Vec<String>, Vec<(String, bool)>) {
    let (mut opened, mut ended) = (Vec::new(), Vec::new());
    for note in all.notes(now_ms) {
        let [one, other] = note.packed();
        note::opened(&one, |line| opened.push(line.id.to_owned())).expect("whole");
        note::ended(&other, |line| ended.push((line.id.to_owned(), line.is_old))).expect("whole");
    }
    opened.sort_unstable();
    ended.sort_unstable();
    (opened, ended)
}

fn opened(all: &Reservations, now_ms: i64) -> Vec<String> {
    noted(all, now_ms).0
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
fn what_happens_is_to_be_written_down_once() {
    let all = Reservations::default();
    for (id, expires_ms) in [("kept", 60_000), ("released", 60_000), ("committed", 60_000), ("over", 2_000)] {
        reserve(&all, id, expires_ms);
    }
    all.part("undecided").insert(&Arc::from("undecided"), Known { fate: Fate::Undecided, ..held(60_000) });
    assert_eq!(opened(&all, 1_000), ["committed", "kept", "over", "released"]);
    assert!(
        all.part("committed").commit_begins("committed")
            && all.part("kept").commit_begins("kept")
            && all.part("undecided").commit_begins("undecided")
    );
    all.part("kept").commit_failed("kept");
    all.expire(2_000);
    assert_eq!(noted(&all, 3_000), (vec![], vec![]), "nothing of it has ended");
    all.resolve("released", Fate::Released);
    for id in ["committed", "undecided"] {
        all.committed(id, recorded());
    }
    all.resolve("released", Fate::Released);
    let ended = vec![("committed".to_owned(), false), ("released".to_owned(), false)];
    assert_eq!(noted(&all, 4_000), (vec![], ended), "once");
    assert_eq!(noted(&all, 5_000), (vec![], vec![]));
}

/// Only what ended long after it was opened may have a row, and what was taken over.
#[test]
fn what_ends_soon_has_no_row_of_its_own() {
    let all = Reservations::default();
    all.restore(&Arc::from("taken over"), held(90_000));
    noted(&all, 1_000);
    for id in ["soon", "late"] {
        reserve(&all, id, 90_000);
    }
    noted(&all, 20_900);
    all.resolve("soon", Fate::Released);
    all.resolve("taken over", Fate::Released);
    assert_eq!(noted(&all, 21_100).1, [("soon".to_owned(), false), ("taken over".to_owned(), true)]);
    all.resolve("late", Fate::Released);
    assert_eq!(noted(&all, 21_200).1, [("late".to_owned(), true)]);
}

/// What could not be written is said again, as it is by then. What is over by itself is not said.
#[test]
fn after_a_note_that_was_lost_the_next_says_everything() {
    let all = Reservations::default();
    for (id, expires_ms) in [("kept", 60_000), ("released", 60_000), ("over", 2_000)] {
        reserve(&all, id, expires_ms);
    }
    all.restore(&Arc::from("taken over"), held(90_000));
    noted(&all, 1_000);
    all.lose();
    all.resolve("released", Fate::Released);
    reserve(&all, "new", 60_000);
    let opened = ["kept", "new", "taken over"].map(str::to_owned).to_vec();
    assert_eq!(noted(&all, 3_000), (opened, vec![("released".to_owned(), false)]));
    assert_eq!(noted(&all, 4_000), (vec![], vec![]));
}

/// So many in a moment are more than one row.
#[test]
fn a_note_does_not_grow_without_end() {
    let all = Reservations::default();
    for number in 0..100_000_u64 {
        reserve(&all, &format!("{:032x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)), 60_000);
    }
    let sizes: Vec<usize> = all.notes(1_000).iter().map(note::Note::len).collect();
    assert!((3..=6).contains(&sizes.len()) && sizes.iter().all(|size| *size < 1_200_000), "{sizes:?}");
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
    assert!(noted(&all, 1_000 + HOUR_MS).1.is_empty(), "what the database has of it stays for its time");
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
    assert!(all.part("a").commit_begins("a"));
    reserve(&all, "b", 1_000);
    assert!(all.part("b").commit_begins("b"));
    for now_ms in [1_000, 3_000, 60_999, HOUR_MS] {
        assert!(all.expire(now_ms).is_empty());
        assert!(all.get("a").is_some(), "{now_ms}");
    }
    all.committed("a", recorded());
    assert!(all.get("a").is_some_and(|known| matches!(known.fate, Fate::Committed(_))));
    all.expire(2 * HOUR_MS);
    assert_eq!((all.get("a"), all.get("b")), (None, None));
}
