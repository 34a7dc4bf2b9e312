//! Differences in words, with the numbers and dates that people know.

use billing::Money;
use billing::account::{Account, Sums};
use billing::usage::{PICO_IN_CREDIT, Quantity};
use jiff::Timestamp;

use super::super::totals;

/// The members in which two rows differ.
pub fn differing(kept: &[(&'static str, String)], made: &[(&'static str, String)]) -> String {
    let pairs = kept.iter().zip(made).filter(|(kept, made)| kept != made);
    let words: Vec<String> =
        pairs.map(|((name, kept), (_, made))| format!("{name} kept {kept}, the log says {made}")).collect();
    words.join("; ")
}

/// `2026-11-22`
pub fn date(day: i64) -> String {
    totals::date_of(day).map_or_else(|_| format!("{day} after 1970-01-01"), |date| date.to_string())
}

/// `2026-11-22T10:00:00Z`
pub fn instant(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms} ms"), |at| at.to_string())
}

pub fn units(micro: i64) -> String {
    Quantity::from_micro(micro).wire()
}

/// Credits with all their twelve decimals, without the zeros at the end.
pub fn pico(pico: i128) -> String {
    let (sign, pico, one) = (if pico < 0 { "-" } else { "" }, pico.unsigned_abs(), PICO_IN_CREDIT.unsigned_abs());
    let (whole, rest) = (pico / one, pico % one);
    let text = format!("{sign}{whole}.{rest:012}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What two accounts do not agree in.
pub fn accounts(user: &str, kept: &[u8], counted: &Account) -> String {
    let Ok(kept) = Account::decode(kept) else { return format!("user {user}: the account cannot be read") };
    let now_ms = counted.at(i64::MAX / 2).period.start.as_millisecond();
    let (was, is) = (kept.at(now_ms), counted.at(now_ms));
    let (period, day) = (is.period.start, is.day.start);
    if let Some((kind, was, is)) = first_difference(&was.in_period, &is.in_period) {
        return format!("user {user}, {kind}, period from {period}: kept {was}, the log says {is}");
    }
    if let Some((kind, was, is)) = first_difference(&was.in_day, &is.in_day) {
        return format!("user {user}, {kind}, day from {day}: kept {was}, the log says {is}");
    }
    for (name, was, is) in [
        ("credits", was.used, is.used),
        ("included credits", was.included, is.included),
        ("credits left", was.remaining, is.remaining),
        ("overage", was.overage, is.overage),
    ] {
        if was != is {
            return format!("user {user}, {name}, period from {period}: kept {was}, the log says {is}");
        }
    }
    for (name, was, is) in [
        ("tier", was.terms.tier.clone(), is.terms.tier.clone()),
        ("price of 1,000 credits beyond", money(was.terms.price_per_1k), money(is.terms.price_per_1k)),
        ("cost of the overage", money(was.overage_cost), money(is.overage_cost)),
    ] {
        if was != is {
            return format!("user {user}, {name}, period from {period}: kept {was}, the log says {is}");
        }
    }
    format!("user {user}: the account at {} is not that of the log at {}", kept.position(), counted.position())
}

fn money(money: Money) -> String {
    format!("{} {}", money.wire(), money.currency().code())
}

/// The first type of which two sums differ, with both.
fn first_difference(kept: &Sums, made: &Sums) -> Option<(String, Quantity, Quantity)> {
    let of = |sums: &Sums, named: &str| {
        sums.iter().find(|(kind, _)| **kind == *named).map(|(_, sum)| *sum).unwrap_or_default()
    };
    let mut kinds = made.iter().chain(kept).map(|(kind, _)| &**kind);
    let kind = kinds.find(|kind| of(kept, kind) != of(made, kind))?;
    Some((kind.to_owned(), of(kept, kind), of(made, kind)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_know_them() {
        for (number, text) in
            [(0, "0"), (1, "0.000000000001"), (-1_500_000_000_000, "-1.5"), (57_000_000_000_000, "57")]
        {
            assert_eq!(pico(number), text);
        }
        assert_eq!((date(20_779), units(57_000_000)), ("2026-11-22".to_owned(), "57".to_owned()));
    }
}
