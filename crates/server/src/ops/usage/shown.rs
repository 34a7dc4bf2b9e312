//! The tier that the users table shows, where the platform reads it, against what the mirror, the catalogue and the log say.

use jiff::Timestamp;

use super::{following, plans};
use crate::app::App;
use crate::error::Result;
use crate::ops::doctor::Report;
use crate::store::users::{self, Shown};
use crate::store::{self, Tx};

/// How many users are looked at in one transaction.
const BATCH: i64 = 200;
/// How many users of unknown tiers are named: a catalogue without a tier can have thousands of them.
const NAMED: usize = 20;

/// What is wrong with the tier that a row shows.
enum Wrong {
    /// The subscription, or its end, says another.
    NotSubscribed { expected: Option<String> },
    /// Without a subscription the tier is the user's own, and that is not the one by which the log counts.
    NotGiven { given: String },
    /// The catalogue does not have it, so nothing is allowed.
    Unknown { tier: String },
    /// It is a trial, and the row does not say since when, so nothing is allowed.
    Undated,
    /// It is a trial, and the log counts by another end of it.
    OtherTrial,
    /// Paid for by nobody. An operator may give such a tier, so this is no fault.
    Unpaid,
}

/// Adds to the report whoever is shown another tier than is theirs.
pub async fn examine(app: &App, report: &mut Report) -> Result<()> {
    let (mut count, mut wrong, mut unknown, mut after) = (0, 0, 0_usize, String::new());
    loop {
        let (program, from) = (app.clone(), after.clone());
        let rows = app.db.read(move |tx| {
            let rows = users::shown(tx, &from, BATCH)?;
            rows.into_iter().map(|row| Ok((examined(tx, &program, &row)?, row))).collect::<Result<Vec<_>>>()
        });
        let rows = rows.await?;
        let Some((_, last)) = rows.last() else { break };
        after.clone_from(&last.user.id);
        count += rows.len();
        for (what, row) in rows {
            wrong += usize::from(what.is_some());
            unknown += usize::from(matches!(what, Some(Wrong::Unknown { .. })));
            if unknown <= NAMED || !matches!(what, Some(Wrong::Unknown { .. })) {
                tell(report, &row, what);
            }
        }
    }
    if unknown > NAMED {
        let more =
            format!("{unknown} users are in tiers that the catalogue does not have, {NAMED} of them are named here");
        report.fault("tiers", more, CATALOGUE);
    }
    if wrong == 0 {
        report.ok("tiers", format!("{count} users show the tier that is theirs"));
    }
    Ok(())
}

fn tell(report: &mut Report, row: &Shown, wrong: Option<Wrong>) {
    let shown = format!("{}: shows {}", row.user.id, row.shown.as_deref().unwrap_or("none"));
    match wrong {
        Some(Wrong::NotSubscribed { expected: Some(tier) }) => {
            report.fault("tiers", format!("{shown}, and subscribes to {tier}"), REPAIR);
        }
        Some(Wrong::NotSubscribed { expected: None }) => {
            report.fault("tiers", format!("{shown}, and no subscription pays for it"), REPAIR);
        }
        Some(Wrong::NotGiven { given }) => {
            report.fault("tiers", format!("{shown}, and usage is counted by {given}"), REPAIR);
        }
        Some(Wrong::Unknown { tier }) => {
            report.fault("tiers", format!("{}: the catalogue has no tier {tier}", row.user.id), CATALOGUE);
        }
        Some(Wrong::Undated) => {
            report.fault("tiers", format!("{}: users.created_at does not say when the trial began", row.user.id), DATE);
        }
        Some(Wrong::OtherTrial) => {
            report.fault("tiers", format!("{}: usage is counted by another end of the trial", row.user.id), REPAIR);
        }
        Some(Wrong::Unpaid) => {
            report.warn("tiers", format!("{shown} without a subscription"), "nothing, if you have given it");
        }
        None => {}
    }
}

const REPAIR: &str = "run billhook doctor --repair";
const CATALOGUE: &str = "put the tier into the catalogue, or the user into another tier: until then nothing is allowed";
const DATE: &str =
    "write YYYY-MM-DD HH:MM:SS (UTC) there, then run billhook doctor --repair: until then nothing is allowed";

/// Makes every row show the tier that its user subscribes to, and the log count by the tier and the trial that a row gives.
pub async fn repair(app: &App) -> Result<()> {
    let mut after = String::new();
    loop {
        let (program, from, now) = (app.clone(), after, app.clock.now());
        let last = app
            .db
            .write(move |tx| {
                let rows = users::shown(tx, &from, BATCH)?;
                rows.iter().try_for_each(|row| mend(tx, &program, row, now))?;
                Ok(rows.last().map(|row| row.user.id.clone()))
            })
            .await?;
        let Some(last) = last else { return plans::follow(app).await };
        after = last;
    }
}

fn mend(tx: &mut Tx<'_>, app: &App, row: &Shown, now: Timestamp) -> Result<()> {
    match examined(tx, app, row)? {
        Some(Wrong::NotSubscribed { .. }) => {
            plans::show_tier(tx, &app.catalogue, &row.user, now)?;
            store::plans::mark_user(tx, &row.user.id)
        }
        // Whose tier it is, and since when, is said by the row: the log follows it.
        Some(Wrong::NotGiven { .. } | Wrong::OtherTrial) => store::plans::mark_user(tx, &row.user.id),
        Some(Wrong::Unknown { .. } | Wrong::Undated | Wrong::Unpaid) | None => Ok(()),
    }
}

fn examined(tx: &mut Tx<'_>, app: &App, row: &Shown) -> Result<Option<Wrong>> {
    let Shown { user, shown, own } = row;
    let sold = plans::sold(tx, &app.catalogue, user)?;
    // Nobody gives them a tier that there is, also where what has changed is not followed yet.
    if sold.is_none() && own.is_none() && app.catalogue.tier(&user.tier).is_none() {
        return Ok(Some(Wrong::Unknown { tier: user.tier.clone() }));
    }
    // What has changed just now is about to be shown.
    if store::plans::is_marked(tx, &user.id)? {
        return Ok(None);
    }
    if own.is_some() != sold.is_some() || sold.is_some() && sold != *shown {
        return Ok(Some(Wrong::NotSubscribed { expected: sold }));
    }
    if sold.is_some() {
        return Ok(None);
    }
    if plans::is_undated(&app.catalogue, user) {
        return Ok(Some(Wrong::Undated));
    }
    let slot = app.book.get(&user.id).map_or_else(|| following::written(tx, &user.id), |slot| Ok(Some(slot)))?;
    let given = slot.map(|slot| slot.lock().account.terms().clone());
    Ok(match given {
        Some(given) if given.tier != user.tier => Some(Wrong::NotGiven { given: given.tier }),
        Some(given) => {
            let terms = plans::terms(tx, &app.catalogue, user, app.clock.now())?;
            (given.ends_ms != terms.ends_ms).then_some(Wrong::OtherTrial)
        }
        // Without Stripe nobody pays for anything here.
        None if app.stripe.is_none() => None,
        None => app.catalogue.tier(&user.tier).filter(|tier| tier.price.minor() > 0).map(|_| Wrong::Unpaid),
    })
}
