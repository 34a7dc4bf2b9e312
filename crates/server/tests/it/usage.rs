//! `/usage`: windows, weights, limits of time, and what each event counts for.

mod merging;
mod terms;
mod trials;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use billhook::jobs::Jobs;
use billhook::ops::doctor;
use billhook::ops::usage::{self, Told, Verdict};
use billhook::store::Tx;
use billing::entry::Pack;
use billing::usage::{Credits, Quantity};
use sandbox::Seed;
use serde_json::{Value, json};

use crate::endpoints::use_some;
use crate::harness::{Database, NOW, Plan, World, event, instant};

const PATH: &str = "/api/v1/billing/usage";

fn told(id: &str, user: &str, kind: &str, quantity: &str, at: &str) -> Told {
    event(id, user, kind, quantity, instant(at))
}

async fn record(world: &World, events: Vec<Told>) -> Vec<Verdict> {
    usage::record(&world.app, events).await.expect("recorded")
}

/// Recorded in its own period. The first entry of a user is one of their terms, so events begin at the second position.
fn recorded(position: i64) -> Verdict {
    Verdict::Recorded { position, late: false }
}

/// A session that outlives every clock of these tests.
async fn session(world: &World, user: &str) -> String {
    let long = Duration::from_secs(900 * 24 * 3600);
    billhook::ops::sessions::issue(&world.app, user, long).await.expect("a session")
}

async fn somebody(world: &World, customer: Option<&str>) -> (String, String) {
    let (user, _) = world.user(&format!("u{}@example.com", customer.unwrap_or("0")), customer, false).await;
    let token = session(world, &user).await;
    (user, token)
}

async fn shown(world: &World, token: &str) -> Value {
    let answer = world.get(PATH, token).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

/// The built-in catalogue with some lines changed, as an operator's file.
struct Catalogue(std::path::PathBuf);

impl Catalogue {
    fn with(changes: &[(&str, &str)]) -> Self {
        let mut text = billing::catalogue::Catalogue::BUILT_IN.to_owned();
        for (old, new) in changes {
            assert!(text.contains(old), "{old}");
            text = text.replace(old, new);
        }
        let Database::Sqlite(path) = &Database::sqlite() else { panic!("a path") };
        let path = path.with_extension("toml");
        std::fs::File::create(&path).and_then(|mut file| file.write_all(text.as_bytes())).expect("a file");
        Self(path)
    }

    fn plan(&self, stripe: Option<Seed>) -> Plan {
        let path = self.0.display().to_string();
        Plan { stripe, environment: vec![("BILLHOOK_CATALOG", path)], ..Plan::default() }
    }
}

impl Drop for Catalogue {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn i10_the_seeds_own_example_to_the_byte() {
    let world = World::new().await;
    let (user, token) = somebody(&world, Some(sandbox::USER_CUSTOMER)).await;
    use_some(&world, &user).await;
    let expected = concat!(
        r#"{"usage":{"today":{"inference":15,"embedding":5,"tts":0,"stt":0},"#,
        r#""month":{"inference":450,"embedding":120,"tts":10,"stt":5}},"#,
        r#""credits":{"tier":"professional","included_credits":500,"used":585,"remaining":0,"overage":85,"overage_cost":0.17,"price_per_1k":2.00},"#,
        r#""tier":"professional","period_start":"2026-11-12T10:00:00Z","period_end":"2026-12-12T10:00:00Z"}"#,
    );
    assert_eq!(world.get(PATH, &token).await.body, expected);
}

#[tokio::test]
async fn i10_below_the_limit_what_remains_and_what_is_used_are_what_is_included() {
    let world = World::new().await;
    let (user, token) = somebody(&world, Some(sandbox::USER_CUSTOMER)).await;
    for (id, quantity, used, remaining, overage, cost) in [
        ("e1", "0.000001", "0.000001", "499.999999", "0", "0.00"),
        ("e2", "499.999999", "500", "0", "0", "0.00"),
        ("e3", "2.499999", "502.499999", "0", "2.499999", "0.00"),
        ("e4", "0.000001", "502.5", "0", "2.5", "0.01"),
        ("e5", "997.5", "1500", "0", "1000", "2.00"),
    ] {
        let verdicts = record(&world, vec![told(id, &user, "stt", quantity, "2026-11-22T09:00:00Z")]).await;
        assert!(matches!(verdicts[..], [Verdict::Recorded { late: false, .. }]), "{verdicts:?}");
        let body = world.get(PATH, &token).await.body;
        let expected = format!(r#""used":{used},"remaining":{remaining},"overage":{overage},"overage_cost":{cost},"#);
        assert!(body.contains(&expected), "{id}: {body}");
    }
}

/// A subscription made at the sandbox at an instant; the customer has nothing else.
async fn subscribe(world: &World, at: &str, price: &str) {
    world.clock.set(instant(at));
    let form =
        format!("customer=cus_sandbox_130&items[0][price]={price}&collection_method=send_invoice&days_until_due=9");
    world.at_stripe("POST", "/v1/subscriptions", &form).await;
}

/// The sandbox's user takes the enterprise tier.
async fn upgrade(world: &World, more: &str) {
    let path = "/v1/subscriptions/sub_sandbox_user";
    let found = world.at_stripe("GET", path, "").await;
    let item = found["items"]["data"][0]["id"].as_str().expect("an item");
    let form = format!("proration_behavior=none&items[0][id]={item}&items[0][price]=price_enterprise_monthly{more}");
    world.at_stripe("POST", path, &form).await;
}

/// The credit period that is shown at an instant, after a sync.
async fn period_at(world: &World, token: &str, at: &str) -> (String, String) {
    world.clock.set(instant(at));
    let answer = shown(world, token).await;
    let text = |name: &str| answer[name].as_str().expect("an instant").to_owned();
    (text("period_start"), text("period_end"))
}

fn window(start: &str, end: &str) -> (String, String) {
    (start.to_owned(), end.to_owned())
}

#[tokio::test]
async fn f48_the_31st_clamps_and_does_not_drift_and_a_year_has_months() {
    let world = World::planned(Plan::default()).await;
    // Anchored on the last day of August, and paid by the year: the credits come every month.
    subscribe(&world, "2027-08-31T12:00:00Z", "price_professional_yearly").await;
    world.sync().await;
    let (_, token) = somebody(&world, Some("cus_sandbox_130")).await;
    for (at, start, end) in [
        ("2027-08-31T12:00:00Z", "2027-08-31T12:00:00Z", "2027-09-30T12:00:00Z"),
        ("2027-09-30T11:59:59Z", "2027-08-31T12:00:00Z", "2027-09-30T12:00:00Z"),
        ("2027-09-30T12:00:00Z", "2027-09-30T12:00:00Z", "2027-10-31T12:00:00Z"),
        ("2027-12-31T12:00:00Z", "2027-12-31T12:00:00Z", "2028-01-31T12:00:00Z"),
        ("2028-02-29T12:00:00Z", "2028-02-29T12:00:00Z", "2028-03-31T12:00:00Z"),
        ("2028-03-30T12:00:00Z", "2028-02-29T12:00:00Z", "2028-03-31T12:00:00Z"),
        ("2028-03-31T12:00:00Z", "2028-03-31T12:00:00Z", "2028-04-30T12:00:00Z"),
    ] {
        assert_eq!(period_at(&world, &token, at).await, window(start, end), "{at}");
    }
}

#[tokio::test]
async fn a_monthly_plan_counts_from_its_anchor_and_starts_anew_at_its_second() {
    let world = World::new().await;
    let (user, token) = somebody(&world, Some(sandbox::USER_CUSTOMER)).await;
    let edges = [
        ("e1", "2026-11-12T09:59:59.999Z", "1"),
        ("e2", "2026-11-12T10:00:00Z", "2"),
        ("e3", "2026-11-22T09:59:59Z", "4"),
    ];
    let events = edges.map(|(id, at, quantity)| told(id, &user, "inference", quantity, at)).to_vec();
    // The period of the first one has been over for ten days: it counts in the running one, and its sender hears so.
    let late = Verdict::Recorded { position: 2, late: true };
    assert_eq!(record(&world, events).await, [late, recorded(3), recorded(4)], "half-open: the start belongs to it");
    assert_eq!(shown(&world, &token).await["usage"]["month"]["inference"], 7);
    world.clock.set(instant("2026-12-12T09:59:59Z"));
    assert_eq!(shown(&world, &token).await["usage"]["month"]["inference"], 7);
    // No sync, no write: only time goes by, and the kept answer ends with its period.
    world.clock.set(instant("2026-12-12T10:00:00Z"));
    let next = shown(&world, &token).await;
    assert_eq!((&next["usage"]["month"]["inference"], &next["credits"]["remaining"]), (&json!(0), &json!(500)));
    assert_eq!(next["period_start"], "2026-12-12T10:00:00Z");
}

/// Only time goes by: what is left of a pack is not shown any longer than it can be used.
#[tokio::test]
async fn a_kept_answer_ends_with_the_first_pack_that_is_over() {
    let world = World::planned(Plan { stripe: None, ..Plan::default() }).await;
    let (user, token) = somebody(&world, None).await;
    for (id, credits, expires) in [("noon", "1000", "2026-11-22T12:00:00Z"), ("later", "10", "2026-11-22T12:30:00Z")] {
        let pack = Pack {
            id: id.to_owned(),
            amount: Credits::parse(credits).expect("credits"),
            priority: 0,
            expires_ms: Some(instant(expires).as_millisecond()),
            granted_ms: world.now().as_millisecond(),
        };
        usage::packs::grant(&world.app, &user, &pack).await.expect("granted");
    }
    for (at, remaining) in [
        ("2026-11-22T11:59:00Z", 1110),
        ("2026-11-22T11:59:59Z", 1110),
        ("2026-11-22T12:00:00Z", 110),
        ("2026-11-22T12:01:00Z", 110),
        ("2026-11-22T12:30:00Z", 100),
    ] {
        world.clock.set(instant(at));
        assert_eq!(shown(&world, &token).await["credits"]["remaining"], remaining, "{at}");
    }
}

#[tokio::test]
async fn an_ended_or_unpaid_subscription_gives_neither_period_nor_tier() {
    let world = World::new().await;
    let (_, token) = somebody(&world, Some(sandbox::USER_CUSTOMER)).await;
    assert_eq!(shown(&world, &token).await["tier"], "professional");
    world.at_stripe("DELETE", "/v1/subscriptions/sub_sandbox_user", "").await;
    world.sync().await;
    let after = shown(&world, &token).await;
    assert_eq!((&after["tier"], &after["period_start"]), (&json!("trial"), &json!("2026-11-01T00:00:00Z")));
}

/// What another program reads of a user's tier.
async fn tier_in_the_row(world: &World, user: &str) -> String {
    let id = user.to_owned();
    let sql = "SELECT subscription_tier FROM users WHERE id = ?1";
    let row = world.app.db.read(move |tx| tx.row(sql, &[id.as_str().into()])).await.expect("a row");
    row.expect("a user").text(0).expect("a tier")
}

#[tokio::test]
async fn s46_the_users_row_has_the_tier_of_the_running_subscription_and_their_own_without_one() {
    for database in [Database::sqlite(), Database::postgres()] {
        let world = World::planned(Plan { database, ..Plan::default() }).await;
        let (user, token) = somebody(&world, Some(sandbox::USER_CUSTOMER)).await;
        assert_eq!(tier_in_the_row(&world, &user).await, "trial", "nothing is known yet");
        world.sync().await;
        assert_eq!(tier_in_the_row(&world, &user).await, "professional");
        upgrade(&world, "").await;
        world.sync().await;
        assert_eq!(tier_in_the_row(&world, &user).await, "enterprise");
        assert_eq!(shown(&world, &token).await["tier"], "enterprise");
        world.at_stripe("DELETE", "/v1/subscriptions/sub_sandbox_user", "").await;
        world.sync().await;
        assert_eq!(tier_in_the_row(&world, &user).await, "trial");
    }
}

/// The same of somebody who is linked to a customer that is mirrored already, and whatever comes first then.
#[tokio::test]
async fn s46_who_is_linked_shows_what_their_customer_subscribes_to() {
    for database in [Database::sqlite(), Database::postgres()] {
        let world = World::planned(Plan { database, ..Plan::default() }).await;
        world.sync().await;
        let (user, _) = somebody(&world, Some(sandbox::USER_CUSTOMER)).await;
        assert_eq!(tier_in_the_row(&world, &user).await, "professional");
        record(&world, vec![told("e1", &user, "inference", "1", NOW)]).await;
        assert_eq!(tier_in_the_row(&world, &user).await, "professional");
        let report = doctor::examine(&world.app).await.expect("a report").0;
        let tiers: Vec<_> = report.into_iter().filter(|one| one.check == "tiers").map(|one| one.state).collect();
        assert_eq!(tiers, [doctor::State::Ok]);
    }
}

#[tokio::test]
async fn doctor_names_whoever_shows_a_tier_that_is_not_theirs_and_repair_mends_it() {
    for database in [Database::sqlite(), Database::postgres()] {
        let world = World::planned(Plan { database, ..Plan::default() }).await;
        let (paying, _) = somebody(&world, Some(sandbox::USER_CUSTOMER)).await;
        let (counted, _) = world.user("counted@example.com", None, false).await;
        let (quiet, _) = world.user("quiet@example.com", None, false).await;
        world.sync().await;
        record(&world, vec![told("e1", &counted, "inference", "1", NOW)]).await;
        usage::totals::write_down_now(&world.app).await.expect("written down");
        let said = async |state: doctor::State| -> Vec<String> {
            let report = doctor::examine(&world.app).await.expect("a report").0;
            report.into_iter().filter(|one| one.check == "tiers" && one.state == state).map(|one| one.detail).collect()
        };
        assert_eq!(said(doctor::State::Fault).await, Vec::<String>::new());
        assert_eq!(said(doctor::State::Ok).await, ["3 users show the tier that is theirs"]);
        for (user, sql, tier) in [
            (&paying, "UPDATE users SET subscription_tier = 'enterprise' WHERE id = ?1", "professional"),
            (&paying, "UPDATE users SET own_tier = NULL WHERE id = ?1", "professional"),
            (&counted, "UPDATE users SET subscription_tier = 'enterprise' WHERE id = ?1", "enterprise"),
            (&counted, "UPDATE users SET subscription_tier = 'enterprise', own_tier = 'trial' WHERE id = ?1", "trial"),
        ] {
            let id = user.clone();
            let spoil = move |tx: &mut Tx<'_>| {
                tx.run(sql, &[id.as_str().into()])?;
                // Nobody was told.
                tx.run("DELETE FROM stale_plans", &[])
            };
            world.app.db.write(spoil).await.expect("spoilt");
            let faults = said(doctor::State::Fault).await;
            assert!(faults.len() == 1 && faults[0].starts_with(user.as_str()), "{sql}: {faults:?}");
            doctor::repair(&world.app).await.expect("mended");
            assert_eq!(said(doctor::State::Fault).await, Vec::<String>::new(), "{sql}");
            assert_eq!(tier_in_the_row(&world, user).await, tier, "{sql}");
        }
        // Where nothing says otherwise an operator may have given it.
        let id = quiet.clone();
        let give = move |tx: &mut Tx<'_>| {
            tx.run("UPDATE users SET subscription_tier = 'enterprise' WHERE id = ?1", &[id.as_str().into()])?;
            tx.run("DELETE FROM stale_plans", &[])
        };
        world.app.db.write(give).await.expect("given");
        let warned = said(doctor::State::Warn).await;
        assert!(warned.len() == 1 && warned[0].starts_with(quiet.as_str()), "{warned:?}");
    }
}

/// The platform writes into its own table whose tier it is.
#[tokio::test]
async fn a_tier_that_others_write_is_followed() {
    for database in [Database::sqlite(), Database::postgres()] {
        let world = World::planned(Plan { stripe: None, database, ..Plan::default() }).await;
        let (user, token) = world.user("u@example.com", None, false).await;
        let counts = || world.app.book.get(&user).map(|slot| slot.lock().account.terms().tier.clone());
        record(&world, vec![told("e1", &user, "inference", "7", NOW)]).await;
        assert_eq!(counts().as_deref(), Some("trial"));
        world.database.by_others("UPDATE users SET subscription_tier = 'professional'");
        let shown_now = shown(&world, &token).await;
        assert_eq!(
            (&shown_now["credits"]["included_credits"], &shown_now["credits"]["used"]),
            (&json!(500), &json!(7)),
            "at once, by who looks"
        );
        world.database.by_others("UPDATE users SET subscription_tier = 'starter'");
        let jobs = Jobs::start(&world.app, Arc::new(|_| ()));
        let followed = async {
            while counts().as_deref() != Some("starter") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), followed).await.expect("nobody has to look");
        jobs.stop().await;
        record(&world, vec![told("e2", &user, "inference", "1", NOW)]).await;
        assert_eq!(tier_in_the_row(&world, &user).await, "starter");
    }
}

/// The platform may be a role that may write its people and nothing else of this database.
#[tokio::test]
async fn a_tier_that_a_role_of_few_rights_writes_is_followed() {
    let world = World::planned(Plan { stripe: None, database: Database::postgres(), ..Plan::default() }).await;
    let (user, token) = world.user("u@example.com", None, false).await;
    record(&world, vec![told("e1", &user, "inference", "7", NOW)]).await;
    world.database.by_others(
        "CREATE ROLE billhook_test_platform; GRANT SELECT, UPDATE ON users TO billhook_test_platform;
         SET ROLE billhook_test_platform; UPDATE users SET subscription_tier = 'professional';
         RESET ROLE; DROP OWNED BY billhook_test_platform; DROP ROLE billhook_test_platform",
    );
    let page = shown(&world, &token).await;
    assert_eq!((&page["credits"]["included_credits"], &page["credits"]["used"]), (&json!(500), &json!(7)));
    // Nor may it do by this what it may not do: its own table of that name is not taken for ours.
    world.database.by_others(
        "CREATE ROLE billhook_test_intruder; GRANT SELECT, UPDATE ON users TO billhook_test_intruder; SET ROLE billhook_test_intruder;
         CREATE TEMP TABLE stale_plans (user_id TEXT PRIMARY KEY); UPDATE users SET subscription_tier = 'starter';
         RESET ROLE; DO $$ BEGIN ASSERT (SELECT COUNT(*) FROM pg_temp.stale_plans) = 0; END $$;
         DROP OWNED BY billhook_test_intruder; DROP ROLE billhook_test_intruder",
    );
    assert_eq!(shown(&world, &token).await["credits"]["included_credits"], json!(200));
}

/// Without a subscription: the calendar of the operator's zone, also on the days on which clocks are moved (F-47).
#[tokio::test]
async fn f47_without_a_subscription_it_is_the_calendar_of_the_operators_zone() {
    let catalogue = Catalogue::with(&[(r#"time_zone = "UTC""#, r#"time_zone = "Pacific/Auckland""#)]);
    let world = World::planned(catalogue.plan(None)).await;
    let (user, token) = somebody(&world, None).await;
    for (at, start, end) in [
        // In Auckland it is already the 23rd; the month began at local midnight, 13 hours ahead of UTC.
        ("2026-11-22T12:00:00Z", "2026-10-31T11:00:00Z", "2026-11-30T11:00:00Z"),
        ("2026-11-30T10:59:59Z", "2026-10-31T11:00:00Z", "2026-11-30T11:00:00Z"),
        ("2026-11-30T11:00:00Z", "2026-11-30T11:00:00Z", "2026-12-31T11:00:00Z"),
        // Daylight saving ends on 2027-04-04: the month ends twelve hours ahead.
        ("2027-04-01T00:00:00Z", "2027-03-31T11:00:00Z", "2027-04-30T12:00:00Z"),
        // And begins again on 2027-09-26.
        ("2027-09-15T00:00:00Z", "2027-08-31T12:00:00Z", "2027-09-30T11:00:00Z"),
    ] {
        assert_eq!(period_at(&world, &token, at).await, window(start, end), "{at}");
    }
    // The day of 25 hours: 2027-04-04 from 11:00Z on the 3rd to 12:00Z on the 4th. The day of 23: 2027-09-26.
    for (number, start, end) in
        [(1, "2027-04-03T11:00:00Z", "2027-04-04T12:00:00Z"), (2, "2027-09-25T12:00:00Z", "2027-09-26T11:00:00Z")]
    {
        let (start, end) = (instant(start), instant(end));
        let last = end - jiff::SignedDuration::from_millis(1);
        world.clock.set(end - jiff::SignedDuration::from_secs(1));
        let inside = [start, last].map(|at| Told {
            at: Some(at),
            ..told(&format!("{number}-{at}"), &user, "tts", "1", "2027-01-01T00:00:00Z")
        });
        let outside = start - jiff::SignedDuration::from_millis(1);
        let outside =
            Told { at: Some(outside), ..told(&format!("{number}-out"), &user, "tts", "10", "2027-01-01T00:00:00Z") };
        let verdicts = record(&world, inside.into_iter().chain([outside]).collect()).await;
        let all = verdicts.iter().all(|verdict| matches!(verdict, Verdict::Recorded { late: false, .. }));
        assert!(all, "{verdicts:?}");
        assert_eq!(
            shown(&world, &token).await["usage"]["today"]["tts"],
            2,
            "both ends of the day, and nothing before it"
        );
        world.clock.set(end);
        assert_eq!(shown(&world, &token).await["usage"]["today"]["tts"], 0, "the next day");
    }
}

#[tokio::test]
async fn todays_end_at_local_midnight_moves_the_kept_answer_at_its_second() {
    let catalogue = Catalogue::with(&[(r#"time_zone = "UTC""#, r#"time_zone = "America/New_York""#)]);
    let world = World::planned(catalogue.plan(None)).await;
    let (user, token) = somebody(&world, None).await;
    // Midnight in New York is 05:00Z in November.
    world.clock.set(instant("2026-11-23T04:00:00Z"));
    record(&world, vec![told("e1", &user, "inference", "3", "2026-11-23T03:59:00Z")]).await;
    let today = async || shown(&world, &token).await["usage"]["today"]["inference"].clone();
    assert_eq!(today().await, 3);
    world.clock.set(instant("2026-11-23T04:59:59Z"));
    assert_eq!(today().await, 3);
    world.clock.set(instant("2026-11-23T05:00:00Z"));
    assert_eq!(today().await, 0);
    assert_eq!(shown(&world, &token).await["usage"]["month"]["inference"], 3);
}

#[tokio::test]
async fn weights_and_further_types_of_the_catalogue_count() {
    let catalogue = Catalogue::with(&[
        ("[events.embedding]\ncredits = \"1\"", "[events.embedding]\ncredits = \"0.5\""),
        ("[events.stt]", "[events.image]\ncredits = \"12\"\nlago_code = \"image_call\"\n\n[events.stt]"),
    ]);
    let world = World::planned(catalogue.plan(None)).await;
    let (user, token) = somebody(&world, None).await;
    let before = world.get(PATH, &token).await.body;
    assert!(before.contains(r#""today":{"inference":0,"embedding":0,"tts":0,"stt":0,"image":0}"#), "{before}");
    let at = "2026-11-22T09:00:00Z";
    let rows = [("e1", "embedding", "3"), ("e2", "image", "2"), ("e3", "inference", "1.25")];
    record(&world, rows.map(|(id, kind, quantity)| told(id, &user, kind, quantity, at)).to_vec()).await;
    let after = shown(&world, &token).await;
    // 3 × 0.5 + 2 × 12 + 1.25
    assert_eq!(after["credits"]["used"].to_string(), "26.75");
    assert_eq!(after["usage"]["month"]["image"], 2);
}

#[tokio::test]
async fn a_tier_that_blocks_its_overage_bills_none() {
    let world = World::planned(Plan { stripe: None, ..Plan::default() }).await;
    let (user, token) = somebody(&world, None).await;
    record(&world, vec![told("e1", &user, "inference", "1100", "2026-11-22T09:00:00Z")]).await;
    let body = world.get(PATH, &token).await.body;
    let expected = r#""included_credits":100,"used":1100,"remaining":0,"overage":1000,"overage_cost":0.00,"#;
    assert!(body.contains(expected), "{body}");
}

#[tokio::test]
async fn what_cannot_count_is_refused_by_name_and_the_good_beside_it_counts() {
    let world = World::planned(Plan { stripe: None, ..Plan::default() }).await;
    let (user, token) = somebody(&world, None).await;
    let now = "2026-11-22T10:00:00Z";
    let long = "x".repeat(256);
    let events = vec![
        told("good", &user, "inference", "1", now),
        told("oldest", &user, "tts", "1", "2026-10-18T10:00:00.456Z"),
        told("too_old", &user, "inference", "10", "2026-10-18T10:00:00.455Z"),
        told("ahead", &user, "inference", "1", "2026-11-22T10:05:00.456Z"),
        told("too_far", &user, "inference", "10", "2026-11-22T10:05:00.457Z"),
        told("unknown_user", "usr_nobody", "inference", "10", now),
        told("unknown_type", &user, "telepathy", "10", now),
        told("", &user, "inference", "10", now),
        told(&long, &user, "inference", "10", now),
    ];
    let shown_as = |verdict| match verdict {
        Verdict::Recorded { position, late } => (position, if late { "late" } else { "recorded" }, ""),
        Verdict::Refused { code, pointer, .. } => (0, code, pointer),
        other => panic!("{other:?}"),
    };
    let expected = [
        (2, "recorded", ""),
        // Its own period has been over for weeks.
        (3, "late", ""),
        (0, "too_old", "/timestamp"),
        (4, "recorded", ""),
        (0, "too_early", "/timestamp"),
        (0, "user.unknown", "/user_id"),
        (0, "type.unknown", "/type"),
        (0, "invalid", "/transaction_id"),
        (0, "invalid", "/transaction_id"),
    ];
    assert_eq!(record(&world, events).await.into_iter().map(shown_as).collect::<Vec<_>>(), expected);
    let month = shown(&world, &token).await["usage"]["month"].clone();
    assert_eq!((&month["inference"], &month["tts"]), (&json!(2), &json!(1)), "what was refused counts nowhere");
}

#[tokio::test]
async fn an_event_told_twice_counts_once_and_one_told_differently_is_a_conflict() {
    let world = World::planned(Plan { stripe: None, ..Plan::default() }).await;
    let (user, token) = somebody(&world, None).await;
    let event = || told("e1", &user, "inference", "5", "2026-11-22T09:00:00Z");
    let twice = record(&world, vec![event(), event()]).await;
    assert_eq!(twice, [recorded(2), Verdict::Duplicate { position: 2 }]);
    let other = Told { quantity: Quantity::parse("6").expect("quantity"), ..event() };
    let again = record(&world, vec![event(), other]).await;
    assert_eq!(again, [Verdict::Duplicate { position: 2 }, Verdict::Conflict { member: "quantity" }]);
    let after = shown(&world, &token).await;
    assert_eq!((&after["usage"]["today"]["inference"], &after["credits"]["used"]), (&json!(5), &json!(5)));
}

#[tokio::test]
async fn a_recorded_event_is_seen_by_the_very_next_question() {
    let world = World::planned(Plan { stripe: None, ..Plan::default() }).await;
    let (user, token) = somebody(&world, None).await;
    let other = world.user("other@example.com", None, false).await.1;
    for number in 1..=5_i64 {
        record(&world, vec![told(&format!("e{number}"), &user, "inference", "1", "2026-11-22T09:00:00Z")]).await;
        assert_eq!(shown(&world, &token).await["usage"]["today"]["inference"], number);
    }
    assert_eq!(shown(&world, &other).await["usage"]["today"]["inference"], 0, "and is nobody else's");
}

/// A type that the operator takes out of the catalogue does not take the answer with it: what was recorded keeps the weight
/// that it was recorded with, and no more of it is taken.
#[tokio::test]
async fn usage_of_a_type_that_the_catalogue_no_longer_has_keeps_its_weight() {
    let with_image = ("[events.stt]", "[events.image]\ncredits = \"12\"\nlago_code = \"image_call\"\n\n[events.stt]");
    let catalogue = Catalogue::with(&[with_image]);
    let world = World::planned(catalogue.plan(None)).await;
    let (user, _) = somebody(&world, None).await;
    let at = "2026-11-22T09:00:00Z";
    record(&world, vec![told("e1", &user, "inference", "5", at), told("e2", &user, "image", "7", at)]).await;
    let same_file = Database::Sqlite(world.database.path().clone());
    let without = Plan { stripe: None, database: same_file, ..Plan::default() };
    let world_after = World::planned(without).await;
    let token = session(&world_after, &user).await;
    let answer = shown(&world_after, &token).await;
    assert_eq!((&answer["usage"]["month"]["image"], &answer["credits"]["used"]), (&json!(7), &json!(89)));
    let refused = record(&world_after, vec![told("e3", &user, "image", "1", at)]).await;
    assert!(matches!(refused[..], [Verdict::Refused { code: "type.unknown", .. }]), "{refused:?}");
}
