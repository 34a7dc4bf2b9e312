//! `billhook verify`

use serde_json::{Value, json};

use super::{Ending, configured, look, out};
use crate::ops::verify::difference::Difference;
use crate::ops::verify::{self, Mode, Uncompared};

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
    let app = look(configured()?).await?;
    if app.stripe.is_none() {
        return Err(Ending::Configuration(vec![
            "STRIPE_SECRET_KEY: is not set: there is nothing to compare with".to_owned(),
        ]));
    }
    let mode = if args.repair { Mode::Repair } else { Mode::Compare };
    let mut tell =
        |difference: &Difference| out::say(&if args.json { as_json(difference, mode) } else { line(difference, mode) });
    let verified = verify::run(&app, mode, &mut tell).await?;
    let (objects, different) = (verified.objects, verified.different);
    let outcome = if mode == Mode::Repair { "were different and are repaired" } else { "differ" };
    if args.json {
        let repaired = if mode == Mode::Repair { different } else { 0 };
        let not_compared: Vec<Value> = verified.uncompared.iter().map(left_out_as_json).collect();
        let summary = json!({
            "objects": objects, "different": different, "repaired": repaired, "not_compared": not_compared,
        });
        out::say(&summary.to_string());
    } else {
        verified.uncompared.iter().for_each(|one| out::say(&left_out(one)));
        let rest = if verified.is_whole() { "" } else { ", the rest could not be compared" };
        out::say(&format!("{objects} objects compared, {different} {outcome}{rest}"));
    }
    match (different, mode) {
        (1.., Mode::Compare) => Err(Ending::Said),
        _ if !verified.is_whole() => Err(Ending::Unknown),
        _ => Ok(()),
    }
}

fn left_out(one: &Uncompared) -> String {
    let what = match &one.objects {
        None => "the list".to_owned(),
        Some((first, 1)) => first.clone(),
        Some((first, count)) => format!("{first} and {} more", count - 1),
    };
    format!("not compared  {}  {what}: {}", one.resource.name(), one.reason)
}

fn left_out_as_json(one: &Uncompared) -> Value {
    json!({
        "list": one.resource.name(), "reason": one.reason,
        "object": one.objects.as_ref().map(|(first, _)| first),
        "objects": one.objects.as_ref().map(|(_, count)| count),
    })
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
