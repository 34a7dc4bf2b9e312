//! The same against the sandbox: what happens there is found by a sweep and ends in our answers.

use billhook::ops::verify::{self, Mode};
use billhook::ops::webhooks::sweep::{self, Swept};
use serde_json::json;

use super::drain;
use crate::harness::World;

#[tokio::test]
async fn what_happens_in_the_sandbox_is_in_our_answers_after_a_sweep() {
    let world = World::new().await;
    let token = world.ada().await;
    sweep::run(&world.app).await.expect("a sweep");
    drain(&world).await;
    for (method, path, form) in [
        ("POST", "/v1/customers/cus_sandbox_110", "name=Another"),
        ("POST", "/v1/subscriptions/sub_sandbox_061", "cancel_at_period_end=true"),
        ("DELETE", "/v1/customers/cus_sandbox_111", ""),
        ("DELETE", "/v1/coupons/FOUNDING20", ""),
        ("POST", "/v1/payment_methods/pm_sandbox_user/detach", ""),
        ("DELETE", "/v1/subscriptions/sub_sandbox_user", ""),
    ] {
        world.at_stripe(method, path, form).await;
    }
    let Swept::ToTheEnd { new, .. } = sweep::run(&world.app).await.expect("a sweep") else { panic!("not to the end") };
    assert!(new >= 6, "{new}");
    drain(&world).await;
    let mut found = Vec::new();
    let verified = verify::run(&world.app, Mode::Compare, &mut |difference| found.push(difference.clone())).await;
    assert_eq!((verified.expect("compared").different, found), (0, Vec::new()));
    let shown = world.get("/api/v1/billing/subscription", &token).await.json();
    assert_eq!(shown["status"], json!("none"));
    assert_eq!(world.get("/api/v1/billing/payment-methods", &token).await.body, "[]");
}
