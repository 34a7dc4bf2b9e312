//! `billhook doctor`: every planted fault is found and named, and nothing else is.

use std::collections::BTreeMap;
use std::sync::Arc;

use billhook::app::App;
use billhook::clock::{Chance, Clock, System};
use billhook::config::Config;
use billhook::ops::usage;

use super::{add_user, refused, synced};
use crate::harness::program::Program;
use crate::harness::{Database, KEY, event};

/// What doctor complains about: (check, detail) of every fault.
fn faults(program: &Program) -> Vec<(String, String)> {
    let done = program.run(&["doctor", "--json"]);
    let checks = done.objects();
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    let bad: Vec<_> = checks.iter().filter(|check| check["state"] == "fault").collect();
    assert!(bad.iter().all(|check| check["fix"].is_string()), "each fault says what to do: {bad:?}");
    assert_eq!(done.code, Some(i32::from(!bad.is_empty())), "{done:?}");
    bad.into_iter().map(|check| (text(&check["check"]), text(&check["detail"]))).collect()
}

/// Three events of one user on two days, recorded and written down as the program does it; the user's id.
fn used(program: &Program) -> String {
    let user = add_user(program, "used@here.test", &[]);
    let address = format!("sqlite://{}", program.path("billhook.db").display());
    let of = user.clone();
    let work = async move {
        let environment = BTreeMap::from([("DATABASE_URL".to_owned(), address)]);
        let config = Config::read(&environment).expect("a configuration");
        let app = App::build(config, Arc::new(System), Chance::system()).await.expect("a program");
        let now = System.now();
        let told = ["inference", "tts", "tts"].into_iter().zip(0_i64..).map(|(kind, number)| {
            event(&format!("e{number}"), &of, kind, "3", now - jiff::SignedDuration::from_hours(24 * number))
        });
        usage::record(&app, told.collect()).await.expect("recorded");
        usage::totals::write_down_now(&app).await.expect("written down");
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(work);
    user
}

#[test]
fn a_sound_program_has_no_faults_and_says_what_was_looked_at() {
    let (program, _stripe) = synced();
    used(&program);
    assert_eq!(faults(&program), []);
    let done = program.run(&["doctor"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    for check in ["configuration", "database", "stripe", "clock", "mirror", "counts", "totals", "users", "usage"] {
        assert!(
            done.stdout.lines().any(|line| line.starts_with(&format!("ok     {check} "))),
            "{check}: {}",
            done.stdout
        );
    }
    let objects = program.run(&["doctor", "--json"]).objects();
    let members = ["check", "detail", "fix", "state"];
    assert!(objects.iter().all(|check| check.as_object().is_some_and(|check| check.keys().eq(members))), "{objects:?}");
}

#[test]
fn every_wrong_number_of_the_mirror_is_named_and_mended_by_repair() {
    let (program, _stripe) = synced();
    for (sql, check, words) in [
        (
            "UPDATE subscription_totals SET monthly_minor = monthly_minor + 1 WHERE tier = 'starter' AND status = 'active'",
            "totals",
            "starter active",
        ),
        (
            "UPDATE subscription_totals SET count = count - 1 WHERE tier = 'professional' AND status = 'active'",
            "totals",
            "professional active",
        ),
        ("DELETE FROM subscription_totals WHERE tier = 'starter' AND status = 'active'", "totals", "starter active"),
        ("INSERT INTO subscription_totals VALUES ('usd', 'gold', 'active', 1, 100, 0)", "totals", "gold active"),
        (
            "UPDATE subscriptions SET monthly_minor = monthly_minor + 1 WHERE tier = 'starter' AND status = 'active'",
            "totals",
            "starter active",
        ),
        (
            "UPDATE revenue_points SET monthly_minor = 1 WHERE tier = 'starter' AND status = 'active'",
            "revenue",
            "starter active",
        ),
        ("DELETE FROM revenue_points WHERE tier = 'enterprise' AND status = 'active'", "revenue", "enterprise active"),
        ("UPDATE object_counts SET count = count + 1 WHERE resource = 'customers'", "counts", "customers"),
        ("DELETE FROM object_counts WHERE resource = 'invoices'", "counts", "invoices"),
    ] {
        is_named_and_mended(&program, sql, check, words);
    }
}

#[test]
fn every_wrong_number_of_usage_is_named_and_mended_by_repair() {
    let (program, _stripe) = synced();
    let user = &*used(&program);
    for (sql, words) in [
        ("UPDATE usage_days SET quantity_micro = quantity_micro + 1 WHERE type = 'inference'", user),
        ("UPDATE usage_days SET events = events + 1, cost_pico = cost_pico - 1 WHERE type = 'tts'", user),
        ("DELETE FROM usage_days WHERE type = 'tts'", user),
        ("INSERT INTO usage_days VALUES (20779, 'u2', 'tts', 1000000, 1, 1, 0)", "u2"),
        ("UPDATE usage_days SET cost_pico = cost_pico + 1 WHERE type = 'tts'", "credits kept"),
        ("UPDATE accounts SET state = x''", user),
        (
            "UPDATE usage_log SET previous = NULL WHERE position = 3",
            "entry 3: leads to none as the one before it, which is the entry 2",
        ),
        (
            "UPDATE usage_log SET previous = previous - 1 WHERE position = 4",
            "entry 4: leads to the entry 2 as the one before it, which is the entry 3",
        ),
        ("UPDATE usage_log SET previous = 7 WHERE position = 1", "which is none"),
        ("DELETE FROM usage_ids", "could come again"),
        ("DELETE FROM usage_ids WHERE position = 2", "the id of the entry 2 is not known"),
        ("UPDATE usage_ids SET position = position + 1000 WHERE position = 2", "the entry"),
        ("UPDATE usage_head SET position = 1000000", "usage_head"),
        ("DELETE FROM usage_head", "usage_head is empty"),
        ("UPDATE usage_ids SET fingerprint = fingerprint + 1 WHERE position = 3", "entry 3: its id was given to"),
        ("INSERT INTO usage_periods VALUES ('u2', 0, 1, 2, '{}')", "user u2, closed period"),
        ("INSERT INTO usage_warnings VALUES ('u2', 0, 50, 2, 0)", "user u2, warning of 50 per cent"),
        ("UPDATE accounts SET user_id = 'u2'", "u"),
        ("DELETE FROM accounts", user),
    ] {
        is_named_and_mended(&program, sql, "usage", words);
    }
}

/// Spoils the database by this, and has it repaired.
fn is_named_and_mended(program: &Program, sql: &str, check: &str, words: &str) {
    assert!(program.database().execute(sql, []).expect(sql) > 0, "{sql}");
    let found = faults(program);
    assert!(!found.is_empty(), "{sql}: not found");
    // A row that is wrong agrees neither with the totals nor with the revenue.
    let both = sql.starts_with("UPDATE subscriptions ");
    let named = |name: &str| name == check || both && name == "revenue";
    assert!(found.iter().all(|(name, detail)| named(name) && detail.contains(words)), "{sql}: {found:?}");
    let repaired = program.run(&["doctor", "--repair"]);
    assert_eq!(repaired.code, Some(0), "{sql}: {repaired:?}");
    let mut lines = repaired.stdout.lines().filter(|line| line.starts_with("found"));
    assert!(lines.any(|line| line.contains(words)), "what it changes is named: {sql}: {repaired:?}");
    assert_eq!(faults(program), [], "{sql}");
}

/// What the log does not say any more nobody can make up: it is named with its place, everything else is looked at all the same,
/// and nobody is sent to a repair that would not help.
#[test]
fn what_repair_cannot_put_right_says_what_to_do_instead() {
    let (program, _stripe) = synced();
    used(&program);
    let (file, kept) = (program.path("billhook.db"), program.path("kept.db"));
    program.database().execute("VACUUM INTO ?1", [kept.to_str().expect("a path")]).expect("kept");
    for (sql, words, remedy) in [
        ("UPDATE usage_log SET kind = 99 WHERE position = 3", "the entry 3 cannot be read", "put a backup"),
        ("UPDATE usage_log SET weight_micro = 1.5 WHERE position = 3", "the entry 3 cannot be read", "put a backup"),
        (
            "UPDATE usage_log SET kind = 99 WHERE position = 4; UPDATE facts SET value = 3 WHERE name = 'accounts_position'",
            "the entry 4 cannot be read",
            "put a backup",
        ),
        ("DELETE FROM usage_log WHERE position = 3", "the log has no entry 3", "put a backup"),
        ("DELETE FROM usage_log WHERE position IN (2, 3)", "the log has no entry 2 to 3", "put a backup"),
        ("UPDATE usage_log SET user_id = 'u2' WHERE position = 3", "user u2: the entry 3 is the first", "put a backup"),
        ("DELETE FROM users", "nobody knows them", "put the user back"),
    ] {
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(program.path(&format!("billhook.db{suffix}")));
        }
        std::fs::copy(&kept, &file).expect("put back");
        assert_eq!(faults(&program), [], "{sql}");
        program.database().execute_batch(sql).expect(sql);
        for repair in [false, true] {
            let done = program.run(if repair { &["doctor", "--json", "--repair"] } else { &["doctor", "--json"] });
            let (code, checks) = (done.code, done.objects());
            let text = |check: &serde_json::Value, member: &str| check[member].as_str().unwrap_or_default().to_owned();
            let bad: Vec<_> = checks.iter().filter(|check| check["state"] == "fault").collect();
            assert_eq!(code, Some(1), "{sql}: {done:?}");
            let is_named = |check: &&serde_json::Value| {
                text(check, "detail").contains(words) && text(check, "fix").starts_with(remedy)
            };
            assert!(bad.iter().any(is_named), "{sql}, {repair}: {bad:?}");
            assert!(!bad.iter().any(|check| text(check, "fix").starts_with("run billhook")), "{sql}: {bad:?}");
            for looked_at in ["totals", "users", "reservations"] {
                assert!(checks.iter().any(|check| check["check"] == looked_at), "{sql}: {looked_at}: {done:?}");
            }
        }
        assert_eq!(program.run(&["usage", "replay"]).code, Some(1), "{sql}");
    }
}

#[test]
fn every_wrong_state_is_named_and_not_hidden_by_repair() {
    let (program, stripe) = synced();
    let (ada, bob) =
        (add_user(&program, "ada@here.test", &["--customer", "cus_1"]), add_user(&program, "bob@here.test", &[]));
    let set = |sql: &str| assert!(program.database().execute(sql, []).expect(sql) > 0, "{sql}");
    let named = |check: &str, words: &str| {
        for found in [faults(&program), {
            program.run(&["doctor", "--repair"]);
            faults(&program)
        }] {
            assert!(!found.is_empty(), "{check}: not found");
            assert!(found.iter().all(|(name, detail)| name == check && detail.contains(words)), "{found:?}");
        }
    };
    assert_ne!(ada, bob);
    set("UPDATE users SET stripe_customer_id = 'cus_1'");
    named("users", "cus_1: linked to 2 users");
    set("UPDATE users SET stripe_customer_id = NULL WHERE email = 'bob@here.test'");

    set("UPDATE syncs SET as_of = as_of - 3600 WHERE resource = 'charges'");
    named("mirror", "charges: 36");
    set("DELETE FROM syncs WHERE resource = 'charges'");
    named("mirror", "charges: never read");
    assert_eq!(program.run(&["sync"]).code, Some(0));
    assert_eq!(faults(&program), []);

    // What is written in a row and not in Stripe's text is mended, and what is in the text is not.
    set("UPDATE subscriptions SET fault = 'the price is not known' WHERE id IN (SELECT id FROM subscriptions LIMIT 1)");
    program.run(&["doctor", "--repair"]);
    assert_eq!(faults(&program), []);
    set("UPDATE raw_objects SET raw = json_set(raw, '$.items.data[0].price', 'price_gone', '$.items.data[0].plan', NULL)
         WHERE resource = 'subscriptions' AND id IN (SELECT id FROM subscriptions LIMIT 1)");
    set("UPDATE subscriptions SET fault = 'not yet derived' WHERE id IN (SELECT id FROM subscriptions LIMIT 1)");
    program.run(&["doctor", "--repair"]);
    named("subscriptions", "is not known");
    assert_eq!(program.run(&["sync"]).code, Some(0));
    assert_eq!(faults(&program), []);

    // Also while nobody serves who would follow the tier.
    set("UPDATE users SET subscription_tier = 'nonsense' WHERE email = 'bob@here.test'");
    let found = faults(&program);
    assert!(found.iter().any(|(check, detail)| check == "tiers" && detail.contains("no tier nonsense")), "{found:?}");
    named("tiers", "the catalogue has no tier nonsense");
    set("UPDATE users SET subscription_tier = 'starter' WHERE email = 'bob@here.test'");
    assert_eq!(program.run(&["doctor", "--repair"]).code, Some(0));

    stripe.stop();
    named("stripe", "no connection to Stripe");
}

/// Where the last entry said of a tier, and is gone, the account is counted anew first and then follows its tier.
#[test]
fn one_repair_is_enough_where_the_last_entry_said_of_a_tier() {
    let (program, _stripe) = synced();
    let user = used(&program);
    let last = || -> (i64, String) {
        let sql = "SELECT position, type FROM usage_log ORDER BY position DESC LIMIT 1";
        program.database().query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).expect("an entry")
    };
    let (usage, _) = last();
    program.database().execute("UPDATE users SET subscription_tier = 'professional'", []).expect("a tier");
    program.run(&["doctor", "--repair"]);
    let (position, kind) = last();
    assert!(position > usage && kind.is_empty(), "the terms of {user}");
    for sql in ["DELETE FROM usage_log WHERE position = ?1", "DELETE FROM usage_ids WHERE position = ?1"] {
        program.database().execute(sql, [position]).expect(sql);
    }
    assert!(!faults(&program).is_empty());
    let repaired = program.run(&["doctor", "--repair"]);
    assert_eq!(repaired.code, Some(0), "{repaired:?}");
    assert_eq!(faults(&program), []);
}

/// A clock that was ahead for a while: everything adds up, in a period that has not begun.
#[test]
fn f49_what_a_clock_that_was_ahead_has_left_behind_is_named() {
    let (program, _stripe) = synced();
    let user = used(&program);
    let ahead = "UPDATE usage_log SET received_ms = received_ms + 40 * 86400000, event_ms = event_ms + 40 * 86400000
         WHERE position = 4";
    assert_eq!(program.database().execute(ahead, []).expect("ahead"), 1);
    program.run(&["doctor", "--repair"]);
    let found = faults(&program);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().all(|(check, _)| check == "clock"), "{found:?}");
    assert!(found[0].1.starts_with("1 entries (4 to 4) were accepted at a time to come"), "{found:?}");
    assert!(found[1].1.starts_with(&format!("user {user}: the running period begins at ")), "{found:?}");
    let back =
        "UPDATE usage_log SET received_ms = received_ms - 40 * 86400000 + 30000, event_ms = event_ms - 40 * 86400000
         WHERE position = 4";
    assert_eq!(program.database().execute(back, []).expect("back"), 1);
    program.run(&["doctor", "--repair"]);
    assert_eq!(faults(&program), [], "half a minute is no wrong clock");
}

/// Who only looks, in a folder where nothing is, has looked at nothing: that is no clean bill, and nothing is made there.
#[test]
fn who_only_looks_says_that_there_is_no_database_and_makes_none() {
    let foreign = "CREATE TABLE users (id TEXT); CREATE TABLE schema_migrations (version TEXT)";
    for (case, words) in
        [("nothing", "no such database"), ("an empty file", "no database of ours"), (foreign, "no database of ours")]
    {
        let program = Program::new();
        let file = program.path("billhook.db");
        match case {
            "nothing" => {}
            "an empty file" => std::fs::write(&file, "").expect("written"),
            sql => program.database().execute_batch(sql).expect(sql),
        }
        let before = std::fs::read(&file).ok();
        for args in [
            &["doctor"][..],
            &["doctor", "--repair"],
            &["usage", "replay"],
            &["usage", "replay", "--dry-run"],
            &["user", "list"],
            &["key", "list"],
            &["webhooks", "list"],
            &["revenue", "show", "cus_1"],
        ] {
            let done = program.run(args);
            let said = refused(&done, 78);
            assert!(said.contains("DATABASE_URL: ") && said.contains(words), "{case}, {args:?}: {said}");
            assert_eq!(said.lines().count(), 1, "{case}, {args:?}: {said}");
            assert_eq!(std::fs::read(&file).ok(), before, "{case}, {args:?}");
        }
        if case != "nothing" {
            continue;
        }
        add_user(&program, "ada@here.test", &[]);
        assert_eq!(program.run(&["doctor"]).code, Some(0), "who has something to write makes one");
    }
}

#[test]
fn the_same_on_postgres() {
    let database = Database::postgres();
    let program = Program::new().with("DATABASE_URL", &database.address());
    assert!(refused(&program.run(&["doctor"]), 78).contains("no database of ours"));
    assert!(refused(&program.run(&["usage", "replay", "--dry-run"]), 78).contains("no database of ours"));
    assert_eq!(program.run(&["migrate"]).code, Some(0));
    assert_eq!(program.run(&["usage", "replay", "--dry-run"]).code, Some(0));
}

#[test]
fn a_redis_that_is_away_is_named() {
    let program = Program::new().with("REDIS_URL", "redis://127.0.0.1:1");
    assert_eq!(program.run(&["migrate"]).code, Some(0));
    let found = faults(&program);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, "redis");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_away_from_stripes_is_named() {
    for (seconds, expected) in [(0, None), (300, Some("clock")), (-300, Some("clock"))] {
        let config = sandbox::Config {
            listen: ([127, 0, 0, 1], 0).into(),
            key: None,
            state: None,
            seed: sandbox::Seed::Empty,
            now: Arc::new(move || System.now() + jiff::SignedDuration::from_secs(seconds)),
        };
        let stripe = sandbox::start(config).await.expect("a sandbox");
        let program = Program::at_stripe(&stripe.base_url());
        assert_eq!(program.run(&["sync"]).code, Some(0));
        let found = faults(&program);
        assert_eq!(found.first().map(|(check, _)| check.as_str()), expected, "{seconds}: {found:?}");
        assert!(found.len() <= 1 && KEY.starts_with("sk_"), "{found:?}");
    }
}
