//! The route: what is proven, what is kept, and what is not.

use billhook::config::Config;
use billhook::store::webhooks::{Source, State, Which};
use serde_json::json;

use super::account::{Account, SECRET, signature};
use super::{deliver, drain, event, in_front_of, now, post, state};
use crate::harness::{Plan, World};

const OTHER: &str = "whsec_theOtherSecret1234";

fn an_event(id: &str) -> String {
    json!({"id": id, "object": "event", "type": "customer.updated", "created": now(), "livemode": false,
        "api_version": "2026-09-30.endive", "data": {"object": {"id": "cus_1", "object": "customer"}}})
    .to_string()
}

async fn kept(world: &World) -> usize {
    billhook::ops::webhooks::replay::list(&world.app, Which::All, 1000).await.expect("a list").len()
}

#[tokio::test]
async fn s41_s43_only_what_is_signed_now_over_these_bytes_is_taken() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    let (body, t) = (an_event("evt_1"), now());
    let good = signature(SECRET, t, body.as_bytes());
    let digest = good.split("v1=").nth(1).unwrap().to_owned();
    let flipped = format!("{}{}", if digest.starts_with('0') { '1' } else { '0' }, &digest[1..]);
    let late = signature(SECRET, t - 301, body.as_bytes());
    let early = signature(SECRET, t + 301, body.as_bytes());
    let empty_key = signature("", t, body.as_bytes());
    for (what, header) in [
        ("no v1", format!("t={t}")),
        ("only v0", format!("t={t},v0={digest}")),
        ("no t", format!("v1={digest}")),
        ("two t", format!("t={t},t={t},v1={digest}")),
        ("another t", format!("t={},v1={digest}", t - 1)),
        ("a signed t", format!("t=+{t},v1={digest}")),
        ("no hexadecimal", format!("t={t},v1={}", "g".repeat(64))),
        ("cut", format!("t={t},v1={}", &digest[..62])),
        ("longer", format!("t={t},v1={digest}00")),
        ("one digit", format!("t={t},v1={flipped}")),
        ("another secret", signature(OTHER, t, body.as_bytes())),
        ("no secret", empty_key),
        ("301 s old", late),
        ("301 s ahead", early),
        ("too many", format!("t={t}{}", format!(",v1={flipped}").repeat(9))),
        ("words", "Bearer of bad news".to_owned()),
        ("empty", String::new()),
    ] {
        let answer = post(&world, &header, &body).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (400, Some("webhook.signature")), "{what}");
    }
    let answer = world.send("POST", "/api/v1/webhooks/stripe", &[], &body).await;
    assert_eq!(answer.json()["code"], "webhook.signature", "no header");
    let twice = [("stripe-signature", good.as_str()), ("stripe-signature", good.as_str())];
    assert_eq!(world.send("POST", "/api/v1/webhooks/stripe", &twice, &body).await.status, 400, "two headers");
    let changed = body.replace("cus_1", "cus_2");
    assert_eq!(post(&world, &good, &changed).await.status, 400, "one byte of the body");
    assert_eq!(kept(&world).await, 0, "nothing of it is kept");
    for header in
        [good.clone(), signature(SECRET, t - 300, body.as_bytes()), signature(SECRET, t + 300, body.as_bytes())]
    {
        assert_eq!(post(&world, &header, &body).await.status, 200, "{header}");
    }
    assert_eq!(kept(&world).await, 1);
}

#[tokio::test]
async fn s41_a_known_signature() {
    // Made with stripe-python 16.1.0: stripe.WebhookSignature._compute_signature.
    let vector = "t=1790000000,v1=621e30333c3e6f1df3159281b9d0e6983411cc64573a2fb2802f56791c7a24c1";
    let expected = signature("whsec_test_secret", 1_790_000_000, br#"{"id":"evt_1"}"#);
    assert_eq!(expected, vector);
}

#[tokio::test]
async fn s42_while_one_secret_takes_over_both_are_taken() {
    let account = Account::open(now());
    let plan = Plan {
        stripe: None,
        stripe_base: Some(account.base()),
        environment: vec![("STRIPE_WEBHOOK_SECRET", format!("{OTHER}, {SECRET}"))],
        ..Plan::default()
    };
    let world = World::planned(plan).await;
    let t = now();
    for (id, secrets) in [
        ("evt_1", vec![SECRET]),
        ("evt_2", vec![OTHER]),
        ("evt_3", vec!["whsec_unknown12345", SECRET]),
        ("evt_4", vec![OTHER, "whsec_unknown12345"]),
    ] {
        let body = an_event(id);
        let digests =
            secrets.iter().map(|secret| signature(secret, t, body.as_bytes()).split(",v1=").nth(1).unwrap().to_owned());
        let header =
            format!("t={t},v0=00,{}", digests.map(|digest| format!("v1={digest}")).collect::<Vec<_>>().join(","));
        assert_eq!(post(&world, &header, &body).await.status, 200, "{id}");
    }
}

#[tokio::test]
async fn s40_without_a_secret_there_is_no_route_and_an_empty_one_refuses_to_start() {
    let account = Account::open(now());
    let plan = Plan { stripe: None, stripe_base: Some(account.base()), ..Plan::default() };
    let world = World::planned(plan).await;
    let body = an_event("evt_1");
    for header in [signature(SECRET, now(), body.as_bytes()), signature("", now(), body.as_bytes())] {
        assert_eq!(post(&world, &header, &body).await.status, 404);
    }
    for secret in ["", " ", ",", "whsec_", "whsec_12345678,"] {
        let environment = std::collections::BTreeMap::from([("STRIPE_WEBHOOK_SECRET".to_owned(), secret.to_owned())]);
        let faults = Config::read(&environment).expect_err(secret);
        assert_eq!(faults[0].name, "STRIPE_WEBHOOK_SECRET", "{secret:?}");
    }
}

#[tokio::test]
async fn what_is_no_event_is_refused_by_name() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    for (body, code) in [
        (r#"{"id":"evt_1","object":"v2.core.event","type":"v1.customer.updated"}"#, "webhook.thin"),
        ("not JSON", "body.malformed"),
        ("[]", "body.malformed"),
        (r#"{"object":"event"}"#, "body.malformed"),
        (r#"{"id":"evt_1","id":"evt_2","object":"event"}"#, "body.malformed"),
    ] {
        let answer = deliver(&world, body).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (400, Some(code)), "{body}");
    }
    let long = format!(r#"{{"id":"evt_1","object":"event","x":"{}"}}"#, "x".repeat(1 << 20));
    assert_eq!(deliver(&world, &long).await.status, 413);
    assert_eq!(kept(&world).await, 0);
}

#[tokio::test]
async fn s44_the_same_event_a_hundred_times_at_once_is_one() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    account.put("customers", "cus_1", &json!({"name": "Ann"}));
    let body = an_event("evt_1");
    let answers = futures_util::future::join_all((0..100).map(|_| deliver(&world, &body))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(kept(&world).await, 1);
    account.take_fetches();
    assert_eq!(drain(&world).await.applied, 1);
    assert_eq!(account.take_fetches(), 1);
    assert_eq!(deliver(&world, &body).await.status, 200, "and again when it has been applied");
    assert_eq!((kept(&world).await, drain(&world).await.applied), (1, 0));
}

#[tokio::test]
async fn s45_what_is_not_ours_is_kept_and_not_applied() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    let base: serde_json::Value = serde_json::from_str(&an_event("evt")).unwrap();
    for (id, change, reason) in [
        ("evt_live", json!({"livemode": true}), "a live event"),
        ("evt_connected", json!({"account": "acct_2"}), "connected account acct_2"),
        ("evt_newer", json!({"api_version": "2027-03-31.fennel"}), "2027-03-31.fennel"),
        ("evt_odd", json!({"api_version": "tomorrow"}), "tomorrow"),
        (
            "evt_type",
            json!({"type": "hologram.projected", "data": {"object": {"id": "h_1", "object": "hologram"}}}),
            "type",
        ),
        ("evt_untimed", json!({"created": null}), "time"),
        ("evt_untyped", json!({"type": null}), "type"),
    ] {
        let mut body = base.clone();
        body["id"] = json!(id);
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        assert_eq!(deliver(&world, &body.to_string()).await.status, 200, "{id}");
        match state(&world, id).await {
            State::Quarantined { reason: why } => assert!(why.contains(reason), "{id}: {why}"),
            other => panic!("{id}: {other:?}"),
        }
    }
    account.take_fetches();
    assert_eq!((drain(&world).await.applied, account.take_fetches()), (0, 0));
    let numbers = billhook::ops::webhooks::status(&world.app).await.expect("a status");
    assert_eq!(numbers.counts.quarantined, 7);
    assert_eq!(world.app.webhooks.quarantined.read(), Some(7));
}

#[tokio::test]
async fn an_event_of_something_that_is_not_mirrored_is_done_at_once() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    let body = json!({"id": "evt_1", "object": "event", "type": "payment_intent.created", "created": now(),
        "data": {"object": {"id": "pi_1", "object": "payment_intent", "customer": "cus_1"}}});
    deliver(&world, &body.to_string()).await;
    let kept = event(&world, "evt_1").await.expect("kept");
    assert!(matches!(kept.state, State::Applied { note: Some(_), .. }), "{kept:?}");
    assert_eq!((kept.target, kept.source), (None, Source::Webhook));
}
