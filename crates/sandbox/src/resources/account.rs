//! The account that the key belongs to, and those that are connected to it.

use super::{Answer, Call, Reply, changed, deleted, plain};
use crate::error::StripeError;
use crate::kind::Kind;
use crate::params::{Field, Spec, opt};
use crate::world::World;
use serde_json::{Value, json};
use std::sync::Arc;

/// The id of the one account that there is.
pub(crate) const ID: &str = "acct_sandbox";

const PROFILE: &[Field] = &[
    opt("mcc", Spec::Text),
    opt("name", Spec::Text),
    opt("product_description", Spec::Text),
    opt("support_email", Spec::Email),
    opt("support_phone", Spec::Text),
    opt("support_url", Spec::Text),
    opt("url", Spec::Text),
];
const COMMON: &[Field] = &[
    opt("business_profile", Spec::Hash(PROFILE)),
    opt("business_type", Spec::OneOf(&["company", "government_entity", "individual", "non_profit"])),
    opt("capabilities", Spec::Unsupported),
    opt("company", Spec::Unsupported),
    opt("default_currency", Spec::Text),
    opt("email", Spec::Email),
    opt("external_account", Spec::Unsupported),
    opt("individual", Spec::Unsupported),
    opt("metadata", Spec::Metadata),
    opt("settings", Spec::Unsupported),
    opt("tos_acceptance", Spec::Unsupported),
];
pub(crate) const CREATE: &[&[Field]] = &[
    COMMON,
    &[
        opt("controller", Spec::Unsupported),
        opt("country", Spec::Text),
        opt("type", Spec::OneOf(&["custom", "express", "standard"])),
    ],
];
pub(crate) const UPDATE: &[&[Field]] = &[COMMON];

#[allow(clippy::unnecessary_wraps, reason = "every handler has this form; the router holds them in one table")]
pub(crate) fn own(world: &World, _call: &Call<'_>) -> Answer {
    Ok(Reply::One(Arc::new(object(world.born()))))
}

pub(crate) fn one(world: &World, call: &Call<'_>) -> Answer {
    if call.id() == ID {
        return own(world, call);
    }
    connected(world, call.id()).map(Reply::One)
}

/// Who asks for an account that is not connected is told no more than that.
fn connected(world: &World, id: &str) -> Result<Arc<Value>, StripeError> {
    world.store.get(Kind::Account, id).ok_or_else(|| {
        let text = format!(
            "The provided key does not have access to account '{id}' (or that account does not exist). Application access \
             may have been revoked."
        );
        StripeError { status: 403, ..StripeError::invalid(text).code("account_invalid") }
    })
}

/// A connected account: of its own, with everything still to be said about it.
pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let id = format!("acct_{}", world.id("").trim_start_matches('_'));
    let mut account = object(world.now);
    let asked = ["business_profile.url", "external_account", "tos_acceptance.date", "tos_acceptance.ip"];
    super::add(
        &mut account,
        json!({
            "id": id, "business_type": null, "capabilities": {}, "charges_enabled": false, "details_submitted": false,
            "email": null, "payouts_enabled": false, "type": "standard"
        }),
    );
    account["business_profile"]["name"] = Value::Null;
    account["controller"] = json!({"is_controller": true, "type": "application"});
    account["external_accounts"]["url"] = json!(format!("/v1/accounts/{id}/external_accounts"));
    account["requirements"]["currently_due"] = json!(asked);
    account["requirements"]["eventually_due"] = json!(asked);
    account["requirements"]["disabled_reason"] = json!("requirements.past_due");
    plain::write(&mut account, &call.params);
    changed(world, Kind::Account, account)
}

pub(crate) fn update(world: &mut World, call: &Call<'_>) -> Answer {
    let mut account = (*connected(world, call.id())?).clone();
    plain::write(&mut account, &call.params);
    changed(world, Kind::Account, account)
}

/// An account that is gone does not let us in any more, and that is what is told.
pub(crate) fn delete(world: &mut World, call: &Call<'_>) -> Answer {
    let account = connected(world, call.id())?;
    world.store.delete(Kind::Account, call.id());
    if account["type"] == "standard" {
        let application = json!({"id": "ca_sandbox", "object": "application", "name": "Billhook Sandbox"});
        world.store.tell("account.application.deauthorized", Arc::new(application));
    }
    Ok(deleted(Kind::Account, call.id()))
}

fn object(created: i64) -> Value {
    json!({
        "id": ID,
        "object": "account",
        "business_profile": {
            "annual_revenue": null, "estimated_worker_count": null, "mcc": "5734", "minority_owned_business_designation": null,
            "name": "Billhook Sandbox", "product_description": null, "support_address": null,
            "support_email": "billing@example.com", "support_phone": null, "support_url": null, "url": "https://example.com"
        },
        "business_type": "company",
        "capabilities": {"card_payments": "active", "transfers": "active"},
        "charges_enabled": true,
        "controller": {"type": "account"},
        "country": "US",
        "created": created,
        "default_currency": "usd",
        "details_submitted": true,
        "email": "billing@example.com",
        "external_accounts": {"object": "list", "data": [], "has_more": false, "url": format!("/v1/accounts/{ID}/external_accounts")},
        "future_requirements": requirements(),
        "metadata": {},
        "payouts_enabled": true,
        "requirements": requirements(),
        "settings": settings(),
        "tos_acceptance": {"date": null, "ip": null, "user_agent": null},
        "type": "standard"
    })
}

fn requirements() -> Value {
    json!({
        "alternatives": [], "current_deadline": null, "currently_due": [], "disabled_reason": null, "errors": [],
        "eventually_due": [], "past_due": [], "pending_verification": []
    })
}

fn settings() -> Value {
    json!({
        "bacs_debit_payments": {"display_name": null, "service_user_number": null},
        "branding": {"icon": null, "logo": null, "primary_color": null, "secondary_color": null},
        "card_issuing": {"tos_acceptance": {"date": null, "ip": null}},
        "card_payments": {
            "decline_on": {"avs_failure": false, "cvc_failure": false}, "statement_descriptor_prefix": "BILLHOOK",
            "statement_descriptor_prefix_kana": null, "statement_descriptor_prefix_kanji": null
        },
        "dashboard": {"display_name": "Billhook Sandbox", "timezone": "Etc/UTC"},
        "invoices": {"default_account_tax_ids": null, "hosted_payment_method_save": null},
        "payments": {
            "statement_descriptor": "BILLHOOK", "statement_descriptor_kana": null, "statement_descriptor_kanji": null,
            "statement_descriptor_prefix_kana": null, "statement_descriptor_prefix_kanji": null
        },
        "payouts": {
            "debit_negative_balances": true, "schedule": {"delay_days": 2, "interval": "daily"}, "statement_descriptor": null
        },
        "sepa_debit_payments": {}
    })
}
