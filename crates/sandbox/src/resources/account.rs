//! The account that the key belongs to.

use super::{Answer, Call, Reply};
use crate::error::StripeError;
use crate::world::World;
use serde_json::{Value, json};
use std::sync::Arc;

/// The id of the one account that there is.
pub(crate) const ID: &str = "acct_sandbox";

#[allow(clippy::unnecessary_wraps, reason = "every handler has this form; the router holds them in one table")]
pub(crate) fn own(world: &World, _call: &Call<'_>) -> Answer {
    Ok(Reply::One(Arc::new(object(world.born()))))
}

pub(crate) fn one(world: &World, call: &Call<'_>) -> Answer {
    if call.id() == ID {
        return own(world, call);
    }
    let text = format!("No such account: '{}'", call.id());
    Err(StripeError { status: 404, ..StripeError::invalid(text).code("resource_missing").param("account") })
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
