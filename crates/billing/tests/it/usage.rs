//! Credits and quantities as they are written, and that included credits are used up before the rest is billed.

use billing::account::View;
use billing::usage::{Credits, Quantity, UsageError};
use proptest::prelude::*;

use crate::ledger::ledger;
use crate::{check, named};

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
        let credits = Credits::from_micro;
        let price_per_1k = format!("{}.{:02}", price / 100, price % 100);
        let after = |used: i64| -> View {
            ledger(&format!("{} bill={price_per_1k}; 11-10 use {}", credits(included), credits(used))).view()
        };
        let (now, later) = (after(used), after(used + more));
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
