//! A Lago with a clock that stands still, a plan to use, and the smallest HTTP client that can see what a wire carries.

use jiff::Timestamp;
use sandbox::lago::{Config, Fault, FaultKind, Lago, Store};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;

/// 2026-11-22 10:00:00.123456 UTC: a start in the middle of a second is what trips people up.
pub const NOW: i64 = 1_795_341_600_123_456;

pub struct Lab {
    runtime: Runtime,
    lago: Option<Lago>,
    clock: Arc<AtomicI64>,
}

/// An answer as it came over the wire.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub text: String,
    pub body: Value,
}

impl Answer {
    /// What an error comes down to: status, code, details.
    pub fn error(&self) -> String {
        let body = &self.body;
        let code = body["code"].as_str().unwrap_or("-");
        format!("{} {code} {}", self.status, body["error_details"])
    }

    /// `422` and its details alone.
    pub fn details(&self) -> String {
        assert_eq!((self.status, &self.body["code"]), (422, &json!("validation_errors")), "{}", self.text);
        self.body["error_details"].to_string()
    }
}

impl Lab {
    pub fn new() -> Lab {
        Lab::with(Store::Postgres)
    }

    pub fn with(store: Store) -> Lab {
        Lab::on(store, None).unwrap()
    }

    /// Errors are those of the start.
    pub fn on(store: Store, state: Option<PathBuf>) -> io::Result<Lab> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let clock = Arc::new(AtomicI64::new(NOW));
        let hands = Arc::clone(&clock);
        let now = Arc::new(move || Timestamp::from_microsecond(hands.load(Ordering::Relaxed)).unwrap());
        let listen = ([127, 0, 0, 1], 0).into();
        let config = Config { listen, key: Some("key".into()), store, state, now };
        let lago = Some(runtime.block_on(sandbox::lago::start(config))?);
        Ok(Lab { runtime, lago, clock })
    }

    /// With a metric `api` of which units are summed, a plan on which each costs half a cent, and a customer `ada` whose
    /// subscription `sub` began with the month.
    pub fn furnished() -> Lab {
        Lab::new().furnish()
    }

    pub fn furnish(self) -> Lab {
        let metric = self.metric(json!({"code": "api", "aggregation_type": "sum_agg", "field_name": "units"}));
        let charge =
            json!({"billable_metric_id": metric, "charge_model": "standard", "properties": {"amount": "0.005"}});
        self.plan("basic", json!([charge]));
        self.subscribe("ada", "sub", "basic", "2026-11-01");
        self
    }

    /// The id of a new metric.
    pub fn metric(&self, mut metric: Value) -> Value {
        metric["name"] = metric["code"].clone();
        self.made("/billable_metrics", json!({ "billable_metric": metric }))["billable_metric"]["lago_id"].clone()
    }

    pub fn plan(&self, code: &str, charges: Value) -> Value {
        let plan = json!({"name": code, "code": code, "interval": "monthly", "amount_cents": 0, "amount_currency": "USD",
                          "pay_in_advance": false, "charges": charges});
        self.made("/plans", json!({ "plan": plan }))["plan"].clone()
    }

    pub fn subscribe(&self, customer: &str, external_id: &str, plan: &str, at: &str) -> Value {
        let subscription = json!({"external_customer_id": customer, "external_id": external_id, "plan_code": plan, "subscription_at": at});
        self.made("/subscriptions", json!({ "subscription": subscription }))["subscription"].clone()
    }

    pub fn lago(&self) -> &Lago {
        self.lago.as_ref().unwrap()
    }

    pub fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub fn set_clock(&self, at: &str) {
        self.clock.store(at.parse::<Timestamp>().unwrap().as_microsecond(), Ordering::Relaxed);
    }

    pub fn pass(&self, milliseconds: i64) {
        self.clock.fetch_add(milliseconds * 1000, Ordering::Relaxed);
    }

    pub fn fault(&self, times: u32, kind: FaultKind) {
        self.lago().faults().push(Fault::new("/api/v1/", times, kind));
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None).unwrap()
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, Some(body)).unwrap()
    }

    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, Some(body)).unwrap()
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, None).unwrap()
    }

    /// Creates, and fails the test where that fails.
    pub fn made(&self, path: &str, body: Value) -> Value {
        let answer = self.post(path, &body);
        assert_eq!(answer.status, 200, "{path} {body}: {}", answer.text);
        answer.body
    }

    /// One event for `sub` with so many units.
    pub fn event(&self, transaction_id: &str, units: &str) -> Answer {
        self.post("/events", &json!({ "event": event(transaction_id, units) }))
    }

    pub fn batch(&self, events: Vec<Value>) -> Answer {
        self.post("/events/batch", &json!({ "events": events }))
    }

    /// The usage of `ada` on `sub`.
    pub fn usage(&self) -> Value {
        let answer = self.get("/customers/ada/current_usage?external_subscription_id=sub");
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.body["customer_usage"].clone()
    }

    /// `units events_count amount_cents` of the one charge.
    pub fn units(&self) -> String {
        charge(&self.usage())
    }

    pub fn send(&self, method: &str, path: &str, body: Option<&Value>) -> io::Result<Answer> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let headers = "Authorization: Bearer key\r\nContent-Type: application/json\r\n";
        self.raw(method, &format!("/api/v1{path}"), headers, &body, Duration::from_secs(20))
    }

    /// One request on one connection.
    pub fn raw(&self, method: &str, path: &str, headers: &str, body: &str, patience: Duration) -> io::Result<Answer> {
        let mut stream = TcpStream::connect(self.lago().address())?;
        stream.set_read_timeout(Some(patience))?;
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: lago\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, text) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let headers = head.lines().filter_map(|line| line.split_once(": "));
        Ok(Answer {
            status: head[9..12].parse().map_err(io::Error::other)?,
            headers: headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect(),
            body: serde_json::from_str(text).unwrap_or_default(),
            text: text.to_owned(),
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(lago) = self.lago.take() {
            self.runtime.block_on(lago.stop());
        }
    }
}

/// An event for `sub` at the lab's first whole second.
pub fn event(transaction_id: &str, units: &str) -> Value {
    json!({"transaction_id": transaction_id, "external_subscription_id": "sub", "code": "api", "timestamp": "1795341600.5",
           "properties": {"units": units}})
}

/// `units events_count amount_cents` of the first charge of a usage.
pub fn charge(usage: &Value) -> String {
    let charge = &usage["charges_usage"][0];
    format!("{} {} {}", charge["units"].as_str().unwrap(), charge["events_count"], charge["amount_cents"])
}
