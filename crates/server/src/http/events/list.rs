//! `GET /api/v1/usage/events`

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use billing::usage::Quantity;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::{Error, Result};
use crate::http::answer;
use crate::http::extract::Caller;
use crate::http::query::Query;
use crate::http::wire::{Instant, Number};
use crate::ops::keys::{Scope, allows};
use crate::ops::{identities, usage};
use crate::store::After;
use crate::store::log::{Kind, Logged};
use crate::store::users::User;

/// A page of a user's entries in the usage log.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Entries)]
pub struct View {
    events: Vec<Row>,
    has_more: bool,
    /// Pass it as `cursor` for the next page.
    next_cursor: Option<String>,
}

/// An entry of the usage log.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Entry)]
pub struct Row {
    position: i64,
    /// `usage`; or what else changes an account: `adjust`, `void`, `grant`, `revoke`, `expire`, `plan`.
    #[schema(example = "usage")]
    kind: &'static str,
    transaction_id: String,
    /// Null where the kind has none.
    #[schema(example = "inference")]
    r#type: Option<String>,
    quantity: Number,
    /// When it was used.
    timestamp: Instant,
    received_at: Instant,
    /// How it came in: `own`, `cloudevents`, `lago`, `litellm`, `backfill`, `command_line`, `reservation`, `program`,
    /// `first_log`, `merge`.
    #[schema(example = "own")]
    source: &'static str,
    /// As they came in.
    #[schema(value_type = Option<Object>)]
    properties: Option<Box<RawValue>>,
}

/// A user's entries in the usage log, newest first
///
/// A user reads only their own. An admin, and a service whose key has the scope `usage:read`, name the user.
#[utoipa::path(get, path = "/api/v1/usage/events", tag = "usage", operation_id = "events",
    params(
        ("user_id" = Option<String>, Query, description = "Whose; for admins and services"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 1000, description = "How many at most; default 100; users at most 100"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")
    ),
    responses((status = 200, body = View), (status = 404, description = "A user names somebody else")),
    extensions(("x-role" = json!("caller"))), security(("session" = []), ("key" = [])))]
pub async fn list(State(app): State<App>, caller: Caller, query: Query) -> Result<Response> {
    query.only(&["user_id", "limit", "cursor"])?;
    let (asker, user, most) = whose(&app, &caller, &query).await?;
    let (limit, cursor) = Query::both(query.limit(100.min(most), most), query.one("cursor"))?;
    let scope = format!("{asker} events {}", user.id);
    let from = cursor.map(|cursor| app.cursor_key.open(&scope, cursor)).transpose()?.map(|after| after.created);
    let page = usage::events(&app, &user, from, usize::from(limit)).await?;
    let next_cursor = page.next.map(|next| app.cursor_key.seal(&scope, &After { created: next, id: String::new() }));
    let events = page.events.into_iter().map(Row::of).collect::<Result<_>>()?;
    answer::view(&app, StatusCode::OK, &View { events, has_more: next_cursor.is_some(), next_cursor })
}

/// Who asks, about whom, and for how many at most.
async fn whose(app: &App, caller: &Caller, query: &Query) -> Result<(String, User, u16)> {
    match caller {
        Caller::Person(person) if !person.user.admin => {
            // Somebody else is as unknown as nobody: who there is, is not told.
            if query.one("user_id")?.is_some_and(|id| id != person.user.id) {
                return Err(Error::NotFound);
            }
            Ok((person.user.id.clone(), person.user.clone(), 100))
        }
        Caller::Person(person) => {
            let user = match query.one("user_id")? {
                Some(id) => identities::user(app, id, "?user_id").await?,
                None => person.user.clone(),
            };
            Ok((person.user.id.clone(), user, 1000))
        }
        Caller::Service(key) if !allows(key, Scope::UsageRead) => Err(Error::Forbidden { code: "auth.scope" }),
        Caller::Service(key) => {
            let id = query.one("user_id")?.ok_or_else(|| Error::invalid("?user_id", "is required"))?;
            Ok((key.id.clone(), identities::user(app, id, "?user_id").await?, 1000))
        }
    }
}

impl Row {
    fn of(entry: Logged) -> Result<Self> {
        // Of other kinds the body is our own notation.
        let properties = entry.body.filter(|_| entry.kind == Kind::Usage).map(RawValue::from_string);
        Ok(Self {
            position: entry.position,
            kind: entry.kind.as_str(),
            transaction_id: entry.transaction_id,
            r#type: Some(entry.event_type).filter(|name| !name.is_empty()),
            // A void takes back what its event counted: the sum of a user's log is what they have used.
            quantity: Quantity::from_micro(if entry.kind == Kind::Void { -entry.quantity } else { entry.quantity })
                .into(),
            timestamp: Instant::at(entry.event_ms)?,
            received_at: Instant::at(entry.received_ms)?,
            source: entry.source.as_str(),
            properties: properties.transpose().map_err(Error::internal)?,
        })
    }
}
