//! `GET /api/v1/admin/billing/subscriptions`

use axum::extract::State;
use axum::response::Response;
use billing::money::{Currency, Money};
use billing::subscription::Status;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::{Error, Result};
use crate::http::answer;
use crate::http::extract::{Admin, Validator};
use crate::http::query::Query;
use crate::http::wire::{Amount, Time};
use crate::ops;
use crate::ops::mirror::Mirrored;
use crate::ops::page::Ask;
use crate::store::subscriptions::{Filter, Subscription};

/// Stripe's statuses, and `all`.
const STATUSES: [&str; 9] =
    ["active", "all", "canceled", "incomplete", "incomplete_expired", "past_due", "paused", "trialing", "unpaid"];

/// A page of subscriptions.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Subscriptions)]
pub struct View {
    subscriptions: Vec<Row>,
    /// All that match, not only this page.
    total: u64,
    has_more: bool,
    /// Pass it as `cursor` for the next page, with the same filter.
    next_cursor: Option<String>,
}

/// A subscription at Stripe.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SubscriptionRow)]
pub struct Row {
    #[schema(example = "sub_1234")]
    id: String,
    #[schema(example = "cus_5678")]
    customer: Option<String>,
    /// A tier of the catalogue, or `unknown`.
    #[schema(example = "professional")]
    tier: String,
    #[schema(example = "active")]
    status: String,
    /// The whole subscription for one interval, discounts not taken off; null when a price is not known.
    amount: Option<Amount>,
    #[schema(example = "usd")]
    currency: String,
    #[schema(example = "month")]
    interval: String,
    /// How many intervals one period has.
    interval_count: u32,
    current_period_end: Option<Time>,
    cancel_at_period_end: bool,
}

/// Subscriptions, newest first; those that have not ended unless a status is asked for
#[utoipa::path(get, path = "/api/v1/admin/billing/subscriptions", tag = "admin", operation_id = "subscriptions",
    params(
        ("status" = Option<String>, Query, description = "One of Stripe's statuses, or `all`"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 1000, description = "How many at most; default 100"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before, with the same status")
    ),
    responses((status = 200, body = View)), extensions(("x-role" = json!("admin"))), security(("session" = [])))]
pub async fn list(State(app): State<App>, me: Admin, query: Query, held: Validator) -> Result<Response> {
    let ((status, limit), cursor) =
        Query::both(Query::both(query.one("status").and_then(checked), query.limit(100, 1000)), query.one("cursor"))?;
    let scope = format!("{} subscriptions {}", me.user().id, status.unwrap_or("running"));
    let page = ops::subscriptions::list(&app, filter(status), Ask { limit, cursor, scope }).await?;
    let view = View {
        has_more: page.value.next_cursor.is_some(),
        total: page.value.total,
        next_cursor: page.value.next_cursor,
        subscriptions: page.value.rows.iter().map(Row::of).collect::<Result<_>>()?,
    };
    answer::respond(&app, &answer::render(Mirrored { value: view, as_of: page.as_of })?, &held)
}

fn checked(status: Option<&str>) -> Result<Option<&str>> {
    match status {
        Some(text) if !STATUSES.contains(&text) => {
            Err(Error::invalid("?status", format!("expected one of {}", STATUSES.join(", "))))
        }
        known => Ok(known),
    }
}

fn filter(status: Option<&str>) -> Filter {
    match status {
        None => Filter::Running,
        Some("all") => Filter::All,
        Some(status) => Filter::Status(Status::parse(status)),
    }
}

impl Row {
    fn of(row: &Subscription) -> Result<Self> {
        let currency = Currency::parse(&row.currency).map_err(Error::internal)?;
        Ok(Self {
            id: row.id.clone(),
            customer: row.customer.clone(),
            tier: row.tier.clone(),
            status: row.status.as_str().to_owned(),
            amount: row.amount_minor.map(|minor| Amount(Money::new(minor, currency))),
            currency: row.currency.clone(),
            interval: row.interval.clone().unwrap_or_else(|| "month".to_owned()),
            interval_count: row.interval_count.unwrap_or(1),
            current_period_end: row.period.as_ref().map(|period| Time(period.end)),
            cancel_at_period_end: row.cancel_at_period_end,
        })
    }
}
