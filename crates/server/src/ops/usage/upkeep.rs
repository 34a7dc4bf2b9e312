//! What time brings: packs expire, ids become too old to come again.

use super::{corrections, failed};
use crate::app::App;
use crate::error::Result;
use crate::store::log::{self, DAY_MS};

/// Ids removed in one transaction.
const BATCH: i64 = 2_000;
/// Days that ids are kept beyond the window: a clock may be wrong.
const SPARE_DAYS: i64 = 2;

/// Looks once.
pub async fn once(app: &App) -> Result<()> {
    expire_packs(app).await?;
    forget_ids(app).await
}

async fn expire_packs(app: &App) -> Result<()> {
    let now_ms = app.clock.now().as_millisecond();
    for slot in app.book.slots() {
        let over = slot.lock().account.packs_expired(now_ms);
        for pack in over {
            corrections::expire(app, &slot.user, &pack).await?;
        }
    }
    Ok(())
}

async fn forget_ids(app: &App) -> Result<()> {
    let window_ms = i64::try_from(app.config.usage_window.as_millis()).map_err(failed)?;
    let oldest = (app.clock.now().as_millisecond() - window_ms).div_euclid(DAY_MS) - SPARE_DAYS;
    while app.db.write(move |tx| log::forget_ids(tx, oldest, BATCH)).await? > 0 {}
    Ok(())
}
