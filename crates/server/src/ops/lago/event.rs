//! One event as Lago gets it: made once of an entry of the log, and the same on every try.

use billing::usage::Quantity;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::store::lago::{QUARTER_MS, Sum};
use crate::store::log::{DAY_MS, EntryId, Kind, Logged};

/// The member of `properties` that every metric of ours sums.
pub const FIELD: &str = "units";

/// An event on Lago's wire. All numbers are plain decimal text: Lago reads JSON numbers through a float, and does not add
/// up `1e-7`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub transaction_id: String,
    pub external_subscription_id: String,
    pub code: String,
    /// Seconds since 1970 with exactly three decimals.
    pub timestamp: String,
    pub properties: Properties,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Properties {
    /// Less than nothing where something is taken back.
    pub units: String,
}

/// What decides when an event is counted.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The first millisecond of its subscription, where there is one.
    pub began_ms: Option<i64>,
    /// When its window is opened.
    pub now_ms: i64,
}

impl Moment {
    /// Lago takes whatever comes and does not bill what lies before the subscription, or in a month whose invoice is made. So
    /// the one is counted as the first moment of the subscription, and the other, like a correction, as of now.
    pub(super) fn count(self, event_ms: i64) -> i64 {
        let from_ms = if is_open(event_ms, self.now_ms) { event_ms } else { self.now_ms };
        self.began_ms.map_or(from_ms, |began_ms| from_ms.max(began_ms))
    }
}

/// Lago makes the invoices of a month a little after its end; until then the month is open.
const CLOSING_MS: i64 = 5 * 60 * 1000;

/// Whether the month of a moment is not billed yet.
pub fn is_open(ms: i64, now_ms: i64) -> bool {
    month(ms) >= month(now_ms.saturating_sub(CLOSING_MS))
}

/// The first moment of the oldest month that is not billed yet.
pub fn open_from(now_ms: i64) -> i64 {
    let at = jiff::Timestamp::from_millisecond(now_ms.saturating_sub(CLOSING_MS)).unwrap_or(jiff::Timestamp::MIN);
    let first = jiff::tz::TimeZone::UTC.to_datetime(at).date().first_of_month();
    first.to_zoned(jiff::tz::TimeZone::UTC).map_or(now_ms, |first| first.timestamp().as_millisecond())
}

/// The UTC month, by which the plans that we set up are billed.
pub fn month(ms: i64) -> (i16, i8) {
    let at = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MIN);
    let date = jiff::tz::TimeZone::UTC.to_datetime(at);
    (date.year(), date.month())
}

/// Makes the event of an entry.
pub fn of_entry(entry: &Logged, external_id: &str, code: &str, moment: Moment) -> Event {
    counted_at(entry, external_id, code, moment.count(entry.event_ms))
}

/// The same where it is known from which moment it was counted.
pub fn counted_at(entry: &Logged, external_id: &str, code: &str, at_ms: i64) -> Event {
    Event {
        transaction_id: transaction_id(entry),
        external_subscription_id: external_id.to_owned(),
        code: code.to_owned(),
        timestamp: seconds(at_ms),
        properties: Properties { units: Quantity::from_micro(units(entry)).wire() },
    }
}

/// Millionths, with their sign.
fn units(entry: &Logged) -> i64 {
    if entry.kind == Kind::Void { entry.quantity.saturating_neg() } else { entry.quantity }
}

/// `bh1-u-00004ee1-0123…`: the kind, the UTC day and the id of the entry, which together name it for ever. Lago asks for ids
/// that are unique in the whole organisation.
pub fn transaction_id(entry: &Logged) -> String {
    let letter = match entry.kind {
        Kind::Adjust => 'a',
        Kind::Void => 'v',
        Kind::Usage | Kind::Grant | Kind::Revoke | Kind::Expire | Kind::Plan => 'u',
    };
    let id = entry.id.iter().fold(String::with_capacity(32), |text, byte| format!("{text}{byte:02x}"));
    format!("bh1-{letter}-{:08x}-{id}", entry.event_ms.div_euclid(DAY_MS))
}

/// The day and the id in a transaction id of ours; nothing where it is somebody else's.
pub fn entry_of(transaction_id: &str) -> Option<(i64, EntryId)> {
    let rest = transaction_id.strip_prefix("bh1-")?;
    let (letter, rest) = rest.split_once('-')?;
    let (day, id) = rest.split_once('-')?;
    if !matches!(letter, "u" | "a" | "v") || id.len() != 32 || !id.is_ascii() {
        return None;
    }
    let mut bytes = EntryId::default();
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&id[2 * place..2 * place + 2], 16).ok()?;
    }
    Some((i64::from_str_radix(day, 16).ok()?, bytes))
}

/// `1780586634.123`
fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000))
}

impl Event {
    /// The one line that is stored and sent.
    pub fn line(&self) -> Result<String> {
        serde_json::to_string(self).map_err(Error::internal)
    }

    pub fn read(line: &str) -> Result<Event> {
        serde_json::from_str(line).map_err(Error::internal)
    }

    /// Milliseconds since 1970.
    pub fn at_ms(&self) -> Result<i64> {
        let digits: String = self.timestamp.chars().filter(|letter| *letter != '.').collect();
        digits.parse().map_err(Error::internal)
    }

    /// The same event, counted from another moment. Only for what Lago has never stored.
    pub fn counted_from(self, moment: Moment) -> Result<Event> {
        let at_ms = moment.count(self.at_ms()?);
        Ok(self.at(at_ms))
    }

    /// The same event with this moment.
    pub(super) fn at(self, at_ms: i64) -> Event {
        Event { timestamp: seconds(at_ms), ..self }
    }

    /// What it adds to the sums of its subscription.
    pub fn sum(&self) -> Result<Sum> {
        let units = match self.properties.units.strip_prefix('-') {
            Some(taken) => Quantity::parse(taken).map(|units| units.micro().saturating_neg()),
            None => Quantity::parse(&self.properties.units).map(Quantity::micro),
        };
        Ok(Sum {
            external_id: self.external_subscription_id.clone(),
            code: self.code.clone(),
            quarter_ms: self.at_ms()?.div_euclid(QUARTER_MS) * QUARTER_MS,
            units: units.map_err(Error::internal)?,
            events: 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::log::Source;

    fn entry(kind: Kind, quantity: i64, event_ms: i64) -> Logged {
        Logged {
            position: 7,
            kind,
            user: "u".into(),
            event_type: "tts".into(),
            quantity,
            weight: 1_000_000,
            event_ms,
            received_ms: event_ms,
            id: *b"0123456789abcdef",
            transaction_id: "t".into(),
            source: Source::Own,
            previous: None,
            body: None,
        }
    }

    #[test]
    fn an_entry_is_the_same_event_every_time_and_its_numbers_are_plain_text() {
        for (kind, quantity, event_ms, began_ms, timestamp, units, letter) in [
            (Kind::Usage, 1_500_000, 1_780_586_634_100, 0, "1780586634.100", "1.5", 'u'),
            (Kind::Usage, 1, 1_780_586_634_007, 0, "1780586634.007", "0.000001", 'u'),
            (Kind::Void, 3_000_000, 1_780_586_634_100, 0, "1780586634.100", "-3", 'v'),
            (Kind::Adjust, -250_000, 1_780_586_634_100, 0, "1780586634.100", "-0.25", 'a'),
            (Kind::Usage, 0, 1_780_586_634_999, 1_780_586_635_000, "1780586635.000", "0", 'u'),
        ] {
            let entry = entry(kind, quantity, event_ms);
            let event = of_entry(&entry, "sub", "tts_call", Moment { began_ms: Some(began_ms), now_ms: event_ms });
            assert_eq!((event.timestamp.as_str(), event.properties.units.as_str()), (timestamp, units));
            assert_eq!(event.transaction_id, format!("bh1-{letter}-00005080-30313233343536373839616263646566"));
            assert_eq!(entry_of(&event.transaction_id), Some((event_ms.div_euclid(DAY_MS), entry.id)));
            assert_eq!(Event::read(&event.line().unwrap()).unwrap(), event);
            let sum = event.sum().unwrap();
            assert_eq!((sum.units, sum.quarter_ms % QUARTER_MS), (super::units(&entry), 0));
        }
    }

    #[test]
    fn what_belongs_to_a_closed_month_is_counted_in_the_open_one() {
        let ms = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        for (event, began, now, counted) in [
            ("2026-11-30T23:59:59.999Z", "2026-11-01T00:00:00Z", "2026-12-01T00:04:59Z", "2026-11-30T23:59:59.999Z"),
            ("2026-11-30T23:59:59.999Z", "2026-11-01T00:00:00Z", "2026-12-01T00:05:00Z", "2026-12-01T00:05:00Z"),
            ("2026-11-02T00:00:00Z", "2026-11-03T00:00:00Z", "2026-11-20T00:00:00Z", "2026-11-03T00:00:00Z"),
            ("2025-12-31T00:00:00Z", "2026-01-03T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"),
            ("2026-12-01T00:01:00Z", "2026-11-01T00:00:00Z", "2026-11-30T23:58:00Z", "2026-12-01T00:01:00Z"),
        ] {
            let moment = Moment { began_ms: Some(ms(began)), now_ms: ms(now) };
            assert_eq!(moment.count(ms(event)), ms(counted), "{event} at {now}");
        }
    }

    #[test]
    fn a_foreign_transaction_id_names_no_entry() {
        let good = "bh1-u-00005080-30313233343536373839616263646566";
        assert!(entry_of(good).is_some());
        for foreign in
            ["", "tx_1", "bh1-x-00005080-30313233343536373839616263646566", &good[..good.len() - 1], "bh1-u--"]
        {
            assert_eq!(entry_of(foreign), None, "{foreign}");
        }
    }
}
