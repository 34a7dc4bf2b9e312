//! Keys of services: shown once, kept as a hash, good for what they were issued for until they are revoked.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::answers::TokenHash;
use crate::app::App;
use crate::error::{Error, Result};
use crate::store::keys::{self, ServiceKey};

/// How keys begin, so that leaked ones can be found.
const PREFIX: &str = "bhk_";
/// 256 random bits in base64url.
const LENGTH: usize = PREFIX.len() + 43;
const NAME_MAX: usize = 100;

const UNKNOWN: Error = Error::Unauthenticated { code: "auth.key" };

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Record usage, and reserve, commit and release.
    UsageWrite,
    /// Read the log of any user.
    UsageRead,
}

impl Scope {
    pub const ALL: [Self; 2] = [Self::UsageWrite, Self::UsageRead];

    pub fn name(self) -> &'static str {
        match self {
            Self::UsageWrite => "usage:write",
            Self::UsageRead => "usage:read",
        }
    }

    pub fn parse(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|scope| scope.name() == text);
        found.ok_or_else(|| Error::invalid("/scope", "expected usage:write or usage:read"))
    }
}

/// Whether a key was issued for this.
pub fn allows(key: &ServiceKey, scope: Scope) -> bool {
    key.scopes.split(' ').any(|name| name == scope.name())
}

/// Issues a key; its text, which is kept nowhere else.
pub async fn issue(app: &App, name: &str, scopes: &[Scope]) -> Result<String> {
    if name.trim().is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
        return Err(Error::invalid("/name", format!("expected 1 to {NAME_MAX} characters")));
    }
    let mut scopes = scopes.to_vec();
    scopes.sort_unstable();
    scopes.dedup();
    if scopes.is_empty() {
        return Err(Error::invalid("/scope", "expected at least one"));
    }
    let text = format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(app.chance.bytes::<32>()?));
    let now = app.clock.now();
    let key = ServiceKey {
        id: billing::id::new("key_", now, app.chance.bytes()?),
        name: name.to_owned(),
        scopes: scopes.iter().map(|scope| scope.name()).collect::<Vec<_>>().join(" "),
        created_at: now,
        revoked_at: None,
    };
    let hash = hex(&hash(&text));
    app.db.write(move |tx| keys::add(tx, &key, &hash)).await?;
    Ok(text)
}

/// All keys, oldest first, revoked ones included.
pub async fn list(app: &App) -> Result<Vec<ServiceKey>> {
    app.db.read(keys::all).await
}

/// Revokes a key by its id: it is good for nothing when this returns, in every process.
pub async fn revoke(app: &App, id: &str) -> Result<()> {
    let (id, now) = (id.to_owned(), app.clock.now());
    let revoked = app.db.write(move |tx| keys::revoke(tx, &id, now)).await?;
    if !revoked {
        return Err(Error::NotFound);
    }
    app.db.outwait_other_readers().await;
    Ok(())
}

/// Whether a text can be a key at all.
pub fn is_key(text: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    text.len() == LENGTH && text.starts_with(PREFIX) && text.bytes().all(token)
}

/// Which key this is, as the database says now.
pub async fn authenticate(app: &App, text: &str) -> Result<Arc<ServiceKey>> {
    // What cannot be a key is turned away before any query.
    if !is_key(text) {
        return Err(UNKNOWN);
    }
    // Looked up by its hash, so the time it takes tells nothing about the key.
    let hash = hash(text);
    match app.answers.keys.get(&hash) {
        Some(key) => Ok(key),
        None => Box::pin(load(app, hash)).await,
    }
}

async fn load(app: &App, hash: TokenHash) -> Result<Arc<ServiceKey>> {
    let (epoch, stored) = (app.answers.keys.epoch(), hex(&hash));
    let found = app.db.read(move |tx| keys::get(tx, &stored)).await?;
    let key = Arc::new(found.ok_or(UNKNOWN)?);
    if app.db.notices_other_writers() {
        app.answers.keys.keep(epoch, hash, &key);
    }
    Ok(key)
}

fn hash(text: &str) -> TokenHash {
    let mut out = TokenHash::default();
    out.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref());
    out
}

fn hex(hash: &TokenHash) -> String {
    hash.iter().fold(String::with_capacity(64), |text, byte| text + &format!("{byte:02x}"))
}
