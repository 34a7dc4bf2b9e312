//! The schema, the users and their sessions.

use billhook::store::users::{self, NewUser};
use billhook::store::{Db, migrations, sessions};

use super::{at, bare, code, open};
use crate::harness::Database;

pub async fn the_schema_comes_up_once(database: Database) {
    let db = bare(&database).await;
    let first = migrations::run(&db).await.expect("a schema");
    assert_eq!(first.applied.first(), Some(&"0001_foundation"));
    let second = migrations::run(&db).await.expect("the same schema");
    assert_eq!((second.applied, second.adopted_users), (Vec::new(), None));
}

pub async fn a_schema_of_a_newer_version_is_refused_by_name(database: Database) {
    let db = open(&database).await;
    db.write(|tx| tx.run("INSERT INTO schema_migrations (name) VALUES ('9999_later')", &[])).await.expect("a row");
    let error = migrations::run(&db).await.expect_err("newer");
    assert_eq!(code(&error), "schema.newer");
    assert!(error.to_string().contains("9999_later"), "{error}");
}

fn user(id: &str, email: &str, customer: Option<&str>) -> NewUser {
    NewUser {
        id: id.to_owned(),
        email: email.to_owned(),
        name: "N".to_owned(),
        tier: "trial".to_owned(),
        customer: customer.map(str::to_owned),
        admin: false,
        now: "2026-11-22 10:00:00".to_owned(),
    }
}

async fn add(db: &Db, new: NewUser) -> Result<(), &'static str> {
    db.write(move |tx| users::add(tx, &new)).await.map_err(|error| code(&error))
}

async fn link(db: &Db, id: &'static str, customer: &'static str) -> Result<(), &'static str> {
    db.write(move |tx| users::link(tx, id, customer, "2026-11-22 10:00:00")).await.map_err(|error| code(&error))
}

pub async fn an_email_and_a_customer_belong_to_one_user_each(database: Database) {
    let db = open(&database).await;
    assert_eq!(add(&db, user("u1", "a@example.com", Some("cus_1"))).await, Ok(()));
    assert_eq!(add(&db, user("u2", "a@example.com", None)).await, Err("user.exists"));
    assert_eq!(add(&db, user("u1", "b@example.com", None)).await, Err("user.exists"));
    assert_eq!(add(&db, user("u2", "b@example.com", None)).await, Ok(()));
    for (id, customer, expected) in [
        ("u2", "cus_1", Err("customer.already_linked")),
        ("u2", "sub_1", Err("invalid")),
        ("u2", "cus_", Err("invalid")),
        ("u3", "cus_3", Err("not_found")),
        ("u1", "cus_1", Ok(())),
        ("u1", "cus_9", Ok(())),
        ("u2", "cus_1", Ok(())),
    ] {
        assert_eq!(link(&db, id, customer).await, expected, "{id} {customer}");
    }
    let found = db.read(|tx| Ok((users::get(tx, "u1")?, users::get(tx, "u2")?))).await.expect("a read");
    let customer = |user: Option<users::User>| user.expect("there").customer;
    assert_eq!((customer(found.0).as_deref(), customer(found.1).as_deref()), (Some("cus_9"), Some("cus_1")));
}

pub async fn a_user_that_cannot_be_linked_is_not_added(database: Database) {
    let db = open(&database).await;
    add(&db, user("u1", "a@example.com", Some("cus_1"))).await.expect("added");
    assert_eq!(add(&db, user("u2", "b@example.com", Some("cus_1"))).await, Err("customer.already_linked"));
    assert_eq!(db.read(users::count).await.expect("a count"), 1);
}

pub async fn s34_hostile_text_is_kept_as_it_is(database: Database) {
    let db = open(&database).await;
    for (number, text) in
        ["'; DROP TABLE users; --", "?1 $1 %s", "\u{202e}ltr\u{2028}", "😀\\\"", "\r\n\t"].into_iter().enumerate()
    {
        let id = format!("u{number}");
        add(&db, NewUser { name: text.to_owned(), ..user(&id, &format!("{number}@example.com"), None) })
            .await
            .expect("added");
        let found = db.read(move |tx| users::get(tx, &id)).await.expect("a read").expect("a user");
        assert_eq!(found.name.as_deref(), Some(text));
    }
}

pub async fn sessions_end_when_they_are_over_or_ended(database: Database) {
    let db = open(&database).await;
    db.write(|tx| {
        sessions::add(tx, "h1", "u1", at(100), at(200))?;
        sessions::add(tx, "h2", "u1", at(100), at(300))?;
        sessions::add(tx, "h3", "u2", at(100), at(300))
    })
    .await
    .expect("sessions");
    let got = db.read(|tx| sessions::get(tx, "h1")).await.expect("a read").expect("a session");
    assert_eq!((got.user.as_str(), got.expires_at), ("u1", at(200)));
    let ended = |second| db.write(move |tx| sessions::remove_expired(tx, at(second)));
    assert_eq!((ended(199).await.expect("a count"), ended(200).await.expect("a count")), (0, 1));
    assert!(db.write(|tx| sessions::remove(tx, "h3")).await.expect("a removal"));
    assert!(!db.write(|tx| sessions::remove(tx, "h3")).await.expect("nothing left"));
    assert_eq!(db.write(|tx| sessions::remove_all(tx, "u1")).await.expect("a count"), 1);
}
