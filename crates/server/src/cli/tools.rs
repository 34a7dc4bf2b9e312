//! Small roles: sync, migrate, openapi, config.

use super::progress::ProgressLine;
use super::{Ending, configured, out, visit};
use crate::app::BuildError;
use crate::config::{Environment, Process, VARIABLES};
use crate::ops::usage::plans;
use crate::store::{Db, migrations, users};

/// `billhook sync`
pub(super) async fn sync(json: bool) -> Result<(), Ending> {
    let app = visit(configured()?).await?;
    if app.stripe.is_none() {
        return Err(Ending::Configuration(vec![
            "STRIPE_SECRET_KEY: is not set: there is nothing to sync with".to_owned(),
        ]));
    }
    let line = ProgressLine::new();
    let outcome = crate::ops::sync::full(&app, &|progress| line.show(progress)).await;
    line.end();
    let outcome = outcome?;
    for (list, fault) in &outcome.faults {
        out::complain(&format!("{list}: {fault}"));
    }
    out::say(&if json {
        serde_json::json!({
            "objects": outcome.objects,
            "deleted": outcome.deleted,
            "faults": outcome.faults.iter().map(|(list, fault)| serde_json::json!({ "list": list, "fault": fault })).collect::<Vec<_>>(),
        })
        .to_string()
    } else {
        format!("{} objects read, {} no longer there", outcome.objects, outcome.deleted)
    });
    if outcome.incomplete { Err(Ending::Said) } else { Ok(()) }
}

/// `billhook migrate`
pub(super) async fn migrate() -> Result<(), Ending> {
    let config = configured()?;
    let address = config.database_url.clone();
    let opened = tokio::task::spawn_blocking(move || Db::open(secrecy::ExposeSecret::expose_secret(&address))).await;
    let db = opened
        .map_err(|error| Ending::Refused(error.to_string()))?
        .map_err(|error| Ending::from(BuildError::Database(error)))?;
    let report = migrations::run(&db).await.map_err(BuildError::Schema)?;
    if report.applied.is_empty() {
        out::say("up to date");
    }
    for step in report.applied {
        out::say(&format!("applied {step}"));
    }
    if let Some(count) = report.adopted_users {
        out::say(&format!("adopted {count} users"));
        let catalogue = config.catalogue;
        let (unknown, tiers) = db.read(move |tx| plans::unknown(tx, &catalogue)).await?;
        if unknown > 0 {
            let tiers = tiers.join(", ");
            out::complain(&format!(
                "{unknown} users are in tiers that the catalogue does not have ({tiers}): nothing is allowed to them"
            ));
        }
    }
    for (user, _) in db.read(users::unusable_links).await? {
        out::complain(&format!("user {user}: stripe_customer_id holds no customer id (cus_…) and is ignored"));
    }
    Ok(())
}

/// `billhook openapi`
pub(super) fn openapi() -> Result<(), Ending> {
    let text = serde_json::to_string_pretty(&crate::http::openapi::document())
        .map_err(|error| Ending::Refused(error.to_string()))?;
    out::say(&text);
    Ok(())
}

/// Variables whose value is never shown.
const SECRETS: [&str; 6] =
    ["STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "LAGO_API_KEY", "LAGO_WEBHOOK_SECRET", "REDIS_URL", "DATABASE_URL"];

/// `billhook config`
pub(super) fn config(json: bool) -> Result<(), Ending> {
    for variable in VARIABLES {
        let file = format!("{}_FILE", variable.name);
        let (value, source) = match (Process.get(variable.name), Process.get(&file)) {
            (Some(value), _) => (value, "environment"),
            (None, Some(path)) => (path, "file"),
            (None, None) => (variable.default.to_owned(), "default"),
        };
        let masked = SECRETS.contains(&variable.name) && source == "environment";
        let shown = if masked { "[set]".to_owned() } else { value };
        out::say(&if json {
            serde_json::json!({ "name": variable.name, "value": shown, "source": source, "meaning": variable.meaning })
                .to_string()
        } else {
            let shown = if shown.is_empty() { "-" } else { &shown };
            format!("{:24} {shown:28} {source:12} {}", variable.name, variable.meaning)
        });
    }
    configured().map(|_| ())
}
