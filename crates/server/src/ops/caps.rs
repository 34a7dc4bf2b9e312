//! Who keeps the caps of a database: all that serve it have the same counters, or each would give out every cap.

use std::hash::Hasher;
use std::time::Duration;

use secrecy::ExposeSecret;
use siphasher::sip128::{Hasher128, SipHasher13};

use crate::app::App;
use crate::error::{Error, Result};
use crate::store::db::Dialect;
use crate::store::leases;

/// How long others take us for running after we have last said so.
const HELD: Duration = Duration::from_secs(5);
/// How often we say so.
pub const SAID: Duration = Duration::from_secs(1);
/// How often it is looked whether somebody who was killed is over.
const LOOK: Duration = Duration::from_millis(250);
/// Serving processes, each with a lease of its own whose holder is its counters.
const SERVING: &str = "caps %";
/// The counters of a process whose they are alone.
const EMBEDDED: &str = "embedded";

/// Says that we serve by our counters. Whoever was killed counts as running for a moment, and is waited for.
///
/// # Errors
/// `counters.other` while somebody else serves by others, or we by such as nobody shares.
pub async fn claim(app: &App) -> Result<()> {
    for _ in 0..=HELD.as_millis() / LOOK.as_millis() {
        if say(app).await? {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    if say(app).await? { Ok(()) } else { Err(Error::Conflict { code: "counters.other", detail: OTHER.to_owned() }) }
}

const OTHER: &str = "REDIS_URL: another billhook serve works on this database with other counters, and each would give out \
    every cap: give all of them the same Redis, or run one alone";

/// Says so for a while; not where somebody serves by others. A SQLite file has one server anyway (`store::db::serve_lock`).
pub async fn say(app: &App) -> Result<bool> {
    if app.db.dialect() == Dialect::Sqlite {
        return Ok(true);
    }
    let (lease, ours) = (lease(app), counters(app));
    let held_ms = i64::try_from(HELD.as_millis()).map_err(Error::internal)?;
    app.db
        .write(move |tx| {
            // One after the other: two that start together would not see each other.
            leases::take(tx, "caps", &ours, 0)?;
            let others = leases::holders(tx, SERVING, &lease)?;
            let is_shared = ours != EMBEDDED && others.iter().all(|other| *other == ours);
            if !others.is_empty() && !is_shared {
                return Ok(false);
            }
            leases::take(tx, &lease, &ours, held_ms)?;
            Ok(true)
        })
        .await
}

/// Says that we do not serve any more.
pub async fn leave(app: &App) -> Result<()> {
    let (lease, ours) = (lease(app), counters(app));
    app.db.write(move |tx| leases::release(tx, &lease, &ours)).await
}

fn lease(app: &App) -> String {
    SERVING.replace('%', &app.holder)
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
