//! I-17: rates by the minute are decided by the core in memory and by a script in Redis. Ask for ask, both say the same.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use billhook::counters::{Answer, Ask, Demand, Rate, Verdict};
use billhook::ops::reservations;
use billing::catalogue::{Limit, WhenUnknown};
use billing::limit::{Gcra, Refusal};
use billing::usage::{Credits, Quantity};
use jiff::{SignedDuration, Timestamp};

use super::trace::Dice;
use super::{Adapter, Rig, quantity};
use crate::harness::{NOW, instant};

/// Units a minute. Of the first, each millionth is worth a whole microsecond; of the others not, or none is allowed at all.
const QUOTAS: [&str; 6] = ["60", "7", "0.5", "0.000001", "999999.999989", "0"];
const MINUTE_NS: i64 = 60_000_000_000;
const MINUTE_US: i64 = 60_000_000;
const STEPS: usize = 1_500;

/// What has to have happened, or this proves little.
const SEEN: [&str; 10] = [
    "came again as told",
    "checked",
    "never",
    "refused",
    "refused: by a clock that is behind",
    "refused: nothing, by a clock that is behind",
    "taken",
    "taken: nothing",
    "taken: of a clock that was set back",
    "taken: rounded up",
];

/// A type for each quota, and nothing else that limits.
fn catalogue() -> String {
    let mut text = "currency = \"usd\"\n[tiers.trial]\nname = \"Trial\"\nprice = \"0.00\"\nincluded_credits = \"5\"
overage = \"bill\"\nprice_per_1k = \"2.00\"\n"
        .to_owned();
    for (place, quota) in QUOTAS.iter().enumerate() {
        let _infallible = write!(
            text,
            "[events.rate{place}]\ncredits = \"0\"\n[tiers.trial.limits.rate{place}]\nper_minute = \"{quota}\"
when_unknown = \"closed\"\n"
        );
    }
    text
}

/// A type with its quota, and what the core says of it by itself.
struct Kind {
    name: Arc<str>,
    limit: Limit,
    tat_ns: Option<i64>,
    /// How often something was taken since it was whole: in Redis each is rounded up to the microsecond.
    taken: i64,
}

impl Kind {
    fn all() -> Vec<Self> {
        let kind = |(place, quota): (usize, &&str)| Self {
            name: Arc::from(format!("rate{place}")),
            limit: Limit {
                per_day: None,
                per_month: None,
                per_minute: Some(quantity(quota)),
                when_unknown: WhenUnknown::Closed,
            },
            tat_ns: None,
            taken: 0,
        };
        QUOTAS.iter().enumerate().map(kind).collect()
    }

    fn quota(&self) -> Quantity {
        self.limit.per_minute.expect("a rate")
    }
}

/// How it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Held,
    Passed,
    Checked,
}

async fn asked(rig: &Rig, demand: Demand<'_>, how: How, step: usize) -> Answer {
    let (app, slot) = (rig.app(), rig.app().book.get(&rig.user).expect("an account"));
    let expires_ms = demand.now.as_millisecond() + 1_000;
    let answer = match how {
        How::Held => {
            let ask = Ask { id: &Arc::from(format!("r{step}")), is_new: false, demand, expires_ms };
            app.counters.reserve(&app.book, &slot, &ask).await
        }
        How::Passed => app.counters.check(&app.book, &slot, &demand, Rate::Taken).await,
        How::Checked => app.counters.check(&app.book, &slot, &demand, Rate::Kept).await,
    };
    answer.expect("an answer")
}

/// How long until the next ask, in microseconds: often none, seldom more than a minute, now and then back.
fn pause_us(dice: &mut Dice) -> i64 {
    let below = |dice: &mut Dice, bound: i64| i64::try_from(dice.below(bound.unsigned_abs())).expect("small");
    match dice.below(24) {
        0..=9 => 0,
        10..=13 => below(dice, 1_000),
        14..=18 => below(dice, 5_000_000),
        19..=20 => below(dice, 2 * MINUTE_US),
        21 => -below(dice, MINUTE_US),
        22 => -2 * MINUTE_US - below(dice, MINUTE_US),
        _ => 60 * MINUTE_US,
    }
}

/// Mostly what is near the edges of a quota.
fn cost(dice: &mut Dice, quota: Quantity) -> Quantity {
    let quota = quota.micro();
    let micro = match dice.below(9) {
        0 => 0,
        1 => 1,
        2 => quota / 7,
        3 => quota / 3 + 1,
        4 => quota - 1,
        5 => quota,
        6 => quota + 1,
        _ => i64::try_from(dice.below(quota.unsigned_abs() + 1)).expect("small"),
    };
    Quantity::from_micro(micro.max(0))
}

/// Asks both and compares; answers how long to wait, and what was seen.
fn compared(
    kind: &mut Kind,
    demand: &Demand<'_>,
    how: How,
    answer: &Answer,
) -> Result<(Option<i64>, &'static str), String> {
    let now_ns = i64::try_from(demand.now.as_nanosecond()).expect("a time of this century");
    let debt_ns = kind.tat_ns.map_or(0, |tat_ns| tat_ns - now_ns);
    let is_whole = debt_ns <= -1_000 * kind.taken || debt_ns > 2 * MINUTE_NS;
    let expected = Gcra::admit(kind.tat_ns, now_ns, demand.quantity, kind.quota());
    let parted = Err(format!("{debt_ns} ns of debt, the core says {expected:?}, Redis {answer:?}"));
    match (&answer.verdict, expected) {
        (Verdict::Granted, Ok(_)) if how == How::Checked => Ok((None, "checked")),
        (Verdict::Granted, Ok(tat_ns)) => {
            kind.tat_ns = Some(tat_ns);
            kind.taken = if is_whole { 1 } else { kind.taken + 1 };
            let rounded_ns = answer.numbers.tat_ns.unwrap_or_default() - tat_ns;
            match rounded_ns {
                _ if !(0..1_000 * kind.taken).contains(&rounded_ns) => parted,
                0 if demand.quantity == Quantity::ZERO => Ok((None, "taken: nothing")),
                0 if debt_ns > 2 * MINUTE_NS => Ok((None, "taken: of a clock that was set back")),
                0 => Ok((None, "taken")),
                _ => Ok((None, "taken: rounded up")),
            }
        }
        (Verdict::Refused(Refusal::PerMinute { retry_after_ms }), Err(wait)) => match wait.never {
            true if *retry_after_ms == i64::MAX => Ok((None, "never")),
            false if (wait.retry_after_ms..=wait.retry_after_ms + 1).contains(retry_after_ms) => {
                let is_ahead = debt_ns > MINUTE_NS;
                let is_nothing = demand.quantity == Quantity::ZERO;
                let seen = match (is_ahead, is_nothing) {
                    (true, true) => "refused: nothing, by a clock that is behind",
                    (true, false) => "refused: by a clock that is behind",
                    _ => "refused",
                };
                Ok((Some(*retry_after_ms), seen))
            }
            _ => parted,
        },
        _ => parted,
    }
}

/// The same asks for the core alone and for the script: the same verdicts, the same pauses to the millisecond, through clocks that
/// are set back and a Redis that forgets.
#[tokio::test]
async fn i17_redis_admits_what_the_core_admits() {
    let mut seen = BTreeMap::<&str, u32>::new();
    for seed in 31..=32 {
        let rig = Rig::priced(Adapter::Redis, &catalogue()).await;
        reservations::check(rig.app(), &rig.user, "rate0", Quantity::ZERO).await.expect("an account");
        let (mut dice, mut kinds) = (Dice::new(seed), Kind::all());
        let (mut now, mut again): (Timestamp, Option<(usize, Quantity, i64)>) = (instant(NOW), None);
        for step in 0..STEPS {
            // Whoever was refused comes again when they were told, or somebody else comes.
            let told = again.take().filter(|_| dice.below(2) == 0);
            let (place, quantity, pause) = if let Some((place, quantity, wait_ms)) = told {
                (place, quantity, wait_ms * 1_000)
            } else {
                let place = usize::try_from(dice.below(QUOTAS.len() as u64)).expect("small");
                (place, cost(&mut dice, kinds[place].quota()), pause_us(&mut dice))
            };
            now += SignedDuration::from_micros(pause);
            let how = [How::Held, How::Passed, How::Checked][usize::try_from(dice.below(3)).expect("small")];
            if dice.below(30) == 0 {
                rig.server.as_ref().expect("a Redis").ask(&["FLUSHALL"]);
            }
            let kind = &mut kinds[place];
            let (name, limit) = (Arc::clone(&kind.name), kind.limit);
            let demand = Demand { kind: &name, quantity, weight: Credits::ZERO, limit: Some(&limit), now };
            let answer = asked(&rig, demand, how, step).await;
            let (wait_ms, what) = compared(kind, &demand, how, &answer)
                .unwrap_or_else(|parted| panic!("seed {seed}, step {step}, {how:?} {quantity} of {name}: {parted}"));
            *seen.entry(what).or_default() += 1;
            assert!(told.is_none() || wait_ms.is_none(), "seed {seed}, step {step}: {told:?} and {wait_ms:?} again");
            *seen.entry("came again as told").or_default() += u32::from(told.is_some());
            again = wait_ms.map(|wait_ms| (place, quantity, wait_ms));
        }
    }
    assert!(seen.values().all(|count| *count > 0) && seen.keys().eq(&SEEN), "{seen:?}");
}
