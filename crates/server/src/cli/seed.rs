//! `billhook bench-seed`: a database of any size without a Stripe to read it from.

use super::{Ending, configured, visit};

/// Fills the configured database.
pub(super) async fn run(subscriptions: u64, users: u64, events: u64) -> Result<(), Ending> {
    let app = visit(configured()?).await?;
    crate::ops::made_up::fill(&app, subscriptions, users).await?;
    crate::ops::made_up::use_up(&app, users, events).await?;
    Ok(())
}
