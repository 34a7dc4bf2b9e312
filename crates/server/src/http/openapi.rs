//! The API as an OpenAPI document.

use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{admin, authorize, events, invoices, payment_methods, reservations, subscription, usage};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Billhook",
        description = "Billing, subscriptions and exact usage metering for self-hosted AI platforms. Errors are \
            `application/problem+json` (RFC 9457). Answers from the mirror of Stripe carry their age in `Billing-As-Of`.",
        license(name = "Apache-2.0 OR MIT")
    ),
    paths(
        subscription::show,
        invoices::list,
        payment_methods::list,
        usage::show,
        events::create,
        events::list,
        events::create_litellm,
        reservations::check,
        reservations::create,
        reservations::commit,
        reservations::release,
        authorize::show,
        events::lago::create,
        events::lago::create_batch,
        events::lago::show,
        admin::usage::list,
        admin::stats::show,
        admin::customers::list,
        admin::subscriptions::list,
        admin::charges::list,
        super::webhooks::stripe::receive,
        super::webhooks::lago::receive
    ),
    tags(
        (name = "billing", description = "What a signed-in user sees of their own"),
        (name = "usage", description = "What services tell of usage, and ask before it: with a key of `billhook key issue`"),
        (name = "lago", description = "Usage in Lago's own notation, for clients that were written for Lago"),
        (name = "webhooks", description = "What other services tell us by themselves, signed by them"),
        (name = "admin", description = "What admins see of everybody")
    ),
    modifiers(&Credentials)
)]
struct Api;

/// The session cookie, and the keys of services.
struct Credentials;

impl Modify for Credentials {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let cookie = SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::with_description(
            "session_token",
            "Issued by `billhook session issue`, or kept in Redis by Ops Center.",
        )));
        let key = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("Issued by `billhook key issue --name NAME --scope usage:write`."));
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("session", cookie);
        components.add_security_scheme("key", SecurityScheme::Http(key.build()));
    }
}

/// The document, with the problem answers that every operation shares.
pub fn document() -> serde_json::Value {
    let mut document = serde_json::to_value(Api::openapi()).unwrap_or_default();
    require_all_members(&mut document);
    document["components"]["schemas"]["Problem"] = problem();
    let Some(paths) = document["paths"].as_object_mut() else { return document };
    for operation in paths.values_mut().filter_map(|item| item.as_object_mut()).flat_map(|item| item.values_mut()) {
        for (status, text) in shared(operation) {
            if operation["responses"].get(status).is_none() {
                operation["responses"][status] = serde_json::json!({ "description": text });
            }
        }
        // What speaks Lago's notation has Lago's errors.
        if operation["tags"][0] != "lago" {
            refusals_are_problems(operation);
        }
    }
    document
}

/// The answers that operations of a kind have in common.
fn shared(operation: &serde_json::Value) -> Vec<(&'static str, &'static str)> {
    let role = operation["x-role"].as_str().unwrap_or_default();
    let mut shared = vec![
        ("500", "Stripe failed and nothing was ever mirrored, or a fault of ours"),
        ("503", "A part of the program cannot answer now"),
    ];
    shared.push(match role {
        "service" => ("401", "No service key, or none that is known"),
        "webhook" => ("401", "The signature is missing or does not fit"),
        _ => ("401", "Nobody is signed in"),
    });
    match role {
        "admin" => shared.push(("403", "The caller is not an admin")),
        "service" | "caller" => shared.push(("403", "The key was not issued for this")),
        _ => {}
    }
    if operation.get("requestBody").is_some() {
        shared.push(("400", "The body is not one clear JSON document"));
        shared.push(("413", "The body is too large"));
        shared.push(("415", "The body is of a media type that is not taken here"));
        shared.push(("422", "The input breaks a rule; `errors` says which, and where"));
    } else if operation.get("parameters").is_some() {
        shared.push(("422", "A parameter is not understood"));
    }
    shared
}

fn refusals_are_problems(operation: &mut serde_json::Value) {
    let answers = operation["responses"].as_object_mut().into_iter().flatten();
    for (_, answer) in answers.filter(|(status, _)| !status.starts_with('2')) {
        answer["content"] = serde_json::json!({
            "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } }
        });
    }
}

/// What may leave members out: what callers send, and verdicts, of which there are many.
const SPARSE: [&str; 6] = ["Event", "Question", "Hold", "Used", "Verdict", "VerdictInBatch"];

/// Every member of an answer is always sent; one without a value is null.
fn require_all_members(document: &mut serde_json::Value) {
    let schemas = document["components"]["schemas"].as_object_mut().into_iter().flatten();
    for (_, schema) in schemas.filter(|(name, _)| !SPARSE.contains(&name.as_str())) {
        let members: Vec<_> =
            schema["properties"].as_object().into_iter().flat_map(|all| all.keys().cloned()).collect();
        if !members.is_empty() {
            schema["required"] = members.into();
        }
    }
}

/// RFC 9457, with our members.
fn problem() -> serde_json::Value {
    serde_json::json!({
        "type": "object",
        "description": "What went wrong (RFC 9457).",
        "required": ["type", "title", "status", "code", "request_id"],
        "properties": {
            "type": { "type": "string", "description": "Where the code is explained.", "example": "/docs/errors/auth.required" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string" },
            "code": { "type": "string", "example": "auth.required" },
            "upgrade_url": { "type": "string", "description": "Where a user who is refused by a limit can get more." },
            "request_id": { "type": "string", "description": "Under this id the log knows the request." },
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["pointer", "detail"],
                    "properties": { "pointer": { "type": "string", "example": "?limit" }, "detail": { "type": "string" } }
                }
            }
        }
    })
}

/// The paths of the document, for the log.
pub fn paths() -> Vec<String> {
    Api::openapi().paths.paths.into_keys().collect()
}
