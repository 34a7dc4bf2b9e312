//! Every order in which looks at one object can be begun, read and written: the last that was begun wins (I-05).

use billhook::ops::readings::{self, Look};
use billhook::ops::webhooks::alone::Found;
use billhook::store::Tx;
use billhook::store::mirror::{self, Resource};
use billhook::store::readings::take_ticket;
use serde_json::json;

use super::account::Account;
use super::{in_front_of, now};
use crate::harness::World;

/// One step of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Somebody takes a ticket.
    Begin(usize),
    /// Stripe looks the object up for them.
    Read(usize),
    /// They write what they were told.
    Write(usize),
    /// The object changes at Stripe, and its event arrives.
    Change,
}

/// Every way to merge the sequences, each in its own order.
fn merges(sequences: &[Vec<Step>]) -> Vec<Vec<Step>> {
    if sequences.iter().all(Vec::is_empty) {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (which, sequence) in sequences.iter().enumerate() {
        let Some((first, rest)) = sequence.split_first() else { continue };
        let mut others = sequences.to_vec();
        others[which] = rest.to_vec();
        for mut merged in merges(&others) {
            merged.insert(0, *first);
            all.push(merged);
        }
    }
    all
}

/// What decides about a write.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// As the program does it.
    Begun,
    /// The mistake of our peers: whoever comes last.
    Finished,
}

/// Plays an order on an object of its own; whether the mirror ends as Stripe does.
fn plays(tx: &mut Tx<'_>, id: &str, steps: &[Step], rule: Rule, deleted_last: bool) -> billhook::error::Result<bool> {
    let changes = steps.iter().filter(|step| **step == Step::Change).count();
    let (mut version, mut tickets, mut read) = (0, [0; 4], [const { None }; 4]);
    let state = |version: usize| {
        if deleted_last && version == changes {
            return Found::Gone;
        }
        Found::There(json!({"id": id, "object": "product", "name": format!("v{version}"), "metadata": {}}).to_string())
    };
    let catalogue = billing::catalogue::Catalogue::built_in();
    for step in steps {
        match *step {
            Step::Change => version += 1,
            Step::Begin(who) => tickets[who] = take_ticket(tx)?,
            Step::Read(who) => read[who] = Some(state(version)),
            Step::Write(who) => {
                let ticket = if rule == Rule::Begun { tickets[who] } else { take_ticket(tx)? };
                let look = Look { ticket, cause: "test".into(), event_created: Some(0), until_s: 0 };
                match read[who].as_ref().expect("read before") {
                    Found::Gone => readings::delete(tx, &look, Resource::Products, id)?,
                    Found::There(raw) => {
                        readings::apply(tx, &look, Resource::Products, raw, 1, &catalogue, jiff::Timestamp::UNIX_EPOCH)?
                    }
                };
            }
        }
    }
    let there = mirror::is_there(tx, Resource::Products, id)?;
    let raw = mirror::raw(tx, Resource::Products, id)?;
    Ok(match state(version) {
        Found::Gone => !there,
        Found::There(text) => there && raw == Some(text),
    })
}

/// Plays all orders in which somebody looks after each change; how many of how many end wrong.
async fn play_all(world: &World, sequences: Vec<Vec<Step>>, rule: Rule, deleted_last: bool) -> (usize, usize) {
    let orders = merges(&sequences);
    let count = orders.len();
    let wrong = world
        .app
        .db
        .write(move |tx| {
            let mut wrong = 0;
            for (number, steps) in orders.iter().enumerate() {
                let id = format!("prod_{deleted_last}_{}_{number}", rule == Rule::Begun);
                wrong += usize::from(!plays(tx, &id, steps, rule, deleted_last)?);
            }
            Ok(wrong)
        })
        .await
        .expect("played");
    (wrong, count)
}

/// The look that an event leads to begins after its change; a third one, a full sync, begins when it likes.
fn two_events_and_a_sync() -> Vec<Vec<Step>> {
    use Step::{Begin, Change, Read, Write};
    vec![
        vec![Change, Begin(0), Read(0), Write(0)],
        vec![Change, Begin(1), Read(1), Write(1)],
        vec![Begin(2), Read(2), Write(2)],
    ]
}

#[tokio::test]
async fn i05_the_last_look_that_was_begun_wins_in_every_order() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    for deleted_last in [false, true] {
        let (wrong, count) = play_all(&world, two_events_and_a_sync(), Rule::Begun, deleted_last).await;
        assert_eq!((wrong, count), (0, 11_550), "deleted: {deleted_last}");
    }
}

#[tokio::test]
async fn i05_the_last_look_that_came_back_would_be_wrong_and_these_orders_show_it() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    let (wrong, count) = play_all(&world, two_events_and_a_sync(), Rule::Finished, false).await;
    assert!(wrong > 100, "{wrong} of {count}");
}
