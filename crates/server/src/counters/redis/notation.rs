//! How things are written in Redis, and read back: what cannot be read is an outage, never a default.

use std::sync::Arc;

use billing::usage::{Credits, Quantity};
use redis::Value;

use crate::counters::reservations::{Fate, Known};
use crate::counters::{Numbers, Outage};

/// What the script said of a demand.
#[derive(Debug)]
pub struct Told {
    pub what: String,
    pub numbers: Numbers,
    pub seen: i64,
    pub tat_us: i64,
    pub hold: String,
    /// The life of the account in which it was said.
    pub life: Arc<str>,
}

impl Told {
    /// A line for each of so many demands.
    pub fn read_all(answer: &Value, count: usize, life: &Arc<str>) -> Result<Vec<Self>, Outage> {
        let Value::Array(parts) = answer else { return Err(garbage(answer)) };
        if parts.len() != count + 1 {
            return Err(garbage(answer));
        }
        parts[1..].iter().map(|line| Self::read(&text_of(line)?, life).ok_or_else(|| garbage(line))).collect()
    }

    fn read(line: &str, life: &Arc<str>) -> Option<Self> {
        let mut words = line.splitn(9, ' ');
        let (what, credits) = (words.next()?, words.next()?);
        let mut int = || words.next()?.parse::<i64>().ok();
        let (held, day, month, held_kind, tat_us, seen) = (int()?, int()?, int()?, int()?, int()?, int()?);
        let credits = match credits {
            "all" => None,
            limited => Some(Credits::from_micro(limited.parse::<i64>().ok()?.saturating_sub(held))),
        };
        let with_held = |used: i64| Quantity::from_micro(used.saturating_add(held_kind));
        Some(Self {
            what: what.to_owned(),
            numbers: Numbers {
                credits,
                today: with_held(day),
                month: with_held(month),
                tat_ns: Some(tat_us.saturating_mul(1_000)).filter(|tat_ns| *tat_ns > 0),
            },
            seen,
            tat_us,
            hold: words.next()?.to_owned(),
            life: Arc::clone(life),
        })
    }
}

pub fn pointer(user: &str, quantity: Quantity, expires_ms: i64, kind: &str) -> String {
    format!("{user}\0{}:{expires_ms}:{kind}", quantity.micro())
}

pub fn pointed_at(value: &Value) -> Result<Option<Known>, Outage> {
    if *value == Value::Nil {
        return Ok(None);
    }
    let text = text_of(value)?;
    let read = || {
        let (user, rest) = text.split_once('\0')?;
        let mut parts = rest.splitn(3, ':');
        let (quantity, expires, kind) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Known {
            user: Arc::from(user),
            kind: kind.into(),
            quantity: Quantity::from_micro(quantity.parse().ok()?),
            credits: Credits::ZERO,
            expires_ms: expires.parse().ok()?,
            fate: Fate::Held,
        })
    };
    read().map(Some).ok_or_else(|| garbage(value))
}

/// The hold in an answer; whose it is, the caller knows.
pub fn hold_of(text: &str) -> Result<Known, Outage> {
    let read = || {
        let mut parts = text.splitn(5, ':');
        let (state, quantity, credits, expires, kind) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let quantity = Quantity::from_micro(quantity.parse().ok()?);
        Some(Known {
            user: Arc::from(""),
            kind: kind.into(),
            quantity,
            credits: Credits::from_micro(credits.parse().ok()?),
            expires_ms: expires.parse().ok()?,
            fate: match state {
                "h" => Fate::Held,
                "r" => Fate::Released,
                "c" => Fate::Committed { quantity, position: 0, late: false },
                _ => return None,
            },
        })
    };
    read().ok_or_else(|| Outage(format!("a hold that cannot be read: {text:?}").into()))
}

/// The shard in an id that this program made ([`crate::counters::Counters::new_id`]).
pub fn shard_in(id: &str) -> Option<i64> {
    const DIGITS: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let ulid = id.strip_prefix("res_").filter(|ulid| ulid.len() == 26)?;
    let digit = |at: usize| DIGITS.iter().position(|digit| *digit == ulid.as_bytes()[at]);
    i64::try_from(digit(24)? * 32 + digit(25)?).ok()
}

pub fn text_at(answer: &Value, at: usize) -> Result<String, Outage> {
    match answer {
        Value::Array(parts) => parts.get(at).map_or_else(|| Err(garbage(answer)), text_of),
        _ => Err(garbage(answer)),
    }
}

pub fn text_of(value: &Value) -> Result<String, Outage> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).map_err(|error| Outage(error.into())),
        Value::SimpleString(text) => Ok(text.clone()),
        Value::Int(number) => Ok(number.to_string()),
        Value::Okay => Ok("OK".to_owned()),
        _ => Err(garbage(value)),
    }
}

pub fn garbage(value: &Value) -> Outage {
    Outage(format!("an answer of another kind: {value:?}").into())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::counters::{Counters, book};

    #[test]
    fn an_id_leads_to_the_shard_of_its_user() {
        for user in ["usr_1", "usr_2", "u", "somebody@example.com"] {
            let id = Counters::new_id(user, Timestamp::UNIX_EPOCH, [255; 10]);
            assert_eq!(shard_in(&id), Some(book::shard_of(user)), "{id}");
        }
        for foreign in ["res_", "my-own-id", "res_01KAN9SRY0W6V9T0YQW1X2Z3AÜ", "res_01KAN9SRY0W6V9T0YQW1X2Z3AI"] {
            assert_eq!(shard_in(foreign), None);
        }
    }
}
