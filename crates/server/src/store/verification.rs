//! The comparison of the mirror with Stripe: the columns of each mirrored row, where the comparison goes on, and which
//! objects it has met.

use jiff::Timestamp;

use super::Tx;
use super::db::{Arg, args};
use super::mirror::Resource;
use crate::error::{Error, Result};

/// What is compared of a list's rows.
struct Table {
    columns: &'static [&'static str],
    row: &'static str,
    /// Makes the next write of the object write all of it.
    loosen: &'static str,
    unmet: &'static str,
}

macro_rules! table {
    ($name:literal: $($column:literal),+) => {
        table!($name where "": $($column),+)
    };
    ($name:literal where $more:literal: $($column:literal),+) => {
        Table {
            columns: &[$($column),+],
            row: concat!("SELECT id", $(", ", $column),+, " FROM ", $name, " WHERE id = ?1"),
            loosen: concat!("UPDATE ", $name, " SET fingerprint = fingerprint + 1 WHERE id = ?1"),
            unmet: concat!(
                "SELECT id FROM ", $name, " AS met WHERE deleted = 0 AND id > ?2 ", $more,
                "AND NOT EXISTS (SELECT 1 FROM verification_seen AS seen WHERE seen.run = ?1 AND seen.id = met.id) ",
                "ORDER BY id LIMIT ?3"
            ),
        }
    };
}

const COUPONS: Table = table!("coupons": "deleted");
const PRODUCTS: Table = table!("products": "deleted", "name", "metadata");
const PRICES: Table = table!("prices": "deleted", "product");
const CUSTOMERS: Table = table!("customers": "deleted", "email", "name", "created", "metadata");
const SUBSCRIPTIONS: Table = table!(
    "subscriptions": "deleted", "customer", "status", "ended", "tier", "currency", "amount_minor", "interval_unit",
    "interval_count", "monthly_minor", "value_until", "period_start", "period_end", "anchor", "cancel_at_period_end",
    "created", "fault"
);
const INVOICES: Table = table!(
    "invoices": "deleted", "customer", "subscription", "number", "status", "currency", "amount_due", "amount_paid",
    "created", "due_date", "paid", "invoice_pdf", "hosted_invoice_url"
);
const CHARGES: Table = table!(
    "charges": "deleted", "customer", "amount", "amount_refunded", "currency", "status", "description", "created",
    "paid", "refunded"
);
const REFUNDS: Table = table!("refunds": "deleted", "charge", "amount", "currency", "status", "created");
// A detached payment method stands in no list.
const PAYMENT_METHODS: Table = table!(
    "payment_methods" where "AND customer IS NOT NULL ": "deleted", "customer", "kind", "brand", "last4", "exp_month",
    "exp_year", "created"
);

const fn table(resource: Resource) -> &'static Table {
    match resource {
        Resource::Coupons => &COUPONS,
        Resource::Products => &PRODUCTS,
        Resource::Prices => &PRICES,
        Resource::Customers => &CUSTOMERS,
        Resource::Subscriptions => &SUBSCRIPTIONS,
        Resource::Invoices => &INVOICES,
        Resource::Charges => &CHARGES,
        Resource::Refunds => &REFUNDS,
        Resource::PaymentMethods => &PAYMENT_METHODS,
    }
}

/// A column and its value as text.
pub type Cell = (&'static str, Option<String>);

/// The columns of a mirrored row with their values as text; nothing where there is no row.
pub fn row(tx: &mut Tx<'_>, resource: Resource, id: &str) -> Result<Option<Vec<Cell>>> {
    let table = table(resource);
    let Some(row) = tx.row(table.row, args![id])? else { return Ok(None) };
    let cells = table.columns.iter().zip(1..).map(|(name, column)| {
        let cell = row.text_or_null(column).or_else(|_| Ok(row.int_or_null(column)?.map(|number| number.to_string())));
        cell.map(|cell| (*name, cell))
    });
    cells.collect::<Result<_>>().map(Some)
}

/// Makes the next write of an object write its whole row, whatever the row says of itself.
pub fn loosen(tx: &mut Tx<'_>, resource: Resource, id: &str) -> Result<()> {
    tx.run(table(resource).loosen, args![id])?;
    Ok(())
}

/// Remembers that a comparison has met these objects.
pub fn meet(tx: &mut Tx<'_>, run: &str, ids: &[String]) -> Result<()> {
    tx.many("INSERT INTO verification_seen (run, id) VALUES (?1, ?2) ON CONFLICT DO NOTHING", |once| {
        ids.iter().try_for_each(|id| once(&[Arg::Text(run), Arg::Text(id)]).map(drop))
    })
}

/// Mirrored objects that a comparison has not met, in the order of ids.
pub fn unmet(tx: &mut Tx<'_>, resource: Resource, run: &str, after: &str, limit: i64) -> Result<Vec<String>> {
    tx.rows(table(resource).unmet, args![run, after, limit])?.iter().map(|row| row.text(0)).collect()
}

/// Forgets what comparisons have met: this one has ended, and no other can be gone on with.
pub fn forget_met(tx: &mut Tx<'_>) -> Result<()> {
    tx.run("DELETE FROM verification_seen", args![])?;
    Ok(())
}

/// How the continuous comparison stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Where it goes on: after this object.
    pub resource: Resource,
    pub cursor: String,
    /// Objects compared so far, and how many were different.
    pub compared: u64,
    pub different: u64,
    pub compared_at: Option<Timestamp>,
    pub different_at: Option<Timestamp>,
    /// The last object that was different, with its fields.
    pub last_difference: Option<String>,
    /// Why the last try came to nothing.
    pub fault: Option<String>,
}

pub fn progress(tx: &mut Tx<'_>) -> Result<Progress> {
    let row = tx.row(
        "SELECT resource, cursor, compared, different, compared_at, different_at, last_difference, fault
         FROM verification WHERE one = 1",
        args![],
    )?;
    let row = row.ok_or_else(|| Error::internal("verification is empty"))?;
    let name = row.text(0)?;
    let resource = Resource::ALL.into_iter().find(|resource| resource.name() == name);
    Ok(Progress {
        resource: resource.ok_or_else(|| Error::internal(format!("impossible row: no list is called {name}")))?,
        cursor: row.text(1)?,
        compared: row.count(2)?,
        different: row.count(3)?,
        compared_at: row.instant_or_null(4)?,
        different_at: row.instant_or_null(5)?,
        last_difference: row.text_or_null(6)?,
        fault: row.text_or_null(7)?,
    })
}

pub fn save_progress(tx: &mut Tx<'_>, progress: &Progress) -> Result<()> {
    tx.run(
        "UPDATE verification SET resource = ?1, cursor = ?2, compared = ?3, different = ?4, compared_at = ?5,
             different_at = ?6, last_difference = ?7, fault = ?8 WHERE one = 1",
        args![
            progress.resource.name(),
            &progress.cursor,
            i64::try_from(progress.compared).unwrap_or(i64::MAX),
            i64::try_from(progress.different).unwrap_or(i64::MAX),
            progress.compared_at,
            progress.different_at,
            &progress.last_difference,
            &progress.fault
        ],
    )?;
    Ok(())
}
