//! `/taxes`: rates that hold for the whole organisation.

use super::asked::Call;
use super::decimal::{Decimal, Rounding, TooLong};
use super::desk::{Answer, Reply};
use super::instant;
use super::page::Page;
use super::refusal::{Faulty, Refusal};
use super::world::{World, uuid};
use serde_json::{Value, json};

#[derive(Debug)]
pub(super) struct Tax {
    /// Percent, where it holds for everybody.
    applied: Option<Decimal>,
    view: Value,
}

/// `POST /taxes`
pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    let sent = call.root("tax")?;
    let mut faulty = Faulty::default();
    let (name, code) = (sent.text("name"), sent.text("code"));
    let rate = sent.amount("rate").filter(|rate| !rate.is_negative());
    faulty.add_if(name.is_none(), "name", "value_is_mandatory");
    faulty.add_if(code.is_none(), "code", "value_is_mandatory");
    faulty.add_if(code.as_ref().is_some_and(|code| world.taxes.find(code).is_some()), "code", "value_already_exist");
    faulty.add_if(rate.is_none(), "rate", "value_is_mandatory");
    faulty.verdict()?;
    let (code, rate) = (code.unwrap_or_default(), rate.unwrap_or_default());
    let applied = sent.flag("applied_to_organization");
    let view = json!({
        "lago_id": uuid("tax", world.taxes.len()),
        "name": name,
        "code": code,
        "rate": rate.json(),
        "description": sent.sent("description"),
        "applied_to_organization": applied,
        "created_at": instant::seconds(world.now),
    });
    world.taxes.push(&code, Tax { applied: applied.then_some(rate), view: view.clone() });
    Ok(Reply::Json(json!({ "tax": view })))
}

/// `GET /taxes/{code}`
pub(super) fn show(world: &World, code: &str) -> Answer {
    let place = world.taxes.find(code).ok_or_else(|| Refusal::not_found("tax"))?;
    Ok(Reply::Json(json!({"tax": world.taxes[place].view})))
}

/// `GET /taxes`
pub(super) fn list(world: &World, call: &Call) -> Reply {
    let all: Vec<&Tax> = world.taxes.newest().collect();
    Page::of(call).show("taxes", &all, |tax| tax.view.clone())
}

/// What an amount is taxed with, each tax rounded half up to the cent.
pub(super) fn on(world: &World, amount_cents: i64) -> Result<i64, TooLong> {
    world.taxes.newest().filter_map(|tax| tax.applied).try_fold(0_i64, |sum, rate| {
        let tax = Decimal::whole(amount_cents.into()).times(rate)?;
        let tax = tax.over(Decimal::whole(100), 0, Rounding::HalfUp)?.unwrap_or_default();
        sum.checked_add(tax.cents(0)?).ok_or(TooLong)
    })
}
