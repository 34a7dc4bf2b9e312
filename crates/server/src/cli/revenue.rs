//! `billhook revenue …`

use billing::money::Money;
use billing::movement::Movement;
use billing::time;
use clap::Subcommand;
use serde_json::{Value, json};

use super::{Ending, configured, look, out};
use crate::error::Error;
use crate::ops::revenue::history::{self, History};
use crate::store::revenue::Point;

#[derive(Debug, Subcommand)]
pub(super) enum RevenueRole {
    /// Show how a customer's monthly revenue came about: each movement, and each point that it follows from
    #[command(after_help = "Example: billhook revenue show cus_… --json")]
    Show {
        /// The customer's id at Stripe
        customer: String,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn revenue(role: RevenueRole) -> Result<(), Ending> {
    let RevenueRole::Show { customer, json } = role;
    let app = look(configured()?).await?;
    let history = history::of_customer(&app, &customer).await.map_err(|error| match error {
        Error::NotFound => Ending::Refused("nothing was ever said of a subscription of this customer".to_owned()),
        other => other.into(),
    })?;
    out::say(&if json { as_json(&customer, &history).to_string() } else { text(&history) });
    Ok(())
}

fn text(history: &History) -> String {
    let about = |exact: bool| if exact { "" } else { "  about" };
    let movements = history.movements.iter().map(|movement| {
        let (before, after) = (movement.before.wire(), movement.after.wire());
        let (at, kind, currency) = (time::wire(movement.at), movement.kind.as_str(), movement.after.currency());
        format!("{at}  {kind:12}  {before} -> {after} {}{}", currency.code(), about(movement.exact))
    });
    let points = history.points.iter().map(|point| {
        let (at, status, cause) = (time::wire(point.since.at), status(point), &point.since.cause);
        let (minor, currency, exact) = (point.monthly_minor, &point.currency, about(point.since.exact));
        format!("  {at}  {}  {}  {status}  {minor} {currency} minor  {cause}{exact}", point.subscription, point.tier)
    });
    movements.chain(points).collect::<Vec<_>>().join("\n")
}

fn status(point: &Point) -> &str {
    point.status.as_ref().map_or("gone", |status| status.as_str())
}

fn as_json(customer: &str, history: &History) -> Value {
    let movements: Vec<Value> = history.movements.iter().map(movement).collect();
    let points = history.points.iter().map(|point| {
        json!({
            "since": time::wire(point.since.at), "subscription": point.subscription, "tier": point.tier,
            "status": status(point), "currency": point.currency, "monthly_minor": point.monthly_minor,
            "unpriced": point.unpriced, "cause": point.since.cause, "exact": point.since.exact,
        })
    });
    json!({ "customer": customer, "movements": movements, "points": points.collect::<Vec<_>>() })
}

fn movement(movement: &Movement) -> Value {
    let minor = |money: Money| money.minor();
    json!({
        "at": time::wire(movement.at), "kind": movement.kind.as_str(), "currency": movement.after.currency().code(),
        "before_minor": minor(movement.before), "after_minor": minor(movement.after), "exact": movement.exact,
    })
}
