//! What goes from a credit period to the next, because the next had begun before anybody heard of it.

use std::collections::BTreeMap;

use billing::account::{AHEAD_MS, Account};
use billing::catalogue::{Catalogue, TierChange};
use billing::entry::{Moved, PlanChange, Terms};
use billing::usage::Quantity;

use crate::counters::reading::{self, Said};
use crate::error::{Error, Result};
use crate::store::Tx;
use crate::store::log::{self, Kind, Logged};

/// How an account comes to other terms, whose period `began_ms`: the body of the entry that says so, and when that happened.
pub(super) fn change(
    tx: &mut Tx<'_>,
    catalogue: &Catalogue,
    (user, account): (&str, &Account),
    terms: &Terms,
    [began_ms, now_ms]: [i64; 2],
) -> Result<(String, i64)> {
    // Nothing is left of the share of another tier in one that the catalogue does not have.
    let midway = catalogue.tier(&terms.tier).map_or(TierChange::KeepUsed, |_| catalogue.plan_change);
    let change = account.change_to(terms, midway, now_ms).map_err(Error::internal)?;
    let (running_ms, last) = (account.at(now_ms).period.start.as_millisecond(), account.position());
    if change != PlanChange::Reset || began_ms <= running_ms || now_ms <= began_ms {
        return Ok((reading::plan_body(change, terms, &[]), now_ms));
    }
    let moved = Renewal { last, running_ms, next_ms: began_ms }.moved(tx, user)?;
    Ok((reading::plan_body(change, terms, &moved), began_ms))
}

/// The next period has begun before the running one was over: where the user's log stands, and the two of them.
#[derive(Debug, Clone, Copy)]
struct Renewal {
    /// Their last entry.
    last: i64,
    /// Where the running period begins.
    running_ms: i64,
    /// Where the next one has begun.
    next_ms: i64,
}

impl Renewal {
    /// What happened since the next period began and was counted in the running one, by type. A type of which more was taken
    /// back than used since then stays where it is: nothing would go over, and credits must not.
    fn moved(self, tx: &mut Tx<'_>, user: &str) -> Result<Vec<Moved>> {
        let mut sums: BTreeMap<String, (i128, i128)> = BTreeMap::new();
        let mut next = Some(self.last).filter(|last| *last > 0);
        while let Some(last) = next {
            let page = match log::of_user(tx, user, last, log::PAGE) {
                // A broken chain is doctor's to name. What cannot be found stays where it was counted.
                Err(Error::Internal(cause)) => {
                    tracing::error!(user.id = user, %cause, "what was used since a period began cannot be read whole");
                    break;
                }
                page => page?,
            };
            next = page.last().filter(|_| page.len() == log::PAGE).and_then(|oldest| log::before(tx, oldest));
            for entry in &page {
                if self.is_older(entry) {
                    next = None;
                    break;
                }
                if self.moves(entry) {
                    let said = Said::from(entry);
                    let (quantity, cost) = sums.entry(entry.event_type.clone()).or_default();
                    *quantity = quantity.saturating_add(i128::from(said.signed()));
                    *cost = cost.saturating_add(said.shown_pico());
                }
            }
        }
        let moved = sums.into_iter().filter(|(_, (quantity, cost))| *quantity > 0 && *cost >= 0);
        Ok(moved
            .filter_map(|(kind, (quantity, cost_pico))| {
                let quantity = Quantity::from_micro(i64::try_from(quantity).ok()?);
                Some(Moved { kind, quantity, cost_pico })
            })
            .collect())
    }

    /// Nothing before this entry can have happened in the next period and counted in the running one.
    fn is_older(self, entry: &Logged) -> bool {
        let anew = entry.body.as_deref().is_some_and(|body| body.starts_with(PlanChange::Reset.as_str()));
        entry.received_ms < self.next_ms.saturating_sub(AHEAD_MS) || (entry.kind == Kind::Plan && anew)
    }

    fn moves(self, entry: &Logged) -> bool {
        let counted = match entry.kind {
            Kind::Usage | Kind::Adjust => true,
            // It names the period in which its event counted.
            Kind::Void => entry.body.as_deref().is_none_or(|body| {
                !reading::takes_nothing(body)
                    && reading::counted_ms(body).is_none_or(|counted_ms| counted_ms >= self.running_ms)
            }),
            Kind::Grant | Kind::Revoke | Kind::Expire | Kind::Plan => false,
        };
        counted && entry.event_ms >= self.next_ms
    }
}
