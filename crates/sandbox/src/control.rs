//! The sandbox's own paths, for tests and commands that are not in this process. JSON only, which no foreign web page can
//! send.

use crate::faults::Fault;
use crate::http::{Arrived, Reaction};
use crate::lifecycle::Dunning;
use crate::serve::Shared;
use crate::webhooks::chaos::Chaos;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::time::Duration;

/// An answer: status and body.
type Told = (u16, Value);

pub(crate) async fn answer(shared: &Shared, arrived: &Arrived) -> Reaction {
    let (status, body) = match asked(shared, arrived).await {
        Ok(told) | Err(told) => told,
    };
    let headers = vec![("content-type", "application/json".to_owned())];
    Reaction { status, headers, body: body.to_string() }
}

async fn asked(shared: &Shared, arrived: &Arrived) -> Result<Told, Told> {
    let desk = &shared.desk;
    let faults = || (200, json!({"faults": shared.faults.pending()}));
    match (arrived.method.as_str(), arrived.path.as_str()) {
        ("GET", "/_sandbox/faults") => Ok(faults()),
        ("POST", "/_sandbox/faults") => {
            let script: OneOrMany = body(arrived)?;
            for fault in script.all() {
                shared.faults.push(fault);
            }
            Ok((201, faults().1))
        }
        ("DELETE", "/_sandbox/faults") => {
            shared.faults.clear();
            Ok(faults())
        }
        ("GET", "/_sandbox/requests") => Ok((200, json!({"requests": shared.log.all()}))),
        ("GET", "/_sandbox/deliveries") => Ok((200, json!({"deliveries": desk.deliveries()}))),
        ("GET", "/_sandbox/chaos") => Ok((200, json!(desk.chaos()))),
        ("POST", "/_sandbox/chaos") => {
            desk.set_chaos(body::<Chaos>(arrived)?);
            Ok((200, json!(desk.chaos())))
        }
        ("GET", "/_sandbox/clock") => Ok((200, json!({"now": desk.now()}))),
        ("POST", "/_sandbox/clock") => {
            let asked: Forward = body(arrived)?;
            let by = duration(&asked.advance).ok_or_else(|| {
                (422, json!({"error": "advance is a number with a unit, such as 90s, 30m, 12h, 40d or 2w"}))
            })?;
            desk.advance(by).await;
            Ok((200, json!({"now": desk.now()})))
        }
        ("GET", "/_sandbox/dunning") => Ok((200, json!({"then": Dunning::of(&desk.read())}))),
        ("POST", "/_sandbox/dunning") => {
            let asked: Then = body(arrived)?;
            desk.set_dunning(asked.then).map_err(|error| (error.status, json!({"error": error.message})))?;
            Ok((200, json!({"then": asked.then})))
        }
        _ => Err((404, json!({"error": "no such path"}))),
    }
}

/// The body of a request that says that it is JSON.
fn body<T: DeserializeOwned>(arrived: &Arrived) -> Result<T, Told> {
    if !arrived.header("content-type").is_some_and(|kind| kind.starts_with("application/json")) {
        return Err((415, json!({"error": "send application/json"})));
    }
    serde_json::from_str(&arrived.body).map_err(|error| (422, json!({"error": error.to_string()})))
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Forward {
    advance: String,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Then {
    then: Dunning,
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    Many(Vec<Fault>),
    One(Fault),
}

impl OneOrMany {
    fn all(self) -> Vec<Fault> {
        match self {
            OneOrMany::Many(faults) => faults,
            OneOrMany::One(fault) => vec![fault],
        }
    }
}

/// `40d`, `12h`, `30m`, `90s`, `2w`: one whole number and one unit.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        "w" => 7 * 24 * 3600,
        _ => return None,
    };
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = number.parse::<u64>().ok().filter(|_| digits)?.checked_mul(seconds)?;
    (seconds <= MOST).then(|| Duration::from_secs(seconds))
}

/// A hundred years: farther than anybody plans, and nowhere near the end of the calendar.
const MOST: u64 = 100 * 366 * 24 * 3600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("12h", 43_200), ("40d", 3_456_000), ("2w", 1_209_600)] {
            assert_eq!(duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "d", "40", "-1d", "+1d", "1.5h", "40 d", "1y", "99999999999999999999d", "36601d", "4é"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
