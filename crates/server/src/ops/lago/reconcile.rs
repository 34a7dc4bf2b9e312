//! Compares what was delivered with what Lago has counted, for each subscription and its current period.
//!
//! A Lago on ClickHouse answers before its own queue is safe, and nobody else notices an event that is stored and not billed:
//! a code without a metric, a plan without a charge, an event before its subscription. The comparison does.

use std::collections::{BTreeMap, BTreeSet};

use billing::usage::Quantity;

use super::event::{Event, open_from};
use super::replay::AGAIN;
use super::{codes, configured, names};
use crate::app::App;
use crate::error::{Error, Result};
use crate::gateways::lago::{LagoError, Refusal, Remedy, read, segment};
use crate::store::lago::{self, QUARTER_MS, Subscription, Window};

/// Subscriptions of one read of the database.
const PAGE: i64 = 200;

/// Which subscriptions are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    All,
    /// Those that got something since the last comparison, or that differed then.
    Moved,
}

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// The id at Lago where no user of ours has it.
    pub user: String,
    pub external_id: String,
    /// The period that Lago is in; nothing where it has none.
    pub period: Option<(jiff::Timestamp, jiff::Timestamp)>,
    /// When something was last delivered.
    pub delivered_ms: Option<i64>,
    /// Metrics that were compared.
    pub metrics: usize,
    pub differences: Vec<Difference>,
}

impl Compared {
    /// Before anything was compared.
    pub(super) fn nothing(user: &str, external_id: &str, delivered_ms: Option<i64>) -> Self {
        Self {
            user: user.to_owned(),
            external_id: external_id.to_owned(),
            period: None,
            delivered_ms,
            metrics: 0,
            differences: Vec::new(),
        }
    }

    /// Whether it has to be made again at Lago.
    pub fn is_gone(&self) -> bool {
        self.differences.iter().any(|difference| matches!(difference, Difference::Gone { .. }))
    }
}

/// One thing that the two sides do not agree on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Lago does not show the usage of this subscription at all.
    Missing {
        reason: String,
    },
    /// Lago has no such customer, or nothing runs under that id: what is sent there is billed nowhere.
    Gone {
        reason: String,
    },
    /// The plan has no charge for a metric that was used.
    NoCharge {
        code: String,
        ours: Count,
    },
    Counted {
        code: String,
        ours: Count,
        theirs: Count,
    },
}

impl Difference {
    /// Whether the open month sent again can end it. What Lago has it keeps, and what it has no charge for it does not count.
    pub fn can_be_sent(&self) -> bool {
        match self {
            Self::Gone { .. } => true,
            Self::Missing { .. } | Self::NoCharge { .. } => false,
            Self::Counted { ours, theirs, .. } => theirs.units < ours.units || theirs.events < ours.events,
        }
    }

    /// What can be done about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Gone { .. } => "billhook lago reconcile --repair makes it again and sends the open month again",
            Self::Missing { .. } => "see at Lago what this says, then compare again",
            Self::NoCharge { .. } => {
                "give the plan at Lago a charge for it (billhook lago setup says what it lacks): it counts what it has"
            }
            Self::Counted { .. } if self.can_be_sent() => "billhook lago reconcile --repair sends the open month again",
            Self::Counted { .. } => {
                "Lago has more than was sent from here, and keeps it: find out who else sends, and correct the invoice there"
            }
        }
    }
}

/// So many units (in millionths) and events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    pub units: i128,
    pub events: i128,
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match i64::try_from(self.units) {
            Ok(micro) => write!(f, "{} units in {} events", Quantity::from_micro(micro).wire(), self.events),
            Err(_) => write!(f, "{} millionths in {} events", self.units, self.events),
        }
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing { reason } => write!(f, "Lago shows no usage: {reason}"),
            Self::Gone { reason } => write!(f, "Lago has no subscription that runs: {reason}"),
            Self::NoCharge { code, ours } => {
                write!(f, "{code}: delivered {ours}, the plan at Lago has no charge for it")
            }
            Self::Counted { code, ours, theirs } => write!(f, "{code}: delivered {ours}, Lago has counted {theirs}"),
        }
    }
}

/// Compares subscription by subscription and writes down what it finds. An outage ends it early, as an error.
pub async fn run(app: &App, which: Which) -> Result<Vec<Compared>> {
    configured(app)?;
    let mut found = Vec::new();
    let mut after = String::new();
    loop {
        let from = after.clone();
        let page = app.db.read(move |tx| lago::subscriptions_after(tx, &from, PAGE)).await?;
        let Some(last) = page.last() else { return Ok(found) };
        after.clone_from(&last.user);
        for subscription in page.iter().filter(|subscription| which == Which::All || moved(subscription)) {
            let compared = compare(app, subscription).await?;
            let text: Vec<String> = compared.differences.iter().map(Difference::to_string).collect();
            let text = Some(text.join("; ")).filter(|text| !text.is_empty());
            let (user, now_ms) = (subscription.user.clone(), app.clock.now().as_millisecond());
            app.db.write(move |tx| lago::save_difference(tx, &user, now_ms, text.as_deref())).await?;
            found.push(compared);
        }
    }
}

fn moved(subscription: &Subscription) -> bool {
    subscription.difference.is_some() || subscription.delivered_ms >= subscription.compared_ms
}

/// A user's subscription, and those under other ids of before that got something in the open month.
async fn compare(app: &App, subscription: &Subscription) -> Result<Compared> {
    let under = |external_id: &str| Compared::nothing(&subscription.user, external_id, subscription.delivered_ms);
    let mut compared = compare_under(app, under(&subscription.external_id)).await?;
    for former in former(app, subscription).await? {
        let there = compare_under(app, under(&former)).await?;
        compared.metrics += there.metrics;
        // One that has ended there is billed, and not shown any more.
        let differences = there.differences.into_iter();
        let is_over = |one: &Difference| matches!(one, Difference::Missing { .. } | Difference::Gone { .. });
        compared.differences.extend(differences.filter(|one| !is_over(one)));
    }
    Ok(compared)
}

async fn former(app: &App, subscription: &Subscription) -> Result<Vec<String>> {
    let (known, from_ms) = (subscription.clone(), open_from(app.clock.now().as_millisecond()));
    app.db
        .read(move |tx| {
            let mut former = Vec::new();
            for name in names::all(tx, &known.user)? {
                if name != known.external_id && !lago::sums(tx, &name, from_ms, i64::MAX)?.is_empty() {
                    former.push(name);
                }
            }
            Ok(former)
        })
        .await
}

/// What was delivered under one id of Lago's, of which nothing is known yet.
pub(super) async fn compare_under(app: &App, compared: Compared) -> Result<Compared> {
    let difference = match ask(app, &compared.external_id).await? {
        Ok(usage) => return count(app, compared, &usage).await,
        // Who uses nothing any more may have been ended there.
        Err(Difference::Gone { .. }) if !has_moved(app, &compared.user, &compared.external_id).await? => None,
        Err(difference) => Some(difference),
    };
    Ok(Compared { differences: difference.into_iter().collect(), ..compared })
}

/// Compares what Lago says of a period with what was delivered in it.
pub(super) async fn count(app: &App, mut compared: Compared, usage: &read::Usage) -> Result<Compared> {
    compared.period = Some((usage.from, usage.to));
    let to_ms = usage.to.as_second() * 1000 + 1000;
    let ours = delivered(app, &compared.external_id, usage.from.as_millisecond(), to_ms).await?;
    let known = codes::known(app).await?;
    let codes: BTreeSet<&String> =
        ours.keys().chain(usage.charges.iter().map(|charge| &charge.code).filter(|code| known.has(code))).collect();
    compared.metrics = codes.len();
    for code in codes {
        let range = ours.get(code).copied().unwrap_or_default();
        let charge = usage.charges.iter().find(|charge| charge.code == *code);
        let theirs = charge.map(|charge| Count { units: charge.units, events: i128::from(charge.events) });
        compared.differences.extend(range.judge(code, theirs));
    }
    Ok(compared)
}

/// Whether anything was sent to a subscription in the open month, or is to be sent there again.
async fn has_moved(app: &App, user: &str, external_id: &str) -> Result<bool> {
    let from_ms = open_from(app.clock.now().as_millisecond());
    if !delivered(app, external_id, from_ms, i64::MAX).await?.is_empty() {
        return Ok(true);
    }
    let user = user.to_owned();
    let letters = app.db.read(move |tx| lago::dead_of(tx, &user)).await?;
    Ok(letters.iter().any(|letter| letter.reason.starts_with(AGAIN)))
}

/// Lago's words for a customer or a subscription that it does not have, beside whatever status.
const GONE: [&str; 3] = ["customer_not_found", "subscription_not_found", "no_active_subscription"];

/// Lago's usage of a subscription, or why it shows none.
async fn ask(app: &App, external_id: &str) -> Result<Result<read::Usage, Difference>> {
    let path = format!("/customers/{}/current_usage", segment(external_id));
    let query = [("external_subscription_id", external_id), ("apply_taxes", "false")];
    match configured(app)?.gateway.get(&path, &query).await {
        Ok(answer) => {
            Ok(read::usage(&answer)
                .ok_or_else(|| Difference::Missing { reason: "its answer cannot be read".to_owned() }))
        }
        Err(error) if error.remedy() == Remedy::Content => {
            let reason = error.refusal().map(Refusal::reason).filter(|reason| !reason.is_empty());
            let reason = reason.unwrap_or_else(|| error.to_string());
            let is_gone = GONE.iter().any(|word| reason.contains(word));
            Ok(Err(if is_gone { Difference::Gone { reason } } else { Difference::Missing { reason } }))
        }
        Err(error) => Err(unavailable(error)),
    }
}

pub(super) fn unavailable(error: LagoError) -> Error {
    let retry_after = error.asked_wait().unwrap_or(std::time::Duration::from_secs(10));
    let who = crate::error::Upstream::Lago;
    Error::Upstream { who, code: error.code(), retry_after, cause: Some(Box::new(error)) }
}

/// Between these bounds Lago is right. They are one number but for what cannot be told: events whose answer is still to come,
/// and the quarter of an hour in which a period begins in its middle.
#[derive(Debug, Clone, Copy, Default)]
struct Range {
    sure: Count,
    low: Count,
    high: Count,
}

impl Range {
    fn add(&mut self, units: i128, events: i128) {
        self.sure.units += units;
        self.sure.events += events;
    }

    fn add_unsure(&mut self, units: i128, events: i128) {
        self.low.units += units.min(0);
        self.high.units += units.max(0);
        self.low.events += events.min(0);
        self.high.events += events.max(0);
    }

    /// Lago shows no less than nothing.
    fn judge(&self, code: &str, theirs: Option<Count>) -> Option<Difference> {
        let ours = Count { units: self.sure.units.max(0), events: self.sure.events };
        let fits = |sure: i128, low: i128, high: i128, found: i128| (sure + low..=sure + high).contains(&found);
        let Some(theirs) = theirs else {
            let nothing = self.sure.events + self.low.events <= 0;
            return (!nothing).then(|| Difference::NoCharge { code: code.to_owned(), ours });
        };
        let units = (self.sure.units + self.low.units).max(0)..=(self.sure.units + self.high.units).max(0);
        let agree =
            units.contains(&theirs.units) && fits(self.sure.events, self.low.events, self.high.events, theirs.events);
        (!agree).then(|| Difference::Counted { code: code.to_owned(), ours, theirs })
    }
}

/// What was delivered to a subscription in `from_ms..to_ms`, by code.
async fn delivered(app: &App, external_id: &str, from_ms: i64, to_ms: i64) -> Result<BTreeMap<String, Range>> {
    let external_id = external_id.to_owned();
    app.db
        .read(move |tx| {
            let mut ranges: BTreeMap<String, Range> = BTreeMap::new();
            for sum in lago::sums(tx, &external_id, from_ms, to_ms)? {
                let whole = sum.quarter_ms >= from_ms && sum.quarter_ms + QUARTER_MS <= to_ms;
                let (units, events) = (i128::from(sum.units), i128::from(sum.events));
                let range = ranges.entry(sum.code).or_default();
                if whole { range.add(units, events) } else { range.add_unsure(units, events) }
            }
            for item in lago::window(tx)?.iter().flat_map(Window::waiting) {
                let event = Event::read(&item.event)?;
                if event.external_subscription_id == external_id {
                    let sum = event.sum()?;
                    ranges.entry(sum.code).or_default().add_unsure(i128::from(sum.units), i128::from(sum.events));
                }
            }
            Ok(ranges)
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn count(units: i128, events: i128) -> Count {
        Count { units, events }
    }

    #[test]
    fn lago_agrees_or_the_difference_has_a_name() {
        for (sure, unsure, theirs, agree) in [
            (count(5, 2), count(0, 0), Some(count(5, 2)), true),
            (count(5, 2), count(0, 0), Some(count(4, 2)), false),
            (count(5, 2), count(0, 0), Some(count(5, 3)), false),
            (count(-5, 2), count(0, 0), Some(count(0, 2)), true),
            (count(5, 2), count(3, 1), Some(count(8, 3)), true),
            (count(5, 2), count(3, 1), Some(count(5, 2)), true),
            (count(5, 2), count(3, 1), Some(count(9, 3)), false),
            (count(5, 2), count(-3, 1), Some(count(2, 3)), true),
            (count(0, 0), count(3, 1), None, true),
            (count(5, 2), count(0, 0), None, false),
        ] {
            let mut range = Range::default();
            range.add(sure.units, sure.events);
            range.add_unsure(unsure.units, unsure.events);
            assert_eq!(range.judge("tts_call", theirs).is_none(), agree, "{sure:?} {unsure:?} {theirs:?}");
        }
    }
}
