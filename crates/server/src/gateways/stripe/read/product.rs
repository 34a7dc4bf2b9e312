//! A product: what is sold, as opposed to for how much.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{ReadError, fields, parse};

/// A product, or what is left of a deleted one.
#[derive(Clone, Debug)]
pub struct Product {
    pub id: String,
    pub name: Option<String>,
    pub description: Option<String>,
    pub active: Option<bool>,
    pub default_price: Option<String>,
    pub created: Option<Timestamp>,
    pub metadata: BTreeMap<String, String>,
    pub livemode: Option<bool>,
    pub deleted: bool,
}

/// Reads a product.
///
/// # Errors
/// When there is no id.
pub fn product(raw: &str) -> Result<Product, ReadError> {
    let (id, value) = parse(raw)?;
    Ok(Product {
        id,
        name: fields::text(&value["name"]),
        description: fields::text(&value["description"]),
        active: value["active"].as_bool(),
        default_price: fields::reference(&value["default_price"]),
        created: fields::instant(&value["created"]),
        metadata: fields::metadata(&value["metadata"]),
        livemode: value["livemode"].as_bool(),
        deleted: fields::flag(&value["deleted"]),
    })
}
