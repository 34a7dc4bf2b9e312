//! Objects of few words: listed by what their members say, changed member by member, moved from one state to another by
//! somebody or by time. What each is made of stands in a file of its kind; a new one is a template and rows in the tables.

use super::{Answer, Call, Reply, changed, find, list_where, within};
use crate::error::StripeError;
use crate::kind::Kind;
use crate::params::{Field, Params, Spec, opt};
use crate::store::Query;
use crate::world::World;
use serde_json::{Value, json};
use std::sync::Arc;

/// What can be changed of objects of which nothing else can.
pub(crate) const METADATA: &[Field] = &[opt("metadata", Spec::Metadata)];

/// What somebody can do to an object: the last word of the path, from which states, and where it leads.
const MOVES: &[(Kind, &str, &[&str], &str)] = &[
    (Kind::Payout, "cancel", &["pending"], "canceled"),
    (Kind::Topup, "cancel", &["pending"], "canceled"),
    (Kind::VerificationSession, "cancel", &["requires_input"], "canceled"),
    (Kind::VerificationSession, "redact", &["requires_input", "canceled", "verified"], "redacted"),
];

/// What time does to an object: in which state, at which of its instants, and where it leads.
const ENDS: &[(Kind, &str, &str, &str)] = &[
    (Kind::Payout, "pending", "arrival_date", "paid"),
    (Kind::Topup, "pending", "expected_availability_date", "succeeded"),
    (Kind::ReportRun, "pending", "created", "succeeded"),
    (Kind::Quote, "open", "expires_at", "canceled"),
];

/// A list narrowed by the members that the parameters name.
pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    let paging = ["created", "ending_before", "expand", "limit", "starting_after"];
    let wanted: Vec<(&str, &Value)> = call.params.all().filter(|(name, _)| !paging.contains(name)).collect();
    let fits = |object: &Value, name: &str, wanted: &Value| match wanted {
        Value::Object(_) => within(Some(wanted), object[name].as_i64()),
        // Some hold what they name whole.
        _ => object[name] == *wanted || object[name]["id"] == *wanted,
    };
    let keep = move |object: &Value| wanted.iter().all(|(name, value)| fits(object, name, value));
    list_where(world, call.kind()?, call, Query { keep: Some(Box::new(keep)), ..Query::default() })
}

/// Writes every parameter into the member of its name, hashes member by member, where there is such a member.
pub(super) fn write(object: &mut Value, sent: &Params) {
    for (name, value) in sent.all().filter(|(name, _)| *name != "metadata") {
        match (object.get_mut(name), value) {
            (Some(member @ Value::Object(_)), Value::Object(_)) => super::fill(member, Some(value)),
            (Some(member), _) => *member = value.clone(),
            (None, _) => {}
        }
    }
    sent.merge_metadata(object);
}

pub(crate) fn update(world: &mut World, call: &Call<'_>) -> Answer {
    let kind = call.kind()?;
    let mut object = (*find(&world.store, kind, call.id())?).clone();
    write(&mut object, &call.params);
    changed(world, kind, object)
}

/// Does what the last word of the path says.
pub(crate) fn act(world: &mut World, call: &Call<'_>) -> Answer {
    let kind = call.kind()?;
    let object = find(&world.store, kind, call.id())?;
    let verb = call.path.rsplit('/').next().unwrap_or_default();
    let known = MOVES.iter().find(|(of, name, ..)| *of == kind && *name == verb);
    let (_, _, from, to) = known.ok_or_else(|| StripeError::unsupported(verb))?;
    let status = object["status"].as_str().unwrap_or_default();
    if !from.contains(&status) {
        let text = format!("You cannot {verb} this {} because it has a status of {status}.", kind.noun());
        return Err(StripeError::invalid(text));
    }
    Ok(Reply::One(come_to(world, kind, &object, to)))
}

fn come_to(world: &mut World, kind: Kind, object: &Value, status: &str) -> Arc<Value> {
    let mut object = object.clone();
    object["status"] = json!(status);
    match kind {
        Kind::VerificationSession => {
            object["url"] = Value::Null;
            object["client_secret"] = Value::Null;
            if status == "redacted" {
                object["redaction"] = json!({"status": "redacted"});
            }
        }
        Kind::ReportRun => super::report_runs::finish(world, &mut object),
        Kind::Quote => object["status_transitions"]["canceled_at"] = json!(world.now),
        _ => {}
    }
    world.store.put(kind, object)
}

/// Whether objects of this kind come to an end by themselves.
pub(crate) fn may_end(kind: Kind) -> bool {
    ENDS.iter().any(|(of, ..)| *of == kind)
}

/// When this one does.
pub(crate) fn due(kind: Kind, object: &Value) -> Option<i64> {
    let (_, _, date, _) = end(kind, object)?;
    object[*date].as_i64()
}

fn end(kind: Kind, object: &Value) -> Option<&'static (Kind, &'static str, &'static str, &'static str)> {
    ENDS.iter().find(|(of, from, ..)| *of == kind && object["status"] == *from)
}

pub(crate) fn happen(world: &mut World, kind: Kind, object: &Value) {
    if let Some((.., to)) = end(kind, object) {
        come_to(world, kind, object, to);
    }
}
