//! Checks everything that can be checked: settings, connections, the age of the mirror, and every total against its rows.

use std::fmt::Display;

use billing::revenue::Total;
use serde::Serialize;

use super::mirror::stale_after_s;
use super::readiness::{clock_skew_s, skewed_by_s};
use super::revenue::recount as revenue;
use super::sync::NO_SUCH_LIST;
use super::verify::sampling;
use super::webhooks;
use super::{lago, metadata, publishing, reservations, usage};
use crate::app::App;
use crate::clock::age_s;
use crate::error::{Error, Result};
use crate::store::mirror::{self, Resource};
use crate::store::{Change, Tx, subscriptions, syncs, totals, users};

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok,
    /// Worth knowing; nothing is wrong with the numbers.
    Warn,
    Fault,
    /// A fault as it was before `--repair`.
    Found,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    pub check: &'static str,
    pub state: State,
    pub detail: String,
    /// What to do about it; nothing where nothing is to be done.
    pub fix: Option<&'static str>,
}

/// The report; grows check by check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report(pub Vec<Check>);

impl Report {
    /// Its faults, as what was found before they are put right.
    pub fn found(self) -> Vec<Check> {
        let faults = self.0.into_iter().filter(|check| check.state == State::Fault);
        faults.map(|fault| Check { state: State::Found, fix: None, ..fault }).collect()
    }

    pub fn ok(&mut self, check: &'static str, detail: impl Display) {
        self.0.push(Check { check, state: State::Ok, detail: detail.to_string(), fix: None });
    }

    pub fn warn(&mut self, check: &'static str, detail: impl Display, fix: &'static str) {
        self.0.push(Check { check, state: State::Warn, detail: detail.to_string(), fix: Some(fix) });
    }

    pub fn fault(&mut self, check: &'static str, detail: impl Display, fix: &'static str) {
        self.0.push(Check { check, state: State::Fault, detail: detail.to_string(), fix: Some(fix) });
    }

    /// A row that means nothing ends the check that met it, and no other.
    fn unless_broken(&mut self, check: &'static str, looked: Result<()>) -> Result<()> {
        match looked {
            Err(Error::Internal(cause)) => {
                self.fault(check, format!("could not be looked at to the end: {cause}"), BACKUP);
                Ok(())
            }
            looked => looked,
        }
    }

    pub fn healthy(&self) -> bool {
        self.0.iter().all(|check| check.state != State::Fault)
    }
}

const REPAIR: &str = "run billhook doctor --repair";
const BACKUP: &str = "put a backup of the database back, or this row right";
const RECOUNT: &str = "run billhook doctor --repair, which takes the log as it is: where that may have been changed by hand, compare it \
    with a backup first";
/// Counted anew from a log that lacks something, what is kept would lack it as well.
const LOG_FIRST: &str = "see to the log first: --repair would count it as it is now";

/// Runs every check.
pub async fn examine(app: &App) -> Result<Report> {
    let mut report = Report::default();
    configuration(app, &mut report);
    connections(app, &mut report).await;
    let looked = lists(app, &mut report).await;
    report.unless_broken("mirror", looked)?;
    let looked = counts(app, &mut report).await;
    report.unless_broken("counts", looked)?;
    let looked = webhooks::examine(app, &mut report).await;
    report.unless_broken("webhooks", looked)?;
    let looked = sampling::examine(app, &mut report).await;
    report.unless_broken("verify", looked)?;
    let looked = people(app, &mut report).await;
    report.unless_broken("users", looked)?;
    let looked = usage::shown::examine(app, &mut report).await;
    report.unless_broken("tiers", looked)?;
    let looked = metadata::examine(app, &mut report).await;
    report.unless_broken("metadata", looked)?;
    let looked = log(app, &mut report).await;
    report.unless_broken("usage", looked)?;
    let looked = lago::examine::examine(app, &mut report).await;
    report.unless_broken("lago", looked)?;
    Ok(report)
}

fn configuration(app: &App, report: &mut Report) {
    let config = &app.config;
    if config.unknown.is_empty() {
        report.ok("configuration", "every variable is understood");
    } else {
        report.warn(
            "configuration",
            format!("not ours: {}", config.unknown.join(", ")),
            "look for a typing error in the name",
        );
    }
    for (name, value) in app.db.facts() {
        report.ok("database", format!("{name} {value}"));
    }
}

async fn connections(app: &App, report: &mut Report) {
    match &app.stripe {
        None => report.warn("stripe", "not configured: there is no mirror", "set STRIPE_SECRET_KEY"),
        Some(stripe) => match stripe.get("/v1/customers", &[("limit", "1")]).await {
            Ok(_) => report.ok("stripe", "answers"),
            Err(error) => {
                report.fault("stripe", error, "check STRIPE_SECRET_KEY, STRIPE_API_BASE and the way there");
            }
        },
    }
    match (skewed_by_s(app), clock_skew_s(app)) {
        (Some(skew), _) => {
            report.fault("clock", format!("{skew} s away from Stripe's"), "set this machine's clock (NTP)");
        }
        (None, Some(_)) => report.ok("clock", "agrees with Stripe's"),
        (None, None) => {}
    }
    if let Some(foreign) = &app.foreign_sessions {
        match foreign.ping().await {
            Ok(()) => report.ok("redis", "answers"),
            Err(error) => report.fault("redis", error, "check REDIS_URL and the way there"),
        }
    }
}

async fn lists(app: &App, report: &mut Report) -> Result<()> {
    if app.stripe.is_none() {
        return Ok(());
    }
    let (lists, now) = (app.db.read(syncs::all).await?, app.clock.now());
    for resource in Resource::ALL {
        let Some(list) = lists.iter().find(|list| list.resource == resource.name()) else {
            report.fault("mirror", format!("{}: never read", resource.name()), "run billhook sync");
            continue;
        };
        let name = resource.name();
        match (list.as_of, &list.fault) {
            (None, Some(fault)) if fault == NO_SUCH_LIST => {
                report.warn("mirror", format!("{name}: {fault}"), "what other objects embed is used instead");
            }
            (None, fault) => {
                let why = fault.as_deref().unwrap_or("the first sync is under way");
                report.fault("mirror", format!("{name}: never read to the end: {why}"), "run billhook sync");
            }
            (Some(_), Some(fault)) => {
                report.warn("mirror", format!("{name}: {fault}"), "run billhook sync once the cause is gone");
            }
            (Some(as_of), None) => {
                let age = age_s(now, as_of.as_second());
                if age > stale_after_s(app) {
                    report.fault(
                        "mirror",
                        format!("{name}: {age} s old"),
                        "is billhook serve running? else run billhook sync",
                    );
                } else {
                    report.ok("mirror", format!("{name}: {age} s old"));
                }
            }
        }
    }
    Ok(())
}

/// Every count and total, against a recount of the rows in the same snapshot.
async fn counts(app: &App, report: &mut Report) -> Result<()> {
    let (kept, counted, objects) = app
        .db
        .read(|tx| {
            let known = totals::objects(tx)?;
            let mut objects = Vec::new();
            for resource in Resource::ALL {
                let kept = known.get(resource.name()).copied().unwrap_or(0);
                objects.push((resource.name(), kept, mirror::recount(tx, resource)?));
            }
            Ok((totals::all(tx)?, totals::recount(tx)?, objects))
        })
        .await?;
    for (name, kept, counted) in objects {
        if kept == counted {
            report.ok("counts", format!("{name}: {kept}"));
        } else {
            report.fault("counts", format!("{name}: counted {kept}, there are {counted}"), REPAIR);
        }
    }
    compare(report, &kept, &counted);
    points(report, &revenue::recount(app).await?);
    Ok(())
}

/// Totals against what they have to be.
fn compare(report: &mut Report, kept: &[Total], counted: &[Total]) {
    let describe = |total: &Total| {
        format!(
            "{} {} {}: {} subscriptions, {} a month in minor units, {} of unknown worth",
            total.currency.code(),
            total.tier,
            total.status.as_str(),
            total.count,
            total.monthly_minor,
            total.unpriced
        )
    };
    let wrong: Vec<String> = kept
        .iter()
        .filter(|total| !counted.contains(total))
        .map(|total| format!("kept {}", describe(total)))
        .chain(counted.iter().filter(|total| !kept.contains(total)).map(|total| format!("counted {}", describe(total))))
        .collect();
    if wrong.is_empty() {
        report.ok("totals", format!("{} rows agree with their subscriptions", kept.len()));
    }
    for difference in wrong {
        report.fault("totals", difference, REPAIR);
    }
}

/// What each subscription is worth by its last point of revenue, against its row.
fn points(report: &mut Report, recount: &revenue::Recount) {
    if recount.wrong == 0 {
        let detail = format!("the last points of {} subscriptions say what their rows say", recount.subscriptions);
        report.ok("revenue", detail);
    }
    for unsettled in &recount.named {
        report.fault("revenue", unsettled, REPAIR);
    }
    let more = recount.wrong - recount.named.len() as u64;
    if more > 0 {
        report.fault("revenue", format!("and {more} more subscriptions"), REPAIR);
    }
}

async fn people(app: &App, report: &mut Report) -> Result<()> {
    let (links, shared, unpriced, count) = app
        .db
        .read(|tx| {
            Ok((
                users::unusable_links(tx)?,
                users::shared_customers(tx)?,
                subscriptions::faults(tx, 100)?,
                users::count(tx)?,
            ))
        })
        .await?;
    report.ok("users", format!("{count}"));
    for (user, _) in links {
        report.warn(
            "users",
            format!("{user}: stripe_customer_id holds no customer id and is ignored"),
            "billhook user link-customer",
        );
    }
    for (customer, count) in shared {
        let remedy = "billhook user merge, if they are one person; else billhook user link-customer";
        report.fault("users", format!("{customer}: linked to {count} users"), remedy);
    }
    for (subscription, fault) in unpriced {
        report.fault(
            "subscriptions",
            format!("{subscription}: {fault}"),
            "its value is unknown; give its price a known amount",
        );
    }
    Ok(())
}

/// Every account and every day, against the log counted anew.
async fn log(app: &App, report: &mut Report) -> Result<()> {
    let recount = usage::recount::recount(app).await?;
    if recount.agrees() {
        report.ok("usage", format!("{} entries of {} users agree with what is kept", recount.entries, recount.users));
    }
    for ahead in recount.to_come {
        report.fault(
            "clock",
            ahead,
            "this machine's clock was ahead: set it (NTP); it is over when that time has come",
        );
    }
    let is_whole = recount.damage.iter().all(|damage| damage.leaves_whole());
    for damage in recount.damage {
        report.fault("usage", damage.what, damage.remedy);
    }
    for difference in recount.differences {
        report.fault("usage", difference, if is_whole { RECOUNT } else { LOG_FIRST });
    }
    let reservations = reservations::proof::compare(app).await?;
    if reservations.is_empty() {
        report.ok("reservations", "what is written down as open can be open");
    }
    for reservation in reservations {
        report.fault("reservations", reservation, REPAIR);
    }
    if app.config.redis_url.is_none() {
        return Ok(());
    }
    match publishing::proof::compare(app, publishing::proof::SETTLED).await {
        Ok(differences) if differences.is_empty() => report.ok("counters", "Redis has what the log says"),
        Ok(differences) => {
            for difference in differences {
                report.fault("counters", difference, REPAIR);
            }
        }
        Err(error) => {
            report.warn("counters", error, "limits that cannot be decided follow the catalogue's when_unknown");
        }
    }
    Ok(())
}

/// Counts the mirror's totals anew and writes them down.
pub fn recount(tx: &mut Tx<'_>) -> Result<()> {
    totals::rebuild(tx)?;
    let known = totals::objects(tx)?;
    for resource in Resource::ALL {
        let counted = i64::try_from(mirror::recount(tx, resource)?).unwrap_or(i64::MAX);
        let kept = i64::try_from(known.get(resource.name()).copied().unwrap_or(0)).unwrap_or(0);
        totals::count_objects(tx, resource.name(), counted - kept)?;
    }
    tx.changed(Change::Everything);
    Ok(())
}

/// Counts everything anew and writes it down.
pub async fn repair(app: &App) -> Result<()> {
    app.db.write(recount).await?;
    revenue::repair(app).await?;
    usage::recount::repair(app).await?;
    // By the log as it is: what it has lost of a user's terms is said in it anew.
    usage::shown::repair(app).await?;
    reservations::proof::repair(app).await?;
    // What cannot be asked is named by the report that follows.
    match publishing::proof::repair(app, publishing::proof::SETTLED).await {
        Err(Error::Upstream { .. }) => Ok(()),
        done => done.map(drop),
    }
}
