//! Report runs: asked for, and finished as soon as time goes on. The file that they name has no content here.

use super::{Answer, Call, account, changed, plain};
use crate::calendar::DAY;
use crate::error::StripeError;
use crate::kind::Kind;
use crate::params::{Field, Spec, opt, req};
use crate::world::World;
use serde_json::{Value, json};

const PARAMETERS: &[Field] = &[
    opt("columns", Spec::List(&Spec::Text)),
    opt("connected_account", Spec::Text),
    opt("currency", Spec::Text),
    opt("interval_end", Spec::Time),
    opt("interval_start", Spec::Time),
    opt("payout", Spec::Text),
    opt("reporting_category", Spec::Text),
    opt("timezone", Spec::Text),
];
pub(crate) const CREATE: &[Field] = &[req("report_type", Spec::Text), opt("parameters", Spec::Hash(PARAMETERS))];

pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let kind = call.params.need("report_type")?;
    let known = ["balance", "payout_reconciliation", "payouts", "ending_balance_reconciliation", "activity", "tax"];
    if !known.iter().any(|known| kind.split('.').next() == Some(known)) {
        let text = format!("No such reporting.report_type: '{kind}'");
        return Err(StripeError::invalid(text).code("resource_missing").param("report_type"));
    }
    let id = world.id("frr");
    let mut run = json!({
        "id": id, "object": "reporting.report_run", "created": world.now, "error": null, "livemode": false,
        "parameters": {}, "report_type": null, "result": null, "status": "pending", "succeeded_at": null
    });
    plain::write(&mut run, &call.params);
    changed(world, Kind::ReportRun, run)
}

/// The report is written.
pub(super) fn finish(world: &mut World, run: &mut Value) {
    let id = world.id("file");
    run["succeeded_at"] = json!(world.now);
    run["result"] = json!({
        "id": id, "object": "file", "created": world.now, "expires_at": world.now + 365 * DAY,
        "filename": format!("{}.csv", run["id"].as_str().unwrap_or_default()),
        "links": super::embedded(format!("/v1/file_links?file={id}"), Vec::new()),
        "purpose": "finance_report_run", "size": 0, "title": format!("FinanceReportRun {} for {}", run["id"], account::ID),
        "type": "csv", "url": format!("https://files.stripe.com/v1/files/{id}/contents")
    });
}
