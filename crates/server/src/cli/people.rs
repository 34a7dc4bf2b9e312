//! `billhook user …` and `billhook session …`

use std::time::Duration;

use clap::Subcommand;

use super::{Ending, configured, look, out, parse_duration, visit};
use crate::ops::users::merging::{self, Merged};
use crate::ops::{sessions, users};

#[derive(Debug, Subcommand)]
pub(super) enum UserRole {
    /// Add a user; prints the id
    #[command(after_help = "Example: billhook user add --email ada@example.com --name 'Ada Moreno' --customer cus_123")]
    Add {
        #[arg(long)]
        email: String,
        #[arg(long)]
        name: String,
        /// May see everybody's billing
        #[arg(long)]
        admin: bool,
        /// Tier while there is no subscription [default: trial]
        #[arg(long)]
        tier: Option<String>,
        /// The user's customer at Stripe
        #[arg(long, value_name = "cus_…")]
        customer: Option<String>,
    },
    /// List all users
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Make a user an admin, or no longer
    #[command(after_help = "Example: billhook user set-admin usr_01J… --off")]
    SetAdmin {
        id: String,
        /// Take the role away
        #[arg(long)]
        off: bool,
    },
    /// Link a user to a Stripe customer
    #[command(after_help = "Example: billhook user link-customer usr_01J… cus_123")]
    LinkCustomer { id: String, customer: String },
    /// Make one user of two who are the same person: the first is disabled, and what they have used in the running credit period, what
    /// is left of their packs, and their customer at Stripe go to the second
    #[command(
        after_help = "Example: billhook user merge usr_01J… usr_01K… --dry-run\nSums over both stay what they were, by type and by day. Credit periods that are closed stay where they were billed. What is still recorded for the first counts there: the same again moves that too."
    )]
    Merge {
        from: String,
        into: String,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Stop a user's sessions at once, every later one, and whatever a service asks to let through for them; what they have used still
    /// counts
    Disable { id: String },
    /// Let a disabled user in again
    Enable { id: String },
}

#[derive(Debug, Subcommand)]
pub(super) enum SessionRole {
    /// Issue a session; prints the token, which is kept nowhere else
    #[command(after_help = "Example: billhook session issue --user usr_01J… --ttl 24h")]
    Issue {
        /// The user's id
        #[arg(long)]
        user: String,
        /// How long the session lasts (90s, 30m, 24h, 7d)
        #[arg(long, default_value = "24h", value_parser = parse_duration)]
        ttl: Duration,
    },
    /// End one session, or all of a user
    #[command(
        after_help = "Example: billhook session revoke --user usr_01J…\n         echo $TOKEN | billhook session revoke -"
    )]
    Revoke {
        /// The token, or - to read it from standard input
        #[arg(required_unless_present = "user", conflicts_with = "user")]
        token: Option<String>,
        /// End every session of this user
        #[arg(long)]
        user: Option<String>,
    },
}

pub(super) async fn user(role: UserRole) -> Result<(), Ending> {
    let config = configured()?;
    let app = if matches!(role, UserRole::List { .. }) { look(config).await? } else { visit(config).await? };
    match role {
        UserRole::Add { email, name, admin, tier, customer } => {
            let id = users::add(&app, users::Add { email, name, tier, customer, admin }).await?;
            out::say(&id);
        }
        UserRole::List { json } => list(&app, json).await?,
        UserRole::SetAdmin { id, off } => users::set_admin(&app, &id, !off).await?,
        UserRole::LinkCustomer { id, customer } => users::link(&app, &id, &customer).await?,
        UserRole::Merge { from, into, dry_run } => merge(&app, &from, &into, dry_run).await?,
        UserRole::Disable { id } => users::set_disabled(&app, &id, true).await?,
        UserRole::Enable { id } => users::set_disabled(&app, &id, false).await?,
    }
    Ok(())
}

async fn merge(app: &crate::app::App, from: &str, into: &str, preview: bool) -> Result<(), Ending> {
    let Merged { moved, customer } = merging::merge(app, from, into, preview).await?;
    let done = if preview { "would move" } else { "moved" };
    for (event_type, quantity) in &moved.used {
        out::say(&format!("{done} {quantity} {event_type} from {from} to {into}"));
    }
    for kept in &moved.packs {
        out::say(&format!("{done} {} credits of the pack {} to {into}", kept.left, kept.pack.id));
    }
    if moved.made_up > billing::usage::Credits::ZERO {
        let text = format!(
            "{done} it with {} credits of their own, so that nothing is to be paid that was not before",
            moved.made_up
        );
        out::say(&text);
    }
    if let Some(customer) = customer {
        out::say(&format!("{done} the customer {customer} to {into}"));
    }
    out::say(&format!("{from} {} disabled", if preview { "would be" } else { "is" }));
    Ok(())
}

async fn list(app: &crate::app::App, json: bool) -> Result<(), Ending> {
    let mut after = String::new();
    loop {
        let page = users::list(app, &after, 500).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after.clone_from(&last.id);
        for user in &page {
            out::say(&if json {
                serde_json::json!({
                    "id": user.id, "email": user.email, "name": user.name, "tier": user.tier,
                    "stripe_customer_id": user.customer, "is_admin": user.admin, "disabled": user.disabled,
                })
                .to_string()
            } else {
                let role = if user.admin { "admin" } else { "user" };
                let state = if user.disabled { "disabled" } else { "enabled" };
                format!("{}  {role}  {state}  {}  {}", user.id, user.customer.as_deref().unwrap_or("-"), user.email)
            });
        }
    }
}

pub(super) async fn session(role: SessionRole) -> Result<(), Ending> {
    let app = visit(configured()?).await?;
    match role {
        SessionRole::Issue { user, ttl } => out::say(&sessions::issue(&app, &user, ttl).await?),
        SessionRole::Revoke { user: Some(user), .. } => {
            sessions::revoke_all(&app, &user).await?;
        }
        SessionRole::Revoke { token, .. } => {
            let mut token = token.unwrap_or_default();
            if token == "-" {
                token.clear();
                std::io::stdin().read_line(&mut token)?;
            }
            if !sessions::revoke(&app, token.trim()).await? {
                return Err(Ending::Refused("there is no such session".to_owned()));
            }
        }
    }
    Ok(())
}
