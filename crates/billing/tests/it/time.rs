//! Windows of time, and times as text.

use std::collections::BTreeMap;

use billing::time::{self, Window};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

use crate::{check, named};

fn at(text: &str) -> Timestamp {
    time::parse(text).expect("a time")
}

fn zone(name: &str) -> TimeZone {
    time::zone(name).expect("a zone")
}

fn shown(window: Result<Window, time::TimeError>) -> String {
    window.map_or_else(named, |window| format!("{} {}", time::wire(window.start), time::wire(window.end)))
}

#[test]
fn f48_monthly_windows() {
    check(
        "
        2025-09-08T00:00:00Z 2025-09-08T00:00:00Z -> 2025-09-08T00:00:00Z 2025-10-08T00:00:00Z
        2025-09-08T00:00:00Z 2025-10-07T23:59:59.999Z -> 2025-09-08T00:00:00Z 2025-10-08T00:00:00Z   # F-46
        2025-09-08T00:00:00Z 2025-10-08T00:00:00.000Z -> 2025-10-08T00:00:00Z 2025-11-08T00:00:00Z
        2026-01-31T12:30:00Z 2026-01-31T12:30:00Z -> 2026-01-31T12:30:00Z 2026-02-28T12:30:00Z   # clamps ...
        2026-01-31T12:30:00Z 2026-02-28T12:30:00Z -> 2026-02-28T12:30:00Z 2026-03-31T12:30:00Z   # ... and does not drift
        2026-01-31T12:30:00Z 2026-02-28T12:29:59Z -> 2026-01-31T12:30:00Z 2026-02-28T12:30:00Z
        2028-01-31T00:00:00Z 2028-02-29T00:00:00Z -> 2028-02-29T00:00:00Z 2028-03-31T00:00:00Z
        2024-02-29T00:00:00Z 2025-02-28T00:00:00Z -> 2025-02-28T00:00:00Z 2025-03-29T00:00:00Z   # a yearly plan of a leap day
        2026-01-31T00:00:00Z 2025-12-31T00:00:00Z -> 2025-12-31T00:00:00Z 2026-01-31T00:00:00Z   # before the anchor
        2026-01-31T00:00:00Z 2025-02-01T00:00:00Z -> 2025-01-31T00:00:00Z 2025-02-28T00:00:00Z
        ",
        |row| {
            let (anchor, now) = row.split_once(' ').expect("two times");
            shown(time::monthly_window(at(anchor), at(now)))
        },
    );
    assert!(time::monthly_window(at("2026-01-31T00:00:00Z"), Timestamp::MAX).is_err());
    assert!(time::monthly_window(at("2026-01-31T00:00:00Z"), Timestamp::MIN).is_err());
}

#[test]
fn f46_calendar_months() {
    check(
        "
        UTC 2026-10-31T23:59:59.999Z -> 2026-10-01T00:00:00Z 2026-11-01T00:00:00Z
        UTC 2026-11-01T00:00:00.000Z -> 2026-11-01T00:00:00Z 2026-12-01T00:00:00Z
        America/New_York 2026-11-01T03:00:00Z -> 2026-10-01T04:00:00Z 2026-11-01T04:00:00Z
        America/New_York 2026-11-01T04:00:00Z -> 2026-11-01T04:00:00Z 2026-12-01T05:00:00Z   # an hour longer
        Asia/Kathmandu 2026-11-01T00:00:00Z -> 2026-10-31T18:15:00Z 2026-11-30T18:15:00Z
        ",
        |row| {
            let (name, now) = row.split_once(' ').expect("a zone and a time");
            shown(time::calendar_month(&zone(name), at(now)))
        },
    );
}

#[test]
fn f47_local_days_where_clocks_move() {
    check(
        "
        America/New_York 2026-03-08T12:00:00Z -> 2026-03-08T05:00:00Z 2026-03-09T04:00:00Z      # 23 hours
        America/New_York 2026-11-01T12:00:00Z -> 2026-11-01T04:00:00Z 2026-11-02T05:00:00Z      # 25 hours
        Australia/Lord_Howe 2026-10-04T00:00:00Z -> 2026-10-03T13:30:00Z 2026-10-04T13:00:00Z   # half an hour
        Pacific/Chatham 2026-09-27T00:00:00Z -> 2026-09-26T11:15:00Z 2026-09-27T10:15:00Z
        Pacific/Apia 2011-12-30T09:59:59Z -> 2011-12-29T10:00:00Z 2011-12-30T10:00:00Z          # the 29th ...
        Pacific/Apia 2011-12-30T10:00:00Z -> 2011-12-30T10:00:00Z 2011-12-31T10:00:00Z          # ... and then the 31st
        America/Sao_Paulo 2018-11-04T12:00:00Z -> 2018-11-04T03:00:00Z 2018-11-05T02:00:00Z     # midnight is skipped
        America/Sao_Paulo 2018-02-18T01:30:00Z -> 2018-02-17T02:00:00Z 2018-02-18T03:00:00Z     # 23:30 comes twice
        America/Havana 2026-11-01T04:30:00Z -> 2026-11-01T04:00:00Z 2026-11-02T05:00:00Z        # midnight comes twice
        America/Havana 2026-11-01T05:30:00Z -> 2026-11-01T04:00:00Z 2026-11-02T05:00:00Z
        America/St_Johns 2010-11-07T02:30:30Z -> 2010-11-07T02:30:00Z 2010-11-08T03:30:00Z      # today has begun, and
        America/St_Johns 2010-11-07T02:31:30Z -> 2010-11-07T02:30:00Z 2010-11-08T03:30:00Z      # yesterday's date is back
        America/Toronto 1919-03-31T04:30:00Z -> 1919-03-31T04:30:00Z 1919-04-01T04:00:00Z       # 23:30 is followed by 00:30
        America/Toronto 1919-03-31T04:29:59Z -> 1919-03-30T05:00:00Z 1919-03-31T04:30:00Z
        ",
        |row| {
            let (name, now) = row.split_once(' ').expect("a zone and a time");
            shown(time::local_day(&zone(name), at(now)))
        },
    );
}

/// I-12 for one kind of window: from the one around `from` on, each begins where the one before ended, and the first and
/// the last instant of each are in it and in no other.
fn tiles(what: &str, from: Timestamp, until: Timestamp, window: impl Fn(Timestamp) -> Result<Window, time::TimeError>) {
    let mut next = window(from).expect("a window").start;
    while next < until {
        let found = window(next).expect("a window");
        assert!(found.start == next && found.end > next, "{what}: at {next} {found:?}");
        let last = found.end - SignedDuration::from_nanos(1);
        assert_eq!(window(last), Ok(found), "{what}: at {last}");
        next = found.end;
    }
}

/// Every zone of the bundled database under one of its names: many names share one set of rules, and each set needs to
/// be walked once. Two names are the same when all their changes of 1999 to 2041 are.
fn zones() -> Vec<TimeZone> {
    let (from, until) = (at("1999-01-01T00:00:00Z"), at("2041-01-01T00:00:00Z"));
    let database = TimeZoneDatabase::bundled();
    let mut by_rules = BTreeMap::new();
    for name in database.available() {
        let zone = zone(name.as_str());
        let changes: Vec<_> = zone.following(from).take_while(|change| change.timestamp() < until).collect();
        let changes: Vec<_> = changes.iter().map(|change| (change.timestamp(), change.offset())).collect();
        by_rules.entry((zone.to_offset(from), changes)).or_insert(zone);
    }
    by_rules.into_values().collect()
}

#[test]
fn i12_calendar_months_and_days_tile_the_line_in_every_zone() {
    let (from, until) = (at("2000-01-01T00:00:00Z"), at("2040-01-01T00:00:00Z"));
    let zones = zones();
    assert!(zones.len() > 150, "only {} sets of rules", zones.len());
    for zone in &zones {
        let name = zone.iana_name().unwrap_or_default();
        tiles(name, from, until, |at| time::calendar_month(zone, at));
        // Days: the week around every change of the clocks, and the first of every third month, which must begin with it.
        let week = SignedDuration::from_hours(24 * 3);
        for change in zone.following(from).take_while(|change| change.timestamp() < until) {
            let change = change.timestamp();
            tiles(name, change - week, change + week, |at| time::local_day(zone, at));
            for at in [change - SignedDuration::from_nanos(1), change, change + SignedDuration::from_mins(31)] {
                assert!(time::local_day(zone, at).expect("a day").contains(at), "{name}: {at}");
                assert!(time::calendar_month(zone, at).expect("a month").contains(at), "{name}: {at}");
            }
        }
        let mut next = from;
        while next < until {
            let month = time::calendar_month(zone, next).expect("a month");
            assert_eq!(time::local_day(zone, month.start).map(|day| day.start), Ok(month.start), "{name}: {next}");
            next = month.end + SignedDuration::from_hours(24 * 70);
        }
    }
}

#[test]
fn i12_monthly_windows_tile_the_line_for_every_anchor() {
    let (from, until) = (at("2000-01-01T00:00:00Z"), at("2040-01-01T00:00:00Z"));
    for day in 1..=31_i8 {
        // Anchored in the middle, so that windows before the anchor are walked too.
        let anchor = at(&format!("2020-01-{day:02}T23:59:59.999Z"));
        tiles(&format!("anchor {day}"), from, until, |at| time::monthly_window(anchor, at));
        let mut next = from;
        while next < until {
            let window = time::monthly_window(anchor, next).expect("a window");
            let start = TimeZone::UTC.to_datetime(window.start);
            assert_eq!(start.day(), day.min(start.date().days_in_month()), "no drift: {next}");
            next = window.end;
        }
    }
}

#[test]
fn s39_reading() {
    check(
        "
        2026-11-22T10:00:00Z            -> 2026-11-22T10:00:00Z
        2026-11-22t10:00:00z            -> 2026-11-22T10:00:00Z
        2026-11-22T10:00:00+05:45       -> 2026-11-22T04:15:00Z
        2026-11-22T10:00:00-00:00       -> 2026-11-22T10:00:00Z
        2026-11-22T10:00:00.5Z          -> 2026-11-22T10:00:00.5Z
        2026-11-22T10:00:00.1234567899Z -> 2026-11-22T10:00:00.123456789Z
        2024-02-29T00:00:00Z            -> 2024-02-29T00:00:00Z
        2016-12-31T23:59:60Z            -> 2016-12-31T23:59:59.999999999Z   # the leap second: last instant of that second
        2016-12-31T18:59:60-05:00       -> 2016-12-31T23:59:59.999999999Z
        2016-12-31T23:59:60.25Z         -> 2016-12-31T23:59:59.999999999Z
        2026-11-22T10:00:60Z            -> no
        2026-11-22T23:59:61Z            -> no
        2026-02-30T00:00:00Z            -> no
        2025-02-29T00:00:00Z            -> no
        2026-11-22T24:00:00Z            -> no
        2026-11-22T10:00:00             -> no
        2026-11-22T10:00Z               -> no
        2026-11-22                      -> no
        2026-11-22 10:00:00Z            -> no
        2026-11-22T10:00:00.Z           -> no
        2026-11-22T10:00:00,5Z          -> no
        2026-11-22T10:00:00+24:00       -> no
        2026-11-22T10:00:00+0545        -> no
        2026-11-22T10:00:00+05          -> no
        2026-11-22T10:00:00+05:60       -> no
        2026-11-22T10:00:00Z[UTC]       -> no
        26-11-22T10:00:00Z              -> no
        +2026-11-22T10:00:00Z           -> no
        -001-11-22T10:00:00Z            -> no
        2026-11-22T+1:00:00Z            -> no
        2026-11-2２T10:00:00Z           -> no
        1795341600                      -> no
        9999-12-31T23:59:59Z            -> 9999-12-30T22:00:00.999999999Z   # the last one that can be counted
        9999-12-30T21:00:00-05:00       -> 9999-12-30T22:00:00.999999999Z
        ",
        |text| time::parse(text).map_or_else(|_| "no".to_owned(), |at| at.to_string()),
    );
}

#[test]
fn printing_cuts_the_fraction_off() {
    check(
        "
        2026-11-22T10:00:00.999999999Z -> 2026-11-22T10:00:00Z
        1969-12-31T23:59:59.5Z         -> 1969-12-31T23:59:59Z   # downwards before 1970 too
        2016-12-31T23:59:60Z           -> 2016-12-31T23:59:59Z
        ",
        |text| time::wire(at(text)),
    );
}

#[test]
fn zones_by_name() {
    assert_eq!(zone("America/New_York").iana_name(), Some("America/New_York"));
    assert_eq!(zone("UTC"), TimeZone::UTC);
    assert_eq!(time::zone("Mars/Olympus"), Err(time::TimeError::UnknownZone("Mars/Olympus".to_owned())));
    assert!(time::zone("").is_err() && time::zone("../../etc/passwd").is_err());
}
