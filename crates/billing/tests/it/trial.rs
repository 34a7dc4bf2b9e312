//! Trials: one period of so many days with its credits once, and nothing after it.

use billing::account::Account;
use billing::catalogue::{Catalogue, Tier};
use billing::entry::{PeriodRule, Terms};
use billing::time;

use crate::check;
use crate::ledger::{at, ledger, ms, shown};

fn tier() -> Tier {
    Catalogue::built_in().tier("trial").expect("a tier").clone()
}

#[test]
fn a_trial_is_so_many_days_of_24_hours() {
    check(
        "
        11-08T10:00:00 14 UTC                       -> 11-08T10:00..11-22T10:00 of 100
        2028-02-20 14 UTC                           -> 2028-02-20..2028-03-05 of 100           # a leap day is a day
        2027-02-20 14 UTC                           -> 2027-02-20..2027-03-06 of 100
        2028-02-29 366 UTC                          -> 2028-02-29..2029-03-01 of 100
        2026-12-31T23:59:59 1 UTC                   -> 12-31T23:59:59..2027-01-01T23:59:59 of 100
        10-25T00:30 14 Europe/Berlin                -> 10-25T00:30..11-08T00:30 of 100         # an hour of that day comes twice there
        2026-03-28T12:00 1 Europe/Berlin            -> 03-28T12:00..03-29T12:00 of 100         # and one of this not at all
        2026-04-03T23:30 2 Australia/Lord_Howe      -> 04-03T23:30..04-05T23:30 of 100
        9988-12-30 366 UTC                          -> 9988-12-30..9989-12-31 of 100
        9989-12-30 366 UTC                          -> never                                   # no account can be kept by it
        9999-12-30 366 UTC                          -> never
        ",
        |line| {
            let mut words = line.split(' ');
            let mut next = || words.next().expect("an instant, days and a zone");
            let (began, days, zone) = (next(), next().parse().expect("days"), time::zone(next()).expect("a zone"));
            // The scripts write years of this millennium.
            let began = if began.starts_with("99") { time::parse(&format!("{began}T00:00:00Z")).expect("a time") } else { at(began) };
            let Some(terms) = Terms::trial(&tier(), began, days, zone) else { return "never".to_owned() };
            let PeriodRule::Fixed(window) = terms.period else { panic!("{:?}", terms.period) };
            assert_eq!(terms.ends_ms, Some(window.end.as_millisecond()));
            assert_eq!(Terms::parse(&terms.encode()), Ok(terms.clone()));
            format!("{}..{} of {}", shown(window.start.as_millisecond()), shown(window.end.as_millisecond()), terms.included)
        },
    );
}

/// What an account says at an instant: its period, the credits, and what may be used.
fn said(account: &Account, at_ms: i64) -> String {
    let (view, room) = (account.at(at_ms), account.room(at_ms).expect("room"));
    let over = if room.expired { " over" } else { "" };
    assert_eq!(view.expired, room.expired);
    let (start, end) = (shown(view.period.start.as_millisecond()), shown(view.period.end.as_millisecond()));
    let left = room.credits.map_or("all".to_owned(), |credits| credits.wire());
    assert_eq!(view.remaining.wire(), left);
    format!("{start}..{end} of {} used {} left {left}{over}", view.included, view.used)
}

/// A line of the account, and when it is looked at.
fn looked_at(line: &str) -> String {
    let (line, when) = line.split_once('|').expect("a line and a time");
    said(&ledger(line.trim()).account, ms(when.trim()))
}

#[test]
fn a_trial_has_its_credits_once() {
    check(
        "
        9 block fixed=11-05..11-19 ends=11-19; 11-05 use 5 | 11-05                                -> 11-05..11-19 of 9 used 5 left 4
        9 block fixed=11-05..11-19 ends=11-19; 11-10 use 5 | 11-18T23:59:59.999                   -> 11-05..11-19 of 9 used 5 left 4         # the last millisecond
        9 block fixed=11-05..11-19 ends=11-19; 11-10 use 5 | 11-19                                -> 11-19..12-19 of 0 used 0 left 0 over
        9 block fixed=11-05..11-19 ends=11-19; 11-10 use 5 | 2027-03-01                           -> 2027-02-19..2027-03-19 of 0 used 0 left 0 over
        9 block fixed=11-05..11-19 ends=11-19; 11-18T23:59:59.999 use 5 | 11-19                   -> 11-19..12-19 of 0 used 0 left 0 over
        9 block fixed=11-05..11-19 ends=11-19; 11-10 use 5; 11-19 use 7 | 11-19                   -> 11-19..12-19 of 0 used 7 left 0 over    # it happened
        9 block fixed=11-05..11-19 ends=11-19; 11-10 use 5; 11-18@11-19T00:30 use 7 | 11-19T00:30 -> 11-19..12-19 of 0 used 0 left 0 over    # of the trial, in its grace
        9 block fixed=11-05..11-19 ends=11-19; 12-24 use 1 | 12-24                                -> 12-19..2027-01-19 of 0 used 1 left 0 over   # the first that is heard of them
        9 block fixed=11-05..11-19 ends=11-19; 11-04 use 1 | 11-04                                -> 10-05..11-05 of 0 used 1 left 0         # a clock ahead of ours has created them
        9 block fixed=11-05..11-19 ends=11-19; 11-04 use 1; 11-05 use 2 | 11-05                   -> 11-05..11-19 of 9 used 2 left 7
        9 block fixed=11-05..11-19 ends=11-19; 11-04T22:00 use 1; 11-05 use 2; 11-04T23:59@11-05T00:10 use 3 | 11-05T00:10 -> 11-05..11-19 of 9 used 2 left 7   # that period was theirs
        9 block fixed=11-05..11-19 ends=11-19; 11-05 use 2; 11-04T23:59:59@11-05T00:30 use 5 | 11-05T00:30 -> 11-05..11-19 of 9 used 7 left 2   # whose clock is behind where they sign up
        9 block fixed=11-05..11-19 ends=11-19; 11-06 grant gift 50; 11-20 use 30; 11-21 become 500 block tier=paid anchored=11-21 | 11-21 -> 11-21..12-21 of 500 used 0 left 550   # nor does what happened cost it
        9 block fixed=11-05..11-19 ends=11-19; 11-06 grant gift 50; 11-10 use 19 | 11-10          -> 11-05..11-19 of 9 used 19 left 40
        9 block fixed=11-05..11-19 ends=11-19; 11-06 grant gift 50; 11-19 roll | 11-19            -> 11-19..12-19 of 0 used 0 left 0 over    # a pack lengthens no trial
        9 block fixed=10-25T00:30..11-08T00:30 ends=11-08T00:30 zone=Europe/Berlin; 11-07 use 5 | 11-08T00:29:59.999 -> 10-25T00:30..11-08T00:30 of 9 used 5 left 4
        9 block fixed=10-25T00:30..11-08T00:30 ends=11-08T00:30 zone=Europe/Berlin; 11-07 use 5 | 11-08T00:30        -> 11-08T00:30..12-08T00:30 of 0 used 0 left 0 over
        ",
        looked_at,
    );
}

#[test]
fn what_comes_before_and_after_a_trial() {
    check(
        "
        9 block fixed=11-05..11-19 ends=11-19; 11-10 use 5; 11-12 become 500 block tier=paid anchored=11-12 | 11-12   -> 11-12..12-12 of 500 used 0 left 500       # nothing of it is carried
        9 block fixed=11-05..11-19 ends=11-19; 11-10 use 5; 11-12 become prorate 500 block tier=paid anchored=11-12 | 11-12 -> 11-12..12-12 of 500 used 0 left 500
        9 block fixed=11-05..11-19 ends=11-19; 11-10 use 5; 11-12 become prorate 500 block tier=paid anchored=11-01 | 11-12 -> 11-05..12-01 of 500 used 5 left 495     # nor a share of it
        9 block fixed=11-05..11-19 ends=11-19; 11-10 use 5; 11-20 become 500 block tier=paid anchored=11-20 | 11-20       -> 11-20..12-20 of 500 used 0 left 500
        9 block fixed=11-05..11-19 ends=11-19; 11-10 use 5; 11-20 become 500 block tier=paid | 11-20                      -> 11-19..12-01 of 500 used 0 left 500      # given, not sold
        500 block tier=paid anchored=11-08; 11-10 use 5; 11-12 become 9 block fixed=11-05..11-19 ends=11-19 | 11-12       -> 11-08..11-19 of 9 used 5 left 4          # it goes on, and ends
        500 block tier=paid anchored=11-08; 11-10 use 5; 11-20 become 9 block fixed=10-05..10-19 ends=10-19 | 11-20       -> 11-20..12-19 of 0 used 0 left 0 over     # it was over long ago
        500 block tier=paid anchored=11-08; 11-10 use 5; 11-12 become prorate 9 block fixed=10-05..10-19 ends=10-19 | 11-12 -> 11-08..11-19 of 0 used 5 left 0 over
        9 block; 11-10 use 5; 11-12 become 9 block fixed=11-05..11-19 ends=11-19 | 11-12                                  -> 11-01..11-19 of 9 used 5 left 4          # the tier becomes a trial
        9 block; 11-10 use 5; 11-12 become 9 block fixed=10-05..10-19 ends=10-19 | 11-12                                  -> 11-01..11-19 of 0 used 5 left 0 over
        9 block fixed=11-05..11-19 ends=11-19; 11-10 use 5; 11-12 become 9 block fixed=11-05..12-05 ends=12-05 | 12-04    -> 11-05..12-05 of 9 used 5 left 4          # a longer one
        9 block fixed=11-05..11-19 ends=11-19; 11-10 use 5; 11-20 become 9 block fixed=11-05..12-05 ends=12-05 | 11-20    -> 11-19..12-05 of 9 used 0 left 9          # heard of after it was over
        9 block fixed=11-05..11-19 ends=11-19; 11-10 use 5; 11-12 become 9 block fixed=11-05..11-08 ends=11-08 | 11-12    -> 11-05..12-08 of 0 used 5 left 0 over     # a shorter one
        9 block fixed=11-05..11-19 ends=11-19; 11-10 use 5; 11-20 become 9 block | 11-20                                  -> 11-19..12-01 of 9 used 0 left 9          # no trial any more
        ",
        looked_at,
    );
}

#[test]
fn a_change_of_tier_gives_shares_where_the_catalogue_says_so() {
    // November has thirty days: the change on the 11th leaves two thirds of it, on the 16th a half.
    check(
        "
        300 block; 11-10 use 100; 11-11 become 600 block tier=two | 11-11                     -> 11-01..12-01 of 600 used 100 left 500
        300 block; 11-10 use 100; 11-11 become prorate 600 block tier=two | 11-11             -> 11-01..12-01 of 500 used 100 left 400
        300 block; 11-10 use 100; 11-16 become prorate 0 block tier=two | 11-16               -> 11-01..12-01 of 150 used 100 left 50
        300 block; 11-10 use 100; 11-11 become prorate 600 block tier=two; 11-21 become prorate 900 block tier=three | 11-21 -> 11-01..12-01 of 600 used 100 left 500
        300 block; 11-10 use 100; 11-11 become prorate 600 block | 11-11                      -> 11-01..12-01 of 600 used 100 left 500   # the same tier: the catalogue was changed
        300 block; 11-10 use 100; 11-11 become prorate 600 block tier=two zone=Asia/Tokyo | 11-11 -> 11-01..11-30T15:00 of 497.468355 used 100 left 397.468355
        300 block; 11-10 use 100; 11-11 become prorate 600 block tier=two anchored=11-11 | 11-11 -> 11-11..12-11 of 600 used 0 left 600   # another period: all of it
        300 block; 11-10 use 100; 12-01 become prorate 600 block tier=two | 12-01             -> 12-01..2027-01-01 of 600 used 0 left 600
        300 block; 11-10 use 100; 11-30T23:59:59.999 become prorate 600 block tier=two | 11-30T23:59:59.999 -> 11-01..12-01 of 300 used 100 left 200
        ",
        looked_at,
    );
}
