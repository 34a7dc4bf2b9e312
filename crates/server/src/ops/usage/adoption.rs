//! The usage log of the first version is taken over: its events become entries of the log, in their order.

use super::{Candidate, ids};
use crate::app::App;
use crate::error::{Error, Result};
use crate::store::db::Row;
use crate::store::log::{Entry, Kind, Source};
use crate::store::{Tx, first_log};

/// How many events are taken over in one transaction.
const BATCH: i64 = 1_000;

/// Takes over what there is; does nothing where it was done before. An interruption costs nothing: ids that are in the log are not
/// added again.
pub async fn adopt(app: &App) -> Result<()> {
    let mut after = 0;
    loop {
        let from = after;
        let Some(rows) = app.db.read(move |tx| first_log::events(tx, from, BATCH)).await? else { return Ok(()) };
        let Some(last) = rows.last() else { break };
        after = last.int(0)?;
        let candidates = rows.iter().map(|row| candidate(app, row)).collect::<Result<Vec<_>>>()?;
        for verdict in app.usage.append(app, candidates).await? {
            if let super::Verdict::Refused { code, .. } = verdict {
                tracing::warn!(code, "an event of the first log names nobody who is here, and is left out");
            }
        }
    }
    app.db.write(|tx: &mut Tx<'_>| first_log::forget(tx)).await
}

fn candidate(app: &App, row: &Row) -> Result<Candidate> {
    let (transaction_id, event_type) = (row.text(1)?, row.text(3)?);
    let weight = super::weight(app, &event_type).map_or(0, billing::usage::Credits::micro);
    let mut entry = Entry {
        kind: Kind::Usage,
        user: row.text(2)?,
        event_type,
        quantity: row.int(4)?,
        weight,
        event_ms: row.int(5)?,
        received_ms: row.int(6)?,
        id: ids::entry_id("", &transaction_id),
        fingerprint: 0,
        transaction_id,
        source: Source::FirstLog,
        body: row.text_or_null(7)?,
    };
    if entry.quantity < 0 {
        return Err(Error::internal("impossible row: a negative quantity in the first log"));
    }
    entry.fingerprint = ids::fingerprint(&entry, true);
    Ok(Candidate { entry, timed: true })
}
