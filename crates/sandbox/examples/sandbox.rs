//! Runs a sandbox until it is killed, its state in memory or in a file:
//! `cargo run -p sandbox --example sandbox -- stripe 127.0.0.1:12111 business [state file]` (or `empty`, or a number of customers),
//! `cargo run -p sandbox --example sandbox -- lago 127.0.0.1:3999 clickhouse [state file]` (or `postgres`).

use sandbox::{Seed, lago};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

#[tokio::main]
async fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let word = |place: usize| words.get(place).map(String::as_str);
    let listen = word(1).unwrap_or("127.0.0.1:0").parse().map_err(|_| bad("an address such as 127.0.0.1:12111"))?;
    let state = word(3).map(PathBuf::from);
    match word(0) {
        Some("lago") => run_lago(listen, word(2), state).await,
        Some("stripe") | None => run_stripe(listen, word(2), state).await,
        Some(_) => Err(bad("stripe or lago")),
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what.to_owned())
}

async fn run_stripe(listen: SocketAddr, seed: Option<&str>, state: Option<PathBuf>) -> io::Result<()> {
    let seed = match seed {
        None | Some("business") => Seed::Business,
        Some("empty") => Seed::Empty,
        Some(count) => Seed::Scale { customers: count.parse().map_err(|_| bad("business, empty, or a number"))? },
    };
    let running = sandbox::start(sandbox::Config { listen, key: None, state, seed, now: Arc::new(now) }).await?;
    say(&running.base_url());
    std::future::pending().await
}

async fn run_lago(listen: SocketAddr, store: Option<&str>, state: Option<PathBuf>) -> io::Result<()> {
    let store = match store {
        None | Some("postgres") => lago::Store::Postgres,
        Some("clickhouse") => lago::Store::ClickHouse,
        Some(_) => return Err(bad("postgres or clickhouse")),
    };
    let running = lago::start(lago::Config { listen, key: None, store, state, now: Arc::new(now) }).await?;
    say(&running.base_url());
    std::future::pending().await
}

#[allow(clippy::print_stdout, reason = "the address is what this program is asked for")]
fn say(base_url: &str) {
    println!("{base_url}");
}

#[allow(clippy::disallowed_methods, reason = "a program of its own: here the clock begins")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
