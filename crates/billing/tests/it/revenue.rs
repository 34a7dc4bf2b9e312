//! Revenue: the golden business, the parts that sum to the whole, and movements that explain every change.

use std::collections::BTreeMap;

use billing::catalogue::{Catalogue, PastDue};
use billing::money::{Currency, Money};
use billing::revenue::{self, RevenueError, Stats, TierLine, Total};
use billing::subscription::{self, Status};
use proptest::prelude::*;

use crate::check;
use crate::notation::{TODAY, currency, day, subscription};

/// Totals of a business: a row for each tier, status and currency, as the store keeps them.
fn totals<'a>(business: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Total> {
    let mut rows: BTreeMap<(Currency, String, Status), (u64, i64)> = BTreeMap::new();
    for (tier, line) in business {
        let made = subscription(line);
        let value = subscription::monthly_value(&made, day(TODAY)).expect("a value");
        let row = rows.entry((value.currency(), tier.to_owned(), made.status)).or_default();
        *row = (row.0 + 1, row.1 + value.minor());
    }
    let total = |((currency, tier, status), (count, monthly_minor))| Total {
        currency,
        tier,
        status,
        count,
        monthly_minor,
        unpriced: 0,
    };
    rows.into_iter().map(total).collect()
}

fn stats<'a>(business: impl IntoIterator<Item = (&'a str, &'a str)>) -> Stats {
    revenue::stats(&Catalogue::built_in(), &totals(business)).expect("figures")
}

fn shown(lines: &[TierLine]) -> String {
    let line = |line: &TierLine| format!("{} {} {}", line.tier, line.count, line.revenue.wire());
    lines.iter().map(line).collect::<Vec<_>>().join(", ")
}

fn times<'a>(count: usize, tier: &'a str, line: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    std::iter::repeat_n((tier, line), count)
}

/// The example of the product's description, whose tiers make 4990.00 (its total of 5880.00 is an erratum). Of the 70
/// professionals one pays in yen, one has two items, and one pays by the year.
#[test]
fn predecessor_4a2_the_golden_business_is_counted_whole() {
    let business = times(10, "trial", "trialing; 0 usd month")
        .chain(times(30, "starter", "active; 1900 usd month"))
        .chain(times(66, "professional", "active; 4900 usd month"))
        .chain(times(1, "professional", "past_due; 4900 usd month"))
        .chain(times(1, "professional", "active; 58800 usd year"))
        .chain(times(1, "professional", "active; 7350 jpy month"))
        .chain(times(1, "professional", "active; 4900 usd month; 4900 usd month"))
        .chain(times(10, "enterprise", "active; 9900 usd month"))
        .chain(times(30, "starter", "canceled; 1900 usd month"));
    let stats = stats(business);
    assert_eq!((stats.active, stats.trial, stats.past_due), (120, 10, 1));
    assert_eq!(stats.monthly.wire(), "4990.00");
    let golden = "trial 10 0.00, starter 30 570.00, professional 70 3430.00, enterprise 10 990.00";
    assert_eq!(shown(&stats.tiers), golden);
    let yen = &stats.by_currency[&currency("jpy")];
    assert_eq!((stats.by_currency.len(), yen.monthly.wire()), (1, "7350".to_owned()));
    assert_eq!(shown(&yen.tiers), "trial 0 0, starter 0 0, professional 1 7350, enterprise 0 0");
}

#[test]
fn predecessor_4a4_currencies_stand_side_by_side() {
    let stats = stats([
        ("starter", "active; 1900 usd month"),
        ("starter", "active; 1900 eur month"),
        ("starter", "active; 1900 jpy month"),
        ("professional", "trialing; 4900 eur month"),
    ]);
    assert_eq!(stats.monthly, Money::new(1900, Currency::USD));
    assert_eq!(shown(&stats.tiers), "trial 0 0.00, starter 3 19.00, professional 1 0.00, enterprise 0 0.00");
    let others: Vec<_> = stats.by_currency.iter().map(|(code, own)| format!("{code} {}", own.monthly.wire())).collect();
    assert_eq!(others, ["eur 19.00", "jpy 1900"]);
}

#[test]
fn predecessor_4a7_no_state_is_hidden_and_none_counted_twice() {
    check(
        "
        starter active               -> 1 active, 0 trial, 0 past due, 19.00
        starter trialing             -> 1 active, 1 trial, 0 past due, 0.00
        trial active                 -> 1 active, 1 trial, 0 past due, 19.00   # a trial that is paid for
        trial trialing               -> 1 active, 1 trial, 0 past due, 0.00    # both, and counted once
        starter past_due             -> 1 active, 0 trial, 1 past due, 19.00
        trial past_due               -> 1 active, 1 trial, 1 past due, 19.00
        starter unpaid               -> 0 active, 0 trial, 0 past due, 0.00
        starter paused               -> 0 active, 0 trial, 0 past due, 0.00
        starter incomplete           -> 0 active, 0 trial, 0 past due, 0.00
        trial canceled               -> 0 active, 0 trial, 0 past due, 0.00
        starter hibernating          -> 0 active, 0 trial, 0 past due, 0.00
        ",
        |row| {
            let (tier, status) = row.split_once(' ').expect("a tier");
            let figures = stats([(tier, format!("{status}; 1900 usd month").as_str())]);
            let (active, trial, past_due) = (figures.active, figures.trial, figures.past_due);
            format!("{active} active, {trial} trial, {past_due} past due, {}", figures.monthly.wire())
        },
    );
}

#[test]
fn past_due_value_may_be_excluded_while_its_subscriptions_stay() {
    let totals = totals([("starter", "past_due; 1900 usd month"), ("starter", "active; 1900 usd month")]);
    let strict = Catalogue { past_due: PastDue::Exclude, ..Catalogue::built_in() };
    let stats = revenue::stats(&strict, &totals).expect("figures");
    assert_eq!((stats.active, stats.past_due, stats.monthly.wire()), (2, 1, "19.00".to_owned()));
    assert_eq!(shown(&stats.tiers), "trial 0 0.00, starter 2 19.00, professional 0 0.00, enterprise 0 0.00");
}

#[test]
fn unknown_is_shown_when_there_is_any() {
    let stats = stats([("unknown", "active; 500 usd month"), ("retired", "active; 700 usd month")]);
    assert_eq!(stats.tiers.len(), 5, "all tiers of the catalogue, and the rest");
    assert_eq!(
        shown(&stats.tiers[4..]),
        "unknown 2 12.00",
        "a tier that the catalogue no longer has is not known either"
    );
    assert_eq!(stats.trial, 0, "and is no trial");
}

#[test]
fn damaged_totals_are_refused() {
    let total = |status: &str, count, monthly_minor| Total {
        currency: Currency::USD,
        tier: "starter".to_owned(),
        status: Status::parse(status),
        count,
        monthly_minor,
        unpriced: 0,
    };
    let figures = |totals: &[Total]| revenue::stats(&Catalogue::built_in(), totals);
    for damaged in [total("trialing", 1, 1), total("canceled", 1, 1900), total("active", 0, 1900)] {
        assert!(matches!(figures(&[damaged]), Err(RevenueError::Worthless { .. })));
    }
    let huge = || total("active", u64::MAX, 0);
    assert_eq!(figures(&[huge(), huge()]), Err(RevenueError::Overflow));
    let rich = || total("active", 1, i64::MAX);
    assert_eq!(figures(&[rich(), rich()]), Err(RevenueError::Overflow));
    assert!(figures(&[]).expect("an empty business").tiers.iter().all(|line| line.count == 0));
    let unknown = |status: &str, unpriced| Total { unpriced, ..total(status, 3, 0) };
    let some = [unknown("active", 2), unknown("canceled", 1)];
    assert_eq!(figures(&some).expect("figures").unpriced, 3, "whatever their status");
    assert_eq!(figures(&[unknown("active", u64::MAX), unknown("unpaid", 1)]), Err(RevenueError::Overflow));
}

/// What a subscription may look like at some time; amounts that do not divide by twelve.
fn state() -> impl Strategy<Value = Option<(&'static str, String)>> {
    let tier = prop::sample::select(&["trial", "starter", "professional", "enterprise", "unknown", "retired"][..]);
    let status =
        prop::sample::select(&["active", "active", "active", "past_due", "trialing", "unpaid", "canceled"][..]);
    let interval = prop::sample::select(&["day", "week", "month", "year", "3month"][..]);
    let code = prop::sample::select(&["usd", "usd", "jpy", "kwd", "isk"][..]);
    let line = (tier, status, interval, code, 0_i64..100_000, 0_u8..100).prop_map(
        |(tier, status, interval, code, unit, percent)| {
            (tier, format!("{status}; {unit} {code} {interval} x3 -{percent}%; 7 {code} {interval}"))
        },
    );
    prop::option::weighted(0.8, line)
}

fn worth(state: Option<&(&str, String)>, code: Currency) -> i64 {
    let made = state.map(|(_, line)| subscription(line));
    let value = made.map(|made| subscription::monthly_value(&made, day(TODAY)).expect("a value"));
    value.filter(|value| value.currency() == code).map_or(0, Money::minor)
}

/// Revenue by currency, the catalogue's own among the others.
fn monthly(stats: &Stats, code: Currency) -> i64 {
    if code == stats.monthly.currency() {
        stats.monthly
    } else {
        stats.by_currency.get(&code).map_or(Money::zero(code), |own| own.monthly)
    }
    .minor()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// I-07 and the predecessor's defect 4a.14: whatever happens between two days, the tiers sum to the total on both, and
    /// the difference is the sum of what each subscription won or lost, to the minor unit.
    #[test]
    fn i07_predecessor_4a14_parts_sum_and_movements_explain_the_change(
        history in prop::collection::vec((state(), state()), 0..40),
    ) {
        let on = |late: bool| {
            let states = history.iter().map(|(before, after)| if late { after } else { before });
            stats(states.flatten().map(|(tier, line)| (*tier, line.as_str())))
        };
        let (before, after) = (on(false), on(true));
        for stats in [&before, &after] {
            let sum: i64 = stats.tiers.iter().map(|line| line.revenue.minor()).sum();
            prop_assert_eq!(sum, stats.monthly.minor());
            prop_assert_eq!(stats.tiers.iter().map(|line| line.count).sum::<u64>(), stats.active);
            for own in stats.by_currency.values() {
                let sum: i64 = own.tiers.iter().map(|line| line.revenue.minor()).sum();
                prop_assert_eq!(sum, own.monthly.minor());
            }
        }
        for code in ["usd", "jpy", "kwd", "isk"].map(currency) {
            let (mut new, mut expansion, mut contraction, mut churn) = (0, 0, 0, 0);
            for (before, after) in &history {
                match (worth(before.as_ref(), code), worth(after.as_ref(), code)) {
                    (0, after) => new += after,
                    (before, 0) => churn += before,
                    (before, after) if after > before => expansion += after - before,
                    (before, after) => contraction += before - after,
                }
            }
            prop_assert_eq!(monthly(&after, code) - monthly(&before, code), new + expansion - contraction - churn);
        }
    }
}
