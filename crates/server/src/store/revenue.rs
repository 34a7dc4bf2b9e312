//! Points of revenue: what each subscription is worth since when, and why. From them every movement can be derived.
//!
//! Events add points at their own instants, in whatever order they arrive. After them the series is settled: where its
//! last point is not what the subscription's row says, one more point says so. Thus the last points always sum to the
//! totals.

use billing::subscription::Status;
use jiff::Timestamp;

use super::Tx;
use super::db::{Row, args};
use super::totals::Counted;
use crate::error::Result;

/// At one instant: what was concluded when the subscription was first seen and what changes by itself, then what events tell,
/// then what settles it.
const CONCLUDED: i64 = 0;
const TOLD: i64 = 1;

/// Since when, and why. A subscription has one point of each cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Since {
    pub at: Timestamp,
    pub cause: String,
    /// Told, not concluded.
    pub exact: bool,
}

/// What a subscription is worth since then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    pub subscription: String,
    pub customer: Option<String>,
    pub since: Since,
    /// Nothing where Stripe no longer has the subscription: `tier` and `currency` are those that it had.
    pub status: Option<Status>,
    pub tier: String,
    pub currency: String,
    pub monthly_minor: i64,
    pub unpriced: bool,
}

/// Whose a subscription is, and what is counted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub customer: Option<String>,
    pub counted: Counted,
}

impl Point {
    fn counted(&self) -> Option<Counted> {
        Some(Counted {
            currency: self.currency.clone(),
            tier: self.tier.clone(),
            status: self.status.as_ref()?.as_str().to_owned(),
            monthly_minor: self.monthly_minor,
            unpriced: self.unpriced,
        })
    }

    fn standing(self) -> Option<Standing> {
        let counted = self.counted()?;
        Some(Standing { customer: self.customer, counted })
    }
}

/// What is concluded of the past of a subscription of which nothing was ever said, oldest first.
pub type Past<'a> = &'a dyn Fn() -> Vec<Point>;

/// Begins the series of a subscription of which nothing was ever said.
pub fn begin(tx: &mut Tx<'_>, subscription: &str, past: Past<'_>) -> Result<()> {
    match tx.row("SELECT 1 FROM revenue_points WHERE subscription = ?1 LIMIT 1", args![subscription])? {
        Some(_) => Ok(()),
        None => conclude(tx, past).map(drop),
    }
}

/// Adds what is concluded; the last of it.
fn conclude(tx: &mut Tx<'_>, past: Past<'_>) -> Result<Option<(Point, i64)>> {
    let past = past();
    past.iter().try_for_each(|point| add(tx, point, CONCLUDED))?;
    Ok(past.into_iter().last().map(|last| (last, CONCLUDED)))
}

/// Adds the point that an event tells of, once, and what becomes of that by itself.
pub fn tell(tx: &mut Tx<'_>, point: &Point, lapses: &[Point]) -> Result<()> {
    add(tx, point, TOLD)?;
    let Since { at, cause, .. } = &point.since;
    // Most subscriptions have no coupon that ends, and are asked for nothing more.
    let after = "SELECT 1 FROM revenue_points WHERE subscription = ?1 AND since > ?2 AND cause LIKE 'time %' LIMIT 1";
    if lapses.is_empty() && tx.row(after, args![&point.subscription, *at])?.is_none() {
        return Ok(());
    }
    // Of several at one instant only the last goes on.
    let sql =
        "SELECT 1 FROM revenue_points WHERE subscription = ?1 AND since = ?2 AND (place, cause) > (?3, ?4) LIMIT 1";
    match tx.row(sql, args![&point.subscription, *at, TOLD, cause])? {
        Some(_) => Ok(()),
        None => lapse(tx, &point.subscription, *at, lapses),
    }
}

/// The cause of what changes by itself at an instant: a coupon begins or ends.
pub fn lapse_at(at: Timestamp) -> String {
    format!("time {}", at.as_second())
}

/// Says what becomes by itself of a state after `after`, until anything else is said. What was said so of a state of before
/// goes: an event that comes late has come in between.
pub fn lapse(tx: &mut Tx<'_>, subscription: &str, after: Timestamp, lapses: &[Point]) -> Result<()> {
    let sql =
        "SELECT MIN(since) FROM revenue_points WHERE subscription = ?1 AND since > ?2 AND cause NOT LIKE 'time %'";
    let next = tx.row(sql, args![subscription, after])?.map(|row| row.instant_or_null(0)).transpose()?.flatten();
    let until = next.unwrap_or(Timestamp::MAX);
    tx.run(
        "DELETE FROM revenue_points WHERE subscription = ?1 AND since > ?2 AND since < ?3 AND cause LIKE 'time %'",
        args![subscription, after, until],
    )?;
    lapses.iter().filter(|lapse| lapse.since.at < until).try_for_each(|lapse| add(tx, lapse, CONCLUDED))
}

fn add(tx: &mut Tx<'_>, point: &Point, place: i64) -> Result<()> {
    tx.run(
        "INSERT INTO revenue_points (subscription, since, place, cause, customer, status, tier, currency, monthly_minor,
             unpriced, exact) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         ON CONFLICT (subscription, cause) DO NOTHING",
        args![
            &point.subscription,
            point.since.at,
            place,
            &point.since.cause,
            &point.customer,
            point.status.as_ref().map(|status| status.as_str().to_owned()),
            &point.tier,
            &point.currency,
            point.monthly_minor,
            point.unpriced,
            point.since.exact
        ],
    )?;
    Ok(())
}

/// Makes the last point say what the subscription's row says; nothing for one that is gone.
pub fn settle(
    tx: &mut Tx<'_>,
    subscription: &str,
    row: Option<&Standing>,
    since: &Since,
    past: Past<'_>,
) -> Result<()> {
    let last = match last(tx, subscription)? {
        Some(last) => Some(last),
        None => conclude(tx, past)?,
    };
    if last.as_ref().and_then(|(point, _)| point.counted()).as_ref() == row.map(|row| &row.counted) {
        return Ok(());
    }
    // One look may see the same object twice, and differently: what it saw last holds.
    tx.run("DELETE FROM revenue_points WHERE subscription = ?1 AND cause = ?2", args![subscription, &since.cause])?;
    let (at, place) = match &last {
        Some((point, place)) if point.since.at >= since.at => (point.since.at, place.saturating_add(1)),
        _ => (since.at, TOLD + 1),
    };
    let since = Since { at, exact: since.exact && at == since.at, cause: since.cause.clone() };
    let known = last.map(|(point, _)| point);
    let point = match row {
        Some(Standing { customer, counted }) => Point {
            subscription: subscription.to_owned(),
            customer: customer.clone(),
            since,
            status: Some(Status::parse(&counted.status)),
            tier: counted.tier.clone(),
            currency: counted.currency.clone(),
            monthly_minor: counted.monthly_minor,
            unpriced: counted.unpriced,
        },
        None => match known {
            Some(known) => Point { since, status: None, monthly_minor: 0, unpriced: false, ..known },
            None => return Ok(()),
        },
    };
    add(tx, &point, place)
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT subscription, customer, since, cause, exact, status, tier, currency, monthly_minor, unpriced, place \
             FROM revenue_points ",
            $rest
        )
    };
}

fn last(tx: &mut Tx<'_>, subscription: &str) -> Result<Option<(Point, i64)>> {
    let sql = select!("WHERE subscription = ?1 ORDER BY since DESC, place DESC, cause DESC LIMIT 1");
    tx.row(sql, args![subscription])?.map(|row| Ok((point(&row)?, row.int(10)?))).transpose()
}

/// Everything that was said of a customer's subscriptions, in the order in which it took effect.
pub fn of_customer(tx: &mut Tx<'_>, customer: &str) -> Result<Vec<Point>> {
    let sql = select!("WHERE customer = ?1 ORDER BY since, subscription, place, cause");
    tx.rows(sql, args![customer])?.iter().map(point).collect()
}

/// Forgets what an event told, unless that moved anything. While the event can come again or come late, its point is needed
/// for those that come between.
pub fn forget(tx: &mut Tx<'_>, subscription: &str, event: &str) -> Result<()> {
    let told = tx.row(select!("WHERE subscription = ?1 AND cause = ?2"), args![subscription, event])?;
    let Some(told) = told.as_ref().map(point).transpose()? else { return Ok(()) };
    let before = tx.row(
        select!(
            "WHERE subscription = ?1 AND (since, place, cause) < (?2, ?3, ?4)
             ORDER BY since DESC, place DESC, cause DESC LIMIT 1"
        ),
        args![subscription, told.since.at, TOLD, event],
    )?;
    let before = before.as_ref().map(point).transpose()?;
    let says_no_more = |before: &Point| before.since.exact || before.since.at < told.since.at;
    if before.is_some_and(|before| before.counted() == told.counted() && says_no_more(&before)) {
        tx.run("DELETE FROM revenue_points WHERE subscription = ?1 AND cause = ?2", args![subscription, event])?;
    }
    Ok(())
}

/// All subscriptions that there are or were, page by page.
pub fn subscriptions(tx: &mut Tx<'_>, after: &str, limit: i64) -> Result<Vec<String>> {
    // Each side ends after `limit` rows: PostgreSQL would read both to their ends.
    tx.rows(
        "SELECT id FROM (SELECT id FROM subscriptions WHERE id > ?1 ORDER BY id LIMIT ?2) AS rows
         UNION SELECT subscription FROM (SELECT DISTINCT subscription FROM revenue_points WHERE subscription > ?1
             ORDER BY subscription LIMIT ?2) AS points
         ORDER BY id LIMIT ?2",
        args![after, limit],
    )?
    .iter()
    .map(|row| row.text(0))
    .collect()
}

/// What the last points of the subscriptions after `after` up to `until` say; nothing of those that are gone.
pub fn standings(tx: &mut Tx<'_>, after: &str, until: &str) -> Result<Vec<(String, Standing)>> {
    let rows = tx.rows(
        "SELECT subscription, customer, since, cause, exact, status, tier, currency, monthly_minor, unpriced FROM
             (SELECT subscription, customer, since, cause, exact, status, tier, currency, monthly_minor, unpriced,
                  ROW_NUMBER() OVER (PARTITION BY subscription ORDER BY since DESC, place DESC, cause DESC) AS age
              FROM revenue_points WHERE subscription > ?1 AND subscription <= ?2) AS points
         WHERE age = 1",
        args![after, until],
    )?;
    let mut standings = Vec::new();
    for row in &rows {
        let point = point(row)?;
        let subscription = point.subscription.clone();
        standings.extend(point.standing().map(|standing| (subscription, standing)));
    }
    Ok(standings)
}

/// Says of every point of a subscription whose it is: at Stripe a subscription never changes hands.
pub fn hand_over(tx: &mut Tx<'_>, subscription: &str, customer: &str) -> Result<()> {
    tx.run("UPDATE revenue_points SET customer = ?2 WHERE subscription = ?1", args![subscription, customer])?;
    Ok(())
}

fn point(row: &Row) -> Result<Point> {
    Ok(Point {
        subscription: row.text(0)?,
        customer: row.text_or_null(1)?,
        since: Since { at: row.instant(2)?, cause: row.text(3)?, exact: row.flag(4)? },
        status: row.text_or_null(5)?.map(|status| Status::parse(&status)),
        tier: row.text(6)?,
        currency: row.text(7)?,
        monthly_minor: row.int(8)?,
        unpriced: row.flag(9)?,
    })
}
