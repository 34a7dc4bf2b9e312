//! The catalogue file: TOML in, a catalogue or all of its faults out.
//!
//! Read from the spanned tree by hand: the order of the tiers and the line of a fault are in the spans, and a reader that
//! stops at the first fault would have people fix a file one run at a time.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use jiff::tz::TimeZone;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{
    Catalogue, CatalogueFault, EVENT_TYPES, EventType, Limit, Overage, PastDue, Tier, TierChange, UNKNOWN, WhenUnknown,
};
use crate::currency::Currency;
use crate::decimal::Decimal;
use crate::entry::CREDITS_MOST;
use crate::money::Money;
use crate::time;
use crate::usage::{Credits, Quantity};

/// Reads the whole file, whatever is wrong with a part of it.
pub(super) fn read(text: &str) -> Result<Catalogue, Vec<CatalogueFault>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { text, faults: Vec::new() };
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        reader.fault(at, "", error.message().trim());
    }
    // What a broken line leaves behind says nothing more that can be relied on.
    let catalogue = if errors.is_empty() { reader.catalogue(root.get_ref()) } else { None };
    match catalogue {
        Some(catalogue) if reader.faults.is_empty() => Ok(catalogue),
        Some(_) | None => {
            reader.faults.sort_by(|left, right| (left.line, &left.path).cmp(&(right.line, &right.path)));
            Err(reader.faults)
        }
    }
}

type Value<'t> = Spanned<DeValue<'t>>;

/// A table with its path, so that everything in it can be named.
struct Node<'n, 't> {
    path: String,
    /// Where it begins: a missing member has no place of its own.
    at: usize,
    table: &'n DeTable<'t>,
}

impl<'n, 't> Node<'n, 't> {
    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn get(&self, key: &str) -> Option<&'n Value<'t>> {
        self.table.get(key)
    }

    fn at_of(&self, key: &str) -> usize {
        self.get(key).map_or(self.at, |value| value.span().start)
    }

    /// Keys in the order of the file, with their places.
    fn keys(&self) -> Vec<(usize, &'n str)> {
        let mut keys: Vec<_> = self.table.keys().map(|key| (key.span().start, key.get_ref().as_ref())).collect();
        keys.sort_unstable();
        keys
    }
}

struct Reader<'r> {
    text: &'r str,
    faults: Vec<CatalogueFault>,
}

impl Reader<'_> {
    fn fault(&mut self, at: usize, path: &str, problem: impl Into<String>) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count().saturating_add(1);
        self.faults.push(CatalogueFault { path: path.to_owned(), problem: problem.into(), line });
    }

    fn fault_in(&mut self, node: &Node<'_, '_>, key: &str, problem: impl Into<String>) {
        self.fault(node.at_of(key), &node.path_of(key), problem);
    }

    fn catalogue(&mut self, table: &DeTable<'_>) -> Option<Catalogue> {
        let root = Node { path: String::new(), at: 0, table };
        self.only(&root, &["currency", "time_zone", "revenue", "plan_change", "events", "tiers"]);
        let currency = self.currency(&root);
        let time_zone = self.time_zone(&root);
        let past_due = self.past_due(&root);
        let words = [("keep_used", TierChange::KeepUsed), ("prorate", TierChange::Prorate)];
        let plan_change = self.word(&root, "plan_change", &words).unwrap_or(TierChange::KeepUsed);
        let events = self.events(&root);
        let tiers = self.tiers(&root, currency, &events);
        Some(Catalogue {
            currency: currency?,
            time_zone: time_zone?,
            past_due,
            plan_change,
            events,
            tiers,
            text: Arc::from(self.text),
        })
    }

    fn currency(&mut self, root: &Node<'_, '_>) -> Option<Currency> {
        let code = self.required(root, "currency")?;
        match Currency::parse(code) {
            Ok(currency) if currency.is_listed() => return Some(currency),
            Ok(_) => self.fault_in(root, "currency", format!("{code:?} is no currency of ISO 4217")),
            Err(error) => self.fault_in(root, "currency", error.to_string()),
        }
        None
    }

    fn time_zone(&mut self, root: &Node<'_, '_>) -> Option<TimeZone> {
        let Some(name) = self.string(root, "time_zone") else { return Some(TimeZone::UTC) };
        time::zone(name).map_err(|error| self.fault_in(root, "time_zone", error.to_string())).ok()
    }

    fn past_due(&mut self, root: &Node<'_, '_>) -> PastDue {
        let Some(revenue) = self.table(root, "revenue") else { return PastDue::Count };
        self.only(&revenue, &["past_due"]);
        let words = [("count", PastDue::Count), ("exclude", PastDue::Exclude)];
        self.word(&revenue, "past_due", &words).unwrap_or(PastDue::Count)
    }

    /// Those of the file, and those that every catalogue has.
    fn events(&mut self, root: &Node<'_, '_>) -> BTreeMap<Arc<str>, EventType> {
        let mut events = BTreeMap::new();
        for node in self.tables(root, "events") {
            self.only(&node.inner, &["credits", "lago_code"]);
            let credits = self.credits(&node.inner, "credits");
            let lago_code = self.string(&node.inner, "lago_code").map(str::to_owned);
            events.insert(Arc::from(node.name), event_type(node.name, credits, lago_code));
        }
        for name in EVENT_TYPES {
            events.entry(Arc::from(name)).or_insert_with(|| event_type(name, None, None));
        }
        events
    }

    fn tiers(
        &mut self,
        root: &Node<'_, '_>,
        currency: Option<Currency>,
        events: &BTreeMap<Arc<str>, EventType>,
    ) -> Vec<Tier> {
        let nodes = self.tables(root, "tiers");
        if nodes.is_empty() {
            self.fault_in(root, "tiers", "at least one tier is needed");
        }
        self.prices_once(&nodes);
        self.names_once(&nodes);
        nodes.iter().filter_map(|node| self.tier(node, currency, events)).collect()
    }

    fn tier(
        &mut self,
        named: &Named<'_, '_>,
        currency: Option<Currency>,
        events: &BTreeMap<Arc<str>, EventType>,
    ) -> Option<Tier> {
        let node = &named.inner;
        let members = ["name", "price", "stripe_prices", "included_credits", "price_per_1k", "overage", "overage_cap"];
        self.only(node, &[members.as_slice(), &["trial_days", "limits"]].concat());
        if named.name == UNKNOWN {
            self.fault(node.at, &node.path, "this is what a tier is called that nothing is known about");
        }
        let name = self.required(node, "name").map(|name| name.trim().to_owned());
        if name.as_deref() == Some("") {
            self.fault_in(node, "name", "a name is needed");
        }
        let price = self.required(node, "price").and_then(|_| self.money(node, "price", currency));
        let stripe_prices = self.strings(node, "stripe_prices").into_iter().map(|(_, id)| id.to_owned()).collect();
        let included_credits = self.countable(node, "included_credits").unwrap_or(Credits::ZERO);
        let words = [("bill", Overage::Bill), ("block", Overage::Block)];
        let overage = self.word(node, "overage", &words).unwrap_or(Overage::Block);
        if overage == Overage::Bill && node.get("price_per_1k").is_none() {
            self.fault(node.at, &node.path_of("price_per_1k"), "missing: overage = \"bill\" needs a price");
        }
        let price_per_1k = self.money(node, "price_per_1k", currency);
        let overage_cap = self.countable(node, "overage_cap");
        let trial_days = self.whole(node, "trial_days", 1..=366);
        if trial_days.is_some() && price.is_some_and(|price| price.minor() > 0) {
            self.fault_in(node, "trial_days", "a trial costs nothing: price = \"0\" is needed");
        }
        if trial_days.is_some() && overage == Overage::Bill {
            self.fault_in(node, "trial_days", "a trial stops at its credits: overage = \"block\" is needed");
        }
        let limits = self.limits(node, events);
        let price_per_1k = price_per_1k.or(currency.map(Money::zero))?;
        let (id, name, price) = (named.name.to_owned(), name?, price?);
        Some(Tier {
            id,
            name,
            price,
            stripe_prices,
            included_credits,
            price_per_1k,
            overage,
            overage_cap,
            limits,
            trial_days,
        })
    }

    fn limits(&mut self, tier: &Node<'_, '_>, events: &BTreeMap<Arc<str>, EventType>) -> BTreeMap<String, Limit> {
        let mut limits = BTreeMap::new();
        for Named { name, inner: node } in self.tables(tier, "limits") {
            self.only(&node, &["per_day", "per_month", "per_minute", "when_unknown"]);
            if !events.contains_key(name) {
                self.fault(node.at, &node.path, format!("there is no event type {name:?}"));
            }
            let [per_day, per_month, per_minute] =
                ["per_day", "per_month", "per_minute"].map(|key| self.quantity(&node, key));
            if ["per_day", "per_month", "per_minute"].iter().all(|key| node.get(key).is_none()) {
                self.fault(node.at, &node.path, "it limits nothing: per_day, per_month or per_minute is needed");
            }
            if node.get("when_unknown").is_none() {
                self.fault_in(&node, "when_unknown", "missing: \"open\" or \"closed\"");
            }
            let words = [("open", WhenUnknown::Open), ("closed", WhenUnknown::Closed)];
            let when_unknown = self.word(&node, "when_unknown", &words).unwrap_or(WhenUnknown::Closed);
            limits.insert(name.to_owned(), Limit { per_day, per_month, per_minute, when_unknown });
        }
        limits
    }

    /// A Stripe price sells one tier.
    fn prices_once(&mut self, tiers: &[Named<'_, '_>]) {
        let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
        for tier in tiers {
            for (at, price) in silent_strings(tier.inner.get("stripe_prices")) {
                if let Some(owner) = owners.insert(price, tier.name) {
                    let problem = format!("{price:?} already sells tiers.{owner}");
                    self.fault(at, &tier.inner.path_of("stripe_prices"), problem);
                }
            }
        }
    }

    /// A name in metadata means one tier.
    fn names_once(&mut self, tiers: &[Named<'_, '_>]) {
        let mut owners: BTreeMap<String, &str> = tiers.iter().map(|tier| (tier.name.to_owned(), tier.name)).collect();
        for tier in tiers {
            let Some(name) = tier.inner.get("name").and_then(|value| value.get_ref().as_str()) else { continue };
            match owners.insert(name.trim().to_lowercase(), tier.name) {
                Some(owner) if owner != tier.name => {
                    self.fault_in(&tier.inner, "name", format!("{name:?} already means tiers.{owner}"));
                }
                Some(_) | None => {}
            }
        }
    }

    // Members of a table. Each answers None for a member that is not there, and for one that is wrong after naming it.

    fn only(&mut self, node: &Node<'_, '_>, known: &[&str]) {
        for (at, key) in node.keys() {
            if !known.contains(&key) {
                self.fault(at, &node.path_of(key), format!("unknown key; known are {}", known.join(", ")));
            }
        }
    }

    fn wrong_type(&mut self, at: usize, path: &str, value: &DeValue<'_>, wanted: &str) {
        self.fault(at, path, format!("{wanted} is needed, this is {}", value.type_str()));
    }

    fn string<'n>(&mut self, node: &Node<'n, '_>, key: &str) -> Option<&'n str> {
        let value = node.get(key)?;
        let string = value.get_ref().as_str();
        if string.is_none() {
            self.wrong_type(value.span().start, &node.path_of(key), value.get_ref(), "a string in quotes");
        }
        string
    }

    fn required<'n>(&mut self, node: &Node<'n, '_>, key: &str) -> Option<&'n str> {
        if node.get(key).is_none() {
            self.fault_in(node, key, "missing");
        }
        self.string(node, key)
    }

    fn strings<'n>(&mut self, node: &Node<'n, '_>, key: &str) -> Vec<(usize, &'n str)> {
        let Some(value) = node.get(key) else { return Vec::new() };
        let all = value.get_ref().as_array().is_some_and(|list| list.iter().all(|value| value.get_ref().is_str()));
        if !all {
            self.wrong_type(value.span().start, &node.path_of(key), value.get_ref(), "a list of strings");
        }
        let strings = silent_strings(Some(value));
        for (at, string) in &strings {
            if string.trim().is_empty() {
                self.fault(*at, &node.path_of(key), "an id is needed");
            }
        }
        strings
    }

    fn word<T: Copy>(&mut self, node: &Node<'_, '_>, key: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.string(node, key)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let known: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            self.fault_in(node, key, format!("{text:?} is none of {}", known.join(", ")));
        }
        found
    }

    fn whole(&mut self, node: &Node<'_, '_>, key: &str, range: RangeInclusive<u16>) -> Option<u16> {
        let value = node.get(key)?;
        let Some(number) = value.get_ref().as_integer() else {
            self.wrong_type(value.span().start, &node.path_of(key), value.get_ref(), "a whole number");
            return None;
        };
        let found = u16::from_str_radix(number.as_str(), number.radix()).ok().filter(|number| range.contains(number));
        if found.is_none() {
            self.fault_in(node, key, format!("{number} is not within {} to {}", range.start(), range.end()));
        }
        found
    }

    /// Not negative. Where the currency itself is wrong only the number is judged.
    fn money(&mut self, node: &Node<'_, '_>, key: &str, currency: Option<Currency>) -> Option<Money> {
        let text = self.string(node, key)?;
        let money = match currency {
            Some(currency) => Money::parse_major(text, currency).map_err(|error| error.to_string()).map(Some),
            None => Decimal::parse(text).map_err(|error| error.to_string()).map(|_| None),
        };
        self.not_negative(node, key, text, money)?
    }

    fn credits(&mut self, node: &Node<'_, '_>, key: &str) -> Option<Credits> {
        let text = self.string(node, key)?;
        self.not_negative(node, key, text, Credits::parse(text).map_err(|error| error.to_string()))
    }

    /// Credits of an account: no more than one can be kept by.
    fn countable(&mut self, node: &Node<'_, '_>, key: &str) -> Option<Credits> {
        let credits = self.credits(node, key)?;
        if credits > CREDITS_MOST {
            let problem =
                format!("{} is more than an account can count, at most {}", credits.wire(), CREDITS_MOST.wire());
            self.fault_in(node, key, problem);
        }
        Some(credits)
    }

    fn quantity(&mut self, node: &Node<'_, '_>, key: &str) -> Option<Quantity> {
        let text = self.string(node, key)?;
        self.not_negative(node, key, text, Quantity::parse(text).map_err(|error| error.to_string()))
    }

    fn not_negative<T>(&mut self, node: &Node<'_, '_>, key: &str, text: &str, read: Result<T, String>) -> Option<T> {
        match read {
            Ok(_) if text.starts_with('-') => self.fault_in(node, key, format!("{text:?} is negative")),
            Ok(value) => return Some(value),
            Err(problem) => self.fault_in(node, key, problem),
        }
        None
    }

    fn table<'n, 't>(&mut self, node: &Node<'n, 't>, key: &str) -> Option<Node<'n, 't>> {
        let value = node.get(key)?;
        let (path, at) = (node.path_of(key), value.span().start);
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(at, &path, value.get_ref(), "a table");
            return None;
        };
        Some(Node { path, at, table })
    }

    /// The tables of a table, in the order of the file, each under a name of its own.
    fn tables<'n, 't>(&mut self, node: &Node<'n, 't>, key: &str) -> Vec<Named<'n, 't>> {
        let Some(outer) = self.table(node, key) else { return Vec::new() };
        let mut tables = Vec::new();
        for (at, name) in outer.keys() {
            let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
            if name.is_empty() || name.len() > 64 || !name.bytes().all(fits) {
                self.fault(at, &outer.path_of(name), "a name is made of a-z, 0-9, _ and -, at most 64 of them");
            }
            tables.extend(self.table(&outer, name).map(|inner| Named { name, inner: Node { at, ..inner } }));
        }
        tables
    }
}

/// A table with the name it is filed under.
struct Named<'n, 't> {
    name: &'n str,
    inner: Node<'n, 't>,
}

/// The strings of a list, with their places; what is no string is left out, and reported elsewhere.
fn silent_strings<'n>(value: Option<&'n Value<'_>>) -> Vec<(usize, &'n str)> {
    let list = value.and_then(|value| value.get_ref().as_array()).map(|list| list.iter());
    let strings = list.into_iter().flatten();
    strings.filter_map(|value| Some((value.span().start, value.get_ref().as_str()?))).collect()
}

fn event_type(name: &str, credits: Option<Credits>, lago_code: Option<String>) -> EventType {
    let credits = credits.unwrap_or(ONE_CREDIT);
    EventType { credits, lago_code: lago_code.unwrap_or_else(|| format!("{name}_call")) }
}

const ONE_CREDIT: Credits = Credits::from_micro(1_000_000);
