//! Full syncs: whole, interrupted, gone on with.

use billhook::store::mirror::Resource;
use futures_util::future::join_all;
use sandbox::{Fault, FaultKind, Seed};

use super::{assert_mirror_is_stripe, ids, list_state, mirrored};
use crate::harness::{Database, Plan, World, impatient};

const FAILS: FaultKind = FaultKind::Status { status: 500, retry_after: None, should_retry: None };

#[tokio::test]
async fn a_full_sync_holds_what_stripe_holds() {
    let world = World::planned(Plan::default()).await;
    let outcome = world.sync().await;
    assert_eq!((outcome.deleted, outcome.faults), (0, Vec::new()));
    assert_mirror_is_stripe(&world).await;
    let customers = ids(&world.app, Resource::Customers).await.len();
    assert_eq!(customers, 150, "more than one page");
}

#[tokio::test]
async fn a_sync_of_nothing_new_writes_nothing_anew() {
    let world = World::new().await;
    let rows = "SELECT id, fingerprint, monthly_minor FROM subscriptions";
    let before = mirrored(&world.app, rows).await;
    let again = world.sync().await;
    assert_eq!((again.deleted, again.faults), (0, Vec::new()));
    assert_eq!(mirrored(&world.app, rows).await, before);
    assert_mirror_is_stripe(&world).await;
}

/// Each list breaks off in its middle, by a 500 or a reset; the next run goes on from where it stood.
async fn broken_off_by(trouble: FaultKind) {
    let world = World::planned(Plan { limits: impatient, ..Plan::default() }).await;
    let stripe = world.stripe.as_ref().expect("a sandbox");
    let breaks = |resource: Resource, after: u32| {
        stripe.faults().push(Fault {
            times: None,
            ..Fault::new(format!("/v1/{}", resource.name()), 1, trouble.clone()).after(after)
        });
    };
    // Of more than a page: after the first. The others at once.
    let long = [Resource::Customers, Resource::Subscriptions, Resource::Invoices, Resource::Charges];
    for resource in Resource::ALL {
        breaks(resource, u32::from(long.contains(&resource)));
    }
    world.sync_result().await.expect_err("broken off");
    for resource in Resource::ALL {
        let state = list_state(&world.app, resource).await;
        if resource == Resource::PaymentMethods {
            assert_eq!(state, None, "while customers are missing, theirs are not all there is");
            continue;
        }
        let state = state.expect("begun");
        assert_eq!((state.as_of, state.fault.is_some()), (None, true), "{resource:?}");
        assert_eq!(state.cursor.is_some(), long.contains(&resource), "{resource:?}");
    }
    stripe.faults().clear();
    stripe.faults().push(Fault { times: None, ..Fault::new("/v1/customers/cus_", 1, trouble.clone()).after(110) });
    stripe.clear_requests();
    world.sync_result().await.expect_err("broken off once more");
    for resource in long {
        let list = stripe.requests().into_iter().find(|asked| asked.path == format!("/v1/{}", resource.name()));
        assert!(list.expect("asked").query.contains("starting_after="), "{resource:?} goes on where it stood");
    }
    let state = list_state(&world.app, Resource::PaymentMethods).await.expect("begun");
    assert_eq!((state.as_of, state.cursor.is_some()), (None, true));
    stripe.faults().clear();
    stripe.clear_requests();
    let outcome = world.sync().await;
    let asked = stripe.requests().into_iter().filter(|asked| asked.path.ends_with("/payment_methods")).count();
    assert!(asked < 150, "those before the break are not asked again: {asked}");
    assert_eq!(outcome.faults, Vec::new());
    assert_mirror_is_stripe(&world).await;
}

#[tokio::test]
async fn f28_a_sync_broken_off_by_a_500_goes_on_from_its_checkpoint() {
    broken_off_by(FAILS).await;
}

#[tokio::test]
async fn f28_a_sync_broken_off_by_a_reset_goes_on_from_its_checkpoint() {
    broken_off_by(FaultKind::Reset).await;
}

#[tokio::test]
async fn f11_a_sync_that_is_dropped_in_its_middle_goes_on_from_its_checkpoint() {
    let world = World::planned(Plan::default()).await;
    for milliseconds in [30, 60, 120, 240] {
        let _ = tokio::time::timeout(std::time::Duration::from_millis(milliseconds), world.sync()).await;
    }
    world.sync().await;
    assert_mirror_is_stripe(&world).await;
}

#[tokio::test]
async fn one_list_that_fails_stops_no_other() {
    let world = World::planned(Plan { limits: impatient, ..Plan::default() }).await;
    let stripe = world.stripe.as_ref().expect("a sandbox");
    stripe.faults().push(Fault { times: None, ..Fault::new("/v1/invoices", 1, FAILS) });
    world.sync_result().await.expect_err("one list failed");
    for resource in Resource::ALL {
        let state = list_state(&world.app, resource).await.expect("begun");
        assert_eq!(state.as_of.is_some(), resource != Resource::Invoices, "{resource:?}");
    }
}

#[tokio::test]
async fn requests_and_a_sync_at_the_same_time_end_in_the_same_mirror() {
    let world = World::planned(Plan::default()).await;
    let users = join_all((0..6).map(|number| {
        let customer = if number == 0 { sandbox::USER_CUSTOMER.to_owned() } else { format!("cus_sandbox_{number:03}") };
        let world = &world;
        async move { world.user(&format!("u{number}@example.org"), Some(&customer), false).await.1 }
    }))
    .await;
    let asking = join_all(users.iter().map(|token| world.get("/api/v1/billing/subscription", token)));
    let (outcome, answers) = tokio::join!(world.sync(), asking);
    assert_eq!(outcome.faults, Vec::new());
    assert_eq!(answers.into_iter().map(|answer| answer.status).collect::<Vec<_>>(), [200; 6]);
    assert_mirror_is_stripe(&world).await;
}

#[tokio::test]
async fn the_mirror_is_the_same_on_both_databases() {
    let mut rows = Vec::new();
    for database in [Database::sqlite(), Database::postgres()] {
        let world = World::planned(Plan { database, ..Plan::default() }).await;
        world.sync().await;
        assert_mirror_is_stripe(&world).await;
        rows.push((
            mirrored(&world.app, "SELECT id, customer, status, tier, currency, amount_minor, monthly_minor, period_end FROM subscriptions").await,
            mirrored(&world.app, "SELECT id, customer, status, amount_due, paid, created FROM invoices").await,
        ));
    }
    assert_eq!(rows[0], rows[1]);
}

#[tokio::test]
async fn an_empty_account_is_known_to_be_empty() {
    let world = World::planned(Plan { stripe: Some(Seed::Empty), ..Plan::default() }).await;
    let outcome = world.sync().await;
    assert_eq!((outcome.objects, outcome.faults), (0, Vec::new()));
    let stats = world.get("/api/v1/admin/billing/stats", &world.admin().await).await;
    assert_eq!((stats.status, stats.header("billing-as-of")), (200, Some("2026-11-22T10:00:00Z")));
}
