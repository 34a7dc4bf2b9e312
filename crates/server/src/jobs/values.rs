//! Values that change by themselves: a coupon runs out, with or without Stripe.

use std::time::Duration;

use tokio::sync::watch;

use crate::app::App;
use crate::ops::derivation;

const PAUSE: Duration = Duration::from_mins(1);

/// Looks once a minute, until it is told to stop.
pub async fn run(app: App, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = stop.changed() => return,
        }
        if let Err(error) = derivation::follow_time(&app).await {
            tracing::error!(%error, "subscriptions whose coupons ran out were not valued anew");
        }
    }
}
