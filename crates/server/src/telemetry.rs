//! What the program says about itself: structured logs on stderr, and the numbers behind `/metrics`. Numbers are read only when
//! somebody asks.

mod logs;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

pub use logs::{BadLevel, levels, start, subscriber};

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

/// A number that somebody keeps up to date. Until they have said what it is, nobody is shown one.
#[derive(Debug)]
pub struct Noted(AtomicI64);

impl Noted {
    const UNKNOWN: i64 = i64::MIN;

    pub fn note(&self, value: impl Into<Option<i64>>) {
        self.0.store(value.into().unwrap_or(Self::UNKNOWN), Ordering::Relaxed);
    }

    pub fn read(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|value| *value != Self::UNKNOWN)
    }
}

impl Default for Noted {
    fn default() -> Self {
        Self(AtomicI64::new(Self::UNKNOWN))
    }
}

/// Nothing at all where a number is not known: an unknown is never a zero.
fn encode_gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: Option<i64>) -> fmt::Result {
    let Some(value) = value else { return Ok(()) };
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

fn encode_counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: &AtomicU64) -> fmt::Result {
    let counter = ConstCounter::new(value.load(Ordering::Relaxed));
    counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
}

/// A number that is read when somebody asks for it.
pub struct Watched {
    pub name: &'static str,
    pub help: &'static str,
    pub read: Box<dyn Fn() -> Option<i64> + Send + Sync>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Collector for Watched {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        encode_gauge(&mut encoder, self.name, self.help, (self.read)())
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

/// How often something happened, by its reason.
#[derive(Debug, Default)]
pub struct Counts(Mutex<BTreeMap<&'static str, u64>>);

impl Counts {
    pub fn add(&self, reason: &'static str, times: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += times;
    }

    /// How often for each reason so far.
    pub fn read(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The same on the page, under a name.
#[derive(Debug)]
pub struct Counted {
    pub name: &'static str,
    pub help: &'static str,
    pub label: &'static str,
    pub counts: Arc<Counts>,
}

impl Collector for Counted {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(self.name, self.help, None, MetricType::Counter)?;
        for (reason, times) in self.counts.read() {
            ConstCounter::new(times).encode(family.encode_family(&[(self.label, reason)])?)?;
        }
        Ok(())
    }
}

/// How far shipping to Lago has come; written by its job.
#[derive(Debug, Default)]
pub struct LagoNumbers {
    /// Entries of the log that are not delivered yet.
    pub depth: Noted,
    /// How long the oldest of them has been waiting.
    pub lag_ms: Noted,
    /// Events that Lago does not take.
    pub dead: Noted,
    /// Subscriptions whose usage at Lago is another than what was delivered.
    pub differing: Noted,
    /// Tries in a row that failed.
    pub failures: Noted,
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
            encode_gauge(&mut encoder, name, help, value.read())?;
        }
        encode_counter(&mut encoder, "billhook_lago_delivered", "Events that Lago has taken", &self.delivered)
    }
}

/// How the events of Stripe's fare, and how true the mirror is; written by their jobs and by whoever takes a webhook.
#[derive(Debug, Default)]
pub struct WebhookNumbers {
    /// Events that wait to be applied.
    pub waiting: Noted,
    /// How long the oldest of them has been waiting.
    pub lag_ms: Noted,
    /// Events that were not applied on purpose.
    pub quarantined: Noted,
    /// Events of which every attempt failed.
    pub dead: Noted,
    /// Since the last sweep that came to the end of Stripe's list of events; negative while there was none.
    pub sweep_age_s: Noted,
    /// Since when each list of the mirror can be out of date, in the order of the full sync.
    pub mirrored_at_s: [Noted; 9],
    /// When an object was last compared with Stripe's.
    pub compared_at_s: Noted,
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
            encode_gauge(&mut encoder, name, help, value.read())?;
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
            encode_counter(&mut encoder, name, help, value)?;
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
            encode_gauge(&mut encoder, name, help, Some(value.load(Ordering::Relaxed)))?;
        }
        for (name, help, value) in [
            ("billhook_http_panics", "Handlers that panicked", &self.panics),
            ("billhook_http_accept_errors", "Times that accepting a connection failed", &self.accept_errors),
            ("billhook_http_timeouts", "Connections closed because the other side was too slow", &self.timeouts),
        ] {
            encode_counter(&mut encoder, name, help, value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A graph that shows zero says that somebody has counted.
    #[test]
    fn a_number_that_nobody_knows_is_not_shown() {
        let (lago, webhooks) = (Arc::new(LagoNumbers::default()), Arc::new(WebhookNumbers::default()));
        let page = |skew: Option<i64>| {
            let mut metrics = Metrics::new();
            let watched = Watched { name: "billhook_skew", help: "By how much", read: Box::new(move || skew) };
            metrics.registry().register_collector(Box::new(watched));
            metrics.registry().register_collector(Box::new(Arc::clone(&lago)));
            metrics.registry().register_collector(Box::new(Arc::clone(&webhooks)));
            metrics.render().unwrap()
        };
        let gauges =
            ["billhook_skew", "billhook_lago_outbox_depth", "billhook_webhooks_dead", "billhook_sweep_age_seconds"];
        let unknown = page(None);
        for name in gauges {
            assert!(!unknown.contains(name), "{name} in {unknown}");
        }
        assert!(unknown.contains("billhook_webhooks_received_total 0\n"), "what was counted is known: {unknown}");
        lago.depth.note(0);
        webhooks.dead.note(0);
        webhooks.sweep_age_s.note(0);
        let known = page(Some(0));
        for name in gauges {
            assert!(known.contains(&format!("{name} 0\n")), "{name} in {known}");
        }
        webhooks.dead.note(None);
        assert!(!page(Some(0)).contains("billhook_webhooks_dead"), "forgotten again");
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
