//! The eight endpoints, status and body, on the little business.

use billhook::ops::usage::Verdict;

use crate::harness::{Plan, World, event};

/// What the sandbox's user has used: 450 + 120 + 10 + 5, of which 15 + 5 today.
pub async fn use_some(world: &World, user: &str) {
    let today = world.now();
    let earlier = today - jiff::SignedDuration::from_hours(48);
    let rows = [
        ("inference", "15", today),
        ("embedding", "5", today),
        ("inference", "435", earlier),
        ("embedding", "115", earlier),
        ("tts", "10", earlier),
        ("stt", "5", earlier),
    ];
    let rows = rows.into_iter().enumerate();
    let told = rows.map(|(number, (kind, quantity, at))| event(&format!("event-{number}"), user, kind, quantity, at));
    for verdict in billhook::ops::usage::record(&world.app, told.collect()).await.expect("recorded") {
        assert!(matches!(verdict, Verdict::Recorded { late: false, .. }), "{verdict:?}");
    }
}

#[tokio::test]
async fn the_users_four() {
    let world = World::new().await;
    let (user, token) = world.user("ada@example.com", Some(sandbox::USER_CUSTOMER), false).await;
    use_some(&world, &user).await;
    for (name, path) in [
        ("subscription", "/api/v1/billing/subscription"),
        ("invoices", "/api/v1/billing/invoices?limit=2"),
        ("payment_methods", "/api/v1/billing/payment-methods"),
        ("usage", "/api/v1/billing/usage"),
    ] {
        insta::assert_snapshot!(name, world.get(path, &token).await.shown());
    }
}

#[tokio::test]
async fn the_admins_four() {
    let world = World::new().await;
    let token = world.admin().await;
    for (name, path) in [
        ("stats", "/api/v1/admin/billing/stats"),
        ("customers", "/api/v1/admin/billing/customers?limit=2"),
        ("subscriptions", "/api/v1/admin/billing/subscriptions?status=active&limit=2"),
        ("recent_charges", "/api/v1/admin/billing/recent-charges?limit=2"),
    ] {
        let mut shown = world.get(path, &token).await.shown();
        if let Some(at) = shown.find("\"next_cursor\":\"") {
            let from = at + "\"next_cursor\":\"".len();
            let to = from + shown[from..].find('"').expect("the end of the cursor");
            shown.replace_range(from..to, "[cursor]");
        }
        insta::assert_snapshot!(name, shown);
    }
}

#[tokio::test]
async fn without_stripe_the_answers_are_basic() {
    let world = World::planned(Plan { stripe: None, ..Plan::default() }).await;
    let user = world.user("u@example.com", Some("cus_1"), false).await.1;
    let admin = world.admin().await;
    let mut shown = String::new();
    for (path, token) in [
        ("/api/v1/billing/subscription", &user),
        ("/api/v1/billing/invoices", &user),
        ("/api/v1/billing/payment-methods", &user),
        ("/api/v1/billing/usage", &user),
        ("/api/v1/admin/billing/stats", &admin),
        ("/api/v1/admin/billing/customers", &admin),
    ] {
        let answer = world.get(path, token).await;
        assert_eq!(answer.header("billing-as-of"), None, "{path}: nothing was mirrored");
        shown += &format!("{path} {}\n\n", answer.shown());
    }
    insta::assert_snapshot!(shown);
}

#[tokio::test]
async fn an_answer_that_the_caller_holds_is_not_sent_again() {
    let world = World::new().await;
    let token = world.ada().await;
    let cookie = format!("session_token={token}");
    let first = world.get("/api/v1/billing/subscription", &token).await;
    let etag = first.header("etag").expect("a validator").to_owned();
    let headers = [("cookie", cookie.as_str()), ("if-none-match", &etag)];
    let second = world.request("GET", "/api/v1/billing/subscription", &headers).await;
    assert_eq!((second.status, second.body.as_str()), (304, ""));
    assert_eq!(second.header("cache-control"), Some("private, no-store"));
}

#[tokio::test]
async fn a_payment_method_that_leaves_a_customer_leaves_their_kept_answer() {
    let world = World::new().await;
    let token = world.ada().await;
    let page = "/api/v1/billing/payment-methods";
    assert_eq!(world.get(page, &token).await.json().as_array().map(Vec::len), Some(1));
    let (catalogue, now) = (world.app.catalogue.clone(), world.now());
    let detached = r#"{"id":"pm_sandbox_user","object":"payment_method","type":"card","customer":null,"created":1}"#;
    let resource = billhook::store::mirror::Resource::PaymentMethods;
    let since = billhook::store::revenue::Since { at: now, cause: "test".to_owned(), exact: false };
    let write =
        world.app.db.write(move |tx| billhook::ops::mirror::apply(tx, resource, detached, 1, &catalogue, now, &since));
    write.await.expect("written");
    assert_eq!(world.get(page, &token).await.body, "[]");
}
