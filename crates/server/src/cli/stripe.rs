//! `billhook stripe …`

use clap::Subcommand;
use serde_json::json;

use super::{Ending, configured, out, visit};
use crate::ops::stripe_setup::{self, Ask, Endpoint, Outcome};

#[derive(Debug, Subcommand)]
pub(super) enum StripeRole {
    /// Make the webhook endpoint at Stripe, or find it and put it right
    #[command(after_help = SETUP_HELP)]
    Setup {
        /// Where webhooks arrive [default: /api/v1/webhooks/stripe under BILLHOOK_PUBLIC_URL]
        #[arg(long)]
        url: Option<String>,
        /// Make another endpoint with another secret beside the one that is there
        #[arg(long)]
        rotate: bool,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
}

const SETUP_HELP: &str = "Example: billhook stripe setup --url https://billing.example.com/api/v1/webhooks/stripe\n\n\
    To change the secret: billhook stripe setup --rotate, put both secrets into STRIPE_WEBHOOK_SECRET with a comma between,\n\
    restart, delete the old endpoint in Stripe's dashboard, and take its secret out again. An event that both send counts once.";

pub(super) async fn stripe(role: StripeRole) -> Result<(), Ending> {
    let StripeRole::Setup { url, rotate, json } = role;
    let app = visit(configured()?).await?;
    if app.stripe.is_none() {
        return Err(Ending::Configuration(vec![
            "STRIPE_SECRET_KEY: is not set: there is no Stripe to set up".to_owned(),
        ]));
    }
    let endpoint = stripe_setup::run(&app, Ask { url, rotate }).await?;
    if json {
        out::say(&as_json(&endpoint));
    } else {
        say(&endpoint);
    }
    for other in &endpoint.others {
        out::complain(&format!("{other} sends to the same URL: delete it once its secret is no longer needed"));
    }
    if endpoint.outcome == Outcome::OtherVersion { Err(Ending::Said) } else { Ok(()) }
}

fn say(endpoint: &Endpoint) {
    let Endpoint { id, url, version, outcome, .. } = endpoint;
    let version = version.as_deref().unwrap_or("the account's own version");
    let elsewhere = format!("its secret: Stripe's dashboard, Developers, Webhooks, {id}, signing secret");
    match outcome {
        Outcome::Created { secret } => {
            out::say(&format!("STRIPE_WEBHOOK_SECRET={secret}"));
            out::complain(&format!("created {id} for {url} in {version}"));
            out::complain("put the line above into the environment of billhook serve; Stripe does not show it again");
        }
        Outcome::Found => {
            out::say(&format!("found {id} for {url} in {version}"));
            out::complain(&elsewhere);
        }
        Outcome::Updated => {
            out::say(&format!("updated {id} for {url} in {version}"));
            out::complain(&elsewhere);
        }
        Outcome::OtherVersion => {
            out::say(&format!("differs {id} for {url} is in {version}"));
            out::complain("an endpoint's version cannot be changed: billhook stripe setup --rotate makes another");
        }
    }
}

fn as_json(endpoint: &Endpoint) -> String {
    let (word, secret) = match &endpoint.outcome {
        Outcome::Created { secret } => ("created", Some(secret)),
        Outcome::Found => ("found", None),
        Outcome::Updated => ("updated", None),
        Outcome::OtherVersion => ("differs", None),
    };
    json!({
        "outcome": word, "id": endpoint.id, "url": endpoint.url, "api_version": endpoint.version, "secret": secret,
        "others": endpoint.others,
    })
    .to_string()
}
