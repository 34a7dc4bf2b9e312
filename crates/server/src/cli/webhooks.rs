//! `billhook webhooks …`

use billing::time;
use clap::{Subcommand, ValueEnum};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Ending, configured, look, out};
use crate::app::App;
use crate::error::Error;
use crate::ops::webhooks::replay::{self, Shown, way};
use crate::store::webhooks::{Event, State, Which};

#[derive(Debug, Subcommand)]
pub(super) enum WebhooksRole {
    /// List events, newest first
    #[command(after_help = "Example: billhook webhooks list --state quarantined --json")]
    List {
        /// Only those in this state
        #[arg(long, value_enum)]
        state: Option<Named>,
        /// How many at most
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
        limit: u16,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show one event: what became of it, its body, and what its object was before
    #[command(after_help = "Example: billhook webhooks show evt_1S…")]
    Show {
        id: String,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// List the events of which every attempt failed, each with its reason
    Dead {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Have events applied once more by the server that is running
    #[command(after_help = "Example: billhook webhooks replay --all")]
    Replay {
        /// The id that `webhooks list` shows
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        id: Option<String>,
        /// Every dead one
        #[arg(long)]
        all: bool,
    },
}

/// A state by its name.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Named {
    Waiting,
    Applied,
    Quarantined,
    Dead,
}

/// More dead letters than this nobody reads.
const DEAD_MAX: usize = 10_000;

pub(super) async fn webhooks(role: WebhooksRole) -> Result<(), Ending> {
    let app = look(configured()?).await?;
    match role {
        WebhooksRole::List { state, limit, json } => list(&app, which(state), usize::from(limit), json).await,
        WebhooksRole::Dead { json } => list(&app, Which::Dead, DEAD_MAX, json).await,
        WebhooksRole::Show { id, json } => {
            let shown = replay::show(&app, &id).await.map_err(no_such)?;
            out::say(&if json { shown_json(&shown).to_string() } else { shown_text(&shown) });
            Ok(())
        }
        WebhooksRole::Replay { id, .. } => {
            let count = match id {
                Some(id) => replay::one(&app, &id).await.map(|()| 1).map_err(no_such)?,
                None => replay::all_dead(&app).await?,
            };
            out::say(&format!("{count} events are applied once more"));
            Ok(())
        }
    }
}

fn which(state: Option<Named>) -> Which {
    match state {
        None => Which::All,
        Some(Named::Waiting) => Which::Waiting,
        Some(Named::Applied) => Which::Applied,
        Some(Named::Quarantined) => Which::Quarantined,
        Some(Named::Dead) => Which::Dead,
    }
}

fn no_such(error: Error) -> Ending {
    match error {
        Error::NotFound => Ending::Refused("there is no such event".to_owned()),
        Error::Conflict { detail, .. } => Ending::Refused(format!("it stays as it is: {detail}")),
        other => other.into(),
    }
}

async fn list(app: &App, which: Which, most: usize, json: bool) -> Result<(), Ending> {
    for event in replay::list(app, which, most).await? {
        out::say(&if json { as_json(&event).to_string() } else { line(&event) });
    }
    Ok(())
}

fn instant(millisecond: i64) -> Option<String> {
    Timestamp::from_millisecond(millisecond).ok().map(time::wire)
}

/// A state's name, its attempts and its reason.
fn facts(state: &State) -> (&'static str, u32, Option<&str>) {
    match state {
        State::Waiting { attempts, reason, .. } => ("waiting", *attempts, reason.as_deref()),
        State::Applied { note, .. } => ("applied", 0, note.as_deref()),
        State::Quarantined { reason } => ("quarantined", 0, Some(reason)),
        State::Dead { attempts, reason, .. } => ("dead", *attempts, Some(reason)),
    }
}

fn line(event: &Event) -> String {
    let (state, _, reason) = facts(&event.state);
    let object = event.target.as_ref().map_or("-", |target| &target.id);
    let received = instant(event.received_ms).unwrap_or_default();
    let reason = reason.map(|reason| format!("  {reason}")).unwrap_or_default();
    format!("{received}  {}  {state:11}  {}  {object}{reason}", event.id, event.kind)
}

fn as_json(event: &Event) -> Value {
    let (state, attempts, reason) = facts(&event.state);
    json!({
        "id": event.id, "type": event.kind, "state": state, "attempts": attempts, "reason": reason,
        "list": event.target.as_ref().map(|target| target.resource.name()),
        "object": event.target.as_ref().map(|target| &target.id),
        "created": Timestamp::from_second(event.created).ok().map(time::wire), "received": instant(event.received_ms),
        "api_version": event.api_version, "livemode": event.livemode, "account": event.account,
        "source": way(event.source),
    })
}

fn shown_json(shown: &Shown) -> Value {
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let mut value = as_json(&shown.event);
    value["event"] = parsed(&shown.raw);
    let before = shown.history.iter().map(|previous| {
        json!({ "until": instant(previous.replaced_ms), "cause": previous.cause, "object": parsed(&previous.raw) })
    });
    value["before"] = before.collect();
    value
}

fn shown_text(shown: &Shown) -> String {
    let mut lines = vec![line(&shown.event), shown.raw.trim_end().to_owned()];
    lines.extend(shown.history.iter().map(|previous| {
        let until = instant(previous.replaced_ms).unwrap_or_default();
        format!("before {until} ({}): {}", previous.cause, previous.raw.replace('\n', " "))
    }));
    lines.join("\n")
}
