//! Pages of lists: a cursor says where the next page begins, and nobody can make one up or carry it to another list.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::hmac;

use super::mirror::{self, Mirrored};
use crate::app::App;
use crate::clock::Chance;
use crate::error::{Error, Result};
use crate::store::mirror::Resource;
use crate::store::{After, Db, Tx, facts};

/// The length of the signature that a cursor begins with.
const TAG: usize = 32;

/// A page of a list with its place in the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    pub rows: Vec<T>,
    /// The number of all matching rows.
    pub total: u64,
    /// Where the next page begins; nothing on the last one.
    pub next_cursor: Option<String>,
}

/// The key that signs cursors; the same on every start and in every process of a deployment.
pub struct CursorKey(hmac::Key);

impl std::fmt::Debug for CursorKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CursorKey([redacted])")
    }
}

impl CursorKey {
    /// Reads the key, or makes one at the first start.
    pub async fn load(db: &Db, chance: &Chance) -> Result<Self> {
        let fresh = BASE64_URL_SAFE_NO_PAD.encode(chance.bytes::<32>()?);
        if let Some(text) = db.read(|tx| facts::get(tx, facts::CURSOR_KEY)).await? {
            return Self::of(&text);
        }
        let text = db
            .write(move |tx| {
                if let Some(known) = facts::get(tx, facts::CURSOR_KEY)? {
                    return Ok(known);
                }
                facts::set(tx, facts::CURSOR_KEY, &fresh)?;
                Ok(fresh.clone())
            })
            .await?;
        Self::of(&text)
    }

    fn of(text: &str) -> Result<Self> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(Error::internal)?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// A cursor for the page after `after`, good only for `scope`: the caller, the list and its filter.
    pub fn seal(&self, scope: &str, after: &After) -> String {
        let body = format!("{}.{}", after.created, after.id);
        let tag = hmac::sign(&self.0, format!("{scope}\n{body}").as_bytes());
        let mut bytes = tag.as_ref().to_vec();
        bytes.extend_from_slice(body.as_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Where a cursor points, if it is one of ours for this scope.
    pub fn open(&self, scope: &str, cursor: &str) -> Result<After> {
        let invalid = || Error::invalid("?cursor", "expected the next_cursor of this list with the same filter");
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).map_err(|_| invalid())?;
        let (tag, body) = bytes.split_at_checked(TAG).ok_or_else(invalid)?;
        let body = std::str::from_utf8(body).map_err(|_| invalid())?;
        hmac::verify(&self.0, format!("{scope}\n{body}").as_bytes(), tag).map_err(|_| invalid())?;
        let (created, id) = body.split_once('.').ok_or_else(invalid)?;
        Ok(After { created: created.parse().map_err(|_| invalid())?, id: id.to_owned() })
    }
}

/// What a caller asks of a list.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    pub limit: u16,
    pub cursor: Option<&'a str>,
    /// The caller, the list and its filter.
    pub scope: String,
}

impl Ask<'_> {
    /// The page of a mirrored list, as of one moment. `read` answers so many rows behind a place at the most, and how many match in all;
    /// `place` says where a row is.
    pub async fn of_mirror<T: Send + 'static>(
        &self,
        app: &App,
        resource: Resource,
        place: impl Fn(&T) -> After,
        read: impl Fn(&mut Tx<'_>, &After, i64) -> Result<(Vec<T>, u64)> + Send + 'static,
    ) -> Result<Mirrored<Page<T>>> {
        let after =
            self.cursor.map_or_else(|| Ok(After::start()), |cursor| app.cursor_key.open(&self.scope, cursor))?;
        // One row more than asked for, to see whether another page follows.
        let most = i64::from(self.limit) + 1;
        let configured = app.stripe.is_some();
        let ((mut rows, total), as_of) = app
            .db
            .read(move |tx| {
                let as_of = mirror::as_of(tx, resource, None)?;
                if configured && as_of.is_none() {
                    return Err(mirror::never_mirrored());
                }
                Ok((read(tx, &after, most)?, as_of))
            })
            .await?;
        let more = rows.len() > usize::from(self.limit);
        rows.truncate(usize::from(self.limit));
        let next_cursor = rows.last().filter(|_| more).map(|row| app.cursor_key.seal(&self.scope, &place(row)));
        Ok(Mirrored { value: Page { rows, total, next_cursor }, as_of })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> CursorKey {
        CursorKey(hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]))
    }

    #[test]
    fn s38_a_cursor_is_good_for_its_own_list_and_caller_only() {
        let after = After { created: 1_700_000_000, id: "cus_1".into() };
        let cursor = key().seal("u1 customers", &after);
        assert_eq!(key().open("u1 customers", &cursor).expect("ours"), after);
        for scope in ["u2 customers", "u1 customers status=active", "u1 charges"] {
            assert!(key().open(scope, &cursor).is_err(), "{scope}");
        }
    }

    #[test]
    fn s38_any_flipped_bit_is_noticed() {
        let cursor = key().seal("s", &After { created: 5, id: "cus_1".into() });
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(&cursor).expect("base64");
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(key().open("s", &BASE64_URL_SAFE_NO_PAD.encode(&changed)).is_err(), "bit {bit}");
        }
        for nonsense in ["", "a", "!!!!", "AAAA", &"A".repeat(9_000)] {
            assert!(key().open("s", nonsense).is_err());
        }
    }
}
