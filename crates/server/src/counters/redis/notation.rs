//! How things are written in Redis, and read back: what cannot be read is an outage, never a default.

use std::fmt;
use std::slice::Iter;
use std::sync::Arc;

use billing::hold::Hold;
use billing::usage::{Credits, Quantity};
use redis::Value;

use crate::counters::book;
use crate::counters::reservations::{Fate, Known};
use crate::counters::{Numbers, Outage};

/// What was asked of an account, and what was known of it then.
#[derive(Debug)]
pub struct Asked {
    pub kind_count: usize,
    /// The number of the kind of each demand.
    pub kind_of: Vec<usize>,
    pub is_limited: bool,
    /// The life of the account of which the script speaks.
    pub life: Arc<str>,
    /// How often this process had published it.
    pub published: u64,
}

/// What is heard of a demand.
#[derive(Debug)]
pub enum Heard {
    Told(Told),
    /// The account in Redis has lost what this process did to it, or everything.
    Lost {
        published: u64,
    },
    /// The account in Redis is older than the one that this process has.
    Stale {
        published: u64,
    },
    /// Something is wrong with the account.
    Alone,
}

/// What the script said of a demand.
#[derive(Debug)]
pub struct Told {
    pub what: What,
    pub numbers: Numbers,
    pub seen: i64,
    pub tat_us: i64,
    /// The life of the account in which it was said.
    pub life: Arc<str>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum What {
    Granted,
    /// The hold that there is under its id.
    Again(String),
    Over,
    Credits,
    Day,
    Month,
    Uncountable,
    Minute,
    /// There is no room, and something is over that is not freed yet.
    Behind,
}

impl Heard {
    /// What the script answered, demand by demand.
    pub fn read_all(answer: &Value, asked: &[Asked]) -> Result<Vec<Self>, Outage> {
        let Value::Array(values) = answer else { return Err(garbage(answer)) };
        let mut values = values.iter();
        let mut all = Vec::new();
        for account in asked {
            Self::read(&mut values, account, &mut all)?.ok_or_else(|| garbage(answer))?;
        }
        if values.next().is_some() { Err(garbage(answer)) } else { Ok(all) }
    }

    fn read(values: &mut Iter<'_, Value>, asked: &Asked, all: &mut Vec<Self>) -> Result<Option<()>, Outage> {
        let Some(word) = values.next() else { return Ok(None) };
        let text = text_of(word)?;
        let undecided: Option<fn(u64) -> Self> = match &*text {
            "missing" | "lost" => Some(|published| Self::Lost { published }),
            "stale" => Some(|published| Self::Stale { published }),
            "alone" => Some(|_| Self::Alone),
            _ => None,
        };
        if let Some(heard) = undecided {
            all.extend((0..asked.kind_of.len()).map(|_| heard(asked.published)));
            return Ok(Some(()));
        }
        let credits = if text == "all" { None } else { Some(text.parse::<i64>().map_err(|_| garbage(word))?) };
        let mut used = vec![[0, 0]; asked.kind_count];
        if asked.is_limited {
            for figure in used.iter_mut().flatten() {
                let Some(value) = values.next() else { return Ok(None) };
                *figure = if *value == Value::Nil { 0 } else { int_of(value)? };
            }
        }
        for kind in &asked.kind_of {
            let Some(told) = Told::read(values, credits, used[*kind], &asked.life)? else { return Ok(None) };
            all.push(Self::Told(told));
        }
        Ok(Some(()))
    }
}

impl Told {
    fn read(
        values: &mut Iter<'_, Value>,
        credits: Option<i64>,
        [day, month]: [i64; 2],
        life: &Arc<str>,
    ) -> Result<Option<Self>, Outage> {
        let Some(what) = values.next() else { return Ok(None) };
        let what = What::read(what)?;
        let mut int = || values.next().map(int_of).transpose();
        let (Some(held), Some(held_kind), Some(tat_us), Some(seen)) = (int()?, int()?, int()?, int()?) else {
            return Ok(None);
        };
        let with_held = |used: i64| Quantity::from_micro(used.saturating_add(held_kind));
        let numbers = Numbers {
            credits: credits.map(|credits| Credits::from_micro(credits.saturating_sub(held))),
            today: with_held(day),
            month: with_held(month),
            tat_ns: Some(tat_us.saturating_mul(1_000)).filter(|tat_ns| *tat_ns > 0),
        };
        Ok(Some(Self { what, numbers, seen, tat_us, life: Arc::clone(life) }))
    }
}

impl What {
    fn read(value: &Value) -> Result<Self, Outage> {
        Ok(match value {
            Value::Int(0) => Self::Granted,
            Value::Int(1) => Self::Over,
            Value::Int(2) => Self::Credits,
            Value::Int(3) => Self::Day,
            Value::Int(4) => Self::Month,
            Value::Int(5) => Self::Uncountable,
            Value::Int(6) => Self::Minute,
            Value::Int(7) => Self::Behind,
            Value::BulkString(_) => Self::Again(text_of(value)?),
            _ => return Err(garbage(value)),
        })
    }
}

/// What an id of the caller's own leads to: what was asked for under it, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    pub known: Known,
    /// Long ago where it is not said.
    pub since_ms: i64,
}

impl Pointer {
    pub fn of(user: &str, hold: &Hold, since_ms: i64) -> Self {
        let Hold { kind, quantity, credits, expires_ms } = hold.clone();
        Self { known: Known { user: Arc::from(user), kind, quantity, credits, expires_ms, fate: Fate::Held }, since_ms }
    }

    /// As it lies in Redis; `serial` is of no other one.
    pub fn text(&self, serial: &str) -> String {
        let Known { user, kind, quantity, expires_ms, .. } = &self.known;
        format!("{user}\0{}:{expires_ms}:{kind}\0{}:{serial}", quantity.micro(), self.since_ms)
    }

    /// Nothing where there is none; else as it lies there, and what that says.
    pub fn read(value: &Value) -> Result<Option<(String, Self)>, Outage> {
        if *value == Value::Nil {
            return Ok(None);
        }
        let text = text_of(value)?;
        let read = || {
            let mut parts = text.splitn(3, '\0');
            let (user, mut hold, since) = (parts.next()?, parts.next()?.splitn(3, ':'), parts.next());
            let since_ms = since.and_then(|since| since.split_once(':')?.0.parse().ok());
            let hold = Hold {
                quantity: Quantity::from_micro(hold.next()?.parse().ok()?),
                expires_ms: hold.next()?.parse().ok()?,
                kind: hold.next()?.into(),
                credits: Credits::ZERO,
            };
            Some(Self::of(user, &hold, since_ms.unwrap_or(i64::MIN)))
        };
        let pointer = read().ok_or_else(|| garbage(value))?;
        Ok(Some((text, pointer)))
    }
}

/// A hold as it lies in Redis. It is more than 64 bytes: shorter ones would lie in one list up to 512 of an account, which is searched
/// from its start, twice for each that is added.
#[derive(Debug)]
pub struct HoldText<'h> {
    pub quantity: i64,
    pub credits: i64,
    pub expires_ms: i64,
    pub kind: &'h str,
}

impl fmt::Display for HoldText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h:{:>48}:{}:{}:{}", self.quantity, self.credits, self.expires_ms, self.kind)
    }
}

/// A user in a name that is of all shards.
pub fn owner(user: &str) -> impl fmt::Display + '_ {
    struct Owner<'u>(&'u str);
    impl fmt::Display for Owner<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}:{}", book::shard_of(self.0), self.0)
        }
    }
    Owner(user)
}

/// The hold in an answer; whose it is, the caller knows.
pub fn hold_of(text: &str) -> Result<Known, Outage> {
    let read = || {
        let mut parts = text.splitn(5, ':');
        let (state, quantity, credits, expires, kind) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        Some(Known {
            user: Arc::from(""),
            kind: kind.into(),
            quantity: Quantity::from_micro(quantity.trim_start().parse().ok()?),
            credits: Credits::from_micro(credits.parse().ok()?),
            expires_ms: expires.parse().ok()?,
            fate: match state {
                "h" => Fate::Held,
                "r" => Fate::Released,
                "c" => Fate::Committed(None),
                _ => return None,
            },
        })
    };
    read().ok_or_else(|| Outage(format!("a hold that cannot be read: {text:?}").into()))
}

/// What an id tells that this program made ([`crate::counters::Counters::new_id`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    pub shard: i64,
    pub expires_ms: i64,
}

impl Made {
    pub fn read(id: &str) -> Option<Self> {
        const DIGITS: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let ulid = id.strip_prefix("res_").filter(|ulid| ulid.len() == 26)?;
        let mut bits = 0_u128;
        for byte in ulid.bytes() {
            let digit = DIGITS.iter().position(|digit| *digit == byte)?;
            bits = bits.wrapping_shl(5) | u128::try_from(digit).ok()?;
        }
        let of = |from: u32, count: u32| i64::try_from(bits.wrapping_shr(from) & ((1 << count) - 1)).ok();
        let (shard, seconds, made_ms) = (of(0, 10)?, of(10, 17)?, of(80, 48)?);
        (seconds > 0).then_some(Self { shard, expires_ms: made_ms.saturating_add(seconds.saturating_mul(1_000)) })
    }
}

pub fn text_at(answer: &Value, at: usize) -> Result<String, Outage> {
    match answer {
        Value::Array(parts) => parts.get(at).map_or_else(|| Err(garbage(answer)), text_of),
        _ => Err(garbage(answer)),
    }
}

fn int_of(value: &Value) -> Result<i64, Outage> {
    match value {
        Value::Int(number) => Ok(*number),
        _ => text_of(value)?.parse().map_err(|_| garbage(value)),
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
    use crate::counters::Counters;

    #[test]
    fn a_pointer_is_read_as_it_was_written_and_one_of_an_earlier_version_too() {
        let hold = Hold {
            kind: "a:b".into(),
            quantity: Quantity::from_micro(7),
            credits: Credits::ZERO,
            expires_ms: 1_763_812_800_123,
        };
        let pointer = |since_ms| Pointer::of("usr_1", &hold, since_ms);
        let old = "usr_1\0".to_owned() + "7:1763812800123:a:b";
        for (text, pointer) in [
            (pointer(5).text("s-1"), pointer(5)),
            (pointer(i64::MIN).text("s:2"), pointer(i64::MIN)),
            (old, pointer(i64::MIN)),
        ] {
            let lies = Value::BulkString(text.clone().into_bytes());
            assert_eq!(Pointer::read(&lies).expect("it can be read"), Some((text, pointer)));
        }
        assert!(Pointer::read(&Value::BulkString(b"usr_1".to_vec())).is_err());
        assert_eq!(Pointer::read(&Value::Nil).expect("nothing"), None);
    }

    #[test]
    fn an_id_leads_to_the_shard_of_its_user_and_tells_when_it_ends() {
        let now = Timestamp::from_millisecond(1_763_812_800_123).expect("a time");
        for user in ["usr_1", "usr_2", "u", "somebody@example.com"] {
            for (seconds, random) in [(1, [255; 10]), (86_400, [0; 10]), (300, [85; 10])] {
                let expires_ms = 1_763_812_800_123 + seconds * 1_000;
                let id = Counters::new_id(user, now, expires_ms, random);
                assert_eq!(Made::read(&id), Some(Made { shard: book::shard_of(user), expires_ms }), "{id}");
            }
            for untold_ms in [1_763_812_800_124, 1_763_812_800_123, 1_763_812_800_122, i64::MAX] {
                assert_eq!(Made::read(&Counters::new_id(user, now, untold_ms, [255; 10])), None, "{untold_ms}");
            }
        }
        for foreign in ["res_", "my-own-id", "res_01KAN9SRY0W6V9T0YQW1X2Z3AÜ", "res_01KAN9SRY0W6V9T0YQW1X2Z3AI"] {
            assert_eq!(Made::read(foreign), None);
        }
    }
}
