//! Sessions: a token is shown once and kept as its hash; role and state are read from the database, never from the session.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::answers::{Person, TokenHash};
use crate::app::App;
use crate::error::{Error, Result};
use crate::store::{sessions, users};

/// How the tokens of this program begin, so that leaked ones can be found.
const PREFIX: &str = "bhs_";
/// 256 random bits in base64url.
const OWN_LENGTH: usize = PREFIX.len() + 43;
/// Lengths that a foreign token can have.
const FOREIGN_LENGTHS: std::ops::RangeInclusive<usize> = 16..=512;

const REQUIRED: Error = Error::Unauthenticated { code: "auth.required" };

/// Issues a session; the token, which is kept nowhere else.
pub async fn issue(app: &App, user: &str, ttl: Duration) -> Result<String> {
    let token = format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(app.chance.bytes::<32>()?));
    let (hash, user, now) = (hex(&hash(&token)), user.to_owned(), app.clock.now());
    let expires_at = now.checked_add(ttl).map_err(Error::internal)?;
    app.db
        .write(move |tx| {
            if users::get(tx, &user)?.is_none() {
                return Err(Error::NotFound);
            }
            sessions::remove_expired(tx, now)?;
            sessions::add(tx, &hash, &user, now, expires_at)
        })
        .await?;
    Ok(token)
}

/// Ends the session of a token, in every process; whether there was one.
pub async fn revoke(app: &App, token: &str) -> Result<bool> {
    let hash = hex(&hash(token));
    let was_there = app.db.write(move |tx| sessions::remove(tx, &hash)).await?;
    app.db.outwait_other_readers().await;
    Ok(was_there)
}

/// Ends every session of a user, in every process; how many there were.
pub async fn revoke_all(app: &App, user: &str) -> Result<u64> {
    let user = user.to_owned();
    let count = app.db.write(move |tx| sessions::remove_all(tx, &user)).await?;
    app.db.outwait_other_readers().await;
    Ok(count)
}

/// Whose token this is, as the database says now.
pub async fn authenticate(app: &App, token: &str) -> Result<Arc<Person>> {
    let own = token.len() == OWN_LENGTH && token.starts_with(PREFIX);
    // What cannot be a token is turned away before any query.
    if !(own || app.foreign_sessions.is_some() && FOREIGN_LENGTHS.contains(&token.len()))
        || !token.bytes().all(is_token_byte)
    {
        return Err(REQUIRED);
    }
    let person = if own { own_session(app, token).await? } else { None };
    let person = match person {
        Some(person) => person,
        None => Box::pin(foreign_session(app, token)).await?.ok_or(REQUIRED)?,
    };
    if person.user.disabled { Err(REQUIRED) } else { Ok(person) }
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'~' | b'=' | b'+' | b'/' | b':')
}

async fn own_session(app: &App, token: &str) -> Result<Option<Arc<Person>>> {
    let (token, now) = (hash(token), app.clock.now().as_second());
    if let Some(signed) = app.answers.session(&token).filter(|signed| now < signed.expires_at) {
        return Ok(Some(signed.person));
    }
    Box::pin(load_session(app, token, now)).await
}

async fn load_session(app: &App, token: TokenHash, now: i64) -> Result<Option<Arc<Person>>> {
    let (epoch, stored) = (app.answers.epoch(), hex(&token));
    let found = app
        .db
        .read(move |tx| {
            let Some(session) = sessions::get(tx, &stored)? else { return Ok(None) };
            Ok(users::get(tx, &session.user)?.map(|user| (session.expires_at.as_second(), user)))
        })
        .await?;
    let Some((expires_at, user)) = found else { return Ok(None) };
    if now >= expires_at {
        if expires_at != sessions::ENDED.as_second() {
            stay_over(app, token).await;
        }
        return Err(expired());
    }
    let person = app.answers.person(&user.id).unwrap_or_else(|| Arc::new(Person::new(user)));
    if app.db.notices_other_writers() {
        app.answers.keep(epoch, &person, Some((token, expires_at)));
    }
    Ok(Some(person))
}

/// Whoever was told that their session is over is not let in again by a clock that is set back. They are told so in any case.
async fn stay_over(app: &App, token: TokenHash) {
    let stored = hex(&token);
    if let Err(error) = app.db.write(move |tx| sessions::end(tx, &stored)).await {
        tracing::warn!(%error, "a session that is over was not written down as ended");
    }
}

const fn expired() -> Error {
    Error::Unauthenticated { code: "auth.expired" }
}

async fn foreign_session(app: &App, token: &str) -> Result<Option<Arc<Person>>> {
    let Some(foreign) = &app.foreign_sessions else { return Ok(None) };
    let Some(id) = foreign.user_of(token).await? else { return Ok(None) };
    if let Some(person) = app.answers.person(&id) {
        return Ok(Some(person));
    }
    let epoch = app.answers.epoch();
    let Some(user) = app.db.read(move |tx| users::get(tx, &id)).await? else { return Ok(None) };
    let person = Arc::new(Person::new(user));
    if app.db.notices_other_writers() {
        app.answers.keep(epoch, &person, None);
    }
    Ok(Some(person))
}

fn hash(token: &str) -> TokenHash {
    let mut out = TokenHash::default();
    out.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, token.as_bytes()).as_ref());
    out
}

fn hex(hash: &TokenHash) -> String {
    hash.iter().fold(String::with_capacity(64), |mut text, byte| {
        use std::fmt::Write;
        let _ = write!(text, "{byte:02x}");
        text
    })
}
