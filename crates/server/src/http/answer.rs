//! Answers with JSON: rendered once, kept while they are true, and sent with their age.

use std::sync::{Arc, LazyLock};

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use serde::Serialize;

use super::extract::{Customer, Validator};
use super::house;
use crate::answers::{Answer, AsOf, Page};
use crate::app::App;
use crate::error::{Error, Result};
use crate::ops::mirror::{self, Mirrored};

/// Bytes that most objects have room in.
const MEMBERS: usize = 256;
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const AS_OF: HeaderName = HeaderName::from_static("billing-as-of");
const STALE: HeaderName = HeaderName::from_static("billing-stale");
const YES: HeaderValue = HeaderValue::from_static("?1");

/// Renders a view of mirrored data, true until something changes it.
pub fn render<V: Serialize>(mirrored: Mirrored<V>) -> Result<Answer> {
    render_until(mirrored, i64::MAX)
}

/// Renders a view that also changes by itself at `valid_until` (seconds since 1970).
pub fn render_until<V: Serialize>(mirrored: Mirrored<V>, valid_until: i64) -> Result<Answer> {
    let body = serde_json::to_vec(&mirrored.value).map_err(Error::internal)?;
    let digest = ring::digest::digest(&ring::digest::SHA256, &body);
    let tag = digest.as_ref()[..12].iter().fold(String::from("\""), |text, byte| format!("{text}{byte:02x}")) + "\"";
    Ok(Answer { body: body.into(), etag: Bytes::from(tag), as_of: mirrored.as_of.map(AsOf::at), valid_until })
}

/// The kept answer of a caller, or a new one that is kept from now on.
pub async fn for_customer<F>(app: &App, me: &Customer, page: Page, held: &Validator, make: F) -> Result<Response>
where
    F: AsyncFnOnce() -> Result<Answer>,
{
    let (now, moves) = (app.clock.now(), me.0.usage_moves());
    if let Some(answer) = me.0.answer(page, now) {
        return respond(app, &answer, held);
    }
    // In a box of its own: the kept answer is the usual one, and its path stays small.
    let answer = Arc::new(Box::pin(make()).await?);
    if app.db.notices_other_writers() {
        me.0.keep(page, &answer, moves);
    }
    respond(app, &answer, held)
}

/// An answer of its own, of JSON text that is rendered already.
pub fn json(app: &App, status: StatusCode, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = status;
    *response.headers_mut() = json_headers(app.config.public_url.starts_with("https://"));
    response
}

/// Those of every answer, and what it is made of.
fn json_headers(https: bool) -> HeaderMap {
    static READY: LazyLock<[HeaderMap; 2]> = LazyLock::new(|| {
        [false, true].map(|https| {
            let mut headers = house::uniform(https);
            headers.insert(CONTENT_TYPE, JSON);
            headers
        })
    });
    READY[usize::from(https)].clone()
}

/// The same of a view.
pub fn view<V: Serialize>(app: &App, status: StatusCode, view: &V) -> Result<Response> {
    Ok(json(app, status, serde_json::to_vec(view).map_err(Error::internal)?))
}

/// The text of an object, written member by member, for answers that are given more often than any other. Their names are ours: nobody has
/// to look for what needs an escape in them.
#[derive(Debug)]
pub struct Members(Vec<u8>);

impl Members {
    pub fn begin() -> Self {
        let mut text = Vec::with_capacity(MEMBERS);
        text.push(b'{');
        Self(text)
    }

    pub fn with(mut self, name: &'static str, value: &impl Serialize) -> Result<Self> {
        let before: &[u8] = if self.0.len() == 1 { b"\"" } else { b",\"" };
        for part in [before, name.as_bytes(), b"\":"] {
            self.0.extend_from_slice(part);
        }
        serde_json::to_writer(&mut self.0, value).map_err(Error::internal)?;
        Ok(self)
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
}

/// Sends an answer; 304 when the caller holds it already.
pub fn respond(app: &App, answer: &Answer, held: &Validator) -> Result<Response> {
    let etag = header(&answer.etag)?;
    let same = held.0.as_ref().is_some_and(|held| holds(held, &answer.etag));
    let mut response = Response::new(if same { Body::empty() } else { Body::from(answer.body.clone()) });
    if same {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    *headers = house::uniform(app.config.public_url.starts_with("https://"));
    headers.insert(ETAG, etag);
    if !same {
        headers.insert(CONTENT_TYPE, JSON);
    }
    if let Some(as_of) = &answer.as_of {
        headers.insert(AS_OF, header(&as_of.text)?);
        let age = app.clock.now().as_second().saturating_sub(as_of.second);
        if age > mirror::stale_after_s(app) {
            headers.insert(STALE, YES);
        }
    }
    Ok(response)
}

fn header(text: &Bytes) -> Result<HeaderValue> {
    HeaderValue::from_maybe_shared(text.clone()).map_err(Error::internal)
}

/// Whether a list of validators names this one; weak or strong, as a GET compares them (RFC 9110, 13.1.2).
fn holds(held: &HeaderValue, etag: &[u8]) -> bool {
    let Ok(text) = held.to_str() else { return false };
    text.split(',').map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/").as_bytes() == etag)
}
