//! Corrections: said once for ever, whatever the day; looked at before they are made; history that is good or named.

use billhook::error::Error;
use billhook::ops::usage::corrections::Effect;
use billhook::ops::usage::{self, Candidate, Told, Verdict, corrections, history, packs};
use billhook::store::log::{self, Entry, Kind, Source};
use billhook::store::users;
use billing::entry::Pack;
use billing::usage::{Credits, Quantity};
use jiff::SignedDuration;

use crate::harness::program::Program;
use crate::harness::{Database, Plan, World, event};

const DAY: SignedDuration = SignedDuration::from_hours(24);

async fn somewhere(database: Database) -> (World, String) {
    let world = World::planned(Plan { stripe: None, database, ..Plan::default() }).await;
    let (user, _) = world.user("ada@example.com", None, false).await;
    (world, user)
}

fn pack(world: &World, credits: &str) -> Pack {
    Pack {
        id: "welcome".to_owned(),
        amount: Credits::parse(credits).expect("credits"),
        priority: 0,
        expires_ms: None,
        granted_ms: world.now().as_millisecond(),
    }
}

fn told(id: &str, user: &str, quantity: &str) -> Told {
    Told { source: Source::CommandLine, ..event(id, user, "tts", quantity, None) }
}

/// Credits used and left.
async fn stands(world: &World, user: &str) -> (String, String) {
    let id = user.to_owned();
    let row = world.app.db.read(move |tx| users::get(tx, &id)).await.expect("read").expect("a user");
    let slot = usage::account(&world.app, &row).await.expect("an account");
    let view = slot.lock().account.at(world.now().as_millisecond());
    (view.used.wire(), view.remaining.wire())
}

async fn is_whole(world: &World) {
    let recount = usage::recount::recount(&world.app).await.expect("a recount");
    assert!(recount.agrees(), "{recount:?}");
}

async fn a_pack_is_given_once(database: Database) {
    let (world, user) = somewhere(database).await;
    let grant = async |credits: &str| packs::grant(&world.app, &user, &pack(&world, credits)).await;
    assert!(matches!(grant("50").await, Ok(Some(Verdict::Recorded { .. }))));
    for _ in 0..3 {
        world.clock.set(world.now() + DAY * 20);
        assert!(matches!(grant("50").await, Ok(Some(Verdict::Duplicate { .. }))), "the same pack, another day");
        assert!(matches!(grant("60").await, Ok(Some(Verdict::Conflict { .. }))), "another pack of this name");
        assert_eq!(stands(&world, &user).await, ("0".to_owned(), "150".to_owned()));
        // Ids of days are forgotten; these are not.
        usage::upkeep::Upkeep::default().once(&world.app).await.expect("upkeep");
    }
    assert!(grant("1000000000001").await.is_err(), "more than a pack may hold");
    let entries = world.app.db.read(|tx| log::read(tx, 0, i64::MAX)).await.expect("the log");
    let given = entries.iter().find(|entry| entry.kind == Kind::Grant).expect("the pack");
    assert_eq!(given.source, Source::CommandLine, "as a correction");
    is_whole(&world).await;
}

async fn a_correction_is_made_once(database: Database) {
    let (world, user) = somewhere(database).await;
    let event = |id, quantity| Told { at: Some(world.now()), source: Source::Own, ..told(id, &user, quantity) };
    usage::record(&world.app, vec![event("e1", "10"), event("e2", "4")]).await.expect("recorded");
    let adjust = async |quantity: &str| {
        let asked = told("case-77", &user, quantity);
        corrections::adjust(&world.app, asked, true, "an outage", false).await.expect("a correction").verdict
    };
    let void = async |preview| corrections::void(&world.app, "e1", None, preview).await.expect("a correction").verdict;
    assert_eq!(void(true).await, None, "only looked at");
    assert_eq!(stands(&world, &user).await.0, "14");
    assert!(matches!(adjust("4").await, Some(Verdict::Recorded { .. })));
    assert_eq!(stands(&world, &user).await.0, "10");
    world.clock.set(world.now() + DAY * 3);
    assert!(matches!(adjust("4").await, Some(Verdict::Duplicate { .. })), "the same case, another day");
    assert_eq!(adjust("5").await, Some(Verdict::Conflict { member: "quantity" }));
    assert!(matches!(void(false).await, Some(Verdict::Recorded { .. })));
    assert!(matches!(void(false).await, Some(Verdict::Duplicate { .. })));
    assert_eq!(stands(&world, &user).await.0, "0");
    is_whole(&world).await;
}

#[tokio::test]
async fn i04_a_pack_is_given_once_whatever_the_day() {
    a_pack_is_given_once(Database::sqlite()).await;
    a_pack_is_given_once(Database::postgres()).await;
}

#[tokio::test]
async fn i04_a_correction_is_made_once_whatever_the_day() {
    a_correction_is_made_once(Database::sqlite()).await;
    a_correction_is_made_once(Database::postgres()).await;
}

/// What was shown only, what counted in its own period, and what counted late, each taken back in every age of its period.
async fn what_counted_is_taken_back(database: Database) {
    let (world, user) = somewhere(database).await;
    let at = |text: &str| text.parse::<jiff::Timestamp>().expect("an instant");
    let go_to = |text: &str| world.clock.set(at(text));
    let one = |id: &str, time: &str, source| Told { at: Some(at(time)), source, ..told(id, &user, "10") };
    let void = async |id: &str, time: &str, preview| {
        let done = corrections::void(&world.app, id, Some(at(time)), preview).await.expect("a correction");
        let place = match done.effect.expect("it fits") {
            Effect::Nothing => "nothing".to_owned(),
            Effect::In { period, late, .. } => format!("{} late={late}", period.strftime("%m-%d")),
        };
        (place, stands(&world, &user).await.0)
    };
    go_to("2026-11-20T00:00:00Z");
    // An entry opens the account; then history of its period and of one long closed.
    usage::record(&world.app, vec![one("live", "2026-11-20T00:00:00Z", Source::Own)]).await.expect("recorded");
    let past = [("old", "2025-02-03T00:00:00Z"), ("new", "2026-11-02T00:00:00Z"), ("gone", "2026-09-02T00:00:00Z")];
    let history = past.map(|(id, time)| one(id, time, Source::Backfill)).to_vec();
    history::backfill(&world.app, "import", history.clone()).await.expect("brought in");
    assert_eq!(stands(&world, &user).await.0, "20", "the live one and the new one");
    for preview in [true, false, false] {
        let before = stands(&world, &user).await.0;
        assert_eq!(void("old", past[0].1, preview).await, ("nothing".to_owned(), before.clone()), "shown on its day");
        assert_eq!(void("gone", past[2].1, preview).await, ("nothing".to_owned(), before), "within the window");
        let after = if preview { "20" } else { "10" };
        assert_eq!(void("new", past[1].1, preview).await, ("11-01 late=false".to_owned(), after.to_owned()));
    }
    // One more, counted late in November, is taken back in December: from November as long as that is open, with grace.
    let late = ["l1", "l2"].map(|id| one(id, "2026-10-31T00:00:00Z", Source::Own)).to_vec();
    usage::record(&world.app, late).await.expect("recorded");
    go_to("2026-12-01T00:30:00Z");
    assert_eq!(void("l1", "2026-10-31T00:00:00Z", true).await, ("11-01 late=false".to_owned(), "0".to_owned()));
    assert_eq!(void("l1", "2026-10-31T00:00:00Z", false).await, ("11-01 late=false".to_owned(), "0".to_owned()));
    go_to("2026-12-02T00:00:00Z");
    usage::record(&world.app, vec![one("now", "2026-12-02T00:00:00Z", Source::Own)]).await.expect("recorded");
    assert_eq!(void("l2", "2026-10-31T00:00:00Z", false).await, ("12-01 late=true".to_owned(), "0".to_owned()));
    is_whole(&world).await;
    // November: the live one, and the late one that came back too late.
    usage::totals::write_down(&world.app).await.expect("written down");
    let sql = "SELECT summary FROM usage_periods WHERE start_ms >= ?1";
    let since = at("2026-11-01T00:00:00Z").as_millisecond();
    let closed = world.app.db.read(move |tx| tx.row(sql, &[since.into()])?.expect("a closed period").text(0)).await;
    let closed: serde_json::Value = serde_json::from_str(&closed.expect("read")).expect("JSON");
    assert_eq!(closed["used"], "20");
}

#[tokio::test]
async fn what_counted_is_taken_back_where_it_counted_and_no_more() {
    what_counted_is_taken_back(Database::sqlite()).await;
    what_counted_is_taken_back(Database::postgres()).await;
}

const TAKES_TOO_MUCH: Verdict = Verdict::Refused {
    code: "invalid",
    pointer: "/quantity",
    detail: "this is more than was counted in the credit period",
};

/// An entry that nobody has judged yet, of whole units of tts at half a credit.
fn candidate(world: &World, user: &str, kind: Kind, id: &str, units: i64) -> Candidate {
    let now_ms = world.now().as_millisecond();
    let mut entry = Entry {
        kind,
        user: user.to_owned(),
        event_type: "tts".to_owned(),
        quantity: units * 1_000_000,
        weight: 500_000,
        event_ms: now_ms,
        received_ms: now_ms,
        id: usage::ids::entry_id(kind.as_str(), id),
        fingerprint: 0,
        transaction_id: id.to_owned(),
        source: if kind == Kind::Usage { Source::Own } else { Source::CommandLine },
        body: (kind == Kind::Void).then(|| now_ms.to_string()),
    };
    if kind != Kind::Void {
        entry.fingerprint = usage::ids::fingerprint(&entry, true);
    }
    Candidate { entry, timed: true }
}

/// What comes in one group is judged as if each had come after the one before it.
async fn one_group_is_as_many(database: Database) {
    let (world, user) = somewhere(database).await;
    let one = |kind, id: &str, units| candidate(&world, &user, kind, id, units);
    let append = async |group: Vec<Candidate>| {
        let verdicts = world.app.usage.append(&world.app, group).await.expect("verdicts");
        verdicts
            .into_iter()
            .map(|verdict| match verdict {
                Verdict::Recorded { .. } => "recorded",
                Verdict::Duplicate { .. } => "duplicate",
                verdict if verdict == TAKES_TOO_MUCH => "too much",
                other => panic!("{other:?}"),
            })
            .collect::<Vec<_>>()
    };
    // The user has no account before it.
    let group = vec![
        one(Kind::Adjust, "early", -1),
        one(Kind::Usage, "e1", 10),
        one(Kind::Adjust, "a1", -6),
        one(Kind::Void, "e1", 10),
        one(Kind::Adjust, "a2", -5),
        one(Kind::Adjust, "a1", -6),
        one(Kind::Adjust, "a3", -4),
        one(Kind::Adjust, "a4", 2),
        one(Kind::Adjust, "a5", -2),
    ];
    let said =
        ["too much", "recorded", "recorded", "too much", "too much", "duplicate", "recorded", "recorded", "recorded"];
    assert_eq!(append(group).await, said);
    assert_eq!(stands(&world, &user).await, ("0".to_owned(), "100".to_owned()));
    // What the log knows already counts nothing more.
    let group = vec![one(Kind::Usage, "e1", 10), one(Kind::Adjust, "a6", -1), one(Kind::Adjust, "a3", -4)];
    assert_eq!(append(group).await, ["duplicate", "too much", "duplicate"]);
    is_whole(&world).await;
}

/// Six hands take back the same ten, each under a name of its own.
async fn at_once(database: Database) {
    let (world, user) = somewhere(database).await;
    let event = Told { at: Some(world.now()), source: Source::Own, ..told("e1", &user, "10") };
    usage::record(&world.app, vec![event]).await.expect("recorded");
    let mut hands = tokio::task::JoinSet::new();
    for number in 0..6 {
        let (app, asked) = (world.app.clone(), told(&format!("hand-{number}"), &user, "10"));
        hands.spawn(async move { corrections::adjust(&app, asked, true, "at once", false).await });
    }
    let done = hands.join_all().await;
    let verdicts: Vec<_> =
        done.into_iter().map(|done| done.expect("a correction").verdict.expect("a verdict")).collect();
    assert_eq!(
        verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Recorded { .. })).count(),
        1,
        "{verdicts:?}"
    );
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == TAKES_TOO_MUCH).count(), 5, "{verdicts:?}");
    assert_eq!(stands(&world, &user).await, ("0".to_owned(), "100".to_owned()));
}

#[tokio::test]
async fn i10_corrections_at_the_same_moment_take_no_more_than_was_counted() {
    for database in [Database::sqlite(), Database::postgres()] {
        one_group_is_as_many(database).await;
    }
    for database in [Database::sqlite(), Database::postgres()] {
        at_once(database).await;
    }
}

#[tokio::test]
async fn i10_what_was_taken_back_is_not_taken_back_again_either_way_about() {
    for void_first in [true, false] {
        let (world, user) = somewhere(Database::sqlite()).await;
        let event = Told { at: Some(world.now()), source: Source::Own, ..told("e1", &user, "3") };
        usage::record(&world.app, vec![event]).await.expect("recorded");
        let correct = async |is_void: bool, preview| {
            let asked = told("case", &user, "3");
            let done = if is_void {
                corrections::void(&world.app, "e1", None, preview).await
            } else {
                corrections::adjust(&world.app, asked, true, "twice", preview).await
            };
            done.expect("a correction").verdict
        };
        assert_eq!(correct(void_first, true).await, None, "only looked at");
        assert!(matches!(correct(void_first, false).await, Some(Verdict::Recorded { .. })));
        for preview in [true, false] {
            assert_eq!(correct(!void_first, preview).await, Some(TAKES_TOO_MUCH), "void first: {void_first}");
            assert!(matches!(correct(void_first, preview).await, Some(Verdict::Duplicate { .. })));
        }
        assert_eq!(stands(&world, &user).await, ("0".to_owned(), "100".to_owned()));
        is_whole(&world).await;
    }
}

#[tokio::test]
async fn i10_a_correction_by_a_greater_weight_gives_back_no_more_credits_than_were_used() {
    let (world, user) = somewhere(Database::sqlite()).await;
    // A hundred that weighed half a credit each, then ten at the catalogue's one.
    let old = candidate(&world, &user, Kind::Usage, "old", 100);
    world.app.usage.append(&world.app, vec![old]).await.expect("recorded");
    let new = Told { at: Some(world.now()), source: Source::Own, ..told("new", &user, "10") };
    usage::record(&world.app, vec![new]).await.expect("recorded");
    assert_eq!(stands(&world, &user).await, ("60".to_owned(), "40".to_owned()));
    for (units, verdict) in [("110", Some(TAKES_TOO_MUCH)), ("60.000001", Some(TAKES_TOO_MUCH)), ("60", None)] {
        let asked = told(&format!("case-{units}"), &user, units);
        let looked = corrections::adjust(&world.app, asked.clone(), true, "n", true).await.expect("a preview");
        let Some(Effect::In { credits, .. }) = looked.effect else { panic!("{looked:?}") };
        assert_eq!((credits.wire(), looked.verdict), (format!("-{units}"), verdict.clone()));
        let done = corrections::adjust(&world.app, asked, true, "n", false).await.expect("a correction");
        assert_eq!(done.verdict.filter(|said| !matches!(said, Verdict::Recorded { .. })), verdict);
    }
    assert_eq!(stands(&world, &user).await, ("0".to_owned(), "100".to_owned()));
    is_whole(&world).await;
}

#[tokio::test]
async fn what_is_too_much_is_refused_in_either_direction() {
    let (world, user) = somewhere(Database::sqlite()).await;
    let huge = |id: &str| Told { quantity: Quantity::from_micro(i64::MAX), ..told(id, &user, "0") };
    for less in [true, false] {
        let done = corrections::adjust(&world.app, huge(&format!("huge-{less}")), less, "by mistake", false).await;
        let verdict = done.expect("a correction").verdict;
        assert!(matches!(verdict, Some(Verdict::Refused { pointer: "/quantity", .. })), "{verdict:?}");
    }
    is_whole(&world).await;
}

/// S-32: the rules of the wires hold on every other way in.
#[tokio::test]
async fn s32_history_and_corrections_are_judged_as_what_comes_by_a_wire() {
    let (world, user) = somewhere(Database::sqlite()).await;
    let deep = |levels: usize| format!("{{\"a\":{}1{}}}", "[".repeat(levels), "]".repeat(levels));
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(16 * 1_024));
    for (id, properties, pointer) in [
        ("", None, Some("/transaction_id")),
        ("a\u{0}b", None, Some("/transaction_id")),
        ("a\nb", None, Some("/transaction_id")),
        ("e1", Some("[1]"), Some("/properties")),
        ("e1", Some("7"), Some("/properties")),
        ("e1", Some("{\"a\":"), Some("/properties")),
        ("e1", Some(r#"{"a":1,"a":2}"#), Some("/properties")),
        ("e1", Some(r#"{"a":"\ud800"}"#), Some("/properties")),
        ("e1", Some(&deep(64)), Some("/properties")),
        ("e1", Some(&deep(8_000)), Some("/properties")),
        ("e1", Some(&long), Some("/properties")),
        ("e1", Some(&deep(63)), None),
    ] {
        let event = Told {
            at: Some(world.now() - DAY),
            properties: properties.map(str::to_owned),
            source: Source::Backfill,
            ..told(id, &user, "1")
        };
        let tried = history::try_backfill(&world.app, vec![event.clone()]).await.expect("verdicts");
        let done = history::backfill(&world.app, "run", vec![event]).await.expect("verdicts");
        for verdict in tried.iter().chain(&done) {
            match (verdict, pointer) {
                (Verdict::Recorded { .. }, None) => {}
                (Verdict::Refused { code: "invalid", pointer, .. }, Some(expected)) if *pointer == expected => {}
                _ => panic!("{id:?} {properties:?}: {verdict:?}"),
            }
        }
    }
    let tomorrow = Told { at: Some(world.now() + DAY), source: Source::Backfill, ..told("e2", &user, "1") };
    let early = Verdict::Refused { code: "too_early", pointer: "/timestamp", detail: "expected a time that is over" };
    assert_eq!(history::backfill(&world.app, "run", vec![tomorrow]).await.expect("verdicts"), [early]);
    for id in ["", "a\u{0}b", "a\nb", &"x".repeat(256)] {
        let granted = packs::grant(&world.app, &user, &Pack { id: id.to_owned(), ..pack(&world, "5") }).await;
        let adjusted = corrections::adjust(&world.app, told(id, &user, "1"), false, "n", false).await;
        let long =
            corrections::adjust(&world.app, told("good", &user, "1"), false, &"n".repeat(16 * 1_024), false).await;
        for error in [granted.expect_err("refused"), adjusted.expect_err("refused"), long.expect_err("refused")] {
            assert!(matches!(error, Error::Invalid(_)), "{id:?}: {error:?}");
        }
    }
    is_whole(&world).await;
}

#[test]
fn history_is_looked_at_line_by_line_before_it_is_brought_in() {
    let program = Program::new();
    let user = program.run(&["user", "add", "--email", "a@here.test", "--name", "A"]).line().to_owned();
    let line = |id: &str, user: &str, kind: &str| {
        format!(
            r#"{{"transaction_id":"{id}","user_id":"{user}","type":"{kind}","quantity":1,"timestamp":"2020-01-31T10:00:00Z"}}"#
        )
    };
    let lines = [
        line("t1", &user, "tts"),
        line("t2", "usr_nobody", "tts"),
        line("t3", &user, "telepathy"),
        "not JSON".to_owned(),
    ];
    let file = program.path("history.jsonl");
    std::fs::write(&file, lines.join("\n")).expect("a file");
    let file = file.display().to_string();
    let backfill = |more: &[&str]| {
        let mut args = vec!["usage", "backfill", file.as_str(), "--run", "import"];
        args.extend(more);
        program.run(&args)
    };
    let looked = backfill(&["--dry-run"]);
    assert_eq!((looked.code, looked.stdout.trim()), (Some(1), "1 good, 0 there already, 3 refused"), "{looked:?}");
    for fault in ["line 2: /user_id", "line 3: /type", "line 4: "] {
        assert!(looked.stderr.contains(fault), "{looked:?}");
    }
    assert_eq!(backfill(&[]).stdout.trim(), "1 recorded, 0 there already, 3 refused");
    assert_eq!(backfill(&[]).stdout.trim(), "0 recorded, 1 there already, 3 refused");
    let doctor = program.run(&["doctor"]);
    assert!(doctor.stdout.contains("2 entries of 1 users agree"), "{doctor:?}");
}
