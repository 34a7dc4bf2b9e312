//! What subscriptions are made of: products, prices and coupons.

use std::collections::BTreeMap;

use super::db::args;
use super::mirror::Seen;
use super::{Tx, customers};
use crate::error::Result;

/// A mirrored product; its metadata may name the tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    pub id: String,
    pub name: Option<String>,
    pub metadata: BTreeMap<String, String>,
}

pub fn save_product(tx: &mut Tx<'_>, seen: Seen<'_>, product: &Product) -> Result<()> {
    seen.keep(tx)?;
    tx.run(
        "INSERT INTO products (id, name, metadata, deleted, run, fingerprint) VALUES (?1, ?2, ?3, 0, ?4, ?5)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, metadata = excluded.metadata, deleted = 0,
             run = excluded.run, fingerprint = excluded.fingerprint",
        args![&product.id, &product.name, customers::metadata_text(&product.metadata), seen.run, seen.fingerprint()],
    )?;
    Ok(())
}

pub fn save_price(tx: &mut Tx<'_>, seen: Seen<'_>, product: Option<&str>) -> Result<()> {
    seen.keep(tx)?;
    tx.run(
        "INSERT INTO prices (id, product, deleted, run, fingerprint) VALUES (?1, ?2, 0, ?3, ?4)
         ON CONFLICT (id) DO UPDATE SET product = excluded.product, deleted = 0, run = excluded.run,
             fingerprint = excluded.fingerprint",
        args![seen.id, product, seen.run, seen.fingerprint()],
    )?;
    Ok(())
}

pub fn save_coupon(tx: &mut Tx<'_>, seen: Seen<'_>) -> Result<()> {
    seen.keep(tx)?;
    tx.run(
        "INSERT INTO coupons (id, deleted, run, fingerprint) VALUES (?1, 0, ?2, ?3)
         ON CONFLICT (id) DO UPDATE SET deleted = 0, run = excluded.run, fingerprint = excluded.fingerprint",
        args![seen.id, seen.run, seen.fingerprint()],
    )?;
    Ok(())
}

pub fn product_metadata(tx: &mut Tx<'_>, id: &str) -> Result<Option<BTreeMap<String, String>>> {
    tx.row("SELECT metadata FROM products WHERE id = ?1", args![id])?
        .map(|row| customers::metadata(&row.text(0)?))
        .transpose()
}

/// Subscriptions that are made of this product, price or coupon, in the order of ids.
pub fn subscriptions_with(tx: &mut Tx<'_>, part: &str, after: &str, limit: i64) -> Result<Vec<String>> {
    tx.rows(
        "SELECT subscription FROM subscription_parts WHERE part = ?1 AND subscription > ?2 ORDER BY subscription LIMIT ?3",
        args![part, after, limit],
    )?
    .iter()
    .map(|row| row.text(0))
    .collect()
}

/// Remembers that a part changed, where any subscription is made of it.
pub fn mark_stale(tx: &mut Tx<'_>, part: &str) -> Result<()> {
    tx.run(
        "INSERT INTO stale_parts (part) SELECT DISTINCT part FROM subscription_parts WHERE part = ?1 ON CONFLICT DO NOTHING",
        args![part],
    )?;
    Ok(())
}

/// A part whose subscriptions are to be derived anew.
pub fn next_stale(tx: &mut Tx<'_>) -> Result<Option<String>> {
    tx.row("SELECT part FROM stale_parts ORDER BY part LIMIT 1", args![])?.map(|row| row.text(0)).transpose()
}

pub fn unmark_stale(tx: &mut Tx<'_>, part: &str) -> Result<()> {
    tx.run("DELETE FROM stale_parts WHERE part = ?1", args![part])?;
    Ok(())
}
