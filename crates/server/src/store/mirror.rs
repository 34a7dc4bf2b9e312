//! What every mirrored object has in common: the raw text, the run that saw it, and how it disappears.

use super::db::args;
use super::{Change, Tx, totals};
use crate::error::Result;

/// A list of Stripe's that the mirror keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    Coupons,
    Products,
    Prices,
    Customers,
    Subscriptions,
    Invoices,
    Charges,
    Refunds,
    PaymentMethods,
}

impl Resource {
    /// In the order of the full sync: what subscriptions are made of comes before them.
    pub const ALL: [Self; 9] = [
        Self::Coupons,
        Self::Products,
        Self::Prices,
        Self::Customers,
        Self::Subscriptions,
        Self::Invoices,
        Self::Charges,
        Self::Refunds,
        Self::PaymentMethods,
    ];

    pub const fn name(self) -> &'static str {
        self.sql().name
    }

    const fn sql(self) -> &'static Statements {
        match self {
            Self::Coupons => &COUPONS,
            Self::Products => &PRODUCTS,
            Self::Prices => &PRICES,
            Self::Customers => &CUSTOMERS,
            Self::Subscriptions => &SUBSCRIPTIONS,
            Self::Invoices => &INVOICES,
            Self::Charges => &CHARGES,
            Self::Refunds => &REFUNDS,
            Self::PaymentMethods => &PAYMENT_METHODS,
        }
    }
}

/// The same statements for each table, written once.
struct Statements {
    name: &'static str,
    touch: &'static str,
    exists: &'static str,
    unseen: &'static str,
    delete: &'static str,
    count: &'static str,
    /// Whose object it is, where that is shown to them.
    owner: Option<&'static str>,
}

macro_rules! statements {
    ($name:ident, $table:literal) => {
        statements!($name, $table, None);
    };
    ($name:ident, $table:literal, owned) => {
        statements!($name, $table, Some(concat!("SELECT customer FROM ", $table, " WHERE id = ?1 AND deleted = 0")));
    };
    ($name:ident, $table:literal, $owner:expr) => {
        const $name: Statements = Statements {
            name: $table,
            touch: concat!("UPDATE ", $table, " SET run = ?3 WHERE id = ?1 AND fingerprint = ?2 AND deleted = 0"),
            exists: concat!("SELECT deleted FROM ", $table, " WHERE id = ?1"),
            unseen: concat!(
                "SELECT id FROM ",
                $table,
                " WHERE deleted = 0 AND run < ?1 AND id > ?2 ORDER BY id LIMIT ?3"
            ),
            delete: concat!("UPDATE ", $table, " SET deleted = 1 WHERE id = ?1 AND deleted = 0"),
            count: concat!("SELECT COUNT(*) FROM ", $table, " WHERE deleted = 0"),
            owner: $owner,
        };
    };
}

statements!(COUPONS, "coupons");
statements!(PRODUCTS, "products");
statements!(PRICES, "prices");
statements!(CUSTOMERS, "customers");
statements!(SUBSCRIPTIONS, "subscriptions", owned);
statements!(INVOICES, "invoices", owned);
statements!(CHARGES, "charges");
statements!(REFUNDS, "refunds");
statements!(PAYMENT_METHODS, "payment_methods", owned);

/// An object as it came from Stripe, in one of our runs.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    pub resource: Resource,
    pub id: &'a str,
    pub raw: &'a str,
    pub run: i64,
}

impl Seen<'_> {
    /// A hash of the text: the same text need not be written again.
    pub fn fingerprint(&self) -> i64 {
        let digest = ring::digest::digest(&ring::digest::SHA256, self.raw.as_bytes());
        let mut first = [0_u8; 8];
        first.copy_from_slice(&digest.as_ref()[..8]);
        i64::from_be_bytes(first)
    }

    /// Marks the object as seen; `true` when it is mirrored with this very text, and nothing is left to do.
    pub fn unchanged(&self, tx: &mut Tx<'_>) -> Result<bool> {
        Ok(tx.run(self.resource.sql().touch, args![self.id, self.fingerprint(), self.run])? == 1)
    }

    /// Keeps the raw text and counts the object, if it is new. Called before the object's own row is written, and tells
    /// whoever it belonged to until now: it may have left them.
    pub fn keep(&self, tx: &mut Tx<'_>) -> Result<()> {
        tell_owner(tx, self.resource, self.id)?;
        let before = tx.row(self.resource.sql().exists, args![self.id])?.map(|row| row.flag(0)).transpose()?;
        if before != Some(false) {
            totals::count_objects(tx, self.resource.name(), 1)?;
        }
        tx.run(
            "INSERT INTO raw_objects (resource, id, raw) VALUES (?1, ?2, ?3)
             ON CONFLICT (resource, id) DO UPDATE SET raw = excluded.raw",
            args![self.resource.name(), self.id, self.raw],
        )?;
        Ok(())
    }
}

/// Says that something of its owner's changes.
fn tell_owner(tx: &mut Tx<'_>, resource: Resource, id: &str) -> Result<()> {
    let Some(sql) = resource.sql().owner else { return Ok(()) };
    let owner = tx.row(sql, args![id])?.map(|row| row.text_or_null(0)).transpose()?.flatten();
    if let Some(owner) = owner {
        super::plans::mark_customer(tx, &owner)?;
        tx.changed(Change::Customer(owner));
    }
    Ok(())
}

/// The raw text of a mirrored object.
pub fn raw(tx: &mut Tx<'_>, resource: Resource, id: &str) -> Result<Option<String>> {
    let sql = "SELECT raw FROM raw_objects WHERE resource = ?1 AND id = ?2";
    tx.row(sql, args![resource.name(), id])?.map(|row| row.text(0)).transpose()
}

/// Whether an object is mirrored and not deleted.
pub fn is_there(tx: &mut Tx<'_>, resource: Resource, id: &str) -> Result<bool> {
    Ok(tx.row(resource.sql().exists, args![id])?.map(|row| row.flag(0)).transpose()? == Some(false))
}

/// Objects that runs before `run` saw and this one did not, after `after` in the order of ids.
pub fn unseen(tx: &mut Tx<'_>, resource: Resource, run: i64, after: &str, limit: i64) -> Result<Vec<String>> {
    tx.rows(resource.sql().unseen, args![run, after, limit])?.iter().map(|row| row.text(0)).collect()
}

/// Marks an object as deleted at Stripe; whether it was there. Subscriptions have their own way, with totals.
pub fn delete(tx: &mut Tx<'_>, resource: Resource, id: &str) -> Result<bool> {
    tell_owner(tx, resource, id)?;
    let deleted = tx.run(resource.sql().delete, args![id])? == 1;
    if deleted {
        totals::count_objects(tx, resource.name(), -1)?;
    }
    Ok(deleted)
}

/// Counts the objects anew: for `doctor`.
pub fn recount(tx: &mut Tx<'_>, resource: Resource) -> Result<u64> {
    tx.row(resource.sql().count, args![])?.map_or(Ok(0), |row| row.count(0))
}
