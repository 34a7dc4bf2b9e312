//! The account: what is used, what is left, what is owed, and to which period and day an event belongs.

use billing::account::{Account, AccountError, ClosedPeriod, SnapshotError};
use billing::usage::{Credits, Quantity};

use crate::ledger::{Ledger, ledger, ms, said, shown, terms};
use crate::{check, named};

/// The example of the product's description: 450 + 120 + 10 + 5 events of a professional.
#[test]
fn i10_the_golden_account() {
    let ledger = ledger(
        "500 bill=2.00; 11-10 use inference=450; 11-11 use embedding=120; 11-12 use tts=10; 11-12T09:00 use stt=5",
    );
    assert_eq!(ledger.credits(), "used 585 left 0 over 85 cost 0.17");
    let view = ledger.view();
    assert_eq!(sums(&view.in_period), "inference=450 embedding=120 tts=10 stt=5");
    assert_eq!(sums(&view.in_day), "tts=10 stt=5");
}

fn sums(sums: &[(std::sync::Arc<str>, Quantity)]) -> String {
    sums.iter().map(|(kind, sum)| format!("{kind}={sum}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn credits_are_used_in_order_and_given_back_in_reverse() {
    check(
        "
        500 bill=2.00; 11-10 use 0                                           -> used 0 left 500 over 0 cost 0.00
        500 bill=2.00; 11-10 use 500                                         -> used 500 left 0 over 0 cost 0.00
        500 bill=2.00; 11-10 use 502.5                                       -> used 502.5 left 0 over 2.5 cost 0.01   # half a cent goes up
        500 bill=2.00; 11-10 use 502.499999                                  -> used 502.499999 left 0 over 2.499999 cost 0.00
        500 bill=2.00; 11-10 use 1500                                        -> used 1500 left 0 over 1000 cost 2.00   # linear, no blocks of a thousand
        5000 bill=1.00; 11-10 use 5085                                       -> used 5085 left 0 over 85 cost 0.09     # 8.5 cents
        500 block; 11-10 use 585                                             -> used 585 left 0 over 85 cost 0.00      # it happened; it is not billed
        500 bill=0.600:kwd; 11-10 use 585                                    -> used 585 left 0 over 85 cost 0.051
        500 block; 11-10 use token=1234567*0.0004                            -> used 493.8268 left 6.1732 over 0 cost 0.00
        500 block; 11-10 use token=0.00125*0.0004                            -> used 0.000001 left 499.999999 over 0 cost 0.00   # half a millionth goes up
        500 block; 11-10 use image=0.1*2.5; 11-10 use 0.1                    -> used 0.35 left 499.65 over 0 cost 0.00
        500 bill=300:jpy; 11-10 use 585                                      -> used 585 left 0 over 85 cost 26        # 25.5 yen
        500 bill=300:isk; 11-10 use 585                                      -> used 585 left 0 over 85 cost 26        # no hundredths
        500 bill=2.00; 11-10 use tts=10*2.5; 11-10 use 1                     -> used 26 left 474 over 0 cost 0.00
        0 bill=2.00; 11-10 use a=0.000001*0.3; 11-10 use a=0.000001*0.3      -> used 0.000001 left 0 over 0.000001 cost 0.00   # exact: 0.6 of a microcredit
        1 block; 11-10 use a=0.000001*0.5                                    -> used 0.000001 left 0.999999 over 0 cost 0.00   # they add up
        1 block; 11-10 use a=0.000001*0.499999                               -> used 0 left 1 over 0 cost 0.00
        500 bill=2.00; 11-10 use 585; 11-11 void 85                          -> used 500 left 0 over 0 cost 0.00
        500 bill=2.00; 11-10 use 585; 11-11 void 100                         -> used 485 left 15 over 0 cost 0.00
        500 bill=2.00; 11-10 use 585; 11-11 adjust -100                      -> used 485 left 15 over 0 cost 0.00
        500 bill=2.00; 11-10 adjust 100                                      -> used 100 left 400 over 0 cost 0.00
        500 bill=2.00; 11-10 void 100                                        -> used 0 left 600 over 0 cost 0.00       # more room, not less than no usage
        500 bill=2.00; 11-10 void 100; 11-10 use 610                         -> used 510 left 0 over 10 cost 0.02
        500 bill=2.00; 11-10 use 600; 11-11 grant g 50; 11-12 use 60         -> used 660 left 0 over 110 cost 0.22     # a pack pays for what comes after it
        ",
        |line| ledger(line).credits(),
    );
}

/// What is left of each pack after it: `a=40 b=50`.
fn packs(ledger: &Ledger) -> String {
    let packs = ledger.view().packs;
    let packs: Vec<_> = packs.iter().map(|left| format!("{}={}", left.pack.id, left.left)).collect();
    format!("{} {}", ledger.credits(), packs.join(" "))
}

#[test]
fn packs_are_used_by_priority_then_expiry_then_age_then_id() {
    check(
        "
        0 bill=2.00; 11-01 grant b 50; 11-01 grant a 50; 11-02 use 60                            -> used 60 left 40 over 0 cost 0.00 b=40
        0 bill=2.00; 11-01 grant a 50; 11-02 grant b 50; 11-02 use 60                            -> used 60 left 40 over 0 cost 0.00 b=40
        0 bill=2.00; 11-01 grant a 50; 11-02 grant b 50 until=12-01; 11-02 use 60                -> used 60 left 40 over 0 cost 0.00 a=40
        0 bill=2.00; 11-01 grant a 50 until=12-02; 11-02 grant b 50 until=12-01; 11-02 use 60    -> used 60 left 40 over 0 cost 0.00 a=40
        0 bill=2.00; 11-01 grant a 50 until=12-02; 11-02 grant b 50 priority=-1; 11-02 use 60    -> used 60 left 40 over 0 cost 0.00 a=40
        10 bill=2.00; 11-01 grant a 50; 11-02 grant b 50; 11-02 use 120                          -> used 120 left 0 over 10 cost 0.02
        10 bill=2.00; 11-01 grant a 50; 11-02 grant b 50; 11-02 use 120; 11-03 void 30           -> used 90 left 20 over 0 cost 0.00 b=20
        10 bill=2.00; 11-01 grant a 50; 11-02 grant b 50; 11-02 use 120; 11-03 void 115          -> used 5 left 105 over 0 cost 0.00 a=50 b=50
        10 bill=2.00; 11-01 grant a 50; 11-02 use 20; 11-03 void 200                             -> used 0 left 240 over 0 cost 0.00 a=50   # no pack above its amount
        10 bill=2.00; 11-01 grant a 50; 11-02 use 40; 11-03 revoke a; 11-04 use 5                -> used 45 left 0 over 5 cost 0.01
        10 bill=2.00; 11-01 grant a 50; 11-02 use 40; 11-03 revoke a; 11-04 void 35              -> used 5 left 5 over 0 cost 0.00          # a's part is gone with it
        10 bill=2.00; 11-01 grant a 50 until=11-05; 11-04 use 20; 11-05 use 5                    -> used 25 left 0 over 5 cost 0.01         # worth nothing from then on
        10 bill=2.00; 11-01 grant a 50 until=11-05; 11-04T23:00@11-05T01:00 use 20               -> used 20 left 0 over 0 cost 0.00         # it happened before
        10 bill=2.00; 11-01 grant a 50 until=11-05; 11-05 expire a; 11-04T23:00@11-05T01:00 use 20 -> used 20 left 0 over 10 cost 0.02
        10 bill=2.00; 11-01 grant a 50; 11-02 grant a 50; 11-02 use 20                           -> used 20 left 40 over 0 cost 0.00 a=40   # other content: refused
        10 bill=2.00; 11-01 grant a 50; 11-01 grant a 50; 11-02 use 20                           -> used 20 left 40 over 0 cost 0.00 a=40   # said twice, heard once
        10 bill=2.00; 11-01 revoke a; 11-02 expire a                                             -> used 0 left 10 over 0 cost 0.00
        ",
        |line| packs(&ledger(line)).trim().to_owned(),
    );
}

#[test]
fn packs_live_across_periods_but_a_period_gives_back_only_what_it_took() {
    check(
        "
        100 block; 10-10 grant a 100; 10-11 use 160; 11-02 use 100                  -> used 100 left 40 over 0 cost 0.00 a=40
        100 block; 10-10 grant a 100; 10-11 use 160; 11-02 use 100; 11-02 void 50   -> used 50 left 90 over 0 cost 0.00 a=40
        100 block; 10-10 grant a 100; 10-11 use 160; 11-02 use 110; 11-02 void 50   -> used 60 left 80 over 0 cost 0.00 a=40
        100 block; 10-10 grant a 100; 10-31 use 160; 10-31T12:00@11-01T00:10 void 50 -> used 0 left 190 over 0 cost 0.00 a=90   # in its own period's grace
        100 block; 10-10 grant a 60; 10-31 use 160; 10-31T12:00@11-01T00:10 void 50 -> used 0 left 150 over 0 cost 0.00 a=50
        100 block; 09-10 grant a 60; 09-30 use 160; 11-01 use 1                     -> used 1 left 99 over 0 cost 0.00
        ",
        |line| packs(&ledger(line)).trim().to_owned(),
    );
}

#[test]
fn expired_packs_are_due_for_an_entry() {
    let ledger =
        ledger("0 block; 11-01 grant a 50 until=11-05; 11-01 grant b 5 until=11-04; 11-01 grant c 1; 11-02 use 5");
    assert_eq!(ledger.account.packs_expired(ms("11-04T23:59:59.999")), Vec::<String>::new()); // b is used up
    assert_eq!(ledger.account.packs_expired(ms("11-05")), ["a"]);
    let room = ledger.account.room(ms("11-04T12:00")).expect("room");
    assert_eq!((room.credits, shown(room.until_ms)), (Some(Credits::from_micro(51_000_000)), "11-05".to_owned()));
    assert_eq!(ledger.account.room(ms("11-05")).expect("room").credits, Some(Credits::from_micro(1_000_000)));
}

#[test]
fn what_counted_is_taken_back_where_it_counted() {
    // The same two periods; a void says in which one its event counted.
    check(
        "
        500 block; 10-30 use 5; 10-30@10-31 void 5                                                  -> 0 0
        500 block; 10-30 use 5; 10-30@11-01T00:30 void 5                                            -> 0 0
        500 block; 10-30 use 5; 10-30@11-02 void 5                                                  -> 5 -5 late  # its invoice is written
        500 block; 10-01 use 1; 09-30@10-30 use 5; 09-30@11-01T00:30 void 5                         -> 6 -5 late  # without the word
        500 block; 10-01 use 1; 09-30@10-30 use 5; 09-30@11-01T00:30 void 5 in 10-01                -> 1 0
        500 block; 10-01 use 1; 09-30@10-30 use 5; 09-30@11-02 void 5 in 10-01                      -> 6 -5 late
        500 block; 10-01 use 1; 10-31T23:00@11-01T02:00 use 5; 10-31T23:00@11-01T03:00 void 5 in 11-01 -> 1 0
        ",
        by_period,
    );
}

#[test]
fn i10_a_correction_takes_no_more_than_was_counted() {
    // What the account stands at, and what the last step would do to it.
    check(
        "
        5 block; 11-10 use tts=3*2.5; 11-10 adjust tts=-3*2.5                        -> -7.5
        5 block; 11-10 use tts=3*2.5; 11-10 void tts=3*2.5                           -> -7.5
        5 block; 11-10 use tts=3*2.5; 11-10 adjust tts=-3.000001*2.5                 -> too much
        5 block; 11-10 use tts=3*2.5; 11-10 adjust tts=-3*2.5; 11-10 void tts=3*2.5  -> too much       # either way about
        5 block; 11-10 use tts=3*2.5; 11-10 void tts=3*2.5; 11-10 adjust tts=-3*2.5  -> too much
        5 block; 11-10 use tts=3*2.5; 11-10 adjust tts=-1*2.5; 11-10 void tts=3*2.5  -> too much       # not a part of it either
        5 block; 11-10 use tts=3*2.5; 11-10 use 9; 11-10 adjust tts=-4*2.5           -> too much       # units, though there are credits
        500 bill=2.00; 11-10 use tts=100*2.5; 11-10 use tts=10*5; 11-10 adjust tts=-110*5  -> too much # credits, though there are units
        500 bill=2.00; 11-10 use tts=100*2.5; 11-10 use tts=10*5; 11-10 adjust tts=-60*5   -> -300
        5 block; 11-10 use tts=3*0; 11-10 adjust tts=-4*0                            -> too much
        5 block; 11-10 grant a 50; 11-10 use 20; 11-10 revoke a; 11-10 void 20       -> -20
        5 block; 10-30 use 5; 10-30@11-02 void 5 in 10-01                            -> too much       # its period is closed, and nothing is used in this one
        5 block; 10-30 use 5; 11-02 use 7; 10-30@11-02 void 5 in 10-01               -> -5 late
        5 block; 10-30 use 5; 10-30@11-01T00:30 void 5 in 10-01                      -> -5
        5 block; 10-30 use 5; 11-01T00:10 use 9; 10-30@11-01T00:30 adjust -6         -> too much
        5 block; 11-10 void 3; 11-10 adjust 2                                        -> 2              # of an older version's log
        5 block; 11-10 use 1000000                                                   -> 1000000
        ",
        |line| {
            let (before, step) = line.rsplit_once(';').expect("steps");
            let ledger = match before.split_once(';') {
                Some(_) => ledger(before),
                None => ledger(&format!("{before}; 11-01 roll")),
            };
            match ledger.account.foresee(&ledger.next(step.trim())) {
                Ok(folded) => {
                    let credits = Credits::from_micro(i64::try_from(folded.cost_pico / 1_000_000).expect("credits"));
                    format!("{credits}{}", if folded.late { " late" } else { "" })
                }
                Err(AccountError::TakesTooMuch) => "too much".to_owned(),
                Err(other) => other.to_string(),
            }
        },
    );
}

#[test]
fn f46_an_event_belongs_to_one_period_by_its_own_time() {
    // What the two periods say after it: October, November; and whether the last event was late.
    check(
        "
        500 block; 10-31T23:59:59.999 use 1                                         -> 1 0
        500 block; 10-31T23:59:59.999 use 1; 11-01T00:00 use 2                      -> 1 2
        500 block; 11-01T00:00@10-31T23:58 use 2; 10-31T23:59 use 1                 -> 1 2        # a little ahead; the month goes on behind it
        500 block; 11-01T00:00@10-31T23:58 use 2; 11-01T00:01 use 1                 -> 0 3
        500 block; 10-30 use 1; 10-31T23:59@11-01T00:59:59.999 use 2                -> 3 0        # the grace of an hour
        500 block; 10-30 use 1; 10-31T23:59@11-01T01:00 use 2                       -> 1 2 late
        500 block; 10-30 use 1; 09-30@10-30 use 2                                   -> 3 0 late   # the hour is long over
        500 block; 11-01T00:30 use 1; 09-30@11-01T00:30 use 2                       -> 0 3 late   # older than the one before
        500 block; 11-01T00:30 use 1; 10-31T20:00@11-01T00:30 use 2                 -> 2 1        # the first entry is no border
        500 block; 11-01T02:00 roll; 10-31T23:00@11-01T00:10 use 1                  -> 0 1 late   # acceptance never goes back
        500 block; 11-20@10-31T12:00 use 1; 10-31T12:10 use 2                       -> 3 0        # far ahead: five minutes at most
        ",
        by_period,
    );
}

/// What the two periods say: October, November; and whether the last event was late.
fn by_period(line: &str) -> String {
    let ledger = ledger(line);
    let [october, november] = ["10-31T12:00", "11-30T12:00"].map(|day| {
        let view = ledger.account.at(ms(day));
        view.in_period.iter().fold(Quantity::ZERO, |sum, (_, more)| sum.plus(*more).expect("a sum"))
    });
    // Before anything of November came, the older of the two periods that are known is September.
    let late = if ledger.last().late { " late" } else { "" };
    format!("{october} {november}{late}")
}

#[test]
fn days_are_those_of_the_zone() {
    // The day of the last step, and the sums of today and of the day before.
    check(
        "
        0 block; 11-10T23:59:59.999 use 1; 11-11 use 2                                  -> 11-11: 2, before 1
        0 block zone=Asia/Kathmandu; 11-10T18:14:59 use 1; 11-10T18:15 use 2            -> 11-10T18:15: 2, before 1
        0 block zone=America/New_York; 11-01T04:00 use 1; 11-02T04:59 use 2; 11-02T05:00 use 4 -> 11-02T05:00: 4, before 3   # F-47: 25 hours
        0 block; 11-10 use 1; 11-09T12:00@11-10T12:00 use 2                             -> 11-09: 1, before 2
        0 block; 11-10 use 1; 11-08T12:00@11-10T12:00 use 2                             -> 11-08: 1, before 0     # in its period only
        0 block; 11-10T12:00 use 1; 11-10@11-11T12:00 use 2                             -> 11-10: 0, before 3     # the first millisecond of yesterday
        0 block; 11-10 use 1; 11-12 use 2                                               -> 11-12: 2, before 0
        0 block; 11-12@11-11T23:58 use 2; 11-11T23:59 use 1                             -> 11-11: 1, before 1     # today is still the 11th, and the oldest day that is known
        ",
        |line| {
            let ledger = ledger(line);
            let sum = |at_ms: i64| {
                let sums = ledger.account.at(at_ms).in_day;
                sums.first().map_or(Quantity::ZERO, |(_, sum)| *sum)
            };
            let yesterday = ledger.view().day.start.as_millisecond() - 1;
            format!("{}: {}, before {}", shown(ledger.last().day), sum(ledger.now_ms), sum(yesterday))
        },
    );
}

fn closed(ledger: &Ledger) -> String {
    let said = |closed: &&ClosedPeriod| {
        let (start, end) = (closed.window.start.as_millisecond(), closed.window.end.as_millisecond());
        let ClosedPeriod { used, overage, overage_cost, by_type, .. } = *closed;
        format!("[{}..{} {used} {overage} {} {}]", shown(start), shown(end), overage_cost.wire(), sums(by_type))
    };
    ledger.closed().iter().map(said).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_period_is_frozen_once_when_its_grace_is_over() {
    check(
        "
        10 bill=2.00; 10-30 use 1; 11-01T00:59 use 2                             ->
        10 bill=2.00; 10-30 use 1; 11-01T00:59 use 2; 11-01T01:00 use 2          -> [10-01..11-01 1 0 0.00 inference=1]
        10 bill=2.00; 10-30 use 1; 11-01T01:00 roll; 11-02 roll; 11-03 roll      -> [10-01..11-01 1 0 0.00 inference=1]
        10 bill=2.00; 10-30 use 60; 10-31T23:00@11-01T00:30 use 1; 11-05 roll    -> [10-01..11-01 61 51 0.10 inference=61]
        10 bill=2.00; 10-30 use 1; 2027-03-01 use 2                              -> [10-01..11-01 1 0 0.00 inference=1]
        10 bill=2.00; 10-30 use 1; 11-01T00:10 use 2; 2027-03-01 use 2           -> [10-01..11-01 1 0 0.00 inference=1] [11-01..12-01 2 0 0.00 inference=2]
        10 bill=2.00; 10-30 use 1; 12-01T00:30 use 2                             -> [10-01..11-01 1 0 0.00 inference=1]
        10 bill=2.00; 11-01T00:30 use 1; 10-31@11-01T00:40 use 2; 11-02 roll     -> [10-01..11-01 2 0 0.00 inference=2]
        10 bill=2.00; 10-30 roll; 11-30 roll; 12-30 roll                         ->
        10 bill=2.00; 10-30 use 20; 11-03 plan reset 5 bill=9.00; 11-03T00:30 use 7; 11-04 roll -> [10-01..11-01 20 10 0.02 inference=20]
        10 bill=2.00; 11-02 use 20; 11-03 plan reset 5 bill=9.00; 11-03T00:30 use 7; 11-04 roll -> [11-01..11-03 20 10 0.02 inference=20]
        ",
        |line| closed(&ledger(line)),
    );
}

#[test]
fn warnings_come_once_in_a_period() {
    // What each step warns of.
    check(
        "
        100 block; 11-01 use 49; 11-01 use 1; 11-02 use 29; 11-02 use 1; 11-03 use 20; 11-03 use 1  -> - 50 - 80 100 -
        100 block; 11-01 use 100; 11-02 void 90; 11-03 use 90                                       -> 50+80+100 - -
        100 block; 11-01 use 60; 12-01 use 60                                                       -> 50 50
        100 block; 11-01 use 60; 10-31T23:59@11-01T00:01 use 60; 11-02 use 20                       -> 50 - 80           # in the other period
        100 block; 11-01 grant a 100; 11-01 use 99; 11-01 use 1; 11-02 use 100                      -> - - 50 80+100     # of both together
        100 block; 11-01 use 45; 11-02 plan keep_used 50 block                                      -> - 50+80
        0 bill=2.00; 11-01 use 1000                                                                 -> -
        0 bill=2.00; 11-01 grant a 100; 11-02 use 50                                                -> - 50
        ",
        |line| {
            let steps = ledger(line).folded;
            let said = |folded: &Result<billing::account::Folded, AccountError>| {
                let warnings = &folded.as_ref().expect("folded").warnings;
                let words: Vec<_> = warnings.iter().map(u8::to_string).collect();
                if words.is_empty() { "-".to_owned() } else { words.join("+") }
            };
            steps.iter().map(said).collect::<Vec<_>>().join(" ")
        },
    );
}

#[test]
fn what_cannot_be_folded_changes_nothing() {
    let most = "9223372036854.775807"; // of microcredits: 2^63
    let table = format!(
        "
        500 block; 11-10 use -1                                     -> Negative
        500 block; 11-10 void -1                                    -> Negative
        500 block; 11-10 use a=1*-1                                 -> Negative
        500 block; 11-10 grant a -1                                 -> Negative
        500 block; 11-10 use {most}                                 -> Overflow
        500 block; 11-10 adjust -{most}                             -> Overflow
        500 block; 11-10 use a={most}*0; 11-10 use a=1*0            -> Overflow   # the sum of a type
        500 block; 11-10 grant a {most}                             -> Overflow
        500 block; 11-10 plan keep_used {most}                      -> Terms
        500 block; 11-10 plan keep_used -1                          -> Terms
        500 bill=1000000000000.00; 11-10 use 2000000000000          -> Overflow   # more money than can be owed
        0 bill=1000000000000.00; 11-10 use 92233721                 -> Overflow   # 2^63 cents
        0 bill=1000000000000.00; 11-10 use 92233720                 -> folded
        500 bill=2.00; 11-10 plan reset 600 bill=2.00:eur           -> folded
        500 block; 11-10 grant a 5; 11-11 grant a 6                 -> PackDiffers
        500 block; 11-10 plan reset 5 fixed=11-10..11-01            -> Terms
        "
    );
    check(&table, |line| {
        let (before, last) = line.rsplit_once(';').expect("steps");
        let before = if before.contains(';') { before.to_owned() } else { format!("{before}; 11-10 roll") };
        let mut ledger = ledger(&before);
        let kept = ledger.account.clone();
        ledger.step(last.trim());
        match ledger.folded.last().expect("a step") {
            Ok(_) => "folded".to_owned(),
            Err(error) => {
                assert_eq!(ledger.account, kept, "{line}");
                named(error)
            }
        }
    });
}

#[test]
fn i04_an_entry_is_folded_once() {
    let mut ledger = ledger("500 block; 11-10 use 1; 11-10 use 1");
    let entry = |position| billing::Entry {
        position,
        event_ms: ms("11-10"),
        received_ms: ms("11-10"),
        fact: billing::Fact::Roll,
    };
    let refused = |last, given| Err(AccountError::Position { last, given });
    assert_eq!((ledger.account.position(), ledger.account.entries()), (2, 2));
    assert_eq!(ledger.account.fold(&entry(2)), refused(2, 2));
    assert_eq!(ledger.account.fold(&entry(1)), refused(2, 1));
    assert!(ledger.account.fold(&entry(40)).is_ok()); // others have the positions between
    assert_eq!((ledger.account.position(), ledger.account.entries()), (40, 3));
}

#[test]
fn f49_at_an_instant_the_period_that_holds_it_answers() {
    let ledger = ledger("10 bill=2.00; 10-30 use 12; 11-01T00:02 use 3");
    check(
        "
        11-01T00:02 -> 11-01 used 3 left 7 over 0 cost 0.00
        10-31T23:02 -> 10-01 used 12 left 0 over 2 cost 0.00   # a clock was set back
        08-15       -> 10-01 used 12 left 0 over 2 cost 0.00   # the oldest that is known
        11-30T23:59 -> 11-01 used 3 left 7 over 0 cost 0.00
        12-01       -> 12-01 used 0 left 10 over 0 cost 0.00   # nobody had to come at midnight
        2027-07-04  -> 2027-07-01 used 0 left 10 over 0 cost 0.00
        9999-12-31  -> 11-01 used 3 left 7 over 0 cost 0.00    # beyond the calendar nothing begins
        ",
        |when| {
            let at_ms = if when.starts_with("9999") { 253_402_207_000_000 } else { ms(when) };
            let view = ledger.account.at(at_ms);
            format!("{} {}", shown(view.period.start.as_millisecond()), said(&view))
        },
    );
    assert!(ledger.account.room(253_402_207_000_000).is_err());
}

#[test]
fn room_is_what_may_still_be_used() {
    // Credits that may be used after the last step, at its time or another one; today and month of inference; until when.
    check(
        "
        500 block; 11-10 use 450 |                                  -> 50, today 450, month 450, until 11-11
        500 block; 11-10 use 600 |                                  -> 0, today 600, month 600, until 11-11
        500 bill=2.00; 11-10 use 600 |                              -> all, today 600, month 600, until 11-11
        500 bill=2.00 cap=100; 11-10 use 450 |                      -> 150, today 450, month 450, until 11-11
        500 bill=2.00 cap=100; 11-10 use 585 |                      -> 15, today 585, month 585, until 11-11
        500 bill=2.00 cap=100; 11-10 use 700 |                      -> 0, today 700, month 700, until 11-11
        500 bill=2.00 cap=100; 11-10 grant a 40; 11-10 use 510 |    -> 130, today 510, month 510, until 11-11
        500 block; 11-10 void 20 |                                  -> 520, today -20, month -20, until 11-11
        500 block; 11-10 use a=0.000001*0.000001 |                  -> 499.999999, today 0, month 0, until 11-11   # never too much
        500 block; 11-10 use 450 | 11-11T10:00                      -> 50, today 0, month 450, until 11-12
        500 block; 11-10 use 450 | 12-01T10:00                      -> 500, today 0, month 0, until 12-02
        500 block anchored=09-08T12:00; 11-10 use 450 | 12-08       -> 50, today 0, month 450, until 12-08T12:00
        0 block; 11-10 grant a 9 until=11-10T06:00; 11-10 use 1 |   -> 8, today 1, month 1, until 11-10T06:00
        100 block ends=11-10T18:00; 11-10 use 1 |                   -> 99, today 1, month 1, until 11-10T18:00
        100 block ends=11-10T18:00; 11-10 use 1 | 11-10T18:00       -> 0 expired, today 1, month 1, until 11-11
        100 bill=2.00 ends=11-10T18:00; 11-10 use 1 | 11-12         -> 0 expired, today 0, month 1, until 11-13
        10 block; 10-30 use 8; 11-01T00:10 use 3 | 10-31T23:59      -> 2, today 0, month 8, until 11-01   # it would count in October
        10 block; 10-30 use 8; 11-01T02:00 use 3 | 10-31T23:59      -> 7, today 0, month 3, until 11-01   # it would be late
        ",
        |line| {
            let (line, when) = line.split_once('|').expect("a line and a time");
            let ledger = ledger(line.trim());
            let now_ms = if when.trim().is_empty() { ledger.now_ms } else { ms(when.trim()) };
            let room = ledger.account.room(now_ms).expect("room");
            let credits = room.credits.map_or("all".to_owned(), Credits::wire);
            let expired = if room.expired { " expired" } else { "" };
            let (today, month) = (room.today("inference"), room.month("inference"));
            format!("{credits}{expired}, today {today}, month {month}, until {}", shown(room.until_ms))
        },
    );
}

#[test]
fn a_damaged_snapshot_is_refused() {
    let line =
        "500 bill=2.00 anchored=09-08; 11-01 grant a 40 until=12-01; 11-10 use 610; 11-11 plan keep_used 10 bill=3.00";
    let whole = ledger(line).account;
    let bytes = whole.encode();
    assert_eq!(Account::decode(&bytes), Ok(whole.clone()));
    for length in 0..bytes.len() {
        assert!(Account::decode(&bytes[..length]).is_err(), "cut at {length}");
    }
    assert!(matches!(Account::decode(&[&bytes[..], &[0]].concat()), Err(SnapshotError::Malformed { .. })));
    assert_eq!(Account::decode(&[2]), Err(SnapshotError::Version(Some(2))));
    for place in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1 << bit;
            // Whatever it says, it says it without a panic, and never that it is the same account.
            assert_ne!(Account::decode(&damaged), Ok(whole.clone()), "byte {place}, bit {bit}");
        }
    }
}

/// Five credits included, six used.
const SNAPSHOT: &str = "010201809089acb8685f3120746965723d6f6e6520696e636c756465643d35206f7665726167653d62696c6c207072696365\
    5f7065725f316b5f6d696e6f723d3230302063757272656e63793d75736420706572696f643d63616c656e646172207a6f6e\
    653d55544380a0bfc6b26880c0b5eec56880a0bfc6b26880ade2048080f3bd9fdd020301036f6e6590030375736480c0a8ca\
    9a3a01809096cc9e6880a0bfc6b268809096cc9e6880ade20400000000809089acb8688080bcfeb86880a0d6d9b768809089\
    acb8680109696e666572656e636580b6dc050080b6dc050000";

/// Snapshots of released versions are read for as long as there are any: these bytes may not change their meaning.
#[test]
fn a_snapshot_of_version_1() {
    let account = ledger("5 bill=2.00; 11-10 use 6").account;
    let hex: Vec<String> = account.encode().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex.concat(), SNAPSHOT);
    assert_eq!(account.terms(), &terms("5 bill=2.00"));
}
