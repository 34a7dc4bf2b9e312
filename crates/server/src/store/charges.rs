//! Mirrored charges.

use jiff::Timestamp;

use super::db::{Row, args};
use super::mirror::Seen;
use super::{After, Change, Tx};
use crate::error::Result;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    pub id: String,
    pub customer: Option<String>,
    pub amount: Option<i64>,
    pub amount_refunded: Option<i64>,
    pub currency: Option<String>,
    pub status: Option<String>,
    pub description: Option<String>,
    pub created: Timestamp,
    pub paid: bool,
    pub refunded: bool,
}

pub fn save(tx: &mut Tx<'_>, seen: Seen<'_>, new: &Charge) -> Result<()> {
    seen.keep(tx)?;
    tx.run(
        "INSERT INTO charges (id, customer, amount, amount_refunded, currency, status, description, created, paid,
             refunded, deleted, run, fingerprint)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 0, ?11, ?12)
         ON CONFLICT (id) DO UPDATE SET customer = excluded.customer, amount = excluded.amount,
             amount_refunded = excluded.amount_refunded, currency = excluded.currency, status = excluded.status,
             description = excluded.description, created = excluded.created, paid = excluded.paid,
             refunded = excluded.refunded, deleted = 0, run = excluded.run, fingerprint = excluded.fingerprint",
        args![
            &new.id,
            &new.customer,
            new.amount,
            new.amount_refunded,
            &new.currency,
            &new.status,
            &new.description,
            new.created,
            new.paid,
            new.refunded,
            seen.run,
            seen.fingerprint()
        ],
    )?;
    tx.changed(Change::Totals);
    Ok(())
}

/// A page, newest first.
pub fn page(tx: &mut Tx<'_>, after: &After, limit: i64) -> Result<Vec<Charge>> {
    tx.rows(
        "SELECT id, customer, amount, amount_refunded, currency, status, description, created, paid, refunded
         FROM charges WHERE deleted = 0 AND (created, id) < (?1, ?2) ORDER BY created DESC, id DESC LIMIT ?3",
        args![after.created, &after.id, limit],
    )?
    .iter()
    .map(charge)
    .collect()
}

fn charge(row: &Row) -> Result<Charge> {
    Ok(Charge {
        id: row.text(0)?,
        customer: row.text_or_null(1)?,
        amount: row.int_or_null(2)?,
        amount_refunded: row.int_or_null(3)?,
        currency: row.text_or_null(4)?,
        status: row.text_or_null(5)?,
        description: row.text_or_null(6)?,
        created: row.instant(7)?,
        paid: row.flag(8)?,
        refunded: row.flag(9)?,
    })
}
