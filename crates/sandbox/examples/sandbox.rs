//! Runs a seeded sandbox until it is killed: `cargo run -p sandbox --example sandbox -- 127.0.0.1:12111 business [state file]`.
//! The judges in `judges/` are run against this.

use sandbox::{Config, Seed};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

#[tokio::main]
async fn main() -> io::Result<()> {
    let mut words = std::env::args().skip(1);
    let listen = words.next().unwrap_or_else(|| "127.0.0.1:12111".to_owned());
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
    let seed = match words.next().as_deref() {
        None | Some("business") => Seed::Business,
        Some("empty") => Seed::Empty,
        Some(count) => Seed::Scale { customers: count.parse().map_err(|_| bad("business, empty, or a number"))? },
    };
    let running = sandbox::start(Config {
        listen: listen.parse().map_err(|_| bad("an address such as 127.0.0.1:12111"))?,
        key: None,
        state: words.next().map(PathBuf::from),
        seed,
        now: Arc::new(now),
    })
    .await?;
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
