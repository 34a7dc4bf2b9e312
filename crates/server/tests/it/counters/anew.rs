//! The book begins anew while requests come: `doctor --repair` in another process, a backup that was put back.

use std::sync::Arc;

use billhook::counters::{Ask, Demand};
use billhook::store::accounts::Stand;
use billing::usage::Credits;

use super::{Adapter, Rig, code, quantity};

/// While the book begins anew (`doctor --repair` beside us), nobody is shown, or given, what lies behind: it is counted first.
#[tokio::test]
async fn a_book_that_begins_anew_is_not_believed_until_it_is_whole() {
    let rig = Rig::new(Adapter::Embedded).await;
    rig.record("e1", "inference", "3").await;
    let book = &rig.app().book;
    book.turn().start_over(Stand::default());
    assert_eq!(rig.left().await, "2", "as the log says");
    book.turn().start_over(Stand::default());
    assert_eq!(code(rig.reserve("a", "inference", "3").await), "credits.exhausted");
    rig.reserve("a", "inference", "2").await.expect("held");
    // Somebody who had the account in hand before must not hold anything of it.
    let slot = book.get(&rig.user).expect("an account");
    book.turn().start_over(Stand::default());
    let (kind, id, now) = (Arc::from("inference"), Arc::from("b"), rig.world.now());
    let (quantity, weight) = (quantity("1"), Credits::from_micro(1));
    let demand = Demand { kind: &kind, quantity, weight, limit: None, now };
    let ask = Ask { id: &id, is_new: false, demand, expires_ms: now.as_millisecond() + 1_000 };
    rig.app().counters.reserve(book, &slot, &ask).await.expect_err("it cannot be decided");
    rig.release("a").await.expect("released while it waits for its account");
    assert_eq!(rig.left().await, "2");
}
