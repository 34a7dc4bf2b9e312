//! The month that ended last, as Lago has billed it, against what was delivered in it. The comparison of the open month ends with
//! the month: what Lago lost after the last one is found here, on its invoices.

use super::event::open_from;
use super::reconcile::{self, Compared, unavailable};
use super::{configured, names};
use crate::app::App;
use crate::error::Result;
use crate::gateways::lago::{Remedy, read, segment};
use crate::store::lago;

/// Subscriptions of one read of the database.
const PAGE: i64 = 200;

/// What the comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Billed {
    /// Its first millisecond, and that of the month after it.
    pub month: (i64, i64),
    pub compared: Vec<Compared>,
    /// Of so many subscriptions that got something in it Lago shows no invoice: it is still to come, or it is another Lago.
    pub unbilled: usize,
}

/// Compares everybody who got something in the month that ended last.
pub async fn run(app: &App) -> Result<Billed> {
    configured(app)?;
    let to_ms = open_from(app.clock.now().as_millisecond());
    let month = (open_from(to_ms - 1), to_ms);
    let mut billed = Billed { month, ..Billed::default() };
    let mut after = String::new();
    loop {
        let from = after.clone();
        let page = app.db.read(move |tx| lago::subscriptions_after(tx, &from, PAGE)).await?;
        let Some(last) = page.last() else { return Ok(billed) };
        after.clone_from(&last.user);
        for subscription in &page {
            for external_id in delivered_to(app, &subscription.user, month).await? {
                let periods = periods(app, &external_id, month).await?;
                billed.unbilled += usize::from(periods.is_empty());
                for period in periods {
                    let compared = Compared::nothing(&subscription.user, &external_id, subscription.delivered_ms);
                    billed.compared.push(reconcile::count(app, compared, &period).await?);
                }
            }
        }
    }
}

/// The ids of Lago's under which something of a user was delivered in a month.
async fn delivered_to(app: &App, user: &str, (from_ms, to_ms): (i64, i64)) -> Result<Vec<String>> {
    let user = user.to_owned();
    app.db
        .read(move |tx| {
            let mut delivered_to = Vec::new();
            for name in names::all(tx, &user)? {
                let sums = lago::sums(tx, &name, from_ms, to_ms)?;
                if sums.iter().any(|sum| sum.quarter_ms >= from_ms && sum.events != 0) {
                    delivered_to.push(name);
                }
            }
            Ok(delivered_to)
        })
        .await
}

/// The periods on Lago's invoices that lie in a month; most of a period does, whatever the customer's time zone.
async fn periods(app: &App, external_id: &str, (from_ms, to_ms): (i64, i64)) -> Result<Vec<read::Usage>> {
    let path = format!("/customers/{}/past_usage", segment(external_id));
    let answer = match configured(app)?.gateway.get(&path, &[("external_subscription_id", external_id)]).await {
        Ok(answer) => answer,
        Err(error) if error.remedy() == Remedy::Content => return Ok(Vec::new()),
        Err(error) => return Err(unavailable(error)),
    };
    let is_in = |usage: &read::Usage| {
        let middle = i64::midpoint(usage.from.as_millisecond(), usage.to.as_millisecond());
        (from_ms..to_ms).contains(&middle)
    };
    Ok(read::past_usage(&answer).unwrap_or_default().into_iter().filter(is_in).collect())
}
