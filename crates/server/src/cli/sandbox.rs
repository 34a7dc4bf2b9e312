//! `billhook sandbox`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Ending, block_on, out, parse_address};
use crate::clock::{Clock, System};

/// Where `serve --sandbox` notes the address of the Stripe inside it.
pub(super) const ADDRESS_FILE: &str = "billhook-sandbox.stripe.url";

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    told: Option<Told>,
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
    /// Be a Lago instead of a Stripe
    #[arg(long, conflicts_with_all = ["customers", "empty"])]
    lago: bool,
    /// The share of webhooks that are sent twice, such as 0.2
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = parse_share)]
    duplicate: u32,
    /// The share of webhooks that are lost, such as 0.2
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = parse_share)]
    drop: u32,
    /// Webhooks overtake each other within this time, such as 30s
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_time)]
    shuffle: u32,
}

/// The sandbox reads it; here it only has to be one.
fn parse_step(text: &str) -> Result<String, String> {
    let number = text.strip_suffix(['s', 'm', 'h', 'd', 'w']).unwrap_or_default();
    let is_one = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_one.then(|| text.to_owned()).ok_or_else(|| "expected a number and s, m, h, d or w, such as 40d".to_owned())
}

/// A share from 0 to 1 with up to three decimals, in thousandths.
fn parse_share(text: &str) -> Result<u32, String> {
    let wrong = || "expected a share from 0 to 1 with up to three decimals, such as 0.2".to_owned();
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    if decimals.is_empty() || decimals.len() > 3 {
        return Err(wrong());
    }
    let thousandths = format!("{whole}{decimals:0<3}");
    let is_number = !whole.is_empty() && thousandths.bytes().all(|byte| byte.is_ascii_digit());
    let share = thousandths.parse().ok().filter(|share| is_number && *share <= 1_000);
    share.ok_or_else(wrong)
}

/// Whole seconds with their unit.
fn parse_time(text: &str) -> Result<u32, String> {
    let time = crate::config::duration(text, std::time::Duration::ZERO)?;
    u32::try_from(time.as_secs()).map_err(|_| "is too long".to_owned())
}

/// What a running sandbox is told.
#[derive(Debug, clap::Subcommand)]
enum Told {
    /// Move its clock: everything that is due in between happens in its order
    #[command(after_help = "Example: billhook sandbox advance 40d")]
    Advance {
        /// A number with a unit: 90s, 30m, 12h, 40d, 2w
        #[arg(value_parser = parse_step)]
        by: String,
        /// The sandbox's base URL [default: that of the `serve --sandbox` which runs in this directory]
        #[arg(long)]
        url: Option<String>,
    },
}

/// Starts the sandbox, prints its base URL, and runs until it is told to stop.
pub(super) fn run(args: &Args) -> Result<(), Ending> {
    let _ = crate::telemetry::start("info");
    if let Some(Told::Advance { by, url }) = &args.told {
        return block_on(advance(by, url.as_deref()));
    }
    if args.lago {
        return block_on(run_lago(args.listen, args.state.clone()));
    }
    block_on(async {
        let seed = match (args.customers, args.empty) {
            (Some(customers), _) => sandbox::Seed::Scale { customers },
            (None, true) => sandbox::Seed::Empty,
            (None, false) => sandbox::Seed::Business,
        };
        let running = start(args.listen, args.state.clone(), seed, None).await?;
        let Args { duplicate, drop, shuffle, .. } = *args;
        running.set_chaos(sandbox::Chaos { duplicate, drop, shuffle, ..sandbox::Chaos::default() });
        let told = super::serve::told_to_stop();
        out::say(&running.base_url());
        told.await;
        running.stop().await;
        Ok(())
    })
}

async fn advance(by: &str, url: Option<&str>) -> Result<(), Ending> {
    let url = match url {
        Some(url) => url.to_owned(),
        None => std::fs::read_to_string(ADDRESS_FILE)
            .map_err(|_| Ending::Refused("no `serve --sandbox` runs in this directory: give --url".to_owned()))?,
    };
    let asked = serde_json::json!({ "advance": by }).to_string();
    out::say(sandbox::remote::post(url.trim(), "/_sandbox/clock", &asked).await?.trim());
    Ok(())
}

async fn run_lago(listen: SocketAddr, state: Option<PathBuf>) -> Result<(), Ending> {
    let running = start_lago(listen, state, None).await?;
    let told = super::serve::told_to_stop();
    out::say(&running.base_url());
    told.await;
    running.stop().await;
    Ok(())
}

/// A Lago with the system's clock, as one with PostgreSQL behind it. Without a key it takes every key.
pub(super) async fn start_lago(
    listen: SocketAddr,
    state: Option<PathBuf>,
    key: Option<String>,
) -> Result<sandbox::lago::Lago, Ending> {
    let store = sandbox::lago::Store::Postgres;
    let config = sandbox::lago::Config { listen, key, store, state, now: Arc::new(|| System.now()) };
    Ok(sandbox::lago::start(config).await?)
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
