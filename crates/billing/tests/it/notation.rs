//! Subscriptions in one line of text, so that a table of them can be read.
//!
//!     active; 4900 usd month x2 prod_a -10%; coupon -500usd repeating from=2026-01-01 to=2026-04-01 for=prod_a
//!
//! A status; items (amount in minor units, currency, interval, then `x` quantity, product, `metered`, package size, own
//! coupons); coupons of the whole. `?` is an unknown price, `graduated:5@700+100,inf@600` a tiered one, `pack=5up` packages.

use billing::money::{Currency, Decimal, Money};
use billing::subscription::{
    Discount, DiscountAmount, Duration, Interval, Item, Pricing, Recurrence, Status, Step, Subscription, TierMode,
    Transform,
};
use billing::time::{self, Window};
use jiff::Timestamp;

/// The day on which the tables are read.
pub const TODAY: &str = "2026-11-22";

pub fn day(text: &str) -> Timestamp {
    time::parse(&format!("{text}T00:00:00Z")).expect("a day")
}

pub fn currency(code: &str) -> Currency {
    Currency::parse(code).expect("a currency")
}

pub fn subscription(line: &str) -> Subscription {
    let mut parts = line.split(';').map(str::trim);
    let mut made = Subscription {
        id: "sub_1".to_owned(),
        status: Status::parse(parts.next().expect("a status")),
        created: day("2025-09-08"),
        items: Vec::new(),
        discounts: Vec::new(),
        cancel_at_period_end: false,
        paused_collection: false,
        period: None,
    };
    for part in parts {
        match part.strip_prefix("coupon ") {
            Some(coupon) => made.discounts.push(discount(coupon)),
            None => match part.strip_prefix("period ") {
                Some(period) => made.period = Some(window(period)),
                None => made.items.push(item(part, made.items.len())),
            },
        }
    }
    made
}

/// `2026-01-01..2026-02-01`
pub fn window(text: &str) -> Window {
    let (start, end) = text.split_once("..").expect("a window");
    Window { start: day(start), end: day(end) }
}

fn item(text: &str, place: usize) -> Item {
    let mut words = text.split_whitespace();
    let mut made = Item {
        id: format!("si_{place}"),
        price: format!("price_{place}"),
        product: None,
        pricing: pricing(words.next().expect("an amount")),
        currency: currency(words.next().expect("a currency")),
        recurrence: recurrence(words.next().expect("an interval")),
        metered: false,
        quantity: Decimal::ONE,
        transform: None,
        period: None,
        discounts: Vec::new(),
    };
    for word in words {
        if let Some(quantity) = word.strip_prefix('x') {
            made.quantity = decimal(quantity);
        } else if let Some(size) = word.strip_prefix("pack=") {
            let round_up = size.ends_with("up");
            let size = size.trim_end_matches("up").trim_end_matches("down");
            made.transform = Some(Transform { divide_by: size.parse().expect("a size"), round_up });
        } else if let Some(period) = word.strip_prefix("period=") {
            made.period = Some(window(period));
        } else if word.starts_with('-') {
            made.discounts.push(discount(&format!("{word} forever")));
        } else if word == "metered" {
            made.metered = true;
        } else {
            made.product = Some(word.to_owned());
        }
    }
    made
}

fn decimal(text: &str) -> Decimal {
    Decimal::parse(text).expect("a decimal")
}

/// `month`, `3month`
fn recurrence(text: &str) -> Recurrence {
    let interval = text.trim_start_matches(|letter: char| letter.is_ascii_digit());
    let count = text.strip_suffix(interval).filter(|count| !count.is_empty()).unwrap_or("1");
    Recurrence { interval: Interval::parse(interval).expect("an interval"), count: count.parse().expect("a count") }
}

fn pricing(text: &str) -> Pricing {
    match text.split_once(':') {
        Some((mode, steps)) => Pricing::Tiered {
            mode: if mode == "volume" { TierMode::Volume } else { TierMode::Graduated },
            steps: steps.split(',').map(step).collect(),
        },
        None if text == "?" => Pricing::Unknown,
        None => Pricing::PerUnit { unit_minor: decimal(text) },
    }
}

/// `5@700+100`: up to 5, 700 each, 100 flat.
fn step(text: &str) -> Step {
    let (up_to, price) = text.split_once('@').expect("a step");
    let (unit, flat) = price.split_once('+').unwrap_or((price, "0"));
    Step { up_to: up_to.parse().ok(), unit_minor: decimal(unit), flat_minor: decimal(flat) }
}

fn discount(text: &str) -> Discount {
    let mut words = text.split_whitespace();
    let off = words.next().and_then(|off| off.strip_prefix('-')).expect("an amount off");
    let amount = if let Some(percent) = off.strip_suffix('%') {
        DiscountAmount::Percent(decimal(percent))
    } else {
        let (minor, code) = off.split_at(off.len() - 3);
        DiscountAmount::Off(Money::new(minor.parse().expect("an amount"), currency(code)))
    };
    let duration = match words.next() {
        Some("once") => Duration::Once,
        Some("forever") => Duration::Forever,
        Some("repeating") => Duration::Repeating,
        other => panic!("no duration: {other:?}"),
    };
    let mut made = Discount { amount, duration, start: None, end: None, products: None };
    for word in words {
        match word.split_once('=') {
            Some(("from", start)) => made.start = Some(day(start)),
            Some(("to", end)) => made.end = Some(day(end)),
            Some(("for", products)) => {
                let named = products.split('+').filter(|product| !product.is_empty());
                made.products = Some(named.map(str::to_owned).collect());
            }
            _ => panic!("unknown word: {word}"),
        }
    }
    made
}
