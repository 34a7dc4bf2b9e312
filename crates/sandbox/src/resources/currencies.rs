//! Currencies: which there are, how an amount is written in them, and how small and large a charge can be.

use crate::error::StripeError;

/// What Stripe takes, in its own order: the dollar first.
const KNOWN: &str = "usd aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd bwp byn bzd cad \
    cdf chf clp cny cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gnf gtq gyd hkd hnl hrk htg huf idr \
    ils inr isk jmd jod jpy kes kgs khr kmf krw kwd kyd kzt lak lbp lkr lrd lsl mad mdl mga mkd mmk mnt mop mur mvr mwk mxn \
    myr mzn nad ngn nio nok npr nzd omr pab pen pgk php pkr pln pyg qar ron rsd rub rwf sar sbd scr sek sgd shp sle sos srd \
    std szl thb tjs tnd top try ttd twd tzs uah ugx uyu uzs vnd vuv wst xaf xcd xof xpf yer zar zmw usdc btn ghs eek lvl svc \
    vef ltl sll mro";

/// The least that can be charged, in minor units, where it is not fifty of them.
const LEAST: &[(&str, i64)] = &[
    ("aed", 200),
    ("bgn", 100),
    ("czk", 1500),
    ("dkk", 250),
    ("gbp", 30),
    ("hkd", 400),
    ("huf", 17_500),
    ("mxn", 1000),
    ("myr", 200),
    ("nok", 300),
    ("pln", 200),
    ("ron", 200),
    ("sek", 300),
    ("thb", 1000),
];

/// Eight digits.
const MOST: i64 = 99_999_999;

/// The currency of this name, which Stripe takes in either case.
pub(crate) fn parse(text: &str) -> Result<String, StripeError> {
    let lower = text.to_ascii_lowercase();
    if KNOWN.split_whitespace().any(|known| known == lower) {
        return Ok(lower);
    }
    let known = KNOWN.split_whitespace().collect::<Vec<_>>().join(", ");
    let message = format!("Invalid currency: {text}. Stripe currently supports these currencies: {known}");
    Err(StripeError::invalid(message).param("currency"))
}

/// `$49.00`, `¥7,000`, `-$4.90`.
pub(crate) fn written(amount: i64, currency: &str) -> String {
    let sign = match currency {
        "usd" => "$",
        "eur" => "€",
        "gbp" => "£",
        "jpy" => "¥",
        _ => "",
    };
    let (minus, size) = (if amount < 0 { "-" } else { "" }, amount.unsigned_abs());
    match decimals(currency) {
        0 => format!("{minus}{sign}{}", grouped(size)),
        3 => format!("{minus}{sign}{}.{:03}", grouped(size / 1000), size % 1000),
        _ => format!("{minus}{sign}{}.{:02}", grouped(size / 100), size % 100),
    }
}

/// How many of its digits stand behind the point.
fn decimals(currency: &str) -> u8 {
    match currency {
        "bif" | "clp" | "djf" | "gnf" | "jpy" | "kmf" | "krw" | "mga" | "pyg" | "rwf" | "vnd" | "vuv" | "xaf"
        | "xof" | "xpf" => 0,
        "bhd" | "jod" | "kwd" | "omr" | "tnd" => 3,
        _ => 2,
    }
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + 4);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Refuses what is too little or too much for one charge.
pub(crate) fn chargeable(amount: i64, currency: &str) -> Result<(), StripeError> {
    let least = LEAST.iter().find(|(known, _)| *known == currency).map_or(50, |(_, least)| *least);
    if amount < least {
        let text = format!("Amount must be at least {} {currency}", written(least, currency));
        return Err(StripeError::invalid(text).code("amount_too_small").param("amount"));
    }
    if amount > MOST {
        let text = format!("Amount must be no more than {}", written(MOST, currency));
        return Err(StripeError::invalid(text).code("amount_too_large").param("amount"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_for_people() {
        for (amount, currency, expected) in [
            (4900, "usd", "$49.00"),
            (99_999_999, "usd", "$999,999.99"),
            (7000, "jpy", "¥7,000"),
            (5, "eur", "€0.05"),
            (123_456, "chf", "1,234.56"),
            (7000, "xof", "7,000"),
            (1_234_567, "kwd", "1,234.567"),
            (-490, "usd", "-$4.90"),
            (-5, "eur", "-€0.05"),
            (-123_456, "jpy", "-¥123,456"),
        ] {
            assert_eq!(written(amount, currency), expected);
        }
    }

    #[test]
    fn a_charge_has_its_limits() {
        for (amount, currency, expected) in [
            (50, "usd", None),
            (49, "usd", Some("amount_too_small")),
            (30, "gbp", None),
            (1499, "czk", Some("amount_too_small")),
            (99_999_999, "jpy", None),
            (100_000_000, "jpy", Some("amount_too_large")),
        ] {
            let code = chargeable(amount, currency).err().and_then(|error| error.code);
            assert_eq!(code, expected, "{amount} {currency}");
        }
    }
}
