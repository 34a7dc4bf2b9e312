//! What `doctor` and `/readyz` say about Lago.

use serde_json::{Value, json};

use super::billed;
use super::event::{month, open_from};
use super::reconcile::{self, Which};
use super::setup::{self, Mode, Outcome};
use super::{Details, Status, details, owed, status};
use crate::app::App;
use crate::error::{Error, Result, Upstream};
use crate::ops::doctor::Report;
use crate::store::lago;

/// Usage that waits longer than this may miss the end of a period.
const LAG_MAX_MS: i64 = 5 * 60 * 1000;
/// After a delivery Lago may need this long to show it.
const SETTLING_MS: i64 = 60 * 1000;

/// Lago is asked once for each subscription: with more of them only those are compared that have moved.
const COMPARED_MAX: u64 = 2_000;

/// What ends by itself, mostly soon.
const PASSING: [&str; 2] = ["lago.unavailable", "lago.rate_limited"];

const CHECK: &str = "lago";
const LATER: &str = "try again later";

/// What was asked of Lago. Where it cannot be asked, that is a line of the report; our own database away is no fault of Lago's.
fn heard<T>(asked: Result<T>, what: &str, fix: &'static str, report: &mut Report) -> Result<Option<T>> {
    match asked {
        Err(Error::Upstream { who: Upstream::Lago, code, cause, .. }) => {
            let why = cause.map_or_else(|| code.to_owned(), |cause| cause.to_string());
            report.fault(CHECK, format!("{what}{why}"), fix);
            Ok(None)
        }
        asked => asked.map(Some),
    }
}

/// Every check of Lago's side; nothing where Lago is not configured.
pub async fn examine(app: &App, report: &mut Report) -> Result<()> {
    if app.lago.is_none() {
        return Ok(());
    }
    let (status, details) = (status(app).await?, details(app).await?);
    outbox(&status, &details, report);
    let fix = "check LAGO_API_URL, LAGO_API_KEY and the way there; usage waits and is not lost";
    let Some(lines) = heard(setup::run(app, Mode::Look).await, "", fix, report)? else { return Ok(()) };
    arrangements(&lines, report);
    sent(app, report).await?;
    let which = if details.subscriptions > COMPARED_MAX { Which::Moved } else { Which::All };
    counts(app, which, report).await?;
    if which == Which::All { last_month(app, report).await } else { Ok(()) }
}

/// The month that ended last, as it is on Lago's invoices.
async fn last_month(app: &App, report: &mut Report) -> Result<()> {
    let what = "the month that ended last was not compared to its end: ";
    let Some(billed) = heard(billed::run(app).await, what, LATER, report)? else { return Ok(()) };
    let (year, number) = month(billed.month.0);
    for one in &billed.compared {
        for difference in &one.differences {
            let detail = format!("user {}, {}: {difference}", one.user, period(one));
            report.fault(CHECK, detail, "this month is billed: correct its invoice at Lago, nothing is sent again");
        }
    }
    let equal = billed.compared.iter().filter(|one| one.differences.is_empty()).count();
    let (all, unbilled) = (billed.compared.len(), billed.unbilled);
    report.ok(CHECK, format!("{equal} of {all} subscriptions were billed for {year:04}-{number:02} as delivered, {unbilled} have no invoice for it"));
    Ok(())
}

fn outbox(status: &Status, details: &Details, report: &mut Report) {
    if let Some(fault) = &status.fault {
        let detail = format!("{} ({} tries)", fault.text, status.failures);
        report.fault(CHECK, detail, "put the cause right; shipping goes on by itself");
    }
    let detail = format!("{} of {} entries, {} waiting", status.position, status.head, status.depth);
    if status.lag_ms > LAG_MAX_MS {
        let detail = format!("{detail}, the oldest for {} s", status.lag_ms / 1000);
        report.fault(CHECK, detail, "is billhook serve running? else look at the line above");
    } else {
        report.ok(CHECK, detail);
    }
    if let Some(from) = details.from {
        report.ok(CHECK, format!("what was used from {} on goes to Lago", billing::time::wire(from)));
    }
    for (reason, count) in &details.skipped {
        report.ok(CHECK, format!("{count} entries are not for Lago: {reason}"));
    }
    for (reason, count) in &details.dead_reasons {
        let fix = "put the reason right, then billhook lago replay --all";
        let count = count.saturating_sub(details.dead_billed.get(reason).copied().unwrap_or(0));
        if count > 0 {
            report.fault(CHECK, format!("{count} dead letters: {reason}"), fix);
        }
    }
    for (reason, count) in &details.dead_billed {
        let fix =
            "their month is billed: bill by hand what billhook lago dead lists, then billhook lago replay --forget ID";
        report.fault(CHECK, format!("{count} dead letters: {reason}"), fix);
    }
}

fn arrangements(lines: &[setup::Line], report: &mut Report) {
    let mut found = 0;
    for line in lines {
        let name = format!("{} {}", line.what, line.code);
        match &line.outcome {
            Outcome::Found | Outcome::Created => found += 1,
            Outcome::Missing => report.fault(CHECK, format!("{name} is missing"), "run billhook lago setup"),
            Outcome::Differs(how) | Outcome::Refused(how) => {
                report.warn(CHECK, format!("{name}: {how}"), "change it at Lago, or the catalogue");
            }
        }
    }
    report.ok(CHECK, format!("{found} of {} metrics and plans are as the catalogue says", lines.len()));
}

/// What is noted as sent, against the log counted anew.
async fn sent(app: &App, report: &mut Report) -> Result<()> {
    let differences = owed::compare(app).await?;
    for (external_id, users) in app.db.read(lago::shared_names).await? {
        let fix = "give each a lago_customer_id of their own, unless they are to have one invoice: its plan is that of who used last";
        report.warn(CHECK, format!("users {} are one customer at Lago: {external_id}", users.join(", ")), fix);
    }
    if differences.is_empty() {
        report.ok(CHECK, "what is noted as sent is what the log says");
    }
    for difference in differences {
        let open = month(open_from(app.clock.now().as_millisecond()));
        let fix = if difference.month < open {
            "its month is billed: bill by hand what is missing there, nothing is sent again"
        } else {
            "run billhook lago reconcile --repair"
        };
        report.fault(CHECK, difference, fix);
    }
    Ok(())
}

async fn counts(app: &App, which: Which, report: &mut Report) -> Result<()> {
    let what = "the comparison did not come to its end: ";
    let Some(compared) = heard(reconcile::run(app, which).await, what, LATER, report)? else { return Ok(()) };
    let now_ms = app.clock.now().as_millisecond();
    for one in compared.iter().filter(|one| !one.differences.is_empty()) {
        for difference in &one.differences {
            let detail = format!("user {}, {}: {difference}", one.user, period(one));
            let is_gone = matches!(difference, reconcile::Difference::Gone { .. });
            if !is_gone && one.delivered_ms.is_some_and(|at| now_ms - at < SETTLING_MS) {
                report.warn(CHECK, detail, "delivered a moment ago: compare again in a minute");
            } else {
                report.fault(CHECK, detail, difference.remedy());
            }
        }
    }
    let equal = compared.iter().filter(|one| one.differences.is_empty()).count();
    let (year, number) = month(open_from(now_ms));
    let all = compared.len();
    report.ok(CHECK, format!("{equal} of {all} subscriptions are counted as delivered in {year:04}-{number:02}"));
    Ok(())
}

/// `2026-11-01T00:00:00Z to 2026-11-30T23:59:59Z`
pub fn period(compared: &reconcile::Compared) -> String {
    match compared.period {
        Some((from, to)) => format!("{} to {}", billing::time::wire(from), billing::time::wire(to)),
        None => "no period".to_owned(),
    }
}

/// For `/readyz`: facts, and what keeps usage from arriving. Lago keeps nobody waiting, so it is never missing; that it refuses
/// what is sent, or has not been there for a while, is shown all the same.
pub async fn probe(app: &App) -> (Value, Option<String>) {
    if app.lago.is_none() {
        return (json!({ "configured": false }), None);
    }
    let looked = status(app).await;
    let kept = looked.as_ref().ok().and_then(|status| {
        let fault = status.fault.as_ref()?;
        let passes = PASSING.iter().any(|code| fault.text.starts_with(code));
        (!passes || status.lag_ms > LAG_MAX_MS).then(|| fault.text.clone())
    });
    let facts = match looked {
        Ok(status) => json!({
            "configured": true,
            "position": status.position,
            "waiting": status.depth,
            "lag_ms": status.lag_ms,
            "dead_letters": status.dead,
            "differing": status.differing,
            "fault": status.fault.map(|fault| fault.text),
        }),
        Err(_) => json!({ "configured": true, "fault": "storage.unavailable" }),
    };
    (facts, kept)
}
