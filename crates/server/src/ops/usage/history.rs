//! History from elsewhere, of any age.

use jiff::Timestamp;

use super::{Candidate, Told, Verdict, judged};
use crate::app::App;
use crate::error::Result;
use crate::store::log::Source;

/// Brings in history of any age under the name of a run. The same run again adds nothing. Where an event's period is over it is
/// shown on its day and counts for nothing else; an event that came live before is a duplicate.
pub async fn backfill(app: &App, run: &str, told: Vec<Told>) -> Result<Vec<Verdict>> {
    let (verdicts, candidates) = of_history(app, told);
    tracing::info!(run, events = candidates.len(), "history is brought in");
    Ok(in_order(verdicts, app.usage.append(app, candidates).await?))
}

/// What would become of history, each call for itself.
pub async fn try_backfill(app: &App, told: Vec<Told>) -> Result<Vec<Verdict>> {
    let (verdicts, candidates) = of_history(app, told);
    Ok(in_order(verdicts, app.usage.try_out(app, candidates).await?))
}

/// What is to be appended of history, and what is refused by itself, in its place.
fn of_history(app: &App, told: Vec<Told>) -> (Vec<Option<Verdict>>, Vec<Candidate>) {
    let now = app.clock.now();
    let mut candidates = Vec::with_capacity(told.len());
    let mut judge = |event: Told| {
        let event = Told { source: Source::Backfill, at: Some(event.at.unwrap_or(now)), ..event };
        judged(app, event, now, Timestamp::MIN..=now).map(|candidate| candidates.push(candidate)).err()
    };
    (told.into_iter().map(&mut judge).collect(), candidates)
}

fn in_order(refused: Vec<Option<Verdict>>, said: Vec<Verdict>) -> Vec<Verdict> {
    let mut said = said.into_iter();
    refused.into_iter().filter_map(|verdict| verdict.or_else(|| said.next())).collect()
}
