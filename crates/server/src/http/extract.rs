//! Who asks. A handler that takes `Customer` or `Admin` cannot run for anybody else, and cannot read input before it knows.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, COOKIE, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};

use crate::answers::Person;
use crate::app::App;
use crate::error::{Error, Result};
use crate::ops::keys::{self, Scope};
use crate::ops::sessions;
use crate::store::keys::ServiceKey;
use crate::store::users::User;

/// Somebody who is signed in.
#[derive(Debug, Clone)]
pub struct Customer(pub Arc<Person>);

/// Somebody who is signed in and is an admin, as the database says now.
#[derive(Debug, Clone)]
pub struct Admin(pub Arc<Person>);

impl Customer {
    pub fn user(&self) -> &User {
        &self.0.user
    }
}

impl Admin {
    pub fn user(&self) -> &User {
        &self.0.user
    }
}

impl FromRequestParts<App> for Customer {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let token = session_token(&parts.headers)?;
        app.db.notice_other_writers();
        sessions::authenticate(app, token).await.map(Self)
    }
}

impl FromRequestParts<App> for Admin {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let Customer(person) = Customer::from_request_parts(parts, app).await?;
        if person.user.admin { Ok(Self(person)) } else { Err(Error::Forbidden { code: "auth.forbidden" }) }
    }
}

/// A service whose key was issued for writing usage.
#[derive(Debug, Clone)]
pub struct Writer(pub Arc<ServiceKey>);

impl FromRequestParts<App> for Writer {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let key = service(parts, app).await?;
        if keys::allows(&key, Scope::UsageWrite) { Ok(Self(key)) } else { Err(Error::Forbidden { code: "auth.scope" }) }
    }
}

/// A service with any key: for questions whose answers tell no more than is needed to do one's own work.
#[derive(Debug, Clone)]
pub struct Service(pub Arc<ServiceKey>);

impl FromRequestParts<App> for Service {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        service(parts, app).await.map(Self)
    }
}

/// Somebody who is signed in, or a service. A key that is not ours is somebody else's business: behind a gateway the header
/// belongs to the model's provider. Then the session counts.
#[derive(Debug, Clone)]
pub enum Caller {
    Person(Arc<Person>),
    Service(Arc<ServiceKey>),
}

impl FromRequestParts<App> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        if bearer(&parts.headers).is_some_and(keys::is_key) {
            return service(parts, app).await.map(Self::Service);
        }
        let Customer(person) = Customer::from_request_parts(parts, app).await?;
        Ok(Self::Person(person))
    }
}

async fn service(parts: &Parts, app: &App) -> Result<Arc<ServiceKey>> {
    let key = bearer(&parts.headers).ok_or(Error::Unauthenticated { code: "auth.key" })?;
    app.db.notice_other_writers();
    keys::authenticate(app, key).await
}

/// The credentials of the one `Authorization` header, if they are a bearer token.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(one), None) = (all.next(), all.next()) else { return None };
    let (scheme, token) = one.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The validator that the caller holds, if any.
#[derive(Debug, Clone)]
pub struct Validator(pub Option<HeaderValue>);

impl<S: Send + Sync> FromRequestParts<S> for Validator {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.headers.get(IF_NONE_MATCH).cloned()))
    }
}

/// The one session token of a request. Two of them are somebody's attempt to slip one under the other. Read as bytes: the
/// cookie of another program beside ours may hold any, and is nobody's fault here.
fn session_token(headers: &HeaderMap) -> Result<&str> {
    let mut found: Option<&[u8]> = None;
    let pairs = headers.get_all(COOKIE).iter().flat_map(|header| header.as_bytes().split(|byte| *byte == b';'));
    for pair in pairs {
        let mut parts = pair.splitn(2, |byte| *byte == b'=');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
        if !matches!(name.trim_ascii(), b"session_token" | b"__Host-session_token") {
            continue;
        }
        if found.is_some() {
            tracing::warn!("refused: more than one session cookie");
            return Err(Error::Unauthenticated { code: "auth.ambiguous_cookie" });
        }
        found = Some(value.trim_ascii());
    }
    let token = found.and_then(|token| std::str::from_utf8(token).ok());
    token.filter(|token| !token.is_empty()).ok_or(Error::Unauthenticated { code: "auth.required" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s06_a_request_has_one_session_cookie_or_none() {
        for (cookies, expected) in [
            (&["session_token=a"][..], Ok("a")),
            (&["theme=dark; session_token=a; lang=en"], Ok("a")),
            (&["__Host-session_token=a"], Ok("a")),
            (&[], Err("auth.required")),
            (&["session_token="], Err("auth.required")),
            (&["xsession_token=a"], Err("auth.required")),
            (&["session_token=a; session_token=a"], Err("auth.ambiguous_cookie")),
            (&["session_token=a; __Host-session_token=b"], Err("auth.ambiguous_cookie")),
            (&["session_token=a", "session_token=b"], Err("auth.ambiguous_cookie")),
            (&["theme=\u{e9}; session_token=a"], Ok("a")),
            (&["session_token=\u{e9}; session_token=a"], Err("auth.ambiguous_cookie")),
        ] {
            let mut headers = HeaderMap::new();
            for cookie in cookies {
                headers.append(COOKIE, HeaderValue::from_bytes(cookie.as_bytes()).expect("header"));
            }
            let found = session_token(&headers).map_err(|error| match error {
                Error::Unauthenticated { code } => code,
                _ => "another error",
            });
            assert_eq!(found, expected, "{cookies:?}");
        }
    }

    #[test]
    fn a_key_comes_in_one_header_of_the_bearer_scheme() {
        for (values, expected) in [
            (&["Bearer abc"][..], Some("abc")),
            (&["bearer  abc "], Some("abc")),
            (&[], None),
            (&["abc"], None),
            (&["Bearer"], None),
            (&["Basic abc"], None),
            (&["Bearer abc", "Bearer abc"], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_static(value));
            }
            assert_eq!(bearer(&headers), expected, "{values:?}");
        }
    }
}
