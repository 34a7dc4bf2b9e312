//! What time brings: packs expire, ids become too old to come again.

use billing::account::Account;

use super::packs;
use crate::app::App;
use crate::error::{Error, Result};
use crate::store::accounts;
use crate::store::log::{self, DAY_MS};

/// Ids removed in one transaction.
const BATCH: i64 = 2_000;
/// Days that ids are kept beyond the window: a clock may be wrong. So many days of the log may be days of such a clock.
const SPARE_DAYS: i64 = 2;

/// How many written accounts are looked at each time: a million of them have had their turn after a few hours.
const ACCOUNTS: i64 = 5_000;

/// What is seen to again and again.
#[derive(Debug, Default)]
pub struct Upkeep {
    /// The last user whose written account was looked at.
    after: String,
}

impl Upkeep {
    /// Looks once.
    pub async fn once(&mut self, app: &App) -> Result<()> {
        let now_ms = passed_ms(app).await?;
        for slot in app.book.slots() {
            let over = slot.lock().account.packs_expired(now_ms);
            expire(app, &slot.user, over).await?;
        }
        self.expire_written(app, now_ms).await?;
        forget_ids(app).await
    }

    /// The same for some of the accounts that are not in memory. What is left of an expired pack counts for nothing meanwhile: only
    /// the entry that says so comes later.
    async fn expire_written(&mut self, app: &App, now_ms: i64) -> Result<()> {
        let after = self.after.clone();
        let page = app.db.read(move |tx| accounts::page(tx, &after, ACCOUNTS)).await?;
        self.after = page.last().map(|last| last.user.clone()).unwrap_or_default();
        for kept in page.iter().filter(|kept| app.book.get(&kept.user).is_none()) {
            // One that cannot be read is counted anew from the log when somebody needs it.
            let over = Account::decode(&kept.state).map(|account| account.packs_expired(now_ms)).unwrap_or_default();
            expire(app, &kept.user, over).await?;
        }
        Ok(())
    }
}

/// What is wrong with one pack, or with one account, is its own trouble: the next pass tries again, and the others go on. What is
/// wrong with the database is everybody's.
async fn expire(app: &App, user: &str, packs: Vec<String>) -> Result<()> {
    for pack in packs {
        match packs::expire(app, user, &pack).await {
            Ok(_) => {}
            Err(outage @ Error::Upstream { .. }) => return Err(outage),
            Err(error) => tracing::error!(user.id = user, pack, %error, "a pack whose time is over could not expire"),
        }
    }
    Ok(())
}

/// The time that has passed for certain, for what cannot be taken back. A clock that was ahead for a while must not end anything for
/// ever: the log has events of a few days before it, and on a day without any nothing is lost by waiting.
async fn passed_ms(app: &App) -> Result<i64> {
    let shown = app.db.read(|tx| log::day_back(tx, SPARE_DAYS + 1)).await?;
    let shown_ms = shown.map_or(i64::MIN, |day| (day + SPARE_DAYS + 1) * DAY_MS);
    Ok(app.clock.now().as_millisecond().min(shown_ms))
}

/// Forgets the ids of days that are over by the clock and by the log: as many later days as the window is long have events. So
/// those of yesterday and today are always kept, whatever a clock has said in between; a quiet log keeps few ids of many days.
async fn forget_ids(app: &App) -> Result<()> {
    let window_ms = i64::try_from(app.config.usage_window.as_millis()).map_err(Error::internal)?;
    let by_clock = (app.clock.now().as_millisecond() - window_ms).div_euclid(DAY_MS) - SPARE_DAYS;
    let days = (window_ms + DAY_MS - 1).div_euclid(DAY_MS) + SPARE_DAYS + 1;
    let Some(by_log) = app.db.read(move |tx| log::day_back(tx, days)).await? else { return Ok(()) };
    let oldest = by_clock.min(by_log);
    while app.db.write(move |tx| log::forget_ids(tx, oldest, BATCH)).await? > 0 {}
    Ok(())
}
