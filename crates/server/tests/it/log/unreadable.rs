//! One account that cannot be kept or read is the trouble of those who ask for it, and of nobody else.

use billhook::app::App;
use billhook::ops::usage::{self, Verdict};
use billhook::store::plans;
use futures_util::future::join_all;

use super::{add_users, now, one, program, record, settled, times_recorded};
use crate::harness::Database;

async fn run_sql(app: &App, sql: &'static str, user: &str) {
    let user = user.to_owned();
    assert!(app.db.write(move |tx| tx.run(sql, &[user.clone().into()])).await.expect(sql) > 0, "{sql}");
}

/// Two users, of whom the first has an account that nobody can read, and no entry that would make another.
async fn one_is_broken(database: &Database) -> (App, Vec<String>) {
    let app = program(database, &now()).await;
    let users = add_users(&app, 2).await;
    record(&app, users.iter().map(|user| one(&format!("first-{user}"), user)).collect()).await;
    settled(&app).await;
    let (sql, user) = ("UPDATE accounts SET state = ?2 WHERE user_id = ?1", users[0].clone());
    app.db.write(move |tx| tx.run(sql, &[user.clone().into(), Vec::<u8>::new().into()])).await.expect("spoilt");
    run_sql(&app, "DELETE FROM usage_log WHERE user_id = ?1", &users[0]).await;
    // Another process: nothing is in memory.
    (program(database, &now()).await, users)
}

async fn an_account_that_cannot_be_read_fails_nobody_elses_events(database: Database) {
    let (app, users) = one_is_broken(&database).await;
    let both = |id: &str| users.iter().map(|user| one(&format!("{id}-{user}"), user)).collect::<Vec<_>>();
    usage::record(&app, both("a")).await.expect_err("the caller who has the broken one in hand");
    let whole = usage::record_all(&app, both("whole")).await;
    whole.expect_err("all of it or nothing");
    let callers = (0..40).map(|number| usage::record(&app, vec![one(&format!("b-{number}"), &users[number % 2])]));
    for (number, heard) in join_all(callers).await.into_iter().enumerate() {
        assert_eq!(heard.is_ok(), number % 2 == 1, "{number}: {heard:?}");
    }
    // Who was told of the failure says it again: what was recorded is a duplicate.
    let again = record(&app, both("a").split_off(1)).await;
    assert!(matches!(again[..], [Verdict::Duplicate { .. }]), "{again:?}");
    assert_eq!(times_recorded(&app).await.into_values().collect::<Vec<_>>(), vec![1; 1 + 1 + 20]);
}

on_each_database!(an_account_that_cannot_be_read_fails_nobody_elses_events);

/// An id that leads to no entry: its own caller hears that it is not known what was recorded.
#[tokio::test]
async fn an_id_without_its_entry_fails_nobody_elses_events() {
    let database = Database::sqlite();
    let app = program(&database, &now()).await;
    let users = add_users(&app, 2).await;
    record(&app, vec![one("a", &users[0])]).await;
    run_sql(&app, "UPDATE usage_ids SET position = 99, fingerprint = 1 WHERE position = (SELECT MAX(position) FROM usage_log WHERE user_id = ?1)", &users[0]).await;
    usage::record(&app, vec![one("a", &users[0]), one("b", &users[1])]).await.expect_err("an id leads to no entry");
    let again = record(&app, vec![one("b", &users[1])]).await;
    assert!(matches!(again[..], [Verdict::Duplicate { .. }]), "{again:?}");
}

/// Terms that change for both: the one who can be read has them, and the other is still marked.
#[tokio::test]
async fn an_account_that_cannot_be_read_keeps_nobody_from_their_terms() {
    let database = Database::sqlite();
    let (app, users) = one_is_broken(&database).await;
    for user in &users {
        run_sql(&app, "UPDATE users SET subscription_tier = 'starter' WHERE id = ?1", user).await;
        let user = user.clone();
        app.db.write(move |tx| plans::mark_user(tx, &user)).await.expect("marked");
    }
    usage::plans::follow(&app).await.expect_err("one of them cannot be read");
    let marked = app.db.read(|tx| plans::marked(tx, 9)).await.expect("read");
    assert_eq!(marked, users[..1]);
    let slot = app.book.get(&users[1]).expect("in memory");
    assert_eq!(slot.lock().account.terms().tier, "starter");
}
