//! Mirrored payment methods.

use jiff::Timestamp;

use super::db::args;
use super::mirror::Seen;
use super::{Change, Tx};
use crate::error::Result;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentMethod {
    pub id: String,
    pub customer: Option<String>,
    /// Stripe's type: `card`, `us_bank_account`, `sepa_debit`, …
    pub kind: String,
    pub card: Option<Card>,
    pub created: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    pub brand: Option<String>,
    pub last4: Option<String>,
    pub exp_month: Option<i64>,
    pub exp_year: Option<i64>,
}

pub fn save(tx: &mut Tx<'_>, seen: Seen<'_>, new: &PaymentMethod) -> Result<()> {
    seen.keep(tx)?;
    let card = new.card.as_ref();
    tx.run(
        "INSERT INTO payment_methods (id, customer, kind, brand, last4, exp_month, exp_year, created, deleted, run, fingerprint)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, ?9, ?10)
         ON CONFLICT (id) DO UPDATE SET customer = excluded.customer, kind = excluded.kind, brand = excluded.brand,
             last4 = excluded.last4, exp_month = excluded.exp_month, exp_year = excluded.exp_year,
             created = excluded.created, deleted = 0, run = excluded.run, fingerprint = excluded.fingerprint",
        args![
            &new.id,
            &new.customer,
            &new.kind,
            card.and_then(|card| card.brand.clone()),
            card.and_then(|card| card.last4.clone()),
            card.and_then(|card| card.exp_month),
            card.and_then(|card| card.exp_year),
            new.created,
            seen.run,
            seen.fingerprint()
        ],
    )?;
    if let Some(customer) = &new.customer {
        tx.changed(Change::Customer(customer.clone()));
    }
    Ok(())
}

/// Every payment method of a customer, newest first.
pub fn of_customer(tx: &mut Tx<'_>, customer: &str) -> Result<Vec<PaymentMethod>> {
    tx.rows(
        "SELECT id, customer, kind, brand, last4, exp_month, exp_year, created FROM payment_methods
         WHERE customer = ?1 AND deleted = 0 ORDER BY created DESC, id DESC",
        args![customer],
    )?
    .iter()
    .map(|row| {
        let kind = row.text(2)?;
        let card = Card {
            brand: row.text_or_null(3)?,
            last4: row.text_or_null(4)?,
            exp_month: row.int_or_null(5)?,
            exp_year: row.int_or_null(6)?,
        };
        Ok(PaymentMethod {
            id: row.text(0)?,
            customer: row.text_or_null(1)?,
            card: (kind == "card").then_some(card),
            kind,
            created: row.instant(7)?,
        })
    })
    .collect()
}
