//! Credits: what usage costs, what is left, and what the rest is billed at.

use std::collections::BTreeMap;

use billing::catalogue::{Catalogue, Overage, Tier};
use billing::money::Money;
use billing::usage::{self, Credits, Quantity, UsageError};
use proptest::prelude::*;

use crate::notation::currency;
use crate::{check, named};

fn tier(included: i64, price_minor: i64, code: &str, overage: Overage) -> Tier {
    Tier {
        id: "t".to_owned(),
        name: "T".to_owned(),
        price: Money::zero(currency(code)),
        stripe_prices: Vec::new(),
        included_credits: Credits::from_micro(included),
        price_per_1k: Money::new(price_minor, currency(code)),
        overage,
        overage_cap: None,
        limits: BTreeMap::new(),
        trial_days: None,
    }
}

fn by_type(text: &str) -> BTreeMap<String, Quantity> {
    let pair = |pair: &str| {
        let (kind, quantity) = pair.split_once('=').expect("type=quantity");
        (kind.to_owned(), Quantity::parse(quantity).expect("a quantity"))
    };
    text.split_whitespace().map(pair).collect()
}

/// The example of the product's description: 450 + 120 + 10 + 5 events of a professional.
#[test]
fn i10_the_golden_account() {
    let catalogue = Catalogue::built_in();
    let used = usage::cost(&catalogue, &by_type("inference=450 embedding=120 tts=10 stt=5")).expect("a cost");
    let account = usage::account(catalogue.tier("professional").expect("a tier"), used).expect("an account");
    let credits = [account.included, account.used, account.remaining, account.overage].map(Credits::wire);
    assert_eq!(credits, ["500", "585", "0", "85"]);
    assert_eq!([account.overage_cost, account.price_per_1k].map(Money::wire), ["0.17", "2.00"]);
}

#[test]
fn accounts_of_the_built_in_tiers() {
    let catalogue = Catalogue::built_in();
    check(
        "
        professional 0          -> 500 left, 0 over, 0.00
        professional 499.999999 -> 0.000001 left, 0 over, 0.00
        professional 500        -> 0 left, 0 over, 0.00
        professional 502.5      -> 0 left, 2.5 over, 0.01     # half a cent goes up
        professional 502.499999 -> 0 left, 2.499999 over, 0.00
        professional 1500       -> 0 left, 1000 over, 2.00    # linear, no blocks of a thousand
        enterprise 5085         -> 0 left, 85 over, 0.09      # 8.5 cents
        trial 101               -> 0 left, 1 over, 0.00       # what is not billed costs nothing
        starter 150             -> 50 left, 0 over, 0.00
        professional -1         -> Negative
        ",
        |row| {
            let (tier, used) = row.split_once(' ').expect("a tier");
            let used = Credits::parse(used).expect("credits");
            match usage::account(catalogue.tier(tier).expect("a tier"), used) {
                Ok(account) => {
                    let (left, over, cost) = (account.remaining, account.overage, account.overage_cost.wire());
                    format!("{left} left, {over} over, {cost}")
                }
                Err(error) => named(error),
            }
        },
    );
}

#[test]
fn what_is_blocked_is_not_billed() {
    let account = |overage| usage::account(&tier(0, 200, "usd", overage), Credits::from_micro(85_000_000));
    assert_eq!(account(Overage::Bill).map(|account| account.overage_cost.wire()), Ok("0.17".to_owned()));
    assert_eq!(account(Overage::Block).map(|account| account.overage_cost.wire()), Ok("0.00".to_owned()));
}

#[test]
fn overage_in_currencies_without_decimals() {
    check(
        "
        jpy 300 85   -> 26     # 25.5 yen
        isk 30000 85 -> 26     # 25.5 krónur: no hundredths
        kwd 600 85   -> 0.051
        ",
        |row| {
            let words: Vec<_> = row.split(' ').collect();
            let tier = tier(0, words[1].parse().expect("a price"), words[0], Overage::Bill);
            usage::account(&tier, Credits::parse(words[2]).expect("credits")).expect("an account").overage_cost.wire()
        },
    );
}

#[test]
fn weights_are_exact_and_rounded_once() {
    let file = "currency = 'usd'\n[tiers.one]\nname = 'One'\nprice = '1.00'\n[events.image]\ncredits = '2.5'\n\
                [events.token]\ncredits = '0.0004'\n[events.tts]\ncredits = '0'\n";
    let catalogue = Catalogue::parse(file).expect("a catalogue");
    check(
        "
        inference=3                  -> 3
        image=3                      -> 7.5
        image=0.1 inference=0.1      -> 0.35
        token=1234567                -> 493.8268
        token=0.00125                -> 0.000001   # half a millionth goes up
        token=0.00125 image=0        -> 0.000001
        tts=1000                     -> 0
        token=0.000625 inference=0.000001 -> 0.000001
        video=1                      -> UnknownType
        token=9223372036854 inference=9223372036854 -> Overflow
        ",
        |row| usage::cost(&catalogue, &by_type(row)).map_or_else(named, Credits::wire),
    );
    assert_eq!(usage::cost(&catalogue, &BTreeMap::new()), Ok(Credits::ZERO));
}

#[test]
fn quantities_and_credits_as_text() {
    check(
        "
        3         -> 3 3
        0.5       -> 0.5 0.5
        10.000000 -> 10 10
        0.000001  -> 0.000001 0.000001
        0         -> 0 0
        -1.5      -> Negative -1.5    # a correction of credits may be negative, usage may not
        0.0000001 -> Number Number
        1e3       -> Number Number
        -0        -> Number Number
        9223372036854.775807 -> 9223372036854.775807 9223372036854.775807
        9223372036854.775808 -> Overflow Overflow
        ",
        |text| {
            let quantity = Quantity::parse(text).map_or_else(named, Quantity::wire);
            format!("{quantity} {}", Credits::parse(text).map_or_else(named, Credits::wire))
        },
    );
}

#[test]
fn sums_that_do_not_fit_are_errors() {
    assert_eq!(Quantity::from_micro(i64::MAX).plus(Quantity::from_micro(1)), Err(UsageError::Overflow));
    assert_eq!(Credits::from_micro(i64::MAX).plus(Credits::from_micro(1)), Err(UsageError::Overflow));
    assert_eq!(Credits::from_micro(i64::MIN).minus(Credits::from_micro(1)), Err(UsageError::Overflow));
    assert_eq!(Credits::ZERO.minus(Credits::from_micro(1)), Ok(Credits::from_micro(-1)));
}

proptest! {
    #[test]
    fn i10_included_credits_are_used_up_before_the_overage_begins(
        included in 0..10_i64.pow(15),
        used in 0..10_i64.pow(15),
        more in 0..10_i64.pow(12),
        price in 0..1_000_000_i64,
    ) {
        let tier = tier(included, price, "usd", Overage::Bill);
        let account = |used| usage::account(&tier, Credits::from_micro(used)).expect("an account");
        let (now, later) = (account(used), account(used + more));
        prop_assert_eq!(now.overage.micro(), (used - included).max(0));
        prop_assert_eq!(now.remaining.micro() + used, included + now.overage.micro());
        prop_assert!(now.remaining.micro() == 0 || now.overage.micro() == 0);
        prop_assert!(now.overage_cost.minor() <= later.overage_cost.minor(), "cost is monotone");
        // Half up: 2 × 10^9 × cost is within (-10^9, 10^9] of the exact 2 × overage × price.
        let exact = 2 * i128::from(now.overage.micro()) * i128::from(price);
        let error = 2_000_000_000 * i128::from(now.overage_cost.minor()) - exact;
        prop_assert!(error > -1_000_000_000 && error <= 1_000_000_000);
    }
}
