//! `GET /api/v1/admin/billing/stats`

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use billing::money::Money;
use billing::revenue::TierLine;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::app::App;
use crate::error::Result;
use crate::http::answer;
use crate::http::extract::{Admin, Validator};
use crate::http::wire::{Amount, Time};
use crate::ops;
use crate::ops::mirror::Mirrored;
use crate::ops::revenue::Overview;

/// Revenue and subscriptions as far as the mirror knows.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Stats)]
pub struct View {
    total_customers: u64,
    /// Active, trialing and past due, in any currency.
    active_subscriptions: u64,
    /// Those that are trialing, or of the tier trial.
    trial_subscriptions: u64,
    /// Those that are past due.
    past_due_subscriptions: u64,
    /// Subscriptions whose price is not known; they add nothing to the money. `billhook doctor` names them.
    unpriced_subscriptions: u64,
    /// MRR in the currency of the catalogue: the exact sum of the tiers.
    monthly_revenue: Amount,
    #[schema(example = "usd")]
    currency: String,
    #[schema(value_type = BTreeMap<String, Tier>)]
    tier_breakdown: Tiers,
    /// Other currencies, each on its own; never added up.
    by_currency: BTreeMap<String, Currency>,
    /// The mirror is at least as new as this; null without Stripe.
    as_of: Option<Time>,
}

/// One tier.
#[derive(Debug, Serialize, ToSchema)]
pub struct Tier {
    count: u64,
    revenue: Amount,
}

/// One further currency.
#[derive(Debug, Serialize, ToSchema)]
pub struct Currency {
    monthly_revenue: Amount,
    #[schema(value_type = BTreeMap<String, Tier>)]
    tier_breakdown: Tiers,
}

/// Tiers by name, in the order of the catalogue.
#[derive(Debug)]
struct Tiers(Vec<TierLine>);

impl Serialize for Tiers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for line in &self.0 {
            map.serialize_entry(&line.tier, &Tier { count: line.count, revenue: Amount(line.revenue) })?;
        }
        map.end()
    }
}

/// Monthly recurring revenue and subscriptions by tier
///
/// A subscription counts with its licensed items × quantity, running coupons taken off, normalised to a month and rounded
/// once. Trialing, paused and metered count nothing.
#[utoipa::path(get, path = "/api/v1/admin/billing/stats", tag = "admin", operation_id = "stats",
    responses((status = 200, body = View)), extensions(("x-role" = json!("admin"))), security(("session" = [])))]
pub async fn show(State(app): State<App>, _: Admin, held: Validator) -> Result<Response> {
    let slot = app.answers.stats();
    if let Some(kept) = slot.get(app.clock.now()) {
        return answer::respond(&app, &kept, &held);
    }
    let overview = ops::revenue::overview(&app).await?;
    let view = View::of(overview.value, overview.as_of.map(Time));
    let fresh = Arc::new(answer::render(Mirrored { value: view, as_of: overview.as_of })?);
    if app.db.notices_other_writers() {
        slot.keep(&fresh);
    }
    answer::respond(&app, &fresh, &held)
}

impl View {
    fn of(overview: Overview, as_of: Option<Time>) -> Self {
        let stats = overview.stats;
        let monthly: Money = stats.monthly;
        let by_currency = stats.by_currency.into_iter().map(|(currency, stats)| {
            let view = Currency { monthly_revenue: Amount(stats.monthly), tier_breakdown: Tiers(stats.tiers) };
            (currency.code().to_owned(), view)
        });
        Self {
            total_customers: overview.customers,
            active_subscriptions: stats.active,
            trial_subscriptions: stats.trial,
            past_due_subscriptions: stats.past_due,
            unpriced_subscriptions: stats.unpriced,
            monthly_revenue: Amount(monthly),
            currency: monthly.currency().code().to_owned(),
            tier_breakdown: Tiers(stats.tiers),
            by_currency: by_currency.collect(),
            as_of,
        }
    }
}
