//! Webhook endpoints and what is delivered to them: signed, in their shape, again where it failed, and chaotically.

use crate::lab::{Lab, NOW};
use crate::receiver::Receiver;
use sandbox::{Chaos, Seed};
use serde_json::{Value, json};
use std::collections::HashSet;

const MINUTE: i64 = 60;
const DAY: i64 = 24 * 60 * MINUTE;

/// Creates an endpoint that leads to a receiver.
fn endpoint(lab: &Lab, receiver: &Receiver, rest: &str) -> Value {
    let url = receiver.url().replace(':', "%3A").replace('/', "%2F");
    lab.made("/v1/webhook_endpoints", &format!("url={url}&{rest}"))
}

#[test]
fn an_endpoint_shows_its_secret_once() {
    let lab = Lab::new(Seed::Empty);
    let made = lab.made("/v1/webhook_endpoints", "url=https%3A%2F%2Fexample.com&enabled_events[]=*&metadata[a]=b");
    let path = format!("/v1/webhook_endpoints/{}", made["id"].as_str().unwrap());
    assert!(made["secret"].as_str().unwrap().starts_with("whsec_") && made["secret"].as_str().unwrap().len() == 38);
    assert_eq!((&made["status"], &made["api_version"]), (&json!("enabled"), &json!(null)));
    let kept = lab.get(&path).body;
    assert_eq!((kept.get("secret"), &kept["url"]), (None, &json!("https://example.com")));
    let changed = lab.made(&path, "disabled=true&enabled_events[]=invoice.paid&description=x");
    assert_eq!((&changed["status"], &changed["enabled_events"]), (&json!("disabled"), &json!(["invoice.paid"])));
    assert_eq!(lab.get("/v1/webhook_endpoints").rows(), [changed]);
    assert_eq!(lab.delete(&path).body["deleted"], true);
    assert_eq!(lab.get(&path).error(), "404 invalid_request_error resource_missing webhook_endpoint");
}

#[test]
fn endpoints_that_make_no_sense_are_refused() {
    let lab = Lab::new(Seed::Empty);
    let good = "url=http%3A%2F%2Flocalhost%3A1&enabled_events[]=*";
    for (form, expected) in [
        ("url=http%3A%2F%2Fx", "parameter_missing enabled_events"),
        ("enabled_events[]=*", "parameter_missing url"),
        ("url=example.com&enabled_events[]=*", "url_invalid url"),
        ("url=http%3A%2F%2Fx&enabled_events[]=invoice.eaten", "- enabled_events[0]"),
        ("url=http%3A%2F%2Fx&enabled_events[]=*&api_version=tomorrow", "- api_version"),
        ("url=http%3A%2F%2Fx&enabled_events[]=*&connect=true", "sandbox_unsupported connect"),
    ] {
        assert_eq!(lab.post("/v1/webhook_endpoints", form).error(), format!("400 invalid_request_error {expected}"));
    }
    for _ in 0..16 {
        lab.made("/v1/webhook_endpoints", good);
    }
    assert_eq!(lab.post("/v1/webhook_endpoints", good).status, 400, "sixteen are the limit");
}

#[test]
fn events_arrive_signed_and_in_order() {
    let (lab, receiver) = (Lab::new(Seed::Business), Receiver::start());
    let made = endpoint(&lab, &receiver, "enabled_events[]=*");
    let customer = lab.payer("pm_card_visa");
    lab.subscribe(&customer, "items[0][price]=price_starter_monthly");
    lab.settle();
    let listed = lab.events_since("");
    let arrived = receiver.events();
    let ids = |events: &[Value]| events.iter().map(|event| event["id"].clone()).collect::<Vec<_>>();
    let newest = lab.get("/v1/events?limit=100");
    let mut all: Vec<Value> = newest.rows().to_vec();
    all.reverse();
    assert_eq!(ids(&arrived), ids(&all), "every event, in the order of its instant; {}", listed.len());
    let secret = made["secret"].as_str().unwrap();
    for message in receiver.messages() {
        assert_eq!(message.signed_at(secret), Some(NOW));
        assert_eq!(message.signed_at("whsec_other"), None);
    }
    assert!(all.iter().all(|event| event["pending_webhooks"] == 0));
    assert_eq!(arrived[0]["data"], all[0]["data"]);
}

#[test]
fn each_endpoint_gets_what_it_asked_for_in_its_shape() {
    let (lab, old, new) = (Lab::new(Seed::Business), Receiver::start(), Receiver::start());
    let types = "enabled_events[]=customer.subscription.updated&enabled_events[]=invoice.paid";
    endpoint(&lab, &old, &format!("api_version=2025-02-24.acacia&{types}"));
    endpoint(&lab, &new, "enabled_events[]=invoice.paid");
    let off = endpoint(&lab, &Receiver::start(), "enabled_events[]=*");
    lab.made(&format!("/v1/webhook_endpoints/{}", off["id"].as_str().unwrap()), "disabled=true");
    let customer = lab.payer("pm_card_visa");
    lab.subscribe(&customer, "items[0][price]=price_starter_monthly");
    lab.advance(31 * DAY);
    let paid = |receiver: &Receiver| {
        let mut events = receiver.events();
        events.retain(|event| {
            event["type"] == "invoice.paid" && event["data"]["object"]["customer"] == customer.as_str()
        });
        events
    };
    assert!(new.types().iter().all(|name| name == "invoice.paid"));
    let (before, after) = (&paid(&old)[0], &paid(&new)[0]);
    assert_eq!(before["id"], after["id"]);
    assert_eq!(
        (&before["api_version"], &after["api_version"]),
        (&json!("2025-02-24.acacia"), &json!("2026-09-30.endive"))
    );
    let (before, after) = (&before["data"]["object"], &after["data"]["object"]);
    assert_eq!((&before["paid"], before.get("parent")), (&json!(true), None));
    assert_eq!(before["subscription"], after["parent"]["subscription_details"]["subscription"]);
    let renewed: Vec<Value> = old.events();
    let renewed = renewed.iter().find(|event| {
        event["data"]["object"]["customer"] == customer.as_str()
            && event["data"]["previous_attributes"]["current_period_end"].is_i64()
    });
    assert!(renewed.is_some(), "F-39: old endpoints are told of the old place of the period");
    let off = off["id"].as_str().unwrap();
    assert!(lab.sandbox().deliveries().iter().all(|delivery| delivery.endpoint != off));
}

#[test]
fn what_is_not_taken_comes_again_after_growing_pauses() {
    let (lab, receiver) = (Lab::new(Seed::Empty), Receiver::start());
    endpoint(&lab, &receiver, "enabled_events[]=customer.created");
    receiver.answer_with(&[500, 302, 404]);
    lab.made("/v1/customers", "name=Eve");
    lab.settle();
    let event = lab.last_event();
    let pending = || lab.get(&format!("/v1/events/{event}")).body["pending_webhooks"].clone();
    assert_eq!((receiver.messages().len(), pending()), (1, json!(1)));
    assert_eq!(lab.get("/v1/events?delivery_success=false").ids(), [event.as_str()]);
    lab.wait(MINUTE); // the clock that was given counts
    lab.settle();
    assert_eq!(receiver.messages().len(), 2);
    lab.advance(5 * MINUTE); // and so does the sandbox's own
    assert_eq!((receiver.messages().len(), pending()), (3, json!(1)));
    lab.advance(DAY);
    assert_eq!((receiver.messages().len(), pending()), (4, json!(0)));
    let tries: Vec<(u32, i64, Option<u16>)> =
        lab.sandbox().deliveries().iter().map(|try_| (try_.attempt, try_.at - NOW, try_.status)).collect();
    assert_eq!(tries, [(1, 0, Some(500)), (2, 60, Some(302)), (3, 360, Some(404)), (4, 2_160, Some(200))]);
    let bodies: HashSet<Value> = receiver.events().iter().map(|event| event["id"].clone()).collect();
    assert_eq!(bodies.len(), 1, "I-02: the same event under the same id");
}

#[test]
fn after_three_days_it_is_given_up() {
    let lab = Lab::new(Seed::Empty);
    lab.made("/v1/webhook_endpoints", "url=http%3A%2F%2F127.0.0.1%3A1&enabled_events[]=*");
    lab.made("/v1/customers", "name=Eve");
    lab.advance(10 * DAY);
    let tries = lab.sandbox().deliveries();
    assert!(tries.iter().all(|try_| try_.status.is_none() && try_.failure.is_some()));
    let last = tries.last().unwrap().at - NOW;
    assert!(last <= 3 * DAY && last > 2 * DAY && tries.len() > 8, "{} tries until {last}", tries.len());
    assert_eq!(lab.get("/v1/events?delivery_success=false").rows().len(), 1);
}

#[test]
fn an_event_is_sent_again_when_somebody_asks() {
    let (lab, receiver) = (Lab::new(Seed::Empty), Receiver::start());
    let made = endpoint(&lab, &receiver, "enabled_events[]=*");
    lab.made("/v1/customers", "name=Eve");
    lab.settle();
    let form = format!("webhook_endpoint={}", made["id"].as_str().unwrap());
    lab.made(&format!("/v1/events/{}/retry", lab.last_event()), &form);
    lab.settle();
    assert_eq!(receiver.types(), ["customer.created", "customer.created"]);
}

/// F-35, F-36, F-37: repeated, lost and disordered, the same in every run with the same seed.
#[test]
fn chaos_repeats_loses_and_shuffles() {
    let run = |chaos: Value| {
        let (lab, receiver) = (Lab::new(Seed::Empty), Receiver::start());
        endpoint(&lab, &receiver, "enabled_events[]=customer.created");
        assert_eq!(lab.control("/_sandbox/chaos", &chaos).status, 200);
        let names: Vec<String> = (0..60).map(|number| format!("{number:02}")).collect();
        for name in &names {
            lab.made("/v1/customers", &format!("name={name}"));
            lab.wait(1);
        }
        lab.advance(60);
        let seen: Vec<String> = receiver
            .events()
            .iter()
            .map(|event| event["data"]["object"]["name"].as_str().unwrap().to_owned())
            .collect();
        (names, seen)
    };
    let distinct = |seen: &[String]| seen.iter().collect::<HashSet<_>>().len();
    let (names, calm) = run(json!({}));
    assert_eq!(calm, names);
    let (_, twice) = run(json!({"duplicate": 500, "seed": 1}));
    assert!(distinct(&twice) == 60 && (75..105).contains(&twice.len()), "{}", twice.len());
    let (_, lossy) = run(json!({"drop": 500, "seed": 1}));
    assert!(distinct(&lossy) == lossy.len() && (15..45).contains(&lossy.len()), "{}", lossy.len());
    let (names, shuffled) = run(json!({"shuffle": 30, "seed": 1}));
    assert!(distinct(&shuffled) == 60 && shuffled != names);
    assert_eq!(run(json!({"shuffle": 30, "seed": 1})).1, shuffled);
    let far = |(place, name): (usize, &String)| name.parse::<usize>().unwrap().abs_diff(place) > 31;
    assert!(!shuffled.iter().enumerate().any(far), "nobody is later than the window");
    let lab = Lab::new(Seed::Empty);
    assert_eq!(lab.control("/_sandbox/chaos", &json!({"dorp": 1})).status, 422);
    lab.sandbox().set_chaos(Chaos { drop: 7, ..Chaos::default() });
    assert_eq!(lab.get("/_sandbox/chaos").body, json!({"duplicate": 0, "drop": 7, "shuffle": 0, "seed": 0}));
}
