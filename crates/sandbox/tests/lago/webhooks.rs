//! Webhooks: contract case 30. The receiver is a bare socket, so that it sees the bytes.

use crate::lab::Lab;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::{hmac, signature};
use sandbox::lago::{HMAC_KEY, Progress};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

struct Heard {
    headers: BTreeMap<String, String>,
    body: String,
}

impl Heard {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// An endpoint that answers each delivery with the next of these statuses, and the last one for ever.
fn endpoint(lab: &Lab, algorithm: &str, event_types: Value, statuses: &'static [u16]) -> Receiver<Heard> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hooks", listener.local_addr().unwrap());
    let (tell, heard) = channel();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let (mut bytes, mut some) = (Vec::new(), [0; 4096]);
            let (head, body) = loop {
                let read = stream.read(&mut some).unwrap();
                bytes.extend_from_slice(&some[..read]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length: usize =
                    head.split("Content-Length: ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
                if body.len() == length {
                    break (head.to_owned(), body.to_owned());
                }
            };
            let status = statuses[number.min(statuses.len() - 1)];
            write!(stream, "HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\n\r\n").unwrap();
            let headers = head.lines().filter_map(|line| line.split_once(": "));
            let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            if tell.send(Heard { headers, body }).is_err() {
                return;
            }
        }
    });
    let made = json!({"webhook_url": url, "signature_algo": algorithm, "event_types": event_types});
    lab.made("/webhook_endpoints", json!({ "webhook_endpoint": made }));
    heard
}

fn next(heard: &Receiver<Heard>) -> Heard {
    heard.recv_timeout(Duration::from_secs(10)).unwrap()
}

#[test]
fn case_30_hmac_is_base64_over_the_raw_bytes() {
    let lab = Lab::new();
    let heard = endpoint(&lab, "hmac", json!(null), &[200]);
    lab.made("/customers", json!({"customer": {"external_id": "ada", "name": "A & <B>"}}));
    let heard = next(&heard);
    assert!(heard.body.contains(r"A \u0026 \u003cB\u003e"), "{}", heard.body);
    assert_eq!(heard.headers["X-Lago-Signature-Algorithm"], "hmac");
    let signature = STANDARD.decode(&heard.headers["X-Lago-Signature"]).unwrap();
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, HMAC_KEY.as_bytes()), heard.body.as_bytes(), &signature).unwrap();
    let body = heard.json();
    assert_eq!(
        (&body["webhook_type"], &body["object_type"], &body["customer"]["name"]),
        (&json!("customer.created"), &json!("customer"), &json!("A & <B>"))
    );
}

#[test]
fn case_30_jwt_is_verified_by_the_published_key() {
    let lab = Lab::new();
    let heard = endpoint(&lab, "jwt", json!(["customer.updated"]), &[200]);
    for name in ["first", "second"] {
        lab.made("/customers", json!({"customer": {"external_id": "ada", "name": name}}));
    }
    let heard = next(&heard);
    assert_eq!(heard.json()["webhook_type"], "customer.updated", "nothing else was asked for");
    let token = &heard.headers["X-Lago-Signature"];
    let (said, signature) = token.rsplit_once('.').unwrap();
    let pem =
        STANDARD.decode(lab.get("/webhooks/json_public_key").body["webhook"]["public_key"].as_str().unwrap()).unwrap();
    let pem: String = String::from_utf8(pem).unwrap().lines().filter(|line| !line.starts_with('-')).collect();
    let key = STANDARD.decode(pem).unwrap()[24..].to_vec();
    let key = signature::UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, key);
    key.verify(said.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
    let claims: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(said.split_once('.').unwrap().1).unwrap()).unwrap();
    assert_eq!(claims, json!({"data": heard.body, "iss": lab.lago().base_url()}));
}

#[test]
fn case_30_three_attempts_with_the_same_key_and_then_never_again() {
    for (statuses, attempts, progress) in [
        (&[500][..], 3, Progress::Failed),
        (&[503, 204], 2, Progress::Succeeded),
        (&[301, 200], 2, Progress::Succeeded),
    ] {
        let lab = Lab::new();
        let heard = endpoint(&lab, "hmac", json!(null), statuses);
        lab.made("/customers", json!({"customer": {"external_id": "ada"}}));
        for wait in [0, 2_900, 200, 17_500, 1_000, 3_600_000] {
            lab.pass(wait);
            lab.wait(lab.lago().deliver_webhooks());
        }
        let webhook = lab.lago().webhooks()[0].clone();
        assert_eq!((webhook.attempts, webhook.progress), (attempts, progress), "{statuses:?}");
        for _ in 0..attempts {
            assert_eq!(next(&heard).headers["X-Lago-Unique-Key"], webhook.unique_key, "{statuses:?}");
        }
        assert!(heard.recv_timeout(Duration::from_millis(100)).is_err(), "{statuses:?}");
    }
}

#[test]
fn case_30_the_hourly_job_tells_of_what_can_never_be_billed() {
    let lab = Lab::furnished();
    lab.metric(
        json!({"code": "gpu", "aggregation_type": "count_agg", "filters": [{"key": "region", "values": ["eu"]}]}),
    );
    let heard = endpoint(&lab, "hmac", json!(["events.errors"]), &[200]);
    let event = |id: &str, code: &str, subscription: &str, properties: Value| {
        let event = json!({"transaction_id": id, "code": code, "external_subscription_id": subscription, "properties": properties});
        lab.made("/events", json!({ "event": event }));
    };
    event("good", "api", "sub", json!({"units": "1"}));
    event("stray", "api", "unknown", json!({"units": "1"}));
    event("code", "unknown", "sub", json!({}));
    event("missing", "api", "sub", json!({}));
    event("words", "api", "sub", json!({"units": "1e3"}));
    event("filter", "gpu", "sub", json!({"region": "us"}));
    lab.pass(1000);
    lab.wait(lab.lago().run_hourly());
    let errors = next(&heard).json()["events_errors"].clone();
    assert_eq!(
        errors,
        json!({"invalid_code": ["code"], "missing_aggregation_property": ["missing", "words"], "invalid_filter_values": ["filter"]})
    );
    event("again", "unknown", "sub", json!({}));
    lab.set_clock("2026-11-22T11:00:00Z");
    assert_eq!(
        next(&heard).json()["events_errors"]["invalid_code"],
        json!(["again"]),
        "at the full hour it runs by itself"
    );
}

#[test]
fn endpoints() {
    let lab = Lab::new();
    let ask = |endpoint: Value| lab.post("/webhook_endpoints", &json!({ "webhook_endpoint": endpoint }));
    for (endpoint, wanted) in [
        (json!({"name": "n"}), r#"{"webhook_url":["value_is_mandatory"]}"#),
        (json!({"webhook_url": "ftp://x"}), r#"{"webhook_url":["url_invalid"]}"#),
        (json!({"webhook_url": "http://x", "signature_algo": "md5"}), r#"{"signature_algo":["value_is_invalid"]}"#),
    ] {
        assert_eq!(ask(endpoint).details(), wanted);
    }
    let made = ask(json!({"webhook_url": "http://127.0.0.1:1/a"})).body["webhook_endpoint"].clone();
    assert_eq!((&made["signature_algo"], &made["event_types"]), (&json!("jwt"), &json!(null)));
    assert_eq!(
        ask(json!({"webhook_url": "http://127.0.0.1:1/a"})).details(),
        r#"{"webhook_url":["value_already_exist"]}"#
    );
    let path = format!("/webhook_endpoints/{}", made["lago_id"].as_str().unwrap());
    let changed =
        lab.put(&path, &json!({"webhook_endpoint": {"signature_algo": "hmac"}})).body["webhook_endpoint"].clone();
    assert_eq!((&changed["signature_algo"], &changed["webhook_url"]), (&json!("hmac"), &made["webhook_url"]));
    for number in 1..10 {
        assert_eq!(ask(json!({"webhook_url": format!("http://127.0.0.1:1/{number}")})).status, 200);
    }
    assert_eq!(ask(json!({"webhook_url": "http://127.0.0.1:1/z"})).details(), r#"{"base":["exceeded_limit"]}"#);
    assert_eq!(lab.delete(&path).status, 200);
    assert_eq!(
        (lab.get(&path).status, lab.get("/webhook_endpoints").body["meta"]["total_count"].clone()),
        (404, json!(9))
    );
}
