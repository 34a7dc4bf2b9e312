//! Mirrored invoices.

use jiff::Timestamp;

use super::db::{Row, args};
use super::mirror::Seen;
use super::{After, Change, Tx};
use crate::error::Result;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoice {
    pub id: String,
    pub customer: Option<String>,
    pub subscription: Option<String>,
    pub number: Option<String>,
    pub status: Option<String>,
    pub currency: Option<String>,
    pub amount_due: Option<i64>,
    pub amount_paid: Option<i64>,
    pub created: Timestamp,
    pub due_date: Option<Timestamp>,
    pub paid: bool,
    pub invoice_pdf: Option<String>,
    pub hosted_invoice_url: Option<String>,
}

pub fn save(tx: &mut Tx<'_>, seen: Seen<'_>, new: &Invoice) -> Result<()> {
    seen.keep(tx)?;
    tx.run(
        "INSERT INTO invoices (id, customer, subscription, number, status, currency, amount_due, amount_paid, created,
             due_date, paid, invoice_pdf, hosted_invoice_url, deleted, run, fingerprint)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, 0, ?14, ?15)
         ON CONFLICT (id) DO UPDATE SET customer = excluded.customer, subscription = excluded.subscription,
             number = excluded.number, status = excluded.status, currency = excluded.currency,
             amount_due = excluded.amount_due, amount_paid = excluded.amount_paid, created = excluded.created,
             due_date = excluded.due_date, paid = excluded.paid, invoice_pdf = excluded.invoice_pdf,
             hosted_invoice_url = excluded.hosted_invoice_url, deleted = 0, run = excluded.run,
             fingerprint = excluded.fingerprint",
        args![
            &new.id,
            &new.customer,
            &new.subscription,
            &new.number,
            &new.status,
            &new.currency,
            new.amount_due,
            new.amount_paid,
            new.created,
            new.due_date,
            new.paid,
            &new.invoice_pdf,
            &new.hosted_invoice_url,
            seen.run,
            seen.fingerprint()
        ],
    )?;
    if let Some(customer) = &new.customer {
        tx.changed(Change::Customer(customer.clone()));
    }
    Ok(())
}

/// The newest invoices of a customer.
pub fn of_customer(tx: &mut Tx<'_>, customer: &str, after: &After, limit: i64) -> Result<Vec<Invoice>> {
    tx.rows(
        "SELECT id, customer, subscription, number, status, currency, amount_due, amount_paid, created, due_date, paid,
             invoice_pdf, hosted_invoice_url
         FROM invoices WHERE customer = ?1 AND deleted = 0 AND (created, id) < (?2, ?3)
         ORDER BY created DESC, id DESC LIMIT ?4",
        args![customer, after.created, &after.id, limit],
    )?
    .iter()
    .map(invoice)
    .collect()
}

fn invoice(row: &Row) -> Result<Invoice> {
    Ok(Invoice {
        id: row.text(0)?,
        customer: row.text_or_null(1)?,
        subscription: row.text_or_null(2)?,
        number: row.text_or_null(3)?,
        status: row.text_or_null(4)?,
        currency: row.text_or_null(5)?,
        amount_due: row.int_or_null(6)?,
        amount_paid: row.int_or_null(7)?,
        created: row.instant(8)?,
        due_date: row.instant_or_null(9)?,
        paid: row.flag(10)?,
        invoice_pdf: row.text_or_null(11)?,
        hosted_invoice_url: row.text_or_null(12)?,
    })
}
