//! The command line: what each role is asked for, and how it ends.

mod doctor;
mod keys;
mod lago;
mod out;
mod people;
mod progress;
mod revenue;
mod sandbox;
mod seed;
mod serve;
mod stripe;
mod tools;
mod usage;
mod verify;
mod webhooks;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::app::{App, BuildError};
use crate::clock::{Chance, System};
use crate::config::{Config, Process, VARIABLES, Variable};
use crate::error::Error;

/// Exit status of a refusal or a difference.
const REFUSED: u8 = 1;
/// Exit status of a question that could not be answered.
const UNKNOWN: u8 = 2;
/// Exit status of a configuration that cannot work (sysexits: EX_CONFIG).
const CONFIGURATION: u8 = 78;

/// Billing, subscriptions and exact usage metering for self-hosted AI platforms.
#[derive(Debug, Parser)]
#[command(name = "billhook", version, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    role: Role,
}

const AFTER_HELP: &str = "Configuration is the environment: `billhook config` shows every variable, its value and where it comes from.\n\
    Exit status: 0 done, 1 a difference or refusal, 2 usage, 78 configuration.";

#[derive(Debug, Subcommand)]
enum Role {
    /// Serve the API
    #[command(after_help = "Example: billhook serve --sandbox")]
    Serve(serve::Args),
    /// Run the sandbox of Stripe or of Lago alone; prints its base URL
    #[command(after_help = "Example: billhook sandbox --listen 127.0.0.1:8420")]
    Sandbox(sandbox::Args),
    /// Read everything from Stripe once
    #[command(after_help = "Example: STRIPE_SECRET_KEY=sk_test_… billhook sync")]
    Sync {
        /// Print the outcome as JSON
        #[arg(long)]
        json: bool,
    },
    /// Compare the mirror with Stripe and name each difference; exit 1 when there is one, 2 when not all could be compared
    #[command(after_help = "Example: billhook verify --repair")]
    Verify(verify::Args),
    /// Set the webhook endpoint at Stripe up
    #[command(subcommand)]
    Stripe(stripe::StripeRole),
    /// See Stripe's events, and have dead ones applied once more
    #[command(subcommand)]
    Webhooks(webhooks::WebhooksRole),
    /// See how a customer's revenue came about
    #[command(subcommand)]
    Revenue(revenue::RevenueRole),
    /// Bring the database up to date; adopts an Ops Center SQLite file as it is
    #[command(after_help = "Example: DATABASE_URL=sqlite://ops_center.db billhook migrate")]
    Migrate,
    /// Check configuration, connections, the mirror and every total; exit 1 on a fault
    #[command(after_help = "Example: billhook doctor --json")]
    Doctor(doctor::Args),
    /// Add, list and change users
    #[command(subcommand)]
    User(people::UserRole),
    /// Set Lago up, and see what has arrived there
    #[command(subcommand)]
    Lago(lago::LagoRole),
    /// Issue and revoke sessions
    #[command(subcommand)]
    Session(people::SessionRole),
    /// Issue, list and revoke service keys
    #[command(subcommand)]
    Key(keys::KeyRole),
    /// Correct usage, bring in history, give credits
    #[command(subcommand)]
    Usage(usage::UsageRole),
    /// Print the OpenAPI document
    Openapi,
    /// Show the configuration and where each value comes from, secrets masked
    Config {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a shell completion script
    #[command(after_help = "Example: billhook completions bash > /etc/bash_completion.d/billhook")]
    Completions { shell: clap_complete::Shell },
    /// Fill a database with made-up subscriptions, for benchmarks
    #[command(hide = true)]
    BenchSeed {
        #[arg(long)]
        subscriptions: u64,
        /// Users usr_bench_0, usr_bench_1, …
        #[arg(long, default_value_t = 0)]
        users: u64,
        /// Events of those users
        #[arg(long, default_value_t = 0)]
        events: u64,
    },
}

/// How a role ends without having done its work.
#[derive(Debug)]
enum Ending {
    /// Something was refused or differs; the text says what.
    Refused(String),
    /// The same, and everything was said already.
    Said,
    /// What was asked could not be told, and why was said already.
    Unknown,
    Configuration(Vec<String>),
}

impl From<Error> for Ending {
    fn from(error: Error) -> Self {
        Self::Refused(match error {
            Error::NotFound => "there is no such user".to_owned(),
            Error::Invalid(faults) => {
                let faults: Vec<String> =
                    faults.iter().map(|fault| format!("{}: {}", fault.pointer, fault.detail)).collect();
                faults.join("; ")
            }
            other => other.to_string(),
        })
    }
}

impl From<BuildError> for Ending {
    fn from(error: BuildError) -> Self {
        Self::Configuration(vec![error.to_string()])
    }
}

impl From<std::io::Error> for Ending {
    fn from(error: std::io::Error) -> Self {
        Self::Refused(error.to_string())
    }
}

/// Every variable, with its default and what it means.
fn variables() -> String {
    let line = |variable: &Variable| {
        let default =
            if variable.default.is_empty() { String::new() } else { format!(" [default: {}]", variable.default) };
        format!("  {}{default}\n          {}\n", variable.name, variable.meaning)
    };
    let lines: String = VARIABLES.iter().map(line).collect();
    format!("Variables (each also as NAME_FILE, the path of a file that holds the value):\n{lines}")
}

/// Runs the role that the arguments name.
pub fn run() -> ExitCode {
    let told = Cli::command().after_long_help(format!("{AFTER_HELP}\n\n{}", variables())).get_matches();
    let cli = Cli::from_arg_matches(&told).unwrap_or_else(|error| error.exit());
    match work(cli.role) {
        Ok(()) if out::is_said() => ExitCode::SUCCESS,
        Ok(()) | Err(Ending::Said) => ExitCode::from(REFUSED),
        Err(Ending::Unknown) => ExitCode::from(UNKNOWN),
        Err(Ending::Refused(text)) => {
            out::complain(&text);
            ExitCode::from(REFUSED)
        }
        Err(Ending::Configuration(lines)) => {
            for line in &lines {
                out::complain(line);
            }
            ExitCode::from(CONFIGURATION)
        }
    }
}

fn work(role: Role) -> Result<(), Ending> {
    match role {
        Role::Serve(args) => serve::run(args),
        Role::Sandbox(args) => sandbox::run(&args),
        Role::Sync { json } => block_on(tools::sync(json)),
        Role::Verify(args) => block_on(verify::run(args)),
        Role::Stripe(role) => block_on(stripe::stripe(role)),
        Role::Webhooks(role) => block_on(webhooks::webhooks(role)),
        Role::Revenue(role) => block_on(revenue::revenue(role)),
        Role::Migrate => block_on(tools::migrate()),
        Role::Doctor(args) => block_on(doctor::run(args)),
        Role::User(role) => block_on(people::user(role)),
        Role::Session(role) => block_on(people::session(role)),
        Role::Key(role) => block_on(keys::key(role)),
        Role::Lago(role) => block_on(lago::lago(role)),
        Role::Usage(role) => block_on(usage::run(role)),
        Role::Openapi => tools::openapi(),
        Role::Config { json } => tools::config(json),
        Role::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "billhook", &mut script);
            out::write(&script);
            Ok(())
        }
        Role::BenchSeed { subscriptions, users, events } => block_on(seed::run(subscriptions, users, events)),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Ending> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

fn block_on(work: impl Future<Output = Result<(), Ending>>) -> Result<(), Ending> {
    runtime()?.block_on(work)
}

/// The configuration of the process, with logs started.
fn configured() -> Result<Config, Ending> {
    let config = Config::read(&Process).map_err(|faults| {
        Ending::Configuration(faults.iter().map(|fault| format!("{}: {}", fault.name, fault.problem)).collect())
    })?;
    let _ = crate::telemetry::start(&config.log);
    for name in &config.unknown {
        tracing::warn!(name, "this variable looks like ours and is not");
    }
    Ok(config)
}

/// The program with the system's clock and chance, beside whoever serves.
async fn visit(config: Config) -> Result<App, Ending> {
    Ok(App::visit(config, Arc::new(System), Chance::system()).await?)
}

/// The same for a command that only looks: it makes no database.
async fn look(config: Config) -> Result<App, Ending> {
    Ok(App::look(config, Arc::new(System), Chance::system()).await?)
}

/// The same for who looks for what is wrong.
async fn inspect(config: Config) -> Result<App, Ending> {
    Ok(App::inspect(config, Arc::new(System), Chance::system()).await?)
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    crate::config::duration(text, Duration::from_secs(1))
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "expected ADDRESS:PORT, such as 127.0.0.1:8084".to_owned())
}
