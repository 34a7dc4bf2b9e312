//! Subscriptions: price, period, monthly value, and which of several is current.

use billing::subscription::{self, Interval, Status, Subscription};
use proptest::prelude::*;

use crate::notation::{TODAY, day, subscription};
use crate::{check, named};

/// What it is worth a month, today.
fn monthly(line: &str) -> String {
    let value = subscription::monthly_value(&subscription(line), day(TODAY));
    value.map_or_else(named, |value| format!("{} {}", value.wire(), value.currency()))
}

fn price(line: &str) -> String {
    match subscription::price(&subscription(line)) {
        Ok(Some(price)) => {
            let recurrence = price.recurrence;
            let (amount, interval) = (price.amount, recurrence.interval.as_str());
            format!("{} {} {}{interval}", amount.wire(), amount.currency(), recurrence.count)
        }
        Ok(None) => "none".to_owned(),
        Err(error) => named(error),
    }
}

#[test]
fn predecessor_4a3_all_items_times_quantity_in_any_currency() {
    check(
        "
        active; 4900 usd month                          -> 49.00 usd
        active; 4900 usd month; 4900 usd month          -> 98.00 usd   # not the first item only
        active; 4900 usd month x3; 100 usd month        -> 148.00 usd  # quantity
        active; 4900 usd month x0                       -> 0.00 usd
        active; 4900 jpy month                          -> 4900 jpy    # not 49 yen
        active; 4900 kwd month                          -> 4.900 kwd   # not 49 dinars
        active; 50000 isk month                         -> 500 isk
        active; 0.05 usd month x30                      -> 0.02 usd    # 1.5 cents, rounded once and not per unit
        active; 2 usd month x0.25                       -> 0.01 usd
        active; ? usd month                             -> UnknownPrice   # a null amount is no zero
        active; 4900 usd month; ? usd month metered     -> 49.00 usd   # metered items have no price in advance
        active; 4900 usd month metered                  -> 0.00 usd
        active; 4900 usd month x-1                      -> NegativeQuantity
        active                                          -> NoItems
        active; 99999999999999999999 usd month          -> Overflow
        ",
        monthly,
    );
}

#[test]
fn predecessor_4a5_every_interval_is_brought_to_a_month_exactly() {
    check(
        "
        active; 12000 usd year     -> 10.00 usd
        active; 10000 usd year     -> 8.33 usd
        active; 10000 usd year x12 -> 100.00 usd   # rounded once, after the quantity
        active; 1200 usd week      -> 52.00 usd    # 52/12, not 4.33
        active; 120 usd day        -> 36.50 usd    # 365/12, not as a month
        active; 3000 usd 3month    -> 10.00 usd    # a quarter is not three times itself
        active; 2400 usd 2year     -> 1.00 usd
        active; 1200 usd 4week     -> 13.00 usd
        active; 100 jpy year       -> 8 jpy
        active; 100000 isk year    -> 83 isk       # no hundredths that do not exist
        active; 6 usd year         -> 0.01 usd     # half a cent goes up
        active; 5 usd year         -> 0.00 usd
        active; 6 usd year; 6 usd year -> 0.01 usd # once per subscription, not per item
        active; 100 usd 0month     -> EmptyInterval
        ",
        monthly,
    );
}

#[test]
fn only_what_earns_has_a_worth() {
    check(
        "
        active             -> 49.00 usd
        past_due           -> 49.00 usd   # until Stripe gives up; revenue.past_due may leave it out
        trialing           -> 0.00 usd
        paused             -> 0.00 usd
        unpaid             -> 0.00 usd
        incomplete         -> 0.00 usd
        incomplete_expired -> 0.00 usd
        canceled           -> 0.00 usd
        hibernating        -> 0.00 usd    # a status of the future
        ",
        |status| monthly(&format!("{status}; 4900 usd month")),
    );
    assert_eq!(monthly("trialing; ? usd month"), "0.00 usd", "nothing is nothing, whatever it will cost");
    let mut resting = subscription("active; 4900 usd month");
    resting.paused_collection = true;
    let value = subscription::monthly_value(&resting, day(TODAY)).map(|value| value.wire());
    assert_eq!(value, Ok("49.00".to_owned()), "pause_collection leaves the status, and so the worth");
}

#[test]
fn coupons() {
    check(
        "
        active; 4900 usd month; coupon -10% forever                  -> 44.10 usd
        active; 4900 usd month; coupon -500usd forever               -> 44.00 usd
        active; 4900 usd month; coupon -50% once                     -> 49.00 usd   # says nothing about a usual month
        active; 4900 usd month; coupon -500jpy once                  -> 49.00 usd
        active; 4900 usd month; coupon -100% forever                 -> 0.00 usd
        active; 4900 usd month; coupon -9900usd forever              -> 0.00 usd    # never below zero
        active; 0 usd month; coupon -500usd forever                  -> 0.00 usd
        active; 4900 usd month; coupon -50% repeating                -> 24.50 usd
        active; 4900 usd month; coupon -50% repeating from=2026-11-22 to=2026-11-23 -> 24.50 usd
        active; 4900 usd month; coupon -50% repeating to=2026-11-22    -> 49.00 usd   # the end is the first instant without
        active; 4900 usd month; coupon -50% repeating from=2026-11-23  -> 49.00 usd
        active; 10000 usd month; coupon -10% forever; coupon -1000usd forever -> 80.00 usd   # in order,
        active; 10000 usd month; coupon -1000usd forever; coupon -10% forever -> 81.00 usd   # on what is left
        active; 999 usd month; coupon -33.3333% forever               -> 6.66 usd    # rounded once, at the end
        active; 12000 usd year; coupon -1200usd forever               -> 9.00 usd    # once in a year
        active; 1200 usd week; coupon -300usd forever                 -> 39.00 usd   # once in a week
        active; 4900 usd month; coupon -500jpy forever                -> DiscountCurrency
        active; 4900 usd month; coupon -101% forever                  -> BadPercent
        active; 4900 usd month; coupon --1% forever                   -> BadPercent
        active; 4900 usd month; coupon --500usd forever               -> NegativeDiscount
        ",
        monthly,
    );
}

#[test]
fn coupons_of_items_and_of_products() {
    check(
        "
        active; 1000 usd month -10%; 1000 usd month                                  -> 19.00 usd
        active; 1000 usd month -300usd x2; 1000 usd month                            -> 27.00 usd   # once, not per unit
        active; 100 usd month -300usd; 1000 usd month                                -> 10.00 usd   # nothing spills over
        active; 1000 usd month -50%; 1000 usd month; coupon -10% forever             -> 13.50 usd   # the item's first
        active; 12000 usd year -1200usd; 1000 usd month                              -> 19.00 usd   # by the item's own year
        active; 1000 usd month prod_a; 3000 usd month prod_b; coupon -50% forever for=prod_b       -> 25.00 usd
        active; 1000 usd month prod_a; 3000 usd month prod_b; coupon -2000usd forever for=prod_a   -> 30.00 usd
        active; 1000 usd month prod_a; 3000 usd month prod_b; coupon -50% forever for=prod_c       -> 40.00 usd
        active; 1000 usd month prod_a; 3000 usd month; coupon -50% forever for=prod_a+prod_b       -> 35.00 usd
        active; 1000 usd month prod_a; 3000 usd month prod_b; coupon -2000usd forever; coupon -50% forever for=prod_b -> 12.50 usd  # 20 left: 5 and 15
        active; 1000 usd month prod_a; 3000 usd month prod_b; coupon -50% forever for=             -> 20.00 usd   # names none: all
        active; 1000 usd month; 500 usd month metered -50%                           -> 10.00 usd
        ",
        monthly,
    );
}

#[test]
fn tiered_prices_and_packages() {
    // Stripe's own example: 1-5 at 7, 6-10 at 6.50, from 11 on at 6
    check(
        "
        volume:5@700,10@650,inf@600 x1      -> 7.00
        volume:5@700,10@650,inf@600 x5      -> 35.00
        volume:5@700,10@650,inf@600 x6      -> 39.00
        volume:5@700,10@650,inf@600 x20     -> 120.00
        volume:5@700,10@650,inf@600 x25     -> 150.00
        graduated:5@700,10@650,inf@600 x5   -> 35.00
        graduated:5@700,10@650,inf@600 x6   -> 41.50
        graduated:5@700,10@650,inf@600 x20  -> 127.50
        graduated:5@700,10@650,inf@600 x25  -> 157.50
        graduated:5@0+1000,inf@100+500 x5   -> 10.00    # flat amounts of the steps that are entered
        graduated:5@0+1000,inf@100+500 x6   -> 16.00
        graduated:5@0+1000,inf@100+500 x0   -> 10.00    # the first one always
        volume:5@0+1000,inf@100+500 x6      -> 11.00
        volume:5@0+1000,inf@100+500 x0      -> 10.00
        graduated:5@700,10@650 x11          -> BadTiers # nobody says what the eleventh costs
        volume:5@700,10@650 x11             -> BadTiers
        volume:10@700,5@650,inf@600 x1      -> BadTiers
        graduated:inf@700,10@650 x1         -> BadTiers
        500 x11 pack=5up                    -> 15.00    # packages of five
        500 x11 pack=5down                  -> 10.00
        500 x10 pack=5up                    -> 10.00
        500 x0 pack=5up                     -> 0.00
        500 x1 pack=0up                     -> EmptyPackage
        ",
        |row| {
            let (amount, options) = row.split_once(' ').expect("an amount");
            monthly(&format!("active; {amount} usd month {options}")).replace(" usd", "")
        },
    );
}

#[test]
fn predecessor_4a4_currencies_of_one_subscription_never_meet() {
    let mixed = "active; 4900 usd month; 4900 jpy month";
    assert_eq!(monthly(mixed), "MixedCurrencies");
    assert_eq!(price(mixed), "MixedCurrencies");
}

#[test]
fn the_price_is_the_whole_subscription_without_discounts() {
    check(
        "
        active; 4900 usd month                                 -> 49.00 usd 1month
        active; 4900 usd month; coupon -50% forever            -> 49.00 usd 1month
        canceled; 4900 usd month -50%                          -> 49.00 usd 1month
        active; 4900 usd year x2; 100 usd year                 -> 99.00 usd 1year
        active; 3000 usd 3month                                -> 30.00 usd 3month
        active; 12000 usd year; 500 usd month                  -> 15.00 usd 1month   # unlike intervals: a month
        active; 1000 usd month; 3000 usd 3month                -> 20.00 usd 1month
        active; 4900 usd month; ? usd month metered            -> 49.00 usd 1month
        active; 4900 usd month metered                         -> none
        active                                                 -> none
        active; ? usd month                                    -> UnknownPrice
        ",
        price,
    );
}

#[test]
fn the_period_is_latest_start_and_earliest_end() {
    check(
        "
        active; 1 usd month period=2026-11-08..2026-12-08                                    -> 2026-11-08 2026-12-08
        active; 1 usd month period=2026-11-08..2026-12-08; 1 usd year period=2026-03-08..2027-03-08 -> 2026-11-08 2026-12-08
        active; 1 usd month; period 2026-11-01..2026-12-01                                   -> 2026-11-01 2026-12-01  # the old place
        active; 1 usd month period=2026-11-08..2026-12-08; period 2026-11-01..2026-12-01     -> 2026-11-08 2026-12-08  # the new one first
        active; 1 usd month                                                                  -> none
        ",
        |line| match subscription::period(&subscription(line)) {
            Some(period) => [period.start, period.end].map(|at| at.to_string()[..10].to_owned()).join(" "),
            None => "none".to_owned(),
        },
    );
}

#[test]
fn the_value_changes_when_a_coupon_starts_or_ends() {
    check(
        "
        active; 1 usd month                                                         -> never
        active; 1 usd month; coupon -50% forever from=2026-01-01                     -> never
        active; 1 usd month; coupon -50% repeating from=2026-01-01 to=2027-01-01     -> 2027-01-01
        active; 1 usd month; coupon -50% repeating from=2026-12-01 to=2027-01-01     -> 2026-12-01
        active; 1 usd month; coupon -50% repeating to=2027-01-01; coupon -1% repeating to=2026-12-24 -> 2026-12-24
        active; 1 usd month; coupon -50% once to=2026-12-24                          -> never
        active; 1 usd month; coupon -50% repeating to=2026-11-22                     -> never   # it is over
        ",
        |line| match subscription::value_changes_at(&subscription(line), day(TODAY)) {
            Some(at) => at.to_string()[..10].to_owned(),
            None => "never".to_owned(),
        },
    );
}

#[test]
fn predecessor_4a7_the_best_state_is_shown_and_none_is_hidden() {
    check(
        "
        trialing                           -> trialing
        past_due                           -> past_due
        canceled past_due                  -> past_due
        trialing active                    -> active
        past_due trialing                  -> trialing
        unpaid past_due                    -> past_due
        paused unpaid                      -> unpaid
        incomplete paused                  -> paused
        hibernating incomplete             -> incomplete
        canceled hibernating               -> hibernating
        canceled incomplete_expired        -> none
        ",
        |statuses| {
            let all: Vec<Subscription> = statuses.split(' ').map(subscription).collect();
            let backwards: Vec<Subscription> = all.iter().rev().cloned().collect();
            let found = [&all, &backwards].map(|all| subscription::current(all).map(|found| found.status.to_string()));
            assert_eq!(found[0], found[1], "whatever the order");
            found[0].clone().unwrap_or("none".to_owned())
        },
    );
}

#[test]
fn of_equal_ones_the_newest_is_current_and_then_the_greatest_id() {
    let made = |id: &str, created| Subscription { id: id.to_owned(), created: day(created), ..subscription("active") };
    let all = [made("sub_b", "2026-01-01"), made("sub_a", "2026-01-02"), made("sub_c", "2025-01-01")];
    assert_eq!(subscription::current(&all).map(|found| found.id.as_str()), Some("sub_a"));
    let twins = [made("sub_a", "2026-01-01"), made("sub_b", "2026-01-01")];
    assert_eq!(subscription::current(&twins).map(|found| found.id.as_str()), Some("sub_b"));
    assert_eq!(subscription::current(&[]), None);
}

#[test]
fn words_of_stripe() {
    let statuses = "active trialing past_due unpaid paused incomplete incomplete_expired canceled hibernating";
    for word in statuses.split(' ') {
        assert_eq!(Status::parse(word).as_str(), word);
    }
    let counted: Vec<_> = statuses.split(' ').filter(|word| Status::parse(word).is_active()).collect();
    assert_eq!(counted, ["active", "trialing", "past_due"]);
    for word in ["day", "week", "month", "year"] {
        assert_eq!(Interval::parse(word).map(Interval::as_str), Some(word));
    }
    assert_eq!(Interval::parse("fortnight"), None);
}

proptest! {
    #[test]
    fn a_coupon_never_adds_and_never_goes_below_zero(
        amounts in prop::collection::vec((0_u32..10_000_000, 0_u32..50), 1..5),
        interval in prop::sample::select(&["day", "week", "month", "year", "3month"][..]),
        coupons in prop::collection::vec((0_u32..=100, 0_u32..500_000, any::<bool>()), 0..5),
    ) {
        let items: Vec<_> = amounts.iter().map(|(unit, many)| format!("; {unit} usd {interval} x{many}")).collect();
        let bare = format!("active{}", items.concat());
        let before = subscription::monthly_value(&subscription(&bare), day(TODAY)).expect("a value");
        let written: Vec<_> = coupons.iter().map(|(percent, off, by_percent)| match by_percent {
            true => format!("; coupon -{percent}% forever"),
            false => format!("; coupon -{off}usd forever"),
        }).collect();
        let after = subscription::monthly_value(&subscription(&format!("{bare}{}", written.concat())), day(TODAY));
        let after = after.expect("a value");
        prop_assert!(after.minor() >= 0 && after.minor() <= before.minor(), "{bare}{}", written.concat());
    }

    #[test]
    fn a_year_is_within_half_a_cent_of_twelve_months(unit in 0_i64..1_000_000_000, many in 1_i64..1000) {
        let line = format!("active; {unit} usd year x{many}");
        let value = subscription::monthly_value(&subscription(&line), day(TODAY)).expect("a value");
        let twelve = i128::from(value.minor()) * 12;
        let error = twelve - i128::from(unit) * i128::from(many);
        prop_assert!((-5..=6).contains(&error), "half up: at most 6/12 too much, less than 6/12 too little");
    }
}
