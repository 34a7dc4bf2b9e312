//! Whoever follows the log goes by what is newest, however long they were on their way.

use std::pin::pin;
use std::time::Duration;

use billhook::ops::usage;
use billhook::store::accounts;

use super::{add_users, now, one, program, record, settled};
use crate::harness::Database;

/// Accounts are written down while somebody who is about to follow the log waits for their turn. What they read before that is
/// old by then, and is not taken for a database that was set back.
async fn whoever_follows_the_log_does_not_believe_an_old_snapshot(database: Database) {
    let app = program(&database, &now()).await;
    let users = add_users(&app, 3).await;
    record(&app, users.iter().map(|user| one(&format!("a-{user}"), user)).collect()).await;
    // The thread that has recorded looks at the book once more; nobody may wait for it while the turn is ours.
    app.db.write(|_| Ok(())).await.expect("the writer rests");
    let edition = app.book.edition();
    let mut turn = app.book.turn();
    let mut following = pin!(usage::following::follow_log(&app));
    let waits = tokio::time::timeout(Duration::from_millis(200), &mut following).await;
    assert!(waits.is_err(), "one hand at a time moves the book");
    let taken = turn.take().expect("something to write down");
    let (from, to, page) = (taken.from, taken.to, taken.page.clone());
    assert!(app.db.write(move |tx| accounts::turn(tx, from, to, &page)).await.expect("written down"));
    turn.wrote(&taken);
    drop(turn);
    following.await.expect("followed");
    assert_eq!((app.book.edition(), app.book.applied()), (edition, to), "nothing is counted anew");
    settled(&app).await;
}

on_each_database!(whoever_follows_the_log_does_not_believe_an_old_snapshot);
