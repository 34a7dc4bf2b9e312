//! `billhook usage …`: what is refused says so and leaves nothing on stdout.

use super::{add_user, refused};
use crate::harness::program::{Done, Program, Running};

/// A user who has used so much.
fn used(program: &Program, quantity: &str) -> String {
    let user = add_user(program, "ada@here.test", &[]);
    let done = adjust(program, &user, quantity, "before", &[]);
    assert_eq!(done.line(), corrected("before", quantity, &user));
    user
}

/// In the period of now: the calendar's, as nobody pays for anything.
fn corrected(id: &str, quantity: &str, user: &str) -> String {
    format!("corrected {id}: {quantity} tts for {user}, {quantity} credits in the period from 2026-11-01T00:00:00Z")
}

fn adjust(program: &Program, user: &str, quantity: &str, id: &str, more: &[&str]) -> Done {
    let quantity = format!("--quantity={quantity}");
    let args = ["usage", "adjust", "--user", user, "--type", "tts", &quantity, "--id", id, "--note", "n"];
    program.run(&[&args, more].concat())
}

fn entries(program: &Program) -> i64 {
    program.database().query_row("SELECT COUNT(*) FROM usage_log", [], |row| row.get(0)).expect("a count")
}

#[test]
fn a_correction_that_was_not_made_is_not_said_to_be() {
    let program = Program::new();
    let user = used(&program, "10");
    assert_eq!(adjust(&program, &user, "-3", "case-2", &[]).line(), corrected("case-2", "-3", &user));
    assert!(refused(&adjust(&program, &user, "-4", "case-2", &[]), 1).contains("this id stands for another quantity"));
    let again = adjust(&program, &user, "-3", "case-2", &[]);
    assert_eq!((again.code, again.stdout.as_str()), (Some(0), ""), "{again:?}");
    assert!(again.stderr.contains("it was done before"), "{again:?}");
}

#[test]
fn a_correction_makes_no_credits_and_knows_no_future() {
    let program = Program::new();
    let user = used(&program, "10");
    let before = entries(&program);
    for dry in [&["--dry-run"][..], &[]] {
        let too_much = adjust(&program, &user, "-10.000001", "case-3", dry);
        assert!(refused(&too_much, 1).contains("/quantity: this is more than was counted in the credit period"));
        let never = adjust(&program, &user, "1", "case-4", &[dry, &["--at", "2126-01-01T00:00:00Z"]].concat());
        assert!(refused(&never, 1).contains("/timestamp: expected a time that is over"));
    }
    assert_eq!(entries(&program), before);
    assert_eq!(adjust(&program, &user, "-10", "case-5", &[]).code, Some(0), "all of it");
    assert_eq!(adjust(&program, &user, "-10", "case-5", &[]).code, Some(0), "the same again is no second one");
}

#[test]
fn what_was_corrected_before_is_said_before_it_is_tried() {
    let program = Program::new();
    let user = used(&program, "10");
    for dry in [&["--dry-run"][..], &[]] {
        let again = adjust(&program, &user, "10", "before", dry);
        assert_eq!((again.code, again.stdout.as_str()), (Some(0), ""), "{again:?}");
        assert!(again.stderr.contains("it was done before"), "{again:?}");
        let other = adjust(&program, &user, "11", "before", dry);
        assert!(refused(&other, 1).contains("this id stands for another quantity"));
        let huge = adjust(&program, &user, "9000000000000", "huge", dry);
        assert!(refused(&huge, 1).contains("/quantity: this is more than an account can count"));
    }
    let would = adjust(&program, &user, "-4", "after", &["--dry-run"]);
    assert_eq!(would.line(), corrected("after", "-4", &user).replace("corrected", "would correct"));
}

#[test]
fn corrections_by_many_commands_at_once_take_no_more_than_was_counted() {
    let program = Program::new();
    let user = used(&program, "10");
    let ids: Vec<String> = (0..6).map(|number| format!("at-once-{number}")).collect();
    let started = ids.iter().map(|id| {
        let args = ["usage", "adjust", "--user", &user, "--type", "tts", "--quantity=-10", "--id", id, "--note", "n"];
        program.start(&args)
    });
    let started: Vec<_> = started.collect();
    let done: Vec<Done> = started.into_iter().map(Running::wait).collect();
    let made = done.iter().filter(|done| done.code == Some(0)).count();
    assert_eq!(made, 1, "{done:?}");
    for done in done.iter().filter(|done| done.code != Some(0)) {
        assert!(refused(done, 1).contains("/quantity: this is more than was counted in the credit period"), "{done:?}");
    }
    assert_eq!(program.run(&["doctor"]).code, Some(0));
}

#[test]
fn a_pack_is_worth_something_or_is_refused() {
    let program = Program::new();
    let user = add_user(&program, "ada@here.test", &[]);
    let grant = |more: &[&str]| program.run(&[&["usage", "grant", "--user", &user][..], more].concat());
    let revoke = |id: &str| program.run(&["usage", "revoke", "--user", &user, "--id", id]);
    assert!(refused(&grant(&["--id", "a", "--credits", "0"]), 1).contains("/credits: expected more than 0"));
    let over = grant(&["--id", "a", "--credits", "5", "--expires", "2020-01-01T00:00:00Z"]);
    assert!(refused(&over, 1).contains("/expires: expected a time to come"));
    assert!(refused(&revoke("a"), 1).contains("never given such a pack"));
    assert_eq!(entries(&program), 0, "not even the terms of the user");
    assert_eq!(grant(&["--id", "a", "--credits", "5"]).line(), format!("granted a: 5 credits for {user}"));
    let again = grant(&["--id", "a", "--credits", "5"]);
    assert!((again.code, again.stdout.as_str()) == (Some(0), "") && again.stderr.contains("done before"), "{again:?}");
    assert!(refused(&revoke("b"), 1).contains("never given such a pack"));
    assert_eq!(revoke("a").line(), format!("revoked a of {user}, with what was left of it"));
    assert_eq!(revoke("a").code, Some(0));
}

#[test]
fn packs_beyond_what_an_account_can_hold_are_refused() {
    let program = Program::new();
    let user = add_user(&program, "ada@here.test", &[]);
    let grant = |id| program.run(&["usage", "grant", "--user", &user, "--id", id, "--credits", "1000000000000"]);
    assert_eq!([grant("a").code, grant("b").code], [Some(0), Some(0)]);
    let before = entries(&program);
    for _ in 0..2 {
        assert!(refused(&grant("c"), 1).contains("/credits: this is more than an account can count"));
    }
    assert_eq!(entries(&program), before);
    assert_eq!(grant("b").code, Some(0), "the same again is no second one");
    assert_eq!(adjust(&program, &user, "3", "after", &[]).code, Some(0));
    assert_eq!(program.run(&["doctor"]).code, Some(0));
}

/// An id is of the same kind here as an event's: what an event may not be called, nobody is asked about, and nothing is written.
#[test]
fn an_id_that_no_event_could_have_is_refused() {
    let program = Program::new();
    let user = used(&program, "10");
    let before = entries(&program);
    let long = "x".repeat(256);
    let file = program.path("history.jsonl");
    std::fs::write(&file, "").expect("a file");
    let file = file.display().to_string();
    for id in ["", "two\nlines", "\u{7f}", &long] {
        for args in [
            &["grant", "--user", &user, "--credits", "5", "--id", id][..],
            &["revoke", "--user", &user, "--id", id],
            &["adjust", "--user", &user, "--type", "tts", "--quantity=1", "--note", "n", "--id", id],
            &["adjust", "--user", &user, "--type", "tts", "--quantity=1", "--note", "n", "--id", id, "--dry-run"],
            &["backfill", &file, "--run", id],
        ] {
            let done = program.run(&[&["usage"], args].concat());
            let said = refused(&done, 1);
            assert!(said.contains("expected 1 to 255 bytes, no control characters among them"), "{args:?}: {said}");
        }
    }
    let now = jiff::Timestamp::from_second(1_790_000_000).expect("an instant");
    let event = serde_json::json!({ "transaction_id": "a\nb", "user_id": user, "type": "tts", "quantity": 1, "timestamp": now.to_string() });
    std::fs::write(program.path("history.jsonl"), event.to_string()).expect("a file");
    let said = program.run(&["usage", "backfill", &file, "--run", "r"]);
    assert!(said.code == Some(1) && said.stderr.contains("no control characters"), "{said:?}");
    assert_eq!(entries(&program), before);
    assert_eq!(program.run(&["doctor"]).code, Some(0));
}

/// The day is enough where one event of that id lies in it.
#[test]
fn an_event_is_taken_back_by_its_day() {
    let program = Program::new();
    let user = used(&program, "10");
    let line = |at: &str| serde_json::json!({ "transaction_id": "multi", "user_id": user, "type": "tts", "quantity": 1, "timestamp": at });
    let file = program.path("history.jsonl");
    let lines = ["2026-09-10T10:00:00Z", "2026-10-10T23:30:00Z"].map(|at| line(at).to_string()).join("\n");
    std::fs::write(&file, lines).expect("a file");
    let broken = program.path("broken.jsonl");
    std::fs::write(&broken, "nonsense\n{\"a\":1}\n[1").expect("a file");
    let done = program.run(&["usage", "backfill", &broken.display().to_string(), "--run", "r"]);
    for said in ["line 1: this is not JSON (column 2)", "line 2: unknown field `a`", "line 3: "] {
        assert!(done.code == Some(1) && done.stderr.contains(said), "{said}: {done:?}");
    }
    let done = program.run(&["usage", "backfill", &file.display().to_string(), "--run", "r"]);
    assert_eq!(done.line(), "2 recorded, 0 there already, 0 refused");
    let void = |at: &str| program.run(&["usage", "void", "multi", "--at", at]);
    assert!(refused(&void("2026-10-11"), 1).contains("there is no such event"));
    for bad in ["2026-02-30", "10 October", "2026-10-10T10:00:00"] {
        assert!(refused(&void(bad), 1).contains("is neither a day nor a time by RFC 3339"), "{bad}");
    }
    let done = void("2026-10-10");
    assert!(done.code == Some(0) && done.line().starts_with("corrected multi: -1 tts"), "{done:?}");
    let voided = "SELECT COUNT(*) FROM usage_log WHERE kind = 2 AND event_ms = 1791675000000";
    assert_eq!(program.database().query_row(voided, [], |row| row.get::<_, i64>(0)).expect("a count"), 1);
}

/// What a command is asked for is said, or it has not done its work.
#[test]
fn what_cannot_be_said_is_1() {
    let program = Program::new();
    let shell = |line: &str| {
        let done = program.shell(line);
        (done.code, done.stderr)
    };
    for command in ["openapi", "completions bash", "config", "user add --email a@b.test --name A"] {
        let (code, stderr) = shell(&format!("{} {command} > /dev/full", Program::BINARY));
        assert!(code == Some(1) && stderr.contains("standard output: "), "{command}: {code:?} {stderr}");
        let (code, stderr) = shell(&format!("{} {command} | head -c 1 > /dev/null", Program::BINARY));
        assert!(code == Some(0) && !stderr.contains("panic"), "{command}: {code:?} {stderr}");
    }
    let (code, stderr) = shell(&format!("{} usage backfill there-is-no-such-file --run r", Program::BINARY));
    assert!(code == Some(1) && stderr.contains("there-is-no-such-file: "), "{code:?} {stderr}");
}

#[test]
fn f50_two_users_are_made_one() {
    let program = Program::new();
    let (from, into) = (used(&program, "10"), add_user(&program, "ada@there.test", &["--customer", "cus_1"]));
    assert_eq!(program.run(&["usage", "grant", "--user", &from, "--id", "a", "--credits", "5"]).code, Some(0));
    let merge = |from: &str, into: &str, more: &[&str]| program.run(&[&["user", "merge", from, into], more].concat());
    let said = |done: &str, is: &str| {
        format!("{done} 10 tts from {from} to {into}\n{done} 5 credits of the pack a to {into}\n{from} {is} disabled\n")
    };
    let would = merge(&from, &into, &["--dry-run"]);
    assert_eq!((would.code, would.stdout), (Some(0), said("would move", "would be")));
    let done = merge(&from, &into, &[]);
    assert_eq!((done.code, done.stdout), (Some(0), said("moved", "is")));
    let again = merge(&from, &into, &[]);
    assert_eq!((again.code, again.stdout), (Some(0), format!("{from} is disabled\n")));
    assert!(refused(&merge(&from, &from, &[]), 1).contains("/into: expected another user"));
    assert!(refused(&merge(&from, "usr_x", &[]), 1).contains("there is no such user"));
    assert!(refused(&adjust(&program, &from, "-1", "late", &[]), 1).contains("more than was counted"));
    assert_eq!(adjust(&program, &into, "-10", "all", &[]).line(), corrected("all", "-10", &into));
    assert_eq!(program.run(&["doctor"]).code, Some(0));
}
