//! F-50: two users who are one person. What one has used goes to the other, and no sum over both changes.

use std::collections::BTreeMap;

use billhook::error::Error;
use billhook::ops::usage::{corrections, history, packs, totals};
use billhook::ops::users;
use billhook::ops::users::merging::{self, Merged};
use billhook::store::log::{self, Source};
use serde_json::json;

use super::terms::{credits, faults, period};
use super::*;
use crate::harness::Answer;

/// Who is to go, and who stays, each with a session of theirs.
struct Two {
    world: World,
    from: (String, String),
    into: (String, String),
}

impl Two {
    async fn of(plan: Plan, customers: [Option<&str>; 2]) -> Self {
        let world = World::planned(plan).await;
        if world.stripe.is_some() {
            world.sync().await;
        }
        let mut both = Vec::new();
        for (number, customer) in customers.into_iter().enumerate() {
            let (user, _) = world.user(&format!("{number}@example.com"), customer, false).await;
            let token = session(&world, &user).await;
            both.push((user, token));
        }
        let [from, into] = both.try_into().expect("two");
        Self { world, from, into }
    }

    async fn merge(&self, preview: bool) -> Result<Merged, Error> {
        merging::merge(&self.world.app, &self.from.0, &self.into.0, preview).await
    }

    async fn used(&self, of: &str, kind: &str, quantity: &str, at: &str) {
        let id = format!("{of} {kind} {quantity} {at}");
        let verdicts = record(&self.world, vec![told(&id, of, kind, quantity, at)]).await;
        assert!(matches!(verdicts[..], [Verdict::Recorded { .. }]), "{verdicts:?}");
    }

    /// What the database says of days: over both by day and type, and of each user the quantity by type.
    async fn days(&self) -> (BTreeMap<(i64, String), [i128; 2]>, BTreeMap<(String, String), i64>) {
        totals::write_down(&self.world.app).await.expect("written down");
        let sql = "SELECT day, user_id, type, quantity_micro, cost_whole, cost_pico FROM usage_days";
        let rows = self.world.app.db.read(move |tx| {
            let rows = tx.rows(sql, &[])?;
            let read = |row: &billhook::store::db::Row| {
                let cost = i128::from(row.int(4)?) * 1_000_000_000_000 + i128::from(row.int(5)?);
                Ok((row.int(0)?, row.text(1)?, row.text(2)?, row.int(3)?, cost))
            };
            rows.iter().map(read).collect::<Result<Vec<_>, Error>>()
        });
        let (mut sums, mut users) = (BTreeMap::new(), BTreeMap::new());
        for (day, user, kind, quantity, cost) in rows.await.expect("read") {
            let sum: &mut [i128; 2] = sums.entry((day, kind.clone())).or_default();
            *sum = [sum[0] + i128::from(quantity), sum[1] + cost];
            *users.entry((user, kind)).or_default() += quantity;
        }
        (sums, users)
    }

    async fn entries(&self) -> i64 {
        self.world.app.db.read(log::head).await.expect("read")
    }
}

fn code<T: std::fmt::Debug>(outcome: Result<T, Error>) -> &'static str {
    match outcome {
        Err(Error::Conflict { code, .. }) => code,
        Err(Error::NotFound) => "not found",
        Err(Error::Invalid(_)) => "invalid",
        other => panic!("{other:?}"),
    }
}

fn pack(id: &str, credits: &str) -> Pack {
    Pack {
        id: id.to_owned(),
        amount: Credits::parse(credits).expect("credits"),
        priority: 0,
        expires_ms: Some(instant("2027-06-01T00:00:00Z").as_millisecond()),
        granted_ms: instant(NOW).as_millisecond(),
    }
}

async fn nothing_of_the_sums_changes(database: Database) {
    let two = Two::of(Plan { stripe: None, database, ..Plan::default() }, [None, None]).await;
    let (world, from, into) = (&two.world, two.from.0.clone(), two.into.0.clone());
    for (user, id) in [(&from, "welcome"), (&into, "welcome"), (&from, "gone")] {
        packs::grant(&world.app, user, &pack(id, "40")).await.expect("granted");
    }
    packs::revoke(&world.app, &from, "gone").await.expect("revoked");
    // November: closed in December. 20 of the pack are used in it.
    two.used(&from, "inference", "120", "2026-11-21T09:00:00Z").await;
    world.clock.set(instant("2026-12-02T12:00:00Z"));
    two.used(&from, "inference", "90", "2026-12-01T09:00:00Z").await;
    two.used(&from, "tts", "0.333333", "2026-12-01T10:00:00Z").await;
    two.used(&from, "inference", "25", "2026-12-02T09:00:00Z").await;
    two.used(&from, "stt", "3", "2026-11-29T09:00:00Z").await; // late: it counts in December, on its own day
    two.used(&from, "embedding", "5", "2026-12-02T10:00:00Z").await;
    two.used(&into, "inference", "7", "2026-12-02T09:30:00Z").await;
    corrections::void(&world.app, &format!("{from} embedding 5 2026-12-02T10:00:00Z"), None, false)
        .await
        .expect("void");
    let less = Told { source: Source::CommandLine, ..told("less", &from, "inference", "4", "2026-12-02T11:00:00Z") };
    corrections::adjust(&world.app, less, true, "n", false).await.expect("adjusted");
    let old = Told { source: Source::Backfill, ..told("old", &from, "inference", "1000", "2025-02-03T09:00:00Z") };
    history::backfill(&world.app, "import", vec![old]).await.expect("brought in");
    let before = two.days().await;
    let entries = two.entries().await;

    let would = two.merge(true).await.expect("a preview");
    assert_eq!(two.entries().await, entries, "only looked at");
    assert_eq!(world.get(PATH, &two.from.1).await.status, 200, "nor disabled");
    let done = two.merge(false).await.expect("merged");
    assert_eq!(done, would);
    let used: Vec<(String, String)> =
        done.moved.used.iter().map(|(kind, quantity)| (kind.clone(), quantity.to_string())).collect();
    let expected = [("inference", "111"), ("stt", "3"), ("tts", "0.333333")];
    assert_eq!(used, expected.map(|(kind, quantity)| (kind.to_owned(), quantity.to_owned())));
    let left: Vec<_> = done.moved.packs.iter().map(|kept| (&*kept.pack.id, kept.left.wire())).collect();
    assert_eq!(left, [("welcome", "20".to_owned())], "as it was before the period");

    let after = two.days().await;
    assert_eq!(after.0, before.0, "by day and type, quantities and credits");
    let of = |user: &str, kind: &str| after.1[&(user.to_owned(), kind.to_owned())];
    assert_eq!(of(&from, "inference"), 1_120_000_000, "history, and what was billed");
    assert_eq!([of(&from, "stt"), of(&from, "tts"), of(&into, "stt")], [0, 0, 3_000_000]);
    assert_eq!(world.get(PATH, &two.from.1).await.status, 401, "they are disabled");
    let shown = shown(world, &two.into.1).await;
    // 100 included, 118 and stt and tts used: the rest comes from two packs of 40 and 20.
    assert_eq!(shown["usage"]["month"]["inference"], 118);
    assert_eq!(shown["usage"]["today"]["inference"], 28, "each on its own day");
    let (spent, remaining, _) = credits(&shown);
    assert_eq!(spent, json!(121.333_333), "{shown}");
    assert_eq!(remaining, json!(38.666_667), "{shown}");
    assert_eq!(faults(world, "usage").await, Vec::<String>::new());

    // The same again finds nothing, until something has come.
    let entries = two.entries().await;
    assert_eq!(two.merge(false).await.expect("merged").moved, Merged::default().moved);
    assert_eq!(two.entries().await, entries);
    two.used(&from, "inference", "2", "2026-12-02T11:30:00Z").await;
    let again = two.merge(false).await.expect("merged").moved;
    assert_eq!(again.used.into_iter().collect::<Vec<_>>(), [("inference".to_owned(), Quantity::from_micro(2_000_000))]);
    assert_eq!(super::shown(world, &two.into.1).await["usage"]["month"]["inference"], 120);
    assert_eq!(faults(world, "usage").await, Vec::<String>::new());
}

#[tokio::test]
async fn f50_of_two_who_are_one_no_sum_changes() {
    nothing_of_the_sums_changes(Database::sqlite()).await;
    nothing_of_the_sums_changes(Database::postgres()).await;
}

/// I-02, F-50: what comes meanwhile is moved or stays, and counts once.
#[tokio::test]
async fn f50_what_is_recorded_meanwhile_counts_once() {
    // Everything is of the pack, so what is left of it changes with each event.
    let catalogue = Catalogue::with(&[(r#"included_credits = "100""#, r#"included_credits = "0""#)]);
    let two = Two::of(catalogue.plan(None), [None, None]).await;
    packs::grant(&two.world.app, &two.from.0, &pack("welcome", "5000")).await.expect("granted");
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..4 {
        let (app, user) = (two.world.app.clone(), two.from.0.clone());
        senders.spawn(async move {
            for number in 0..50 {
                let one = told(&format!("{sender}-{number}"), &user, "inference", "1", "2026-11-22T09:00:00Z");
                usage::record(&app, vec![one]).await.expect("recorded");
                // A burst, so that the first tries are too late, and then with gaps that they fit into.
                tokio::time::sleep(Duration::from_millis(u64::from(number > 10))).await;
            }
        });
    }
    let mut moved = Quantity::ZERO;
    let mut merges = 0;
    while !senders.is_empty() || merges == 0 {
        match two.merge(false).await {
            Ok(merged) => moved = merged.moved.used.values().fold(moved, |sum, more| sum.plus(*more).expect("a sum")),
            Err(error) => {
                assert_eq!(code::<()>(Err(error)), "usage.moved_on");
                continue;
            }
        }
        merges += 1;
        let id = two.from.0.clone();
        let row = two.world.app.db.read(move |tx| billhook::store::users::get(tx, &id)).await.expect("read");
        let slot = usage::account(&two.world.app, &row.expect("a user")).await.expect("an account");
        let view = slot.lock().account.at(two.world.now().as_millisecond());
        assert!(view.packs.is_empty(), "the pack has gone over");
        assert_eq!(view.used, view.overage, "and none of it was used here since it was counted");
        while senders.try_join_next().is_some() {}
    }
    let last = two.merge(false).await.expect("merged").moved;
    moved = last.used.values().fold(moved, |sum, more| sum.plus(*more).expect("a sum"));
    assert_eq!(moved, Quantity::from_micro(200_000_000));
    let answer = shown(&two.world, &two.into.1).await;
    assert_eq!(credits(&answer), (json!(200), json!(4800), json!(0.0)), "all of it, once, and the pack whole");
    assert_eq!(faults(&two.world, "usage").await, Vec::<String>::new());
}

#[tokio::test]
async fn f50_a_customer_goes_with_their_user_and_none_is_left_paying() {
    let plan = || Plan::default();
    let tier = async |two: &Two| shown(&two.world, &two.into.1).await["tier"].clone();
    // Only who is to go pays: their subscription is from now on that of who stays.
    let two = Two::of(plan(), [Some(sandbox::USER_CUSTOMER), None]).await;
    two.used(&two.from.0, "inference", "300", "2026-11-22T09:00:00Z").await;
    two.used(&two.into.0, "inference", "1", "2026-11-22T09:00:00Z").await;
    assert_eq!(tier(&two).await, "trial");
    assert_eq!(two.merge(true).await.expect("a preview").customer.as_deref(), Some(sandbox::USER_CUSTOMER));
    assert_eq!(tier(&two).await, "trial", "only looked at");
    assert_eq!(two.merge(false).await.expect("merged").customer.as_deref(), Some(sandbox::USER_CUSTOMER));
    let answer = shown(&two.world, &two.into.1).await;
    assert_eq!((&answer["tier"], credits(&answer).0), (&json!("professional"), json!(301)), "{answer}");
    let rows = users::list(&two.world.app, "", 10).await.expect("users");
    let links: Vec<_> = rows.iter().map(|user| (user.disabled, user.customer.as_deref())).collect();
    assert!(links.contains(&(true, None)) && links.contains(&(false, Some(sandbox::USER_CUSTOMER))), "{links:?}");
    assert_eq!(faults(&two.world, "usage").await, Vec::<String>::new());

    // Two rows with one customer, as an older program has left them.
    let two = Two::of(plan(), [None, Some(sandbox::USER_CUSTOMER)]).await;
    let (from, sql) = (two.from.0.clone(), "UPDATE users SET stripe_customer_id = ?2 WHERE id = ?1");
    let customer = sandbox::USER_CUSTOMER;
    let both = two.world.app.db.write(move |tx| tx.run(sql, &[from.as_str().into(), customer.into()]));
    both.await.expect("written");
    assert_eq!(faults(&two.world, "users").await.len(), 1, "doctor names them");
    two.merge(false).await.expect("merged");
    assert_eq!(faults(&two.world, "users").await, Vec::<String>::new());
    assert_eq!(tier(&two).await, "professional");

    // Both have one, and the one that would be left behind is paid for.
    let two = Two::of(plan(), [Some(sandbox::USER_CUSTOMER), Some("cus_sandbox_130")]).await;
    two.used(&two.from.0, "inference", "3", "2026-11-22T09:00:00Z").await;
    for preview in [true, false] {
        assert_eq!(code(two.merge(preview).await), "user.subscribed");
    }
    assert_eq!(credits(&shown(&two.world, &two.from.1).await).0, json!(3), "nothing was moved, nobody disabled");
    let other_way = merging::merge(&two.world.app, &two.into.0, &two.from.0, false).await.expect("merged");
    assert_eq!(other_way.customer, None, "its invoices stay where they are");

    for (from, into, expected) in
        [(&two.from.0, &two.from.0, "invalid"), (&two.from.0, &"usr_x".to_owned(), "not found")]
    {
        for preview in [true, false] {
            assert_eq!(code(merging::merge(&two.world.app, from, into, preview).await), expected);
        }
    }
    let answer: Answer = two.world.get(PATH, &two.from.1).await;
    assert_eq!(answer.status, 200, "not disabled by what was refused");
}

/// F-46 as well: what went over into a period that was heard of late moves with it.
#[tokio::test]
async fn f50_what_went_over_into_a_new_period_moves_too() {
    let two = Two::of(Plan::default(), [Some("cus_sandbox_130"), None]).await;
    two.used(&two.from.0, "inference", "90", "2026-11-22T09:00:00Z").await;
    subscribe(&two.world, "2026-11-24T08:00:00Z", "price_professional_monthly").await;
    two.world.clock.set(instant("2026-11-25T12:00:00Z"));
    two.used(&two.from.0, "inference", "4", "2026-11-24T07:00:00Z").await;
    two.used(&two.from.0, "inference", "50", "2026-11-24T12:00:00Z").await;
    two.world.clock.set(instant("2026-11-25T20:00:00Z"));
    two.world.sync().await;
    assert_eq!(credits(&shown(&two.world, &two.from.1).await).0, json!(50));
    let before = two.days().await.0;
    two.merge(false).await.expect("merged");
    assert_eq!(two.days().await.0, before);
    let answer = shown(&two.world, &two.into.1).await;
    assert_eq!(period(&answer), ("2026-11-24T08:00:00Z", "2026-12-24T08:00:00Z"));
    assert_eq!(credits(&answer), (json!(50), json!(450), json!(0.0)));
    assert_eq!(faults(&two.world, "usage").await, Vec::<String>::new());
}

/// I-10, F-50: what credits of the one had paid for is not to be paid by the other, also where those are over or were a tier's own.
#[tokio::test]
async fn f50_what_was_paid_for_stays_paid_for() {
    let two = Two::of(Plan { stripe: None, ..Plan::default() }, [None, None]).await;
    let soon = Pack { expires_ms: Some(instant("2026-11-23T00:00:00Z").as_millisecond()), ..pack("soon", "50") };
    packs::grant(&two.world.app, &two.from.0, &soon).await.expect("granted");
    two.used(&two.from.0, "inference", "150", "2026-11-22T09:00:00Z").await;
    two.used(&two.into.0, "inference", "60", "2026-11-22T09:00:00Z").await;
    two.world.clock.set(instant("2026-11-25T00:00:00Z"));
    let before = two.days().await.0;
    let moved = two.merge(false).await.expect("merged").moved;
    assert_eq!((moved.made_up.wire(), moved.packs.len()), ("110".to_owned(), 0), "50 of the pack, and 60 of two tiers");
    assert_eq!(two.days().await.0, before);
    let answer = shown(&two.world, &two.into.1).await;
    assert_eq!(credits(&answer), (json!(210), json!(0), json!(0.0)));
    assert_eq!(answer["credits"]["overage"], 0);
    assert_eq!(faults(&two.world, "usage").await, Vec::<String>::new());
}

#[tokio::test]
async fn f50_what_is_owed_stays_owed_and_what_is_held_is_waited_for() {
    let two = Two::of(Plan { stripe: None, ..Plan::default() }, [None, None]).await;
    let add = users::Add {
        email: "payer@example.com".to_owned(),
        name: "P".to_owned(),
        tier: Some("professional".to_owned()),
        customer: None,
        admin: false,
    };
    let payer = users::add(&two.world.app, add).await.expect("a user");
    two.used(&payer, "inference", "600", "2026-11-22T09:00:00Z").await;
    let entries = two.entries().await;
    for preview in [true, false] {
        let refused = merging::merge(&two.world.app, &payer, &two.into.0, preview).await;
        assert_eq!(code(refused), "user.owes", "nobody would pay 0.20 of it");
    }
    assert_eq!(two.entries().await, entries);

    let key = crate::access::key(&two.world, billhook::ops::keys::Scope::UsageWrite).await;
    let headers = [("authorization", key.as_str()), ("content-type", "application/json")];
    let body = json!({ "user_id": two.from.0, "type": "inference", "quantity": 1, "ttl_seconds": 60 }).to_string();
    let held = two.world.send("POST", "/api/v1/usage/reservations", &headers, &body).await;
    assert_eq!(held.status, 201, "{}", held.body);
    billhook::ops::reservations::write_down(&two.world.app).await.expect("written down");
    assert_eq!(code(two.merge(false).await), "user.busy");
    two.world.clock.set(two.world.now() + jiff::SignedDuration::from_secs(61));
    two.merge(false).await.expect("its time is over");
    assert_eq!(
        code(merging::merge(&two.world.app, &payer, &two.from.0, false).await),
        "invalid",
        "into the disabled one"
    );
}

/// F-46, F-50: in the first hour of a period what is older would count in the one before it, which is not that of the one who goes.
#[tokio::test]
async fn f50_in_the_first_hour_of_a_period_nothing_goes_into_the_one_before() {
    let two = Two::of(Plan::default(), [Some("cus_sandbox_130"), None]).await;
    subscribe(&two.world, "2026-11-24T08:00:00Z", "price_professional_monthly").await;
    two.world.sync().await;
    two.world.clock.set(instant("2026-11-25T12:00:00Z"));
    two.used(&two.from.0, "inference", "450", "2026-11-24T12:00:00Z").await;
    two.used(&two.into.0, "inference", "1", "2026-11-25T11:00:00Z").await;
    two.world.clock.set(instant("2026-12-01T00:30:00Z"));
    two.used(&two.into.0, "inference", "2", "2026-12-01T00:20:00Z").await;
    let entries = two.entries().await;
    for preview in [true, false] {
        assert_eq!(code(two.merge(preview).await), "usage.moved_on");
    }
    assert_eq!(two.entries().await, entries);
    assert_eq!(two.world.get(PATH, &two.from.1).await.status, 200, "nothing of it was done");
    two.world.clock.set(instant("2026-12-01T01:00:01Z"));
    two.merge(false).await.expect("merged");
    let answer = shown(&two.world, &two.into.1).await;
    assert_eq!((credits(&answer).0, credits(&answer).1), (json!(452), json!(48)), "{answer}");
    assert_eq!(faults(&two.world, "usage").await, Vec::<String>::new());
}
