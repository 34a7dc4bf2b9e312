//! `/webhook_endpoints`: who wants to be told, of what, and signed how.

use super::asked::{Call, Fields, scalar};
use super::desk::{Answer, Reply};
use super::instant::{self, Micros};
use super::page::Page;
use super::refusal::{Faulty, Refusal};
use super::table::Place;
use super::webhooks::Algorithm;
use super::world::{ORGANIZATION, World, uuid};
use serde_json::{Value, json};

const ENDPOINTS_MAX: usize = 10;

#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    pub(super) lago_id: String,
    pub(super) url: String,
    pub(super) algorithm: Algorithm,
    name: Value,
    /// All, where there are none given.
    event_types: Option<Vec<String>>,
    created_at: Micros,
}

impl Endpoint {
    pub(super) fn wants(&self, kind: &str) -> bool {
        self.event_types.as_ref().is_none_or(|types| types.iter().any(|own| own == kind))
    }

    fn view(&self) -> Value {
        json!({
            "lago_id": self.lago_id,
            "lago_organization_id": ORGANIZATION,
            "webhook_url": self.url,
            "signature_algo": self.algorithm.name(),
            "name": self.name,
            "event_types": self.event_types,
            "created_at": instant::seconds(self.created_at),
        })
    }
}

/// `POST /webhook_endpoints`
pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    let sent = call.root("webhook_endpoint")?;
    if world.outbox.endpoints.newest().count() >= ENDPOINTS_MAX {
        return Err(Refusal::field("base", "exceeded_limit"));
    }
    let endpoint = Endpoint {
        lago_id: uuid("webhook_endpoint", world.outbox.endpoints.len()),
        url: String::new(),
        algorithm: Algorithm::Jwt,
        name: Value::Null,
        event_types: None,
        created_at: world.now,
    };
    let endpoint = changed(world, endpoint, sent)?;
    let (lago_id, view) = (endpoint.lago_id.clone(), endpoint.view());
    world.outbox.endpoints.push(&lago_id, endpoint);
    Ok(Reply::Json(json!({ "webhook_endpoint": view })))
}

/// The endpoint with what was sent, where that is good.
fn changed(world: &World, mut endpoint: Endpoint, sent: Fields<'_>) -> Result<Endpoint, Refusal> {
    let mut faulty = Faulty::default();
    if sent.has("webhook_url") || endpoint.url.is_empty() {
        endpoint.url = sent.text("webhook_url").unwrap_or_default();
    }
    let is_url = ["http://", "https://"]
        .iter()
        .any(|scheme| endpoint.url.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()));
    faulty.add_if(endpoint.url.is_empty(), "webhook_url", "value_is_mandatory");
    faulty.add_if(!endpoint.url.is_empty() && !is_url, "webhook_url", "url_invalid");
    let taken = |other: &Endpoint| other.url == endpoint.url && other.lago_id != endpoint.lago_id;
    faulty.add_if(world.outbox.endpoints.newest().any(taken), "webhook_url", "value_already_exist");
    if let Some(name) = sent.text("signature_algo") {
        match Algorithm::parse(&name) {
            Some(algorithm) => endpoint.algorithm = algorithm,
            None => faulty.add("signature_algo", "value_is_invalid"),
        }
    }
    if sent.has("name") {
        endpoint.name = sent.sent("name");
    }
    if sent.has("event_types") {
        let types = sent.value("event_types").and_then(Value::as_array);
        endpoint.event_types = types.map(|types| types.iter().filter_map(scalar).collect());
    }
    faulty.verdict()?;
    Ok(endpoint)
}

fn find(world: &World, lago_id: &str) -> Result<Place, Refusal> {
    world.outbox.endpoints.find(lago_id).ok_or_else(|| Refusal::not_found("webhook_endpoint"))
}

/// `GET /webhook_endpoints/{lago_id}`
pub(super) fn show(world: &World, lago_id: &str) -> Answer {
    Ok(Reply::Json(json!({"webhook_endpoint": world.outbox.endpoints[find(world, lago_id)?].view()})))
}

/// `GET /webhook_endpoints`
pub(super) fn list(world: &World, call: &Call) -> Reply {
    let all: Vec<&Endpoint> = world.outbox.endpoints.newest().collect();
    Page::of(call).show("webhook_endpoints", &all, |endpoint| endpoint.view())
}

/// `PUT /webhook_endpoints/{lago_id}`
pub(super) fn update(world: &mut World, call: &Call, lago_id: &str) -> Answer {
    let place = find(world, lago_id)?;
    let sent = call.root("webhook_endpoint")?;
    world.outbox.endpoints[place] = changed(world, world.outbox.endpoints[place].clone(), sent)?;
    show(world, lago_id)
}

/// `DELETE /webhook_endpoints/{lago_id}`
pub(super) fn delete(world: &mut World, lago_id: &str) -> Answer {
    let view = world.outbox.endpoints[find(world, lago_id)?].view();
    world.outbox.endpoints.forget(lago_id);
    Ok(Reply::Json(json!({ "webhook_endpoint": view })))
}
