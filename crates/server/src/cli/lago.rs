//! `billhook lago …`

use clap::Subcommand;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::{Ending, configured, look, out, visit};
use crate::app::App;
use crate::error::Error;
use crate::ops::lago::examine::period;
use crate::ops::lago::reconcile::{self, Compared, Which};
use crate::ops::lago::replay::Asked;
use crate::ops::lago::setup::{self, Line, Mode, Outcome};
use crate::ops::lago::{Details, Status, again, billed, details, owed, replay, start, status, strangers};
use crate::store::lago::Dead;

#[derive(Debug, Subcommand)]
pub(super) enum LagoRole {
    /// Make the metrics and plans of the catalogue at Lago; nothing that is there is changed
    #[command(
        after_help = "Example: LAGO_API_URL=http://lago:3000 LAGO_API_KEY=… billhook lago setup\nUsage goes to Lago from the first of the month (UTC) in which serve runs with Lago first; what was used before is not sent."
    )]
    Setup {
        /// The first day (UTC) whose usage goes to Lago, before anything has; what lies in a month that is over is counted as of now
        #[arg(long, value_name = "DAY")]
        from: Option<Date>,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show how far shipping has come and what keeps it
    Status {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// List the events that Lago does not take, each with its reason
    Dead {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Have dead letters sent again by the server that is running; exit 1 where the month of some is billed without them
    #[command(
        after_help = "Example: billhook lago replay --all\nWhat Lago stored and did not bill before it made the invoice of the month is billed by hand, and then put away with --forget."
    )]
    Replay {
        /// The transaction id that `lago dead` shows
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        id: Option<String>,
        /// Put this one away, since it was billed by hand: its month is billed
        #[arg(long, requires = "id", conflicts_with = "all")]
        forget: bool,
        /// All of them
        #[arg(long)]
        all: bool,
    },
    /// Compare the log with what was delivered, and that with what Lago has counted; exit 1 on a difference or a dead letter
    #[command(after_help = "Example: billhook lago reconcile --repair")]
    Reconcile {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
        /// Send the open month again of everybody who differs; what Lago has already counts once
        #[arg(long)]
        repair: bool,
    },
}

pub(super) async fn lago(role: LagoRole) -> Result<(), Ending> {
    let config = configured()?;
    if config.lago.is_none() {
        return Err(Ending::Configuration(vec!["LAGO_API_URL: is not set: there is no Lago to speak to".to_owned()]));
    }
    let app = if matches!(role, LagoRole::Setup { .. }) { visit(config).await? } else { look(config).await? };
    match role {
        LagoRole::Setup { from, json } => {
            begin(&app, from).await?;
            make(&app, json).await
        }
        LagoRole::Status { json } => {
            let (status, details) = (status(&app).await?, details(&app).await?);
            if json {
                out::say(&status_json(&status, &details).to_string());
            } else {
                say_status(&status, &details);
            }
            Ok(())
        }
        LagoRole::Dead { json } => dead(&app, json).await,
        LagoRole::Replay { id: Some(id), forget: true, .. } => put_away(&app, &id).await,
        LagoRole::Replay { id, .. } => send_letters(&app, id.as_deref()).await,
        LagoRole::Reconcile { json, repair } => {
            if repair {
                send_again(&app).await?;
            }
            compare(&app, json).await
        }
    }
}

/// Says from when on usage is sent.
async fn begin(app: &App, from: Option<Date>) -> Result<(), Ending> {
    if let Some(day) = from {
        let from = day.to_zoned(TimeZone::UTC).map_err(Error::internal)?.timestamp();
        if !start::choose(app, from).await? {
            return Err(Ending::Refused("shipping has begun: what it has passed is not looked at again".to_owned()));
        }
    }
    if let Some(from) = start::foreseen(app).await? {
        tracing::info!(%from, "Lago gets what was used from here on, and nothing from before");
    }
    Ok(())
}

async fn make(app: &App, json: bool) -> Result<(), Ending> {
    let lines = setup::run(app, Mode::Make).await?;
    let mut fine = true;
    for Line { what, code, outcome } in &lines {
        let (word, detail) = match outcome {
            Outcome::Created => ("created", None),
            Outcome::Found => ("found", None),
            Outcome::Missing => ("missing", None),
            Outcome::Differs(how) => ("differs", Some(how)),
            Outcome::Refused(how) => ("refused", Some(how)),
        };
        fine &= matches!(outcome, Outcome::Created | Outcome::Found);
        out::say(&if json {
            json!({ "what": what, "code": code, "outcome": word, "detail": detail }).to_string()
        } else {
            let detail = detail.map(|detail| format!("  {detail}")).unwrap_or_default();
            format!("{word:8} {what:6} {code}{detail}")
        });
    }
    if fine { Ok(()) } else { Err(Ending::Said) }
}

fn status_json(status: &Status, details: &Details) -> Value {
    let table = |rows: &[(String, u64)]| rows.iter().cloned().collect::<std::collections::BTreeMap<_, _>>();
    json!({
        "head": status.head, "position": status.position, "waiting": status.depth, "lag_ms": status.lag_ms,
        "dead_letters": status.dead, "reasons": table(&details.dead_reasons), "skipped": table(&details.skipped),
        "subscriptions": details.subscriptions, "from": details.from.map(billing::time::wire), "differing": status.differing, "failures": status.failures,
        "fault": status.fault.as_ref().map(|fault| &fault.text),
    })
}

fn say_status(status: &Status, details: &Details) {
    out::say(&format!("entries        {} of {} passed", status.position, status.head));
    if let Some(from) = details.from {
        out::say(&format!("from           {}", billing::time::wire(from)));
    }
    out::say(&format!("waiting        {}, the oldest for {} s", status.depth, status.lag_ms / 1000));
    out::say(&format!("subscriptions  {}, {} of them counted differently", details.subscriptions, status.differing));
    out::say(&format!("dead letters   {}", status.dead));
    for (reason, count) in &details.dead_reasons {
        out::say(&format!("  {count:8}     {reason}"));
    }
    for (reason, count) in &details.skipped {
        out::say(&format!("not for Lago   {count} {reason}"));
    }
    if let Some(fault) = &status.fault {
        out::say(&format!("fault          {} ({} tries)", fault.text, status.failures));
    }
}

async fn send_letters(app: &App, id: Option<&str>) -> Result<(), Ending> {
    let Asked { count, billed } = replay::ask(app, id).await.map_err(no_letter)?;
    out::say(&format!("{count} dead letters go out with the next window"));
    for Dead { transaction_id, user, .. } in &billed {
        out::say(&format!(
            "{transaction_id}  {user}  its month is billed: bill it by hand, then billhook lago replay --forget {transaction_id}"
        ));
    }
    if billed.is_empty() { Ok(()) } else { Err(Ending::Said) }
}

async fn put_away(app: &App, id: &str) -> Result<(), Ending> {
    if replay::forget(app, id).await.map_err(no_letter)? {
        out::say("put away");
        return Ok(());
    }
    Err(Ending::Refused(
        "its month is not billed without it: put the reason right, then billhook lago replay".to_owned(),
    ))
}

fn no_letter(error: Error) -> Ending {
    match error {
        Error::NotFound => Ending::Refused("there is no such dead letter".to_owned()),
        other => other.into(),
    }
}

async fn dead(app: &App, json: bool) -> Result<(), Ending> {
    let mut after = String::new();
    loop {
        let page = replay::list(app, &after, 500).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after.clone_from(&last.transaction_id);
        for letter in &page {
            out::say(&if json { dead_json(letter) } else { dead_line(letter) });
        }
    }
}

fn dead_json(letter: &Dead) -> String {
    let event = serde_json::from_str::<Value>(&letter.event).ok();
    json!({
        "transaction_id": letter.transaction_id, "position": letter.position, "user": letter.user,
        "reason": letter.reason, "replay": letter.replay, "event": event,
    })
    .to_string()
}

fn dead_line(letter: &Dead) -> String {
    let waiting = if letter.replay { "  (goes out again)" } else { "" };
    format!("{}  {}  {}  {}{waiting}", letter.transaction_id, letter.position, letter.user, letter.reason)
}

/// What was asked for is the comparison that follows.
async fn send_again(app: &App) -> Result<(), Ending> {
    let sent = again::repair(app).await?;
    tracing::info!(users = sent.users, events = sent.events, "sent again");
    match sent.trouble {
        None => Ok(()),
        Some(trouble) => Err(Ending::Refused(format!("not everything has arrived, the rest follows: {trouble}"))),
    }
}

async fn compare(app: &App, json: bool) -> Result<(), Ending> {
    let unsent = owed::compare(app).await?;
    for difference in &unsent {
        out::say(&if json { unsent_json(difference) } else { difference.to_string() });
    }
    let unbilled = replay::unbilled(app).await?;
    for ((user, code), count) in &unbilled {
        out::say(&if json {
            json!({ "user": user, "code": code, "dead": count.to_string() }).to_string()
        } else {
            format!("user {user}, {code}: {count} are dead letters, not billed at Lago: see billhook lago dead")
        });
    }
    let mut compared = reconcile::run(app, Which::All).await?;
    compared.extend(strangers::find(app).await?);
    for one in compared.iter().filter(|one| json || !one.differences.is_empty()) {
        if json {
            out::say(&compared_json(one));
        } else {
            one.differences.iter().for_each(|difference| {
                out::say(&format!("{}  {}  {difference} -> {}", one.user, period(one), difference.remedy()));
            });
        }
    }
    let billed = billed::run(app).await?.compared;
    let misbilled: Vec<_> = billed.iter().filter(|one| !one.differences.is_empty()).collect();
    for one in &misbilled {
        if json {
            out::say(&compared_json(one));
        } else {
            let say =
                |difference| format!("{}  {}  {difference} -> correct the invoice at Lago", one.user, period(one));
            one.differences.iter().map(say).for_each(|line| out::say(&line));
        }
    }
    let differing = compared.iter().filter(|one| !one.differences.is_empty()).count();
    if !json {
        out::say(&format!("{} subscriptions compared, {differing} differ", compared.len()));
    }
    if differing == 0 && unsent.is_empty() && unbilled.is_empty() && misbilled.is_empty() {
        Ok(())
    } else {
        Err(Ending::Said)
    }
}

fn unsent_json(difference: &owed::Difference) -> String {
    let owed::Difference { code, month: (year, month), log, noted, .. } = difference;
    json!({
        "user": difference.who(), "code": code, "month": format!("{year:04}-{month:02}"), "log": log.to_string(),
        "noted": noted.to_string(),
    })
    .to_string()
}

fn compared_json(one: &Compared) -> String {
    let differences: Vec<String> = one.differences.iter().map(ToString::to_string).collect();
    json!({
        "user": one.user, "external_id": one.external_id, "metrics": one.metrics, "differences": differences,
        "from": one.period.map(|(from, _)| billing::time::wire(from)),
        "to": one.period.map(|(_, to)| billing::time::wire(to)),
    })
    .to_string()
}
