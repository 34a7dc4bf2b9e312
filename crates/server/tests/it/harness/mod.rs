//! A program in a test: the real router behind the real door, a sandbox as Stripe, and a clock that stands still.

#[macro_use]
pub mod database;
pub mod made_up;
pub mod postgres;
pub mod program;
pub mod wire;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use billhook::app::App;
use billhook::clock::{Chance, Clock, Manual};
use billhook::config::{self, Config};
use billhook::gateways::stripe::Settings;
use billhook::http::{door, edge, openapi, router};
use billhook::ops;
use billhook::ops::usage::Told;
use billhook::store::log::Source;
use billhook::telemetry::Metrics;
use billing::usage::Quantity;
use jiff::Timestamp;
use secrecy::SecretString;
use tokio::sync::oneshot;

pub use database::Database;

/// What every test's clock shows at first.
pub const NOW: &str = "2026-11-22T10:00:00.456Z";
/// The key of the test sandboxes; a canary for leaks, too.
pub const KEY: &str = "sk_test_canaryCANARY1234";

pub fn instant(text: &str) -> Timestamp {
    text.parse().expect("an instant")
}

/// An event as our own wire tells it.
pub fn event(id: &str, user: &str, kind: &str, quantity: &str, at: impl Into<Option<Timestamp>>) -> Told {
    Told {
        transaction_id: id.to_owned(),
        producer: None,
        user: user.to_owned(),
        kind: kind.to_owned(),
        quantity: Quantity::parse(quantity).expect("a quantity"),
        at: at.into(),
        properties: None,
        source: Source::Own,
    }
}

/// How a world is to be.
pub struct Plan {
    pub database: Database,
    /// What Stripe holds at first; nothing runs without Stripe.
    pub stripe: Option<sandbox::Seed>,
    /// Another Stripe than the sandbox: its base URL.
    pub stripe_base: Option<String>,
    pub version: &'static str,
    /// Further variables of the environment.
    pub environment: Vec<(&'static str, String)>,
    /// Other limits of the client of Stripe's: nobody waits ten seconds in a test.
    pub limits: fn(Settings) -> Settings,
    /// What chance begins with. Programs that share something must not make the same ids.
    pub seed: u64,
}

/// One try of a third of a second, and a breaker that asks again at once.
pub fn impatient(settings: Settings) -> Settings {
    let deadline = Duration::from_millis(300);
    Settings {
        attempt_deadline: deadline,
        total_deadline: deadline,
        attempts: 1,
        breaker_pause: Duration::ZERO,
        ..settings
    }
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            database: Database::sqlite(),
            stripe: Some(sandbox::Seed::Business),
            stripe_base: None,
            version: "2026-09-30.endive",
            environment: Vec::new(),
            limits: |settings| settings,
            seed: 7,
        }
    }
}

/// A running program with everything around it.
pub struct World {
    pub app: App,
    pub clock: Arc<Manual>,
    pub stripe: Option<sandbox::Sandbox>,
    pub base: String,
    http: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    pub database: Database,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.body))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("ascii"))
    }

    /// Status and body, byte for byte, as a snapshot shows them; only the request id is another one every time.
    pub fn shown(&self) -> String {
        let mut body = self.body.clone();
        if let Some(at) = body.find("\"request_id\":\"") {
            let from = at + "\"request_id\":\"".len();
            let to = from + body[from..].find('"').expect("the end of the id");
            body.replace_range(from..to, "[request_id]");
        }
        format!("{}\n{}", self.status, body.replace("},{", "},\n{"))
    }
}

impl World {
    /// The usual world: the little business, read to the end.
    pub async fn new() -> Self {
        let world = Self::planned(Plan::default()).await;
        world.sync().await;
        world
    }

    /// A world in which nothing was read from Stripe yet.
    pub async fn planned(plan: Plan) -> Self {
        let clock = Arc::new(Manual::at(NOW.parse().expect("instant")));
        let stripe = match plan.stripe {
            Some(seed) if plan.stripe_base.is_none() => Some(start_stripe(seed, &clock).await),
            _ => None,
        };
        let base = plan.stripe_base.clone().or_else(|| stripe.as_ref().map(sandbox::Sandbox::base_url));
        let config = configuration(&plan, base);
        let shared: Arc<dyn Clock> = Arc::clone(&clock) as _;
        let app = App::build_with(config, shared, Chance::seeded(plan.seed), plan.limits).await.expect("a program");
        let (base, stop) = open(&app).await;
        let http = client();
        Self { app, clock, stripe, base, http, stop: Some(stop), database: plan.database }
    }

    /// Reads everything from Stripe.
    pub async fn sync(&self) -> ops::sync::Outcome {
        self.sync_result().await.expect("a sync")
    }

    /// The same where it may fail.
    pub async fn sync_result(&self) -> billhook::error::Result<ops::sync::Outcome> {
        ops::sync::full(&self.app, &|_| ()).await
    }

    /// Adds a user; the id and a session token.
    pub async fn user(&self, email: &str, customer: Option<&str>, admin: bool) -> (String, String) {
        let add = ops::users::Add {
            email: email.to_owned(),
            name: email.to_owned(),
            tier: None,
            customer: customer.map(str::to_owned),
            admin,
        };
        let id = ops::users::add(&self.app, add).await.expect("a user");
        let token = ops::sessions::issue(&self.app, &id, Duration::from_hours(24)).await.expect("a session");
        (id, token)
    }

    /// A session of the little business's user.
    pub async fn ada(&self) -> String {
        self.user("ada@example.com", Some(sandbox::USER_CUSTOMER), false).await.1
    }

    /// A session of an admin.
    pub async fn admin(&self) -> String {
        self.user("admin@example.com", None, true).await.1
    }

    pub async fn get(&self, path: &str, token: &str) -> Answer {
        self.request("GET", path, &[("cookie", &format!("session_token={token}"))]).await
    }

    pub async fn get_anonymous(&self, path: &str) -> Answer {
        self.request("GET", path, &[]).await
    }

    pub async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(method, path, headers, "").await
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        send(&self.http, method, &format!("{}{path}", self.base), headers, body).await
    }

    /// Tells the sandbox something, as the owner of the Stripe account would; the object that comes back.
    pub async fn at_stripe(&self, method: &str, path: &str, form: &str) -> serde_json::Value {
        let base = self.stripe.as_ref().expect("a sandbox").base_url();
        let key = format!("Bearer {KEY}");
        let headers = [("authorization", key.as_str()), ("content-type", "application/x-www-form-urlencoded")];
        let answer = send(&self.http, method, &format!("{base}{path}"), &headers, form).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// A client as anybody may have one.
pub fn client() -> reqwest::Client {
    // Somebody else in this process may have chosen already, and chose the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(Duration::from_mins(1)).build().expect("client")
}

/// One request with any client.
pub async fn send(http: &reqwest::Client, method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let method = reqwest::Method::from_bytes(method.as_bytes()).expect("method");
    let mut request = http.request(method, url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if !body.is_empty() {
        request = request.body(body.to_owned());
    }
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, body: response.text().await.expect("a body") }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

/// A sandbox on a free port that shares the test's clock.
pub async fn start_stripe(seed: sandbox::Seed, clock: &Arc<Manual>) -> sandbox::Sandbox {
    let clock = Arc::clone(clock);
    let config = sandbox::Config {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        key: Some(KEY.to_owned()),
        state: None,
        seed,
        now: Arc::new(move || clock.now()),
    };
    sandbox::start(config).await.expect("a sandbox")
}

fn configuration(plan: &Plan, base: Option<String>) -> Config {
    let mut environment: std::collections::BTreeMap<String, String> =
        plan.environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    environment.insert("DATABASE_URL".to_owned(), plan.database.address());
    let mut config = Config::read(&environment).expect("a configuration");
    config.stripe = base.map(|base| config::Stripe {
        key: SecretString::from(KEY),
        base,
        version: plan.version.to_owned(),
        rate_per_second: 5_000,
    });
    config
}

/// Opens the door on a free port.
#[allow(clippy::disallowed_methods, reason = "the server runs beside the test")]
async fn open(app: &App) -> (String, oneshot::Sender<()>) {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    let (stop, stopped) = oneshot::channel::<()>();
    let settings = edge::Settings {
        hosts: edge::Hosts::Only(app.config.hosts.clone()),
        https: false,
        routes: openapi::paths(),
        started: app.clock.now(),
        entropy: 7,
        refused: std::sync::Arc::clone(&app.usage.refusals),
    };
    let edge = edge::Edge::new(router::routes(app.clone()), settings, Arc::clone(&Metrics::new().http));
    tokio::spawn(door::serve(listener, edge, door::Limits::default(), async move {
        let _ = stopped.await;
    }));
    (base, stop)
}
