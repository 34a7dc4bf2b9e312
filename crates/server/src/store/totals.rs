//! Totals that move with the rows they count.

use std::collections::BTreeMap;

use billing::money::Currency;
use billing::revenue::Total;
use billing::subscription::Status;

use super::db::args;
use super::mirror::Resource;
use super::{Change, Tx};
use crate::error::{Error, Result};

/// The part of a subscription that the totals count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    pub currency: String,
    pub tier: String,
    pub status: String,
    pub monthly_minor: i64,
    /// Its value could not be derived; it counts as a subscription and adds nothing to the money.
    pub unpriced: bool,
}

/// Moves the totals from what a subscription was to what it is.
pub fn shift(tx: &mut Tx<'_>, old: Option<&Counted>, new: Option<&Counted>) -> Result<()> {
    if old == new {
        return Ok(());
    }
    if let Some(old) = old {
        add(tx, old, -1)?;
    }
    if let Some(new) = new {
        add(tx, new, 1)?;
    }
    tx.changed(Change::Totals);
    Ok(())
}

fn add(tx: &mut Tx<'_>, counted: &Counted, sign: i64) -> Result<()> {
    tx.run(
        "INSERT INTO subscription_totals (currency, tier, status, count, monthly_minor, unpriced)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (currency, tier, status) DO UPDATE SET
             count = subscription_totals.count + excluded.count,
             monthly_minor = subscription_totals.monthly_minor + excluded.monthly_minor,
             unpriced = subscription_totals.unpriced + excluded.unpriced",
        args![
            &counted.currency,
            &counted.tier,
            &counted.status,
            sign,
            sign * counted.monthly_minor,
            sign * i64::from(counted.unpriced)
        ],
    )?;
    Ok(())
}

/// All totals, as the statistics read them.
pub fn all(tx: &mut Tx<'_>) -> Result<Vec<Total>> {
    read(
        tx,
        "SELECT currency, tier, status, count, monthly_minor, unpriced FROM subscription_totals
         WHERE count <> 0 OR monthly_minor <> 0 OR unpriced <> 0 ORDER BY currency, tier, status",
    )
}

/// The same totals counted anew from the rows: for `doctor`.
pub fn recount(tx: &mut Tx<'_>) -> Result<Vec<Total>> {
    read(
        tx,
        "SELECT currency, tier, status, COUNT(*), CAST(SUM(monthly_minor) AS BIGINT), COUNT(fault) FROM subscriptions
         WHERE deleted = 0 GROUP BY currency, tier, status ORDER BY currency, tier, status",
    )
}

/// Replaces the totals by a recount.
pub fn rebuild(tx: &mut Tx<'_>) -> Result<()> {
    tx.run("DELETE FROM subscription_totals", args![])?;
    tx.run(
        "INSERT INTO subscription_totals (currency, tier, status, count, monthly_minor, unpriced)
         SELECT currency, tier, status, COUNT(*), CAST(SUM(monthly_minor) AS BIGINT), COUNT(fault) FROM subscriptions
         WHERE deleted = 0 GROUP BY currency, tier, status",
        args![],
    )?;
    tx.changed(Change::Totals);
    Ok(())
}

fn read(tx: &mut Tx<'_>, sql: &'static str) -> Result<Vec<Total>> {
    tx.rows(sql, args![])?
        .iter()
        .map(|row| {
            Ok(Total {
                currency: Currency::parse(&row.text(0)?).map_err(Error::internal)?,
                tier: row.text(1)?,
                status: Status::parse(&row.text(2)?),
                count: row.count(3)?,
                monthly_minor: row.int(4)?,
                unpriced: row.count(5)?,
            })
        })
        .collect()
}

/// Moves the number of objects of a resource.
pub fn count_objects(tx: &mut Tx<'_>, resource: &str, by: i64) -> Result<()> {
    if by == 0 {
        return Ok(());
    }
    tx.run(
        "INSERT INTO object_counts (resource, count) VALUES (?1, ?2)
         ON CONFLICT (resource) DO UPDATE SET count = object_counts.count + excluded.count",
        args![resource, by],
    )?;
    tx.changed(Change::Totals);
    Ok(())
}

/// How many objects of a resource the mirror holds.
pub fn mirrored(tx: &mut Tx<'_>, resource: Resource) -> Result<u64> {
    let row = tx.row("SELECT count FROM object_counts WHERE resource = ?1", args![resource.name()])?;
    row.map_or(Ok(0), |row| row.count(0))
}

/// How many objects of each resource the mirror holds.
pub fn objects(tx: &mut Tx<'_>) -> Result<BTreeMap<String, u64>> {
    tx.rows("SELECT resource, count FROM object_counts", args![])?
        .iter()
        .map(|row| Ok((row.text(0)?, row.count(1)?)))
        .collect()
}
