//! The points of revenue against the rows: the last point of each subscription says what its row says, or it is named and
//! mended.

use std::collections::BTreeMap;
use std::fmt;

use crate::app::App;
use crate::error::Result;
use crate::ops::derivation;
use crate::store::revenue::{self, Since, Standing};
use crate::store::{Tx, readings, subscriptions};

/// How many subscriptions are compared or mended in one transaction.
const BATCH: i64 = 200;
/// How many of those that are wrong are named.
const NAMED: usize = 100;

/// A subscription whose last point is not what its row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsettled {
    pub subscription: String,
    row: Option<Standing>,
    point: Option<Standing>,
}

/// What came of a comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recount {
    /// Subscriptions that there are, or that once brought something.
    pub subscriptions: u64,
    pub wrong: u64,
    /// The first of those that are wrong.
    pub named: Vec<Unsettled>,
}

/// Compares every subscription, in steps on snapshots of their own.
pub async fn recount(app: &App) -> Result<Recount> {
    let (mut recount, mut after) = (Recount::default(), String::new());
    while let Some(step) = app.db.read(move |tx| compare(tx, &after)).await? {
        recount.subscriptions += step.compared;
        recount.wrong += step.unsettled.len() as u64;
        let room = NAMED - recount.named.len();
        recount.named.extend(step.unsettled.into_iter().take(room));
        after = step.last;
    }
    Ok(recount)
}

/// Mends what is wrong: derives the row anew from Stripe's text, then settles its points.
pub async fn repair(app: &App) -> Result<()> {
    let (mut after, now) = (String::new(), app.clock.now());
    loop {
        let catalogue = app.catalogue.clone();
        let step = app.db.write(move |tx| {
            let Some(step) = compare(tx, &after)? else { return Ok(None) };
            if !step.unsettled.is_empty() {
                let cause = format!("repair {}", readings::take_ticket(tx)?);
                let since = Since { at: now, cause, exact: false };
                for Unsettled { subscription, row, .. } in &step.unsettled {
                    if let Some(customer) = row.as_ref().and_then(|row| row.customer.as_deref()) {
                        revenue::hand_over(tx, subscription, customer)?;
                    }
                    derivation::again(tx, subscription, &catalogue, now, &since)?;
                    subscriptions::settle(tx, subscription, &since)?;
                }
            }
            Ok(Some(step.last))
        });
        match step.await? {
            Some(last) => after = last,
            None => return Ok(()),
        }
    }
}

/// Some subscriptions, in the order of their ids.
struct Step {
    last: String,
    compared: u64,
    unsettled: Vec<Unsettled>,
}

/// The subscriptions after `after`; nothing after the last.
fn compare(tx: &mut Tx<'_>, after: &str) -> Result<Option<Step>> {
    let ids = revenue::subscriptions(tx, after, BATCH)?;
    let Some(last) = ids.last().cloned() else { return Ok(None) };
    let mut rows: BTreeMap<_, _> = subscriptions::standings(tx, after, &last)?.into_iter().collect();
    let mut points: BTreeMap<_, _> = revenue::standings(tx, after, &last)?.into_iter().collect();
    let compared = ids.len() as u64;
    let sides = ids.into_iter().map(|subscription| {
        let (row, point) = (rows.remove(&subscription), points.remove(&subscription));
        Unsettled { subscription, row, point }
    });
    let unsettled = sides.filter(|sides| sides.row != sides.point).collect();
    Ok(Some(Step { last, compared, unsettled }))
}

impl fmt::Display for Unsettled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: its row says ", self.subscription)?;
        describe(f, self.row.as_ref())?;
        f.write_str("; its last point says ")?;
        describe(f, self.point.as_ref())
    }
}

fn describe(f: &mut fmt::Formatter<'_>, standing: Option<&Standing>) -> fmt::Result {
    let Some(Standing { customer, counted }) = standing else { return f.write_str("nothing") };
    let customer = customer.as_deref().unwrap_or("nobody");
    write!(f, "{} {} of {customer}, {}, ", counted.tier, counted.status, counted.currency)?;
    if counted.unpriced {
        return f.write_str("of unknown worth");
    }
    write!(f, "{} a month in minor units", counted.monthly_minor)
}
