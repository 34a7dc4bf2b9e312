//! Money, currencies and decimals.

use billing::money::{Currency, Decimal, Money, MoneyError};
use proptest::prelude::*;

use crate::notation::currency;
use crate::{check, named};

fn code() -> impl Strategy<Value = Currency> {
    prop::sample::select(&["usd", "eur", "jpy", "krw", "kwd", "tnd", "isk", "ugx", "huf", "twd"][..]).prop_map(currency)
}

#[test]
fn printing() {
    check(
        "
        4900 usd  -> 49.00
        -5 usd    -> -0.05
        0 usd     -> 0.00
        4900 jpy  -> 4900          # zero-decimal
        1234 kwd  -> 1.234         # three-decimal
        500 isk   -> 5             # special: hundredths that do not exist
        500 ugx   -> 5
        -500 isk  -> -5
        0 isk     -> 0
        550 isk   -> 5.50          # should Stripe send them all the same, nothing is lost
        12345 huf -> 123.45        # special for payouts only
        12345 twd -> 123.45
        -9223372036854775808 usd -> -92233720368547758.08
        ",
        |row| {
            let (minor, code) = row.split_once(' ').expect("an amount");
            Money::new(minor.parse().expect("minor units"), currency(code)).wire()
        },
    );
}

#[test]
fn s35_reading() {
    check(
        "
        49.00 usd            -> 4900
        49 usd               -> 4900
        49.5 usd             -> 4950
        -0.05 usd            -> -5
        4900 jpy             -> 4900
        1.234 kwd            -> 1234
        5 isk                -> 500
        5.00 isk             -> 500
        10000000000000.00 usd -> 1000000000000000
        10000000000000.01 usd -> Number(OutOfRange)
        1.234 usd            -> Number(TooManyDecimals { allowed: 2 })
        1.0 jpy              -> Number(TooManyDecimals { allowed: 0 })
        5.50 isk             -> Number(TooManyDecimals { allowed: 0 })
        -0 usd               -> Number(NegativeZero)
        -0.00 usd            -> Number(NegativeZero)
        1e400 usd            -> Number(Malformed(\"1e400\"))
        1,50 usd             -> Number(Malformed(\"1,50\"))
        +1 usd               -> Number(Malformed(\"+1\"))
        .5 usd               -> Number(Malformed(\".5\"))
        5. usd               -> Number(Malformed(\"5.\"))
        ４９ usd             -> Number(Malformed(\"４９\"))
        NaN usd              -> Number(Malformed(\"NaN\"))
        99999999999999999999999999999999999999999999 usd -> Number(OutOfRange)
        ",
        |row| {
            let (text, code) = row.split_once(' ').expect("an amount");
            match Money::parse_major(text, currency(code)) {
                Ok(money) => money.minor().to_string(),
                Err(error) => format!("{error:?}"),
            }
        },
    );
    assert!(Money::parse_major("", Currency::USD).is_err());
    assert!(Money::parse_major(" 1", Currency::USD).is_err());
}

#[test]
fn currencies() {
    check(
        "
        usd  -> usd 2
        USD  -> usd 2
        jpy  -> jpy 0
        xpf  -> xpf 0
        bhd  -> bhd 3
        omr  -> omr 3
        isk  -> isk 2
        huf  -> huf 2
        zzz  -> zzz 2      # Stripe may know it before we do
        us   -> NotACurrency
        usdt -> NotACurrency
        u5d  -> NotACurrency
        ü$   -> NotACurrency
        ",
        |code| match Currency::parse(code) {
            Ok(currency) => format!("{currency} {}", currency.exponent()),
            Err(error) => named(error),
        },
    );
    for code in "bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf".split(' ') {
        assert_eq!((currency(code).exponent(), currency(code).is_listed()), (0, true), "{code}");
    }
    for code in "bhd jod kwd omr tnd".split(' ') {
        assert_eq!((currency(code).exponent(), currency(code).is_listed()), (3, true), "{code}");
    }
    assert!(currency("usd").is_listed() && currency("xpf").is_listed());
    assert!(!currency("usa").is_listed() && !currency("zzz").is_listed());
}

#[test]
fn decimals() {
    check(
        "
        12              -> 12
        0.5             -> 0.5
        12.000000000000 -> 12
        100             -> 100
        -1              -> -1
        -0.000000000001 -> -0.000000000001
        007             -> 7
        0.0000000000001 -> TooManyDecimals
        1e3             -> Malformed
        --1             -> Malformed
        -               -> Malformed
        1.2.3           -> Malformed
        -0              -> NegativeZero
        200000000000000000000000000 -> 200000000000000000000000000 is too large
        ",
        |text| match Decimal::parse(text) {
            Ok(number) => number.wire(),
            Err(billing::DecimalError::OutOfRange) => format!("{text} is too large"),
            Err(error) => named(error),
        },
    );
}

#[test]
fn decimal_arithmetic_is_exact_or_an_error() {
    let number = |text| Decimal::parse(text).expect("a decimal");
    assert_eq!(number("0.1").plus(number("0.2")), Ok(number("0.3")));
    assert_eq!(number("1").minus(number("0.000000000001")), Ok(number("0.999999999999")));
    assert_eq!(number("12.5").times(number("-0.08")), Ok(number("-1")));
    assert_eq!(number("1000000000000.5").times(Decimal::from_i64(1000)), Ok(number("1000000000000500")));
    assert_eq!(number("0.000000000001").times(number("0.5")).map_err(named), Err("Inexact".to_owned()));
    let largest = number("100000000000000000000000000");
    assert_eq!(largest.plus(largest).map_err(named), Err("OutOfRange".to_owned()));
    assert_eq!(largest.times(largest).map_err(named), Err("OutOfRange".to_owned()));
}

#[test]
fn i11_two_currencies_never_meet() {
    let (dollar, yen) = (Money::new(1, Currency::USD), Money::new(1, currency("jpy")));
    let refused = Err(MoneyError::CurrencyMismatch { left: Currency::USD, right: currency("jpy") });
    assert_eq!(dollar.plus(yen), refused);
    assert_eq!(dollar.minus(yen), refused);
    assert_eq!(dollar.plus(Money::zero(currency("jpy"))), refused, "not even nothing");
}

#[test]
fn arithmetic_that_does_not_fit_is_an_error() {
    let most = Money::new(i64::MAX, Currency::USD);
    assert_eq!(most.plus(Money::new(1, Currency::USD)), Err(MoneyError::Overflow));
    assert_eq!(most.times(2), Err(MoneyError::Overflow));
    assert_eq!(Money::new(i64::MIN, Currency::USD).minus(Money::new(1, Currency::USD)), Err(MoneyError::Overflow));
}

#[test]
fn splitting() {
    check(
        "
        100 usd by 1 1 1 -> 34 33 33
        -100 usd by 1 1 1 -> -34 -33 -33
        100 usd by 1 2   -> 33 67
        5 usd by 0 1 0   -> 0 5 0
        1 usd by 1 1     -> 1 0
        0 usd by 3 4     -> 0 0
        1000 isk by 1 1 1 -> 400 300 300    # only whole krónur exist
        150 isk by 1 1   -> 75 75
        -9223372036854775808 usd by 1 -> -9223372036854775808
        9223372036854775807 usd by 18446744073709551615 18446744073709551615 -> 4611686018427387904 4611686018427387903
        10 usd by 0 0    -> NoWeights
        ",
        |row| {
            let (amount, weights) = row.split_once(" by ").expect("weights");
            let (minor, code) = amount.split_once(' ').expect("an amount");
            let weights: Vec<u64> = weights.split(' ').map(|weight| weight.parse().expect("a weight")).collect();
            match Money::new(minor.parse().expect("minor units"), currency(code)).split(&weights) {
                Ok(parts) => parts.iter().map(|part| part.minor().to_string()).collect::<Vec<_>>().join(" "),
                Err(error) => named(error),
            }
        },
    );
    assert_eq!(Money::new(1, Currency::USD).split(&[]), Err(MoneyError::NoWeights));
}

/// I-09 for one case: the parts sum to the whole, and each is less than one step from its exact share.
fn parts_sum_to_the_whole(whole: Money, weights: &[u64]) {
    let parts = whole.split(weights).expect("a split");
    let total: i128 = weights.iter().copied().map(i128::from).sum();
    assert_eq!(parts.len(), weights.len());
    assert_eq!(parts.iter().map(|part| i128::from(part.minor())).sum::<i128>(), i128::from(whole.minor()));
    let step = if whole.minor() % whole.currency().step() == 0 { whole.currency().step() } else { 1 };
    for (part, weight) in parts.iter().zip(weights) {
        // |part - whole × weight / total| < step; tested without the division, and without leaving 128 bits
        let (share, rest) = (i128::from(whole.minor()) * i128::from(*weight) / total, i128::from(part.minor()));
        assert!((rest - share).abs() <= i128::from(step), "{whole:?} by {weights:?}: {part:?}");
        assert!(*weight > 0 || part.minor() == 0, "no weight, no part");
    }
}

#[test]
fn i09_splits_of_a_small_domain() {
    for minor in -30..=30 {
        for weights in (0..5_u64.pow(3)).map(|n| [n % 5, n / 5 % 5, n / 25]).filter(|weights| *weights != [0; 3]) {
            parts_sum_to_the_whole(Money::new(minor, Currency::USD), &weights);
            parts_sum_to_the_whole(Money::new(minor * 100, currency("isk")), &weights);
        }
    }
}

proptest! {
    #[test]
    fn i09_splits_of_any_size(
        minor in any::<i64>(),
        code in code(),
        weights in prop::collection::vec(prop_oneof![0_u64..10, any::<u64>()], 1..12),
    ) {
        prop_assume!(weights.iter().any(|weight| *weight > 0));
        parts_sum_to_the_whole(Money::new(minor, code), &weights);
    }

    #[test]
    fn i11_what_is_printed_reads_back(major in -10_000_000_000_i64..=10_000_000_000, code in code()) {
        let money = Money::new(major * code.step(), code);
        prop_assert_eq!(Money::parse_major(&money.wire(), code), Ok(money));
        let decimals = money.wire().split_once('.').map_or(0, |(_, fraction)| fraction.len());
        let real = if code.step() == 1 { code.exponent() } else { 0 };
        prop_assert_eq!(decimals, usize::try_from(real).expect("small"));
    }

    #[test]
    fn decimals_read_back(whole in any::<i64>(), millionths in any::<i64>()) {
        let million = Decimal::parse("0.000001").expect("a decimal");
        let number = Decimal::from_i64(millionths).times(million).and_then(|n| n.plus(Decimal::from_i64(whole)));
        let number = number.expect("it fits");
        prop_assert_eq!(Decimal::parse(&number.wire()), Ok(number));
    }
}
