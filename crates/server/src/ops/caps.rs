//! Who keeps the caps of a database: all that serve it decide by one Redis, or one of them alone decides.

use std::hash::Hasher;
use std::time::Duration;

use secrecy::ExposeSecret;
use siphasher::sip128::{Hasher128, SipHasher13};

use crate::app::App;
use crate::error::{Error, Result};
use crate::ops::reservations;
use crate::store::db::Dialect;
use crate::store::leases::{self, Presence};

/// How long others take us for running after we have last said so.
const HELD: Duration = Duration::from_secs(3);
/// How often we say so.
pub const SAID: Duration = Duration::from_secs(1);
/// How often it is looked whether somebody who was killed is over.
const LOOK: Duration = Duration::from_millis(250);
/// Serving processes say by which counters.
const SERVING: &str = "caps";
/// Held by the one that decides where they are its own.
const DECIDING: &str = "decides";
/// The counters of a process whose they are alone.
const EMBEDDED: &str = "embedded";

/// Whether a process decides limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Say {
    Decides,
    /// Somebody else does, by counters that nobody shares. Here limits cannot be decided.
    Listens,
    /// Somebody else decides by another Redis.
    Clashes,
}

/// Says that we serve, and finds out who decides. Whoever was killed counts as running for a moment, and is waited for.
///
/// # Errors
/// `counters.other` while somebody else decides by another Redis.
pub async fn claim(app: &App) -> Result<()> {
    let mut say = say(app).await?;
    for _ in 0..=HELD.as_millis() / LOOK.as_millis() {
        if say == Say::Decides {
            break;
        }
        tokio::time::sleep(LOOK).await;
        say = self::say(app).await?;
    }
    match say {
        Say::Decides => {}
        Say::Listens => tracing::warn!(
            "another billhook serve works on this database and decides limits: until it ends, they cannot be decided here; \
             with one REDIS_URL for all of them, all decide"
        ),
        Say::Clashes => return Err(Error::Conflict { code: "counters.other", detail: OTHER.to_owned() }),
    }
    Ok(())
}

const OTHER: &str = "REDIS_URL: another billhook serve works on this database with another Redis, and each would give out \
    every cap: give all of them the same one";

/// Says so for a while, and follows what that means. A SQLite file has one server anyway (`store::db::serve_lock`).
pub async fn say(app: &App) -> Result<Say> {
    if app.db.dialect() == Dialect::Sqlite {
        return Ok(Say::Decides);
    }
    let (ours, presence, holder) = (counters(app), presence(app), app.holder.clone());
    let held_ms = i64::try_from(HELD.as_millis()).map_err(Error::internal)?;
    let said = app.db.write(move |tx| {
        let others = presence.others(tx)?;
        let is_ours = ours != EMBEDDED;
        if is_ours && others.iter().any(|other| *other != ours && other != EMBEDDED) {
            return Ok(Say::Clashes);
        }
        presence.say(tx, held_ms)?;
        let is_alone = others.iter().all(|other| other == EMBEDDED);
        let decides = is_ours || is_alone && leases::take(tx, DECIDING, &holder, held_ms)?.is_some();
        Ok(if decides { Say::Decides } else { Say::Listens })
    });
    let said = said.await?;
    let decides = said == Say::Decides;
    if decides && !app.book.decides() {
        // What the one before us has held is held on.
        reservations::restore(app).await?;
    }
    app.book.decide(decides);
    Ok(said)
}

/// Says that we do not serve any more.
pub async fn leave(app: &App) -> Result<()> {
    let (presence, holder) = (presence(app), app.holder.clone());
    app.db
        .write(move |tx| {
            leases::release(tx, DECIDING, &holder)?;
            presence.end(tx)
        })
        .await
}

fn presence(app: &App) -> Presence {
    Presence::new(SERVING, &app.holder, counters(app))
}

/// Which counters these are. Two can be compared, and nobody learns from them where they are.
fn counters(app: &App) -> String {
    app.config.redis_url.as_ref().map_or_else(|| EMBEDDED.to_owned(), |url| name(url.expose_secret()))
}

/// Who asks, and how, makes no other Redis of it.
fn name(url: &str) -> String {
    let place = url.split_once("://").map_or(url, |(_, rest)| rest);
    let place = place.split('?').next().unwrap_or_default();
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    let (host, number) = place.split_once('/').unwrap_or((place, ""));
    let has_port = host.rsplit(']').next().is_some_and(|end| end.contains(':'));
    let port = if has_port { "" } else { ":6379" };
    let number = if number.is_empty() { "0" } else { number };
    let mut hasher = SipHasher13::new_with_keys(0x6269_6c6c_686f_6f6b, 0x636f_756e_7465_7273);
    hasher.write(format!("{}{port}/{number}", host.to_lowercase()).as_bytes());
    format!("{:032x}", hasher.finish128().as_u128())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_is_the_same_whoever_asks_it() {
        let same = ["redis://h", "redis://H:6379", "redis://:secret@h/", "rediss://ada:p@ss@h:6379/0?protocol=resp3"];
        assert!(same.iter().all(|url| name(url) == name(same[0])), "{same:?}");
        let others = ["redis://h/1", "redis://h:6380", "redis://i", "redis://[::1]", "redis://[::1]:6380"];
        for (at, url) in others.iter().enumerate() {
            assert!(others[..at].iter().chain(&same).all(|other| name(other) != name(url)), "{url}");
        }
        assert_eq!(name("redis://[::1]"), name("redis://[::1]:6379"));
    }
}
