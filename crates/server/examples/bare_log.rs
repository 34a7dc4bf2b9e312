//! The yardsticks of metering in `cargo xtask bench`: the least that each part of recording an event can cost.
//!
//!     bare_log append BATCH SECONDS FILE     the same rows into the same two tables of SQLite, BATCH to a transaction
//!     bare_log parse ADDRESS                 axum takes events, JSON to fields and the hash of each id, and answers a few bytes
//!
//! `append` prints events for each second of processor time; `parse` prints its address and serves.
#![allow(clippy::print_stdout, reason = "its numbers are its answer")]

use std::hash::Hasher;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use rusqlite::{Connection, params};
use serde::Deserialize;
use serde_json::value::RawValue;
use siphasher::sip128::{Hasher128, SipHasher13};
use tokio::net::TcpListener;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["append", batch, seconds, file] => append(batch.parse()?, Duration::from_secs(seconds.parse()?), file),
        ["parse", address] => serve(address),
        _ => Err("usage: bare_log append BATCH SECONDS FILE | parse ADDRESS".into()),
    }
}

#[derive(Deserialize)]
struct Event<'a> {
    transaction_id: &'a str,
    user_id: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    quantity: u64,
    timestamp: &'a str,
    #[serde(borrow)]
    properties: &'a RawValue,
}

fn append(batch: u64, length: Duration, file: &str) -> Result<(), Failure> {
    let mut connection = Connection::open(file)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -8192;
         CREATE TABLE usage_log (position INTEGER PRIMARY KEY, kind BIGINT NOT NULL, user_id TEXT NOT NULL, type TEXT NOT NULL,
             quantity_micro BIGINT NOT NULL, weight_micro BIGINT NOT NULL, event_ms BIGINT NOT NULL, received_ms BIGINT NOT NULL,
             id BLOB NOT NULL, transaction_id TEXT NOT NULL, source BIGINT NOT NULL, previous BIGINT, body TEXT);
         CREATE TABLE usage_ids (day BIGINT NOT NULL, id BLOB NOT NULL, position BIGINT NOT NULL, fingerprint BIGINT NOT NULL,
             PRIMARY KEY (day, id)) WITHOUT ROWID;",
    )?;
    let (mut events, begin, used) = (0_u64, Instant::now(), processor_time()?);
    let users: Vec<String> = (0..1000).map(|number| format!("usr_bench_{number}")).collect();
    while begin.elapsed() < length {
        let transaction = connection.transaction()?;
        {
            let mut ids = transaction.prepare_cached("INSERT OR IGNORE INTO usage_ids VALUES (?1, ?2, ?3, ?4)")?;
            for number in events..events + batch {
                ids.execute(params![20_779, u128::from(number).to_be_bytes().as_slice(), number.cast_signed(), 77])?;
            }
            let mut log = transaction.prepare_cached(
                "INSERT INTO usage_log VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            )?;
            for number in events..events + batch {
                let user = &users[usize::try_from(number % 1000)?];
                log.execute(params![
                    number.cast_signed(),
                    0,
                    user,
                    "inference",
                    3_000_000,
                    1_000_000,
                    1_795_341_600_000_i64,
                    1_795_341_600_000_i64,
                    u128::from(number).to_be_bytes().as_slice(),
                    "01JD7Z2X000000000000000000",
                    0,
                    number.saturating_sub(1000).cast_signed(),
                    r#"{"model":"m-1"}"#
                ])?;
            }
        }
        transaction.commit()?;
        events += batch;
    }
    report(events, used)
}

#[tokio::main(flavor = "multi_thread")]
async fn serve(address: &str) -> Result<(), Failure> {
    let answer = post(async |body: Bytes| {
        let read = if body.first() == Some(&b'[') {
            serde_json::from_slice::<Vec<Event<'_>>>(&body)
        } else {
            serde_json::from_slice(&body).map(|event| vec![event])
        };
        read.map(|events| std::hint::black_box(sum(&events)))
            .map_or("these are no events", |_| r#"{"transaction_id":"01JD7Z2X000000000000000000","status":"recorded"}"#)
    });
    let listener = TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, Router::new().route("/", answer)).await?;
    Ok(())
}

fn sum(events: &[Event<'_>]) -> u64 {
    events.iter().fold(0, |sum, event| {
        let mut hasher = SipHasher13::new_with_keys(1, 2);
        hasher.write(event.transaction_id.as_bytes());
        let text = event.user_id.len() + event.kind.len() + event.timestamp.len() + event.properties.get().len();
        sum.wrapping_add(hasher.finish128().h1) ^ event.quantity ^ text as u64
    })
}

fn report(events: u64, used: f64) -> Result<(), Failure> {
    println!("{:.0}", f64::from(u32::try_from(events)?) / (processor_time()? - used));
    Ok(())
}

/// Seconds of processor time of this process, all threads, user and system.
fn processor_time() -> Result<f64, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit(')').next().ok_or("no name in /proc/self/stat")?;
    let ticks: Vec<&str> = after_name.split_whitespace().collect();
    let [user, system] = [11, 12].map(|at| ticks.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0));
    Ok((user + system) / 100.0)
}
