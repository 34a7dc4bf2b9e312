//! Usage events as they are kept: what came first under an id, and what counts for whom, in the order of time.

use super::Store;
use super::decimal::Decimal;
use super::instant::{self, Micros};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// An event's place in the order of arrival.
pub(super) type Number = usize;

/// An event that was found to be well-formed.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) transaction_id: Arc<str>,
    pub(super) subscription: Option<Box<str>>,
    pub(super) code: Box<str>,
    pub(super) at: Micros,
    pub(super) created_at: Micros,
    pub(super) precise_total_amount_cents: Option<Decimal>,
    /// A list and not a map: an event has few, and there are many events.
    pub(super) properties: Box<[(Box<str>, Value)]>,
    pub(super) deleted: bool,
}

impl Event {
    pub(super) fn property(&self, name: &str) -> Option<&Value> {
        self.properties.iter().find(|(own, _)| **own == *name).map(|(_, value)| value)
    }

    pub(super) fn properties(&self) -> Map<String, Value> {
        self.properties.iter().map(|(name, value)| (name.to_string(), value.clone())).collect()
    }
}

/// An event as Lago shows it.
#[derive(Debug, Serialize)]
pub(super) struct View<'a> {
    lago_id: Option<String>,
    transaction_id: &'a str,
    lago_customer_id: Option<&'a str>,
    code: &'a str,
    timestamp: String,
    precise_total_amount_cents: Option<String>,
    #[serde(serialize_with = "as_map")]
    properties: &'a [(Box<str>, Value)],
    lago_subscription_id: Option<&'a str>,
    external_subscription_id: Option<&'a str>,
    created_at: Option<String>,
}

fn as_map<S: Serializer>(properties: &&[(Box<str>, Value)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(properties.iter().map(|(name, value)| (name, value)))
}

/// The events of one code of one subscription.
#[derive(Debug, Default)]
struct Series {
    in_time: BTreeSet<(Micros, Number)>,
    /// ClickHouse only: the last one of each id and timestamp, which is the one that counts.
    last: HashMap<(Arc<str>, Micros), Number>,
}

#[derive(Debug, Default)]
struct OfSubscription {
    ids: HashMap<Arc<str>, Number>,
    series: HashMap<Box<str>, Series>,
}

/// All events of the organisation.
#[derive(Debug)]
pub(super) struct Events {
    store: Store,
    all: Vec<Event>,
    first_by_id: HashMap<Arc<str>, Number>,
    by_subscription: HashMap<Box<str>, OfSubscription>,
    /// ClickHouse only: replaced by a later one with the same id and timestamp.
    replaced: HashSet<Number>,
    /// Not yet seen by the jobs that follow an event.
    postponed: HashSet<Number>,
}

impl Events {
    pub(super) fn new(store: Store) -> Events {
        Events {
            store,
            all: Vec::new(),
            first_by_id: HashMap::new(),
            by_subscription: HashMap::new(),
            replaced: HashSet::new(),
            postponed: HashSet::new(),
        }
    }

    /// Whether the PostgreSQL store has this id for this subscription; without a subscription no id is ever taken.
    pub(super) fn is_taken(&self, subscription: Option<&str>, transaction_id: &str) -> bool {
        let own = subscription.and_then(|subscription| self.by_subscription.get(subscription));
        self.store == Store::Postgres && own.is_some_and(|own| own.ids.contains_key(transaction_id))
    }

    /// Keeps an event that is not taken.
    pub(super) fn add(&mut self, event: Event, postponed: bool) -> Number {
        let number = self.all.len();
        let id = Arc::clone(&event.transaction_id);
        self.first_by_id.entry(Arc::clone(&id)).or_insert(number);
        if postponed {
            self.postponed.insert(number);
        }
        // Without a subscription it is accepted and found by its id, and never counts.
        if let Some(subscription) = &event.subscription {
            let own = self.by_subscription.entry(subscription.clone()).or_default();
            own.ids.entry(Arc::clone(&id)).or_insert(number);
            let series = own.series.entry(event.code.clone()).or_default();
            series.in_time.insert((event.at, number));
            if self.store == Store::ClickHouse {
                self.replaced.extend(series.last.insert((id, event.at), number));
            }
        }
        self.all.push(event);
        number
    }

    pub(super) fn view(&self, number: Number) -> View<'_> {
        let event = &self.all[number];
        let known = self.store == Store::Postgres;
        View {
            lago_id: known.then(|| super::world::uuid("event", number)),
            transaction_id: &event.transaction_id,
            lago_customer_id: None,
            code: &event.code,
            timestamp: instant::milliseconds(event.at),
            precise_total_amount_cents: event.precise_total_amount_cents.map(Decimal::text),
            properties: &event.properties,
            lago_subscription_id: None,
            external_subscription_id: event.subscription.as_deref(),
            created_at: known.then(|| instant::seconds(event.created_at)),
        }
    }

    /// The first event of the organisation with this id.
    pub(super) fn find(&self, transaction_id: &str) -> Option<Number> {
        let number = *self.first_by_id.get(transaction_id)?;
        (!self.all[number].deleted).then_some(number)
    }

    /// What counts from `from` (inclusive) until `until` (exclusive), in the order of time.
    ///
    /// With `all`, also what the jobs have not seen yet.
    pub(super) fn counted(
        &self,
        subscription: &str,
        code: &str,
        period: (Micros, Micros),
        all: bool,
    ) -> impl Iterator<Item = &Event> {
        let series = self.by_subscription.get(subscription).and_then(|own| own.series.get(code));
        let (from, until) = (period.0, period.1.max(period.0));
        let range = series.into_iter().flat_map(move |series| series.in_time.range((from, 0)..(until, 0)));
        let counts =
            move |number: &Number| !self.replaced.contains(number) && (all || !self.postponed.contains(number));
        range.map(|(_, number)| *number).filter(counts).map(|number| &self.all[number]).filter(|event| !event.deleted)
    }

    /// Newest first, then by id, as `GET /events` has them: raw, so with everything that was replaced.
    pub(super) fn listed(&self, wanted: &Wanted<'_>) -> Vec<Number> {
        let mut found: Vec<Number> = match wanted.subscription {
            Some(subscription) => {
                let series = self.by_subscription.get(subscription).into_iter().flat_map(|own| &own.series);
                let series = series.filter(|(code, _)| wanted.code.is_none_or(|wanted| wanted == &***code));
                series
                    .flat_map(|(_, series)| series.in_time.range((wanted.from, 0)..))
                    .map(|(_, number)| *number)
                    .collect()
            }
            None => (0..self.all.len()).collect(),
        };
        found.retain(|number| wanted.matches(&self.all[*number]));
        found.sort_unstable_by(|one, two| {
            let (one, two) = (&self.all[*one], &self.all[*two]);
            two.at.cmp(&one.at).then_with(|| one.transaction_id.cmp(&two.transaction_id))
        });
        found
    }

    /// The events that arrived within a span, for the hourly job.
    pub(super) fn arrived(&self, from: Micros, until: Micros) -> impl Iterator<Item = &Event> {
        // They stand in the order of arrival, and the clock does not go back.
        let start = self.all.partition_point(|event| event.created_at < from);
        self.all[start..].iter().take_while(move |event| event.created_at < until)
    }

    /// Deletes the events of a metric; their ids stay taken.
    pub(super) fn delete_code(&mut self, code: &str) {
        for event in self.all.iter_mut().filter(|event| *event.code == *code) {
            event.deleted = true;
        }
    }

    /// The jobs that follow an event have run.
    pub(super) fn catch_up(&mut self) {
        self.postponed.clear();
    }

    pub(super) fn all(&self) -> &[Event] {
        &self.all
    }

    pub(super) fn store(&self) -> Store {
        self.store
    }
}

/// Which events to list.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) code: Option<&'a str>,
    pub(super) subscription: Option<&'a str>,
    /// Inclusive.
    pub(super) from: Micros,
    /// Inclusive.
    pub(super) to: Micros,
}

impl Wanted<'_> {
    fn matches(&self, event: &Event) -> bool {
        !event.deleted
            && self.code.is_none_or(|code| *event.code == *code)
            && self.subscription.is_none_or(|subscription| event.subscription.as_deref() == Some(subscription))
            && (self.from..=self.to).contains(&event.at)
    }
}
