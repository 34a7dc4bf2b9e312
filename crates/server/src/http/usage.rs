//! `GET /api/v1/billing/usage`

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use billing::usage::Quantity;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::answer;
use super::extract::{Customer, Validator};
use super::query::Query;
use super::wire::{Amount, Number, Time};
use crate::answers::Page;
use crate::app::App;
use crate::error::{Error, Result};
use crate::ops;
use crate::ops::mirror::Mirrored;
use crate::ops::usage::Overview;

const POSITION: HeaderName = HeaderName::from_static("billing-position");
/// How long a reader waits for what was written before.
const PATIENCE: Duration = Duration::from_millis(250);

/// What the caller has used, and what it costs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Usage)]
pub struct View {
    usage: Sums,
    credits: Credits,
    /// The same tier as in `credits`.
    #[schema(example = "professional")]
    tier: String,
    /// The credit period that `month` counts.
    period_start: Time,
    period_end: Time,
}

/// Quantities by event type.
#[derive(Debug, Serialize, ToSchema)]
pub struct Sums {
    /// The day in the operator's time zone.
    #[schema(value_type = BTreeMap<String, Number>)]
    today: ByType,
    /// The credit period: the month of the subscription, or without one the days of a trial, or else the calendar's month.
    #[schema(value_type = BTreeMap<String, Number>)]
    month: ByType,
}

/// The four types that every catalogue has come first.
const FIRST: [&str; 4] = ["inference", "embedding", "tts", "stt"];

/// Quantities by event type.
#[derive(Debug)]
struct ByType(BTreeMap<String, Quantity>);

impl Serialize for ByType {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let first = FIRST.iter().filter_map(|kind| self.0.get_key_value(*kind));
        let others = self.0.iter().filter(|(kind, _)| !FIRST.contains(&kind.as_str()));
        serializer.collect_map(first.chain(others).map(|(kind, sum)| (kind, Number::from(*sum))))
    }
}

/// Credits of the period.
#[derive(Debug, Serialize, ToSchema)]
pub struct Credits {
    #[schema(example = "professional")]
    tier: String,
    #[serde(rename = "included_credits")]
    included: Number,
    used: Number,
    /// Never below 0.
    remaining: Number,
    overage: Number,
    overage_cost: Amount,
    price_per_1k: Amount,
}

/// What the caller has used today and in the credit period, and what it costs
#[utoipa::path(get, path = "/api/v1/billing/usage", tag = "billing", operation_id = "usage",
    params(("at_least" = Option<i64>, Query, minimum = 1,
        description = "Wait up to 250 ms until this position of the log is counted. Where it is not by then, `Billing-Position` says which is.")),
    responses((status = 200, body = View)), extensions(("x-role" = json!("customer"))), security(("session" = [])))]
pub async fn show(State(app): State<App>, me: Customer, query: Query, held: Validator) -> Result<Response> {
    let Some(position) = position(&query)? else { return shown(&app, &me, &held).await };
    let is_counted = app.book.wait_for(position, PATIENCE).await;
    let counted = if is_counted { None } else { Some(app.book.applied()) };
    let mut response = shown(&app, &me, &held).await?;
    if let Some(counted) = counted {
        response.headers_mut().insert(POSITION, HeaderValue::from(counted));
    }
    Ok(response)
}

/// The position that the caller wants to see counted.
fn position(query: &Query) -> Result<Option<i64>> {
    let Some(text) = query.one("at_least")? else { return Ok(None) };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(position @ 1..) if digits => Ok(Some(position)),
        _ => Err(Error::invalid("?at_least", "expected a position of the log, a whole number from 1")),
    }
}

async fn shown(app: &App, me: &Customer, held: &Validator) -> Result<Response> {
    answer::for_customer(app, me, Page::Usage, held, async || {
        let overview = ops::usage::overview(app, me.user()).await?;
        let until = overview.value.until_ms.div_euclid(1_000);
        answer::render_until(Mirrored { value: View::of(overview.value), as_of: overview.as_of }, until)
    })
    .await
}

impl View {
    fn of(overview: Overview) -> Self {
        let balance = overview.balance;
        Self {
            usage: Sums { today: ByType(overview.today), month: ByType(overview.month) },
            credits: Credits {
                tier: overview.tier.clone(),
                included: balance.included.into(),
                used: balance.used.into(),
                remaining: balance.remaining.into(),
                overage: balance.overage.into(),
                overage_cost: Amount(balance.overage_cost),
                price_per_1k: Amount(balance.price_per_1k),
            },
            tier: overview.tier,
            period_start: Time(overview.period.start),
            period_end: Time(overview.period.end),
        }
    }
}
