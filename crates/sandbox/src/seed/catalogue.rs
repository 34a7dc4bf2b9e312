//! What the seeded business sells: four tiers and an add-on.

use crate::calendar::DAY;
use crate::kind::Kind;
use crate::resources::{prices, products};
use crate::store::Store;
use serde_json::{Value, json};

/// Product, name, description, tier.
const PRODUCTS: [(&str, &str, &str, Option<&str>); 5] = [
    ("prod_trial", "Trial", "Fourteen days to look around", Some("trial")),
    ("prod_starter", "Starter", "For one person and a few models", Some("starter")),
    ("prod_professional", "Professional", "For people who work with it every day", Some("professional")),
    ("prod_enterprise", "Enterprise", "For teams, with everything included", Some("enterprise")),
    ("prod_addon_support", "Priority support", "An answer within four hours", None),
];

/// Price, product, currency, minor units, interval.
const PRICES: [(&str, &str, &str, i64, &str); 9] = [
    ("price_trial_monthly", "prod_trial", "usd", 0, "month"),
    ("price_starter_monthly", "prod_starter", "usd", 1_900, "month"),
    ("price_starter_yearly", "prod_starter", "usd", 22_800, "year"),
    ("price_professional_monthly", "prod_professional", "usd", 4_900, "month"),
    ("price_professional_yearly", "prod_professional", "usd", 58_800, "year"),
    ("price_professional_monthly_jpy", "prod_professional", "jpy", 7_000, "month"),
    ("price_enterprise_monthly", "prod_enterprise", "usd", 9_900, "month"),
    ("price_enterprise_yearly", "prod_enterprise", "usd", 118_800, "year"),
    ("price_addon_support_monthly", "prod_addon_support", "usd", 4_900, "month"),
];

/// How long before the sandbox was born the catalogue was written.
const AGE: i64 = 500 * DAY;

/// Stores the products and their prices.
pub(super) fn plant(store: &mut Store, born: i64) {
    for ((id, name, description, tier), place) in PRODUCTS.into_iter().zip(0..) {
        let mut product = products::object(id, name, born - AGE + place);
        product["description"] = json!(description);
        if let Some(tier) = tier {
            product["metadata"] = json!({"tier": tier});
        }
        let first = PRICES.iter().find(|(_, of, ..)| *of == id);
        product["default_price"] = json!(first.map(|(price, ..)| price));
        store.put(Kind::Product, product);
    }
    for ((id, product, currency, amount, interval), place) in PRICES.into_iter().zip(0..) {
        let mut price = prices::object(id, product, currency, Some(amount), Some(interval), born - AGE + 60 + place);
        price["nickname"] = json!(id.trim_start_matches("price_").replace('_', " "));
        price["lookup_key"] = json!(id.trim_start_matches("price_"));
        store.put(Kind::Price, price);
    }
}

/// A stored price.
pub(super) fn price(store: &Store, id: &str) -> Value {
    store.get(Kind::Price, id).map_or(Value::Null, |price| (*price).clone())
}

/// The name of a tier as people read it.
pub(super) fn tier_name(tier: &str) -> &'static str {
    PRODUCTS.iter().find(|(.., known)| *known == Some(tier)).map_or("Subscription", |(_, name, ..)| name)
}
