//! When something happens to an object by itself: a pure question of its state.

use crate::calendar::DAY;
use crate::kind::Kind;
use crate::resources::subscription_items::current_period;
use crate::resources::{disputes, plain, subscription_schedules};
use serde_json::Value;

/// How long a first payment may take.
pub(crate) const INCOMPLETE_SECONDS: i64 = 23 * 3600;

/// How long before its end a trial is announced to end.
pub(crate) const TRIAL_NOTICE: i64 = 3 * DAY;

/// How long before it is made an invoice is announced: what an account at Stripe is set to unless it asks for something else.
pub(crate) const INVOICE_NOTICE: i64 = 7 * DAY;

/// Whether objects of this kind change by themselves.
pub(crate) fn may_be(kind: Kind) -> bool {
    use Kind::{Charge, CheckoutSession, Coupon, Dispute, Invoice, PaymentIntent, PromotionCode, Subscription};
    let of_money = matches!(kind, Invoice | PaymentIntent | Charge | Dispute) || plain::may_end(kind);
    of_money || matches!(kind, Kind::SubscriptionSchedule | Subscription | Coupon | PromotionCode | CheckoutSession)
}

/// The next instant; `since` is the last one that is over, so that an announcement is not made twice.
pub(crate) fn of(kind: Kind, object: &Value, since: i64) -> Option<i64> {
    let time = |name: &str| object[name].as_i64();
    match kind {
        Kind::Subscription => subscription(object, since),
        Kind::Invoice => invoice(object, since),
        Kind::Coupon if object["valid"] == true => time("redeem_by"),
        Kind::PromotionCode if object["active"] == true => time("expires_at"),
        Kind::CheckoutSession if object["status"] == "open" => time("expires_at"),
        // What banks do they do as soon as time goes on, wherever a test clock stands.
        Kind::PaymentIntent if object["status"] == "processing" => Some(0),
        Kind::Charge if disputes::awaits(object) => Some(0),
        Kind::Dispute => disputes::due(object),
        Kind::SubscriptionSchedule => subscription_schedules::due(object, since),
        _ => plain::due(kind, object),
    }
}

fn subscription(object: &Value, since: i64) -> Option<i64> {
    let time = |name: &str| object[name].as_i64();
    match object["status"].as_str()? {
        "incomplete" => time("created").map(|created| created + INCOMPLETE_SECONDS),
        "trialing" => {
            let end = time("trial_end")?;
            let notice = Some(end - TRIAL_NOTICE).filter(|notice| *notice > since);
            [Some(renewal(object, end, since)), time("cancel_at"), notice].into_iter().flatten().min()
        }
        "active" | "past_due" | "unpaid" => {
            let resumes = object["pause_collection"]["resumes_at"].as_i64();
            let next = current_period(&object["items"]).1.map(|end| renewal(object, end, since));
            [next, time("cancel_at"), resumes].into_iter().flatten().min()
        }
        "paused" => time("cancel_at"),
        _ => None,
    }
}

/// The end of a period, or before it the announcement of what follows.
fn renewal(subscription: &Value, end: i64, since: i64) -> i64 {
    let goes_on = subscription["cancel_at"].as_i64().is_none_or(|at| at > end) && subscription["status"] != "unpaid";
    if goes_on { announced(end, since) } else { end }
}

/// When something is to be said of an invoice of this instant: first that it will come.
pub(crate) fn announced(end: i64, since: i64) -> i64 {
    Some(end - INVOICE_NOTICE).filter(|notice| *notice > since).unwrap_or(end)
}

fn invoice(object: &Value, since: i64) -> Option<i64> {
    let time = |name: &str| object[name].as_i64();
    match object["status"].as_str()? {
        "draft" if object["auto_advance"] == true => time("automatically_finalizes_at"),
        "open" => {
            let overdue = time("due_date").filter(|due| *due > since);
            time("next_payment_attempt").into_iter().chain(overdue).min()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn states_say_when() {
        let items = json!({"data": [{"current_period_start": 0, "current_period_end": 90 * DAY}]});
        let trial = json!({"status": "trialing", "trial_end": 14 * DAY, "items": items});
        let active = |more: Value| {
            let mut object = json!({"status": "active", "items": items});
            crate::resources::fill(&mut object, Some(&more));
            object
        };
        for (kind, object, since, expected) in [
            (Kind::Subscription, json!({"status": "incomplete", "created": 5}), 5, Some(5 + 23 * 3600)),
            (Kind::Subscription, trial.clone(), 0, Some(7 * DAY)),
            (Kind::Subscription, trial.clone(), 7 * DAY, Some(11 * DAY)),
            (Kind::Subscription, trial, 11 * DAY, Some(14 * DAY)),
            (Kind::Subscription, active(json!({})), 0, Some(83 * DAY)),
            (Kind::Subscription, active(json!({})), 83 * DAY, Some(90 * DAY)),
            (Kind::Subscription, active(json!({"cancel_at": 90 * DAY})), 0, Some(90 * DAY)),
            (Kind::Subscription, active(json!({"status": "unpaid"})), 0, Some(90 * DAY)),
            (Kind::Subscription, active(json!({"cancel_at": DAY})), 0, Some(DAY)),
            (Kind::Subscription, active(json!({"pause_collection": {"resumes_at": 2}})), 0, Some(2)),
            (Kind::Subscription, json!({"status": "canceled", "items": items}), 0, None),
            (
                Kind::Invoice,
                json!({"status": "draft", "auto_advance": true, "automatically_finalizes_at": 9}),
                0,
                Some(9),
            ),
            (
                Kind::Invoice,
                json!({"status": "draft", "auto_advance": false, "automatically_finalizes_at": 9}),
                0,
                None,
            ),
            (Kind::Invoice, json!({"status": "open", "next_payment_attempt": 7, "due_date": 3}), 0, Some(3)),
            (Kind::Invoice, json!({"status": "open", "next_payment_attempt": 7, "due_date": 3}), 3, Some(7)),
            (Kind::Invoice, json!({"status": "paid", "next_payment_attempt": 7}), 0, None),
            (Kind::Customer, json!({"expires_at": 7}), 0, None),
        ] {
            assert_eq!(of(kind, &object, since), expected, "{object} {since}");
        }
    }
}
