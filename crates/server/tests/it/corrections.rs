//! Corrections: said once for ever, whatever the day; looked at before they are made; history that is good or named.

use billhook::ops::usage::{self, Told, Verdict, corrections};
use billhook::store::log::Source;
use billhook::store::users;
use billing::entry::Pack;
use billing::usage::{Credits, Quantity};
use jiff::SignedDuration;

use crate::harness::program::Program;
use crate::harness::{Database, Plan, World};

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
    Told {
        transaction_id: id.to_owned(),
        producer: None,
        user: user.to_owned(),
        kind: "tts".to_owned(),
        quantity: Quantity::parse(quantity).expect("quantity"),
        at: None,
        properties: None,
        source: Source::CommandLine,
    }
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
    assert_eq!(recount.differences, Vec::<String>::new());
}

async fn a_pack_is_given_once(database: Database) {
    let (world, user) = somewhere(database).await;
    let grant = async |credits: &str| corrections::grant(&world.app, &user, &pack(&world, credits)).await;
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
    is_whole(&world).await;
}

async fn a_correction_is_made_once(database: Database) {
    let (world, user) = somewhere(database).await;
    let event = Told { at: Some(world.now()), source: Source::Own, ..told("e1", &user, "10") };
    usage::record(&world.app, vec![event]).await.expect("recorded");
    let adjust = async |quantity: &str| {
        let asked = told("case-77", &user, quantity);
        corrections::adjust(&world.app, asked, true, "an outage", false).await.expect("a correction").verdict
    };
    let void = async |preview| corrections::void(&world.app, "e1", None, preview).await.expect("a correction").verdict;
    assert_eq!(void(true).await, None, "only looked at");
    assert_eq!(stands(&world, &user).await.0, "10");
    assert!(matches!(adjust("4").await, Some(Verdict::Recorded { .. })));
    assert_eq!(stands(&world, &user).await.0, "6");
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
