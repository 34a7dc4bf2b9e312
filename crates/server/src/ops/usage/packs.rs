//! Packs of credits: given, taken away, and over.

use billing::entry::Pack;
use billing::usage::Credits;

use super::corrections::{append_one, is_named, named};
use super::{Verdict, ids};
use crate::app::App;
use crate::error::{Error, Result};
use crate::store::log::{Entry, EntryId, Kind, Source};

/// The most credits of a pack: sums of many can still be counted.
const MOST: Credits = Credits::from_micro(1_000_000_000_000 * 1_000_000);

/// Gives a user a pack of credits. The same pack again is a duplicate, whenever that is said.
pub async fn grant(app: &App, user: &str, pack: &Pack) -> Result<Option<Verdict>> {
    named(&pack.id, "/id")?;
    if pack.amount <= Credits::ZERO || pack.amount > MOST {
        return Err(Error::invalid("/credits", "expected more than 0, at most 1000000000000"));
    }
    let entry = grant_of(app, user, pack);
    let is_over = pack.expires_ms.is_some_and(|expires_ms| expires_ms <= entry.received_ms);
    if is_over && !is_named(app, &entry.id).await? {
        return Err(Error::invalid("/expires", "expected a time to come"));
    }
    append_one(app, entry).await
}

/// The entry that gives a pack. Whenever that is said, it is the same.
pub(super) fn grant_of(app: &App, user: &str, pack: &Pack) -> Entry {
    let mut entry = pack_entry(app, Kind::Grant, user, &pack.id, pack.encode());
    let content = Entry { body: Some(Pack { granted_ms: 0, ..pack.clone() }.encode()), ..entry.clone() };
    entry.fingerprint = ids::fingerprint(&content, false);
    entry
}

/// Takes a pack away, with what is left of it.
pub async fn revoke(app: &App, user: &str, pack: &str) -> Result<Option<Verdict>> {
    named(pack, "/id")?;
    if !is_named(app, &pack_id(Kind::Grant, user, pack)).await? {
        return Err(Error::NotFound);
    }
    append_one(app, revocation(app, user, pack)).await
}

/// The entry that takes a pack away.
pub(super) fn revocation(app: &App, user: &str, pack: &str) -> Entry {
    pack_entry(app, Kind::Revoke, user, pack, pack.to_owned())
}

/// A pack's time is over.
pub async fn expire(app: &App, user: &str, pack: &str) -> Result<Option<Verdict>> {
    append_one(app, pack_entry(app, Kind::Expire, user, pack, pack.to_owned())).await
}

fn pack_id(kind: Kind, user: &str, pack: &str) -> EntryId {
    ids::entry_id(kind.as_str(), &format!("{user} {pack}"))
}

fn pack_entry(app: &App, kind: Kind, user: &str, pack: &str, body: String) -> Entry {
    let now_ms = app.clock.now().as_millisecond();
    let mut entry = Entry {
        kind,
        user: user.to_owned(),
        event_type: String::new(),
        quantity: 0,
        weight: Credits::ZERO.micro(),
        event_ms: now_ms,
        received_ms: now_ms,
        id: pack_id(kind, user, pack),
        fingerprint: 0,
        transaction_id: pack.to_owned(),
        source: if kind == Kind::Expire { Source::Program } else { Source::CommandLine },
        body: Some(body),
    };
    entry.fingerprint = ids::fingerprint(&entry, false);
    entry
}
