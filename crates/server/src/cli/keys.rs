//! `billhook key …`

use clap::Subcommand;

use super::{Ending, configured, look, out, visit};
use crate::error::Error;
use crate::ops::keys::{self, Scope};
use crate::store::keys::ServiceKey;

#[derive(Debug, Subcommand)]
pub(super) enum KeyRole {
    /// Issue a service key; prints it, it is kept nowhere else
    #[command(after_help = "Example: billhook key issue --name gateway --scope usage:write")]
    Issue {
        /// What it is for, for your own overview
        #[arg(long)]
        name: String,
        /// What it may do; can be given more than once
        #[arg(long, required = true, value_name = "usage:write|usage:read", value_parser = scope)]
        scope: Vec<Scope>,
    },
    /// List all keys, without their text
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key; it is good for nothing from the next request on
    #[command(after_help = "Example: billhook key revoke key_01J…")]
    Revoke {
        /// The id that `key list` shows
        id: String,
    },
}

pub(super) async fn key(role: KeyRole) -> Result<(), Ending> {
    let config = configured()?;
    let app = if matches!(role, KeyRole::List { .. }) { look(config).await? } else { visit(config).await? };
    match role {
        KeyRole::Issue { name, scope } => out::say(&keys::issue(&app, &name, &scope).await?),
        KeyRole::List { json } => {
            keys::list(&app).await?.iter().for_each(|key| out::say(&if json { as_json(key) } else { as_line(key) }));
        }
        KeyRole::Revoke { id } => keys::revoke(&app, &id).await.map_err(|error| match error {
            Error::NotFound => Ending::Refused("there is no such key, or it is revoked already".to_owned()),
            other => other.into(),
        })?,
    }
    Ok(())
}

fn scope(text: &str) -> Result<Scope, String> {
    Scope::parse(text).map_err(|_| "expected usage:write or usage:read".to_owned())
}

fn as_json(key: &ServiceKey) -> String {
    serde_json::json!({
        "id": key.id, "name": key.name, "scopes": key.scopes.split(' ').collect::<Vec<_>>(),
        "created": billing::time::wire(key.created_at), "revoked": key.revoked_at.map(billing::time::wire),
    })
    .to_string()
}

fn as_line(key: &ServiceKey) -> String {
    let state = if key.revoked_at.is_some() { "revoked" } else { "valid" };
    format!("{}  {state}  {}  {}  {}", key.id, billing::time::wire(key.created_at), key.scopes, key.name)
}
