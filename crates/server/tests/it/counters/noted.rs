//! What is written down of reservations: notes of what happened in a moment, rows of what is left when those have gone. On both databases.

use std::sync::Arc;
use std::time::Duration;

use billhook::counters::Counters;
use billhook::jobs::Jobs;
use billhook::ops::reservations::{self, proof};
use billhook::store::db::Value;
use billhook::store::reservations as rows;

use super::{Adapter, Rig, code};
use crate::harness::Database;

/// After this time a note goes.
const OLD: Duration = Duration::from_secs(31);

/// A program on this database; the next one on it knows what this one has written down.
async fn program(database: &Database) -> Rig {
    Rig::at(None, Database::Elsewhere(database.address())).await
}

async fn killed(rig: Rig, database: &Database) -> Rig {
    let now = rig.world.now();
    std::mem::forget(rig);
    let rig = program(database).await;
    rig.world.clock.set(now);
    rig
}

async fn write_down(rig: &Rig) {
    reservations::write_down(rig.app()).await.expect("written down");
}

/// Later, when what was old enough has gone.
async fn after(rig: &Rig, time: Duration) {
    rig.world.clock.advance(time);
    reservations::let_notes_go(rig.app()).await.expect("gone");
}

/// How many notes there are, and the ids that have a row.
async fn written(rig: &Rig) -> (usize, Vec<String>) {
    let read = rig.app().db.read(|tx| {
        let notes = tx.rows("SELECT id FROM reservation_notes", &[])?.len();
        let rows = tx.rows("SELECT id FROM reservations ORDER BY id", &[])?;
        Ok((notes, rows.iter().map(|row| row.text(0)).collect::<Result<_, _>>()?))
    });
    read.await.expect("rows")
}

async fn run(rig: &Rig, sql: &'static str) {
    assert!(rig.app().db.write(move |tx| tx.run(sql, &[])).await.is_ok(), "{sql}");
}

#[tokio::test]
async fn a_restart_finds_what_is_open_while_there_are_notes_and_when_they_have_gone() {
    for database in [Database::sqlite(), Database::postgres()] {
        let mut rig = program(&database).await;
        for id in ["open", "released", "committed", "later"] {
            rig.reserve(id, "inference", "1").await.expect("held");
        }
        write_down(&rig).await;
        rig.commit("committed", "0.5").await.expect("committed");
        rig.release("released").await.expect("released");
        write_down(&rig).await;
        rig = killed(rig, &database).await;
        assert_eq!((rig.left().await.as_str(), written(&rig).await), ("2.5", (2, vec![])));

        after(&rig, OLD).await;
        assert_eq!(written(&rig).await, (0, vec!["later".to_owned(), "open".to_owned()]));
        rig = killed(rig, &database).await;
        assert_eq!(rig.left().await, "2.5");
        assert_eq!(code(rig.commit("released", "1").await), "invalid /user_id");

        // What has a row and ends is over at once, and has none when the note has gone that says so.
        rig.release("later").await.expect("released");
        write_down(&rig).await;
        rig = killed(rig, &database).await;
        assert_eq!((rig.left().await.as_str(), written(&rig).await.0), ("3.5", 1));
        after(&rig, OLD).await;
        assert_eq!(written(&rig).await, (0, vec!["open".to_owned()]));
        rig = killed(rig, &database).await;
        assert!(!rig.commit("open", "1").await.expect("committed").late);
        assert_eq!(rig.left().await, "3.5");
    }
}

/// Its end is in a note that does not go yet.
#[tokio::test]
async fn what_ended_after_its_note_has_no_row_when_that_goes() {
    let database = Database::sqlite();
    let rig = program(&database).await;
    rig.reserve("before", "inference", "1").await.expect("held");
    write_down(&rig).await;
    for id in ["a", "b"] {
        rig.reserve(id, "inference", "1").await.expect("held");
    }
    write_down(&rig).await;
    after(&rig, Duration::from_secs(15)).await;
    rig.release("a").await.expect("released");
    write_down(&rig).await;
    after(&rig, Duration::from_secs(16)).await;
    assert_eq!(written(&rig).await, (1, vec!["b".to_owned(), "before".to_owned()]));
    let rig = killed(rig, &database).await;
    assert_eq!(rig.left().await, "3");
}

/// A database of the version before: its open reservations stay open, and end.
#[tokio::test]
async fn open_reservations_of_an_older_database_are_carried_over() {
    for database in [Database::sqlite(), Database::postgres()] {
        let rig = program(&database).await;
        run(&rig, "DROP TABLE reservation_notes").await;
        run(&rig, "CREATE INDEX reservations_by_user ON reservations (user_id)").await;
        run(&rig, "DELETE FROM schema_migrations WHERE name = '0013_reservation_notes'").await;
        for (id, credits) in [("released", 2_000_000_i64), ("open", 1_000_000)] {
            let sql = "INSERT INTO reservations VALUES (?1, ?2, 'inference', ?3, ?3, ?4)";
            let expires_ms = rig.world.now().as_millisecond() + 300_000;
            let row: Vec<Value> = vec![id.into(), rig.user.as_str().into(), credits.into(), expires_ms.into()];
            rig.app().db.write(move |tx| tx.run(sql, &row)).await.expect("a row");
        }
        let rig = killed(rig, &database).await;
        assert_eq!(rig.left().await, "2");
        rig.release("released").await.expect("released");
        write_down(&rig).await;
        let rig = killed(rig, &database).await;
        assert_eq!(rig.left().await, "4");
        after(&rig, OLD).await;
        assert_eq!(written(&rig).await, (0, vec!["open".to_owned()]));
        assert!(!rig.commit("open", "1").await.expect("committed").late);
    }
}

/// It is named, and takes nothing else with it; nor does it keep the others from going.
#[tokio::test]
async fn a_damaged_note_is_named_and_loses_only_itself() {
    for database in [Database::sqlite(), Database::postgres()] {
        let rig = program(&database).await;
        for id in ["a", "b", "c"] {
            rig.reserve(id, "inference", "1").await.expect("held");
            write_down(&rig).await;
            rig.world.clock.advance(Duration::from_millis(250));
        }
        let id = rig.app().db.read(|tx| tx.rows("SELECT id FROM reservation_notes ORDER BY at_ms", &[])?[1].text(0));
        let damaged = id.await.expect("the second note");
        let spoil: Vec<Value> = vec![damaged.as_str().into(), Value::Bytes(vec![1, 2, 3])];
        let sql = "UPDATE reservation_notes SET opened = ?2 WHERE id = ?1";
        rig.app().db.write(move |tx| tx.run(sql, &spoil)).await.expect("spoilt");

        let rig = killed(rig, &database).await;
        assert_eq!(rig.left().await, "3", "a and c are held");
        let named = async || proof::compare(rig.app()).await.expect("compared");
        let fault = format!("{damaged}: this note of open reservations is damaged");
        assert_eq!(named().await, [fault.as_str()]);
        after(&rig, OLD).await;
        assert_eq!((named().await, written(&rig).await), (vec![fault], (1, vec!["a".to_owned(), "c".to_owned()])));
        proof::repair(rig.app()).await.expect("thrown away");
        assert_eq!((named().await.len(), written(&rig).await.0), (0, 0));
    }
}

/// A late commit finds whose it was, also after a restart. Whoever reserves without end and never resolves does not fill the disk.
#[tokio::test]
async fn of_what_nobody_resolved_some_is_kept() {
    let database = Database::sqlite();
    let rig = program(&database).await;
    for number in 0..300 {
        let id = format!("r{number:03}");
        rig.reserve_for(&id, "inference", "0.01", Duration::from_secs(1)).await.expect("held");
    }
    rig.release("r000").await.expect("released");
    write_down(&rig).await;
    after(&rig, Duration::from_secs(4)).await;
    assert_eq!(written(&rig).await.0, 1, "its time is not long over");
    after(&rig, Duration::from_secs(2)).await;
    let (notes, kept) = written(&rig).await;
    assert_eq!((notes, kept.len(), kept.contains(&"r000".to_owned())), (0, 128, false));
    let rig = killed(rig, &database).await;
    assert!(rig.commit(&kept[0], "0.01").await.expect("committed").late);
    rig.world.clock.advance(Duration::from_hours(25));
    reservations::forget_old(rig.app()).await.expect("forgotten");
    assert_eq!(written(&rig).await.1, [""; 0]);
}

/// What could not be written is not forgotten: the next note says it.
#[tokio::test]
async fn what_could_not_be_written_down_is_written_with_the_next() {
    let database = Database::sqlite();
    let rig = program(&database).await;
    for id in ["a", "b"] {
        rig.reserve(id, "inference", "1").await.expect("held");
    }
    write_down(&rig).await;
    run(&rig, "ALTER TABLE reservation_notes RENAME TO elsewhere").await;
    rig.release("a").await.expect_err("nobody may be told that it will stay so");
    rig.reserve("c", "inference", "2").await.expect("held");
    for _ in 0..2 {
        assert!(reservations::write_down(rig.app()).await.is_err());
    }
    run(&rig, "ALTER TABLE elsewhere RENAME TO reservation_notes").await;
    write_down(&rig).await;
    write_down(&rig).await;
    assert_eq!(written(&rig).await.0, 2, "nothing is said twice");
    let rig = killed(rig, &database).await;
    assert_eq!(rig.left().await, "2");
}

/// An id that was over and is reserved again lives by its second life, whichever of the two was written where.
#[tokio::test]
async fn the_last_life_of_an_id_counts() {
    let database = Database::sqlite();
    let rig = program(&database).await;
    let second = Duration::from_secs(1);
    rig.reserve_for("a", "inference", "1", second).await.expect("held");
    rig.reserve_for("b", "inference", "1", second).await.expect("held");
    write_down(&rig).await;
    rig.world.clock.advance(second);
    rig.reserve("a", "inference", "1").await.expect("held again");
    write_down(&rig).await;
    after(&rig, Duration::from_secs(6)).await;
    assert_eq!(written(&rig).await, (1, vec!["a".to_owned(), "b".to_owned()]), "the first lives");
    let get = async |rig: &Rig| {
        rig.app().db.read(|tx| rows::get(tx, &mut rows::Index::default(), "a")).await.expect("read").expect("a row")
    };
    let expires_ms = get(&rig).await.expires_ms;
    assert!(expires_ms > rig.world.now().as_millisecond(), "the second");
    after(&rig, OLD).await;
    assert_eq!((get(&rig).await.expires_ms, written(&rig).await.0), (expires_ms, 0));
    assert_eq!(killed(rig, &database).await.left().await, "4");
}

/// Redis decides, two programs serve: the commit at another than the one that reserved ends what that one has written down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_program_commits_is_over_for_both() {
    let (one, other) = super::several::two().await;
    one.reserve("a", "inference", "1").await.expect("held");
    write_down(&one).await;
    other.commit("a", "1").await.expect("committed");
    for rig in [&one, &other] {
        assert_eq!(proof::compare(rig.app()).await.expect("compared"), [""; 0], "the log tells");
    }
    billhook::ops::usage::following::follow_log(one.app()).await.expect("followed");
    write_down(&one).await;
    let open = other.app().db.read(|tx| rows::open(tx, 0)).await.expect("rows");
    assert_eq!((open, written(&other).await.0), (vec![], 2));
    let alone = Rig::at(None, Database::Elsewhere(one.world.database.address())).await;
    assert_eq!((Adapter::Embedded, alone.left().await.as_str()), (Adapter::Embedded, "4"));
}

/// F-01: whoever was told that it is released has it back, and one that was committed is over, whatever was written down of it.
#[tokio::test]
async fn f01_what_was_answered_before_kill_9_stays_so() {
    let database = Database::sqlite();
    let rig = program(&database).await;
    for id in ["a", "b"] {
        rig.reserve(id, "inference", "2").await.expect("held");
    }
    write_down(&rig).await;
    rig.release("a").await.expect("released");
    rig.commit("b", "1").await.expect("committed");
    let rig = killed(rig, &database).await;
    assert_eq!(rig.left().await, "4");
    assert_eq!(proof::compare(rig.app()).await.expect("compared"), [""; 0], "and nothing is wrong with that");
}

/// Many who release at once share a note; each waits for one that was begun after it.
#[tokio::test]
async fn releases_at_once_are_written_down_together() {
    let database = Database::sqlite();
    let rig = program(&database).await;
    let ids: Vec<String> = (0..50).map(|number| format!("r{number}")).collect();
    for id in &ids {
        rig.reserve(id, "inference", "0.1").await.expect("held");
    }
    write_down(&rig).await;
    let released = futures_util::future::join_all(ids.iter().map(|id| rig.release(id))).await;
    assert!(released.iter().all(Result::is_ok));
    assert_eq!(written(&rig).await.0, 2, "one note for all of them");
    assert_eq!(killed(rig, &database).await.left().await, "5");
}

/// What is published takes as long as Redis takes; what is held is written down all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_is_written_down_while_accounts_are_published() {
    let rig = Rig::new(Adapter::Redis).await;
    let Counters::Redis(shared) = &rig.app().counters else { unreachable!("this is Redis") };
    let publishing = shared.view.lock().await;
    let jobs = Jobs::start(rig.app(), Arc::new(|_| ()));
    // Long enough that somebody waits to publish.
    tokio::time::sleep(Duration::from_millis(500)).await;
    rig.reserve("a", "inference", "1").await.expect("held");
    let mut tries = 0;
    while written(&rig).await.0 == 0 {
        tries += 1;
        assert!(tries < 150, "nobody writes it down");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(publishing);
    jobs.stop().await;
}

/// Whoever asks again and again for what nobody knows makes nobody read every note again and again.
#[tokio::test]
async fn an_id_that_is_unknown_costs_no_note_that_was_read_before() {
    let database = Database::sqlite();
    let rig = program(&database).await;
    for id in ["a", "b"] {
        rig.reserve(id, "inference", "1").await.expect("held");
        write_down(&rig).await;
    }
    let other = program(&database).await;
    assert_eq!(code(other.release("unknown").await), "not found");
    // Whoever reads one of them again meets what is no note at all.
    run(&other, "UPDATE reservation_notes SET opened = 5").await;
    assert_eq!(code(other.release("unknown").await), "not found");
    rig.reserve("new", "inference", "1").await.expect("held");
    write_down(&rig).await;
    assert_eq!(code(other.release("new").await), "ok", "a note that has come since is read");
    assert_eq!(code(other.release("unknown").await), "not found");
}
