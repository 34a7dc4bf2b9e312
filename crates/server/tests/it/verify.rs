//! The comparison with Stripe finds whatever differs, names it, mends it, and says nothing where nothing does.

use billhook::clock::{Clock, System};
use billhook::ops::doctor::{self, State};
use billhook::ops::verify::difference::Difference;
use billhook::ops::verify::{self, Mode, Verified, sampling};
use serde_json::json;

use crate::harness::program::Program;
use crate::harness::{Database, Plan, World};
use crate::webhooks::account::{Account, Dice, Road};
use crate::webhooks::{drain, in_front_of, mirrored, now};

async fn compare(world: &World, mode: Mode) -> (Verified, Vec<Difference>) {
    let mut found = Vec::new();
    let verified = verify::run(&world.app, mode, &mut |difference: &Difference| found.push(difference.clone()))
        .await
        .expect("compared");
    (verified, found)
}

/// Changes a row past every rule.
async fn tamper(world: &World, sql: &'static str) {
    let changed = world.app.db.write(move |tx| tx.run(sql, &[])).await.expect("a write");
    assert_eq!(changed, 1, "{sql}");
}

/// `list object field`, for each difference.
fn named(found: &[Difference]) -> Vec<String> {
    found.iter().map(|one| format!("{} {} {}", one.resource.name(), one.id, one.field)).collect()
}

#[tokio::test]
async fn the_mirror_of_the_little_business_does_not_differ() {
    for database in [Database::sqlite(), Database::postgres()] {
        let world = World::planned(Plan { database, ..Plan::default() }).await;
        world.sync().await;
        let (verified, found) = compare(&world, Mode::Compare).await;
        assert_eq!(named(&found), Vec::<String>::new());
        assert!(verified.objects > 500 && verified.uncompared.is_empty(), "{verified:?}");
    }
}

#[tokio::test]
async fn whatever_differs_is_named_and_mended() {
    let world = World::new().await;
    let cases = [
        (
            "UPDATE subscriptions SET status = 'canceled', ended = 1 WHERE id = 'sub_sandbox_061'",
            vec!["subscriptions sub_sandbox_061 row.status", "subscriptions sub_sandbox_061 row.ended"],
        ),
        (
            "UPDATE customers SET email = 'eve@example.com' WHERE id = 'cus_sandbox_110'",
            vec!["customers cus_sandbox_110 row.email"],
        ),
        (
            "UPDATE raw_objects SET raw = REPLACE(raw, '\"delinquent\":false', '\"delinquent\":true') WHERE id = 'cus_sandbox_111'",
            vec!["customers cus_sandbox_111 delinquent"],
        ),
        (
            "UPDATE payment_methods SET deleted = 1 WHERE id = 'pm_sandbox_user'",
            vec!["payment_methods pm_sandbox_user "],
        ),
        (
            "INSERT INTO customers (id, created, metadata, deleted, run, fingerprint) VALUES ('cus_ghost', 5, '{}', 0, 1, 1)",
            vec!["customers cus_ghost "],
        ),
    ];
    for (sql, fields) in &cases {
        tamper(&world, sql).await;
        let (verified, found) = compare(&world, Mode::Compare).await;
        assert_eq!((named(&found), verified.different), (fields.iter().map(ToString::to_string).collect(), 1), "{sql}");
        let (_, again) = compare(&world, Mode::Compare).await;
        assert_eq!(named(&again), named(&found), "comparing changes nothing");
        let (_, mended) = compare(&world, Mode::Repair).await;
        assert_eq!(named(&mended), named(&found), "it says what it changed");
        let (_, none) = compare(&world, Mode::Compare).await;
        assert_eq!(named(&none), Vec::<String>::new(), "{sql}");
        let wrong = doctor::examine(&world.app).await.expect("a report").0;
        let counted = |check: &doctor::Check| matches!(check.check, "totals" | "counts");
        assert!(wrong.iter().filter(|check| counted(check)).all(|check| check.state == State::Ok), "{sql}: {wrong:?}");
    }
}

#[tokio::test]
async fn the_totals_follow_a_repair() {
    let world = World::new().await;
    let admin = world.admin().await;
    let stats = || world.get("/api/v1/admin/billing/stats", &admin);
    let before = stats().await.json()["monthly_revenue"].to_string();
    tamper(&world, "UPDATE subscriptions SET monthly_minor = 1 WHERE id = 'sub_sandbox_061'").await;
    compare(&world, Mode::Repair).await;
    assert_eq!(stats().await.json()["monthly_revenue"].to_string(), before);
    let wrong = doctor::examine(&world.app).await.expect("a report").0;
    assert!(
        wrong.iter().all(|check| !matches!(check.check, "totals" | "counts") || check.state == State::Ok),
        "{wrong:?}"
    );
}

#[tokio::test]
async fn an_event_that_is_under_way_is_no_difference() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    account.put("customers", "cus_1", &json!({}));
    let told = account.put("customers", "cus_1", &json!({"name": "Ann"}));
    assert_eq!(crate::webhooks::deliver(&world, &told.body).await.status, 200);
    let ((_, found), drained) = tokio::join!(compare(&world, Mode::Compare), async {
        tokio::time::sleep(std::time::Duration::from_millis(600)).await;
        drain(&world).await
    });
    assert_eq!((named(&found), drained.applied), (Vec::new(), 1));
}

#[tokio::test]
async fn a_mirror_that_changes_while_it_is_compared_does_not_differ() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    for n in 0..150 {
        account.put("customers", &format!("cus_{n}"), &json!({}));
    }
    world.sync().await;
    account.inside().road = Some(Road::open(Dice::new(5), std::time::Duration::from_millis(50)));
    let changes = async {
        for n in 0..60 {
            let told = account.put("customers", &format!("cus_{}", n * 2), &json!({ "name": format!("n{n}") }));
            crate::webhooks::deliver(&world, &told.body).await;
            drain(&world).await;
        }
    };
    let ((verified, found), ()) = tokio::join!(compare(&world, Mode::Compare), changes);
    assert_eq!((named(&found), verified.different), (Vec::new(), 0));
}

#[tokio::test]
async fn the_sampling_comes_to_every_object_and_mends_what_differs() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    for n in 0..30 {
        account.put("customers", &format!("cus_{n:02}"), &json!({}));
    }
    world.sync().await;
    tamper(&world, "UPDATE customers SET name = 'Eve' WHERE id = 'cus_17'").await;
    account.put("customers", "cus_29", &json!({"name": "unheard"}));
    let mut different = 0;
    for _ in 0..12 {
        different += sampling::step(&world.app, 12).await.expect("a step");
    }
    assert_eq!(different, 2);
    assert_eq!(
        mirrored(&world, billhook::store::mirror::Resource::Customers, "cus_29").await.unwrap()["name"],
        "unheard"
    );
    let facts = sampling::facts(&world.app).await.expect("facts");
    assert_eq!((&facts["different"], &facts["fault"]), (&json!(2), &json!(null)));
    let report = doctor::examine(&world.app).await.expect("a report").0;
    assert!(report.iter().any(|check| check.check == "verify" && check.state == State::Warn), "{report:?}");
    account.inside().trouble = Some(500);
    let mut silent = false;
    for _ in 0..12 {
        silent |= sampling::step(&world.app, 12).await.is_err();
    }
    assert!(silent && !sampling::facts(&world.app).await.expect("facts")["fault"].is_null());
}

#[tokio::test]
async fn the_command_ends_with_one_where_something_differs_and_with_nought_once_it_is_mended() {
    let account = Account::open(now());
    account.put("customers", "cus_1", &json!({"name": "Ann", "email": "ann@example.com"}));
    account.put("products", "prod_1", &json!({"name": "Pro"}));
    let program = Program::at_stripe(&account.base());
    assert_eq!(program.run(&["sync"]).code, Some(0));
    let done = program.run(&["verify"]);
    assert_eq!((done.code, done.line()), (Some(0), "2 objects compared, 0 differ"));
    account.put("customers", "cus_1", &json!({"name": "Bea"}));
    account.delete("products", "prod_1");
    let done = program.run(&["verify", "--json"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    let lines = done.objects();
    assert_eq!((&lines[0]["list"], &lines[0]["object"]), (&json!("products"), &json!("prod_1")));
    assert_eq!(
        (&lines[1]["field"], &lines[1]["ours"], &lines[1]["theirs"]),
        (&json!("name"), &json!("\"Ann\""), &json!("\"Bea\""))
    );
    assert_eq!(lines[2], json!({"objects": 1, "different": 2, "repaired": 0, "not_compared": []}));
    let done = program.run(&["verify", "--repair"]);
    assert_eq!((done.code, done.stdout.lines().count()), (Some(0), 3), "{done:?}");
    assert!(done.stdout.contains("changed  customers  cus_1  name: ours \"Ann\", Stripe's \"Bea\""), "{}", done.stdout);
    assert_eq!(program.run(&["verify"]).code, Some(0));
}

/// A proxy's page in the place of lists, and a server that says itself that it has no such list.
#[tokio::test]
async fn what_cannot_be_compared_is_named_and_never_said_to_agree() {
    let account = Account::open(now());
    account.put("customers", "cus_1", &json!({"name": "Ann", "email": "ann@example.com"}));
    account.put("invoices", "in_1", &json!({"status": "open", "amount_due": 100, "currency": "usd"}));
    let program = Program::at_stripe(&account.base());
    assert_eq!(program.run(&["sync"]).code, Some(0));
    let page = || (404, "<html>no such page</html>".to_owned());
    let summary = |done: &crate::harness::program::Done| done.objects().pop().expect("a summary");
    let set = |sql: &str| assert_eq!(program.database().execute(sql, []).expect(sql), 1, "{sql}");

    // One list is not there, and its row is spoilt.
    account.inside().instead.extend([("invoices".to_owned(), page()), ("invoices/in_1".to_owned(), page())]);
    set("UPDATE invoices SET amount_due = 1");
    let done = program.run(&["verify", "--json"]);
    let told = summary(&done);
    assert_eq!((done.code, &told["objects"], &told["different"]), (Some(2), &json!(1), &json!(0)), "{done:?}");
    assert_eq!(told["not_compared"][0]["list"], "invoices");
    assert!(told["not_compared"][0]["reason"].as_str().is_some_and(|why| why.contains("404")), "{told}");
    let done = program.run(&["verify"]);
    assert!(done.stdout.contains("not compared  invoices  the list: ") && done.code == Some(2), "{done:?}");

    // A difference elsewhere weighs more, and both are said.
    set("UPDATE customers SET name = 'Eve'");
    let done = program.run(&["verify", "--json"]);
    assert_eq!((done.code, &summary(&done)["not_compared"][0]["list"]), (Some(1), &json!("invoices")), "{done:?}");
    set("UPDATE customers SET name = 'Ann'");

    // The list is there, and one object is not shown.
    account.inside().instead.remove("invoices");
    let done = program.run(&["verify", "--json"]);
    assert_eq!((done.code, &summary(&done)["not_compared"][0]["object"]), (Some(2), &json!("in_1")), "{done:?}");
    set("UPDATE invoices SET amount_due = 100");
    account.inside().instead.clear();
    assert_eq!(program.run(&["verify"]).code, Some(0));

    // Stripe's own word for a list of which nothing is mirrored: nothing can differ there.
    let absent = crate::webhooks::account::refusal("", "Unrecognized request URL (GET: /v1/refunds).");
    account.inside().instead.insert("refunds".to_owned(), absent.clone());
    let done = program.run(&["verify", "--json"]);
    assert_eq!((done.code, &summary(&done)["not_compared"][0]["list"]), (Some(0), &json!("refunds")), "{done:?}");

    // Nothing is there at all, in whatever words.
    for answer in [page(), absent, (500, String::new())] {
        for list in
            ["coupons", "products", "prices", "plans", "customers", "subscriptions", "invoices", "charges", "refunds"]
        {
            account.inside().instead.insert(list.to_owned(), answer.clone());
        }
        account.inside().instead.insert("customers/cus_1/payment_methods".to_owned(), answer.clone());
        account.inside().instead.insert("payment_methods".to_owned(), answer.clone());
        let done = program.run(&["verify", "--json"]);
        let told = summary(&done);
        assert_eq!(
            (done.code, told["not_compared"].as_array().map(Vec::len)),
            (Some(2), Some(9)),
            "{answer:?}: {done:?}"
        );
    }
}

#[tokio::test]
async fn the_sampling_says_what_it_could_not_compare_and_goes_on() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    for n in 0..4 {
        account.put("customers", &format!("cus_{n}"), &json!({}));
    }
    world.sync().await;
    account.put("customers", "cus_3", &json!({"name": "unheard"}));
    let page = (404, "<html>no such page</html>".to_owned());
    account.inside().instead.insert("customers/cus_1".to_owned(), page);
    let trouble = (500, r#"{"error":{"type":"api_error","message":"of this one"}}"#.to_owned());
    account.inside().instead.insert("customers/cus_2".to_owned(), trouble);
    let mut different = 0;
    for _ in 0..9 {
        different += sampling::step(&world.app, 12).await.expect("a step");
    }
    assert_eq!(different, 1, "whoever comes after them has their turn");
    let facts = sampling::facts(&world.app).await.expect("facts");
    assert!(facts["fault"].as_str().is_some_and(|fault| fault.starts_with("customers cus_2: ")), "{facts}");
    assert_eq!(
        (&facts["compared"], world.app.webhooks.uncompared.load(std::sync::atomic::Ordering::Relaxed)),
        (&json!(2), 2)
    );
    account.inside().instead.clear();
    for _ in 0..9 {
        sampling::step(&world.app, 12).await.expect("a step");
    }
    assert_eq!(sampling::facts(&world.app).await.expect("facts")["fault"], json!(null));
}

#[tokio::test]
async fn the_mirrors_age_is_a_number_for_everybody() {
    let account = Account::open(System.now().as_second());
    account.put("customers", "cus_1", &json!({}));
    let listen = format!("127.0.0.1:{}", crate::leaks::free_port());
    let program = Program::at_stripe(&account.base()).with("BILLHOOK_METRICS_LISTEN", &listen);
    let running = program.start(&["serve", "--listen", "127.0.0.1:0"]);
    let base = running.stderr.base();
    let http = crate::harness::client();
    let ask = async |url: String| crate::harness::send(&http, "GET", &url, &[], "").await.body;
    let start = std::time::Instant::now();
    let numbers = loop {
        let numbers = ask(format!("http://{listen}/metrics")).await;
        let number =
            |line: &str| numbers.lines().find_map(|found| found.strip_prefix(line)?.trim().parse::<i64>().ok());
        if number("billhook_mirror_age_seconds{list=\"subscriptions\"}").is_some_and(|age| (0..60).contains(&age)) {
            break numbers;
        }
        assert!(start.elapsed() < std::time::Duration::from_secs(40), "{numbers}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    for name in ["billhook_mirror_age_seconds", "billhook_verify_age_seconds", "billhook_stripe_clock_skew_seconds"] {
        assert!(
            numbers.contains(&format!("# HELP {name} ")) && numbers.contains(&format!("# TYPE {name} gauge")),
            "{numbers}"
        );
    }
    let ready: serde_json::Value = serde_json::from_str(&ask(format!("{base}/readyz")).await).expect("JSON");
    assert!(ready["facts"]["mirror"]["age_s"].as_i64().is_some_and(|age| age < 60), "{ready}");
    assert_eq!(running.stop().code, Some(0));
}

/// F-49: the clock was an hour ahead when the mirror was read and the events were swept, and Stripe is gone since.
#[tokio::test]
async fn f49_no_age_on_the_page_of_numbers_is_negative_after_the_clock_went_back() {
    let account = Account::open(System.now().as_second());
    account.put("customers", "cus_1", &json!({}));
    let listen = format!("127.0.0.1:{}", crate::leaks::free_port());
    let mut program = Program::at_stripe(&account.base()).with("BILLHOOK_METRICS_LISTEN", &listen);
    assert_eq!(program.run(&["sync"]).code, Some(0));
    let hour_ahead = System.now().as_second() + 3_600;
    for sql in ["UPDATE syncs SET as_of = ?1", "UPDATE event_sweep SET swept_at = ?1"] {
        assert!(program.database().execute(sql, [hour_ahead]).expect(sql) > 0, "{sql}");
    }
    program.set("STRIPE_API_BASE", &format!("http://127.0.0.1:{}", crate::leaks::free_port()));
    let running = program.start(&["serve", "--listen", "127.0.0.1:0"]);
    running.stderr.base();
    let http = crate::harness::client();
    let start = std::time::Instant::now();
    loop {
        let page = crate::harness::send(&http, "GET", &format!("http://{listen}/metrics"), &[], "").await.body;
        let of = |line: &str| page.lines().find_map(|found| found.strip_prefix(line)?.trim().parse::<i64>().ok());
        // Until somebody has looked, there is none: -1.
        let ages = [of("billhook_mirror_age_seconds{list=\"customers\"}"), of("billhook_sweep_age_seconds")];
        if ages == [Some(0); 2] {
            break;
        }
        assert!(ages.iter().flatten().all(|age| *age == -1), "{page}");
        assert!(start.elapsed() < std::time::Duration::from_secs(40), "{page}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(running.stop().code, Some(0));
}

#[tokio::test]
async fn the_inbox_is_visible_on_the_command_line() {
    let account = Account::open(now());
    let program = Program::at_stripe(&account.base());
    assert_eq!(program.run(&["migrate"]).code, Some(0));
    let insert = "INSERT INTO webhook_events (id, type, resource, object_id, created, source, received_ms, state, attempts, next_ms,
        settled_ms, reason, raw) VALUES (?1, 'customer.updated', 'customers', 'cus_1', 5, 0, ?2, ?3, 8, 0, ?4, ?5, ?6)";
    let raw = r#"{"id":"evt_3","object":"event","type":"customer.updated","created":5,"data":{"object":{"id":"cus_1","object":"customer"}}}"#;
    let database = program.database();
    for (id, at, state, settled, reason) in [
        ("evt_1", 1, 0, None, None),
        ("evt_2", 2, 2, None, Some("a live event")),
        ("evt_3", 3, 3, Some(9), Some("403")),
    ] {
        database
            .execute(insert, rusqlite::params![id, at, state, settled, reason, raw.replace("evt_3", id)])
            .expect("a row");
    }
    let ids = |args: &[&str]| {
        program.run(args).objects().iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&["webhooks", "list", "--json"]), ["evt_3", "evt_2", "evt_1"]);
    assert_eq!(ids(&["webhooks", "list", "--json", "--limit", "1"]), ["evt_3"]);
    assert_eq!(ids(&["webhooks", "list", "--json", "--state", "quarantined"]), ["evt_2"]);
    assert_eq!(ids(&["webhooks", "dead", "--json"]), ["evt_3"]);
    let shown = program.run(&["webhooks", "show", "evt_3", "--json"]).objects().remove(0);
    assert_eq!((&shown["reason"], &shown["event"]["data"]["object"]["id"]), (&json!("403"), &json!("cus_1")));
    assert_eq!(program.run(&["webhooks", "show", "evt_9"]).code, Some(1));
    assert_eq!(program.run(&["webhooks", "replay", "--all"]).line(), "1 events are applied once more");
    assert_eq!(ids(&["webhooks", "dead", "--json"]), Vec::<String>::new());
    assert_eq!(program.run(&["webhooks", "replay", "evt_2"]).line(), "1 events are applied once more");
    assert_eq!(program.run(&["webhooks", "replay"]).code, Some(2));
    let done = program.run(&["doctor", "--json"]);
    assert!(done.stdout.contains(r#""check":"webhooks""#), "{}", done.stdout);
}
