//! What an event is about, and whether it is for us at all (S-45).

use jiff::Timestamp;
use secrecy::ExposeSecret;

use crate::config::Config;
use crate::gateways::stripe::read;
use crate::store::mirror::Resource;
use crate::store::webhooks::{Event, Source, State, Target};

/// Families of Stripe's events of which nothing is mirrored. An event of no known family may be news that we do not
/// understand, so it is kept where somebody sees it.
const FAMILIES: &[&str] = &[
    "account",
    "application_fee",
    "balance",
    "balance_settings",
    "billing",
    "billing_portal",
    "capability",
    "cash_balance",
    "charge",
    "checkout",
    "climate",
    "coupon",
    "credit_note",
    "customer",
    "customer_cash_balance_transaction",
    "entitlements",
    "file",
    "financial_connections",
    "identity",
    "invoice",
    "invoice_payment",
    "invoiceitem",
    "issuing_authorization",
    "issuing_card",
    "issuing_cardholder",
    "issuing_dispute",
    "issuing_personalization_design",
    "issuing_token",
    "issuing_transaction",
    "mandate",
    "payment_intent",
    "payment_link",
    "payment_method",
    "payment_record",
    "payout",
    "person",
    "plan",
    "price",
    "product",
    "promotion_code",
    "quote",
    "radar",
    "refund",
    "reporting",
    "review",
    "setup_intent",
    "sigma",
    "source",
    "subscription_schedule",
    "tax",
    "tax_rate",
    "terminal",
    "test_helpers",
    "topup",
    "transfer",
    "treasury",
];

/// The event as it is kept: waiting for its object to be looked at, or not to be applied, with the reason.
pub fn judged(config: &Config, event: &read::Event, source: Source, now: Timestamp) -> Event {
    let now_ms = now.as_millisecond();
    let waiting = State::Waiting { attempts: 0, next_ms: now_ms, reason: None };
    let (target, state) = match (aim(event), objection(config, event, source)) {
        (Aim::Object(target), None) => (Some(target), waiting),
        (Aim::Object(target), Some(reason)) => (Some(target), State::Quarantined { reason }),
        (Aim::Nothing, None) => {
            (None, State::Applied { at_ms: now_ms, note: Some("nothing of it is mirrored".to_owned()) })
        }
        (Aim::Nothing, Some(reason)) => (None, State::Quarantined { reason }),
        (Aim::Unknown, reason) => {
            let reason = reason.unwrap_or_else(|| "a type of event that this version does not know".to_owned());
            (None, State::Quarantined { reason })
        }
    };
    Event {
        id: event.id.clone(),
        kind: event.kind.clone().unwrap_or_default(),
        target,
        created: event.created.map_or(0, Timestamp::as_second),
        api_version: event.api_version.clone(),
        livemode: event.livemode,
        account: event.account.clone(),
        source,
        received_ms: now_ms,
        state,
    }
}

/// Why an event is not to be applied, whatever it is about.
fn objection(config: &Config, event: &read::Event, source: Source) -> Option<String> {
    if event.kind.is_none() || event.created.is_none() {
        return Some("an event without a type or a time".to_owned());
    }
    if let Some(account) = &event.account {
        return Some(format!("an event of the connected account {account}"));
    }
    let stripe = config.stripe.as_ref()?;
    let live = stripe.key.expose_secret().contains("_live_");
    if event.livemode == Some(!live) {
        let [theirs, ours] = [!live, live].map(|live| if live { "live" } else { "test" });
        return Some(format!("a {theirs} event, and our key is a {ours} key"));
    }
    // Whoever reads the list of events reads it in our version, whatever the event says of its own.
    let version = event.api_version.as_deref().filter(|_| source == Source::Webhook)?;
    (!is_readable(version, &stripe.version))
        .then(|| format!("written in version {version}, and this program reads {} or older", stripe.version))
}

/// Older shapes are read, and later months of our own version only add to it.
fn is_readable(version: &str, ours: &str) -> bool {
    let (date, name) = version.split_once('.').unwrap_or((version, ""));
    let (our_date, our_name) = ours.split_once('.').unwrap_or((ours, ""));
    let is_date = date.len() == 10 && date.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    is_date && (date <= our_date || (name == our_name && !name.is_empty()))
}

enum Aim {
    Object(Target),
    Nothing,
    Unknown,
}

fn aim(event: &read::Event) -> Aim {
    let kind = event.kind.as_deref().unwrap_or_default();
    let own = event.object_id.clone();
    let found = match event.object_kind.as_deref().unwrap_or_default() {
        "coupon" => own.map(|id| (Resource::Coupons, id)),
        "product" => own.map(|id| (Resource::Products, id)),
        "price" | "plan" => own.map(|id| (Resource::Prices, id)),
        "customer" => own.map(|id| (Resource::Customers, id)),
        "subscription" => own.map(|id| (Resource::Subscriptions, id)),
        // What is only announced cannot be looked at.
        "invoice" if kind == "invoice.upcoming" => None,
        "invoice" => own.map(|id| (Resource::Invoices, id)),
        "charge" => own.map(|id| (Resource::Charges, id)),
        "refund" => own.map(|id| (Resource::Refunds, id)),
        "payment_method" => own.map(|id| (Resource::PaymentMethods, id)),
        // A card of the older kind is also a payment method, under the same id.
        "card" if kind.starts_with("customer.source.") => own.map(|id| (Resource::PaymentMethods, id)),
        // These are shown inside of what they belong to.
        "discount" => match (&event.subscription, &event.customer) {
            (Some(subscription), _) => Some((Resource::Subscriptions, subscription.clone())),
            (None, customer) => customer.clone().map(|id| (Resource::Customers, id)),
        },
        "dispute" => event.charge.clone().map(|id| (Resource::Charges, id)),
        _ => None,
    };
    match found {
        Some((resource, id)) => Aim::Object(Target { resource, id }),
        None if FAMILIES.contains(&kind.split('.').next().unwrap_or_default()) => Aim::Nothing,
        None => Aim::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::is_readable;

    #[test]
    fn s45_a_version_is_read_when_it_is_older_or_of_our_own_name() {
        let ours = "2026-09-30.endive";
        for (version, readable) in [
            ("2026-09-30.endive", true),
            ("2026-10-28.endive", true),
            ("2025-03-31.basil", true),
            ("2019-12-03", true),
            ("2027-03-31.fennel", false),
            ("2027-03-31", false),
            ("unknown", false),
            ("", false),
        ] {
            assert_eq!(is_readable(version, ours), readable, "{version}");
        }
    }
}
