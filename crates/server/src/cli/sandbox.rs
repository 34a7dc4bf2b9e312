//! `billhook sandbox`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Ending, block_on, out, parse_address};
use crate::clock::{Clock, System};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8420", value_parser = parse_address)]
    listen: SocketAddr,
    /// Keep the state in this file; without it everything is forgotten at the end
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Begin with this many made-up customers instead of the little business
    #[arg(long, value_name = "N")]
    customers: Option<u64>,
    /// Begin with nothing
    #[arg(long, conflicts_with = "customers")]
    empty: bool,
}

/// Starts the sandbox, prints its base URL, and runs until it is told to stop.
pub(super) fn run(args: &Args) -> Result<(), Ending> {
    let _ = crate::telemetry::start("info");
    block_on(async {
        let seed = match (args.customers, args.empty) {
            (Some(customers), _) => sandbox::Seed::Scale { customers },
            (None, true) => sandbox::Seed::Empty,
            (None, false) => sandbox::Seed::Business,
        };
        let running = start(args.listen, args.state.clone(), seed, None).await?;
        let told = super::serve::told_to_stop();
        out::say(&running.base_url());
        told.await;
        running.stop().await;
        Ok(())
    })
}

/// A sandbox with the system's clock. Without a key it takes every test key.
pub(super) async fn start(
    listen: SocketAddr,
    state: Option<PathBuf>,
    seed: sandbox::Seed,
    key: Option<String>,
) -> Result<sandbox::Sandbox, Ending> {
    let config = sandbox::Config { listen, key, state, seed, now: Arc::new(|| System.now()) };
    Ok(sandbox::start(config).await?)
}
