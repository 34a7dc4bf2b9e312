//! `billhook verify`

use serde_json::json;

use super::{Ending, configured, out, visit};
use crate::ops::verify::difference::Difference;
use crate::ops::verify::{self, Mode};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Write what Stripe says where the mirror differs
    #[arg(long)]
    repair: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> Result<(), Ending> {
    let app = visit(configured()?).await?;
    if app.stripe.is_none() {
        return Err(Ending::Configuration(vec![
            "STRIPE_SECRET_KEY: is not set: there is nothing to compare with".to_owned(),
        ]));
    }
    let mode = if args.repair { Mode::Repair } else { Mode::Compare };
    let mut tell =
        |difference: &Difference| out::say(&if args.json { as_json(difference, mode) } else { line(difference, mode) });
    let verified = verify::run(&app, mode, &mut tell).await?;
    for list in &verified.skipped {
        out::complain(&format!("{list}: the server does not have this list; not compared"));
    }
    let (objects, different) = (verified.objects, verified.different);
    let outcome = if mode == Mode::Repair { "were different and are repaired" } else { "differ" };
    if args.json {
        let repaired = if mode == Mode::Repair { different } else { 0 };
        out::say(&json!({ "objects": objects, "different": different, "repaired": repaired }).to_string());
    } else {
        out::say(&format!("{objects} objects compared, {different} {outcome}"));
    }
    if different == 0 || mode == Mode::Repair { Ok(()) } else { Err(Ending::Said) }
}

fn line(difference: &Difference, mode: Mode) -> String {
    let Difference { resource, id, field, ours, theirs } = difference;
    let field = if field.is_empty() { "the object" } else { field };
    let arrow = if mode == Mode::Repair { "changed" } else { "differs" };
    format!("{arrow}  {}  {id}  {field}: ours {ours}, Stripe's {theirs}", resource.name())
}

fn as_json(difference: &Difference, mode: Mode) -> String {
    json!({
        "list": difference.resource.name(), "object": difference.id, "field": difference.field,
        "ours": difference.ours, "theirs": difference.theirs, "repaired": mode == Mode::Repair,
    })
    .to_string()
}
