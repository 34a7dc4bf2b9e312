//! Runs a Lago sandbox until it is killed: `cargo run -p sandbox --example lago -- 127.0.0.1:3999 clickhouse [state file]`.
//! The judges in `judges/` are run against this.

use sandbox::lago::{Config, Store};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

#[tokio::main]
async fn main() -> io::Result<()> {
    let mut words = std::env::args().skip(1);
    let listen = words.next().unwrap_or_else(|| "127.0.0.1:3999".to_owned());
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
    let store = match words.next().as_deref() {
        None | Some("postgres") => Store::Postgres,
        Some("clickhouse") => Store::ClickHouse,
        Some(_) => return Err(bad("postgres or clickhouse")),
    };
    let listen = listen.parse().map_err(|_| bad("an address such as 127.0.0.1:3999"))?;
    let state = words.next().map(PathBuf::from);
    let running = sandbox::lago::start(Config { listen, key: None, store, state, now: Arc::new(now) }).await?;
    #[allow(clippy::print_stdout, reason = "the address is what this program is asked for")]
    {
        println!("{}", running.base_url());
    }
    std::future::pending::<()>().await;
    running.stop().await;
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "a program of its own: here the clock begins")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
