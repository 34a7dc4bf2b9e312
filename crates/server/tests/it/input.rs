//! What callers may send, what they hear when it is wrong, and that lists are whole: pages against a naive model.

use std::collections::BTreeMap;

use billhook::store::charges::{self, Charge};
use billhook::store::customers::{self, Customer};
use billhook::store::mirror::{Resource, Seen};
use billhook::store::subscriptions::{self, Subscription};
use billing::subscription::Status;
use jiff::Timestamp;
use serde_json::Value;

use crate::access::{Operation, operations};
use crate::endpoints::use_some;
use crate::harness::{Answer, Database, Plan, World};

/// Stripe's statuses, and those after which nothing comes.
const STATUSES: [&str; 8] =
    ["active", "canceled", "incomplete", "incomplete_expired", "past_due", "paused", "trialing", "unpaid"];
const ENDED: [&str; 2] = ["canceled", "incomplete_expired"];

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
    operations().into_iter().filter_map(|operation| find(&operation).map(|found| (operation, found))).collect()
}

#[tokio::test]
async fn s31_limit_is_a_whole_number_in_its_range_at_every_list() {
    let world = World::new().await;
    let admin = world.admin().await;
    let lists = with_parameter("limit");
    assert_eq!(lists.len(), 4);
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
async fn s29_a_parameter_said_twice_is_refused_and_an_unknown_one_is_nobodys() {
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
        assert_eq!(world.get(&format!("{path}?Limit=9&limit=3&user_id=b&x"), &admin).await.shown(), plain, "{path}");
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

// -------------------------------------------------------------------------------------------- lists against a naive model

/// Numbers that are the same at every run with the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

/// A row as the model knows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Made {
    created: i64,
    id: String,
    status: &'static str,
}

/// Few seconds for many rows, so that ties are the rule.
fn made(dice: &mut Dice) -> Made {
    Made {
        created: 1_790_000_000 + i64::try_from(dice.below(5)).expect("small"),
        id: format!("{:012x}", dice.below(1 << 48)),
        status: STATUSES[usize::try_from(dice.below(8)).expect("small")],
    }
}

#[derive(Debug, Clone, Copy)]
enum List {
    Customers,
    Charges,
    Subscriptions(Option<&'static str>),
}

impl List {
    fn path(self) -> String {
        match self {
            Self::Customers => "/api/v1/admin/billing/customers?".to_owned(),
            Self::Charges => "/api/v1/admin/billing/recent-charges?".to_owned(),
            Self::Subscriptions(None) => format!("{SUBSCRIPTIONS}?"),
            Self::Subscriptions(Some(status)) => format!("{SUBSCRIPTIONS}?status={status}&"),
        }
    }

    fn key(self) -> &'static str {
        match self {
            Self::Customers => "customers",
            Self::Charges => "charges",
            Self::Subscriptions(_) => "subscriptions",
        }
    }

    fn shows(self, row: &Made) -> bool {
        match self {
            Self::Customers | Self::Charges | Self::Subscriptions(Some("all")) => true,
            Self::Subscriptions(None) => !ENDED.contains(&row.status),
            Self::Subscriptions(Some(status)) => row.status == status,
        }
    }

    /// The ids that the list has, newest first.
    fn model(self, rows: &[Made]) -> Vec<String> {
        let mut rows: Vec<&Made> = rows.iter().filter(|row| self.shows(row)).collect();
        rows.sort_by(|a, b| b.cmp(a));
        rows.into_iter().map(|row| row.id.clone()).collect()
    }
}

/// Writes rows to all three lists, as a sync would.
async fn write(world: &World, rows: &[Made]) {
    let rows = rows.to_vec();
    let work = move |tx: &mut billhook::store::Tx<'_>| {
        for row in &rows {
            let created = Timestamp::from_second(row.created).expect("instant");
            // Ids are unique over all kinds at Stripe; here a letter in front does it.
            let (c, h, s) = (format!("c{}", row.id), format!("h{}", row.id), format!("s{}", row.id));
            let seen = |resource, id| Seen { resource, id, raw: "{}", run: 1 };
            customers::save(tx, seen(Resource::Customers, &c), &customer(&c, created))?;
            charges::save(tx, seen(Resource::Charges, &h), &charge(&h, created))?;
            subscriptions::save(tx, seen(Resource::Subscriptions, &s), &subscription(&s, row.status, created), &[])?;
        }
        Ok(())
    };
    world.app.db.write(work).await.expect("written");
}

fn customer(id: &str, created: Timestamp) -> Customer {
    Customer { id: id.to_owned(), email: None, name: None, created, metadata: BTreeMap::new() }
}

fn charge(id: &str, created: Timestamp) -> Charge {
    Charge {
        id: id.to_owned(),
        customer: None,
        amount: Some(100),
        amount_refunded: None,
        currency: Some("usd".to_owned()),
        status: None,
        description: None,
        created,
        paid: true,
        refunded: false,
    }
}

fn subscription(id: &str, status: &str, created: Timestamp) -> Subscription {
    Subscription {
        id: id.to_owned(),
        customer: None,
        status: Status::parse(status),
        tier: "starter".to_owned(),
        currency: "usd".to_owned(),
        amount_minor: None,
        interval: None,
        interval_count: None,
        monthly_minor: 0,
        value_until: None,
        period: None,
        anchor: None,
        cancel_at_period_end: false,
        created,
        fault: None,
    }
}

/// Walks a list to its end while rows appear, and holds every page against the model.
async fn walk(world: &World, token: &str, list: List, rows: &mut Vec<Made>, dice: &mut Dice) {
    let at_start = list.model(rows);
    let limit = usize::try_from(1 + dice.below(20)).expect("small");
    let (mut found, mut path) = (Vec::new(), format!("{}limit={limit}", list.path()));
    loop {
        let page = world.get(&path, token).await.json();
        let ids: Vec<String> = page[list.key()]
            .as_array()
            .unwrap_or_else(|| panic!("{page}"))
            .iter()
            .map(|row| row["id"].as_str().expect("id")[1..].to_owned())
            .collect();
        assert_eq!(page["total"], list.model(rows).len(), "{list:?}: the total is of all that match, at every page");
        assert_eq!(page["has_more"], page["next_cursor"].is_string(), "{list:?}");
        assert!(ids.len() == limit || page["has_more"] == false && ids.len() < limit, "{list:?}");
        found.extend(ids);
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("{}limit={limit}&cursor={cursor}", list.path());
        let appearing: Vec<Made> = (0..dice.below(4)).map(|_| made(dice)).collect();
        write(world, &appearing).await;
        rows.extend(appearing);
    }
    let mut distinct = found.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), found.len(), "{list:?}: a row came twice");
    let known: Vec<String> = found.iter().filter(|id| at_start.contains(id)).cloned().collect();
    assert_eq!(known, at_start, "{list:?} by {limit}: what was there at the start comes once and in order");
    let now = list.model(rows);
    assert!(now.iter().filter(|id| found.contains(id)).eq(found.iter()), "{list:?}: the whole walk is in order");
}

async fn pages_hold_against_the_model(database: Database, seed: u64) {
    let world = World::planned(Plan { database, stripe: None, ..Plan::default() }).await;
    let admin = world.admin().await;
    let mut dice = Dice(seed);
    let mut rows: Vec<Made> = (0..60).map(|_| made(&mut dice)).collect();
    write(&world, &rows).await;
    let filters = STATUSES.into_iter().chain(["all"]).map(|status| List::Subscriptions(Some(status)));
    for list in filters.chain([List::Customers, List::Charges, List::Subscriptions(None)]) {
        walk(&world, &admin, list, &mut rows, &mut dice).await;
    }
}

#[tokio::test]
async fn i15_i16_pages_are_the_naive_list_while_rows_appear() {
    for seed in [1, 7, 2026, 0xb111_4004] {
        pages_hold_against_the_model(Database::sqlite(), seed).await;
    }
}

#[tokio::test]
async fn i15_i16_pages_are_the_naive_list_while_rows_appear_on_postgres() {
    pages_hold_against_the_model(Database::postgres(), 11).await;
}

#[tokio::test]
async fn the_default_of_subscriptions_is_what_has_not_ended() {
    let world = World::new().await;
    let admin = world.admin().await;
    let rows = async |query: &str| {
        let page = world.get(&format!("{SUBSCRIPTIONS}?limit=1000{query}"), &admin).await.json();
        let rows = page["subscriptions"].as_array().expect("rows").clone();
        assert_eq!(page["total"], rows.len(), "{query}");
        rows
    };
    let (running, all) = (rows("").await, rows("&status=all").await);
    let expected: Vec<Value> =
        all.iter().filter(|row| !ENDED.contains(&row["status"].as_str().expect("status"))).cloned().collect();
    assert!(expected.len() < all.len(), "the little business has ended subscriptions");
    assert_eq!(running, expected);
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
        let faults = check(&problem, &serde_json::json!({ "$ref": "#/components/schemas/Problem" }));
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

// ------------------------------------------------------------------------------------------- answers against the document

/// What a value breaks of a schema of the document; nothing when it fits. Stricter than the standard in one point: a member
/// that the schema does not name is a fault.
fn check(value: &Value, schema: &Value) -> Vec<String> {
    let document = billhook::http::openapi::document();
    let mut faults = Vec::new();
    hold(&document, value, schema, "", &mut faults);
    faults
}

fn hold(document: &Value, value: &Value, schema: &Value, at: &str, faults: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let target = document.pointer(name.trim_start_matches('#')).unwrap_or_else(|| panic!("{name} leads nowhere"));
        return hold(document, value, target, at, faults);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let fits = |choice: &&Value| {
            let mut found = Vec::new();
            hold(document, value, choice, at, &mut found);
            found.is_empty()
        };
        if choices.iter().filter(fits).count() != 1 {
            faults.push(format!("{at}: {value} is not exactly one of {}", schema["oneOf"]));
        }
        return;
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        other => panic!("{at}: a schema without a type: {other} in {schema}"),
    };
    if !types.iter().any(|name| is_of(value, name)) {
        faults.push(format!("{at}: {value} is not {types:?}"));
        return;
    }
    if schema["format"] == "date-time" && !value.as_str().is_some_and(is_time) {
        faults.push(format!("{at}: {value} is not a time"));
    }
    if schema["minimum"].as_i64().is_some_and(|least| value.as_i64().is_some_and(|number| number < least)) {
        faults.push(format!("{at}: {value} is below {}", schema["minimum"]));
    }
    for (number, item) in value.as_array().into_iter().flatten().enumerate() {
        hold(document, item, &schema["items"], &format!("{at}/{number}"), faults);
    }
    if let Some(members) = value.as_object() {
        hold_members(document, members, schema, at, faults);
    }
}

fn hold_members(
    document: &Value,
    members: &serde_json::Map<String, Value>,
    schema: &Value,
    at: &str,
    faults: &mut Vec<String>,
) {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let missing = required.iter().filter_map(Value::as_str).filter(|name| !members.contains_key(*name));
    faults.extend(missing.map(|name| format!("{at}/{name} is missing")));
    for (name, member) in members {
        let named = &schema["properties"][name];
        let schema = if named.is_null() { &schema["additionalProperties"] } else { named };
        match schema {
            Value::Null | Value::Bool(_) => faults.push(format!("{at}/{name} is not in the document")),
            schema => hold(document, member, schema, &format!("{at}/{name}"), faults),
        }
    }
}

fn is_of(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("unknown type {other}"),
    }
}

/// RFC 3339, UTC, whole seconds, `Z`.
fn is_time(text: &str) -> bool {
    text.len() == 20 && text.ends_with('Z') && text.parse::<Timestamp>().is_ok()
}

#[test]
fn the_checker_finds_what_is_planted() {
    let schema = serde_json::json!({ "$ref": "#/components/schemas/PaymentMethod" });
    let good = serde_json::json!({ "id": "pm_1", "type": "card", "card": null, "created": "2026-11-22T10:00:00Z" });
    assert_eq!(check(&good, &schema), [""; 0]);
    for (pointer, value) in [
        ("/id", serde_json::json!(7)),
        ("/created", serde_json::json!("2026-11-22T10:00:00.5Z")),
        ("/card", serde_json::json!("none")),
        ("/card", serde_json::json!({ "last4": 4242 })),
        ("/type", Value::Null),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).expect("member") = value;
        assert_eq!(check(&bad, &schema).len(), 1, "{bad}");
    }
    for bad in [
        serde_json::json!({ "id": "pm_1", "type": "card" }),
        serde_json::json!([]),
        serde_json::json!({ "id": "p", "type": "c", "created": "2026-11-22T10:00:00Z", "more": 1 }),
    ] {
        assert_eq!(check(&bad, &schema).len(), 1, "{bad}");
    }
}

/// Every member that a schema names, followed through references: what an answer must not leave out, null or not.
fn leaves_out(value: &Value, schema: &Value, at: &str, faults: &mut Vec<String>) {
    let document = billhook::http::openapi::document();
    let mut schema = schema.clone();
    while let Some(name) = schema["$ref"].as_str().map(str::to_owned) {
        schema = document.pointer(name.trim_start_matches('#')).expect("target").clone();
    }
    for item in value.as_array().into_iter().flatten() {
        leaves_out(item, &schema["items"], &format!("{at}/-"), faults);
    }
    for (name, member) in schema["properties"].as_object().into_iter().flatten().filter(|_| value.is_object()) {
        match value.get(name) {
            None => faults.push(format!("{at}/{name}")),
            Some(found) => leaves_out(found, member, &format!("{at}/{name}"), faults),
        }
    }
}

#[tokio::test]
async fn every_answer_of_every_operation_fits_the_document() {
    let world = World::new().await;
    let (user, ada) = world.user("ada@example.com", Some(sandbox::USER_CUSTOMER), false).await;
    use_some(&world, &user).await;
    let (admin, nobody) = (world.admin().await, world.user("nobody@here.test", None, false).await.1);
    let mut looked_at = 0;
    for Operation { path, role, described, .. } in operations() {
        let schema = &described["responses"]["200"]["content"]["application/json"]["schema"];
        let tokens = if role == "admin" { vec![&admin] } else { vec![&ada, &admin, &nobody] };
        let queries = if path == SUBSCRIPTIONS { vec!["", "?status=all&limit=1000", "?limit=1"] } else { vec![""] };
        for (token, query) in tokens.iter().flat_map(|token| queries.iter().map(move |query| (token, query))) {
            let answer = world.get(&format!("{path}{query}"), token).await;
            assert_eq!(answer.header("content-type"), Some("application/json"), "{path}");
            let mut faults = check(&answer.json(), schema);
            leaves_out(&answer.json(), schema, "", &mut faults);
            assert!(faults.is_empty(), "{path}{query}: {faults:#?}");
            looked_at += 1;
        }
    }
    assert_eq!(looked_at, 4 * 3 + 3 + 3);
}
