//! Customers and subscriptions at Lago: there before the first event of a user, and changed with the user's tier.
//!
//! Lago takes events of subscriptions that it does not know and never bills them, and so it does with events that lie before
//! the subscription. So each subscription begins with the UTC day of its first event.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Lago, again};
use crate::app::App;
use crate::error::{Error, Result};
use crate::gateways::lago::{LagoError, Refusal, Remedy, read, segment};
use crate::store::Tx;
use crate::store::lago::{self, Identity};
use crate::store::log::DAY_MS;

/// A subscription that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    pub external_id: String,
    /// No event of it may lie before.
    pub began_ms: i64,
}

/// Why a subscription is not there.
#[derive(Debug)]
pub enum Unready {
    /// Lago refuses this user or plan; others are not concerned.
    Refused(String),
    /// Lago cannot be asked now.
    Lago(LagoError),
    Ours(Error),
}

impl From<LagoError> for Unready {
    /// Only Lago's own words about this user or plan concern nobody else. Whatever else is refused (a proxy's 400) would be
    /// refused for everybody.
    fn from(error: LagoError) -> Self {
        let refusal = match &error {
            LagoError::Refused { refusal } => Some(refusal),
            LagoError::NotFound { refusal } if error.remedy() == Remedy::Content => Some(refusal),
            _ => None,
        };
        match refusal.map(Refusal::reason).filter(|reason| !reason.is_empty()) {
            Some(reason) => Self::Refused(reason),
            None => Self::Lago(error),
        }
    }
}

impl From<Error> for Unready {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

/// Makes sure that a user has a subscription of this tier. Lago is asked once for each user and tier, and again where something
/// says that it may not be there any more: another address, or a comparison that found a difference.
///
/// `first_ms`: when the earliest event that is to be sent happened.
pub async fn subscription(app: &App, ours: &Lago, user: &str, tier: &str, first_ms: i64) -> Result<Ready, Unready> {
    let asked = user.to_owned();
    let (known, identity) =
        app.db.read(move |tx| Ok((lago::subscription(tx, &asked)?, lago::identity(tx, &asked)?))).await?;
    let external_id = identity.external_id.clone();
    let known = known.filter(|known| known.external_id == external_id);
    let is_sure = known.as_ref().is_none_or(|known| known.tier == tier && known.difference.is_none());
    let is_gone = !is_sure && !is_there(ours, &external_id).await?;
    let running = known.filter(|_| !is_gone);
    if let Some(running) = running.as_ref().filter(|running| running.tier == tier) {
        return Ok(Ready { external_id, began_ms: running.began_ms });
    }
    customer(ours, &identity).await?;
    let first_ms = if is_gone { first_ms.min(again::first(app, user).await?) } else { first_ms };
    let begin = first_ms.min(app.clock.now().as_millisecond()).div_euclid(DAY_MS) * DAY_MS;
    // The day on which a plan changes is Lago's to know: a new one begins now, a cheaper one with the next period.
    let asked_begin = if running.is_some() { None } else { Some(begin) };
    let answer = ours.gateway.post("/subscriptions", order(&external_id, tier, asked_begin)?).await?;
    let fallback = running.map_or(begin, |running| running.began_ms);
    let began_ms = began(&answer, asked_begin).unwrap_or(fallback);
    let (user, saved, tier) = (user.to_owned(), external_id.clone(), tier.to_owned());
    let save = move |tx: &mut Tx<'_>| {
        if is_gone {
            lago::forget_subscription(tx, &user)?;
        }
        lago::save_subscription(tx, &user, &saved, &tier, began_ms)?;
        if is_gone && !again::is_on_its_way(tx, &user)? {
            lago::save_made_again(tx, &user)?;
        }
        Ok(())
    };
    app.db.write(save).await?;
    Ok(Ready { external_id, began_ms })
}

/// Whether a subscription runs at Lago, and is of the customer of that name.
async fn is_there(ours: &Lago, external_id: &str) -> Result<bool, LagoError> {
    let found = ours.gateway.find(&format!("/subscriptions/{}", segment(external_id))).await?;
    let is_own = |found: &Value| read::subscription(found).customer.is_none_or(|customer| customer == external_id);
    let is_there = found.as_ref().is_some_and(is_own);
    if !is_there {
        tracing::warn!(lago.subscription = external_id, "Lago has lost a subscription: it is made again");
    }
    Ok(is_there)
}

/// An upsert: only what is sent is changed. An address that Lago finds fault with is left out rather than usage lost.
async fn customer(ours: &Lago, identity: &Identity) -> Result<(), LagoError> {
    let name = identity.name.as_deref().filter(|name| !name.is_empty());
    let mut body = json!({ "external_id": identity.external_id });
    if let Some(name) = name {
        body["name"] = name.into();
    }
    let plain = body.clone();
    if let Some(email) = identity.email.as_deref().filter(|email| !email.is_empty()) {
        body["email"] = email.into();
    }
    let send = async |body: Value| ours.gateway.post("/customers", json!({ "customer": body }).to_string()).await;
    match send(body).await {
        Err(LagoError::Refused { refusal }) if refusal.members.iter().any(|(member, _)| member == "email") => {
            send(plain).await.map(drop)
        }
        sent => sent.map(drop),
    }
}

fn order(external_id: &str, tier: &str, begin_ms: Option<i64>) -> Result<String> {
    let mut body = json!({
        "external_customer_id": external_id,
        "external_id": external_id,
        "plan_code": tier,
        "billing_time": "calendar",
    });
    if let Some(begin_ms) = begin_ms {
        let begin = Timestamp::from_millisecond(begin_ms).map_err(Error::internal)?;
        body["subscription_at"] = billing::time::wire(begin).into();
    }
    Ok(json!({ "subscription": body }).to_string())
}

/// The first millisecond of the subscription. Lago knows it to the millisecond and shows whole seconds, so that an event of the
/// same second may lie before it and would not be billed: where we did not choose the instant, it is the second after.
fn began(answer: &Value, asked_ms: Option<i64>) -> Option<i64> {
    let began = read::subscription(answer).began?;
    let shown_ms = began.at.as_millisecond();
    Some(if began.exact || Some(shown_ms) == asked_ms { shown_ms } else { shown_ms.saturating_add(1000) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_event_lies_in_the_second_in_which_a_subscription_began() {
        let asked = 1_763_769_600_000; // 2025-11-22T00:00:00Z
        for (shown, asked_ms, began_ms) in [
            ("2025-11-22T00:00:00Z", Some(asked), Some(asked)),
            ("2025-11-22T00:00:00Z", None, Some(asked + 1_000)),
            ("2025-11-22T10:00:00Z", Some(asked), Some(asked + 36_001_000)),
            ("2025-11-22T10:00:00.456Z", Some(asked), Some(asked + 36_000_456)),
            ("soon", Some(asked), None),
        ] {
            let answer = json!({ "subscription": { "started_at": shown } });
            assert_eq!(began(&answer, asked_ms), began_ms, "{shown}");
        }
    }
}
