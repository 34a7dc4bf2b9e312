//! `GET /api/v1/usage/authorize`: for gateways that ask before they let a request through (Traefik's `forwardAuth`, nginx's
//! `auth_request`). Whatever is not known is refused.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use billing::usage::Quantity;

use super::extract::Caller;
use super::limits::answered;
use super::query::Query;
use super::reservations::{all_named, quantity, stands};
use crate::app::App;
use crate::error::{Error, Result};
use crate::ops::keys::{Scope, allows};
use crate::ops::{reservations, users};

const USER: HeaderName = HeaderName::from_static("x-billhook-user");
const TYPE: HeaderName = HeaderName::from_static("x-billhook-type");
const QUANTITY: HeaderName = HeaderName::from_static("x-billhook-quantity");
const REMAINING: HeaderName = HeaderName::from_static("billing-remaining");

/// Let a request through, or refuse it
///
/// For `forwardAuth` and `auth_request`. The user is the one who is signed in; a gateway that authenticates with a service key can name
/// one in `X-Billhook-User`. `type` and `quantity` come from the query, else, from such a gateway, from `X-Billhook-Type` and
/// `X-Billhook-Quantity`, which it must set itself, because proxies hand on the headers of their clients; the quantity is 1 where
/// nobody says. 200 lets it through, with `X-Billhook-User` and `Billing-Remaining` to pass on. It uses up the
/// rate by the minute, unless the key may only read, and no credits: what was used is recorded afterwards.
#[utoipa::path(get, path = "/api/v1/usage/authorize", tag = "usage", operation_id = "authorize",
    params(
        ("type" = Option<String>, Query, description = "The event type"),
        ("quantity" = Option<String>, Query, description = "How much; default 1")
    ),
    responses(
        (status = 200, body = super::reservations::StandingView),
        (status = 402, description = "`credits.exhausted` or `trial.over`, with `upgrade_url`"),
        (status = 403, description = "The key was not issued for this, or the user is disabled (`user.disabled`)"),
        (status = 429, description = "A limit of the type, with `upgrade_url`, `RateLimit` and `Retry-After`"),
    ),
    extensions(("x-role" = json!("caller"))), security(("session" = []), ("key" = [])))]
pub async fn show(State(app): State<App>, caller: Caller, query: Query, headers: HeaderMap) -> Response {
    answered(&app, judged(&app, &caller, &query, &headers).await.map_err(|error| placed(error, &query)))
}

/// What is wrong with a value, said of where it came from.
fn placed(mut error: Error, query: &Query) -> Error {
    let faults = match &mut error {
        Error::Rule { fault, .. } => std::slice::from_mut(fault),
        Error::Invalid(faults) => faults.as_mut_slice(),
        _ => &mut [],
    };
    let in_query = |name| matches!(query.one(name), Ok(Some(_)));
    for fault in faults {
        let place = match &*fault.pointer {
            "/user_id" => "X-Billhook-User",
            "/type" if in_query("type") => "?type",
            "/type" => "X-Billhook-Type",
            "/quantity" if in_query("quantity") => "?quantity",
            "/quantity" => "X-Billhook-Quantity",
            _ => continue,
        };
        place.clone_into(&mut fault.pointer);
    }
    error
}

async fn judged(app: &App, caller: &Caller, query: &Query, headers: &HeaderMap) -> Result<Response> {
    let user = match caller {
        // A header that anybody can send names nobody.
        Caller::Person(person) => person.user.id.as_str(),
        Caller::Service(_) => one(headers, USER)?.ok_or_else(|| Error::invalid("X-Billhook-User", "is required"))?,
    };
    query.only(&["type", "quantity"])?;
    // The address is the operator's. A proxy hands on the headers of whoever is to be judged.
    let said = |name| if matches!(caller, Caller::Service(_)) { one(headers, name) } else { Ok(None) };
    let kind = match query.one("type")? {
        Some(kind) => kind,
        None => said(TYPE)?.ok_or_else(|| Error::invalid("?type", "is required"))?,
    };
    let quantity = match (query.one("quantity")?, said(QUANTITY)?) {
        (Some(text), _) | (None, Some(text)) => quantity(text, "/quantity")?,
        (None, None) => Quantity::from_micro(1_000_000),
    };
    all_named(&[(user, "/user_id"), (kind, "/type")])?;
    users::let_in(app, user).await?;
    let standing = if may_use_up(caller) {
        reservations::pass(app, user, kind, quantity).await?
    } else {
        reservations::check(app, user, kind, quantity).await?
    };
    if let Some(refused) = standing.refusal {
        return Err(Error::Refused(Box::new(refused)));
    }
    let told = [(USER, Some(user.to_owned())), (REMAINING, standing.remaining.map(|left| left.wire()))];
    let mut response = stands(app, standing)?;
    for (name, text) in told {
        if let Some(value) = text.and_then(|text| HeaderValue::from_str(&text).ok()) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

/// Who only reads keeps nobody from anything: their question uses up no rate.
fn may_use_up(caller: &Caller) -> bool {
    match caller {
        Caller::Person(_) => true,
        Caller::Service(key) => allows(key, Scope::UsageWrite),
    }
}

/// A header that may be said once.
fn one(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>> {
    let mut values = headers.get_all(&name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Error::invalid(name.as_str(), "expected ASCII")),
        (Some(_), Some(_)) => Err(Error::invalid(name.as_str(), "expected once")),
    }
}
