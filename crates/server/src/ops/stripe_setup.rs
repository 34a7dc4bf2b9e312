//! The endpoint at Stripe to which our webhooks are sent: found or made, in the version that we read, with the events that
//! concern us.

use serde_json::Value;

use super::mirror;
use crate::app::App;
use crate::error::{Error, Result};
use crate::gateways::stripe::{Stripe, segment};

/// Where webhooks are taken, under the public URL.
pub const PATH: &str = "/api/v1/webhooks/stripe";
const ENDPOINTS: &str = "/v1/webhook_endpoints";

/// What Stripe is to tell us: every change of an object that is mirrored.
pub const EVENTS: &[&str] = &[
    "charge.captured",
    "charge.dispute.closed",
    "charge.dispute.created",
    "charge.dispute.funds_reinstated",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.updated",
    "charge.expired",
    "charge.failed",
    "charge.pending",
    "charge.refund.updated",
    "charge.refunded",
    "charge.succeeded",
    "charge.updated",
    "coupon.created",
    "coupon.deleted",
    "coupon.updated",
    "customer.created",
    "customer.deleted",
    "customer.discount.created",
    "customer.discount.deleted",
    "customer.discount.updated",
    "customer.subscription.created",
    "customer.subscription.deleted",
    "customer.subscription.paused",
    "customer.subscription.pending_update_applied",
    "customer.subscription.pending_update_expired",
    "customer.subscription.resumed",
    "customer.subscription.trial_will_end",
    "customer.subscription.updated",
    "customer.updated",
    "invoice.created",
    "invoice.deleted",
    "invoice.finalization_failed",
    "invoice.finalized",
    "invoice.marked_uncollectible",
    "invoice.overdue",
    "invoice.paid",
    "invoice.payment_action_required",
    "invoice.payment_failed",
    "invoice.payment_succeeded",
    "invoice.sent",
    "invoice.updated",
    "invoice.voided",
    "payment_method.attached",
    "payment_method.automatically_updated",
    "payment_method.detached",
    "payment_method.updated",
    "plan.created",
    "plan.deleted",
    "plan.updated",
    "price.created",
    "price.deleted",
    "price.updated",
    "product.created",
    "product.deleted",
    "product.updated",
    "refund.created",
    "refund.failed",
    "refund.updated",
];

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Where webhooks arrive; nothing: under the public URL.
    pub url: Option<String>,
    /// Make another endpoint beside the one that is there, with another secret.
    pub rotate: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub id: String,
    pub url: String,
    /// The version its events are written in; nothing: the account's own.
    pub version: Option<String>,
    pub outcome: Outcome,
    /// Other endpoints for the same URL: an old secret signs for each of them.
    pub others: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Made now. Stripe shows the secret this one time.
    Created { secret: String },
    /// There already, and right.
    Found,
    /// There already; the events that it sends, or that it sends at all, were put right.
    Updated,
    /// There already, in a version that cannot be changed and is not ours.
    OtherVersion,
}

/// Finds the endpoint, puts it right or makes it.
///
/// # Errors
/// When there is no Stripe, the URL is none that Stripe can reach, or Stripe refuses.
pub async fn run(app: &App, ask: Ask) -> Result<Endpoint> {
    let (Some(stripe), Some(config)) = (&app.stripe, &app.config.stripe) else {
        return Err(Error::Conflict {
            code: "stripe.not_configured",
            detail: "STRIPE_SECRET_KEY is not set".to_owned(),
        });
    };
    let url = ask.url.unwrap_or_else(|| format!("{}{PATH}", app.config.public_url.trim_end_matches('/')));
    if !url.starts_with("https://") && !url.starts_with("http://") {
        return Err(Error::invalid("--url", "expected http://… or https://…"));
    }
    let there = endpoints(stripe, &url).await?;
    let ids: Vec<String> = there.iter().filter_map(id).collect();
    let ours = there.iter().find(|endpoint| endpoint["api_version"] == config.version.as_str());
    let (endpoint, outcome) = match (ours.or(there.first()), ask.rotate) {
        (Some(endpoint), false) if endpoint["api_version"] != config.version.as_str() => {
            (endpoint.clone(), Outcome::OtherVersion)
        }
        (Some(endpoint), false) if is_right(endpoint) => (endpoint.clone(), Outcome::Found),
        (Some(endpoint), false) => (put_right(app, stripe, endpoint).await?, Outcome::Updated),
        (None, _) | (Some(_), true) => create(app, stripe, &url, &config.version).await?,
    };
    let own = id(&endpoint).ok_or_else(|| Error::internal("an endpoint without an id"))?;
    Ok(Endpoint {
        others: ids.into_iter().filter(|other| *other != own).collect(),
        id: own,
        url,
        version: endpoint["api_version"].as_str().map(str::to_owned),
        outcome,
    })
}

fn id(endpoint: &Value) -> Option<String> {
    endpoint["id"].as_str().map(str::to_owned)
}

async fn endpoints(stripe: &Stripe, url: &str) -> Result<Vec<Value>> {
    let mut pages = stripe.pages(ENDPOINTS, &[], None);
    let mut found = Vec::new();
    while let Some(page) = pages.next().await.map_err(mirror::unavailable)? {
        let parsed = page.objects.iter().filter_map(|object| serde_json::from_str::<Value>(object.get()).ok());
        found.extend(parsed.filter(|endpoint| endpoint["url"] == url));
    }
    Ok(found)
}

fn is_right(endpoint: &Value) -> bool {
    let events = endpoint["enabled_events"].as_array();
    let sends = |event: &&str| events.is_some_and(|events| events.iter().any(|sent| sent == *event || sent == "*"));
    endpoint["status"] != "disabled" && EVENTS.iter().all(sends)
}

async fn put_right(app: &App, stripe: &Stripe, endpoint: &Value) -> Result<Value> {
    let path = format!("{ENDPOINTS}/{}", segment(endpoint["id"].as_str().unwrap_or_default()));
    let mut form = vec![("disabled", "false")];
    form.extend(EVENTS.iter().map(|event| ("enabled_events[]", *event)));
    write(app, stripe, &path, &form).await
}

async fn create(app: &App, stripe: &Stripe, url: &str, version: &str) -> Result<(Value, Outcome)> {
    let mut form = vec![("url", url), ("api_version", version), ("description", "Billhook")];
    form.extend(EVENTS.iter().map(|event| ("enabled_events[]", *event)));
    let endpoint = write(app, stripe, ENDPOINTS, &form).await?;
    let secret = endpoint["secret"].as_str().map(str::to_owned);
    let secret = secret.ok_or_else(|| Error::internal("Stripe made an endpoint and showed no secret"))?;
    Ok((endpoint, Outcome::Created { secret }))
}

async fn write(app: &App, stripe: &Stripe, path: &str, form: &[(&str, &str)]) -> Result<Value> {
    // One run is one wish: the client repeats it under this key, and another run wishes anew.
    let key = billing::id::new("setup_", app.clock.now(), app.chance.bytes()?);
    let answer = stripe.post(path, form, &key).await.map_err(mirror::unavailable)?;
    serde_json::from_str(answer.body.get()).map_err(Error::internal)
}
