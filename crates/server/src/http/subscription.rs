//! `GET /api/v1/billing/subscription`

use axum::extract::State;
use axum::response::Response;
use billing::money::{Currency, Money};
use serde::Serialize;
use utoipa::ToSchema;

use super::answer;
use super::extract::{Customer, Validator};
use super::wire::{Amount, Time};
use crate::answers::Page;
use crate::app::App;
use crate::error::{Error, Result};
use crate::ops;
use crate::ops::mirror::Mirrored;
use crate::store::subscriptions::Subscription;
use crate::store::users::User;

/// The caller's subscription.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Subscription)]
pub struct View {
    /// A tier of the catalogue, or `unknown`.
    #[schema(example = "professional")]
    tier: String,
    /// Stripe's status, or `none`.
    #[schema(example = "active")]
    status: String,
    current_period_start: Option<Time>,
    current_period_end: Option<Time>,
    cancel_at_period_end: bool,
    /// The whole subscription for one interval, discounts not taken off; null when a price is not known.
    amount: Option<Amount>,
    #[schema(example = "month")]
    interval: String,
    /// How many intervals one period has.
    interval_count: u32,
    #[schema(example = "usd")]
    currency: String,
}

/// The caller's best current subscription
///
/// Active comes before trialing, past_due, unpaid, paused and incomplete. Without one the status is `none`.
#[utoipa::path(get, path = "/api/v1/billing/subscription", tag = "billing", operation_id = "subscription",
    responses((status = 200, body = View)), extensions(("x-role" = json!("customer"))), security(("session" = [])))]
pub async fn show(State(app): State<App>, me: Customer, held: Validator) -> Result<Response> {
    answer::for_customer(&app, &me, Page::Subscription, &held, async || {
        let current = ops::subscriptions::current(&app, me.user()).await?;
        let view = match current.value {
            Some(subscription) => View::of(&subscription)?,
            None => View::none(me.user()),
        };
        answer::render(Mirrored { value: view, as_of: current.as_of })
    })
    .await
}

impl View {
    fn of(subscription: &Subscription) -> Result<Self> {
        let currency = Currency::parse(&subscription.currency).map_err(Error::internal)?;
        Ok(Self {
            tier: subscription.tier.clone(),
            status: subscription.status.as_str().to_owned(),
            current_period_start: subscription.period.as_ref().map(|period| Time(period.start)),
            current_period_end: subscription.period.as_ref().map(|period| Time(period.end)),
            cancel_at_period_end: subscription.cancel_at_period_end,
            amount: subscription.amount_minor.map(|minor| Amount(Money::new(minor, currency))),
            interval: subscription.interval.clone().unwrap_or_else(|| "month".to_owned()),
            interval_count: subscription.interval_count.unwrap_or(1),
            currency: subscription.currency.clone(),
        })
    }

    fn none(user: &User) -> Self {
        Self {
            tier: user.tier.clone(),
            status: "none".to_owned(),
            current_period_start: None,
            current_period_end: None,
            cancel_at_period_end: false,
            amount: Some(Amount(Money::zero(Currency::USD))),
            interval: "month".to_owned(),
            interval_count: 1,
            currency: "usd".to_owned(),
        }
    }
}
