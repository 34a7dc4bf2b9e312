//! Lost webhooks are only late: the list of events is read from where it was left, and what it no longer holds is found by
//! reading everything (F-36).

use std::time::Duration;

use billhook::ops::webhooks::sweep::{self, Swept};
use billhook::store::webhooks::{self, State, Sweep};
use serde_json::json;

use super::account::{Account, Told};
use super::{differences, drain, in_front_of, now, state, take};
use crate::harness::{Plan, World, impatient};

async fn swept(world: &World) -> Swept {
    sweep::run(&world.app).await.expect("a sweep")
}

async fn position(world: &World) -> Sweep {
    world.app.db.read(webhooks::sweep).await.expect("a read")
}

/// `count` customers change, nobody tells us, and `seconds` pass.
fn unheard(world: &World, account: &Account, count: usize, seconds: u64) -> Vec<Told> {
    let told = (0..count)
        .map(|n| {
            account.put("customers", &format!("cus_{n}"), &json!({ "name": format!("at {}", account.inside_now()) }))
        })
        .collect();
    world.clock.advance(Duration::from_secs(seconds));
    account.inside().now += i64::try_from(seconds).unwrap();
    told
}

impl Account {
    fn inside_now(&self) -> i64 {
        self.inside().now
    }
}

#[tokio::test]
async fn f36_what_no_webhook_brought_is_found_within_one_sweep() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    for (changes, new) in [(3, 3), (250, 250), (0, 0), (1, 1)] {
        unheard(&world, &account, changes, 300);
        let Swept::ToTheEnd { new: found, .. } = swept(&world).await else { panic!("not to the end") };
        assert_eq!(found, new);
        drain(&world).await;
        assert_eq!(differences(&world, &account).await, Vec::<String>::new(), "{changes}");
    }
    assert_eq!(position(&world).await.resyncs, 0);
}

/// F-36 where Stripe's clock is put forward, as a sandbox's is, and nothing was ever swept: what happened in between is found,
/// also where an answer has said before the sweep how late it is there.
#[tokio::test]
async fn f36_a_clock_that_was_put_forward_hides_nothing() {
    for knows in [false, true] {
        let account = Account::open(now());
        let world = in_front_of(&account).await;
        swept(&world).await;
        assert_eq!(position(&world).await.cursor, None, "nothing has happened yet");
        for day in 0..10 {
            account.put("customers", &format!("cus_{day}"), &json!({ "name": format!("on day {day}") }));
            account.inside().now += 86_400;
        }
        if knows {
            world.app.stripe.as_ref().expect("Stripe").object("/v1/customers", "cus_9", &[]).await.expect("an answer");
        }
        swept(&world).await;
        drain(&world).await;
        assert_eq!(differences(&world, &account).await, Vec::<String>::new(), "{knows}");
    }
}

#[tokio::test]
async fn a_sweep_goes_on_from_where_it_stopped_and_reads_a_minute_twice() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    unheard(&world, &account, 150, 100);
    swept(&world).await;
    unheard(&world, &account, 1, 100);
    let Swept::ToTheEnd { read, new } = swept(&world).await else { panic!("not to the end") };
    assert!(new == 1 && read <= 151, "{read} {new}");
    unheard(&world, &account, 1, 100);
    let Swept::ToTheEnd { read, new } = swept(&world).await else { panic!("not to the end") };
    assert_eq!((read, new), (2, 1), "only what is near the end is read again");
    // An event that appears late, before one that is younger, is still met.
    let late = account.inside().events.last().cloned().unwrap();
    let told =
        Told { id: "evt_late".into(), created: late.created - 30, body: late.body.replace(&late.id, "evt_late") };
    let place = account.inside().events.len() - 1;
    account.inside().events.insert(place, told);
    let Swept::ToTheEnd { new, .. } = swept(&world).await else { panic!("not to the end") };
    assert_eq!(new, 1);
}

#[tokio::test]
async fn an_interrupted_sweep_keeps_what_it_read() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    unheard(&world, &account, 1, 100);
    swept(&world).await;
    for _ in 0..30 {
        unheard(&world, &account, 20, 10);
    }
    account.inside().requests.clear();
    let counting = account.clone();
    // Two pages, then nothing more.
    let watch = std::thread::spawn(move || {
        loop {
            let mut inside = counting.inside();
            if inside.requests.len() >= 2 {
                inside.trouble = Some(500);
                return;
            }
            drop(inside);
            std::thread::sleep(Duration::from_micros(50));
        }
    });
    let before = position(&world).await.cursor;
    let broken = sweep::run(&world.app).await;
    watch.join().unwrap();
    if broken.is_err() {
        assert_ne!(position(&world).await.cursor, before, "further than before");
        assert!(position(&world).await.fault.is_some());
    }
    account.inside().trouble = None;
    account.inside().requests.clear();
    swept(&world).await;
    assert!(
        broken.is_ok() || account.inside().requests.len() < 7,
        "not from the beginning: {:?}",
        account.inside().requests
    );
    drain(&world).await;
    assert_eq!(differences(&world, &account).await, Vec::<String>::new());
    assert_eq!(position(&world).await.fault, None);
}

#[tokio::test]
async fn f36_a_gap_leads_to_a_full_resync_deletions_included() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    unheard(&world, &account, 30, 100);
    swept(&world).await;
    drain(&world).await;
    account.delete("customers", "cus_7");
    unheard(&world, &account, 3, 31 * 86_400);
    // Stripe has forgotten all of it.
    let all = account.inside().events.len();
    account.inside().forgotten = all;
    swept(&world).await;
    drain(&world).await;
    assert_eq!(differences(&world, &account).await, Vec::<String>::new());
    assert_eq!(position(&world).await.resyncs, 1);
    // The list is empty: there is nothing to go on from, and no reason to read everything again.
    swept(&world).await;
    unheard(&world, &account, 3, 300);
    swept(&world).await;
    drain(&world).await;
    assert_eq!(differences(&world, &account).await, Vec::<String>::new());
    assert_eq!(position(&world).await.resyncs, 1);
}

#[tokio::test]
async fn a_cursor_that_is_gone_is_a_gap() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    unheard(&world, &account, 3, 100);
    swept(&world).await;
    unheard(&world, &account, 5, 100);
    let all = account.inside().events.len();
    account.inside().forgotten = all - 1;
    swept(&world).await;
    drain(&world).await;
    assert_eq!(differences(&world, &account).await, Vec::<String>::new());
    assert_eq!(position(&world).await.resyncs, 1);
}

#[tokio::test]
async fn without_a_list_of_events_the_full_sync_remains() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    account.inside().no_events_list = true;
    assert_eq!(swept(&world).await, Swept::NoSuchList);
    unheard(&world, &account, 3, 300);
    world.sync().await;
    assert_eq!(differences(&world, &account).await, Vec::<String>::new());
}

#[tokio::test]
async fn before_the_mirror_is_whole_nothing_is_swept() {
    let account = Account::open(now());
    let plan = Plan { stripe: None, stripe_base: Some(account.base()), limits: impatient, ..Plan::default() };
    let world = World::planned(plan).await;
    assert_eq!(swept(&world).await, Swept::NotYet);
}

#[tokio::test]
async fn a_swept_event_and_its_webhook_are_one() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    let told = unheard(&world, &account, 10, 30);
    swept(&world).await;
    for told in &told {
        take(&world, told).await;
    }
    assert_eq!(drain(&world).await.applied, 10);
}

/// An endpoint of a newer version than ours sends what we must not read. It is the list that says it in our version: until it
/// is applied nothing says that it was.
#[tokio::test]
async fn s45_what_a_webhook_of_another_version_told_is_applied_by_the_sweep() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    swept(&world).await;
    let told = unheard(&world, &account, 2, 100);
    for told in &told {
        let mut body: serde_json::Value = serde_json::from_str(&told.body).expect("JSON");
        body["api_version"] = json!("2027-03-31.fennel");
        take(&world, &Told { body: body.to_string(), ..told.clone() }).await;
        assert!(matches!(state(&world, &told.id).await, State::Quarantined { .. }));
    }
    drain(&world).await;
    assert_eq!(differences(&world, &account).await.len(), 2, "nothing of it is read");
    let Swept::ToTheEnd { new, .. } = swept(&world).await else { panic!("not to the end") };
    assert_eq!(new, 2);
    drain(&world).await;
    assert_eq!(differences(&world, &account).await, Vec::<String>::new());
    for told in &told {
        assert!(matches!(state(&world, &told.id).await, State::Applied { .. }));
    }
    // What is to be kept out is kept out by either way.
    let told = account.put("customers", "cus_live", &json!({}));
    let live = told.body.replace("\"livemode\":false", "\"livemode\":true");
    account.inside().events.last_mut().expect("an event").body.clone_from(&live);
    take(&world, &Told { body: live, ..told.clone() }).await;
    swept(&world).await;
    assert!(matches!(state(&world, &told.id).await, State::Quarantined { .. }));
}
