//! `billhook serve`

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use billing::usage::Quantity;
use prometheus_client::registry::Registry;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::progress::ProgressLine;
use super::{Ending, block_on, configured, out, parse_address, sandbox as stripe_sandbox};
use crate::app::{App, BuildError};
use crate::clock::{Chance, Clock, System, age_s};
use crate::config::{self, Config, Environment, Process};
use crate::http::{door, edge, metrics, openapi, router};
use crate::jobs::Jobs;
use crate::ops;
use crate::ops::readiness;
use crate::store::db;
use crate::store::log::Source;
use crate::store::mirror::Resource;
use crate::telemetry::{Counted, Metrics, Noted, Watched, WatchedEach};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Address of the API [default: BILLHOOK_LISTEN]
    #[arg(long, value_parser = parse_address)]
    listen: Option<SocketAddr>,
    /// Run with a Stripe sandbox inside and a little business in it
    #[arg(long)]
    sandbox: bool,
    /// Forget what an earlier sandbox kept
    #[arg(long, requires = "sandbox")]
    fresh: bool,
}

/// The sandbox's key; it opens nothing but the sandbox on this machine.
const SANDBOX_KEY: &str = "sk_test_billhooksandbox";
const SANDBOX_VERSION: &str = "2026-09-30.endive";
const SANDBOX_DATABASE: &str = "billhook-sandbox.db";

pub(super) fn run(args: Args) -> Result<(), Ending> {
    let mut config = configured()?.listening(args.listen);
    block_on(async {
        outlive_file_limits();
        let listener = bind("BILLHOOK_LISTEN", config.listen).await?;
        let aside = match config.metrics_listen {
            Some(address) => Some(bind("BILLHOOK_METRICS_LISTEN", address).await?),
            None => None,
        };
        let address = listener.local_addr()?;
        // After the ports, so that a second start beside a running one does not take its files away.
        let inside = if args.sandbox { Some(enter_sandbox(&mut config, args.fresh, address).await?) } else { None };
        let _alone = db::lock_for_serve(config.database_url.expose_secret()).map_err(BuildError::Database)?;
        let app = App::build(config, Arc::new(System), Chance::system()).await?;
        if let Err(refused) = ops::caps::claim(&app).await {
            // Who is refused must not count as running.
            ops::catalogue::leave(&app).await?;
            return Err(BuildError::Schema(refused).into());
        }
        let told = told_to_stop();
        if let Some(inside) = &inside {
            open_business(&app, address, inside).await?;
        } else {
            out::complain(&format!("listening on http://{address}"));
            if app.stripe.is_none() {
                tracing::warn!("STRIPE_SECRET_KEY is not set: running without Stripe");
            }
        }
        serve(app, listener, aside, told).await?;
        if let Some(inside) = inside {
            forget(Path::new(stripe_sandbox::ADDRESS_FILE))?;
            inside.stripe.stop().await;
            inside.lago.stop().await;
        }
        Ok(())
    })
}

/// The neighbours that `--sandbox` brings with it.
struct Inside {
    stripe: sandbox::Sandbox,
    lago: sandbox::lago::Lago,
}

async fn bind(name: &str, address: SocketAddr) -> Result<TcpListener, Ending> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Ending::Configuration(vec![format!("{name}: cannot listen on {address}: {error}")]))
}

/// Serves until `told` to stop, then finishes what was accepted; the numbers on the listener `aside`, where there is one.
async fn serve(
    app: App,
    listener: TcpListener,
    aside: Option<TcpListener>,
    told: impl Future<Output = ()>,
) -> Result<(), Ending> {
    let mut counted = Metrics::new();
    if let Some(lago) = &app.lago {
        counted.registry().register_collector(Box::new(Arc::clone(&lago.numbers)));
    }
    for number in usage_numbers(&app) {
        counted.registry().register_collector(Box::new(number));
    }
    counted.registry().register_collector(Box::new(Counted {
        name: "billhook_usage_refused",
        help: "Events that were not recorded; a body that could not be read, or was refused as a whole, counts once",
        label: "code",
        counts: Arc::clone(&app.usage.refusals),
    }));
    counted.registry().register_collector(Box::new(Arc::clone(&app.webhooks)));
    mirror_numbers(&app, counted.registry());
    let counted = Arc::new(counted);
    let (tell, stop) = tokio::sync::watch::channel(false);
    let stopped = |mut stop: tokio::sync::watch::Receiver<bool>| async move {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let settings = edge::Settings {
        hosts: edge::Hosts::Only(app.config.hosts.clone()),
        https: app.config.public_url.starts_with("https://"),
        routes: openapi::paths(),
        started: app.clock.now(),
        entropy: app.chance.bytes::<8>().map(u64::from_le_bytes)?,
        refused: Arc::clone(&app.usage.refusals),
    };
    let edge = edge::Edge::new(router::routes(app.clone()), settings, Arc::clone(&counted.http));
    let line = ProgressLine::new();
    let jobs = Jobs::start(
        &app,
        Arc::new(move |progress| progress.map_or_else(|| line.end(), |progress| line.show(progress))),
    );
    let measured = async {
        match aside {
            Some(listener) => metrics::serve_metrics(listener, Arc::clone(&counted), stopped(stop.clone())).await,
            None => Ok(()),
        }
    };
    let told = async {
        told.await;
        let _ = tell.send(true);
    };
    let (served, measured, ()) =
        tokio::join!(door::serve(listener, edge, door::Limits::default(), stopped(stop.clone())), measured, told);
    jobs.stop().await;
    served?;
    measured?;
    Ok(())
}

/// How the usage log and its view stand.
fn usage_numbers(app: &App) -> Vec<Watched> {
    let number = |name, help, read: fn(&App) -> i64| {
        let app = app.clone();
        Watched { name, help, read: Box::new(move || Some(read(&app))) }
    };
    vec![
        number("billhook_usage_position", "The last entry of the usage log that is counted", |app| app.book.applied()),
        number("billhook_usage_waiting", "Events that wait to be written", |app| {
            i64::try_from(app.usage.waiting()).unwrap_or(i64::MAX)
        }),
        number("billhook_usage_unwritten", "Entries whose accounts are not written down yet", |app| {
            i64::try_from(app.book.unwritten()).unwrap_or(i64::MAX)
        }),
        number("billhook_usage_accounts", "Accounts in memory", |app| {
            i64::try_from(app.book.len()).unwrap_or(i64::MAX)
        }),
    ]
}

/// How old the mirror is, as the clock goes on: also while nothing writes to it.
fn mirror_numbers(app: &App, registry: &mut Registry) {
    let age = |app: &App, at_s: &Noted| at_s.read().map_or(-1, |at_s| age_s(app.clock.now(), at_s));
    let lists = app.clone();
    registry.register_collector(Box::new(WatchedEach {
        name: "billhook_mirror_age_seconds",
        help: "Since when a list of the mirror can be out of date; negative while it was never read to its end",
        label: "list",
        read: Box::new(move || {
            let read = Resource::ALL.into_iter().zip(&lists.webhooks.mirrored_at_s);
            read.map(|(resource, at_s)| (resource.name(), age(&lists, at_s))).collect()
        }),
    }));
    let verify = app.clone();
    registry.register_collector(Box::new(Watched {
        name: "billhook_verify_age_seconds",
        help: "Since a mirrored object was last compared with Stripe's; negative before the first",
        read: Box::new(move || Some(age(&verify, &verify.webhooks.compared_at_s))),
    }));
    let clock = app.clone();
    registry.register_collector(Box::new(Watched {
        name: "billhook_stripe_clock_skew_seconds",
        help: "By how much Stripe's clock is ahead of ours, as of its last answer",
        read: Box::new(move || readiness::clock_skew_s(&clock)),
    }));
}

/// A limit on the size of files (`ulimit -f`) is then an error of a write, as a full disk is, and no longer the end of the program.
fn outlive_file_limits() {
    // SIGXFSZ, 25 on Linux and macOS alike. Whoever listens to a signal is not ended by it, for as long as the process lives.
    let _listens = signal(SignalKind::from_raw(25));
}

/// Takes SIGTERM and SIGINT over, from this call on, and then waits for the first of them. To be called before anybody is
/// told that the program runs: whoever knows may stop it.
pub(super) fn told_to_stop() -> impl Future<Output = ()> {
    let [mut terminate, mut interrupt] =
        [SignalKind::terminate(), SignalKind::interrupt()].map(|kind| signal(kind).ok());
    async move {
        tokio::select! {
            () = arrived(terminate.as_mut()) => {}
            () = arrived(interrupt.as_mut()) => {}
        }
    }
}

async fn arrived(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Starts the sandboxes and points the configuration at them.
async fn enter_sandbox(config: &mut Config, fresh: bool, ours: SocketAddr) -> Result<Inside, Ending> {
    if Process.get("DATABASE_URL").is_none() && Process.get("DATABASE_URL_FILE").is_none() {
        config.database_url = SecretString::from(format!("sqlite://{SANDBOX_DATABASE}"));
    }
    let state = PathBuf::from("billhook-sandbox.stripe.jsonl");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let lago_state = PathBuf::from("billhook-sandbox.lago.jsonl");
    let start = async || {
        let key = || Some(SANDBOX_KEY.to_owned());
        let stripe = stripe_sandbox::start(address, Some(state.clone()), sandbox::Seed::Business, key()).await?;
        let lago = stripe_sandbox::start_lago(address, Some(lago_state.clone()), key()).await?;
        Ok::<_, Ending>(Inside { stripe, lago })
    };
    if fresh {
        // Started once to be sure that no other process lives in these files.
        let Inside { stripe, lago } = start().await?;
        stripe.stop().await;
        lago.stop().await;
        for name in [SANDBOX_DATABASE, "billhook-sandbox.db-wal", "billhook-sandbox.db-shm"] {
            forget(Path::new(name))?;
        }
        forget(&state)?;
        forget(&lago_state)?;
    }
    let inside = start().await?;
    config.lago =
        Some(config::Lago { base: inside.lago.base_url(), key: SecretString::from(SANDBOX_KEY), rate_per_second: 50 });
    config.stripe = Some(config::Stripe {
        key: SecretString::from(SANDBOX_KEY),
        base: inside.stripe.base_url(),
        version: SANDBOX_VERSION.to_owned(),
        rate_per_second: 5_000,
    });
    let webhooks = format!("http://{ours}{}", ops::stripe_setup::PATH);
    let stripe = inside.stripe.base_url();
    let secret = sandbox::remote::webhook_endpoint(&stripe, SANDBOX_KEY, &webhooks, SANDBOX_VERSION).await?;
    config.webhook_secrets.push(SecretString::from(secret));
    // For `billhook sandbox advance` in the same directory.
    std::fs::write(stripe_sandbox::ADDRESS_FILE, stripe)?;
    Ok(inside)
}

fn forget(path: &Path) -> Result<(), Ending> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Ending::Refused(format!("{}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

/// The people and the usage of the little business; then what to paste.
async fn open_business(app: &App, address: SocketAddr, inside: &Inside) -> Result<(), Ending> {
    let line = ProgressLine::new();
    let synced = ops::sync::full(app, &|progress| line.show(progress)).await;
    line.end();
    synced?;
    ops::lago::setup::run(app, ops::lago::setup::Mode::Make).await?;
    let user = person(app, "ada@example.com", "Ada Moreno", Some(sandbox::USER_CUSTOMER), false).await?;
    let admin = person(app, "admin@example.com", "Admin", None, true).await?;
    if user.new {
        ops::usage::record(app, business_usage(&user.id)?).await?;
    }
    let day = Duration::from_hours(24);
    let user_token = ops::sessions::issue(app, &user.id, day).await?;
    let admin_token = ops::sessions::issue(app, &admin.id, day).await?;
    let base = format!("http://{address}");
    out::say(&format!(
        "Billhook {} on {base}  (reference: {base}/docs, Stripe sandbox: {}, Lago sandbox: {})",
        env!("CARGO_PKG_VERSION"),
        inside.stripe.base_url(),
        inside.lago.base_url()
    ));
    out::say(&format!("key of both sandboxes: {SANDBOX_KEY}"));
    out::say(&format!("user   session_token={user_token}"));
    out::say(&format!("admin  session_token={admin_token}"));
    for (token, path) in [
        (&user_token, "billing/subscription"),
        (&user_token, "billing/invoices?limit=5"),
        (&user_token, "billing/payment-methods"),
        (&user_token, "billing/usage"),
        (&admin_token, "admin/billing/stats"),
        (&admin_token, "admin/billing/customers?limit=50"),
        (&admin_token, "admin/billing/subscriptions?status=active"),
        (&admin_token, "admin/billing/recent-charges?limit=20"),
    ] {
        out::say(&format!("curl -b \"session_token={token}\" \"{base}/api/v1/{path}\""));
    }
    let key = ops::keys::issue(app, "sandbox", &[ops::keys::Scope::UsageWrite]).await?;
    out::say(&format!("key    {key}"));
    let at = billing::time::wire(app.clock.now());
    let event = format!(
        r#"[{{"transaction_id":"call-1","user_id":"{0}","type":"tts","quantity":2,"timestamp":"{at}"}}]"#,
        user.id
    );
    let question = format!(r#"{{"user_id":"{}","type":"inference","quantity":1}}"#, user.id);
    for (path, body) in [("usage/events", &event), ("usage/check", &question)] {
        out::say(&format!(
            "curl -H \"Authorization: Bearer {key}\" -H \"Content-Type: application/json\" -d '{body}' \"{base}/api/v1/{path}\""
        ));
    }
    Ok(())
}

/// Somebody of the little business.
struct Person {
    id: String,
    /// Added just now, not at an earlier start.
    new: bool,
}

/// The user with this e-mail, added when there is none yet.
async fn person(app: &App, email: &str, name: &str, customer: Option<&str>, admin: bool) -> Result<Person, Ending> {
    let mut after = String::new();
    loop {
        let page = ops::users::list(app, &after, 500).await?;
        if let Some(known) = page.iter().find(|user| user.email == email) {
            return Ok(Person { id: known.id.clone(), new: false });
        }
        match page.last() {
            Some(last) => after.clone_from(&last.id),
            None => break,
        }
    }
    let add = ops::users::Add {
        email: email.to_owned(),
        name: name.to_owned(),
        tier: None,
        customer: customer.map(str::to_owned),
        admin,
    };
    Ok(Person { id: ops::users::add(app, add).await?, new: true })
}

/// 450 + 120 + 10 + 5 events' worth of usage, 15 + 5 of it today.
fn business_usage(user: &str) -> Result<Vec<ops::usage::Told>, Ending> {
    let now = System.now();
    let earlier = now.checked_sub(Duration::from_hours(48)).map_err(|error| Ending::Refused(error.to_string()))?;
    let rows = [
        ("inference", "15", now),
        ("embedding", "5", now),
        ("inference", "435", earlier),
        ("embedding", "115", earlier),
        ("tts", "10", earlier),
        ("stt", "5", earlier),
    ];
    rows.into_iter()
        .map(|(kind, quantity, at)| {
            Ok(ops::usage::Told {
                transaction_id: format!("sandbox-{kind}-{quantity}"),
                producer: None,
                user: user.to_owned(),
                kind: kind.to_owned(),
                quantity: Quantity::parse(quantity).map_err(|error| Ending::Refused(error.to_string()))?,
                at: Some(at),
                properties: None,
                source: Source::Program,
            })
        })
        .collect()
}
