//! Stripe fails in every way it can: what was mirrored is told with its age, and what was not is never made up.

use std::time::{Duration, Instant};

use billhook::gateways::stripe::Settings;
use billhook::ops::mirror::FRESH;
use sandbox::{Fault, FaultKind, Seed};
use serde_json::json;

use crate::endpoints::use_some;
use crate::harness::{Answer, Plan, World, impatient};

const USERS: [&str; 4] = [
    "/api/v1/billing/subscription",
    "/api/v1/billing/invoices?limit=100",
    "/api/v1/billing/payment-methods",
    "/api/v1/billing/usage",
];
const ADMINS: [&str; 4] = [
    "/api/v1/admin/billing/stats",
    "/api/v1/admin/billing/customers?limit=1000",
    "/api/v1/admin/billing/subscriptions?limit=1000",
    "/api/v1/admin/billing/recent-charges?limit=1000",
];
/// What the clock of every world shows at first.
const FIRST_SYNC: &str = "2026-11-22T10:00:00Z";

const fn status(status: u16, retry_after: Option<String>) -> FaultKind {
    FaultKind::Status { status, retry_after, should_retry: None }
}

/// Every way of failing, by row, with what a first question hears.
fn troubles() -> Vec<(&'static str, FaultKind, &'static str)> {
    vec![
        ("F-27", status(429, Some("7".to_owned())), "stripe.rate_limited"),
        ("F-27", status(429, None), "stripe.rate_limited"),
        ("F-28", status(500, None), "stripe.unavailable"),
        ("F-28", status(502, None), "stripe.unavailable"),
        ("F-28", status(503, None), "stripe.unavailable"),
        ("F-28", FaultKind::Reset, "stripe.unavailable"),
        ("F-28", FaultKind::DropAfterCommit, "stripe.unavailable"),
        ("F-28", FaultKind::Hang, "stripe.unavailable"),
        ("F-32", FaultKind::Html, "stripe.unavailable"),
        ("F-32", FaultKind::CutJson, "stripe.unavailable"),
        ("F-32", FaultKind::TruncatedBody, "stripe.unavailable"),
        ("F-32", FaultKind::HugeBody { bytes: 9 * 1024 * 1024 }, "stripe.unavailable"),
        ("F-33", FaultKind::SlowBody { bytes_per_second: 1 }, "stripe.unavailable"),
        ("F-33", FaultKind::EndlessHeaders, "stripe.unavailable"),
        ("F-34", status(401, None), "stripe.auth"),
        ("F-34", status(403, None), "stripe.auth"),
    ]
}

fn always(kind: FaultKind) -> Fault {
    Fault { times: None, ..Fault::new("/v1/", 1, kind) }
}

/// A user with a customer and an admin, each with a session that outlives the test.
struct People {
    user: String,
    admin: String,
}

async fn people(world: &World) -> People {
    let long = Duration::from_secs(60 * 24 * 3600);
    let (id, _) = world.user("ada@example.com", Some(sandbox::USER_CUSTOMER), false).await;
    use_some(world, &id).await;
    let (boss, _) = world.user("admin@example.com", None, true).await;
    let session = async |id: &str| billhook::ops::sessions::issue(&world.app, id, long).await.expect("a session");
    People { user: session(&id).await, admin: session(&boss).await }
}

/// All eight endpoints.
async fn eight(world: &World, people: &People) -> Vec<(&'static str, Answer)> {
    let mut answers = Vec::new();
    for (paths, token) in [(USERS, &people.user), (ADMINS, &people.admin)] {
        for path in paths {
            answers.push((path, world.get(path, token).await));
        }
    }
    answers
}

fn bodies(answers: &[(&'static str, Answer)]) -> Vec<(&'static str, u16, String)> {
    // A cursor is signed for its caller and says the same each time: it may stand in a body.
    answers.iter().map(|(path, answer)| (*path, answer.status, answer.body.clone())).collect()
}

#[tokio::test]
async fn f58_after_a_sync_every_way_of_failing_leaves_the_eight_answers_as_they_were() {
    let world = World::planned(Plan { limits: impatient, ..Plan::default() }).await;
    world.sync().await;
    let people = people(&world).await;
    let before = bodies(&eight(&world, &people).await);
    assert!(before.iter().all(|(_, status, _)| *status == 200), "{before:?}");
    let faults = world.stripe.as_ref().expect("a sandbox").faults();
    for (row, kind, _) in troubles() {
        faults.push(always(kind.clone()));
        world.sync_result().await.expect_err("Stripe is away");
        let during = eight(&world, &people).await;
        assert_eq!(bodies(&during), before, "{row} {kind:?}");
        for (path, answer) in &during {
            assert_eq!(answer.header("billing-as-of"), Some(FIRST_SYNC), "{row} {kind:?} {path}");
            assert_eq!(answer.header("billing-stale"), None, "{row} {path}: not yet");
        }
        faults.clear();
    }
    // Back again: the next sync brings what has changed meanwhile.
    world.at_stripe("POST", "/v1/payment_methods/pm_sandbox_user/detach", "").await;
    world.clock.advance(Duration::from_secs(60));
    world.sync().await;
    let after = world.get(USERS[2], &people.user).await;
    assert_eq!((after.body.as_str(), after.header("billing-as-of")), ("[]", Some("2026-11-22T10:01:00Z")));
}

#[tokio::test]
async fn what_is_older_than_two_pauses_is_called_stale_on_all_eight() {
    let world = World::planned(Plan { limits: impatient, ..Plan::default() }).await;
    world.sync().await;
    let people = people(&world).await;
    let faults = world.stripe.as_ref().expect("a sandbox").faults();
    faults.push(always(status(500, None)));
    let pause = world.app.config.sync_interval.min(FRESH);
    let before = eight(&world, &people).await;
    world.clock.advance(pause * 2);
    for (path, answer) in eight(&world, &people).await {
        assert_eq!(answer.header("billing-stale"), None, "{path}: one sync may be missed");
    }
    world.clock.advance(Duration::from_secs(1));
    let stale = eight(&world, &people).await;
    assert_eq!(bodies(&stale), bodies(&before), "only the header says it");
    for (path, answer) in &stale {
        assert_eq!((answer.status, answer.header("billing-stale")), (200, Some("?1")), "{path}");
        assert_eq!(answer.header("billing-as-of"), Some(FIRST_SYNC), "{path}");
    }
    // Half an hour later and thirty tries to sync: the same (F-58).
    for _ in 0..30 {
        world.clock.advance(Duration::from_secs(60));
        world.sync_result().await.expect_err("still away");
    }
    let later = eight(&world, &people).await;
    assert_eq!(bodies(&later), bodies(&before));
    assert!(later.iter().all(|(_, answer)| answer.header("billing-stale") == Some("?1")));
    faults.clear();
    world.sync().await;
    for (path, answer) in eight(&world, &people).await {
        let headers = (answer.header("billing-as-of"), answer.header("billing-stale"));
        assert_eq!(headers, (Some("2026-11-22T10:40:01Z"), None), "{path}: back again");
    }
}

/// An answer that the caller holds already is told to be stale, too.
#[tokio::test]
async fn a_304_says_its_age() {
    let world = World::new().await;
    let people = people(&world).await;
    let etag = world.get(USERS[0], &people.user).await.header("etag").expect("a validator").to_owned();
    world.clock.advance(Duration::from_secs(3_600));
    let cookie = format!("session_token={}", people.user);
    let answer = world.request("GET", USERS[0], &[("cookie", &cookie), ("if-none-match", &etag)]).await;
    let headers = (answer.header("billing-as-of"), answer.header("billing-stale"));
    assert_eq!((answer.status, headers), (304, (Some(FIRST_SYNC), Some("?1"))));
}

#[tokio::test]
async fn p4a01_never_mirrored_and_failing_is_an_error_and_never_a_zero_or_an_empty_list() {
    for (row, kind, code) in troubles() {
        let world = World::planned(Plan { limits: impatient, ..Plan::default() }).await;
        let people = people(&world).await;
        world.stripe.as_ref().expect("a sandbox").faults().push(always(kind.clone()));
        for (path, answer) in eight(&world, &people).await {
            if path.ends_with("/usage") {
                // The log is ours. Without Stripe the period is the calendar's month.
                assert_eq!((answer.status, answer.header("billing-as-of")), (200, None), "{row} {kind:?}");
                assert_eq!(answer.json()["usage"]["month"]["inference"], 450, "{row} {kind:?}");
                continue;
            }
            let expected = if path.contains("admin") { "stripe.unavailable" } else { code };
            assert_eq!((answer.status, answer.json()["code"].as_str()), (500, Some(expected)), "{row} {kind:?} {path}");
            let wait: u64 = answer.header("retry-after").expect("Retry-After").parse().expect("seconds");
            assert!((1..=3600).contains(&wait), "{row} {path}: {wait}");
            assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        }
    }
}

#[tokio::test]
async fn f27_the_wait_that_stripe_asks_for_is_passed_on() {
    let world = World::planned(Plan { limits: impatient, ..Plan::default() }).await;
    let people = people(&world).await;
    world.stripe.as_ref().expect("a sandbox").faults().push(always(status(429, Some("77".to_owned()))));
    let answer = world.get(USERS[0], &people.user).await;
    let wait: u64 = answer.header("retry-after").expect("Retry-After").parse().expect("seconds");
    assert!((77..=93).contains(&wait), "{wait}: as asked, or a little more so that not all come back at once");
}

#[tokio::test]
async fn f40_a_name_that_does_not_resolve_and_a_port_that_is_closed_are_outages() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a free port");
    for base in ["http://stripe.invalid".to_owned(), format!("http://{closed}")] {
        let plan = Plan { stripe_base: Some(base.clone()), limits: impatient, ..Plan::default() };
        let world = World::planned(plan).await;
        let people = people(&world).await;
        world.sync_result().await.expect_err("nobody there");
        for (path, answer) in eight(&world, &people).await {
            let expected = if path.ends_with("/usage") { 200 } else { 500 };
            assert_eq!(answer.status, expected, "{base} {path}");
        }
    }
}

#[tokio::test]
async fn never_mirrored_and_stripe_well_a_user_is_answered_at_once_by_reading_that_customer_alone() {
    let world = World::planned(Plan::default()).await;
    let people = people(&world).await;
    let stripe = world.stripe.as_ref().expect("a sandbox");
    for path in USERS {
        let answer = world.get(path, &people.user).await;
        assert_eq!((answer.status, answer.header("billing-as-of")), (200, Some(FIRST_SYNC)), "{path}");
    }
    let asked = stripe.requests();
    assert!(asked.len() <= 6, "one customer, not the whole account: {}", asked.len());
    assert!(asked.iter().all(|asked| format!("{}?{}", asked.path, asked.query).contains(sandbox::USER_CUSTOMER)));
    // The same as after a full sync.
    let alone: Vec<String> = {
        let mut bodies = Vec::new();
        for path in USERS {
            bodies.push(world.get(path, &people.user).await.body);
        }
        bodies
    };
    // An admin's lists are not known by knowing one customer.
    assert_eq!(world.get(ADMINS[0], &people.admin).await.status, 500);
    world.sync().await;
    for (path, before) in USERS.into_iter().zip(alone) {
        assert_eq!(world.get(path, &people.user).await.body, before, "{path}");
    }
}

#[tokio::test]
async fn a_user_without_a_customer_and_a_customer_that_stripe_does_not_know_own_nothing() {
    let world = World::planned(Plan { limits: impatient, ..Plan::default() }).await;
    let (none, unknown) = (
        world.user("nobody@example.com", None, false).await.1,
        world.user("unknown@example.com", Some("cus_unknown"), false).await.1,
    );
    for (token, as_of) in [(&none, None), (&unknown, Some(FIRST_SYNC))] {
        let subscription = world.get(USERS[0], token).await;
        assert_eq!((subscription.status, subscription.header("billing-as-of")), (200, as_of));
        assert_eq!(subscription.json()["status"], "none");
        for path in [USERS[1], USERS[2]] {
            assert_eq!(world.get(path, token).await.shown(), "200\n[]", "{path}");
        }
        assert_eq!(world.get(USERS[3], token).await.json()["credits"]["tier"], "trial");
    }
    // Known to own nothing is known also while Stripe is away; a user without a customer needs no Stripe at all.
    world.stripe.as_ref().expect("a sandbox").faults().push(always(status(500, None)));
    for token in [&none, &unknown] {
        assert_eq!(world.get(USERS[1], token).await.shown(), "200\n[]");
    }
}

#[tokio::test]
async fn readyz_names_the_mirror_until_it_was_read_to_its_end() {
    let world = World::planned(Plan { limits: impatient, ..Plan::default() }).await;
    let ready = async || {
        let answer = world.get_anonymous("/readyz").await;
        (answer.status, answer.json())
    };
    let (code, told) = ready().await;
    assert_eq!((code, &told["ready"], &told["missing"][0]["part"]), (503, &json!(false), &json!("mirror")), "{told}");
    let faults = world.stripe.as_ref().expect("a sandbox").faults();
    faults.push(always(status(401, None)));
    world.sync_result().await.expect_err("the key was revoked");
    let (code, told) = ready().await;
    assert_eq!((code, &told["missing"][0]["part"]), (503, &json!("mirror")));
    assert!(told["missing"][0]["detail"].as_str().is_some_and(|why| why.contains("key")), "F-34: {told}");
    assert_eq!(told["facts"]["stripe"]["last_error"], "stripe.auth");
    faults.clear();
    world.sync().await;
    let (code, told) = ready().await;
    assert_eq!((code, &told["ready"], &told["missing"]), (200, &json!(true), &json!([])));
    assert_eq!(told["facts"]["mirror"]["as_of"], FIRST_SYNC);
    // An outage after that is told, and takes nothing away.
    faults.push(always(status(503, None)));
    world.sync_result().await.expect_err("away");
    let (code, told) = ready().await;
    assert_eq!((code, &told["facts"]["stripe"]["answering"]), (200, &json!(false)), "{told}");
}

#[tokio::test]
async fn f33_a_slow_stripe_holds_up_nobody_who_does_not_need_it() {
    let world = World::planned(Plan::default()).await;
    world.sync().await;
    let people = people(&world).await;
    world.stripe.as_ref().expect("a sandbox").faults().push(always(FaultKind::Hang));
    let start = Instant::now();
    let asking = async {
        let answers = eight(&world, &people).await;
        assert!(answers.iter().all(|(_, answer)| answer.status == 200));
        start.elapsed()
    };
    // The sync hangs all the while, for as long as its deadlines let it.
    let took = tokio::select! {
        took = asking => took,
        outcome = world.sync_result() => panic!("{outcome:?}"),
    };
    assert!(took < Duration::from_secs(8), "{took:?}");
}

#[tokio::test]
async fn an_open_breaker_answers_at_once_and_closes_when_stripe_is_back() {
    fn patient(settings: Settings) -> Settings {
        Settings { breaker_pause: Duration::from_millis(200), ..impatient(settings) }
    }
    let world = World::planned(Plan { stripe: Some(Seed::Business), limits: patient, ..Plan::default() }).await;
    let people = people(&world).await;
    let stripe = world.stripe.as_ref().expect("a sandbox");
    stripe.faults().push(always(status(500, None)));
    for _ in 0..5 {
        assert_eq!(world.get(USERS[0], &people.user).await.status, 500);
    }
    stripe.clear_requests();
    let answer = world.get(USERS[0], &people.user).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (500, Some("stripe.unavailable")));
    assert_eq!(stripe.requests(), Vec::new(), "nobody asks a dead server");
    stripe.faults().clear();
    let start = Instant::now();
    while world.get(USERS[0], &people.user).await.status != 200 {
        assert!(start.elapsed() < Duration::from_secs(10), "it never closes");
    }
    world.sync().await;
    assert!(eight(&world, &people).await.iter().all(|(_, answer)| answer.status == 200));
}
