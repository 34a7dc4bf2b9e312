//! Whom only Lago knows. Where an older database was put back, nothing here leads to the subscriptions that Lago got since, and what it
//! has counted for them is in no log. So its own list of running subscriptions is walked through, page by page.

use std::collections::BTreeSet;

use super::configured;
use super::event::open_from;
use super::reconcile::{Compared, Difference, compare_under, unavailable};
use crate::app::App;
use crate::error::Result;
use crate::gateways::lago::read::{self, Listed};
use crate::ops::identities;
use crate::store::lago;

/// Subscriptions of one page: each has its whole plan in it.
const PAGE: &str = "50";

/// Running subscriptions that were never ours, and that Lago has counted something of ours for in its period. Those of plans that the
/// catalogue does not have are somebody else's.
pub async fn find(app: &App) -> Result<Vec<Compared>> {
    let ours = configured(app)?;
    let (mut found, mut page) = (Vec::new(), 1_u64);
    loop {
        let number = page.to_string();
        let query = [("page", number.as_str()), ("per_page", PAGE)];
        let answer = ours.gateway.get("/subscriptions", &query).await.map_err(unavailable)?;
        let listed = read::subscriptions(&answer);
        for external_id in unknown(app, listed.rows).await? {
            let named = BTreeSet::from([external_id.clone()]);
            let user = identities::users_of_subscriptions(app, named).await?.remove(&external_id);
            let user = user.unwrap_or_else(|| external_id.clone());
            let mut compared = compare_under(app, Compared::nothing(&user, &external_id, None)).await?;
            // One that has ended meanwhile is not shown any more, and nothing was sent to it.
            compared.differences.retain(|one| !matches!(one, Difference::Missing { .. } | Difference::Gone { .. }));
            if !compared.differences.is_empty() {
                found.push(compared);
            }
        }
        match listed.next.filter(|next| *next > page) {
            Some(next) => page = next,
            None => return Ok(found),
        }
    }
}

/// Those of a page to which nothing leads from here: no user's subscription, and none of before that got something in the open month.
async fn unknown(app: &App, mut rows: Vec<Listed>) -> Result<Vec<String>> {
    rows.retain(|one| one.plan.as_deref().is_some_and(|plan| app.catalogue.tier(plan).is_some()));
    let from_ms = open_from(app.clock.now().as_millisecond());
    app.db
        .read(move |tx| {
            let mut unknown = Vec::new();
            for Listed { external_id, .. } in &rows {
                let is_known = lago::user_of(tx, external_id)?.is_some()
                    || !lago::sums(tx, external_id, from_ms, i64::MAX)?.is_empty();
                if !is_known {
                    unknown.push(external_id.clone());
                }
            }
            Ok(unknown)
        })
        .await
}
