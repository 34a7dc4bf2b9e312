//! The only reader of the environment. Everything is checked at start, and every fault is named at once, without values.

mod lago;
mod stripe;
mod variables;
mod webhooks;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use billing::catalogue::Catalogue;
use secrecy::SecretString;

pub use self::lago::Lago;
pub use self::stripe::Stripe;
pub use self::variables::{VARIABLES, Variable};

/// The checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    pub stripe: Option<Stripe>,
    /// Any of them signs Stripe's webhooks; none: there are no webhooks.
    pub webhook_secrets: Vec<SecretString>,
    pub lago: Option<Lago>,
    pub lago_webhook_secret: Option<SecretString>,
    pub redis_url: Option<SecretString>,
    pub database_url: SecretString,
    pub listen: SocketAddr,
    pub metrics_listen: Option<SocketAddr>,
    pub public_url: String,
    /// Where a user who is refused can get more.
    pub upgrade_url: String,
    /// Host names, lower case and without port, by which the API may be called.
    pub hosts: Vec<String>,
    pub catalogue: Catalogue,
    pub sync_interval: Duration,
    /// How old a usage event may be.
    pub usage_window: Duration,
    pub late: Late,
    pub log: String,
    /// Names that look like ours and are not: mostly typing errors.
    pub unknown: Vec<String>,
}

/// What happens to events of a credit period that is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// They count in the running period, marked as late.
    Count,
    /// They are refused.
    Reject,
}

/// One thing wrong with the configuration; never holds the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub name: String,
    pub problem: String,
}

/// Where values come from: the process environment, or a table in tests.
pub trait Environment {
    fn get(&self, name: &str) -> Option<String>;
    fn names(&self) -> Vec<String>;
}

/// The environment of the process.
#[derive(Debug, Clone, Copy)]
pub struct Process;

impl Environment for Process {
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    fn get(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn names(&self) -> Vec<String> {
        std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect()
    }
}

impl Environment for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        BTreeMap::get(self, name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }
}

/// Reads the values one by one and collects what is wrong with them.
struct Reader<'e> {
    environment: &'e dyn Environment,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn fault(&mut self, name: &str, problem: impl Into<String>) {
        self.faults.push(Fault { name: name.to_owned(), problem: problem.into() });
    }

    /// A value that was set, from the variable or from the file it names.
    fn given(&mut self, name: &str) -> Option<String> {
        let file_name = format!("{name}_FILE");
        match (self.environment.get(name), self.environment.get(&file_name)) {
            (Some(_), Some(_)) => {
                self.fault(name, format!("set it or {file_name}, not both"));
                None
            }
            (Some(value), None) if value.trim().is_empty() => {
                self.fault(name, "is empty; unset it to leave it out");
                None
            }
            (Some(value), None) => Some(value),
            (None, Some(path)) => match read_secret(Path::new(&path)) {
                Ok(value) => Some(value),
                Err(problem) => {
                    self.fault(&file_name, problem);
                    None
                }
            },
            (None, None) => None,
        }
    }

    /// A value or its default.
    fn or_default(&mut self, name: &'static str) -> String {
        let default = VARIABLES.iter().find(|variable| variable.name == name).map_or("", |variable| variable.default);
        self.given(name).unwrap_or_else(|| default.to_owned())
    }

    /// A value read by `parse`, which says what it expects when it fails.
    fn parsed<T>(&mut self, name: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let text = self.or_default(name);
        if text.is_empty() {
            return None;
        }
        parse(&text).map_err(|problem| self.fault(name, problem)).ok()
    }
}

impl Config {
    /// Reads and checks everything. All faults are returned together.
    pub fn read(environment: &dyn Environment) -> Result<Self, Vec<Fault>> {
        let mut reader = Reader { environment, faults: Vec::new() };
        let stripe = stripe::read(&mut reader);
        let webhook_secrets = reader.parsed("STRIPE_WEBHOOK_SECRET", webhooks::secrets).unwrap_or_default();
        let (lago, lago_webhook_secret) = lago::read(&mut reader);
        let redis_url = reader.parsed("REDIS_URL", redis_url);
        let database_url = reader.parsed("DATABASE_URL", database_url);
        let listen = reader.parsed("BILLHOOK_LISTEN", address);
        let metrics_listen = reader.parsed("BILLHOOK_METRICS_LISTEN", address);
        let public_url = reader.parsed("BILLHOOK_PUBLIC_URL", public_url);
        let upgrade_url = reader.parsed("BILLHOOK_UPGRADE_URL", web_address);
        let further_hosts = reader.parsed("BILLHOOK_ALLOWED_HOSTS", |text| Ok(host_list(text))).unwrap_or_default();
        let catalogue = catalogue(&mut reader);
        let sync_interval = reader.parsed("BILLHOOK_SYNC_INTERVAL", |text| duration(text, Duration::from_secs(1)));
        let usage_window = reader.parsed("BILLHOOK_USAGE_WINDOW", |text| duration(text, Duration::from_hours(24)));
        let late = reader.parsed("BILLHOOK_LATE_EVENTS", |text| match text {
            "count" => Ok(Late::Count),
            "reject" => Ok(Late::Reject),
            _ => Err("expected count or reject".to_owned()),
        });
        let log = reader.parsed("BILLHOOK_LOG", log_filter);
        let unknown = unknown_names(environment);
        let (Some(database_url), Some(listen), Some(public_url), Some(catalogue), Some(sync_interval), Some(log), true) =
            (database_url, listen, public_url, catalogue, sync_interval, log, reader.faults.is_empty())
        else {
            return Err(reader.faults);
        };
        let (Some(usage_window), Some(late)) = (usage_window, late) else { return Err(reader.faults) };
        let hosts = hosts(listen, &public_url, further_hosts);
        let upgrade_url = upgrade_url.unwrap_or_else(|| format!("{public_url}/billing/upgrade"));
        Ok(Self {
            stripe,
            webhook_secrets,
            lago,
            lago_webhook_secret,
            redis_url,
            database_url,
            listen,
            metrics_listen,
            public_url,
            upgrade_url,
            hosts,
            catalogue,
            sync_interval,
            usage_window,
            late,
            log,
            unknown,
        })
    }

    /// The configuration of a program that was told where to listen on the command line.
    #[must_use]
    pub fn listening(mut self, listen: Option<SocketAddr>) -> Self {
        if let Some(listen) = listen {
            self.listen = listen;
            self.hosts.push(listen.ip().to_string());
        }
        self
    }
}

/// Reads the value of a `NAME_FILE`; a file that others can read keeps no secret.
fn read_secret(path: &Path) -> Result<String, String> {
    let facts = std::fs::metadata(path).map_err(|error| format!("cannot be read: {}", error.kind()))?;
    if facts.mode() & 0o077 != 0 {
        return Err("the file is open to others: chmod 600".to_owned());
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {}", error.kind()))?;
    let text = text.trim().to_owned();
    if text.is_empty() { Err("the file is empty".to_owned()) } else { Ok(text) }
}

fn base_url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.contains(['?', '#', '@', ' ']) => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err("expected http://HOST or https://HOST without user, query or fragment".to_owned()),
    }
}

fn public_url(text: &str) -> Result<String, String> {
    base_url(text)
}

/// An address to send people to: any path and query.
fn web_address(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(text.to_owned()),
        _ => Err("expected http://… or https://…".to_owned()),
    }
}

fn redis_url(text: &str) -> Result<SecretString, String> {
    let rest = text.strip_prefix("redis://").or_else(|| text.strip_prefix("rediss://"));
    if rest.is_some_and(is_place_in_redis) {
        return Ok(SecretString::from(text.to_owned()));
    }
    Err("expected redis://HOST:PORT[/DB] or rediss://…".to_owned())
}

/// `[USER:PASSWORD@]HOST[:PORT][/DB][?…]`
fn is_place_in_redis(text: &str) -> bool {
    let text = text.split_once('?').map_or(text, |(place, _)| place);
    let (server, number) = text.split_once('/').unwrap_or((text, ""));
    let server = server.rsplit_once('@').map_or(server, |(_, server)| server);
    let port = server.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.ends_with(']'));
    let is_number = number.is_empty() || number.parse::<u32>().is_ok();
    !server.is_empty() && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0)) && is_number
}

fn database_url(text: &str) -> Result<SecretString, String> {
    let known = ["sqlite:", "postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme));
    if known {
        Ok(SecretString::from(text.to_owned()))
    } else {
        Err("expected sqlite://PATH or postgres://…".to_owned())
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "expected ADDRESS:PORT, such as 127.0.0.1:8084".to_owned())
}

/// Read by whom it is for: a word that is no level would otherwise be taken here, and then nothing would be logged at all.
fn log_filter(text: &str) -> Result<String, String> {
    crate::telemetry::levels(text)
        .map(|_| text.to_owned())
        .map_err(|_| "expected error, warn, info, debug, trace or TARGET=LEVEL pairs".to_owned())
}

/// A duration such as `90s`, `5m`, `24h`, `7d`, at least `least`.
pub fn duration(text: &str, least: Duration) -> Result<Duration, String> {
    let expected = || "expected a number and s, m, h or d, such as 5m".to_owned();
    let unit = text.chars().last().ok_or_else(expected)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(expected()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| expected())?;
    let seconds = number.checked_mul(factor).filter(|seconds| *seconds <= 400 * 86_400);
    let length = Duration::from_secs(seconds.ok_or_else(|| "expected at most 400d".to_owned())?);
    if length < least { Err(format!("expected at least {}s", least.as_secs())) } else { Ok(length) }
}

fn host_list(text: &str) -> Vec<String> {
    text.split(',').map(|host| host.trim().to_ascii_lowercase()).filter(|host| !host.is_empty()).collect()
}

/// The names that a request may ask for: what is configured, and this machine itself.
fn hosts(listen: SocketAddr, public_url: &str, further: Vec<String>) -> Vec<String> {
    let mut hosts = further;
    let authority = public_url.split("://").nth(1).unwrap_or_default().split('/').next().unwrap_or_default();
    hosts.push(host_of(authority).to_ascii_lowercase());
    hosts.push(listen.ip().to_string());
    hosts.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    hosts.sort();
    hosts.dedup();
    hosts
}

/// The host of `host:port`, `[v6]:port` or `host`.
fn host_of(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    authority.split(':').next().unwrap_or_default()
}

fn catalogue(reader: &mut Reader<'_>) -> Option<Catalogue> {
    let Some(path) = reader.given("BILLHOOK_CATALOG") else { return Some(Catalogue::built_in()) };
    let text = match std::fs::read_to_string(PathBuf::from(path)) {
        Ok(text) => text,
        Err(error) => {
            reader.fault("BILLHOOK_CATALOG", format!("the file cannot be read: {}", error.kind()));
            return None;
        }
    };
    match Catalogue::parse(&text) {
        Ok(catalogue) => Some(catalogue),
        Err(faults) => {
            for fault in faults {
                reader.fault("BILLHOOK_CATALOG", fault.to_string());
            }
            None
        }
    }
}

fn unknown_names(environment: &dyn Environment) -> Vec<String> {
    let known = |name: &str| {
        let bare = name.strip_suffix("_FILE").unwrap_or(name);
        VARIABLES.iter().any(|variable| variable.name == name || variable.name == bare)
    };
    let mut names: Vec<String> = environment
        .names()
        .into_iter()
        .filter(|name| name.starts_with("BILLHOOK_") && !name.starts_with("BILLHOOK_TEST_") && !known(name))
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, Vec<Fault>> {
        let table: BTreeMap<String, String> =
            pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Config::read(&table)
    }

    #[test]
    fn an_empty_environment_is_a_configuration() {
        let config = read(&[]).expect("defaults");
        assert!(config.stripe.is_none());
        assert_eq!(config.listen.to_string(), "127.0.0.1:8084");
        assert_eq!(config.sync_interval, Duration::from_hours(24));
    }

    #[test]
    fn f56_every_fault_is_named_at_once_and_without_its_value() {
        let faults = read(&[
            ("STRIPE_SECRET_KEY", "pk_test_canary"),
            ("STRIPE_API_BASE", "ftp://canary"),
            ("DATABASE_URL", "mysql://canary"),
            ("BILLHOOK_LISTEN", "canary"),
            ("BILLHOOK_SYNC_INTERVAL", "-5m"),
            ("BILLHOOK_PUBLIC_URL", ""),
            ("BILLHOOK_UPGRADE_URL", "canary"),
            ("BILLHOOK_LOG", "canary"),
        ])
        .expect_err("all wrong");
        let names: Vec<&str> = faults.iter().map(|fault| fault.name.as_str()).collect();
        for name in [
            "STRIPE_SECRET_KEY",
            "STRIPE_API_BASE",
            "DATABASE_URL",
            "BILLHOOK_LISTEN",
            "BILLHOOK_SYNC_INTERVAL",
            "BILLHOOK_PUBLIC_URL",
            "BILLHOOK_UPGRADE_URL",
            "BILLHOOK_LOG",
        ] {
            assert!(names.contains(&name), "{name} missing in {names:?}");
        }
        assert!(!format!("{faults:?}").contains("canary"));
    }

    #[test]
    fn s63_a_secret_file_that_others_can_read_is_refused() {
        let path = std::env::temp_dir().join(format!("billhook-secret-{}", std::process::id()));
        std::fs::write(&path, "sk_test_12345678\n").expect("write");
        let set =
            |mode| std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("chmod");
        let text = path.to_string_lossy().into_owned();
        set(0o644);
        let faults = read(&[("STRIPE_SECRET_KEY_FILE", &text)]).expect_err("open to others");
        assert_eq!(faults[0].name, "STRIPE_SECRET_KEY_FILE");
        set(0o600);
        assert!(read(&[("STRIPE_SECRET_KEY_FILE", &text)]).expect("private").stripe.is_some());
        std::fs::remove_file(&path).expect("remove");
    }

    #[test]
    fn s56_secrets_are_not_in_the_debug_text() {
        let config = read(&[
            ("STRIPE_SECRET_KEY", "sk_test_canary1234"),
            ("DATABASE_URL", "postgres://u:canary@h/d"),
            ("REDIS_URL", "redis://:canary@h"),
        ]);
        assert!(!format!("{:?}", config.expect("fine")).contains("canary"));
    }

    #[test]
    fn places_in_redis() {
        for (text, is_one) in [
            ("redis://localhost", true),
            ("redis://127.0.0.1:6379/2", true),
            ("rediss://user:p%40ss@redis.internal:6380/0?protocol=resp3", true),
            ("redis://[::1]:6379", true),
            ("redis://[::1]", true),
            ("redis://127.0.0.1:notaport", false),
            ("redis://127.0.0.1:0", false),
            ("redis://127.0.0.1:99999", false),
            ("redis://127.0.0.1/first", false),
            ("redis://", false),
            ("http://127.0.0.1:6379", false),
        ] {
            assert_eq!(redis_url(text).is_ok(), is_one, "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("90s", Some(90)),
            ("5m", Some(300)),
            ("24h", Some(86_400)),
            ("7d", Some(604_800)),
            ("5", None),
            ("", None),
            ("-1s", None),
            ("0s", None),
            ("401d", None),
        ] {
            assert_eq!(duration(text, Duration::from_secs(1)).ok().map(|length| length.as_secs()), seconds, "{text}");
        }
    }
}
