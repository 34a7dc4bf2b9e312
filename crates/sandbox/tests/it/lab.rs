//! A sandbox with a clock that stands still, and the smallest HTTP client that can see what a wire really carries.

use jiff::Timestamp;
use sandbox::{Config, Fault, FaultKind, Sandbox, Seed};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;

/// 2026-11-22 10:00:00 UTC.
pub const NOW: i64 = 1_795_341_600;

pub struct Lab {
    runtime: Runtime,
    sandbox: Option<Sandbox>,
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
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The ids of a list, in order.
    pub fn ids(&self) -> Vec<&str> {
        self.rows().iter().map(|row| row["id"].as_str().unwrap()).collect()
    }

    pub fn rows(&self) -> &[Value] {
        self.body["data"].as_array().unwrap_or_else(|| panic!("no list: {}", self.text))
    }

    /// `status code param`, what an error comes down to.
    pub fn error(&self) -> String {
        let error = &self.body["error"];
        let part = |name: &str| error[name].as_str().unwrap_or("-").to_owned();
        format!("{} {} {} {}", self.status, part("type"), part("code"), part("param"))
    }
}

impl Lab {
    pub fn new(seed: Seed) -> Lab {
        Lab::with(seed, None)
    }

    pub fn with(seed: Seed, state: Option<PathBuf>) -> Lab {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let clock = Arc::new(AtomicI64::new(NOW));
        let mut lab = Lab { runtime, sandbox: None, clock };
        lab.sandbox = Some(lab.start(seed, state).unwrap());
        lab
    }

    pub fn start(&self, seed: Seed, state: Option<PathBuf>) -> io::Result<Sandbox> {
        let clock = Arc::clone(&self.clock);
        let now = Arc::new(move || Timestamp::from_second(clock.load(Ordering::Relaxed)).unwrap());
        let key = Some("sk_test_lab".to_owned());
        self.runtime.block_on(sandbox::start(Config { listen: ([127, 0, 0, 1], 0).into(), key, state, seed, now }))
    }

    pub fn sandbox(&self) -> &Sandbox {
        self.sandbox.as_ref().unwrap()
    }

    pub fn wait(&self, seconds: i64) {
        self.clock.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Puts the sandbox's own clock forward.
    pub fn advance(&self, seconds: i64) {
        let by = Duration::from_secs(seconds.unsigned_abs());
        self.runtime.block_on(self.sandbox().advance(by));
    }

    /// Waits until every webhook that is due has been tried.
    pub fn settle(&self) {
        self.runtime.block_on(self.sandbox().settle());
    }

    /// Every event since this one, oldest first; all that are kept where it is not among them.
    pub fn events_since(&self, last: &str) -> Vec<Value> {
        let mut rows: Vec<Value> = Vec::new();
        loop {
            let after =
                rows.last().map_or_else(String::new, |row| format!("&starting_after={}", row["id"].as_str().unwrap()));
            let page = self.get(&format!("/v1/events?limit=100{after}"));
            rows.extend(page.rows().iter().take_while(|row| row["id"] != last).cloned());
            if page.body["has_more"] == false || page.ids().contains(&last) {
                rows.reverse();
                return rows;
            }
        }
    }

    /// The id of the newest event; empty where there is none.
    pub fn last_event(&self) -> String {
        self.get("/v1/events?limit=1").ids().first().map_or_else(String::new, |id| (*id).to_owned())
    }

    /// What happens while this is done, as types of events.
    pub fn told(&self, work: impl FnOnce(&Lab)) -> Vec<String> {
        let last = self.last_event();
        work(self);
        self.events_since(&last).iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    }

    /// Sends JSON to one of the sandbox's own paths.
    pub fn control(&self, path: &str, body: &Value) -> Answer {
        let headers = [("Content-Type", "application/json")];
        raw(self.sandbox().addr(), "POST", path, &headers, &body.to_string(), Duration::from_secs(60)).unwrap()
    }

    /// A new customer whose default method is a test token.
    pub fn payer(&self, token: &str) -> String {
        let customer = self.made("/v1/customers", "email=payer%40example.com")["id"].as_str().unwrap().to_owned();
        let method = self.made(&format!("/v1/payment_methods/{token}/attach"), &format!("customer={customer}"));
        let method = method["id"].as_str().unwrap();
        self.made(&format!("/v1/customers/{customer}"), &format!("invoice_settings[default_payment_method]={method}"));
        customer
    }

    /// A subscription of this customer.
    pub fn subscribe(&self, customer: &str, rest: &str) -> Value {
        self.made("/v1/subscriptions", &format!("customer={customer}&expand[]=latest_invoice&{rest}"))
    }

    pub fn stop(mut self) {
        if let Some(sandbox) = self.sandbox.take() {
            self.runtime.block_on(sandbox.stop());
        }
    }

    pub fn fault(&self, path_prefix: &str, times: u32, kind: FaultKind) {
        self.sandbox().faults().push(Fault::new(path_prefix, times, kind));
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").unwrap()
    }

    /// As an older or younger caller.
    pub fn get_as(&self, version: &str, path: &str) -> Answer {
        self.send("GET", path, &[("Stripe-Version", version)], "").unwrap()
    }

    pub fn post(&self, path: &str, form: &str) -> Answer {
        self.send("POST", path, &[], form).unwrap()
    }

    pub fn post_once(&self, key: &str, path: &str, form: &str) -> io::Result<Answer> {
        self.send("POST", path, &[("Idempotency-Key", key)], form)
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], "").unwrap()
    }

    /// Creates, and fails the test where that fails.
    pub fn made(&self, path: &str, form: &str) -> Value {
        let answer = self.post(path, form);
        assert_eq!(answer.status, 200, "{path} {form}: {}", answer.text);
        answer.body
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], form: &str) -> io::Result<Answer> {
        let mut all = vec![("Authorization", "Bearer sk_test_lab")];
        all.extend(headers);
        raw(self.sandbox().addr(), method, path, &all, form, Duration::from_secs(20))
    }
}

/// One request on one connection.
pub fn raw(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    form: &str,
    patience: Duration,
) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(patience))?;
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: sandbox\r\nConnection: close\r\n");
    for (name, value) in headers {
        write!(request, "{name}: {value}\r\n").unwrap();
    }
    write!(request, "Content-Length: {}\r\n\r\n{form}", form.len()).unwrap();
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> io::Result<Answer> {
    let broken = |why: &str| io::Error::new(io::ErrorKind::UnexpectedEof, why.to_owned());
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(|| broken("no end of the headers"))?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut rest = bytes[end + 4..].to_vec();
    if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
        rest = unchunked(&rest).ok_or_else(|| broken("chunks cut off"))?;
    } else if headers.get("content-length").and_then(|length| length.parse().ok()) != Some(rest.len()) {
        return Err(broken("fewer bytes than promised"));
    }
    let text = String::from_utf8_lossy(&rest).into_owned();
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Ok(Answer { status: status.ok_or_else(|| broken("no status"))?, headers, text, body })
}

fn unchunked(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let line = bytes.windows(2).position(|two| two == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).ok()?, 16).ok()?;
        if size == 0 {
            return Some(out);
        }
        out.extend_from_slice(bytes.get(line + 2..line + 2 + size)?);
        bytes = bytes.get(line + 4 + size..)?;
    }
}
