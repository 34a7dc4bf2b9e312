//! `/authorize`: a gateway asks before it lets a request through.

use billhook::ops::keys::Scope;
use billhook::ops::users;
use serde_json::{Value, json};

use super::{EVENTS, Meter, fault};
use crate::access::key;
use crate::counters::{Adapter, Rig};
use crate::harness::{Answer, Database, Plan};

const CHECK: &str = "/api/v1/usage/check";
const RESERVE: &str = "/api/v1/usage/reservations";
const PATH: &str = "/api/v1/usage/authorize";

async fn asked(meter: &Meter, query: &str, headers: &[(&str, &str)]) -> Answer {
    meter.world.request("GET", &format!("{PATH}{query}"), headers).await
}

#[tokio::test]
async fn the_signed_in_user_or_the_one_that_the_gateway_names_is_let_through() {
    let meter = Meter::new().await;
    let (other, _) = meter.world.user("other@example.com", None, false).await;
    let cookie = format!("session_token={}", meter.session);
    let key = ("authorization", meter.key.as_str());
    for (name, headers, user) in [
        ("a session", vec![("cookie", cookie.as_str())], &meter.user),
        ("a header that anybody can send", vec![("cookie", &cookie), ("x-billhook-user", &other)], &meter.user),
        ("a provider's key beside it", vec![("cookie", &cookie), ("authorization", "Bearer sk-provider")], &meter.user),
        ("a gateway", vec![key, ("x-billhook-user", &other)], &other),
        ("a gateway, with a session", vec![key, ("cookie", &cookie), ("x-billhook-user", &other)], &other),
    ] {
        let answer = asked(&meter, "?type=inference", &headers).await;
        assert_eq!((answer.status, answer.header("x-billhook-user")), (200, Some(user.as_str())), "{name}");
        assert_eq!(
            (answer.header("billing-remaining"), &answer.json()["allowed"]),
            (Some("100"), &json!(true)),
            "{name}"
        );
        assert!(answer.header("ratelimit").is_some(), "{name}");
    }
    let named = [key, ("x-billhook-user", meter.user.as_str())];
    let by_header = [&named[..], &[("x-billhook-type", "tts"), ("x-billhook-quantity", "100.5")]].concat();
    assert_eq!(asked(&meter, "", &by_header).await.status, 402);
    assert_eq!(asked(&meter, "?quantity=1", &by_header).await.status, 200, "the query is the operator's");
    assert_eq!(meter.used("inference").await, 0);
}

#[tokio::test]
async fn who_has_nothing_left_is_refused_and_hears_why() {
    let meter = Meter::new().await;
    meter.post(EVENTS, &meter.changed("e1", "quantity", json!(100)).to_string()).await;
    let cookie = format!("session_token={}", meter.session);
    let answer = asked(&meter, "?type=inference", &[("cookie", &cookie)]).await;
    assert_eq!(fault(&answer), (402, "credits.exhausted".into(), vec![]));
    assert!(answer.json()["upgrade_url"].is_string() && answer.header("ratelimit").is_some());
}

/// A proxy hands on what its client sends: whoever is judged does not say by how much, nor for what.
#[tokio::test]
async fn nobody_lets_themselves_through() {
    let meter = Meter::new().await;
    meter.post(EVENTS, &meter.changed("e1", "quantity", json!(100)).to_string()).await;
    let cookie = format!("session_token={}", meter.session);
    let headers = [("cookie", cookie.as_str()), ("x-billhook-quantity", "0"), ("x-billhook-type", "stt")];
    assert_eq!(fault(&asked(&meter, "?type=inference", &headers).await).0, 402);
    assert_eq!(fault(&asked(&meter, "", &headers).await), (422, "invalid".into(), vec!["?type".into()]));
}

#[tokio::test]
async fn what_is_not_known_is_refused() {
    let meter = Meter::new().await;
    let key = ("authorization", meter.key.as_str());
    let user = ("x-billhook-user", meter.user.as_str());
    for (query, headers, expected) in [
        ("?type=inference", vec![], (401, "auth.required", "")),
        ("?type=inference", vec![user], (401, "auth.required", "")),
        ("?type=inference", vec![("authorization", "Bearer x"), user], (401, "auth.required", "")),
        ("?type=inference", vec![key], (422, "invalid", "X-Billhook-User")),
        ("?type=inference", vec![key, user, user], (422, "invalid", "x-billhook-user")),
        ("?type=inference", vec![key, ("x-billhook-user", "usr_nobody")], (422, "user.unknown", "X-Billhook-User")),
        ("", vec![key, user], (422, "invalid", "?type")),
        ("?type=telepathy", vec![key, user], (422, "type.unknown", "?type")),
        ("?type=inference&quanity=9", vec![key, user], (422, "invalid", "?quanity")),
        ("?type=inference&type=tts", vec![key, user], (422, "invalid", "?type")),
        ("?type=inference&quantity=-1", vec![key, user], (422, "invalid", "?quantity")),
        ("?type=inference&quantity=%221%22", vec![key, user], (422, "invalid", "?quantity")),
        ("?type=inference", vec![key, user, ("x-billhook-quantity", "1e3")], (422, "invalid", "X-Billhook-Quantity")),
        ("?type=inference&quantity=2000000000", vec![key, user], (422, "invalid", "?quantity")),
        ("", vec![key, user, ("x-billhook-type", "")], (422, "invalid", "X-Billhook-Type")),
        ("", vec![key, user, ("x-billhook-type", "telepathy")], (422, "type.unknown", "X-Billhook-Type")),
    ] {
        let answer = asked(&meter, query, &headers).await;
        let (status, code, pointers) = fault(&answer);
        assert_eq!((status, code.as_str(), pointers.join(" ").as_str()), expected, "{query} {headers:?}");
    }
}

/// Who may only read takes nothing from anybody, also no turn of a rate.
#[tokio::test]
async fn a_reading_key_uses_up_no_rate() {
    let rig = Rig::new(Adapter::Embedded).await.in_tier("open");
    let [reader, gateway] = [key(&rig.world, Scope::UsageRead).await, key(&rig.world, Scope::UsageWrite).await];
    let ask = async |key: &str| {
        let headers = [("authorization", key), ("x-billhook-user", rig.user.as_str())];
        rig.world.request("GET", &format!("{PATH}?type=stt&quantity=60"), &headers).await.status
    };
    let asked = [ask(&reader).await, ask(&reader).await, ask(&gateway).await, ask(&gateway).await, ask(&reader).await];
    assert_eq!(asked, [200, 200, 200, 429, 429]);
}

/// A gateway asks by its key, so no session stands in the way of a disabled user.
async fn who_is_disabled_is_stopped(database: Database) {
    let meter = Meter::planned(Plan { stripe: None, database, ..Plan::default() }).await;
    let ask = json!({ "user_id": meter.user, "type": "inference", "quantity": 1 });
    let hold = |id: &str| {
        let mut hold = ask.clone();
        hold["id"] = json!(id);
        hold.to_string()
    };
    let stands = async |id: &str| {
        let named = [("authorization", meter.key.as_str()), ("x-billhook-user", &meter.user)];
        let (check, let_through) =
            (meter.post(CHECK, &ask.to_string()).await, asked(&meter, "?type=inference", &named).await);
        let held = meter.post(RESERVE, &hold(id)).await;
        assert_eq!(check.status, 200, "{}", check.body);
        let check = check.json();
        (check["allowed"].clone(), check["code"].clone(), fault(&let_through), fault(&held))
    };
    let open = |status: u16| (status, String::new(), vec![]);
    let shut = || (403, "user.disabled".to_owned(), vec![]);
    assert_eq!(stands("before").await, (json!(true), Value::Null, open(200), open(201)));
    users::set_disabled(&meter.world.app, &meter.user, true).await.expect("disabled");
    assert_eq!(stands("meanwhile").await, (json!(false), json!("user.disabled"), shut(), shut()));
    // What was used is used: nothing of it is lost.
    assert_eq!(meter.post(EVENTS, &meter.event("e1").to_string()).await.status, 201);
    let commit = meter.post(&format!("{RESERVE}/before/commit"), r#"{"quantity":2}"#).await;
    assert_eq!(commit.status, 200, "{}", commit.body);
    users::set_disabled(&meter.world.app, &meter.user, false).await.expect("enabled");
    assert_eq!(stands("after").await, (json!(true), Value::Null, open(200), open(201)));
    assert_eq!(meter.used("inference").await, 5);
}

#[tokio::test]
async fn who_is_disabled_is_not_let_through_and_what_they_used_counts() {
    who_is_disabled_is_stopped(Database::sqlite()).await;
    who_is_disabled_is_stopped(Database::postgres()).await;
}
