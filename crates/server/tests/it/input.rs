//! What callers may send, and what they hear when it is wrong.

mod document;
mod lists;

use serde_json::Value;

use crate::access::{Operation, session_operations};
use crate::harness::{Answer, Plan, World};

/// Stripe's statuses.
const STATUSES: [&str; 8] =
    ["active", "canceled", "incomplete", "incomplete_expired", "past_due", "paused", "trialing", "unpaid"];

const SUBSCRIPTIONS: &str = "/api/v1/admin/billing/subscriptions";

/// The pointers of a 422.
fn pointers(answer: &Answer) -> Vec<String> {
    assert_eq!((answer.status, answer.json()["code"].as_str()), (422, Some("invalid")), "{}", answer.body);
    let errors = answer.json()["errors"].as_array().expect("errors").clone();
    errors.iter().map(|fault| fault["pointer"].as_str().expect("pointer").to_owned()).collect()
}

// -------------------------------------------------------------------------------------------------------- parameters

/// The operations that take this parameter, with its description.
fn with_parameter(name: &str) -> Vec<(Operation, Value)> {
    let find = |operation: &Operation| {
        let parameters = operation.described["parameters"].as_array().cloned().unwrap_or_default();
        parameters.into_iter().find(|parameter| parameter["name"] == name)
    };
    session_operations().into_iter().filter_map(|operation| find(&operation).map(|found| (operation, found))).collect()
}

#[tokio::test]
async fn s31_limit_is_a_whole_number_in_its_range_at_every_list() {
    let world = World::new().await;
    let admin = world.admin().await;
    let lists = with_parameter("limit");
    assert_eq!(lists.len(), 5);
    for (Operation { path, role, .. }, parameter) in lists {
        let most = if role == "admin" { 1000 } else { 100 };
        assert_eq!(parameter["schema"]["maximum"], most, "{path}: the document says the same");
        for good in [1, 2, most - 1, most] {
            assert_eq!(world.get(&format!("{path}?limit={good}"), &admin).await.status, 200, "{path} {good}");
        }
        let beyond = (most + 1).to_string();
        for bad in [
            "0",
            "-1",
            &beyond,
            "1e9",
            "1.5",
            "abc",
            "%00",
            "",
            "%EF%BC%95",
            "%2B5",
            "+5",
            "05x",
            "0x10",
            "NaN",
            "1%20",
            "99999999999999999999",
            "%ff",
            "1,2",
            "[1]",
        ] {
            let answer = world.get(&format!("{path}?limit={bad}"), &admin).await;
            assert_eq!(pointers(&answer), ["?limit"], "{path} {bad:?}");
        }
    }
}

#[tokio::test]
async fn s29_a_parameter_said_twice_is_refused_and_an_unknown_one_names_nobody() {
    let world = World::new().await;
    let admin = world.admin().await;
    for (Operation { path, .. }, _) in with_parameter("limit") {
        for (query, expected) in [
            ("limit=1&limit=100", vec!["?limit"]),
            ("limit=1&limit=1", vec!["?limit"]),
            ("limit=1&user_id=b&limit=1", vec!["?limit"]),
        ] {
            assert_eq!(pointers(&world.get(&format!("{path}?{query}"), &admin).await), expected, "{path} {query}");
        }
        let plain = world.get(&format!("{path}?limit=3"), &admin).await.shown();
        let more = world.get(&format!("{path}?Limit=9&limit=3&user_id=b&x"), &admin).await;
        if path.contains("/usage") {
            // A filter that is misspelt would show everything.
            assert_eq!(pointers(&more), ["?Limit", "?x"], "{path}");
        } else {
            assert_eq!(more.shown(), plain, "{path}");
        }
    }
    for (query, expected) in [
        ("status=active&status=active", vec!["?status"]),
        ("cursor=a&cursor=a", vec!["?cursor"]),
        ("status=foo&limit=0", vec!["?status", "?limit"]),
        ("status=a&status=b&limit=1&limit=2&cursor=a&cursor=b", vec!["?status", "?limit", "?cursor"]),
    ] {
        assert_eq!(pointers(&world.get(&format!("{SUBSCRIPTIONS}?{query}"), &admin).await), expected, "{query}");
    }
}

#[tokio::test]
async fn s31_a_status_is_one_of_stripes_or_all() {
    let world = World::new().await;
    let admin = world.admin().await;
    for good in STATUSES.into_iter().chain(["all"]) {
        assert_eq!(world.get(&format!("{SUBSCRIPTIONS}?status={good}"), &admin).await.status, 200, "{good}");
    }
    for bad in ["foo", "", "ACTIVE", "active,canceled", "active%00", "none", "ended", "%ff", "'--"] {
        let answer = world.get(&format!("{SUBSCRIPTIONS}?status={bad}"), &admin).await;
        assert_eq!(pointers(&answer), ["?status"], "{bad:?}");
    }
}

// ------------------------------------------------------------------------------------------------------------ cursors

async fn cursor_of(world: &World, token: &str, path: &str) -> String {
    let page = world.get(path, token).await.json();
    page["next_cursor"].as_str().unwrap_or_else(|| panic!("{path} has one page only")).to_owned()
}

#[tokio::test]
async fn s38_a_cursor_opens_its_own_list_with_its_own_filter_for_its_own_admin() {
    let world = World::new().await;
    let admin = world.admin().await;
    let colleague = world.user("other@example.com", None, true).await.1;
    let lists = [
        "/api/v1/admin/billing/customers?limit=2",
        "/api/v1/admin/billing/recent-charges?limit=2",
        "/api/v1/admin/billing/subscriptions?limit=2",
        "/api/v1/admin/billing/subscriptions?limit=2&status=all",
        "/api/v1/admin/billing/subscriptions?limit=2&status=active",
    ];
    for from in lists {
        let cursor = cursor_of(&world, &admin, from).await;
        for to in lists {
            let answer = world.get(&format!("{to}&cursor={cursor}"), &admin).await;
            assert_eq!(answer.status, if from == to { 200 } else { 422 }, "{from} -> {to}");
        }
        assert_eq!(pointers(&world.get(&format!("{from}&cursor={cursor}"), &colleague).await), ["?cursor"]);
        let wider = from.replace("limit=2", "limit=5");
        assert_eq!(world.get(&format!("{wider}&cursor={cursor}"), &admin).await.status, 200, "another limit is fine");
    }
}

#[tokio::test]
async fn s38_a_changed_cursor_opens_nothing() {
    let world = World::new().await;
    let admin = world.admin().await;
    let path = "/api/v1/admin/billing/customers?limit=2";
    let cursor = cursor_of(&world, &admin, path).await;
    let mut bad: Vec<String> = (0..cursor.len())
        .map(|at| {
            let other = if &cursor[at..=at] == "A" { "B" } else { "A" };
            format!("{}{other}{}", &cursor[..at], &cursor[at + 1..])
        })
        .collect();
    bad.extend([
        String::new(),
        "%00".into(),
        "!".into(),
        cursor[1..].to_owned(),
        format!("{cursor}A"),
        "A".repeat(7_000),
    ]);
    bad.push(cursor[..cursor.len() - 1].to_owned());
    for cursor in bad {
        assert_eq!(pointers(&world.get(&format!("{path}&cursor={cursor}"), &admin).await), ["?cursor"], "{cursor}");
    }
}

// ------------------------------------------------------------------------------------------------------------- errors

/// One of each kind of error answer that can be had from outside.
async fn errors(world: &World) -> Vec<(&'static str, Answer)> {
    let user = format!("session_token={}", world.ada().await);
    let get = async |path: &str| world.request("GET", path, &[("cookie", &user)]).await;
    let long = format!("/{}", "a".repeat(9_000));
    let many = format!("x={}", "a".repeat(20_000));
    vec![
        ("401", world.get_anonymous("/api/v1/billing/usage").await),
        (
            "401 of two cookies",
            world.request("GET", "/api/v1/billing/usage", &[("cookie", &format!("{user}; {user}"))]).await,
        ),
        ("403", get("/api/v1/admin/billing/stats").await),
        ("404", get("/api/v1/nothing").await),
        ("404 of the docs", get("/docs/errors/nothing").await),
        ("405", world.request("POST", "/api/v1/billing/usage", &[("cookie", &user)]).await),
        ("413", world.send("POST", "/api/v1/billing/usage", &[], &"a".repeat(1_100_000)).await),
        ("414", get(&long).await),
        ("415", world.send("POST", "/api/v1/billing/usage", &[("content-encoding", "gzip")], "x").await),
        ("421", world.request("GET", "/api/v1/billing/usage", &[("host", "evil.example")]).await),
        ("422", get("/api/v1/billing/invoices?limit=0").await),
        ("431", world.request("GET", "/api/v1/billing/usage", &[("cookie", &many)]).await),
        ("500", a_failing_stripe(world).await),
    ]
}

/// What a user hears when Stripe fails and nothing was ever mirrored.
async fn a_failing_stripe(world: &World) -> Answer {
    let plan = Plan { stripe_base: Some("http://127.0.0.1:9".to_owned()), ..Plan::default() };
    let stranded = World::planned(plan).await;
    assert!(world.stripe.is_some());
    let token = stranded.ada().await;
    stranded.get("/api/v1/billing/subscription", &token).await
}

#[tokio::test]
async fn every_error_is_a_problem_document() {
    let world = World::new().await;
    for (name, answer) in errors(&world).await {
        assert_eq!(answer.status.to_string(), name[..3], "{name}: {}", answer.body);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{name}");
        let problem = answer.json();
        let faults = document::check(&problem, &serde_json::json!({ "$ref": "#/components/schemas/Problem" }));
        assert!(faults.is_empty(), "{name}: {faults:?}");
        assert_eq!(problem["status"], answer.status, "{name}");
        assert_eq!(problem["request_id"].as_str(), answer.header("x-request-id"), "{name}");
        let explained = problem["type"].as_str().expect("type");
        assert_eq!(explained.rsplit('/').next(), problem["code"].as_str(), "{name}");
        assert_eq!(world.get_anonymous(explained).await.status, 200, "{name}: the type leads to its explanation");
        assert_eq!(answer.status == 401, answer.header("www-authenticate").is_some(), "{name}");
        assert_eq!(answer.status == 500, answer.header("retry-after").is_some(), "{name}");
    }
}

#[tokio::test]
async fn an_unknown_path_is_the_same_404_for_everybody() {
    let world = World::new().await;
    let admin = world.admin().await;
    let expected = world.get_anonymous("/api/v1/nothing").await.shown();
    assert!(expected.starts_with("404\n"), "{expected}");
    for path in [
        "/api",
        "/api/v1/billing",
        "/api/v1/billing/subscription/",
        "/api/v1/billing/subscription/x",
        "/API/v1/billing/usage",
        "//api/v1/billing/usage",
        "/api/v1/billing/%75sage/x",
        "/api/v2/billing/usage",
        "/index.html",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/docs/..%2f..%2fCargo.toml",
        "/api/v1/admin/billing",
        "/%00",
        "/%ff",
    ] {
        assert_eq!(world.get_anonymous(path).await.shown(), expected, "{path}");
        assert_eq!(world.get(path, &admin).await.shown(), expected, "{path}");
    }
}
