//! The usage log and what is written down of it, whichever database holds them.

use std::collections::{BTreeMap, HashMap};

use billhook::error::Result;
use billhook::store::accounts::{self, Day, DaysAsked, Page, Snapshot, Stand};
use billhook::store::db::Isolation;
use billhook::store::log::{self, Appended, DAY_MS, Entry, Kind, Known, Source};
use billhook::store::{Db, Tx, leases};
use futures_util::future::join_all;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::open;
use crate::harness::Database;

/// A whole hour.
const HOUR: i64 = 1_795_341_600_000;

fn entry(number: u128, user: &str) -> Entry {
    Entry {
        kind: Kind::Usage,
        user: user.to_owned(),
        event_type: "inference".to_owned(),
        quantity: 3_000_000,
        weight: 1_000_000,
        event_ms: HOUR,
        received_ms: HOUR + 5,
        id: number.to_be_bytes(),
        fingerprint: i64::MIN,
        transaction_id: format!("t{number}"),
        source: Source::Own,
        body: None,
    }
}

fn append_here(tx: &mut Tx<'_>, entries: &[Entry]) -> Result<Vec<Appended>> {
    let head = log::hold_head(tx)?;
    let mut last: HashMap<&str, i64> = HashMap::new();
    for user in entries.iter().map(|entry| entry.user.as_str()) {
        let newest = tx.row("SELECT COALESCE(MAX(position), 0) FROM usage_log WHERE user_id = ?1", &[user.into()])?;
        last.insert(user, newest.map_or(Ok(0), |row| row.int(0))?);
    }
    let all: Vec<&Entry> = entries.iter().collect();
    log::append(tx, head, &all, &mut |place, position| {
        let before = last.insert(all[place].user.as_str(), position);
        before.filter(|before| *before > 0)
    })
}

/// Appends as the writer does: the end of the log is held until the commit.
async fn append(db: &Db, entries: Vec<Entry>) -> Vec<Appended> {
    let (done, answer) = tokio::sync::oneshot::channel();
    let work = move |tx: &mut Tx<'_>| append_here(tx, &entries);
    db.write_then(Isolation::Statement, work, move |outcome| drop(done.send(outcome)));
    answer.await.expect("an answer").expect("appended")
}

fn known(position: i64) -> Appended {
    Appended::Known(Known { position, fingerprint: i64::MIN })
}

pub async fn an_entry_is_read_back_as_it_was_written(database: Database) {
    let db = open(&database).await;
    let extreme = Entry {
        kind: Kind::Adjust,
        event_type: "日本 ' \"; DROP".to_owned(),
        quantity: -i64::MAX,
        weight: i64::MAX,
        event_ms: -1,
        received_ms: i64::MAX,
        id: [0xff; 16],
        transaction_id: "\u{1f600}".to_owned(),
        source: Source::CommandLine,
        body: Some("{\"a\":\"\\u0000\"}".to_owned()),
        ..entry(0, "u1")
    };
    let kinds = [Kind::Usage, Kind::Adjust, Kind::Void, Kind::Grant, Kind::Revoke, Kind::Expire, Kind::Plan];
    let mut entries = vec![extreme];
    entries.extend(kinds.iter().zip(1..).map(|(kind, number)| Entry { kind: *kind, ..entry(number, "u1") }));
    append(&db, entries.clone()).await;
    let read = db.read(|tx| log::read(tx, 0, 100)).await.expect("read");
    assert_eq!(read.iter().map(|entry| entry.position).collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
    for (written, read) in entries.iter().zip(&read) {
        let as_written = Entry {
            kind: read.kind,
            user: read.user.clone(),
            event_type: read.event_type.clone(),
            quantity: read.quantity,
            weight: read.weight,
            event_ms: read.event_ms,
            received_ms: read.received_ms,
            id: read.id,
            fingerprint: written.fingerprint,
            transaction_id: read.transaction_id.clone(),
            source: read.source,
            body: read.body.clone(),
        };
        assert_eq!(*written, as_written);
        let position = read.position;
        assert_eq!(db.read(move |tx| log::at(tx, position)).await.expect("read").as_ref(), Some(read));
    }
}

/// A ULID that names the entry is not written a second time as text. It is told as it was sent, and whatever only looks like one, or
/// names another entry, as well.
pub async fn an_id_that_is_a_ulid_is_told_as_it_was_sent(database: Database) {
    let db = open(&database).await;
    let sent = "01JD7Z2X0000000000000000AA";
    let id = log::ulid::read(sent).expect("a ULID");
    let named = |id, text: &str| Entry { id, transaction_id: text.to_owned(), ..entry(0, "u1") };
    let texts = [(id, sent), ([1; 16], sent), ([2; 16], "01jd7z2x0000000000000000aa"), ([3; 16], "order-1")];
    append(&db, texts.iter().map(|(id, text)| named(*id, text)).collect()).await;
    // As an older version wrote it.
    let old = named(log::ulid::read("01JD7Z2X0000000000000000BB").expect("a ULID"), "order-2");
    append(&db, vec![old]).await;
    let as_text = "UPDATE usage_log SET transaction_id = '01JD7Z2X0000000000000000BB' WHERE position = 5";
    db.write(move |tx| tx.run(as_text, &[])).await.expect("an old row");

    let kept = |tx: &mut Tx<'_>| tx.rows("SELECT transaction_id FROM usage_log ORDER BY position", &[]);
    let kept = db.read(kept).await.expect("rows");
    let kept: Vec<String> = kept.iter().map(|row| row.text(0).expect("text")).collect();
    assert_eq!(kept[..4], ["", sent, texts[2].1, texts[3].1]);
    let told = db.read(|tx| log::read(tx, 0, 10)).await.expect("read");
    let told: Vec<&str> = told.iter().map(|entry| &*entry.transaction_id).collect();
    assert_eq!(told, [sent, sent, texts[2].1, texts[3].1, "01JD7Z2X0000000000000000BB"]);
    for (text, positions) in [
        (sent, &[1, 2][..]),
        (texts[2].1, &[3]),
        ("order-1", &[4]),
        ("01JD7Z2X0000000000000000BB", &[5]),
        ("01JD7Z2X0000000000000000CC", &[]),
        ("", &[]),
    ] {
        let found = db.read(move |tx| log::usage_named(tx, text, 0, 10)).await.expect("found");
        assert_eq!(found.iter().map(|entry| entry.position).collect::<Vec<_>>(), positions, "{text}");
    }
}

pub async fn i04_an_id_is_known_on_its_day_and_for_ever_where_it_is_history(database: Database) {
    let db = open(&database).await;
    let first = entry(7, "u1");
    let tomorrow = Entry { event_ms: HOUR + DAY_MS, ..first.clone() };
    let history = Entry { source: Source::Backfill, ..first.clone() };
    let all = || vec![first.clone(), first.clone(), tomorrow.clone(), history.clone(), history.clone()];
    let expected = [Appended::At(1), known(1), Appended::At(2), Appended::At(3), known(3)];
    assert_eq!(append(&db, all()).await, expected, "twice in one call");
    assert_eq!(append(&db, all()).await, [known(1), known(1), known(2), known(3), known(3)], "and in the next one");
    assert_eq!(append(&db, vec![entry(8, "u1")]).await, [Appended::At(4)], "what is known takes no place");
    assert_eq!(db.read(log::head).await.expect("head"), 4);
}

/// Rows go into the tables many at a time: what is known takes no position there either.
pub async fn i04_old_and_new_ids_in_one_group_are_numbered_as_one_by_one(database: Database) {
    let db = open(&database).await;
    let mut runner = TestRunner::deterministic();
    let groups = prop::collection::vec(prop::collection::vec(0..700_u128, 1..80), 30);
    let groups = groups.new_tree(&mut runner).expect("groups").current();
    // Now and then more than are written side by side.
    let count = |group: usize| if group % 10 == 9 { 1_100 } else { 40 };
    let fresh = |group: usize| {
        (0..count(group)).map(move |number| 1_000 + u128::try_from(group * 2_000 + number).expect("small"))
    };
    let (mut naive, mut log) = (HashMap::new(), Vec::new());
    for (number, some) in groups.into_iter().enumerate() {
        // Behind what is mixed comes what is new, and the other way round.
        let ids: Vec<u128> = if number % 2 == 0 {
            some.into_iter().chain(fresh(number)).collect()
        } else {
            fresh(number).chain(some).collect()
        };
        let expected: Vec<Appended> = ids
            .iter()
            .map(|id| {
                if let Some(position) = naive.get(id) {
                    known(*position)
                } else {
                    log.push(*id);
                    let position = i64::try_from(log.len()).expect("small");
                    naive.insert(*id, position);
                    Appended::At(position)
                }
            })
            .collect();
        assert_eq!(append(&db, ids.iter().map(|id| entry(*id, "u1")).collect()).await, expected, "group {number}");
    }
    let read = db.read(|tx| log::read(tx, 0, 10_000)).await.expect("read");
    let read: Vec<(i64, u128)> = read.iter().map(|entry| (entry.position, u128::from_be_bytes(entry.id))).collect();
    assert_eq!(read, (1..).zip(log).collect::<Vec<_>>());
}

/// The pages of a user's list are the naive list, whoever else writes in between (I-15, I-16).
pub async fn a_users_entries_are_their_own_and_in_order(database: Database) {
    let db = open(&database).await;
    let mut runner = TestRunner::deterministic();
    let users = prop::collection::vec(0..3_usize, 1..60).new_tree(&mut runner).expect("users").current();
    let mut naive: BTreeMap<usize, Vec<i64>> = BTreeMap::new();
    for (group, users) in users.chunks(7).enumerate() {
        let number = |at: usize| u128::try_from(group * 100 + at).expect("small");
        let entries = users.iter().enumerate().map(|(at, user)| entry(number(at), &format!("u{user}"))).collect();
        for (user, appended) in users.iter().zip(append(&db, entries).await) {
            let Appended::At(position) = appended else { panic!("{appended:?}") };
            naive.entry(*user).or_default().insert(0, position);
        }
    }
    for (user, positions) in naive {
        for page in [1, 4, 100] {
            let (name, mut from, mut listed) = (format!("u{user}"), positions[0], Vec::new());
            loop {
                let of = name.clone();
                let mut rows = db.read(move |tx| log::of_user(tx, &of, from, page + 1)).await.expect("a page");
                let next = (rows.len() > page).then(|| rows.pop().expect("one more").position);
                listed.extend(rows.iter().map(|row| row.position));
                let Some(next) = next else { break };
                from = next;
            }
            assert_eq!(listed, positions, "user {user} by {page}");
        }
    }
}

pub async fn i04_an_entry_told_by_many_at_once_is_there_once(database: Database) {
    let (one, other) = (open(&database).await, open(&database).await);
    let tellings = (0..20).map(|number| append(if number % 2 == 0 { &one } else { &other }, vec![entry(1, "u1")]));
    let mut verdicts: Vec<Appended> = join_all(tellings).await.concat();
    verdicts.sort_by_key(|verdict| matches!(verdict, Appended::Known(_)));
    assert_eq!(verdicts[0], Appended::At(1));
    assert_eq!(verdicts[1..], [known(1); 19]);
    assert_eq!(one.read(log::head).await.expect("head"), 1);
}

/// A reader that asks for what comes after the last position it has seen, while forty groups are written by two handles.
pub async fn positions_have_no_gap_and_no_reader_skips_one(database: Database) {
    let (one, other) = (open(&database).await, open(&database).await);
    let writing = async {
        let groups = (0..40_u128).map(|group| {
            let entries = (0..5).map(|number| entry(group * 10 + number, "u1")).collect();
            append(if group % 2 == 0 { &one } else { &other }, entries)
        });
        join_all(groups).await.concat()
    };
    let reading = async {
        let (mut seen, mut last) = (Vec::new(), 0);
        while seen.len() < 200 {
            let rows = other.read(move |tx| log::read(tx, last, 17)).await.expect("read");
            seen.extend(rows.iter().map(|row| row.position));
            last = seen.last().copied().unwrap_or(0);
            tokio::task::yield_now().await;
        }
        seen
    };
    let (written, seen) = tokio::join!(writing, reading);
    let mut positions: Vec<i64> =
        written.iter().map(|appended| if let Appended::At(position) = appended { *position } else { 0 }).collect();
    positions.sort_unstable();
    assert_eq!(positions, (1..=200).collect::<Vec<_>>(), "a log without gaps");
    assert_eq!(seen, positions, "nothing appeared behind the reader");
}

pub async fn ids_are_forgotten_by_the_day_and_nothing_else_is(database: Database) {
    let db = open(&database).await;
    let on = |number: u128, day: i64| Entry { event_ms: HOUR + day * DAY_MS, ..entry(number, "u1") };
    let old = Entry { source: Source::Backfill, ..on(9, -400) };
    append(&db, vec![on(1, 0), on(2, 1), on(3, 2), on(4, 2), old.clone()]).await;
    let today = HOUR.div_euclid(DAY_MS);
    let forgotten = db.write(move |tx| Ok([log::forget_ids(tx, today + 2, 1)?, log::forget_ids(tx, today + 2, 9)?]));
    assert_eq!(forgotten.await.expect("forgotten"), [1, 1], "a few at a time");
    let again = append(&db, vec![on(3, 2), on(4, 2), old]).await;
    assert_eq!(again, [known(3), known(4), known(5)]);
    assert_eq!(db.read(|tx| log::read(tx, 0, 10)).await.expect("read").len(), 5, "the entries stay");
}

fn account(user: &str, position: i64) -> Snapshot {
    Snapshot { user: user.to_owned(), shard: 1, position, state: vec![u8::try_from(position).expect("small")] }
}

fn day(user: &str, day: i64, quantity: i64, cost_pico: i128) -> Day {
    Day { day, user: user.to_owned(), event_type: "tts".to_owned(), quantity, events: 1, cost_pico }
}

pub async fn accounts_move_with_their_position_or_not_at_all(database: Database) {
    let db = open(&database).await;
    let at = |position| Stand { edition: 0, position };
    let turn = async |from, to, page: Page| db.write(move |tx| accounts::turn(tx, at(from), to, &page)).await;
    let page = Page { accounts: vec![account("u1", 3)], days: vec![day("u1", 9, 5, 1)], ..Page::default() };
    assert!(turn(0, 3, page.clone()).await.expect("a turn"));
    assert!(!turn(0, 4, page.clone()).await.expect("a turn"), "somebody was here before");
    let state = async || {
        let days = db.read(|tx| accounts::days(tx, &DaysAsked::default(), 9)).await.expect("days");
        let (position, all) =
            db.read(|tx| Ok((accounts::position(tx)?, accounts::page(tx, "", 9)?))).await.expect("all");
        (position, all, days)
    };
    assert_eq!(state().await, (3, vec![account("u1", 3)], vec![day("u1", 9, 5, 1)]));
    // Two pages with an account each, both of which begin where the accounts stand: one of them is turned.
    let pages = ["u1", "u2"].map(|user| Page { accounts: vec![account(user, 7)], ..page.clone() });
    let other = open(&database).await;
    let [one, two] = pages.map(|page| move |tx: &mut Tx<'_>| accounts::turn(tx, at(3), 7, &page));
    let (one, two) = tokio::join!(db.write(one), other.write(two));
    assert!(one.expect("a turn") ^ two.expect("a turn"));
    let (position, _, days) = state().await;
    assert_eq!((position, days), (7, vec![Day { events: 2, ..day("u1", 9, 10, 2) }]), "added once");
    let anew = db.write(accounts::forget).await.expect("forgotten");
    assert_eq!(state().await, (0, Vec::new(), Vec::new()));
    assert!(!turn(0, 7, page.clone()).await.expect("a turn"), "of the former edition");
    assert!(db.write(move |tx| accounts::turn(tx, anew, 7, &page)).await.expect("a turn"));
}

/// Costs beyond 64 bits of picocredits, corrections below zero, and pages of any length (I-15, I-16).
pub async fn days_add_up_and_are_paged_as_a_list_would_be(database: Database) {
    let db = open(&database).await;
    let mut runner = TestRunner::deterministic();
    let rows = prop::collection::vec((0..4_i64, 0..3_usize, -5..9_i64, -(1_i128 << 70)..1_i128 << 70), 40..60);
    let rows = rows.new_tree(&mut runner).expect("rows").current();
    let mut naive: BTreeMap<(i64, String, String), Day> = BTreeMap::new();
    for (at, (number, user, quantity, cost)) in (0..).zip(rows) {
        let row = day(&format!("u{user}"), number, quantity, cost);
        let sum = naive.entry((-number, row.user.clone(), row.event_type.clone()));
        sum.and_modify(|sum| {
            sum.quantity += quantity;
            sum.events += 1;
            sum.cost_pico += cost;
        })
        .or_insert_with(|| row.clone());
        let page = Page { days: vec![row], ..Page::default() };
        assert!(
            db.write(move |tx| accounts::turn(tx, Stand { edition: 0, position: at }, at + 1, &page))
                .await
                .expect("a turn")
        );
    }
    let naive: Vec<Day> = naive.into_values().collect();
    for (user, limit) in [(None, 1), (None, 5), (None, 99), (Some("u1"), 1), (Some("u1"), 99)] {
        let expected: Vec<Day> = naive.iter().filter(|day| user.is_none_or(|user| day.user == user)).cloned().collect();
        let mut asked = DaysAsked { user: user.map(str::to_owned), ..DaysAsked::default() };
        let mut listed: Vec<Day> = Vec::new();
        loop {
            let this = asked.clone();
            let page = db.read(move |tx| accounts::days(tx, &this, limit)).await.expect("a page");
            let Some(last) = page.last() else { break };
            asked.after = Some((last.day, last.user.clone(), last.event_type.clone()));
            listed.extend(page);
        }
        assert_eq!(listed, expected, "{user:?} by {limit}");
    }
}

pub async fn a_lease_has_one_holder_and_a_token_that_grows(database: Database) {
    const HOUR: i64 = 3_600_000;
    let db = open(&database).await;
    let take = async |holder: &'static str, length_ms: i64| {
        db.write(move |tx| leases::take(tx, "work", holder, length_ms)).await.expect("a lease")
    };
    assert_eq!(take("a", HOUR).await, Some(1));
    assert_eq!(take("b", HOUR).await, None);
    assert_eq!(take("a", 0).await, Some(1), "kept, and over at once");
    assert_eq!(take("b", HOUR).await, Some(2), "it was over");
    assert_eq!(take("a", HOUR).await, None, "an old holder is told");
    db.write(|tx| leases::release(tx, "work", "a")).await.expect("nothing of theirs");
    assert_eq!(take("a", HOUR).await, None);
    db.write(|tx| leases::release(tx, "work", "b")).await.expect("given back");
    assert_eq!(take("a", HOUR).await, Some(3));
}
