//! Whose data a user sees, and who they are at Stripe.

use std::collections::BTreeSet;

use billhook::error::Error;
use billhook::ops::users;

use super::{MINE, STATS, USAGE, cookie};
use crate::endpoints::use_some;
use crate::harness::{Answer, Plan, World};

/// The customer of every invoice and payment method that an answer names.
fn owners(world: &World, answer: &Answer) -> BTreeSet<String> {
    let file = rusqlite::Connection::open(world.database.path()).expect("the file");
    let sql = "SELECT customer FROM invoices WHERE id = ?1 UNION SELECT customer FROM payment_methods WHERE id = ?1";
    let rows = answer.json().as_array().expect("a list").clone();
    rows.iter().map(|row| file.query_row(sql, [row["id"].as_str()], |row| row.get(0)).expect("an owner")).collect()
}

/// Another paying customer of the little business than the sandbox's user.
async fn somebody_else(world: &World) -> String {
    let list = world.get("/api/v1/admin/billing/subscriptions?status=active", &world.admin().await).await.json();
    let rows = list["subscriptions"].as_array().expect("rows").clone();
    let mut customers = rows.iter().filter_map(|row| row["customer"].as_str());
    customers.rfind(|id| *id != sandbox::USER_CUSTOMER).expect("another customer").to_owned()
}

#[tokio::test]
async fn s23_a_user_sees_their_own_and_nothing_of_anybody_else() {
    let world = World::new().await;
    let other = somebody_else(&world).await;
    let (user_a, a) = world.user("a@here.test", Some(sandbox::USER_CUSTOMER), false).await;
    let (_, b) = world.user("b@here.test", Some(&other), false).await;
    use_some(&world, &user_a).await;
    for _ in 0..2 {
        for path in ["/api/v1/billing/invoices?limit=100", "/api/v1/billing/payment-methods"] {
            for (token, customer) in [(&a, sandbox::USER_CUSTOMER), (&b, &other)] {
                let answer = world.get(path, token).await;
                assert_eq!(owners(&world, &answer), BTreeSet::from([customer.to_owned()]), "{path}");
            }
        }
        let used = async |token| world.get(USAGE, token).await.json()["credits"]["used"].clone();
        assert_eq!((used(&a).await, used(&b).await), (585.into(), 0.into()));
        let start = async |token| world.get(MINE[0], token).await.json()["current_period_start"].clone();
        assert_ne!(start(&a).await, start(&b).await);
    }
}

#[tokio::test]
async fn s25_s29_nobody_chooses_whose_data_they_get() {
    let world = World::new().await;
    let other = somebody_else(&world).await;
    let (_, a) = world.user("a@here.test", Some(sandbox::USER_CUSTOMER), false).await;
    let (user_b, _) = world.user("b@here.test", Some(&other), false).await;
    let chosen = format!(
        "?user_id={user_b}&user={user_b}&customer={other}&stripe_customer_id={other}&email=b@here.test&is_admin=1"
    );
    let cookie = cookie(&a);
    let headers = [("cookie", cookie.as_str()), ("x-user-id", &user_b), ("x-user-email", "b@here.test")];
    for path in MINE {
        let plain = world.get(path, &a).await.shown();
        assert_eq!(world.request("GET", &format!("{path}{chosen}"), &headers).await.shown(), plain, "{path}");
    }
    assert_eq!(world.request("GET", &format!("{STATS}{chosen}"), &headers).await.status, 403);
}

// ------------------------------------------------------------------------------------------------- identity at Stripe

async fn customer_at_stripe(world: &World, email: &str) -> String {
    let form = format!("email={}&name=Somebody", email.replace('@', "%40"));
    world.at_stripe("POST", "/v1/customers", &form).await["id"].as_str().expect("an id").to_owned()
}

/// What the database says of a user's link.
fn link_of(world: &World, user: &str) -> Option<String> {
    let file = rusqlite::Connection::open(world.database.path()).expect("the file");
    file.query_row("SELECT stripe_customer_id FROM users WHERE id = ?1", [user], |row| row.get(0)).expect("the user")
}

#[tokio::test]
async fn s26_one_exact_match_is_linked_once_and_stays() {
    let world = World::planned(Plan { stripe: Some(sandbox::Seed::Empty), ..Plan::default() }).await;
    let customer = customer_at_stripe(&world, "eve@here.test").await;
    world.sync().await;
    let (user, token) = world.user("eve@here.test", None, false).await;
    let (stranger, other_token) = world.user("EVE@here.test", None, false).await;
    assert_eq!(world.get(MINE[1], &token).await.body, "[]");
    assert_eq!(link_of(&world, &user).as_ref(), Some(&customer));
    assert_eq!(world.get(MINE[1], &other_token).await.body, "[]");
    assert_eq!(link_of(&world, &stranger), None, "an e-mail of other letters is another e-mail");

    world.at_stripe("POST", &format!("/v1/customers/{customer}"), "email=moved%40here.test").await;
    let newcomer = customer_at_stripe(&world, "eve@here.test").await;
    world.sync().await;
    world.get(MINE[0], &token).await;
    assert_eq!(link_of(&world, &user), Some(customer), "the link is the identity now, not {newcomer}");
}

#[tokio::test]
async fn s26_an_ambiguous_or_taken_address_links_nobody() {
    let world = World::planned(Plan { stripe: Some(sandbox::Seed::Business), ..Plan::default() }).await;
    customer_at_stripe(&world, "twin@here.test").await;
    customer_at_stripe(&world, "twin@here.test").await;
    world.sync().await;
    let (twin, twin_token) = world.user("twin@here.test", None, false).await;
    // The victim is linked, and their customer has this address; the attacker takes it here.
    let (victim, victim_token) = world.user("victim@here.test", Some(sandbox::USER_CUSTOMER), false).await;
    let (attacker, attacker_token) = world.user("attacker@here.test", None, false).await;
    rusqlite::Connection::open(world.database.path())
        .and_then(|file| file.execute("UPDATE users SET email = 'ada@example.com' WHERE id = ?1", [&attacker]))
        .expect("changed");
    for (user, token) in [(&twin, &twin_token), (&attacker, &attacker_token)] {
        for path in MINE {
            let (theirs, victims) = (world.get(path, token).await, world.get(path, &victim_token).await);
            assert_eq!(theirs.status, 200, "{path}");
            assert_ne!(theirs.body, victims.body, "{path}");
        }
        assert_eq!(world.get(MINE[0], token).await.json()["status"], "none");
        assert_eq!(world.get(MINE[1], token).await.body, "[]");
        assert_eq!(link_of(&world, user), None);
    }
    assert_eq!(link_of(&world, &victim).as_deref(), Some(sandbox::USER_CUSTOMER));
}

/// F-50 as well: two accounts never share a customer.
#[tokio::test]
async fn s26_a_customer_belongs_to_one_user() {
    let world = World::new().await;
    let (first, _) = world.user("a@here.test", Some(sandbox::USER_CUSTOMER), false).await;
    let (second, _) = world.user("b@here.test", None, false).await;
    let code = |outcome| match outcome {
        Err(Error::Conflict { code, .. }) => code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code(users::link(&world.app, &second, sandbox::USER_CUSTOMER).await), "customer.already_linked");
    let add = users::Add {
        email: "c@here.test".to_owned(),
        name: "C".to_owned(),
        tier: None,
        customer: Some(sandbox::USER_CUSTOMER.to_owned()),
        admin: false,
    };
    assert_eq!(code(users::add(&world.app, add).await.map(|_| ())), "customer.already_linked");
    users::link(&world.app, &first, sandbox::USER_CUSTOMER).await.expect("their own, said again");
    assert_eq!(link_of(&world, &second), None);
    assert_eq!(users::list(&world.app, "", 10).await.expect("users").len(), 2, "the refused user was not added");
}

#[tokio::test]
async fn s26_a_subscription_id_in_the_customer_column_is_no_identity() {
    let world = World::new().await;
    let (user, token) = world.user("legacy@here.test", None, false).await;
    let subscription = "sub_".to_owned() + sandbox::USER_CUSTOMER.trim_start_matches("cus_");
    rusqlite::Connection::open(world.database.path())
        .and_then(|file| file.execute("UPDATE users SET stripe_customer_id = ?2 WHERE id = ?1", [&user, &subscription]))
        .expect("changed");
    assert_eq!(world.get(MINE[0], &token).await.json()["status"], "none");
    assert_eq!(world.get(MINE[1], &token).await.body, "[]");
    assert_eq!(link_of(&world, &user), Some(subscription), "nothing of the old row is lost");
}
