//! Limits: credits, caps by day and month, and the rate by the minute.

use billing::account::Account;
use billing::catalogue::{Limit, WhenUnknown};
use billing::entry::{Entry, Fact, Terms};
use billing::hold::{Held, Hold};
use billing::limit::{self, Gcra, Refusal, Wait};
use billing::usage::{Credits, Quantity};
use proptest::prelude::*;

use crate::ledger::{credits, ledger, shown, terms};
use crate::{check, named};

const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;

fn quantity(text: &str) -> Quantity {
    Quantity::parse(text).expect("a quantity")
}

/// `held=5 day=10 month=20 ask=3*0.5`: holds, limits and the question, after a line of the account.
fn asked(line: &str) -> String {
    let (line, words) = line.split_once('|').expect("an account | a question");
    let ledger = ledger(line.trim());
    let option = |name: &str| words.split_whitespace().find_map(|word| word.strip_prefix(name));
    let (day, month) = (option("day=").map(quantity), option("month=").map(quantity));
    let limit = Limit { per_day: day, per_month: month, per_minute: None, when_unknown: WhenUnknown::Open };
    let mut held = Held::default();
    if let Some(amount) = option("held=") {
        let (quantity, credits) = (quantity(amount), credits(amount));
        held.place("h", Hold { kind: "inference".into(), quantity, credits, expires_ms: i64::MAX });
    }
    let ask = option("ask=").expect("a question");
    let (amount, weight) = ask.split_once('*').unwrap_or((ask, "1"));
    let amount = Quantity::from_micro(credits(amount).micro());
    let room = ledger.account.room(ledger.now_ms).expect("room");
    let shown_left = |left: Option<Quantity>| left.map_or("-".to_owned(), Quantity::wire);
    match limit::decide(&room, &held, Some(&limit), "inference", amount, credits(weight)) {
        Ok(left) => {
            let credits = left.credits.map_or("all".to_owned(), Credits::wire);
            format!("{credits} {} {}", shown_left(left.today), shown_left(left.month))
        }
        Err(Refusal::Credits { reset_ms, remaining }) => format!("Credits {remaining} {}", shown(reset_ms)),
        Err(Refusal::PerDay { limit, used, reset_ms }) => format!("PerDay {used}/{limit} {}", shown(reset_ms)),
        Err(Refusal::PerMonth { limit, used, reset_ms }) => format!("PerMonth {used}/{limit} {}", shown(reset_ms)),
        Err(other) => named(other),
    }
}

#[test]
fn i03_what_is_held_counts_as_used() {
    // Left after it: credits, of the day, of the month.
    check(
        "
        5 block; 11-10 use 1 | ask=4                                -> 0 - -
        5 block; 11-10 use 1 | ask=4.000001                         -> Credits 4 12-01
        5 block; 11-10 use 1 | held=4 ask=0.000001                  -> Credits 0 12-01
        5 block; 11-10 use 1 | held=4 ask=0                         -> 0 - -
        5 block; 11-10 use 9 | ask=0.000001                         -> Credits 0 12-01
        5 block; 11-10 use 1 | held=3 ask=2*0.5                     -> 0 - -
        5 block; 11-10 use 1 | ask=0.000001*0.000001                -> 3.999999 - -        # rounded up
        5 bill=2.00; 11-10 use 9 | held=100 ask=1000                -> all - -
        5 bill=2.00 cap=10; 11-10 use 9 | held=4 ask=2              -> 0 - -
        5 bill=2.00 cap=10; 11-10 use 9 | held=4 ask=3              -> Credits 2 12-01
        50 block; 11-09 use 6; 11-10 use 3 | day=10 month=20 ask=5  -> 36 2 6
        50 block; 11-09 use 6; 11-10 use 3 | day=10 month=20 held=2 ask=5 -> 34 0 4
        50 block; 11-09 use 6; 11-10 use 3 | day=10 month=20 held=2 ask=6 -> PerDay 5/10 11-11
        50 block; 11-09 use 6; 11-10 use 3 | day=99 month=20 held=2 ask=10 -> PerMonth 11/20 12-01
        50 block; 11-10 use tts=9 | day=10 ask=10                   -> 31 0 -              # of each type
        50 block; 11-10 use 12 | day=10 ask=0                       -> PerDay 12/10 11-11
        5 block; 11-10 use 5 | day=1 ask=1                          -> Credits 0 12-01     # credits before caps
        5 block ends=11-10; 11-10 use 1 | ask=0                     -> TrialOver
        5 bill=2.00 ends=11-10; 11-10 use 1 | ask=1                 -> TrialOver
        5 bill=2.00; 11-10 use 1 | ask=-1                           -> Uncountable
        5 bill=2.00; 11-10 use 1 | ask=9223372036854*2              -> Uncountable
        5 bill=2.00; 11-10 use 1 | held=9223372036854 ask=1         -> Uncountable
        ",
        asked,
    );
}

/// What a hold is worth.
type Worth = fn(Quantity, Credits) -> i64;

/// I-03, exactly: after reservations that were decided, and commits of some of them, what is spent (in picocredits) and
/// held is within the cap. Each ask is a quantity, a weight, and whether its work is done at once.
fn overspends(cap: i64, asks: &[(i64, i64, bool)], worth: Worth) -> bool {
    let terms = Terms { included: Credits::from_micro(cap), ..terms("0 block") };
    let at_ms = 1_794_268_800_000;
    let (mut account, mut held) = (Account::new(terms, at_ms).expect("an account"), Held::default());
    let mut spent_pico = 0;
    for (position, (quantity, weight, done)) in (1..).zip(asks) {
        let (quantity, weight) = (Quantity::from_micro(*quantity), Credits::from_micro(*weight));
        let room = account.room(at_ms).expect("room");
        let credits = Credits::from_micro(worth(quantity, weight));
        let whole = Quantity::from_micro(1_000_000);
        if limit::decide(&room, &held, None, "tts", whole, credits).is_err() {
            continue;
        }
        let id = position.to_string();
        held.place(id.as_str(), Hold { kind: "tts".into(), quantity, credits, expires_ms: i64::MAX });
        if *done {
            let fact = Fact::Usage { kind: "tts", quantity, weight };
            let entry = Entry { position, event_ms: at_ms, received_ms: at_ms, fact };
            spent_pico += account.fold(&entry).expect("folded").cost_pico;
            held.take(&id);
        }
    }
    spent_pico + i128::from(held.credits().micro()) * 1_000_000 > i128::from(cap) * 1_000_000
}

fn rounded_up(quantity: Quantity, weight: Credits) -> i64 {
    limit::credits_for(quantity, weight).expect("credits").micro()
}

/// The seeded bug.
fn rounded_down(quantity: Quantity, weight: Credits) -> i64 {
    quantity.micro() * weight.micro() / 1_000_000
}

proptest! {
    #[test]
    fn i03_spent_and_held_stay_within_the_cap_to_the_last_picocredit(
        cap in 0..60_i64,
        asks in prop::collection::vec((0..9_i64, 0..2_000_000_i64, any::<bool>()), 1..40),
    ) {
        prop_assert!(!overspends(cap, &asks, rounded_up));
    }
}

#[test]
fn i03_the_check_sees_holds_that_are_rounded_down() {
    let asks = vec![(1, 900_000, true); 100];
    assert!(!overspends(5, &asks, rounded_up));
    assert!(overspends(5, &asks, rounded_down));
}

/// A thousand reservations of 0.10 on a cap of 5.00.
#[test]
fn i03_a_cap_of_five_grants_fifty_tenths() {
    let account = Account::new(terms("5 block"), 1_794_268_800_000).expect("an account");
    let room = account.room(1_794_268_800_000).expect("room");
    let (mut held, tenth) = (Held::default(), credits("0.1"));
    let mut granted = 0;
    for place in 0..1_000 {
        if limit::decide(&room, &held, None, "tts", quantity("1"), tenth).is_ok() {
            let hold = Hold { kind: "tts".into(), quantity: quantity("1"), credits: tenth, expires_ms: i64::MAX };
            held.place(place.to_string(), hold);
            granted += 1;
        }
    }
    assert_eq!((granted, held.credits()), (50, credits("5")));
}

#[test]
fn credits_of_a_quantity_are_rounded_up() {
    check(
        "
        3 1                 -> 3
        3 2.5               -> 7.5
        0.000001 1          -> 0.000001
        0.000001 0.5        -> 0.000001
        0.000001 0.000001   -> 0.000001
        0.000003 0.5        -> 0.000002
        1234567 0.0004      -> 493.8268
        0 1                 -> 0
        5 0                 -> 0
        5 -1                -> Negative
        -5 1                -> Negative
        9223372036854.775807 1 -> 9223372036854.775807
        9223372036854.775807 1.000001 -> Overflow
        ",
        |row| {
            let (quantity, weight) = row.split_once(' ').expect("a quantity and a weight");
            let quantity = Quantity::from_micro(credits(quantity).micro());
            limit::credits_for(quantity, credits(weight)).map_or_else(named, Credits::wire)
        },
    );
}

#[test]
fn i17_rates_by_the_minute() {
    // A quota, then costs at seconds: what is answered to each.
    check(
        "
        60: 0s 60, 0s 1, 1s 1, 1s 1, 61s 60        -> ok, wait 1000 of 0, ok, wait 1000 of 0, ok
        60: 0s 59, 0s 2, 0s 1                      -> ok, wait 1000 of 1, ok
        60: 0s 61                                  -> never 60
        60: 0s 30, 0s 61                           -> ok, never 30
        1: 0s 1, 59s 1, 60s 1                      -> ok, wait 1000 of 0.983333, ok
        7: 0s 7, 8s 1, 9s 1                        -> ok, wait 572 of 0.933333, ok           # 8.571428… seconds each
        0: 0s 0, 0s 1                              -> ok, never 0
        0.5: 0s 0.5, 30s 0.25                      -> ok, ok
        60: 3600s 60, 0s 60, 0s 1                  -> ok, ok, wait 1000 of 0                 # F-49: an hour back does not last an hour
        60: 2s 60, 0s 1, 2s 1, 3s 1                -> ok, wait 3000 of 0, wait 1000 of 0, ok # two nodes whose clocks differ
        60: 0s 60, 3600s 60, 3600s 1               -> ok, ok, wait 1000 of 0                 # no more than one burst is saved
        ",
        |row| {
            let (quota, costs) = row.split_once(':').expect("a quota");
            let (mut tat_ns, quota) = (None, quantity(quota));
            let mut said = Vec::new();
            for cost in costs.split(',') {
                let (second, cost) = cost.trim().split_once("s ").expect("when and what");
                let now_ns = 1_794_700_800 * SECOND + second.parse::<i64>().expect("a second") * SECOND;
                said.push(match Gcra::admit(tat_ns, now_ns, quantity(cost), quota) {
                    Ok(tat) => {
                        tat_ns = Some(tat);
                        "ok".to_owned()
                    }
                    Err(Wait { never: true, remaining, .. }) => format!("never {remaining}"),
                    Err(Wait { retry_after_ms, remaining, .. }) => format!("wait {retry_after_ms} of {remaining}"),
                });
            }
            said.join(", ")
        },
    );
}

#[test]
fn what_remains_of_the_minute() {
    let (now, quota) = (1_794_700_800 * SECOND, quantity("60"));
    let tat = Gcra::admit(None, now, quantity("20"), quota).expect("admitted");
    assert_eq!(Gcra::remaining(None, now, quota), quota);
    assert_eq!(Gcra::remaining(Some(tat), now, quota), quantity("40"));
    assert_eq!(Gcra::remaining(Some(tat), now + 5 * SECOND, quota), quantity("45"));
    assert_eq!(Gcra::remaining(Some(tat), now + MINUTE, quota), quota);
}

type Admit = fn(Option<i64>, i64, Quantity, Quantity) -> Result<i64, Wait>;

/// I-17: in no stretch of time is more admitted than the quota times that time, and one burst of a quota. Answers the
/// stretch in which it is.
fn too_much(admit: Admit, quota: i64, asks: &[(i64, i64)]) -> Option<(i64, i64)> {
    let (mut tat_ns, mut now_ns) = (None, 1_794_700_800 * SECOND);
    let mut admitted: Vec<(i64, i64)> = Vec::new();
    for (pause, cost) in asks {
        now_ns += pause;
        if let Ok(tat) = admit(tat_ns, now_ns, Quantity::from_micro(*cost), Quantity::from_micro(quota)) {
            tat_ns = Some(tat);
            admitted.push((now_ns, *cost));
        }
    }
    let windows = (0..admitted.len()).flat_map(|from| (from..admitted.len()).map(move |to| (from, to)));
    let exceeds = |(from, to): &(usize, usize)| {
        let sum: i128 = admitted[*from..=*to].iter().map(|(_, cost)| i128::from(*cost)).sum();
        let span = i128::from(admitted[*to].0 - admitted[*from].0);
        sum * i128::from(MINUTE) > i128::from(quota) * (span + i128::from(MINUTE))
    };
    windows.into_iter().find(exceeds).map(|(from, to)| (admitted[from].0, admitted[to].0))
}

fn asks() -> impl Strategy<Value = Vec<(i64, i64)>> {
    let pause = prop_oneof![Just(0), 0..1_000_i64, 0..5 * SECOND, 0..2 * MINUTE];
    prop::collection::vec((pause, 0..2_000_000_i64), 1..60)
}

proptest! {
    #[test]
    fn i17_never_more_than_the_quota_and_a_burst_in_any_window(quota in 1..5_000_000_i64, asks in asks()) {
        prop_assert_eq!(too_much(Gcra::admit, quota, &asks), None);
    }

    #[test]
    fn i17_who_waits_as_long_as_told_is_admitted(quota in 1..5_000_000_i64, asks in asks(), cost in 1..2_000_000_i64) {
        let (mut tat_ns, mut now_ns) = (None, 1_794_700_800 * SECOND);
        let (cost, quota) = (Quantity::from_micro(cost), Quantity::from_micro(quota));
        for (pause, cost) in asks {
            now_ns += pause;
            tat_ns = Gcra::admit(tat_ns, now_ns, Quantity::from_micro(cost), quota).ok().or(tat_ns);
        }
        if let Err(wait) = Gcra::admit(tat_ns, now_ns, cost, quota) && !wait.never {
            let then = now_ns + wait.retry_after_ms * 1_000_000;
            prop_assert!(Gcra::admit(tat_ns, then, cost, quota).is_ok(), "{:?}", wait);
            let sooner = then - 1_000_000;
            prop_assert!(Gcra::admit(tat_ns, sooner, cost, quota).is_err(), "not a millisecond too long: {:?}", wait);
        }
    }
}

/// Costs that fill a quota up to the last millionth, and then many of the smallest one.
fn filling() -> Vec<(i64, i64)> {
    (0..44).rev().map(|bit| (0, 1 << bit)).chain(std::iter::repeat_n((0, 1), 100)).collect()
}

/// A quota so large that a cost takes no whole number of nanoseconds: what is rounded away must not add up to a cost.
#[test]
fn i17_nothing_is_rounded_away() {
    for quota in [7, 999_999_999_989, 1_000_000_000_000, 9_007_199_254_740_881] {
        assert_eq!(too_much(Gcra::admit, quota, &filling()), None, "{quota}");
    }
}

/// Seeded bugs: a limiter that rounds costs down, and one that forgets its state after a pause.
#[test]
fn i17_the_check_sees_a_leaking_limiter() {
    let rounds_down: Admit = |tat_ns, now_ns, cost, quota| {
        let more = i128::from(cost.micro()) * i128::from(MINUTE) / i128::from(quota.micro());
        let after = (tat_ns.unwrap_or(now_ns) - now_ns).max(0) + i64::try_from(more).expect("nanoseconds");
        let wait = Wait { retry_after_ms: 0, remaining: Quantity::ZERO, never: false };
        if after <= MINUTE { Ok(now_ns + after) } else { Err(wait) }
    };
    assert!(too_much(rounds_down, 999_999_999_989, &filling()).is_some());
    let forgets: Admit = |tat, now, cost, quota| Gcra::admit(tat.filter(|tat| tat - now > SECOND), now, cost, quota);
    let steady: Vec<_> = std::iter::repeat_n((SECOND / 2, 1), 300).collect();
    assert_eq!(too_much(Gcra::admit, 60, &steady), None);
    assert!(too_much(forgets, 60, &steady).is_some());
}
