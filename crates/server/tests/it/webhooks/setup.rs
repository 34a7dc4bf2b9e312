//! The endpoint at Stripe: made once, found, put right, and changed for another.

use billhook::ops::stripe_setup::{self, Ask, Endpoint, Outcome};
use serde_json::json;

use super::account::{Account, VERSION};
use super::{in_front_of, now};
use crate::harness::World;

const URL: &str = "https://billing.example.com/api/v1/webhooks/stripe";

async fn setup(world: &World, rotate: bool) -> Endpoint {
    stripe_setup::run(&world.app, Ask { url: Some(URL.to_owned()), rotate }).await.expect("an endpoint")
}

#[tokio::test]
async fn an_endpoint_is_made_once_and_then_found() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    let made = setup(&world, false).await;
    assert_eq!(made.outcome, Outcome::Created { secret: "whsec_secret1secret".to_owned() });
    assert_eq!((made.version.as_deref(), made.others.len()), (Some(VERSION), 0));
    let sent = account.inside().endpoints[0]["enabled_events"].as_array().unwrap().len();
    assert_eq!(sent, stripe_setup::EVENTS.len());
    assert_eq!(setup(&world, false).await.outcome, Outcome::Found);
    account.inside().endpoints[0]["enabled_events"] = json!(["invoice.paid"]);
    assert_eq!(setup(&world, false).await.outcome, Outcome::Updated);
    account.inside().endpoints[0]["status"] = json!("disabled");
    assert_eq!(setup(&world, false).await.outcome, Outcome::Updated);
    assert_eq!(setup(&world, false).await.outcome, Outcome::Found);
    account.inside().endpoints[0]["enabled_events"] = json!(["*"]);
    assert_eq!(setup(&world, false).await.outcome, Outcome::Found);
}

#[tokio::test]
async fn another_secret_comes_with_another_endpoint_and_another_version_too() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    setup(&world, false).await;
    let other = setup(&world, true).await;
    assert_eq!(other.outcome, Outcome::Created { secret: "whsec_secret2secret".to_owned() });
    assert_eq!(other.others, ["we_1"]);
    account.inside().endpoints.truncate(1);
    account.inside().endpoints[0]["api_version"] = json!("2024-09-30.acacia");
    assert_eq!(setup(&world, false).await.outcome, Outcome::OtherVersion);
    assert_eq!(account.inside().endpoints.len(), 1, "nothing is made unasked");
    setup(&world, true).await;
    assert_eq!(setup(&world, false).await.outcome, Outcome::Found, "ours is preferred");
}

#[tokio::test]
async fn every_event_that_we_ask_for_is_one_that_we_understand() {
    for (place, event) in stripe_setup::EVENTS.iter().enumerate() {
        assert!(!stripe_setup::EVENTS[..place].contains(event), "{event} is there twice");
    }
    assert!(stripe_setup::EVENTS.is_sorted());
}
