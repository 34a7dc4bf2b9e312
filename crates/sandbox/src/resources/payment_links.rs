//! Payment links: an address that can be given to anybody, and that opens a new checkout page for each who comes.

use super::checkout_rows::{self as rows, Terms};
use super::{Answer, Call, Reply, changed, checkout_sessions, find, plain};
use crate::error::StripeError;
use crate::kind::Kind;
use crate::params::{Field, Params, Spec, opt, req};
use crate::world::World;
use serde_json::{Value, json};
use std::sync::Arc;

const HOSTED: &[Field] = &[opt("custom_message", Spec::Text)];
const REDIRECT: &[Field] = &[req("url", Spec::Text)];
const AFTER: &[Field] = &[
    req("type", Spec::OneOf(&["hosted_confirmation", "redirect"])),
    opt("hosted_confirmation", Spec::Hash(HOSTED)),
    opt("redirect", Spec::Hash(REDIRECT)),
];
const ENABLED: &[Field] = &[req("enabled", Spec::Bool)];
const COMMON: &[Field] = &[
    opt("after_completion", Spec::Hash(AFTER)),
    opt("allow_promotion_codes", Spec::Bool),
    opt("automatic_tax", Spec::Unsupported),
    opt("billing_address_collection", Spec::OneOf(&["auto", "required"])),
    opt("custom_fields", Spec::Unsupported),
    opt("custom_text", Spec::Unsupported),
    opt("customer_creation", Spec::OneOf(&["always", "if_required"])),
    opt("inactive_message", Spec::Clearable),
    opt("invoice_creation", Spec::Unsupported),
    opt("metadata", Spec::Metadata),
    opt("payment_intent_data", Spec::Unsupported),
    opt("payment_method_collection", Spec::OneOf(&["always", "if_required"])),
    opt("payment_method_types", Spec::List(&Spec::Text)),
    opt("phone_number_collection", Spec::Hash(ENABLED)),
    opt("restrictions", Spec::Unsupported),
    opt("shipping_address_collection", Spec::Unsupported),
    opt("submit_type", Spec::OneOf(&["auto", "book", "donate", "pay", "subscribe"])),
    opt("subscription_data", Spec::Unsupported),
    opt("tax_id_collection", Spec::Hash(ENABLED)),
];
pub(crate) const CREATE: &[&[Field]] = &[
    COMMON,
    &[
        req("line_items", Spec::List(&Spec::Hash(rows::ITEM))),
        opt("application_fee_amount", Spec::Unsupported),
        opt("application_fee_percent", Spec::Unsupported),
        opt("consent_collection", Spec::Unsupported),
        opt("currency", Spec::Text),
        opt("on_behalf_of", Spec::Unsupported),
        opt("optional_items", Spec::Unsupported),
        opt("shipping_options", Spec::Unsupported),
        opt("transfer_data", Spec::Unsupported),
    ],
];
pub(crate) const UPDATE: &[&[Field]] = &[COMMON, &[opt("active", Spec::Bool), opt("line_items", Spec::Unsupported)]];
pub(crate) const LIST: &[Field] = &[opt("active", Spec::Bool)];

pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    let rows = rows::of(world, sent, &Terms { mode: "link", exempt: None, default_rates: &Value::Null })?;
    let id = world.id("plink");
    let url = format!("{}/_sandbox/pages/link/{id}", world.base);
    let mut link = json!({
        "id": id, "object": "payment_link", "active": true,
        "after_completion": {"hosted_confirmation": {"custom_message": null}, "type": "hosted_confirmation"},
        "allow_promotion_codes": false, "application": null, "application_fee_amount": null,
        "application_fee_percent": null, "automatic_tax": {"enabled": false, "liability": null},
        "billing_address_collection": "auto", "consent_collection": null,
        "currency": rows.first().map(|row| &row["currency"]), "custom_fields": [],
        "custom_text":
            {"after_submit": null, "shipping_address": null, "submit": null, "terms_of_service_acceptance": null},
        "customer_creation": "if_required", "inactive_message": null, "invoice_creation": null, "livemode": false,
        "managed_payments": null, "metadata": {}, "name_collection": null, "on_behalf_of": null, "optional_items": null,
        "payment_intent_data": null, "payment_method_collection": "always", "payment_method_options": null,
        "payment_method_types": null, "phone_number_collection": {"enabled": false}, "restrictions": null,
        "shipping_address_collection": null, "shipping_options": [], "submit_type": "auto",
        "subscription_data": null, "tax_id_collection": {"enabled": false, "required": "never"}, "transfer_data": null,
        "url": url
    });
    plain::write(&mut link, sent);
    world.store.put(Kind::Secret, json!({"id": id, "created": world.now, "secret": null, "rows": rows}));
    changed(world, Kind::PaymentLink, link)
}

pub(crate) fn line_items(world: &World, call: &Call<'_>) -> Answer {
    rows::page(world, call, Kind::PaymentLink)
}

/// Somebody has come by the link: the checkout page that is theirs.
pub(crate) fn visited(world: &mut World, id: &str) -> Result<Arc<Value>, StripeError> {
    let link = find(&world.store, Kind::PaymentLink, id)?;
    if link["active"] != true {
        let text = link["inactive_message"].as_str().unwrap_or("This link is no longer active.");
        return Err(StripeError { status: 410, ..StripeError::invalid(text) });
    }
    let kept = rows::kept(&world.store, id);
    let again = crate::world::array(&kept["rows"]).iter().any(|row| row["price"]["type"] == "recurring");
    let after = link["after_completion"]["redirect"]["url"].as_str();
    let asked = json!({
        "line_items": rows::again(&kept["rows"]), "mode": if again { "subscription" } else { "payment" },
        "success_url": after.unwrap_or("https://example.com"), "metadata": link["metadata"],
        "allow_promotion_codes": link["allow_promotion_codes"]
    });
    let call = Call::ours("checkout.session", Vec::new(), Params::over(&asked))?;
    let Reply::One(session) = checkout_sessions::create(world, &call)? else {
        return Err(StripeError::not_found("checkout.session", id, "id"));
    };
    let mut session = (*session).clone();
    session["payment_link"] = json!(id);
    Ok(world.store.put(Kind::CheckoutSession, session))
}
