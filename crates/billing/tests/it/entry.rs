//! Terms, packs and plan changes as the lines that lie in the log for years.

use billing::entry::{Moved, Pack, PlanChange, Terms};
use billing::usage::{Credits, Quantity};
use proptest::prelude::*;

use crate::ledger::terms;
use crate::{check, named};

/// Lines of released versions: they are read for as long as there is a log.
#[test]
fn terms_in_one_line() {
    check(
        "
        500 bill=2.00 -> 1 tier=one included=500 overage=bill price_per_1k_minor=200 currency=usd period=calendar zone=UTC
        0.5 block tier=a%20é zone=Europe/Berlin -> 1 tier=a%2520%c3%a9 included=0.5 overage=block price_per_1k_minor=0 currency=usd period=calendar zone=Europe/Berlin
        5 bill=0.600:kwd cap=100.25 anchored=09-08T12:00 -> 1 tier=one included=5 overage=bill overage_cap=100.25 price_per_1k_minor=600 currency=kwd period=anchored:2026-09-08T12:00:00Z zone=UTC
        5 block fixed=11-01..11-15T00:00:00.25 ends=11-15 -> 1 tier=one included=5 overage=block price_per_1k_minor=0 currency=usd period=fixed:2026-11-01T00:00:00Z..2026-11-15T00:00:00.25Z zone=UTC ends=1794700800000
        ",
        |words| {
            let made = terms(words);
            let line = made.encode();
            assert_eq!(Terms::parse(&line), Ok(made), "{line}");
            line
        },
    );
}

#[test]
fn lines_that_are_no_terms() {
    let good = "1 tier=one included=5 overage=bill price_per_1k_minor=200 currency=usd period=calendar zone=UTC";
    assert!(Terms::parse(good).is_ok());
    check(
        "
        1 => 2                              -> Version
        tier=one => tear=one                -> Missing
        included=5 => included=5,0          -> Credits
        included=5 => included=-5           -> Terms
        included=5 => included=9223372036854 -> Terms
        overage=bill => overage=perhaps     -> Malformed
        overage=bill => overage=bill overage_cap=-1 -> Terms
        minor=200 => minor=+200             -> Malformed
        minor=200 => minor=0200             -> Malformed
        minor=200 => minor=-200             -> Terms
        currency=usd => currency=dollar     -> Malformed
        period=calendar => period=weekly    -> Malformed
        period=calendar => period=anchored:yesterday -> Time
        period=calendar => period=anchored:2026-11-01T00:00:00.00Z -> Malformed
        period=calendar => period=anchored:2026-11-01T01:00:00+01:00 -> Malformed
        period=calendar => period=fixed:2026-11-01T00:00:00Z -> Malformed
        period=calendar => period=fixed:2026-11-02T00:00:00Z..2026-11-01T00:00:00Z -> Terms
        period=calendar => period=fixed:2026-11-01T00:00:00.0001Z..2026-11-01T00:00:00.0002Z -> Terms   # no millisecond is in it
        period=calendar => period=anchored:9999-01-01T00:00:00Z -> Terms
        zone=UTC => zone=Mars/Olympus       -> Time
        zone=UTC => zone=                   -> Time
        zone=UTC => zone=utc                -> Malformed   # one value, one text
        currency=usd => currency=USD        -> Malformed
        zone=UTC => zone=UTC ends=soon      -> Malformed
        zone=UTC => zone=UTC zone=UTC       -> Unexpected
        zone=UTC => zone=UTC colour=red     -> Unexpected
        zone=UTC => zone=UTC red            -> Unexpected
        tier=one => tier=%zz                -> Malformed
        tier=one => tier=%c3                -> Malformed
        ",
        |change| {
            let (from, to) = change.split_once(" => ").expect("a change");
            assert!(good.contains(from), "{from}");
            Terms::parse(&good.replacen(from, to, 1)).map_or_else(named, |_| "read".to_owned())
        },
    );
}

#[test]
fn packs_in_one_line() {
    let pack = |id: &str, expires_ms| Pack {
        id: id.to_owned(),
        amount: Credits::from_micro(1_500_000),
        priority: -3,
        expires_ms,
        granted_ms: 1_794_700_800_000,
    };
    check(
        "
        welcome 5 -> 1 id=welcome amount=1.5 priority=-3 granted=1794700800000 expires=5
        a=b/ü     -> 1 id=a=b/%c3%bc amount=1.5 priority=-3 granted=1794700800000
        ",
        |row| {
            let (id, expires) = row.split_once(' ').unwrap_or((row, ""));
            let made = pack(id, expires.parse().ok());
            assert_eq!(Pack::parse(&made.encode()), Ok(made.clone()));
            made.encode()
        },
    );
    assert!(Pack::parse("1 id=a amount=-1 priority=0 granted=0").is_err());
    assert!(Pack::parse("1 id=a amount=1 priority=0").is_err());
}

#[test]
fn what_is_moved_in_one_line() {
    let cost_pico = i128::from(i64::MAX) * i128::from(i64::MAX);
    let moved = Moved { kind: "a b".to_owned(), quantity: Quantity::from_micro(5), cost_pico };
    let line = "1 kind=a%20b quantity=5 cost=85070591730234615847396907784232501249";
    assert_eq!((moved.encode().as_str(), Moved::parse(line)), (line, Ok(moved)));
    for wrong in [
        "1 kind=a quantity=0 cost=1",
        "1 kind=a quantity=1 cost=-1",
        "1 kind=a quantity=1",
        "1 kind=a quantity=1 cost=01",
    ] {
        assert!(Moved::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn plan_changes_by_their_word() {
    for change in PlanChange::ALL {
        assert_eq!(PlanChange::parse(&change.encode()), Ok(change));
    }
    assert!(PlanChange::parse("Reset").is_err() && PlanChange::parse("").is_err());
}

proptest! {
    #[test]
    fn any_text_in_a_line_reads_back(id in ".*", priority: i64, granted_ms: i64, expires_ms: Option<i64>, amount in 0..i64::MAX) {
        let pack = Pack { id, amount: Credits::from_micro(amount), priority, expires_ms, granted_ms };
        let line = pack.encode();
        prop_assert!(line.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{}", line);
        prop_assert_eq!(Pack::parse(&line), Ok(pack));
    }

    #[test]
    fn no_line_panics(line in "1( (tier|included|overage|period|zone|ends|currency|price_per_1k_minor)=[^ ]{0,9}){0,9}") {
        let _ = Terms::parse(&line);
        let _ = Pack::parse(&line);
    }
}
