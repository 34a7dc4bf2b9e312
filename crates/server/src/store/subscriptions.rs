//! Mirrored subscriptions and what we derive from them.

use billing::subscription::Status;
use billing::time::Window;
use jiff::Timestamp;

use super::db::{Row, args};
use super::mirror::{self, Resource, Seen};
use super::revenue::{self, Past, Since, Standing};
use super::totals::{self, Counted};
use super::{After, Change, Tx, plans};
use crate::error::{Error, Result};

/// A subscription as it is listed and counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    pub id: String,
    pub customer: Option<String>,
    pub status: Status,
    pub tier: String,
    /// Lower case, three letters.
    pub currency: String,
    /// All licensed items × quantity in minor units; nothing when a price is not known.
    pub amount_minor: Option<i64>,
    pub interval: Option<String>,
    pub interval_count: Option<u32>,
    /// What it is worth in a month, in minor units.
    pub monthly_minor: i64,
    /// When `monthly_minor` changes by itself: a coupon runs out.
    pub value_until: Option<Timestamp>,
    pub period: Option<Window>,
    /// Where its months begin.
    pub anchor: Option<Timestamp>,
    pub cancel_at_period_end: bool,
    pub created: Timestamp,
    /// Why an amount could not be derived; shown by `doctor`.
    pub fault: Option<String>,
}

impl Subscription {
    /// What the totals count of it.
    pub fn counted(&self) -> Counted {
        Counted {
            currency: self.currency.clone(),
            tier: self.tier.clone(),
            status: self.status.as_str().to_owned(),
            monthly_minor: self.monthly_minor,
            unpriced: self.fault.is_some(),
        }
    }

    fn standing(&self) -> Standing {
        Standing { customer: self.customer.clone(), counted: self.counted() }
    }
}

/// Writes a subscription with its `past`, moves the totals and the revenue with them, and remembers what it is made of.
pub fn save(
    tx: &mut Tx<'_>,
    seen: Seen<'_>,
    new: &Subscription,
    parts: &[String],
    since: &Since,
    past: Past<'_>,
) -> Result<()> {
    let old = counted_before(tx, &new.id)?;
    seen.keep(tx)?;
    write(tx, seen, new)?;
    totals::shift(tx, old.as_ref(), Some(&new.counted()))?;
    revenue::settle(tx, &new.id, Some(&new.standing()), since, past)?;
    tx.run("DELETE FROM subscription_parts WHERE subscription = ?1", args![&new.id])?;
    for part in parts {
        tx.run(
            "INSERT INTO subscription_parts (part, subscription) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            args![part, &new.id],
        )?;
    }
    tell(tx, new.customer.as_deref())
}

fn write(tx: &mut Tx<'_>, seen: Seen<'_>, new: &Subscription) -> Result<()> {
    tx.run(
        "INSERT INTO subscriptions (id, customer, status, ended, tier, currency, amount_minor, interval_unit, interval_count,
             monthly_minor, value_until, period_start, period_end, anchor, cancel_at_period_end, created, fault, deleted, run, fingerprint)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, 0, ?18, ?19)
         ON CONFLICT (id) DO UPDATE SET customer = excluded.customer, status = excluded.status, ended = excluded.ended,
             tier = excluded.tier, currency = excluded.currency, amount_minor = excluded.amount_minor,
             interval_unit = excluded.interval_unit, interval_count = excluded.interval_count,
             monthly_minor = excluded.monthly_minor, value_until = excluded.value_until, period_start = excluded.period_start,
             period_end = excluded.period_end, anchor = excluded.anchor, cancel_at_period_end = excluded.cancel_at_period_end,
             created = excluded.created, fault = excluded.fault, deleted = 0, run = excluded.run,
             fingerprint = excluded.fingerprint",
        args![
            &new.id,
            &new.customer,
            new.status.as_str(),
            new.status.is_ended(),
            &new.tier,
            &new.currency,
            new.amount_minor,
            &new.interval,
            new.interval_count,
            new.monthly_minor,
            new.value_until,
            new.period.as_ref().map(|window| window.start),
            new.period.as_ref().map(|window| window.end),
            new.anchor,
            new.cancel_at_period_end,
            new.created,
            &new.fault,
            seen.run,
            seen.fingerprint()
        ],
    )?;
    Ok(())
}

fn counted_before(tx: &mut Tx<'_>, id: &str) -> Result<Option<Counted>> {
    Ok(standing(tx, id)?.map(|standing| standing.counted))
}

fn standing(tx: &mut Tx<'_>, id: &str) -> Result<Option<Standing>> {
    let sql = "SELECT id, customer, currency, tier, status, monthly_minor, fault FROM subscriptions
         WHERE id = ?1 AND deleted = 0";
    tx.row(sql, args![id])?.as_ref().map(standing_of).transpose()
}

/// What the rows after `after` up to `until` say, by their ids.
pub fn standings(tx: &mut Tx<'_>, after: &str, until: &str) -> Result<Vec<(String, Standing)>> {
    let sql = "SELECT id, customer, currency, tier, status, monthly_minor, fault FROM subscriptions
         WHERE id > ?1 AND id <= ?2 AND deleted = 0";
    tx.rows(sql, args![after, until])?.iter().map(|row| Ok((row.text(0)?, standing_of(row)?))).collect()
}

fn standing_of(row: &Row) -> Result<Standing> {
    let counted = Counted {
        currency: row.text(2)?,
        tier: row.text(3)?,
        status: row.text(4)?,
        monthly_minor: row.int(5)?,
        unpriced: row.text_or_null(6)?.is_some(),
    };
    Ok(Standing { customer: row.text_or_null(1)?, counted })
}

/// Marks a subscription as deleted at Stripe and takes it out of the totals and the revenue.
pub fn delete(tx: &mut Tx<'_>, id: &str, since: &Since) -> Result<bool> {
    let old = counted_before(tx, id)?;
    let deleted = mirror::delete(tx, Resource::Subscriptions, id)?;
    if deleted {
        totals::shift(tx, old.as_ref(), None)?;
        revenue::settle(tx, id, None, since, &Vec::new)?;
        tx.changed(Change::Totals);
    }
    Ok(deleted)
}

/// Makes the revenue say what the row says, where points were added and the row did not change.
pub fn settle(tx: &mut Tx<'_>, id: &str, since: &Since) -> Result<()> {
    let standing = standing(tx, id)?;
    revenue::settle(tx, id, standing.as_ref(), since, &Vec::new)
}

fn tell(tx: &mut Tx<'_>, customer: Option<&str>) -> Result<()> {
    tx.changed(Change::Totals);
    if let Some(customer) = customer {
        tx.changed(Change::Customer(customer.to_owned()));
        plans::mark_customer(tx, customer)?;
    }
    Ok(())
}

/// The run that last saw a subscription; for a derivation that reads nothing new from Stripe.
pub fn run_of(tx: &mut Tx<'_>, id: &str) -> Result<Option<i64>> {
    tx.row("SELECT run FROM subscriptions WHERE id = ?1 AND deleted = 0", args![id])?.map(|row| row.int(0)).transpose()
}

/// Which subscriptions a list shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// All that have not ended.
    Running,
    All,
    Status(Status),
}

/// A page, newest first.
pub fn page(tx: &mut Tx<'_>, filter: &Filter, after: &After, limit: i64) -> Result<Vec<Subscription>> {
    let rows = match filter {
        Filter::All => tx.rows(
            "SELECT id, customer, status, tier, currency, amount_minor, interval_unit, interval_count, monthly_minor, value_until,
                 period_start, period_end, anchor, cancel_at_period_end, created, fault
             FROM subscriptions WHERE deleted = 0 AND (created, id) < (?1, ?2) ORDER BY created DESC, id DESC LIMIT ?3",
            args![after.created, &after.id, limit],
        )?,
        Filter::Running => tx.rows(
            "SELECT id, customer, status, tier, currency, amount_minor, interval_unit, interval_count, monthly_minor, value_until,
                 period_start, period_end, anchor, cancel_at_period_end, created, fault
             FROM subscriptions WHERE deleted = 0 AND ended = 0 AND (created, id) < (?1, ?2)
             ORDER BY created DESC, id DESC LIMIT ?3",
            args![after.created, &after.id, limit],
        )?,
        Filter::Status(status) => tx.rows(
            "SELECT id, customer, status, tier, currency, amount_minor, interval_unit, interval_count, monthly_minor, value_until,
                 period_start, period_end, anchor, cancel_at_period_end, created, fault
             FROM subscriptions WHERE deleted = 0 AND status = ?4 AND (created, id) < (?1, ?2)
             ORDER BY created DESC, id DESC LIMIT ?3",
            args![after.created, &after.id, limit, status.as_str()],
        )?,
    };
    rows.iter().map(subscription).collect()
}

/// The subscriptions of a customer that have not ended.
pub fn running_of(tx: &mut Tx<'_>, customer: &str) -> Result<Vec<Subscription>> {
    tx.rows(
        "SELECT id, customer, status, tier, currency, amount_minor, interval_unit, interval_count, monthly_minor, value_until,
             period_start, period_end, anchor, cancel_at_period_end, created, fault
         FROM subscriptions WHERE customer = ?1 AND deleted = 0 AND ended = 0 ORDER BY created DESC, id DESC LIMIT 100",
        args![customer],
    )?
    .iter()
    .map(subscription)
    .collect()
}

/// Subscriptions whose value changes by itself at or before `now`.
pub fn due(tx: &mut Tx<'_>, now: Timestamp, limit: i64) -> Result<Vec<String>> {
    tx.rows(
        "SELECT id FROM subscriptions WHERE value_until <= ?1 AND deleted = 0 ORDER BY value_until LIMIT ?2",
        args![now, limit],
    )?
    .iter()
    .map(|row| row.text(0))
    .collect()
}

/// When the value of a subscription changes by itself.
pub fn value_until(tx: &mut Tx<'_>, id: &str) -> Result<Option<Timestamp>> {
    let row = tx.row("SELECT value_until FROM subscriptions WHERE id = ?1 AND deleted = 0", args![id])?;
    Ok(row.map(|row| row.instant_or_null(0)).transpose()?.flatten())
}

/// All ids, page by page: for a derivation with a new catalogue.
pub fn ids(tx: &mut Tx<'_>, after: &str, limit: i64) -> Result<Vec<String>> {
    tx.rows("SELECT id FROM subscriptions WHERE deleted = 0 AND id > ?1 ORDER BY id LIMIT ?2", args![after, limit])?
        .iter()
        .map(|row| row.text(0))
        .collect()
}

/// Subscriptions whose amount could not be derived, for `doctor`.
pub fn faults(tx: &mut Tx<'_>, limit: i64) -> Result<Vec<(String, String)>> {
    tx.rows(
        "SELECT id, fault FROM subscriptions WHERE fault IS NOT NULL AND deleted = 0 ORDER BY id LIMIT ?1",
        args![limit],
    )?
    .iter()
    .map(|row| Ok((row.text(0)?, row.text(1)?)))
    .collect()
}

fn subscription(row: &Row) -> Result<Subscription> {
    Ok(Subscription {
        id: row.text(0)?,
        customer: row.text_or_null(1)?,
        status: Status::parse(&row.text(2)?),
        tier: row.text(3)?,
        currency: row.text(4)?,
        amount_minor: row.int_or_null(5)?,
        interval: row.text_or_null(6)?,
        interval_count: row
            .int_or_null(7)?
            .map(|count| u32::try_from(count).map_err(|_| Error::internal("impossible row: interval_count")))
            .transpose()?,
        monthly_minor: row.int(8)?,
        value_until: row.instant_or_null(9)?,
        period: row.instant_or_null(10)?.zip(row.instant_or_null(11)?).map(|(start, end)| Window { start, end }),
        anchor: row.instant_or_null(12)?,
        cancel_at_period_end: row.flag(13)?,
        created: row.instant(14)?,
        fault: row.text_or_null(15)?,
    })
}
