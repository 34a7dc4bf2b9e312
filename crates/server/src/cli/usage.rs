//! `billhook usage …`: corrections, history and packs of credits; each can be looked at before it is done.

use std::io::BufRead;
use std::path::PathBuf;

use billing::entry::Pack;
use billing::time;
use billing::usage::{Credits, Quantity};
use clap::Subcommand;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Ending, configured, inspect, look, out};
use crate::app::App;
use crate::ops::usage::corrections::{self, Correction, Effect};
use crate::ops::usage::naming::Which;
use crate::ops::usage::{Told, Verdict, history, packs, recount};
use crate::store::log::Source;

#[derive(Debug, Subcommand)]
pub(super) enum UsageRole {
    /// Count the log anew, name what differs from what is kept, and put it right
    #[command(after_help = "Example: billhook usage replay --dry-run")]
    Replay {
        /// Only say what would change; exit 1 if anything would
        #[arg(long)]
        dry_run: bool,
    },
    /// Bring in history of any age, one JSON event a line
    #[command(
        after_help = "Example: billhook usage backfill 2025.jsonl --run import-2025\nA line: {\"transaction_id\":\"t1\",\"user_id\":\"usr_…\",\"type\":\"inference\",\"quantity\":3,\"timestamp\":\"2025-01-31T10:00:00Z\"}\nThe same events again add nothing. Where the credit period of an event is closed, it is shown on its day and billed nowhere. Lago gets what lies in the running month (UTC), and nothing older. Of days on which events came live, it is taken as long as their ids are kept (BILLHOOK_USAGE_WINDOW): later nobody can tell whether it is one of them."
    )]
    Backfill {
        /// The file, or - for standard input
        file: PathBuf,
        /// A name for this import, for the log
        #[arg(long)]
        run: String,
        /// Only say what would be done, of each thousand lines by themselves
        #[arg(long)]
        dry_run: bool,
    },
    /// Take an event back: an entry that says so, at most one for each event
    #[command(after_help = "Example: billhook usage void 01JD… --dry-run")]
    Void {
        /// The event's transaction id
        transaction_id: String,
        /// Its time, or its day (UTC, YYYY-MM-DD), where several events have this id
        #[arg(long, value_name = "TIMESTAMP")]
        at: Option<String>,
        /// Its place in the log, where that does not tell them apart either
        #[arg(long, conflicts_with = "at")]
        position: Option<i64>,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Correct a sum by an entry of its own
    #[command(
        after_help = "Example: billhook usage adjust --user usr_… --type tts --quantity=-12.5 --id case-77 --note 'outage of 3 May'"
    )]
    Adjust {
        #[arg(long)]
        user: String,
        #[arg(long = "type")]
        kind: String,
        /// More, or less where negative: never more than was counted in the credit period
        #[arg(long, allow_hyphen_values = true)]
        quantity: String,
        /// Names this correction: the same id again does nothing
        #[arg(long)]
        id: String,
        /// Why, for whoever reads the log
        #[arg(long)]
        note: String,
        /// When it counts, no time to come [default: now]
        #[arg(long, value_name = "TIMESTAMP")]
        at: Option<String>,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Give a user a pack of credits
    #[command(
        after_help = "Example: billhook usage grant --user usr_… --credits 1000 --id welcome --expires 2027-01-01T00:00:00Z"
    )]
    Grant {
        #[arg(long)]
        user: String,
        #[arg(long)]
        credits: String,
        /// The pack's id: the same again does nothing
        #[arg(long)]
        id: String,
        /// From here on it is worth nothing
        #[arg(long, value_name = "TIMESTAMP")]
        expires: Option<String>,
        /// Small ones are used first
        #[arg(long, default_value_t = 0)]
        priority: i64,
    },
    /// Take a pack away, with what is left of it
    Revoke {
        #[arg(long)]
        user: String,
        /// The pack's id
        #[arg(long)]
        id: String,
    },
}

pub(super) async fn run(role: UsageRole) -> Result<(), Ending> {
    let config = configured()?;
    let is_replay = matches!(role, UsageRole::Replay { .. });
    let app = if is_replay { inspect(config).await? } else { look(config).await? };
    match role {
        UsageRole::Replay { dry_run } => replay(&app, dry_run).await,
        UsageRole::Backfill { file, run, dry_run } => backfill(&app, &file, &run, dry_run).await,
        UsageRole::Void { transaction_id, at, position, dry_run } => {
            let which = match (position, &at) {
                (Some(position), _) => Which::Position(position),
                (None, Some(at)) => Which::read(at)
                    .ok_or_else(|| Ending::Refused(format!("{at:?} is neither a day nor a time by RFC 3339")))?,
                (None, None) => Which::Only,
            };
            let done = corrections::void(&app, &transaction_id, which, dry_run).await.map_err(|error| match error {
                crate::error::Error::NotFound => Ending::Refused("there is no such event".to_owned()),
                other => other.into(),
            })?;
            told(&done)
        }
        UsageRole::Adjust { user, kind, quantity, id, note, at, dry_run } => {
            let less = quantity.starts_with('-');
            let amount = Quantity::parse(quantity.trim_start_matches(['-', '+'])).map_err(refused)?;
            let event = Told {
                transaction_id: id,
                producer: None,
                user,
                kind,
                quantity: amount,
                at: at.as_deref().map(instant).transpose()?,
                properties: None,
                source: Source::CommandLine,
            };
            told(&corrections::adjust(&app, event, less, &note, dry_run).await?)
        }
        UsageRole::Grant { user, credits, id, expires, priority } => {
            let expires = expires.as_deref().map(instant).transpose()?;
            let pack = Pack {
                id,
                amount: Credits::parse(&credits).map_err(refused)?,
                priority,
                expires_ms: expires.map(Timestamp::as_millisecond),
                granted_ms: app.clock.now().as_millisecond(),
            };
            let verdict = packs::grant(&app, &user, &pack).await?;
            done(verdict, &format!("granted {}: {} credits for {user}", pack.id, pack.amount))
        }
        UsageRole::Revoke { user, id } => {
            let verdict = packs::revoke(&app, &user, &id).await.map_err(no_such_pack)?;
            done(verdict, &format!("revoked {id} of {user}, with what was left of it"))
        }
    }
}

fn no_such_pack(error: crate::error::Error) -> Ending {
    match error {
        crate::error::Error::NotFound => Ending::Refused("this user was never given such a pack".to_owned()),
        other => other.into(),
    }
}

async fn replay(app: &App, dry_run: bool) -> Result<(), Ending> {
    let recount = recount::recount(app).await?;
    for damage in &recount.damage {
        out::say(&format!("{}  -> {}", damage.what, damage.remedy));
    }
    for difference in &recount.differences {
        out::say(difference);
    }
    out::complain(&format!("{} entries of {} users were counted", recount.entries, recount.users));
    if dry_run {
        return if recount.agrees() { Ok(()) } else { Err(Ending::Said) };
    }
    recount::repair(app).await?;
    // What it cannot put right is still there.
    if recount.damage.is_empty() { Ok(()) } else { Err(Ending::Said) }
}

/// A line of history. The quantity is read from its own text, so that no digit is lost.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    transaction_id: String,
    user_id: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    quantity: &'a RawValue,
    timestamp: String,
    properties: Option<&'a RawValue>,
}

const LINES: usize = 1_000;

async fn backfill(app: &App, file: &std::path::Path, run: &str, dry_run: bool) -> Result<(), Ending> {
    corrections::named(run, "/run")?;
    let reader: Box<dyn BufRead> = if file.as_os_str() == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        let opened = std::fs::File::open(file);
        let opened = opened.map_err(|error| Ending::Refused(format!("{}: {error}", file.display())))?;
        Box::new(std::io::BufReader::new(opened))
    };
    let mut counts = Counts::default();
    let mut batch = Vec::with_capacity(LINES);
    for (at, line) in reader.lines().enumerate() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        match event(&line) {
            Ok(event) => batch.push((at + 1, event)),
            Err(problem) => counts.refuse(at + 1, &problem),
        }
        if batch.len() == LINES {
            record(app, run, std::mem::take(&mut batch), dry_run, &mut counts).await?;
        }
    }
    record(app, run, batch, dry_run, &mut counts).await?;
    let Counts { recorded, duplicates, refused } = counts;
    let what = if dry_run { "good" } else { "recorded" };
    out::say(&format!("{recorded} {what}, {duplicates} there already, {refused} refused"));
    if refused == 0 { Ok(()) } else { Err(Ending::Said) }
}

#[derive(Default)]
struct Counts {
    recorded: u64,
    duplicates: u64,
    refused: u64,
}

impl Counts {
    fn refuse(&mut self, line: usize, problem: &str) {
        self.refused += 1;
        out::complain(&format!("line {line}: {problem}"));
    }
}

async fn record(
    app: &App,
    run: &str,
    batch: Vec<(usize, Told)>,
    dry_run: bool,
    counts: &mut Counts,
) -> Result<(), Ending> {
    let (lines, events): (Vec<usize>, Vec<Told>) = batch.into_iter().unzip();
    let verdicts =
        if dry_run { history::try_backfill(app, events).await? } else { history::backfill(app, run, events).await? };
    for (line, verdict) in lines.into_iter().zip(verdicts) {
        match verdict {
            Verdict::Recorded { .. } => counts.recorded += 1,
            Verdict::Duplicate { .. } => counts.duplicates += 1,
            Verdict::Conflict { member } => {
                counts.refuse(line, &format!("another event has this transaction_id: its {member} differs"));
            }
            Verdict::Refused { pointer, detail, .. } => counts.refuse(line, &format!("{pointer}: {detail}")),
        }
    }
    Ok(())
}

fn event(line: &str) -> Result<Told, String> {
    let line: Line<'_> = serde_json::from_str(line).map_err(|error| {
        if error.is_data() { error.to_string() } else { format!("this is not JSON (column {})", error.column()) }
    })?;
    let at = time::parse(&line.timestamp).map_err(|error| format!("/timestamp: {error}"))?;
    let quantity =
        Quantity::parse(line.quantity.get().trim_matches('"')).map_err(|error| format!("/quantity: {error}"))?;
    Ok(Told {
        transaction_id: line.transaction_id,
        producer: None,
        user: line.user_id,
        kind: line.kind,
        quantity,
        at: Some(at),
        properties: line.properties.map(|text| text.get().to_owned()),
        source: Source::Backfill,
    })
}

/// Says what a correction does, or would do.
fn told(correction: &Correction) -> Result<(), Ending> {
    let Correction { user, event_type, quantity, transaction_id, effect, preview, verdict } = correction;
    let place = match effect {
        Some(Effect::Nothing) => "on its day only: it counted nothing, so nothing is given back".to_owned(),
        Some(Effect::In { period, late: false, credits }) => format!("{credits} credits in the period from {period}"),
        Some(Effect::In { period, late: true, credits }) => {
            format!("{credits} credits in the running period from {period}, as its own is closed")
        }
        None => "as it stands in the log".to_owned(),
    };
    let text = format!("{transaction_id}: {quantity} {event_type} for {user}, {place}");
    match verdict {
        None if *preview => out::say(&format!("would correct {text}")),
        Some(Verdict::Recorded { .. }) => out::say(&format!("corrected {text}")),
        other => return ended(other.clone()),
    }
    Ok(())
}

/// Says what was done, where it was done now.
fn done(verdict: Option<Verdict>, text: &str) -> Result<(), Ending> {
    if let Some(Verdict::Recorded { .. }) = verdict {
        out::say(text);
    }
    ended(verdict)
}

fn ended(verdict: Option<Verdict>) -> Result<(), Ending> {
    match verdict {
        Some(Verdict::Recorded { .. }) => Ok(()),
        Some(Verdict::Duplicate { position }) => {
            out::complain(&format!("nothing to do: it was done before, at position {position}"));
            Ok(())
        }
        Some(Verdict::Conflict { member }) => {
            let another = if member == "properties" { "other" } else { "another" };
            Err(Ending::Refused(format!("this id stands for {another} {member}")))
        }
        Some(Verdict::Refused { pointer, detail, .. }) => Err(Ending::Refused(format!("{pointer}: {detail}"))),
        None => Err(Ending::Refused("nothing was written".to_owned())),
    }
}

fn instant(text: &str) -> Result<Timestamp, Ending> {
    time::parse(text).map_err(refused)
}

fn refused(error: impl std::fmt::Display) -> Ending {
    Ending::Refused(error.to_string())
}
