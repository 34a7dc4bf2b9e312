//! The yardstick of webhooks in `cargo xtask bench`: the least that taking one can cost.
//!
//!     bare_webhooks events RUN COUNT            prints COUNT signed events, a line each: signature, tab, body
//!     bare_webhooks serve ADDRESS FILE          checks the signature and inserts the row that is kept of an event into SQLite;
//!                                               those that wait together share one durable commit
//!
//! `serve` prints its address first. Same library, same table and same settings of the database as the program beside it.
#![allow(clippy::print_stdout, reason = "what it prints is its answer")]

use std::sync::mpsc::{Receiver, Sender, channel};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use ring::hmac;
use rusqlite::{Connection, params};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const SECRET: &[u8] = b"whsec_bench_bench_bench_bench";

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["events", run, count] => print_events(run, count.parse()?),
        ["serve", address, file] => serve(address, file),
        _ => Err("usage: bare_webhooks events RUN COUNT | serve ADDRESS FILE".into()),
    }
}

fn print_events(run: &str, count: u64) -> Result<(), Failure> {
    use std::io::Write;
    let now = std::process::Command::new("date").arg("+%s").output()?;
    let now: i64 = String::from_utf8(now.stdout)?.trim().parse()?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for number in 0..count {
        let body = event(run, number, now);
        writeln!(out, "t={now},v1={}\t{body}", hex(hmac::sign(&key(), format!("{now}.{body}").as_bytes()).as_ref()))?;
    }
    Ok(out.flush()?)
}

/// A customer of whom nothing was heard before, as Stripe tells of them.
fn event(run: &str, number: u64, now: i64) -> String {
    let address = r#"{"city":"Lyon","country":"FR","line1":"1 rue de la Bourse","line2":null,"postal_code":"69002","state":null}"#;
    let settings = r#"{"custom_fields":null,"default_payment_method":null,"footer":null,"rendering_options":null}"#;
    let customer = format!(
        r#"{{"id":"cus_{run}_{number}","object":"customer","address":{address},"balance":0,"created":{now},"currency":"usd","customer_account":null,"default_source":null,"delinquent":false,"description":null,"email":"someone{number}@example.com","invoice_prefix":"A{number:07}","invoice_settings":{settings},"livemode":false,"metadata":{{"plan":"professional","seats":"12"}},"name":"Somebody Number {number}","next_invoice_sequence":1,"phone":null,"preferred_locales":["fr"],"shipping":null,"tax_exempt":"none","test_clock":null}}"#
    );
    format!(
        r#"{{"id":"evt_{run}_{number}","object":"event","api_version":"2026-09-30.endive","created":{now},"data":{{"object":{customer}}},"livemode":false,"pending_webhooks":1,"request":{{"id":"req_{number}","idempotency_key":"b1c0ffee-{number}"}},"type":"customer.created"}}"#
    )
}

fn key() -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, SECRET)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

type Write = (Bytes, oneshot::Sender<()>);

#[tokio::main(flavor = "multi_thread")]
async fn serve(address: &str, file: &str) -> Result<(), Failure> {
    let connection = Connection::open(file)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -8192;
         CREATE TABLE webhook_events (id TEXT PRIMARY KEY, type TEXT NOT NULL, resource TEXT, object_id TEXT,
             created BIGINT NOT NULL, api_version TEXT, livemode BIGINT, account TEXT, source BIGINT NOT NULL,
             received_ms BIGINT NOT NULL, state BIGINT NOT NULL, attempts BIGINT NOT NULL, next_ms BIGINT NOT NULL,
             settled_ms BIGINT, reason TEXT, raw TEXT NOT NULL);
         CREATE INDEX webhook_events_waiting ON webhook_events (next_ms, id) WHERE state = 0;
         CREATE INDEX webhook_events_waiting_of ON webhook_events (object_id) WHERE state = 0;
         CREATE INDEX webhook_events_refused ON webhook_events (state, received_ms, id) WHERE state >= 2;
         CREATE INDEX webhook_events_newest ON webhook_events (received_ms, id);",
    )?;
    let (write, writes) = channel();
    std::thread::spawn(move || write_all(connection, &writes));
    let answer = post(move |headers: HeaderMap, body: Bytes| take(headers, body, write.clone()));
    let listener = TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, Router::new().route("/", answer)).await?;
    Ok(())
}

async fn take(headers: HeaderMap, body: Bytes, write: Sender<Write>) -> StatusCode {
    let header = headers.get("stripe-signature").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Some((time, signature)) = header.strip_prefix("t=").and_then(|rest| rest.split_once(",v1=")) else {
        return StatusCode::BAD_REQUEST;
    };
    let mut context = hmac::Context::with_key(&key());
    for part in [time.as_bytes(), b".", &body] {
        context.update(part);
    }
    if hex(context.sign().as_ref()) != signature {
        return StatusCode::BAD_REQUEST;
    }
    let (done, written) = oneshot::channel();
    let sent = write.send((body, done)).is_ok();
    if sent && written.await.is_ok() { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }
}

fn write_all(mut connection: Connection, writes: &Receiver<Write>) -> Result<(), rusqlite::Error> {
    while let Ok(first) = writes.recv() {
        let group: Vec<Write> = std::iter::once(first).chain(writes.try_iter().take(511)).collect();
        let transaction = connection.transaction()?;
        for (body, _) in &group {
            let body = String::from_utf8_lossy(body);
            // The ids stand where every event of ours has them: a yardstick need not read JSON.
            let word = |place: usize| body.split('"').nth(place).unwrap_or_default();
            transaction
                .prepare_cached(
                    "INSERT INTO webhook_events VALUES (?1, 'customer.created', 'customers', ?2, 1795341600,
                         '2026-09-30.endive', 0, NULL, 0, 1795341600000, 0, 0, 1795341600000, NULL, NULL, ?3)
                     ON CONFLICT (id) DO NOTHING",
                )?
                .execute(params![word(3), word(19), body])?;
        }
        transaction.commit()?;
        for (_, done) in group {
            // Whoever has gone away need not know.
            let _ = done.send(());
        }
    }
    Ok(())
}
