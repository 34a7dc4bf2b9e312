//! What the program says about itself: structured logs on stderr, and the numbers behind `/metrics`.
//!
//! A log line is one JSON object and one line, whatever is in it: text that could break a line or colour a terminal
//! leaves as an escape. Numbers are plain atomics, read only when somebody asks.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

/// The level string names neither a level nor `target=level`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLevel {
    /// The part that cannot be read.
    pub part: String,
}

impl fmt::Display for BadLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not a log level: write one of off, error, warn, info, debug, trace, or target=level, comma separated",
            self.part.escape_debug()
        )
    }
}

impl std::error::Error for BadLevel {}

/// Reads `info` or `billhook=debug,info`. A word that is no level is an error, not a target with everything on.
pub fn levels(text: &str) -> Result<Targets, BadLevel> {
    let mut targets = Targets::new();
    for part in text.split(',').map(str::trim) {
        let bad = || BadLevel { part: part.to_owned() };
        targets = match part.split_once('=') {
            Some((target, level)) if !target.trim().is_empty() => {
                targets.with_target(target.trim(), level.trim().parse::<LevelFilter>().map_err(|_| bad())?)
            }
            Some(_) => return Err(bad()),
            None if part.is_empty() || part.bytes().all(|byte| byte.is_ascii_digit()) => return Err(bad()),
            None => targets.with_default(part.parse::<LevelFilter>().map_err(|_| bad())?),
        };
    }
    Ok(targets)
}

/// A subscriber that writes one JSON object per line into `out`.
pub fn subscriber<W>(levels: Targets, out: W) -> impl tracing::Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(OneLine(out))
        .with_filter(levels);
    tracing_subscriber::registry().with(lines)
}

/// Sends the logs of this process to stderr and gives panics the same form. Call once, first thing.
pub fn start(text: &str) -> Result<(), BadLevel> {
    let subscriber = subscriber(levels(text)?, io::stderr);
    // A second call (tests in one process) keeps the first subscriber: there is nothing to repair.
    let _already_started = tracing::subscriber::set_global_default(subscriber);
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        // A literal message is ours. A formatted one may carry the caller's input and stays out.
        let message = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("(formatted message withheld)");
        tracing::error!(panic.place = place, panic.message = message, "panic");
    }));
    Ok(())
}

/// Wraps a writer so that a line of log stays one line for every reader: JSON escapes CR, LF and ESC by itself, but not
/// U+0085, U+2028, U+2029 and the C1 controls, at which some readers break lines or obey (S-57).
#[derive(Debug, Clone)]
struct OneLine<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for OneLine<W> {
    type Writer = OneLine<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLine(self.0.make_writer())
    }
}

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(line) {
            Ok(text) if text.contains(breaks_a_line) => self.0.write_all(escaped(text).as_bytes())?,
            _ => self.0.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn breaks_a_line(c: char) -> bool {
    matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}')
}

fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len() + 32), |mut out, c| {
        if breaks_a_line(c) {
            let _infallible = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
        out
    })
}

/// All numbers of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// What the door and the edge count.
    pub http: Arc<HttpMetrics>,
}

impl Metrics {
    pub fn new() -> Self {
        let http = Arc::new(HttpMetrics::default());
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Arc::clone(&http)));
        Self { registry, http }
    }

    /// Where other parts register theirs, before the numbers are shared.
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// The text that a scraper reads (OpenMetrics 1.0).
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut out = String::with_capacity(4096);
        prometheus_client::encoding::text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Upper bounds of the latency buckets, in microseconds.
const BUCKETS_US: [u64; 14] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000, 30_000_000,
];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const SHARDS: usize = 8;

/// What the door and the edge count. Each connection adds to one of a few shards, so that two cores seldom meet on a
/// cache line; a scrape adds the shards up.
#[derive(Debug, Default)]
pub struct HttpMetrics {
    shards: [Shard; SHARDS],
    /// Connections open now.
    pub connections: AtomicI64,
    /// Requests being answered now.
    pub in_flight: AtomicI64,
    /// Handlers that panicked.
    pub panics: AtomicU64,
    /// Times that accepting failed.
    pub accept_errors: AtomicU64,
    /// Connections closed because the other side was too slow.
    pub timeouts: AtomicU64,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    classes: [AtomicU64; CLASSES.len()],
    buckets: [AtomicU64; BUCKETS_US.len() + 1],
    sum_us: AtomicU64,
}

impl HttpMetrics {
    /// Counts one answer. `lane` is any number that stays the same for a connection.
    pub fn answered(&self, lane: usize, status: u16, took: Duration) {
        let shard = &self.shards[lane % SHARDS];
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let class = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        let bucket = BUCKETS_US.iter().position(|bound| took_us <= *bound).unwrap_or(BUCKETS_US.len());
        shard.classes[class].fetch_add(1, Ordering::Relaxed);
        shard.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        shard.sum_us.fetch_add(took_us, Ordering::Relaxed);
    }

    /// Answers so far of a class: 2 for 2xx.
    pub fn answers(&self, class: usize) -> u64 {
        self.total(|shard| class.checked_sub(1).and_then(|index| shard.classes.get(index)))
    }

    fn total<'a>(&'a self, pick: impl Fn(&'a Shard) -> Option<&'a AtomicU64>) -> u64 {
        self.shards.iter().filter_map(pick).map(|number| number.load(Ordering::Relaxed)).sum()
    }

    fn encode_latency(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let buckets: Vec<(f64, u64)> = (0..=BUCKETS_US.len())
            .map(|index| {
                let bound = BUCKETS_US.get(index).map_or(f64::MAX, |bound| seconds(*bound));
                (bound, self.total(|shard| shard.buckets.get(index)))
            })
            .collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let name = "billhook_http_request_duration_seconds";
        let help = "From the end of the request's head to the head of its answer";
        encoder.encode_descriptor(name, help, None, MetricType::Histogram)?.encode_histogram::<[(&str, &str); 0]>(
            seconds(self.total(|shard| Some(&shard.sum_us))),
            count,
            &buckets,
            None,
        )
    }
}

/// A number that is read when somebody asks for it.
pub struct Watched {
    pub name: &'static str,
    pub help: &'static str,
    pub read: Box<dyn Fn() -> i64 + Send + Sync>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Collector for Watched {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let gauge = ConstGauge::new((self.read)());
        gauge.encode(encoder.encode_descriptor(self.name, self.help, None, MetricType::Gauge)?)
    }
}

/// The same for each of several things, told apart by a label.
pub struct WatchedEach {
    pub name: &'static str,
    pub help: &'static str,
    pub label: &'static str,
    pub read: Box<dyn Fn() -> Vec<(&'static str, i64)> + Send + Sync>,
}

impl fmt::Debug for WatchedEach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedEach").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Collector for WatchedEach {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(self.name, self.help, None, MetricType::Gauge)?;
        for (which, value) in (self.read)() {
            ConstGauge::new(value).encode(family.encode_family(&[(self.label, which)])?)?;
        }
        Ok(())
    }
}

/// How far shipping to Lago has come; written by its job.
#[derive(Debug, Default)]
pub struct LagoNumbers {
    /// The database has told, and tells: what is not known is not shown, and is no zero.
    pub known: AtomicBool,
    /// Entries of the log that are not delivered yet.
    pub depth: AtomicI64,
    /// How long the oldest of them has been waiting.
    pub lag_ms: AtomicI64,
    /// Events that Lago does not take.
    pub dead: AtomicI64,
    /// Subscriptions whose usage at Lago is another than what was delivered.
    pub differing: AtomicI64,
    /// Tries in a row that failed.
    pub failures: AtomicI64,
    /// Events delivered by this process.
    pub delivered: AtomicU64,
}

impl Collector for LagoNumbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, value) in [
            ("billhook_lago_outbox_depth", "Entries of the usage log that Lago has not got yet", &self.depth),
            ("billhook_lago_lag_milliseconds", "How long the oldest of them has been waiting", &self.lag_ms),
            ("billhook_lago_dead_letters", "Events that Lago does not take", &self.dead),
            ("billhook_lago_differing_subscriptions", "Subscriptions that Lago counts differently", &self.differing),
            ("billhook_lago_failures", "Tries in a row that failed", &self.failures),
        ] {
            if !self.known.load(Ordering::Relaxed) {
                break;
            }
            let gauge = ConstGauge::new(value.load(Ordering::Relaxed));
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let counter = ConstCounter::new(self.delivered.load(Ordering::Relaxed));
        let (name, help) = ("billhook_lago_delivered", "Events that Lago has taken");
        counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
    }
}

/// How the events of Stripe's fare, and how true the mirror is; written by their jobs and by whoever takes a webhook.
#[derive(Debug, Default)]
pub struct WebhookNumbers {
    /// Events that wait to be applied.
    pub waiting: AtomicI64,
    /// How long the oldest of them has been waiting.
    pub lag_ms: AtomicI64,
    /// Events that were not applied on purpose.
    pub quarantined: AtomicI64,
    /// Events of which every attempt failed.
    pub dead: AtomicI64,
    /// Since the last sweep that came to the end of Stripe's list of events; negative while there was none.
    pub sweep_age_s: AtomicI64,
    /// Since when each list of the mirror can be out of date, in the order of the full sync; nought while it is not known.
    pub mirrored_at_s: [AtomicI64; 9],
    /// When an object was last compared with Stripe's; nought before the first.
    pub compared_at_s: AtomicI64,
    /// Whether the clock was last seen to differ from Stripe's.
    pub skewed: AtomicBool,
    /// Events taken by this process, first deliveries.
    pub received: AtomicU64,
    /// Deliveries of events that were known.
    pub repeated: AtomicU64,
    /// Deliveries that were not signed.
    pub refused: AtomicU64,
    /// Events applied by this process.
    pub applied: AtomicU64,
    /// Objects that this process read for them.
    pub fetched: AtomicU64,
    /// Answers that were not what was asked for, and were not written.
    pub unfit: AtomicU64,
    /// Objects that this process compared with Stripe, how many were different, and how many could not be compared.
    pub compared: AtomicU64,
    pub different: AtomicU64,
    pub uncompared: AtomicU64,
}

impl Collector for WebhookNumbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, value) in [
            ("billhook_webhooks_waiting", "Events of Stripe's that are not applied yet", &self.waiting),
            ("billhook_webhooks_lag_milliseconds", "How long the oldest of them has been waiting", &self.lag_ms),
            ("billhook_webhooks_quarantined", "Events that are not applied on purpose", &self.quarantined),
            ("billhook_webhooks_dead", "Events of which every attempt failed", &self.dead),
            ("billhook_sweep_age_seconds", "Since Stripe's list of events was read to its end", &self.sweep_age_s),
        ] {
            let gauge = ConstGauge::new(value.load(Ordering::Relaxed));
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        for (name, help, value) in [
            ("billhook_webhooks_received", "Events taken, first deliveries", &self.received),
            ("billhook_webhooks_repeated", "Deliveries of events that were known", &self.repeated),
            ("billhook_webhooks_refused", "Deliveries that were not signed", &self.refused),
            ("billhook_webhooks_applied", "Events applied", &self.applied),
            ("billhook_webhooks_fetched", "Objects read for them", &self.fetched),
            ("billhook_mirror_refused", "Answers of Stripe's that were not what was asked for", &self.unfit),
            ("billhook_verify_compared", "Mirrored objects compared with Stripe's", &self.compared),
            ("billhook_verify_different", "Mirrored objects that were different from Stripe's", &self.different),
            ("billhook_verify_uncompared", "Mirrored objects that Stripe did not show when asked", &self.uncompared),
        ] {
            let counter = ConstCounter::new(value.load(Ordering::Relaxed));
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        Ok(())
    }
}

#[allow(clippy::cast_precision_loss, reason = "a latency for a graph; 2^53 microseconds are 285 years")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

impl Collector for HttpMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut answers = encoder.encode_descriptor(
            "billhook_http_requests",
            "Answers by status class",
            None,
            MetricType::Counter,
        )?;
        for (index, class) in CLASSES.iter().enumerate().skip(1) {
            let labels = [("status", *class)];
            ConstCounter::new(self.answers(index + 1)).encode(answers.encode_family(&labels)?)?;
        }
        self.encode_latency(&mut encoder)?;
        for (name, help, value) in [
            ("billhook_http_connections", "Connections open now", &self.connections),
            ("billhook_http_in_flight", "Requests being answered now", &self.in_flight),
        ] {
            let gauge = ConstGauge::new(value.load(Ordering::Relaxed));
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        for (name, help, value) in [
            ("billhook_http_panics", "Handlers that panicked", &self.panics),
            ("billhook_http_accept_errors", "Times that accepting a connection failed", &self.accept_errors),
            ("billhook_http_timeouts", "Connections closed because the other side was too slow", &self.timeouts),
        ] {
            let counter = ConstCounter::new(value.load(Ordering::Relaxed));
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(say: impl FnOnce()) -> String {
        let page = Page::default();
        let copy = page.clone();
        let subscriber = subscriber(levels("info").unwrap(), move || copy.clone());
        tracing::subscriber::with_default(subscriber, say);
        String::from_utf8(page.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn s57_hostile_text_stays_in_one_json_object_on_one_line() {
        let hostile = [
            "a\r\n{\"level\":\"ERROR\"}",
            "\u{1b}[31mred\u{1b}[0m",
            "line\u{2028}sep\u{2029}par\u{85}nel",
            "\u{9b}31m\0\u{7f}",
            "quote\" back\\slash",
        ];
        let text = logged(|| hostile.iter().for_each(|text| tracing::info!(user.name = %text, "{text}")));
        assert_eq!(text.matches('\n').count(), hostile.len());
        assert!(!text.trim_end().contains(|c: char| breaks_a_line(c) || (c.is_control() && c != '\n')), "{text:?}");
        for (line, said) in text.lines().zip(hostile) {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!((line["user.name"].as_str(), line["message"].as_str()), (Some(said), Some(said)));
        }
    }

    #[test]
    fn lines_are_flat_with_dotted_names_and_a_utc_time() {
        let line: serde_json::Value =
            serde_json::from_str(&logged(|| tracing::warn!(request.id = "req_1", duration_ms = 3, "slow"))).unwrap();
        assert_eq!((line["level"].as_str(), line["request.id"].as_str()), (Some("WARN"), Some("req_1")));
        assert_eq!((line["duration_ms"].as_i64(), line["message"].as_str()), (Some(3), Some("slow")));
        assert!(line["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
        assert!(line["target"].as_str().unwrap().contains("telemetry"));
    }

    #[test]
    fn a_level_is_read_or_refused_by_name() {
        let level = |text: &str| levels(text).map(|_| ()).map_err(|bad| bad.part);
        for good in ["info", "billhook=debug,info", "off", "WARN", "hyper=error , debug"] {
            assert_eq!(level(good), Ok(()), "{good}");
        }
        for (bad, part) in
            [("loud", "loud"), ("info,x=loud", "x=loud"), ("", ""), ("info,", ""), ("=info", "=info"), ("3", "3")]
        {
            assert_eq!(level(bad), Err(part.to_owned()), "{bad}");
        }
        let chosen = levels("billhook=debug,info").unwrap();
        assert!(chosen.would_enable("billhook::http", &tracing::Level::DEBUG));
        assert!(!chosen.would_enable("hyper", &tracing::Level::DEBUG));
    }

    #[test]
    fn numbers_are_rendered() {
        let metrics = Metrics::new();
        for (lane, status, us) in [(0, 200, 100), (1, 200, 700), (9, 404, 40_000_000), (3, 503, 1)] {
            metrics.http.answered(lane, status, Duration::from_micros(us));
        }
        let text = metrics.render().unwrap();
        for line in [
            "billhook_http_requests_total{status=\"2xx\"} 2",
            "billhook_http_requests_total{status=\"4xx\"} 1",
            "billhook_http_requests_total{status=\"5xx\"} 1",
            "billhook_http_request_duration_seconds_bucket{le=\"0.00025\"} 2",
            "billhook_http_request_duration_seconds_bucket{le=\"0.001\"} 3",
            "billhook_http_request_duration_seconds_bucket{le=\"+Inf\"} 4",
            "billhook_http_request_duration_seconds_count 4",
            "billhook_http_panics_total 0",
        ] {
            assert!(text.contains(line), "{line} is missing in:\n{text}");
        }
    }
}
