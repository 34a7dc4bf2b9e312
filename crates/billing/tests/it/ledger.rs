//! Histories of an account in one line of text, so that a table of them can be read.
//!
//!     500 bill=2.00; 11-10 use 450; 11-10T12:00@11-10T12:01 use tts=10*2.5; 11-12 void 5; 11-13 grant gift 100 until=11-20
//!
//! First the terms: the included credits, then `bill=` a price or `block`, `cap=`, `tier=`, `anchored=`, `fixed=a..b`,
//! `zone=`, `ends=`. Then steps: when it happened (in 2026, UTC), after `@` when it was accepted if that was later, and
//! the fact. A bare quantity is of `inference`, `*` gives the weight, a plan is `plan keep_used|prorate|reset` and terms,
//! and after `move` what goes to the new period;
//! `become` and terms is the plan that the account itself answers for them, `become prorate` where the catalogue says so.

use std::borrow::Cow;

use billing::account::{Account, AccountError, ClosedPeriod, Folded, View};
use billing::catalogue::{Overage, TierChange};
use billing::entry::{Entry, Fact, Moved, Pack, PeriodRule, PlanChange, Terms};
use billing::money::Money;
use billing::time::{self, Window};
use billing::usage::{Credits, Quantity};
use jiff::Timestamp;

use crate::notation::currency;

/// An account and what its entries said.
pub struct Ledger {
    pub account: Account,
    pub folded: Vec<Result<Folded, AccountError>>,
    /// The latest acceptance.
    pub now_ms: i64,
}

/// `11-10`, `11-10T12:30`, `11-10T23:59:59.999`, `2027-01-01`
pub fn at(text: &str) -> Timestamp {
    let text = if text.len() > 8 && text.starts_with("20") { text.to_owned() } else { format!("2026-{text}") };
    let full = match text.split_once('T') {
        None => format!("{text}T00:00:00Z"),
        Some((_, clock)) if clock.len() == 5 => format!("{text}:00Z"),
        Some(_) => format!("{text}Z"),
    };
    time::parse(&full).expect("a time")
}

pub fn ms(text: &str) -> i64 {
    at(text).as_millisecond()
}

/// An instant as the scripts write it.
pub fn shown(at_ms: i64) -> String {
    let text = Timestamp::from_millisecond(at_ms).expect("an instant").to_string();
    let text = text.trim_start_matches("2026-").trim_end_matches('Z');
    let text = text.strip_suffix(":00").unwrap_or(text);
    text.strip_suffix("T00:00").unwrap_or(text).to_owned()
}

pub fn credits(text: &str) -> Credits {
    Credits::parse(text).expect("credits")
}

pub fn terms(text: &str) -> Terms {
    let mut words = text.split_whitespace();
    let mut made = Terms {
        tier: "one".to_owned(),
        included: credits(words.next().expect("included credits")),
        overage: Overage::Block,
        overage_cap: None,
        price_per_1k: Money::zero(currency("usd")),
        period: PeriodRule::Calendar,
        zone: time::zone("UTC").expect("a zone"),
        ends_ms: None,
    };
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("block", "") => made.overage = Overage::Block,
            ("bill", price) => {
                let (price, code) = price.split_once(':').unwrap_or((price, "usd"));
                made.overage = Overage::Bill;
                made.price_per_1k = Money::parse_major(price, currency(code)).expect("a price");
            }
            ("cap", cap) => made.overage_cap = Some(credits(cap)),
            ("tier", tier) => tier.clone_into(&mut made.tier),
            ("anchored", anchor) => made.period = PeriodRule::Anchored(at(anchor)),
            ("fixed", window) => made.period = PeriodRule::Fixed(self::window(window)),
            ("zone", name) => made.zone = time::zone(name).expect("a zone"),
            ("ends", end) => made.ends_ms = Some(ms(end)),
            _ => panic!("{word} is nothing of terms"),
        }
    }
    made
}

fn window(text: &str) -> Window {
    let (start, end) = text.split_once("..").expect("a window");
    Window { start: at(start), end: at(end) }
}

/// Runs a whole line. The account is opened at the first step's acceptance.
pub fn ledger(line: &str) -> Ledger {
    let (first, steps) = line.split_once(';').expect("terms; steps");
    let terms = terms(first);
    let opened_ms = times(steps.trim().split(' ').next().expect("a time")).1;
    let mut ledger =
        Ledger { account: Account::new(terms, opened_ms).expect("an account"), folded: Vec::new(), now_ms: opened_ms };
    steps.split(';').for_each(|step| ledger.step(step.trim()));
    ledger
}

impl Ledger {
    pub fn step(&mut self, step: &str) {
        let entry = self.next(step);
        self.folded.push(self.account.fold(&entry));
        self.now_ms = self.now_ms.max(entry.received_ms);
    }

    /// A step as the entry that comes next.
    pub fn next<'s>(&self, step: &'s str) -> Entry<'s> {
        let (when, what) = step.split_once(' ').expect("when and what");
        let (event_ms, received_ms) = times(when);
        let fact = match what.strip_prefix("become ") {
            Some(next) => match next.strip_prefix("prorate ") {
                Some(next) => self.becoming(&terms(next), TierChange::Prorate, received_ms),
                None => self.becoming(&terms(next), TierChange::KeepUsed, received_ms),
            },
            None => fact(what, event_ms),
        };
        Entry { position: self.account.position() + 1, event_ms, received_ms, fact }
    }

    fn becoming<'a>(&self, next: &Terms, midway: TierChange, received_ms: i64) -> Fact<'a> {
        let change = self.account.change_to(next, midway, received_ms).expect("a change");
        Fact::Plan { terms: Cow::Owned(next.clone()), change, moved: Cow::default() }
    }

    pub fn view(&self) -> View {
        self.account.at(self.now_ms)
    }

    /// What the last step said.
    pub fn last(&self) -> &Folded {
        self.folded.last().expect("a step").as_ref().expect("it was folded")
    }

    pub fn closed(&self) -> Vec<&ClosedPeriod> {
        self.folded.iter().flatten().flat_map(|folded| &folded.closed).collect()
    }

    /// `used 585 left 0 over 85 cost 0.17`
    pub fn credits(&self) -> String {
        said(&self.view())
    }
}

pub fn said(view: &View) -> String {
    let View { used, remaining, overage, overage_cost, .. } = view;
    format!("used {used} left {remaining} over {overage} cost {}", overage_cost.wire())
}

fn times(text: &str) -> (i64, i64) {
    let (event, received) = text.split_once('@').unwrap_or((text, text));
    (ms(event), ms(received))
}

fn fact(text: &str, event_ms: i64) -> Fact<'_> {
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    let words: Vec<&str> = rest.split_whitespace().collect();
    match verb {
        "use" => counted(rest, |kind, quantity, weight| Fact::Usage { kind, quantity, weight }),
        "adjust" => counted(rest, |kind, quantity, weight| Fact::Adjust { kind, quantity, weight }),
        "void" => {
            let (what, counted_ms) = rest.split_once(" in ").map_or((rest, None), |(what, at)| (what, Some(ms(at))));
            counted(what, |kind, quantity, weight| Fact::Void { kind, quantity, weight, counted_ms })
        }
        "grant" => Fact::Grant(pack(&words, event_ms)),
        "revoke" => Fact::Revoke { pack: rest },
        "expire" => Fact::Expire { pack: rest },
        "roll" => Fact::Roll,
        "plan" => {
            let (change, terms) = rest.split_once(' ').expect("a change and terms");
            let change = PlanChange::parse(change).expect("a change");
            let (terms, moved) =
                terms.split_once(" move ").map_or((terms, None), |(terms, moved)| (terms, Some(moved)));
            let moved = moved.into_iter().flat_map(|moved| moved.split(' ').map(self::moved)).collect();
            Fact::Plan { terms: Cow::Owned(self::terms(terms)), change, moved: Cow::Owned(moved) }
        }
        _ => panic!("{verb} is no fact"),
    }
}

fn moved(text: &str) -> Moved {
    let mut found = None;
    counted(text, |kind, quantity, weight| {
        let cost_pico = i128::from(quantity.micro()) * i128::from(weight.micro());
        found = Some(Moved { kind: kind.to_owned(), quantity, cost_pico });
        Fact::Roll
    });
    found.expect("a type and a quantity")
}

/// `450`, `tts=10`, `tts=10*2.5`
fn counted<'a>(text: &'a str, mut fact: impl FnMut(&'a str, Quantity, Credits) -> Fact<'a>) -> Fact<'a> {
    let (kind, amount) = text.split_once('=').unwrap_or(("inference", text));
    let (quantity, weight) = amount.split_once('*').unwrap_or((amount, "1"));
    fact(kind, Quantity::from_micro(credits(quantity).micro()), credits(weight))
}

fn pack(words: &[&str], event_ms: i64) -> Pack {
    let option = |name: &str| words.iter().find_map(|word| word.strip_prefix(name));
    Pack {
        id: words[0].to_owned(),
        amount: credits(words[1]),
        priority: option("priority=").map_or(0, |priority| priority.parse().expect("a priority")),
        expires_ms: option("until=").map(ms),
        granted_ms: event_ms,
    }
}
