//! Who asks. A handler that takes `Customer` or `Admin` cannot run for anybody else, and cannot read input before it knows.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::{COOKIE, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};

use crate::answers::Account;
use crate::app::App;
use crate::error::{Error, Result};
use crate::ops::sessions;
use crate::store::users::User;

/// Somebody who is signed in.
#[derive(Debug, Clone)]
pub struct Customer(pub Arc<Account>);

/// Somebody who is signed in and is an admin, as the database says now.
#[derive(Debug, Clone)]
pub struct Admin(pub Arc<Account>);

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
        let Customer(account) = Customer::from_request_parts(parts, app).await?;
        if account.user.admin { Ok(Self(account)) } else { Err(Error::Forbidden { code: "auth.forbidden" }) }
    }
}

/// The validator that the caller holds, if any.
#[derive(Debug, Clone)]
pub struct Known(pub Option<HeaderValue>);

impl<S: Send + Sync> FromRequestParts<S> for Known {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.headers.get(IF_NONE_MATCH).cloned()))
    }
}

/// The one session token of a request. Two of them are somebody's attempt to slip one under the other.
fn session_token(headers: &HeaderMap) -> Result<&str> {
    let mut found: Option<&str> = None;
    for header in headers.get_all(COOKIE) {
        let Ok(text) = header.to_str() else { continue };
        for pair in text.split(';') {
            let Some((name, value)) = pair.split_once('=') else { continue };
            if !matches!(name.trim(), "session_token" | "__Host-session_token") {
                continue;
            }
            if found.is_some() {
                tracing::warn!("refused: more than one session cookie");
                return Err(Error::Unauthenticated { code: "auth.ambiguous_cookie" });
            }
            found = Some(value.trim());
        }
    }
    found.filter(|token| !token.is_empty()).ok_or(Error::Unauthenticated { code: "auth.required" })
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
        ] {
            let mut headers = HeaderMap::new();
            for cookie in cookies {
                headers.append(COOKIE, cookie.parse().expect("header"));
            }
            let found = session_token(&headers).map_err(|error| match error {
                Error::Unauthenticated { code } => code,
                _ => "another error",
            });
            assert_eq!(found, expected, "{cookies:?}");
        }
    }
}
