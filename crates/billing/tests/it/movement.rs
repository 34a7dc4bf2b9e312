//! Movements of revenue: which way an account went, and that every history adds up (I-07).

use billing::money::{Currency, Money};
use billing::movement::{Kind, Point, movements};
use jiff::Timestamp;
use proptest::prelude::*;

use crate::check;

fn usd(minor: i64) -> Money {
    Money::new(minor, Currency::parse("usd").expect("a currency"))
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("an instant")
}

/// `a@5=1900` or, where it is only concluded, `a@5~1900`.
fn point(text: &str) -> Point {
    let exact = text.contains('=');
    let (place, worth) = text.split_once(['=', '~']).expect("a worth");
    let (subscription, since) = place.split_once('@').expect("an instant");
    Point {
        subscription: subscription.to_owned(),
        since: at(since.parse().expect("seconds")),
        worth: usd(worth.parse().expect("minor units")),
        exact,
    }
}

fn told(points: &str) -> String {
    let points: Vec<Point> = points.split_whitespace().map(point).collect();
    let lines = movements(&points).expect("sums that fit").into_iter().map(|movement| {
        let sign = if movement.exact { '=' } else { '~' };
        let (kind, at) = (movement.kind.as_str(), movement.at.as_second());
        format!("{kind}@{at}{sign}{}", movement.difference().expect("a difference").minor())
    });
    lines.collect::<Vec<_>>().join(" ")
}

#[test]
fn an_account_goes_one_of_five_ways() {
    check(
        "
        a@1=0                             ->
        a@1=1900                          -> new@1=1900
        a@1=0 a@8=1900                    -> new@8=1900                              # a trial before it
        a@1=1900 a@5=1900                 -> new@1=1900                              # said twice
        a@1=1900 a@5=4900                 -> new@1=1900 expansion@5=3000
        a@1=4900 a@5=1900                 -> new@1=4900 contraction@5=-3000
        a@1=4900 a@5=0                    -> new@1=4900 churn@5=-4900
        a@1=4900 a@5=0 a@9=1900           -> new@1=4900 churn@5=-4900 reactivation@9=1900
        a@1=4900 a@5=0 b@9=1900           -> new@1=4900 churn@5=-4900 reactivation@9=1900   # another subscription, the same account
        a@1=4900 b@5=1900                 -> new@1=4900 expansion@5=1900
        a@1=4900 b@1=1900 b@5=0           -> new@1=6800 contraction@5=-1900
        a@1=4900 a@5=0 b@5=4900           -> new@1=4900                              # changed for another of the same worth
        a@1=4900 a@5=9900 a@5=4900        -> new@1=4900                              # of one instant the last counts
        a@5=9900 a@1=4900                 -> new@1=4900 expansion@5=5000             # told in any order
        a@1~4900 a@5=9900                 -> new@1~4900 expansion@5=5000
        a@1=4900 b@5~4900 a@5=0           -> new@1=4900
        a@1=4900 b@5~1900 a@5=0           -> new@1=4900 contraction@5~-3000
        a@1=4900 b@5~0 a@5=0              -> new@1=4900 churn@5=-4900                # what is concluded moved nothing
    ",
        told,
    );
}

#[test]
fn two_currencies_never_meet() {
    let yen = Point { worth: Money::new(7_350, Currency::parse("jpy").expect("a currency")), ..point("b@2=0") };
    assert!(movements(&[point("a@1=1900"), yen]).is_err());
}

fn history() -> impl Strategy<Value = Vec<Point>> {
    let any = (0..4_u8, 0..40_i64, prop_oneof![Just(0), Just(1_900), Just(4_900), 0..100_000_i64], any::<bool>());
    let point = any.prop_map(|(subscription, since, worth, exact)| Point {
        subscription: format!("sub_{subscription}"),
        since: at(since),
        worth: usd(worth),
        exact,
    });
    proptest::collection::vec(point, 0..60)
}

/// What the account is worth at an instant, the naive way.
fn worth(points: &[Point], until: Timestamp) -> i64 {
    let mut last: std::collections::BTreeMap<&str, &Point> = std::collections::BTreeMap::new();
    for point in points.iter().filter(|point| point.since <= until) {
        let newer = last.get(point.subscription.as_str()).is_none_or(|known| known.since <= point.since);
        if newer {
            last.insert(&point.subscription, point);
        }
    }
    last.values().map(|point| point.worth.minor()).sum()
}

proptest! {
    /// I-07: between any two instants the differences sum to the difference of the worths.
    #[test]
    fn i07_movements_sum_to_what_the_account_is_worth(points in history(), from in 0..40_i64, length in 0..40_i64) {
        let (from, to) = (at(from), at(from + length));
        let all = movements(&points).expect("sums that fit");
        let within = all.iter().filter(|movement| movement.at > from && movement.at <= to);
        let sum: i64 = within.map(|movement| movement.difference().expect("a difference").minor()).sum();
        prop_assert_eq!(sum, worth(&points, to) - worth(&points, from));
    }

    /// Each step is named after what it does, and begins where the one before ended.
    #[test]
    fn i07_every_step_is_named_after_what_it_does(points in history()) {
        let mut before = usd(0);
        let mut seen = false;
        for movement in movements(&points).expect("sums that fit") {
            prop_assert_eq!(movement.before, before);
            let difference = movement.difference().expect("a difference").minor();
            let named = match movement.kind {
                Kind::New => !seen && before.minor() == 0 && difference > 0,
                Kind::Reactivation => seen && before.minor() == 0 && difference > 0,
                Kind::Expansion => before.minor() > 0 && difference > 0,
                Kind::Contraction => movement.after.minor() > 0 && difference < 0,
                Kind::Churn => movement.after.minor() == 0 && difference < 0,
            };
            prop_assert!(named, "{:?}", movement);
            (before, seen) = (movement.after, true);
        }
    }

    /// Points of different subscriptions may be heard in any order.
    #[test]
    fn i07_the_order_in_which_points_are_heard_does_not_matter(points in history()) {
        let mut sorted = points.clone();
        sorted.sort_by(|left, right| (&left.subscription, left.since).cmp(&(&right.subscription, right.since)));
        prop_assert_eq!(movements(&points), movements(&sorted));
    }
}
