//! The door and the edge, through raw sockets: what is refused, what every answer carries, what happens to the slow, the
//! hostile and the late. This file holds the house to visit; its rooms are tested in the files behind it.

mod answers;
mod connections;
mod refusals;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, Query};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use billhook::error::{Error, Upstream};
use billhook::http::body::Json;
use billhook::http::door::{self, Limits};
use billhook::http::edge::{Edge, Hosts, Settings};
use billhook::http::{docs, error, health};
use billhook::telemetry::HttpMetrics;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A server in a thread of its own, asked by plain blocking sockets.
struct Doorway {
    address: SocketAddr,
    counted: Arc<HttpMetrics>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Doorway {
    fn open(limits: Limits) -> Self {
        Self::with(
            limits,
            Settings { hosts: Hosts::Only(vec!["localhost".into(), "::1".into()]), ..settings() },
            rooms(),
        )
    }

    fn with(limits: Limits, settings: Settings, router: Router) -> Self {
        let counted = Arc::new(HttpMetrics::default());
        let edge = Edge::new(router, settings, Arc::clone(&counted));
        let (listener, address) = listener();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime().block_on(async move {
                let listener = TcpListener::from_std(listener)?;
                door::serve(listener, edge, limits, async { drop(stopped.await) }).await
            })
        });
        Self { address, counted, stop: Some(stop), thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        connect(self.address)
    }

    /// One request on a connection of its own; `Host` and the empty line are added.
    fn ask(&self, head: &str) -> Reply {
        self.send(format!("{head}\r\nHost: localhost\r\n\r\n").as_bytes())
    }

    fn post(&self, path: &str, kind: &str, body: &[u8]) -> Reply {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.send(&[head.as_bytes(), body].concat())
    }

    /// Exactly these bytes.
    fn send(&self, bytes: &[u8]) -> Reply {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        Reply::read(&mut stream)
            .unwrap_or_else(|fault| panic!("no answer to {:?}: {fault}", String::from_utf8_lossy(bytes)))
    }

    fn tell_to_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).unwrap();
        }
    }

    fn wait(&mut self) {
        self.thread.take().unwrap().join().unwrap().unwrap();
    }

    fn connections(&self) -> i64 {
        self.counted.connections.load(SeqCst)
    }
}

fn settings() -> Settings {
    Settings { started: jiff::Timestamp::from_second(1_763_799_000).unwrap(), entropy: 7, ..Settings::default() }
}

fn listener() -> (std::net::TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Waits for something that other threads bring about.
fn soon(what: &str, happened: impl Fn() -> bool) {
    let begun = Instant::now();
    while !happened() {
        assert!(begun.elapsed() < Duration::from_secs(10), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[derive(Debug)]
struct Reply {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Reply {
    fn read(stream: &mut TcpStream) -> io::Result<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok()).unwrap();
        let headers: BTreeMap<_, _> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let length: usize = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        Ok(Self { status, headers, body })
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON in {self:?}"))
    }

    fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

fn rooms() -> Router {
    Router::new()
        .route("/ok", get(|| async { "fine" }))
        .route("/moved", get(|| async { Redirect::temporary("/ok") }))
        .route("/slow", get(|| async { tokio::time::sleep(Duration::from_millis(400)).await }))
        .route("/stuck", get(std::future::pending::<()>))
        .route("/panic", get(panics))
        .route("/big", get(|| async { vec![b'x'; 64 * 1024 * 1024] }))
        .route("/json", post(|Json(value): Json<Value>| async move { Json(value) }))
        .route("/number", post(|Json(value): Json<BTreeMap<String, u32>>| async move { Json(value) }))
        .route("/raw", post(|body: bytes::Bytes| async move { body.len().to_string() }))
        .route("/unread", post(|| async { "not read" }))
        .route("/query", get(|Query(_): Query<Bounded>| async {}))
        .route("/fail/{kind}", get(fail))
        .merge(health::routes(|| async { readiness() }))
        .merge(docs::routes(json!({"info": {"title": "Small"}, "paths": {}})))
        .fallback(error::not_found)
}

async fn panics() {
    panic!("on purpose")
}

#[derive(serde::Deserialize)]
#[allow(dead_code, reason = "only its shape matters")]
struct Bounded {
    limit: u8,
}

fn readiness() -> health::Readiness {
    let missing =
        vec![health::Missing { part: "mirror", detail: "nothing was synced yet: run billhook sync".to_owned() }];
    health::Readiness { ready: false, missing, degraded: Vec::new(), facts: json!({"objects": 0}) }
}

async fn fail(Path(kind): Path<String>) -> Result<(), Response> {
    let wait = Duration::from_millis(1_500);
    let upstream = |who, code| Error::Upstream {
        who,
        code,
        retry_after: wait,
        cause: Some("sk_live_canary ann@example.com".into()),
    };
    Err(match kind.as_str() {
        "required" => Error::Unauthenticated { code: "auth.required" }.into_response(),
        "forbidden" => Error::Forbidden { code: "auth.forbidden" }.into_response(),
        "conflict" => Error::Conflict { code: "user.exists", detail: "There is one.".to_owned() }.into_response(),
        "invalid" => Error::invalid("?limit", "a number from 1 to 100").into_response(),
        "limit" => Error::LimitReached { code: "some.limit", retry_after: wait }.into_response(),
        "busy" => Error::LimitReached { code: "storage.busy", retry_after: wait }.into_response(),
        "stripe" => upstream(Upstream::Stripe, "stripe.unavailable").into_response(),
        "database" => upstream(Upstream::Database, "storage.unavailable").into_response(),
        "internal" => Error::internal("SELECT * FROM sk_live_canary").into_response(),
        "html" => (StatusCode::BAD_GATEWAY, "<html>sk_live_canary</html>").into_response(),
        _ => Error::NotFound.into_response(),
    })
}
