//! The client by itself: what each way of failing is called, and who has to act.

use std::sync::Arc;
use std::time::Duration;

use billhook::clock::{Clock as _, Manual, System};
use billhook::gateways::lago::{Lago, LagoError, Remedy, Settings};
use sandbox::lago::{Fault, FaultKind, Store};
use secrecy::SecretString;

use super::bench::{KEY, start};

fn client(base: &str, key: &str) -> Lago {
    let settings = Settings {
        deadline: Duration::from_millis(300),
        rate_per_second: 1_000,
        ..Settings::new(base, SecretString::from(key))
    };
    Lago::new(settings).expect("a client")
}

#[tokio::test]
async fn f44_every_trouble_has_a_name_and_somebody_who_can_end_it() {
    let clock = Arc::new(Manual::at(System.now()));
    let lago = start(Store::Postgres, &clock).await;
    let client = client(&lago.base_url(), KEY);
    for (kind, code, remedy) in [
        (FaultKind::Hang, "lago.unavailable", Remedy::Again),
        (FaultKind::CommitThenHang, "lago.unavailable", Remedy::Again),
        (FaultKind::Close, "lago.unavailable", Remedy::Again),
        (FaultKind::Slow { milliseconds: 900 }, "lago.unavailable", Remedy::Again),
        (FaultKind::status(500), "lago.unavailable", Remedy::Again),
        (FaultKind::status(429), "lago.rate_limited", Remedy::Again),
        (FaultKind::status(401), "lago.auth", Remedy::Operator),
        (FaultKind::status(403), "lago.auth", Remedy::Operator),
        (FaultKind::status(400), "lago.refused", Remedy::Content),
    ] {
        lago.faults().push(Fault::new("", 1, kind.clone()));
        let error = client.get("/plans", &[]).await.expect_err("trouble");
        assert_eq!((error.code(), error.remedy()), (code, remedy), "{kind:?}: {error}");
    }
    assert!(client.get("/plans", &[]).await.is_ok(), "and then it goes on");
}

#[tokio::test]
async fn what_lago_or_a_proxy_before_it_asks_us_to_wait_is_known() {
    let clock = Arc::new(Manual::at(System.now()));
    let lago = start(Store::Postgres, &clock).await;
    let client = client(&lago.base_url(), KEY);
    let asked = async |status: u16, headers: &[(&str, String)]| {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        lago.faults().push(Fault::new("", 1, FaultKind::Status { status, code: None, headers }));
        client.post("/events/batch", String::new()).await.expect_err("trouble").asked_wait().map(|wait| wait.as_secs())
    };
    let date = |seconds: i64| {
        let at = System.now() + jiff::SignedDuration::from_secs(seconds);
        at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    };
    let retry_after = |text: &str| vec![("retry-after", text.to_owned())];
    for (status, headers, from, to) in [
        (503, retry_after("3"), Some(3), Some(3)),
        (503, retry_after(&date(30)), Some(28), Some(30)),
        (503, retry_after(&date(-30)), Some(0), Some(0)),
        (503, retry_after("soon"), None, None),
        (503, retry_after("999999"), Some(300), Some(300)),
        (503, Vec::new(), None, None),
        (500, retry_after("3"), None, None),
        (429, retry_after("2"), Some(2), Some(2)),
        (429, vec![("x-ratelimit-reset", "1".to_owned()), ("retry-after", "2".to_owned())], Some(2), Some(2)),
        (429, vec![("x-ratelimit-reset", "2".to_owned()), ("retry-after", "1".to_owned())], Some(2), Some(2)),
    ] {
        let found = asked(status, &headers).await;
        assert!((from..=to).contains(&found), "{status} {headers:?}: {found:?}");
    }
}

#[tokio::test]
async fn an_object_that_is_not_there_is_nothing_and_a_route_that_is_not_there_is_a_wrong_address() {
    let clock = Arc::new(Manual::at(System.now()));
    let lago = start(Store::Postgres, &clock).await;
    assert_eq!(client(&lago.base_url(), KEY).find("/plans/none").await.expect("an answer"), None);
    let elsewhere = client(&format!("{}/somewhere", lago.base_url()), KEY);
    let error = elsewhere.find("/plans/none").await.expect_err("a wrong address");
    assert_eq!((error.code(), error.remedy()), ("lago.address", Remedy::Operator));
    let error = client("http://127.0.0.1:1", KEY).get("/plans", &[]).await.expect_err("nobody is there");
    assert!(matches!(error, LagoError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn s56_the_key_is_in_no_text() {
    let clock = Arc::new(Manual::at(System.now()));
    let lago = start(Store::Postgres, &clock).await;
    let client = client(&lago.base_url(), "wrong_canaryCANARY");
    let error = client.get("/plans", &[]).await.expect_err("refused");
    assert!(!format!("{client:?} {error:?} {error}").to_lowercase().contains("canary"));
}
