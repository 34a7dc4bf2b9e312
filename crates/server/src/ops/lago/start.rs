//! From when on usage goes to Lago: from the first of the month in which there was a Lago first, unless somebody says another
//! day. What was used before was billed elsewhere, or is not to be; Lago would count all of it in the running month.

use jiff::Timestamp;

use super::configured;
use super::event::open_from;
use crate::app::App;
use crate::error::{Error, Result};
use crate::store::{Tx, facts, lago};

/// What an older version has begun was begun with everything.
const EVERYTHING: i64 = i64::MIN;

/// The first millisecond that is for Lago.
pub(super) fn from_ms(tx: &mut Tx<'_>) -> Result<i64> {
    let said = facts::get(tx, facts::LAGO_FROM)?;
    said.map_or(Ok(EVERYTHING), |said| said.parse().map_err(Error::internal))
}

/// The same for people; nothing where it is everything, or not decided yet.
pub(super) fn shown(tx: &mut Tx<'_>) -> Result<Option<Timestamp>> {
    Ok(Timestamp::from_millisecond(from_ms(tx)?).ok())
}

/// Decides it once, before anything is sent, and whether or not Lago can be asked.
pub(super) async fn begin(app: &App) -> Result<()> {
    let at = app.config.lago.as_ref().map(|lago| lago.base.clone()).unwrap_or_default();
    let (from, known) = app.db.read(|tx| facts::both(tx, facts::LAGO_FROM, facts::LAGO_AT)).await?;
    if known.as_deref() != Some(&at) {
        app.db.write(move |tx| moved_to(tx, &at)).await?;
    }
    if from.is_some() {
        return Ok(());
    }
    let now_ms = app.clock.now().as_millisecond();
    let from = app
        .db
        .write(move |tx| {
            let from_ms = if lago::cursor(tx)?.position > 0 { EVERYTHING } else { open_from(now_ms) };
            facts::get_or_set(tx, facts::LAGO_FROM, &from_ms.to_string())?;
            shown(tx)
        })
        .await?;
    if let Some(from) = from {
        tracing::info!(%from, "Lago gets what was used from here on, and nothing from before");
    }
    Ok(())
}

/// Another address may be another Lago: whoever is sent something next is looked up there first.
fn moved_to(tx: &mut Tx<'_>, at: &str) -> Result<()> {
    if facts::get(tx, facts::LAGO_AT)?.is_some_and(|known| known != at) {
        lago::doubt_subscriptions(tx, "LAGO_API_URL is another one than before")?;
    }
    facts::set(tx, facts::LAGO_AT, at)
}

/// What is decided, or would be now.
pub async fn foreseen(app: &App) -> Result<Option<Timestamp>> {
    let now_ms = app.clock.now().as_millisecond();
    app.db
        .read(move |tx| {
            let decided = facts::get(tx, facts::LAGO_FROM)?.is_some() || lago::cursor(tx)?.position > 0;
            if decided { shown(tx) } else { Ok(Timestamp::from_millisecond(open_from(now_ms)).ok()) }
        })
        .await
}

/// Says another moment; false where it is too late, because something has gone by already.
pub async fn choose(app: &App, from: Timestamp) -> Result<bool> {
    configured(app)?;
    let from_ms = from.as_millisecond();
    app.db
        .write(move |tx| {
            if lago::cursor(tx)?.position > 0 {
                return Ok(self::from_ms(tx)? == from_ms);
            }
            facts::set(tx, facts::LAGO_FROM, &from_ms.to_string())?;
            Ok(true)
        })
        .await
}
