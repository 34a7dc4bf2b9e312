//! The API as an OpenAPI document.

use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{admin, invoices, payment_methods, subscription, usage};

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
        admin::stats::show,
        admin::customers::list,
        admin::subscriptions::list,
        admin::charges::list
    ),
    tags(
        (name = "billing", description = "What a signed-in user sees of their own"),
        (name = "admin", description = "What admins see of everybody")
    ),
    modifiers(&Sessions)
)]
struct Api;

/// The session cookie.
struct Sessions;

impl Modify for Sessions {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let cookie = SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::with_description(
            "session_token",
            "Issued by `billhook session issue`, or kept in Redis by Ops Center.",
        )));
        api.components.get_or_insert_default().add_security_scheme("session", cookie);
    }
}

/// The document, with the problem answers that every operation shares.
pub fn document() -> serde_json::Value {
    let mut document = serde_json::to_value(Api::openapi()).unwrap_or_default();
    require_all_members(&mut document);
    document["components"]["schemas"]["Problem"] = problem();
    let Some(paths) = document["paths"].as_object_mut() else { return document };
    for operation in paths.values_mut().filter_map(|item| item.as_object_mut()).flat_map(|item| item.values_mut()) {
        let admin = operation["x-role"] == "admin";
        let has_input = operation.get("parameters").is_some();
        for (status, text) in [
            ("401", Some("Nobody is signed in")),
            ("403", admin.then_some("The caller is not an admin")),
            ("422", has_input.then_some("A parameter is not understood")),
            ("500", Some("Stripe failed and nothing was ever mirrored, or a fault of ours")),
            ("503", Some("A part of the program cannot answer now")),
        ] {
            if let Some(text) = text {
                operation["responses"][status] = response(text);
            }
        }
    }
    document
}

/// Every member of an answer is always sent; one without a value is null.
fn require_all_members(document: &mut serde_json::Value) {
    let schemas =
        document["components"]["schemas"].as_object_mut().into_iter().flat_map(|schemas| schemas.values_mut());
    for schema in schemas {
        let members: Vec<_> =
            schema["properties"].as_object().into_iter().flat_map(|all| all.keys().cloned()).collect();
        if !members.is_empty() {
            schema["required"] = members.into();
        }
    }
}

fn response(text: &str) -> serde_json::Value {
    serde_json::json!({
        "description": text,
        "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } }
    })
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
