//! Mirrored refunds.

use jiff::Timestamp;

use super::Tx;
use super::db::args;
use super::mirror::Seen;
use crate::error::Result;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    pub id: String,
    pub charge: Option<String>,
    pub amount: Option<i64>,
    pub currency: Option<String>,
    pub status: Option<String>,
    pub created: Timestamp,
}

pub fn save(tx: &mut Tx<'_>, seen: Seen<'_>, new: &Refund) -> Result<()> {
    seen.keep(tx)?;
    tx.run(
        "INSERT INTO refunds (id, charge, amount, currency, status, created, deleted, run, fingerprint)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?7, ?8)
         ON CONFLICT (id) DO UPDATE SET charge = excluded.charge, amount = excluded.amount, currency = excluded.currency,
             status = excluded.status, created = excluded.created, deleted = 0, run = excluded.run,
             fingerprint = excluded.fingerprint",
        args![
            &new.id,
            &new.charge,
            new.amount,
            &new.currency,
            &new.status,
            new.created,
            seen.run,
            seen.fingerprint()
        ],
    )?;
    Ok(())
}
