//! The customer portal: configurations of it, and sessions that lead a customer to its page.

use super::{Answer, Call, changed, find, list, named};
use crate::error::StripeError;
use crate::kind::Kind;
use crate::params::{Field, Spec, opt, req};
use crate::world::World;
use serde_json::{Value, json};
use std::sync::Arc;

const FEATURES: &[Field] = &[
    opt("customer_update", Spec::Ignored),
    opt("invoice_history", Spec::Ignored),
    opt("payment_method_update", Spec::Ignored),
    opt("subscription_cancel", Spec::Ignored),
    opt("subscription_pause", Spec::Ignored),
    opt("subscription_update", Spec::Ignored),
];
const PROFILE: &[Field] =
    &[opt("headline", Spec::Clearable), opt("privacy_policy_url", Spec::Text), opt("terms_of_service_url", Spec::Text)];

pub(crate) const CONFIGURATION: &[Field] = &[
    opt("business_profile", Spec::Hash(PROFILE)),
    opt("default_return_url", Spec::Clearable),
    opt("features", Spec::Hash(FEATURES)),
    opt("login_page", Spec::Ignored),
    opt("metadata", Spec::Metadata),
    opt("name", Spec::Clearable),
];
pub(crate) const CONFIGURATION_UPDATE: &[&[Field]] = &[CONFIGURATION, &[opt("active", Spec::Bool)]];

pub(crate) const SESSION: &[Field] = &[
    req("customer", Spec::Text),
    opt("after_expiration", Spec::Ignored),
    opt("configuration", Spec::Text),
    opt("customer_account", Spec::Unsupported),
    opt("flow_data", Spec::Unsupported),
    opt("locale", Spec::Text),
    opt("on_behalf_of", Spec::Unsupported),
    opt("return_url", Spec::Text),
];

fn configuration(id: &str, now: i64, default: bool) -> Value {
    json!({
        "id": id, "object": "billing_portal.configuration", "active": true, "application": null,
        "business_profile": {"headline": null, "privacy_policy_url": null, "terms_of_service_url": null},
        "created": now, "default_return_url": null,
        "features": {
            "customer_update": {"allowed_updates": ["email"], "enabled": true},
            "invoice_history": {"enabled": true},
            "payment_method_update": {"enabled": true, "payment_method_configuration": null},
            "subscription_cancel": {
                "cancellation_reason": {"enabled": false, "options": []}, "enabled": true, "mode": "at_period_end",
                "proration_behavior": "none"
            },
            "subscription_pause": {"duration": {"interval_options": [], "type": "indefinite"}, "enabled": false},
            "subscription_update": {
                "billing_cycle_anchor": null, "default_allowed_updates": ["price"], "enabled": true, "products": [],
                "proration_behavior": "create_prorations", "schedule_at_period_end": {"conditions": []},
                "trial_update_behavior": "end_trial"
            }
        },
        "is_default": default, "livemode": false, "login_page": {"enabled": false, "url": null}, "metadata": {},
        "name": null, "updated": now
    })
}

pub(crate) fn configuration_page(world: &World, call: &Call<'_>) -> Answer {
    list(world, Kind::PortalConfiguration, call, &[])
}

pub(crate) fn create_configuration(world: &mut World, call: &Call<'_>) -> Answer {
    let id = world.id("bpc");
    let mut made = configuration(&id, world.now, false);
    write(&mut made, call);
    changed(world, Kind::PortalConfiguration, made)
}

fn write(configuration: &mut Value, call: &Call<'_>) {
    call.params.assign(configuration, &["active", "default_return_url", "name"]);
    call.params.merge_metadata(configuration);
    super::fill(&mut configuration["business_profile"], call.params.get("business_profile"));
}

pub(crate) fn update_configuration(world: &mut World, call: &Call<'_>) -> Answer {
    let mut found = (*find(&world.store, Kind::PortalConfiguration, call.id())?).clone();
    write(&mut found, call);
    found["updated"] = json!(world.now);
    changed(world, Kind::PortalConfiguration, found)
}

pub(crate) fn create_session(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    let customer = named(&world.store, Kind::Customer, sent.need("customer")?, "customer")?;
    let configuration = match sent.text("configuration") {
        Some(id) => named(&world.store, Kind::PortalConfiguration, id, "configuration")?,
        None => default(world),
    };
    if configuration["active"] != true {
        return Err(StripeError::invalid("The configuration is not active.").param("configuration"));
    }
    let id = world.id("bps");
    let session = json!({
        "id": id, "object": "billing_portal.session", "configuration": configuration["id"], "created": world.now,
        "customer": customer["id"], "customer_account": null, "flow": null, "livemode": false,
        "locale": sent.text("locale"), "on_behalf_of": null, "return_url": sent.text("return_url"),
        "url": format!("{}/_sandbox/pages/portal/{id}", world.base)
    });
    changed(world, Kind::PortalSession, session)
}

/// The configuration that every account has without asking.
fn default(world: &mut World) -> Arc<Value> {
    const ID: &str = "bpc_sandbox";
    match world.store.get(Kind::PortalConfiguration, ID) {
        Some(found) => found,
        None => world.store.put(Kind::PortalConfiguration, configuration(ID, world.born(), true)),
    }
}

/// The session of a page, as long as it lasts: an hour.
pub(crate) fn session(world: &World, id: &str) -> Result<Arc<Value>, StripeError> {
    let session = find(&world.store, Kind::PortalSession, id)?;
    if session["created"].as_i64().is_some_and(|created| created + 3600 > world.wall) {
        return Ok(session);
    }
    Err(StripeError::invalid("This portal session is over."))
}
