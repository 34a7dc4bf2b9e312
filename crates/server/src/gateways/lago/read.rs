//! What Lago's objects say, read tolerantly: only what is needed, and nothing fails because of a member beside it.

use jiff::Timestamp;
use serde_json::Value;

/// A subscription as far as shipping cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// When it began. Lago shows whole seconds of an instant that it knows more exactly; see [`Began`].
    pub began: Option<Began>,
    /// Its plan, or the plan that follows at the end of the period.
    pub plan: Option<String>,
    /// Whose it is.
    pub customer: Option<String>,
}

/// An instant as Lago shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Began {
    pub at: Timestamp,
    /// Fractions of the second were shown as well.
    pub exact: bool,
}

/// A page of the list of subscriptions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscriptions {
    pub rows: Vec<Listed>,
    /// The number of the next page; nothing on the last one.
    pub next: Option<u64>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub external_id: String,
    pub plan: Option<String>,
}

/// `{"subscriptions":[…],"meta":{…}}`; one without an id is passed over.
pub fn subscriptions(answer: &Value) -> Subscriptions {
    let listed = |body: &Value| {
        let external_id = body["external_id"].as_str()?.to_owned();
        Some(Listed { external_id, plan: body["plan_code"].as_str().map(str::to_owned) })
    };
    let rows = answer["subscriptions"].as_array().into_iter().flatten().filter_map(listed).collect();
    Subscriptions { rows, next: answer["meta"]["next_page"].as_u64() }
}

/// `{"subscription":{…}}`
pub fn subscription(answer: &Value) -> Subscription {
    let body = &answer["subscription"];
    let began =
        body["started_at"].as_str().and_then(|text| Some(Began { at: text.parse().ok()?, exact: text.contains('.') }));
    let plan = ["next_plan_code", "plan_code"].iter().find_map(|member| body[member].as_str().map(str::to_owned));
    let customer = body["external_customer_id"].as_str().map(str::to_owned);
    Subscription { began, plan, customer }
}

/// An event as Lago has stored it; what it does not say is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// From when it is counted.
    pub at: Option<Timestamp>,
    /// When it came.
    pub created: Option<Timestamp>,
}

/// `{"event":{…}}`
pub fn event(answer: &Value) -> Event {
    let instant = |member: &str| answer["event"][member].as_str().and_then(|text| text.parse().ok());
    Event { at: instant("timestamp"), created: instant("created_at") }
}

/// What Lago has counted in the current period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    pub from: Timestamp,
    /// The last second of the period.
    pub to: Timestamp,
    pub charges: Vec<Charge>,
}

/// One metric of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    pub code: String,
    /// Millionths.
    pub units: i128,
    pub events: u64,
}

/// `{"customer_usage":{…}}`; nothing where the period or a number cannot be read.
pub fn usage(answer: &Value) -> Option<Usage> {
    period(&answer["customer_usage"])
}

/// `{"usage_periods":[…]}`, the periods that are billed; the same.
pub fn past_usage(answer: &Value) -> Option<Vec<Usage>> {
    answer["usage_periods"].as_array()?.iter().map(period).collect()
}

fn period(body: &Value) -> Option<Usage> {
    let instant = |member: &str| body[member].as_str()?.parse::<Timestamp>().ok();
    let charges = body["charges_usage"].as_array()?.iter().map(charge).collect::<Option<Vec<_>>>()?;
    Some(Usage { from: instant("from_datetime")?, to: instant("to_datetime")?, charges })
}

fn charge(charge: &Value) -> Option<Charge> {
    Some(Charge {
        code: charge["billable_metric"]["code"].as_str()?.to_owned(),
        units: millionths(charge["units"].as_str()?)?,
        events: charge["events_count"].as_u64()?,
    })
}

/// Lago's decimal text (`4.0`, `-0.5`) as millionths; what is finer than that we never sent.
fn millionths(text: &str) -> Option<i128> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let (fraction, rest) = fraction.split_at_checked(6).unwrap_or((fraction, ""));
    let numeric = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !numeric(whole) || !numeric(fraction) || !rest.bytes().all(|byte| byte == b'0') {
        return None;
    }
    let micro: i128 = format!("{whole}{fraction:0<6}").parse().ok()?;
    Some(sign * micro)
}

/// A metric that must be what we think it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    pub id: String,
    pub aggregation: String,
    pub field: String,
}

/// `{"billable_metric":{…}}`
pub fn metric(answer: &Value) -> Option<Metric> {
    let body = &answer["billable_metric"];
    let text = |member: &str| body[member].as_str().map(str::to_owned);
    Some(Metric {
        id: text("lago_id")?,
        aggregation: text("aggregation_type").unwrap_or_default(),
        field: text("field_name").unwrap_or_default(),
    })
}

/// The public key of `{"webhook":{"public_key":…}}`, still in base64.
pub fn public_key(answer: &Value) -> Option<String> {
    let nested = answer["webhook"]["public_key"].as_str();
    nested.or(answer["public_key"].as_str()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_exactly_or_not_at_all() {
        for (text, micro) in [
            ("4.0", Some(4_000_000)),
            ("-0.5", Some(-500_000)),
            ("12", Some(12_000_000)),
            ("0.0000010", Some(1)),
            ("0.0000001", None),
            ("1e3", None),
            ("", None),
            ("99999999999999.999999", Some(99_999_999_999_999_999_999)),
        ] {
            assert_eq!(millionths(text), micro, "{text}");
        }
    }
}
