//! Other terms in the middle of a period, and the periods that terms give.

use std::borrow::Cow;

use billing::account::Account;
use billing::entry::{Entry, Fact, PlanChange, Terms};
use billing::time::{self, Window};
use billing::usage::Credits;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use crate::check;
use crate::histories::samples;
use crate::ledger::{at, ledger, ms, shown, terms};

#[test]
fn terms_change_in_the_middle_of_a_period() {
    // November has thirty days: the change on the 11th leaves two thirds of it, on the 16th a half.
    check(
        "
        500 bill=2.00; 11-10 use 450; 11-11 plan keep_used 1000 bill=1.00            -> of 1000 used 450 left 550 over 0 cost 0.00
        500 bill=2.00; 11-10 use 585; 11-11 plan keep_used 1000 bill=1.00            -> of 1000 used 585 left 415 over 85 cost 0.17   # what was owed is owed
        500 bill=2.00; 11-10 use 600; 11-11 plan keep_used 5000 bill=1.00; 11-12 use 4400 -> of 5000 used 5000 left 0 over 100 cost 0.20
        500 bill=2.00; 11-10 use 600; 11-11 plan keep_used 5000 bill=1.00; 11-12 use 4500 -> of 5000 used 5100 left 0 over 200 cost 0.30 # all that was used counts
        500 bill=2.00; 11-10 use 585; 11-11 plan keep_used 500 bill=1.00; 11-12 use 85 -> of 500 used 670 left 0 over 170 cost 0.26   # 0.17 + 0.085, rounded once
        500 bill=2.00; 11-10 use 585; 11-11 plan keep_used 500 bill=1.00; 11-12 use 85; 11-13 void 100 -> of 500 used 570 left 0 over 70 cost 0.14   # the latest first
        500 bill=2.00; 11-10 use 300; 11-11 plan keep_used 100 bill=2.00             -> of 100 used 300 left 0 over 0 cost 0.00       # a downgrade sends no bill
        500 bill=2.00; 11-10 use 300; 11-11 plan keep_used 100 bill=2.00; 11-12 use 1 -> of 100 used 301 left 0 over 1 cost 0.00
        300 block; 11-10 use 100; 11-11 plan prorate 600 block                       -> of 500 used 100 left 400 over 0 cost 0.00     # 100 + 400
        300 block; 11-10 use 100; 11-16 plan prorate 600 block                       -> of 450 used 100 left 350 over 0 cost 0.00
        300 block; 11-11 plan prorate 600 block; 11-21 plan prorate 900 block        -> of 600 used 0 left 600 over 0 cost 0.00       # 100 + 200 + 300
        300 block; 11-11 plan prorate 600 block; 11-11 plan prorate 300 block        -> of 300 used 0 left 300 over 0 cost 0.00       # there and back
        0.000001 block; 11-16 plan prorate 0.000001 block tier=two                   -> of 0.000001 used 0 left 0.000001 over 0 cost 0.00   # the odd part is the later one's
        300 block; 11-16 plan prorate 600 block; 11-11@11-17 plan prorate 300 block tier=two -> of 300 used 0 left 300 over 0 cost 0.00 # not before the last change
        300 block; 11-16 roll; 10-31@11-16 plan prorate 600 block                    -> of 600 used 0 left 600 over 0 cost 0.00       # not before the period
        300 block; 11-10 use 100; 11-11 plan reset 600 block                         -> of 600 used 0 left 600 over 0 cost 0.00
        300 block; 11-10 use 100; 11-11 plan reset 300 block                         -> of 300 used 100 left 200 over 0 cost 0.00     # equal terms: nothing
        300 block; 11-10 use 100; 11-11 plan keep_used 300 block                     -> of 300 used 100 left 200 over 0 cost 0.00
        300 block; 11-10 use 100; 11-11 plan prorate 600 block; 12-01 use 1          -> of 600 used 1 left 599 over 0 cost 0.00
        ",
        |line| {
            let ledger = ledger(line);
            format!("of {} {}", ledger.view().included, ledger.credits())
        },
    );
}

#[test]
fn what_becomes_of_the_period() {
    // The period that holds the last step, what is used in it, and the sum of the day.
    check(
        "
        9 block; 11-10 use 5; 11-11 plan keep_used 9 block anchored=11-08            -> 11-01..12-08 used 5 today 0   # it goes on, to the new end
        9 block; 11-10 use 5; 11-11 plan prorate 9 block anchored=11-08              -> 11-01..12-08 used 5 today 0
        9 block; 11-10 use 5; 11-11 plan keep_used 9 block anchored=11-08; 12-08 use 1 -> 12-08..2027-01-08 used 1 today 1
        9 block anchored=11-08; 11-10 use 5; 11-11 plan keep_used 9 block            -> 11-08..12-01 used 5 today 0
        9 block; 11-11 use 5; 11-11 plan keep_used 9 block zone=Asia/Tokyo           -> 11-01..11-30T15:00 used 5 today 5   # a day's cap is not lifted by moving
        9 block; 11-10 use 5; 11-11 plan reset 9 block anchored=11-11                -> 11-11..12-11 used 0 today 0
        9 block; 11-11 use 5; 11-11T12:00 plan reset 9 block anchored=11-08          -> 11-11T12:00..12-08 used 0 today 5   # from the change on
        9 block; 11-11 use 5; 11-11T12:00@11-11T14:00 plan reset 9 block anchored=11-11T13:00 -> 11-11T13:00..12-11T13:00 used 0 today 5
        9 block; 11-11 use 5; 11-11T12:00@11-11T12:30 plan reset 8 block; 11-11T12:10@11-11T12:31 use 1 -> 11-11T12:00..12-01 used 1 today 6
        9 block; 11-11 use 5; 11-11T12:00@11-11T12:30 plan reset 8 block; 11-11T11:59@11-11T12:31 use 1 -> 11-11T12:00..12-01 used 0 today 6   # of the old one
        9 block; 11-01T00:10 roll; 11-01@11-01T00:20 plan reset 8 block              -> 11-01..12-01 used 0 today 0   # it has just begun
        9 block; 10-31 use 3; 11-01T00:20@11-01T00:20 roll; 11-01@11-01T00:20 plan reset 8 block; 10-31@11-01T00:30 use 1; 11-02 roll -> 11-01..12-01 used 0 today 0
        9 block; 11-01T00:10 use 3; 11-01@11-01T00:20 plan reset 8 block             -> 11-01T00:00:00.001..12-01 used 0 today 3   # what was counted belongs to the old one
        9 block; 12-01@11-30T23:57 use 3; 11-30T23:58 plan keep_used 8 block; 12-01T00:01 use 1 -> 12-01..2027-01-01 used 4 today 4   # an event ahead has turned the page
        9 block; 12-01@11-30T23:57 use 3; 11-30T23:58 plan prorate 8 block; 12-01T00:01 use 1 -> 12-01..2027-01-01 used 4 today 4
        9 block; 12-01@11-30T23:57 use 3; 11-30T23:58 plan reset 8 block; 12-01T00:01 use 1 -> 12-01T00:00:00.001..2027-01-01 used 1 today 4
        9 block fixed=11-01..11-15; 11-10 use 5                                      -> 11-01..11-15 used 5 today 5
        9 block fixed=11-01..11-15; 11-15 use 5                                      -> 11-15..12-15 used 5 today 5
        9 block fixed=11-01..11-15; 12-20 use 5                                      -> 12-15..2027-01-15 used 5 today 5
        9 block fixed=11-10..11-15; 11-05 use 5                                      -> 10-10..11-10 used 5 today 5
        ",
        |line| {
            let ledger = ledger(line);
            let view = ledger.view();
            let today = view.in_day.first().map_or_else(|| "0".to_owned(), |(_, sum)| sum.wire());
            let (start, end) = (view.period.start.as_millisecond(), view.period.end.as_millisecond());
            format!("{}..{} used {} today {today}", shown(start), shown(end), view.used)
        },
    );
}

/// A moved anchor that is heard of late: the old period ends where the new one begins, and what happened since then goes with it,
/// as if it had been known in time.
#[test]
fn what_happened_since_the_anchor_was_moved_goes_to_its_period() {
    check(
        "
        500 bill=2.00; 11-10 use 490; 11-14T10:00 use 30; 11-14T12:00 roll; 11-14@11-15 plan reset 5000 bill=1.00 anchored=11-14 move 30 -> 11-14..12-14 used 30 left 4970 over 0 cost 0.00 then 11-01..11-14 used 490 over 0 cost 0.00
        500 bill=2.00; 11-10 use 600; 11-14T10:00 use 30; 11-14@11-15 plan reset 5000 bill=1.00 anchored=11-14 move 30 -> 11-14..12-14 used 30 left 4970 over 0 cost 0.00 then 11-01..11-14 used 600 over 100 cost 0.20
        500 bill=2.00; 11-10 use 600; 11-14@11-15 plan reset 5000 bill=1.00 anchored=11-14; 11-14T10:00@11-15 use 30 -> 11-14..12-14 used 30 left 4970 over 0 cost 0.00 then 11-01..11-14 used 600 over 100 cost 0.20   # heard of first: the same
        500 bill=2.00; 11-10 use 490; 11-14T10:00 use 30; 11-14@11-15 plan reset 20 bill=1000.00 anchored=11-14 move 30 -> 11-14..12-14 used 30 left 0 over 10 cost 10.00 then 11-01..11-14 used 490 over 0 cost 0.00
        500 bill=2.00; 11-01 grant a 50; 11-10 use 490; 11-14T10:00 use 30; 11-14@11-15 plan reset 20 block anchored=11-14 move 30 -> 11-14..12-14 used 30 left 40 over 0 cost 0.00 then 11-01..11-14 used 490 over 0 cost 0.00   # the pack pays once
        500 bill=2.00; 11-10 use 490; 11-14T10:00 use tts=10*2.5; 11-14T11:00 use 5; 11-14@11-15 plan reset 20 block anchored=11-14 move tts=10*2.5 5 -> 11-14..12-14 used 30 left 0 over 10 cost 0.00 then 11-01..11-14 used 490 over 0 cost 0.00
        500 bill=2.00; 11-10 use 490; 11-12 plan keep_used 600 bill=2.00; 11-12@11-15 plan reset 5000 bill=1.00 anchored=11-11 -> 11-12..12-11 used 0 left 5000 over 0 cost 0.00 then 11-01..11-12 used 490 over 0 cost 0.00
        500 bill=2.00; 11-10 use 490; 11-12 plan keep_used 600 bill=2.00; 11-11@11-15 plan reset 5000 bill=1.00 anchored=11-11 -> 11-11..12-11 used 0 left 5000 over 0 cost 0.00 then 11-01..11-11 used 490 over 0 cost 0.00   # before another change of terms
        ",
        |line| {
            let ledger = ledger(line);
            let span = |window: Window| format!("{}..{}", shown(window.start.as_millisecond()), shown(window.end.as_millisecond()));
            let view = ledger.view();
            let closed = ledger.closed();
            let old = closed.last().expect("the old period");
            let cost = old.overage_cost.wire();
            let old = format!("{} used {} over {} cost {cost}", span(old.window), old.used, old.overage);
            format!("{} {} then {old}", span(view.period), ledger.credits())
        },
    );
}

/// Overage of two currencies cannot be added up. Such entries are in logs of an older version; no catalogue makes them now.
#[test]
fn another_currency_needs_a_period_of_its_own() {
    check(
        "
        500 bill=2.00; 11-10 use 600; 11-11 plan keep_used 9 bill=3.00:eur                -> of 500 used 600 left 0 over 100 cost 0.20   # passed over
        500 bill=2.00; 11-10 use 600; 11-11 plan prorate 9 bill=3.00:eur; 11-12 use 500   -> of 500 used 1100 left 0 over 600 cost 1.20
        500 bill=2.00; 11-10 use 600; 11-11 plan keep_used 9 bill=3.00:eur; 11-12 become 500 bill=2.00 -> of 500 used 600 left 0 over 100 cost 0.20
        500 bill=2.00; 11-10 use 600; 11-11 become 9 bill=3.00:eur                        -> of 9 used 0 left 9 over 0 cost 0.00
        ",
        |line| {
            let ledger = ledger(line);
            format!("of {} {}", ledger.view().included, ledger.credits())
        },
    );
}

/// The period that holds the last step, and what is used in it.
fn period(line: &str) -> String {
    let view = ledger(line).view();
    let (start, end) = (view.period.start.as_millisecond(), view.period.end.as_millisecond());
    format!("{}..{} used {}", shown(start), shown(end), view.used)
}

#[test]
fn only_another_kind_of_period_or_a_moved_anchor_begins_anew() {
    check(
        "
        9 block; 11-10 use 5; 11-11 become 8 block                                      -> 11-01..12-01 used 5
        9 block; 11-10 use 5; 11-11 become 9 block anchored=11-08                       -> 11-11..12-08 used 0
        9 block; 11-10 use 5; 11-11 become 9 block anchored=10-28                       -> 11-01..11-28 used 5   # an older one: it goes on, to its end
        9 block anchored=11-08; 11-10 use 5; 11-11 become 9 block                       -> 11-08..12-01 used 5
        9 block anchored=10-20; 11-10 use 5; 11-11 become 9 block                       -> 11-11..12-01 used 0
        9 block anchored=11-08; 11-10 use 5; 11-11 become 8 bill=1.00 anchored=11-08 zone=Asia/Tokyo -> 11-08..12-08 used 5
        9 block anchored=11-08; 11-10 use 5; 11-11 become 9 block anchored=11-10T12:00  -> 11-11..12-10T12:00 used 0
        9 block anchored=11-08; 11-10 use 5; 11-11 become 9 block fixed=11-08..11-20    -> 11-08..11-20 used 5
        ",
        period,
    );
}

#[test]
fn another_zone_of_the_calendar_gives_no_credits_anew() {
    check(
        "
        9 block; 11-10 use 5; 11-20T10:00 become 9 block zone=America/Los_Angeles        -> 11-01..12-01T08:00 used 5
        9 block; 11-10 use 5; 11-20T10:00 become 9 block zone=Asia/Tokyo                 -> 11-01..11-30T15:00 used 5
        9 block; 11-10 use 5; 11-20 become 9 block zone=Asia/Tokyo; 11-21 become 9 block zone=Pacific/Niue; 11-22 become 9 block -> 11-01..12-01 used 5
        9 block zone=Asia/Tokyo; 11-10 use 5; 11-20 become 9 block zone=Pacific/Niue     -> 10-31T15:00..12-01T11:00 used 5
        9 block; 11-10 use 5; 11-20 become 9 block zone=Pacific/Niue; 12-01T11:00 use 1  -> 12-01T11:00..2027-01-01T11:00 used 1
        9 block; 11-01T03:00 use 5; 11-01T04:00 become 9 block zone=America/Los_Angeles  -> 11-01..12-01T08:00 used 5   # October there
        9 block; 11-10 use 5; 11-30T20:00 become 9 block zone=Asia/Tokyo                 -> 11-01..12-01 used 5         # December there
        9 block; 11-10 use 5; 11-30T20:00 become 9 block zone=Asia/Tokyo; 12-01 use 1    -> 12-01..12-31T15:00 used 1
        9 block; 11-10 use 5; 11-30T20:00 become 9 block zone=Asia/Tokyo; 11-30T21:00 become 9 block -> 11-01..12-01 used 5
        9 block; 11-10 use 5; 11-20 become 9 block zone=Pacific/Niue; 12-01T04:00 become 9 block -> 11-01..12-01T11:00 used 5
        9 block; 11-10 use 5; 11-20 become 9 block zone=Pacific/Niue; 12-01T04:00 become 9 block; 12-01T11:00 use 1 -> 12-01T11:00..2027-01-01 used 1
        ",
        period,
    );
}

/// Every hour around the end of a month, from each zone to each other and back: the periods lie end to end, and each is a month.
#[test]
fn i12_periods_tile_the_line_through_zones() {
    let zones = ["UTC", "Pacific/Kiritimati", "Asia/Kolkata", "America/St_Johns", "Pacific/Niue"];
    for (from, to) in zones.iter().flat_map(|from| zones.iter().map(move |to| (from, to))) {
        for hour in 0..96_i64 {
            let (away, back) = (shown(ms("11-29") + hour * 3_600_000), shown(ms("11-29") + (hour + 7) * 3_600_000));
            let line = format!(
                "9 block zone={from}; 10-10 use 1; 11-10 use 1; {away} become 9 block zone={to}; {away} use 1; \
                 {back} become 9 block zone={from}; {back} use 1; 12-10 use 1; 2027-01-10 use 1; 2027-02-10 use 1"
            );
            let windows: Vec<Window> = ledger(&line).closed().iter().map(|closed| closed.window).collect();
            assert_eq!(windows.len(), 4, "October to January: {line}");
            assert!(windows.windows(2).all(|pair| pair[0].end == pair[1].start), "{windows:?}: {line}");
            for window in windows {
                let days = (window.end.as_second() - window.start.as_second()) / 86_400;
                assert!((28..=32).contains(&days), "{days} days: {line}");
            }
        }
    }
}

#[test]
fn segments_keep_their_tier_and_price() {
    let ledger = ledger(
        "0 bill=2.00 tier=a; 11-10 use 10; 11-11 plan keep_used 0 bill=2.00 tier=b; 11-11 use 20; 11-12 plan keep_used 0 \
         bill=3.00 tier=b; 11-12 use 30; 11-13 plan keep_used 0 bill=2.00 tier=a; 11-13 use 40",
    );
    let segments = ledger.view().segments;
    let said = |segment: &billing::account::Segment| {
        format!("{} {} {}", segment.tier, segment.price_per_1k.wire(), segment.overage_pico / 1_000_000_000_000)
    };
    assert_eq!(segments.iter().map(said).collect::<Vec<_>>(), ["a 2.00 10", "b 2.00 20", "b 3.00 30", "a 2.00 40"]);
    assert_eq!(ledger.credits(), "used 100 left 0 over 100 cost 0.23"); // 0.02 + 0.04 + 0.09 + 0.08
}

/// I-12: where the windows of a rule do not tile the line, walking from one to the next.
fn gap(window: impl Fn(Timestamp) -> Window) -> Option<Timestamp> {
    let mut next = window(at("2020-01-15")).start;
    while next < at("2030-01-01") {
        let found = window(next);
        let last = found.end - SignedDuration::from_nanos(1);
        if found.start != next || found.end <= next || window(last) != found {
            return Some(next);
        }
        next = found.end;
    }
    None
}

#[test]
fn i12_periods_tile_the_line() {
    let rules = [
        "fixed=01-31..02-14",
        "fixed=02-28T12:30..2026-03-31",
        "fixed=2024-02-29..2025-02-28",
        "anchored=01-31T10:00",
        "zone=Australia/Lord_Howe",
    ];
    for rule in rules {
        let terms = terms(&format!("1 block {rule}"));
        assert_eq!(gap(|at| terms.period_at(at).expect("a period")), None, "{rule}");
    }
}

/// Seeded bugs: months after a trial that are anchored on its start, and ends that belong to both windows.
#[test]
fn i12_the_check_sees_gaps() {
    let trial = Window { start: at("01-31"), end: at("02-14") };
    let month = |anchor, at| time::monthly_window(anchor, at).expect("a month");
    assert!(gap(|at| if trial.contains(at) { trial } else { month(trial.start, at) }).is_some());
    assert!(gap(|at| if at <= trial.end && at >= trial.start { trial } else { month(trial.end, at) }).is_some());
}

const LENGTH_MS: i64 = 30 * 86_400_000;

/// The included credits after changes, by the definition: each tier gives `floor(I × end / T) - floor(I × start / T)`.
fn given(parts: &[(i64, i64)]) -> i64 {
    let share = |credits: i64, until: i64| i128::from(credits) * i128::from(until) / i128::from(LENGTH_MS);
    sum(parts, |credits, start, end| share(credits, end) - share(credits, start))
}

/// The parts of credits that begin at instants of a period of thirty days, each until the next.
fn sum(parts: &[(i64, i64)], part: impl Fn(i64, i64, i64) -> i128) -> i64 {
    let ends = parts.iter().skip(1).map(|(start, _)| *start).chain([LENGTH_MS]);
    let parts = parts.iter().zip(ends).map(|(&(start, credits), end)| part(credits, start, end));
    i64::try_from(parts.sum::<i128>()).expect("credits")
}

/// The same by folding the changes.
fn folded(parts: &[(i64, i64)]) -> i64 {
    let start = ms("11-01");
    let with = |credits: i64| Terms { included: Credits::from_micro(credits), ..terms("0 block") };
    let mut account = Account::new(with(parts[0].1), start).expect("an account");
    for ((at, credits), position) in parts.iter().skip(1).zip(1..) {
        let fact = Fact::Plan { terms: Cow::Owned(with(*credits)), change: PlanChange::Prorate, moved: Cow::default() };
        let (event_ms, received_ms) = (start + at, start + at);
        account.fold(&Entry { position, event_ms, received_ms, fact }).expect("a change");
    }
    account.at(start + parts.last().map_or(0, |(at, _)| *at)).included.micro()
}

/// The seeded bug: each part is floored for itself.
fn floored(parts: &[(i64, i64)]) -> i64 {
    let part = |credits, start, end| i128::from(credits) * i128::from(end - start) / i128::from(LENGTH_MS);
    sum(parts, part)
}

/// The seeded bug: the last change gives its share of the period, whatever came between.
fn first_and_last(parts: &[(i64, i64)]) -> i64 {
    given(&[parts[0], parts[parts.len() - 1]])
}

fn breaks_i09(parts: &[(i64, i64)], run: fn(&[(i64, i64)]) -> i64) -> bool {
    let sum = run(parts);
    let (least, most) = (parts.iter().map(|part| part.1).min(), parts.iter().map(|part| part.1).max());
    let same: Vec<_> = parts.iter().map(|(at, _)| (*at, parts[0].1)).collect();
    let holds = sum == given(parts) && least <= Some(sum) && Some(sum) <= most && run(&same) == parts[0].1;
    !holds
}

fn parts() -> impl Strategy<Value = Vec<(i64, i64)>> {
    let changes = prop::collection::vec((0..LENGTH_MS, 0..10_i64.pow(15)), 1..6);
    (0..10_i64.pow(15), changes).prop_map(|(first, mut changes)| {
        changes.sort_unstable();
        std::iter::once((0, first)).chain(changes).collect()
    })
}

proptest! {
    #[test]
    fn i09_prorated_parts_sum_to_the_whole(parts in parts()) {
        prop_assert!(!breaks_i09(&parts, folded), "{}", folded(&parts));
    }
}

#[test]
fn i09_the_check_sees_seeded_bugs() {
    for (place, run) in [floored, first_and_last].into_iter().enumerate() {
        assert!(samples(parts()).iter().any(|parts| breaks_i09(parts, run)), "bug {place}");
    }
}
