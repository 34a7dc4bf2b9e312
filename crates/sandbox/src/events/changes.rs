//! Which events a change is: a pure question of what stood there before and what stands there now.

use crate::kind::Kind;
use crate::store::Change;
use serde_json::Value;
use std::sync::Arc;

/// An event that is to be written.
pub(crate) struct Said {
    pub(crate) name: &'static str,
    pub(crate) object: Arc<Value>,
    /// Only where previous attributes are told.
    pub(crate) before: Option<Arc<Value>>,
}

/// What is said of one change, in order.
pub(crate) fn said(change: &Change) -> Vec<Said> {
    match change {
        Change::Tell { name, object } => vec![Said { name, object: Arc::clone(object), before: None }],
        Change::Drop { kind, before, .. } => {
            let say = |name: &&'static str| Said { name, object: Arc::clone(before), before: None };
            removed(*kind, before).iter().map(say).collect()
        }
        Change::Put { kind, object, before: None, .. } => {
            let say = |name| Said { name, object: Arc::clone(object), before: None };
            created(*kind, object).into_iter().map(say).collect()
        }
        Change::Put { kind, object, before: Some(before), .. } if before != object => {
            let say = |name: &'static str| Said {
                name,
                object: Arc::clone(object),
                before: tells_previous(name).then(|| Arc::clone(before)),
            };
            changed(*kind, before, object).into_iter().map(say).collect()
        }
        Change::Put { .. } => Vec::new(),
    }
}

fn tells_previous(name: &str) -> bool {
    [".updated", ".advancing", "charge.refunded", "payment_method.detached"].iter().any(|end| name.ends_with(end))
}

fn created(kind: Kind, object: &Value) -> Vec<&'static str> {
    match kind {
        Kind::Customer => vec!["customer.created"],
        Kind::Product => vec!["product.created"],
        Kind::Price if object["type"] == "recurring" => vec!["plan.created", "price.created"],
        Kind::Price => vec!["price.created"],
        Kind::Coupon => vec!["coupon.created"],
        Kind::PromotionCode => vec!["promotion_code.created"],
        Kind::Discount => vec!["customer.discount.created"],
        Kind::SubscriptionSchedule => vec!["subscription_schedule.created"],
        Kind::Subscription => vec!["customer.subscription.created"],
        Kind::Invoice => vec!["invoice.created"],
        Kind::InvoiceItem => vec!["invoiceitem.created"],
        Kind::InvoicePayment if object["status"] == "paid" => vec!["invoice_payment.paid"],
        Kind::Charge => charge_now(object),
        Kind::Refund => vec!["refund.created"],
        Kind::CreditNote => vec!["credit_note.created"],
        Kind::Dispute => vec!["charge.dispute.created"],
        Kind::PaymentMethod if object["customer"].is_string() => vec!["payment_method.attached"],
        Kind::PaymentIntent => {
            let mut names = vec!["payment_intent.created"];
            names.extend(intent_now(object));
            names
        }
        Kind::SetupIntent => {
            let mut names = vec!["setup_intent.created"];
            names.extend(setup_now(object));
            names
        }
        Kind::PortalSession => vec!["billing_portal.session.created"],
        Kind::PortalConfiguration => vec!["billing_portal.configuration.created"],
        Kind::Meter => vec!["billing.meter.created"],
        Kind::TaxId => vec!["customer.tax_id.created"],
        Kind::TaxRate => vec!["tax_rate.created"],
        Kind::TestClock => vec!["test_helpers.test_clock.created"],
        Kind::IssuingTransaction if object["purchase_details"].is_object() => {
            vec!["issuing_transaction.created", "issuing_transaction.purchase_details_receipt_updated"]
        }
        other => plain(other).map(|(created, _)| created).into_iter().collect(),
    }
}

fn removed(kind: Kind, before: &Value) -> &'static [&'static str] {
    match kind {
        Kind::Customer => &["customer.deleted"],
        Kind::Product => &["product.deleted"],
        Kind::Price if before["type"] == "recurring" => &["plan.deleted", "price.deleted"],
        Kind::Price => &["price.deleted"],
        Kind::Coupon => &["coupon.deleted"],
        Kind::Invoice => &["invoice.deleted"],
        Kind::InvoiceItem => &["invoiceitem.deleted"],
        Kind::TaxId => &["customer.tax_id.deleted"],
        Kind::TestClock => &["test_helpers.test_clock.deleted"],
        Kind::Source => &["customer.source.deleted"],
        _ => &[],
    }
}

fn changed(kind: Kind, before: &Value, after: &Value) -> Vec<&'static str> {
    let became = |name: &str, value: &str| before[name] != value && after[name] == value;
    match kind {
        Kind::Customer => vec!["customer.updated"],
        Kind::Product => vec!["product.updated"],
        Kind::Price if after["type"] == "recurring" => vec!["plan.updated", "price.updated"],
        Kind::Price => vec!["price.updated"],
        Kind::Coupon => vec!["coupon.updated"],
        Kind::PromotionCode => vec!["promotion_code.updated"],
        Kind::Discount => vec!["customer.discount.updated"],
        Kind::SubscriptionSchedule => schedule(before, after),
        Kind::Subscription if became("status", "canceled") => vec!["customer.subscription.deleted"],
        Kind::Subscription if became("status", "paused") => {
            vec!["customer.subscription.updated", "customer.subscription.paused"]
        }
        Kind::Subscription if before["status"] == "paused" && after["status"] != "paused" => {
            vec!["customer.subscription.updated", "customer.subscription.resumed"]
        }
        Kind::Subscription => vec!["customer.subscription.updated"],
        Kind::Invoice => invoice(before, after),
        Kind::InvoicePayment if became("status", "paid") => vec!["invoice_payment.paid"],
        Kind::Charge => charge(before, after),
        Kind::Refund if became("status", "failed") => vec!["refund.failed", "refund.updated", "charge.refund.updated"],
        Kind::Refund => vec!["refund.updated", "charge.refund.updated"],
        Kind::CreditNote if became("status", "void") => vec!["credit_note.voided"],
        Kind::CreditNote => vec!["credit_note.updated"],
        Kind::Dispute if ["won", "lost", "warning_closed"].iter().any(|end| became("status", end)) => {
            vec!["charge.dispute.closed"]
        }
        Kind::Dispute => vec!["charge.dispute.updated"],
        Kind::PaymentMethod => payment_method(before, after),
        Kind::PaymentIntent => payment_intent(before, after),
        Kind::SetupIntent if before["status"] != after["status"] => setup_now(after).into_iter().collect(),
        Kind::CheckoutSession if became("status", "complete") => vec!["checkout.session.completed"],
        Kind::CheckoutSession if became("status", "expired") => vec!["checkout.session.expired"],
        Kind::PortalConfiguration => vec!["billing_portal.configuration.updated"],
        Kind::Meter if became("status", "inactive") => vec!["billing.meter.deactivated"],
        Kind::Meter if became("status", "active") => vec!["billing.meter.reactivated"],
        Kind::Meter => vec!["billing.meter.updated"],
        Kind::TaxRate => vec!["tax_rate.updated"],
        Kind::TestClock if became("status", "ready") => vec!["test_helpers.test_clock.ready"],
        Kind::TestClock if became("status", "advancing") => vec!["test_helpers.test_clock.advancing"],
        Kind::Account => vec!["account.updated"],
        Kind::Transfer if before["amount_reversed"] != after["amount_reversed"] => vec!["transfer.reversed"],
        other => {
            let turn = TURNS.iter().find(|(of, status, _)| *of == other && became("status", status));
            let name = turn.map(|(.., name)| *name).or(plain(other).map(|(_, updated)| updated));
            name.filter(|name| !name.is_empty()).into_iter().collect()
        }
    }
}

/// Objects of few words: what their beginning and their changes are called; empty where Stripe says nothing.
fn plain(kind: Kind) -> Option<(&'static str, &'static str)> {
    match kind {
        Kind::Authorization => Some(("issuing_authorization.created", "issuing_authorization.updated")),
        Kind::Cardholder => Some(("issuing_cardholder.created", "issuing_cardholder.updated")),
        Kind::CashTransaction => Some(("customer_cash_balance_transaction.created", "")),
        Kind::IssuingCard => Some(("issuing_card.created", "issuing_card.updated")),
        Kind::IssuingTransaction => Some(("issuing_transaction.created", "issuing_transaction.updated")),
        Kind::PaymentLink => Some(("payment_link.created", "payment_link.updated")),
        Kind::Payout => Some(("payout.created", "payout.updated")),
        Kind::Quote => Some(("quote.created", "")),
        Kind::Source => Some(("customer.source.created", "customer.source.updated")),
        Kind::Topup => Some(("topup.created", "")),
        Kind::Transfer => Some(("transfer.created", "transfer.updated")),
        Kind::VerificationSession => Some(("identity.verification_session.created", "")),
        _ => None,
    }
}

/// What it is called when one of them comes to a state.
const TURNS: &[(Kind, &str, &str)] = &[
    (Kind::Payout, "canceled", "payout.canceled"),
    (Kind::Payout, "paid", "payout.paid"),
    (Kind::Quote, "accepted", "quote.accepted"),
    (Kind::Quote, "canceled", "quote.canceled"),
    (Kind::Quote, "open", "quote.finalized"),
    (Kind::ReportRun, "succeeded", "reporting.report_run.succeeded"),
    (Kind::Topup, "canceled", "topup.canceled"),
    (Kind::Topup, "succeeded", "topup.succeeded"),
    (Kind::VerificationSession, "canceled", "identity.verification_session.canceled"),
    (Kind::VerificationSession, "redacted", "identity.verification_session.redacted"),
];

fn schedule(before: &Value, after: &Value) -> Vec<&'static str> {
    match after["status"].as_str() {
        _ if before["status"] == after["status"] => vec!["subscription_schedule.updated"],
        Some("completed") => vec!["subscription_schedule.completed"],
        Some("released") => vec!["subscription_schedule.released"],
        // Whether it was given up or cut off is said by whoever did it.
        Some("canceled") => Vec::new(),
        _ => vec!["subscription_schedule.updated"],
    }
}

fn invoice(before: &Value, after: &Value) -> Vec<&'static str> {
    let mut names = vec!["invoice.updated"];
    let status = |object: &Value| object["status"].as_str().unwrap_or_default().to_owned();
    let (was, is) = (status(before), status(after));
    if was == "draft" && is != "draft" {
        names.push("invoice.finalized");
    }
    if before["attempt_count"] != after["attempt_count"] && is == "open" {
        names.push("invoice.payment_failed");
    }
    if was != is {
        match is.as_str() {
            "paid" => names.extend(["invoice.paid", "invoice.payment_succeeded"]),
            "void" => names.push("invoice.voided"),
            "uncollectible" => names.push("invoice.marked_uncollectible"),
            _ => {}
        }
    }
    names
}

/// What the status of a charge is called.
fn charge_now(charge: &Value) -> Vec<&'static str> {
    match charge["status"].as_str() {
        Some("failed") => vec!["charge.failed"],
        Some("pending") => vec!["charge.pending"],
        _ => vec!["charge.succeeded"],
    }
}

fn charge(before: &Value, after: &Value) -> Vec<&'static str> {
    if before["status"] != after["status"] {
        return charge_now(after);
    }
    if before["amount_refunded"] != after["amount_refunded"] {
        return vec!["charge.refunded"];
    }
    if before["captured"] != true && after["captured"] == true {
        return vec!["charge.captured"];
    }
    vec!["charge.updated"]
}

fn payment_method(before: &Value, after: &Value) -> Vec<&'static str> {
    match (before["customer"].is_string(), after["customer"].is_string()) {
        (false, true) => vec!["payment_method.attached"],
        (true, false) => vec!["payment_method.detached"],
        (true, true) => vec!["payment_method.updated"],
        (false, false) => Vec::new(),
    }
}

fn payment_intent(before: &Value, after: &Value) -> Vec<&'static str> {
    let failed = after["last_payment_error"].is_object() && before["last_payment_error"] != after["last_payment_error"];
    let moved = if before["status"] == after["status"] { None } else { intent_now(after) };
    moved.or(failed.then_some("payment_intent.payment_failed")).into_iter().collect()
}

/// What the status that a payment intent has come to is called.
fn intent_now(intent: &Value) -> Option<&'static str> {
    match intent["status"].as_str()? {
        "succeeded" => Some("payment_intent.succeeded"),
        "requires_action" => Some("payment_intent.requires_action"),
        "requires_capture" => Some("payment_intent.amount_capturable_updated"),
        "canceled" => Some("payment_intent.canceled"),
        "processing" => Some("payment_intent.processing"),
        "requires_payment_method" if intent["last_payment_error"].is_object() => Some("payment_intent.payment_failed"),
        _ => None,
    }
}

fn setup_now(intent: &Value) -> Option<&'static str> {
    match intent["status"].as_str()? {
        "succeeded" => Some("setup_intent.succeeded"),
        "requires_action" => Some("setup_intent.requires_action"),
        "canceled" => Some("setup_intent.canceled"),
        "requires_payment_method" if intent["last_setup_error"].is_object() => Some("setup_intent.setup_failed"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn transitions_have_their_names() {
        for (kind, before, after, expected) in [
            (Kind::Invoice, json!({"status": "draft"}), json!({"status": "open"}), "invoice.updated invoice.finalized"),
            (
                Kind::Invoice,
                json!({"status": "draft"}),
                json!({"status": "paid"}),
                "invoice.updated invoice.finalized invoice.paid invoice.payment_succeeded",
            ),
            (
                Kind::Invoice,
                json!({"status": "open", "attempt_count": 1}),
                json!({"status": "open", "attempt_count": 2}),
                "invoice.updated invoice.payment_failed",
            ),
            (
                Kind::Invoice,
                json!({"status": "open", "attempt_count": 1}),
                json!({"status": "paid", "attempt_count": 2}),
                "invoice.updated invoice.paid invoice.payment_succeeded",
            ),
            (
                Kind::Subscription,
                json!({"status": "active"}),
                json!({"status": "canceled"}),
                "customer.subscription.deleted",
            ),
            (
                Kind::Subscription,
                json!({"status": "canceled", "metadata": {}}),
                json!({"status": "canceled", "metadata": {"a": "b"}}),
                "customer.subscription.updated",
            ),
            (
                Kind::Subscription,
                json!({"status": "paused"}),
                json!({"status": "active"}),
                "customer.subscription.updated customer.subscription.resumed",
            ),
            (Kind::PaymentMethod, json!({"customer": null}), json!({"customer": "cus_1"}), "payment_method.attached"),
            (Kind::PaymentMethod, json!({"customer": "cus_1"}), json!({"customer": null}), "payment_method.detached"),
            (
                Kind::PaymentIntent,
                json!({"status": "requires_payment_method", "last_payment_error": null}),
                json!({"status": "requires_payment_method", "last_payment_error": {"code": "card_declined"}}),
                "payment_intent.payment_failed",
            ),
            (Kind::Setting, json!({"a": 1}), json!({"a": 2}), ""),
            (Kind::Customer, json!({"a": 1}), json!({"a": 1}), ""),
        ] {
            let change =
                Change::Put { kind, key: (0, 0), object: Arc::new(after), before: Some(Arc::new(before.clone())) };
            let names: Vec<&str> = said(&change).iter().map(|said| said.name).collect();
            assert_eq!(names.join(" "), expected, "{kind:?} {before}");
        }
    }

    #[test]
    fn every_name_is_one_of_stripes() {
        let source = include_str!("changes.rs").split("mod tests").next().unwrap();
        let quoted = source.split('"').skip(1).step_by(2).filter(|text| text.contains('.') && !text.starts_with('.'));
        for name in quoted {
            assert!(crate::events::names().contains(name), "{name}");
        }
    }
}
