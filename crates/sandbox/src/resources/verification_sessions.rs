//! Identity: somebody is to show who they are. Nobody does here, so a session waits until it is given up or forgotten.

use super::{Answer, Call, changed, plain};
use crate::kind::Kind;
use crate::params::{Field, Spec, opt};
use crate::world::{World, opaque};
use serde_json::json;

const DOCUMENT: &[Field] = &[
    opt("allowed_types", Spec::ClearableList(&Spec::OneOf(&["driving_license", "id_card", "passport"]))),
    opt("require_id_number", Spec::Bool),
    opt("require_live_capture", Spec::Bool),
    opt("require_matching_selfie", Spec::Bool),
];
const OPTIONS: &[Field] = &[opt("document", Spec::ClearableHash(DOCUMENT))];
const DETAILS: &[Field] = &[opt("email", Spec::Email), opt("phone", Spec::Text)];
pub(crate) const CREATE: &[Field] = &[
    opt("client_reference_id", Spec::Text),
    opt("metadata", Spec::Metadata),
    opt("options", Spec::Hash(OPTIONS)),
    opt("provided_details", Spec::Hash(DETAILS)),
    opt("related_customer", Spec::Text),
    opt("return_url", Spec::Text),
    opt("type", Spec::OneOf(&["document", "id_number"])),
    opt("verification_flow", Spec::Unsupported),
];
pub(crate) const LIST: &[Field] = &[
    opt("client_reference_id", Spec::Text),
    opt("related_customer", Spec::Text),
    opt("status", Spec::OneOf(&["canceled", "processing", "requires_input", "verified"])),
];
pub(crate) const UPDATE: &[Field] = &[
    opt("metadata", Spec::Metadata),
    opt("options", Spec::Hash(OPTIONS)),
    opt("provided_details", Spec::Hash(DETAILS)),
    opt("type", Spec::OneOf(&["document", "id_number"])),
];

pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let id = world.id("vs");
    let secret = opaque(world.born().unsigned_abs() ^ 0x1D, world.store.next(), 40);
    let mut session = json!({
        "id": id, "object": "identity.verification_session", "client_reference_id": null,
        "client_secret": format!("{id}_secret_{secret}"), "created": world.now, "last_error": null,
        "last_verification_report": null, "livemode": false, "metadata": {}, "options": {}, "provided_details": null,
        "redaction": null, "related_customer": null, "status": "requires_input", "type": "document",
        "url": format!("https://verify.stripe.com/start/test_{secret}")
    });
    plain::write(&mut session, &call.params);
    changed(world, Kind::VerificationSession, session)
}
