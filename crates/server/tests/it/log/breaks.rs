//! A caller who goes away at any point leaves the whole or nothing, and no sum goes astray (I-22, F-11).

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use billhook::ops::usage;

use super::{add_users, differences, now, one, program, record, settled, times_recorded};
use crate::harness::Database;

/// Polls a future so many times and lets go of it then; whether it had ended.
async fn dropped_at<T>(work: impl Future<Output = T>, polls: usize) -> bool {
    let mut work = pin!(work);
    for _ in 0..polls {
        let ended = std::future::poll_fn(|context| Poll::Ready(work.as_mut().poll(context).is_ready())).await;
        if ended {
            return true;
        }
        // Whatever it waits for may happen or not before the next look.
        tokio::time::sleep(Duration::from_micros(300)).await;
    }
    false
}

async fn i22_callers_who_go_away_cost_nothing(database: Database) {
    let clock = now();
    let app = program(&database, &clock).await;
    let users = add_users(&app, 3).await;
    let mut ended = 0;
    for polls in 0..60 {
        let batch = |name: &str| users.iter().map(|user| one(&format!("{name}-{polls}-{user}"), user)).collect();
        ended += usize::from(dropped_at(usage::record(&app, batch("dropped")), polls % 12).await);
        record(&app, batch("kept")).await;
        dropped_at(usage::totals::write_down(&app), polls % 9).await;
        dropped_at(usage::plans::follow(&app), polls % 5).await;
        dropped_at(usage::totals::totals(&app, usage::totals::Totals::default(), None, 5), polls % 14).await;
    }
    assert!(ended > 0, "some were let go of only after their end");
    // What was let go of is there whole or not at all; told again, all of it is there once.
    for polls in 0..60 {
        let told = |user: &String| one(&format!("dropped-{polls}-{user}"), user);
        record(&app, users.iter().map(told).collect()).await;
    }
    let times = times_recorded(&app).await;
    assert_eq!((times.len(), times.values().max()), (2 * 60 * users.len(), Some(&1)));
    settled(&app).await;
    let again = program(&database, &clock).await;
    settled(&again).await;
}

on_each_database!(i22_callers_who_go_away_cost_nothing);

/// The seeded bug: what was taken out of the book to be written down is let go of.
#[tokio::test]
async fn a_page_that_is_let_go_of_is_seen() {
    let database = Database::sqlite();
    let app = program(&database, &now()).await;
    let users = add_users(&app, 2).await;
    record(&app, users.iter().map(|user| one(&format!("a-{user}"), user)).collect()).await;
    drop(app.book.turn().take());
    record(&app, users[..1].iter().map(|user| one(&format!("b-{user}"), user)).collect()).await;
    usage::totals::write_down_now(&app).await.expect("written down");
    let named = differences(&app).await;
    assert!(named.iter().any(|line| line.contains(&users[0])) && named.iter().any(|line| line.contains(&users[1])));
}

/// A page that could not be written waits, and is written once with what came after it (a page has each day once: a second row
/// of one key in one statement is an error on PostgreSQL).
async fn a_page_that_could_not_be_written_is_written_later(database: Database) {
    let app = program(&database, &now()).await;
    let users = add_users(&app, 2).await;
    for round in 0..3 {
        record(&app, users.iter().map(|user| one(&format!("{round}-{user}"), user)).collect()).await;
        let mut turn = app.book.turn();
        let taken = turn.take().expect("something to write down");
        turn.put_back(taken);
    }
    let taken = app.book.turn().take().expect("all of it");
    let mut keys: Vec<_> = taken.page.days.iter().map(|day| (day.day, &day.user, &day.event_type)).collect();
    let (rows, events) = (keys.len(), taken.page.days.iter().map(|day| day.events).sum::<i64>());
    keys.sort();
    keys.dedup();
    assert_eq!((rows, keys.len(), events), (2, 2, 6));
    app.book.turn().put_back(taken);
    settled(&app).await;
}

on_each_database!(a_page_that_could_not_be_written_is_written_later);
