//! `billhook doctor`

use super::{Ending, configured, inspect, out};
use crate::error::Error;
use crate::ops::doctor::{self, Check, State};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// Name what is wrong, count every total anew and write it down
    #[arg(long)]
    repair: bool,
}

pub(super) async fn run(args: Args) -> Result<(), Ending> {
    let app = inspect(configured()?).await?;
    let tell = |checks: &[Check]| {
        for check in checks {
            out::say(&if args.json { serde_json::json!(check).to_string() } else { line(check) });
        }
    };
    if args.repair {
        // What --repair changes is named before it is gone.
        tell(&doctor::examine(&app).await?.found());
        match doctor::repair(&app).await {
            // A row that means nothing is named by the report.
            Err(Error::Internal(cause)) => out::complain(&format!("not everything could be put right: {cause}")),
            done => done?,
        }
    }
    let report = doctor::examine(&app).await?;
    tell(&report.0);
    if report.healthy() { Ok(()) } else { Err(Ending::Said) }
}

fn line(check: &Check) -> String {
    let state = match check.state {
        State::Ok => "ok   ",
        State::Warn => "warn ",
        State::Fault => "FAULT",
        State::Found => "found",
    };
    let fix = check.fix.map(|fix| format!("  -> {fix}")).unwrap_or_default();
    format!("{state}  {:13}  {}{fix}", check.check, check.detail)
}
