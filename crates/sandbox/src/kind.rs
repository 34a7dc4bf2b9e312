//! The kinds of object that are kept, and what each is indexed by.

use serde_json::Value;
use std::sync::Arc;

/// A kind of object with a table of its own. Plans are prices in another dress and have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Customer,
    Product,
    Price,
    Coupon,
    Discount,
    /// Before the subscription, because a phase begins before the period that is renewed at the same instant.
    SubscriptionSchedule,
    Subscription,
    Invoice,
    InvoicePayment,
    Charge,
    Refund,
    PaymentMethod,
    PaymentIntent,
    Event,
    CreditNote,
    Dispute,
    InvoiceItem,
    PromotionCode,
    CheckoutSession,
    PortalSession,
    PortalConfiguration,
    Meter,
    MeterEvent,
    SetupIntent,
    TaxId,
    TaxRate,
    TestClock,
    WebhookEndpoint,
    Account,
    CashTransaction,
    /// A card in the form that it had before payment methods.
    Source,
    Payout,
    Topup,
    Transfer,
    TransferReversal,
    Quote,
    PaymentLink,
    ReportRun,
    VerificationSession,
    Cardholder,
    IssuingCard,
    Authorization,
    IssuingTransaction,
    ShippingRate,
    /// What a webhook endpoint signs with: shown once, kept apart from the endpoint.
    Secret,
    /// The sandbox's own settings: where its clock stands, what dunning ends in.
    Setting,
}

impl Kind {
    pub(crate) const ALL: [Kind; 46] = [
        Kind::Customer,
        Kind::Product,
        Kind::Price,
        Kind::Coupon,
        Kind::Discount,
        Kind::SubscriptionSchedule,
        Kind::Subscription,
        Kind::Invoice,
        Kind::InvoicePayment,
        Kind::Charge,
        Kind::Refund,
        Kind::PaymentMethod,
        Kind::PaymentIntent,
        Kind::Event,
        Kind::CreditNote,
        Kind::Dispute,
        Kind::InvoiceItem,
        Kind::PromotionCode,
        Kind::CheckoutSession,
        Kind::PortalSession,
        Kind::PortalConfiguration,
        Kind::Meter,
        Kind::MeterEvent,
        Kind::SetupIntent,
        Kind::TaxId,
        Kind::TaxRate,
        Kind::TestClock,
        Kind::WebhookEndpoint,
        Kind::Account,
        Kind::CashTransaction,
        Kind::Source,
        Kind::Payout,
        Kind::Topup,
        Kind::Transfer,
        Kind::TransferReversal,
        Kind::Quote,
        Kind::PaymentLink,
        Kind::ReportRun,
        Kind::VerificationSession,
        Kind::Cardholder,
        Kind::IssuingCard,
        Kind::Authorization,
        Kind::IssuingTransaction,
        Kind::ShippingRate,
        Kind::Secret,
        Kind::Setting,
    ];

    /// The value of `object`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Customer => "customer",
            Kind::Product => "product",
            Kind::Price => "price",
            Kind::Coupon => "coupon",
            Kind::Discount => "discount",
            Kind::SubscriptionSchedule => "subscription_schedule",
            Kind::Subscription => "subscription",
            Kind::Invoice => "invoice",
            Kind::InvoicePayment => "invoice_payment",
            Kind::Charge => "charge",
            Kind::Refund => "refund",
            Kind::PaymentMethod => "payment_method",
            Kind::PaymentIntent => "payment_intent",
            Kind::Event => "event",
            Kind::CreditNote => "credit_note",
            Kind::Dispute => "dispute",
            Kind::InvoiceItem => "invoiceitem",
            Kind::PromotionCode => "promotion_code",
            Kind::CheckoutSession => "checkout.session",
            Kind::PortalSession => "billing_portal.session",
            Kind::PortalConfiguration => "billing_portal.configuration",
            Kind::Meter => "billing.meter",
            Kind::MeterEvent => "billing.meter_event",
            Kind::SetupIntent => "setup_intent",
            Kind::TaxId => "tax_id",
            Kind::TaxRate => "tax_rate",
            Kind::TestClock => "test_helpers.test_clock",
            Kind::WebhookEndpoint => "webhook_endpoint",
            Kind::Account => "account",
            Kind::CashTransaction => "customer_cash_balance_transaction",
            Kind::Source => "card",
            Kind::Payout => "payout",
            Kind::Topup => "topup",
            Kind::Transfer => "transfer",
            Kind::TransferReversal => "transfer_reversal",
            Kind::Quote => "quote",
            Kind::PaymentLink => "payment_link",
            Kind::ReportRun => "reporting.report_run",
            Kind::VerificationSession => "identity.verification_session",
            Kind::Cardholder => "issuing.cardholder",
            Kind::IssuingCard => "issuing.card",
            Kind::Authorization => "issuing.authorization",
            Kind::IssuingTransaction => "issuing.transaction",
            Kind::ShippingRate => "shipping_rate",
            Kind::Secret => "_secret",
            Kind::Setting => "_setting",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// How Stripe calls it in "No such ...".
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Kind::PaymentMethod => "PaymentMethod",
            Kind::PromotionCode => "promotion code",
            Kind::CheckoutSession => "checkout.session",
            Kind::Meter => "meter",
            Kind::SubscriptionSchedule => "subscription schedule",
            Kind::SetupIntent => "setupintent",
            Kind::TaxId => "tax id",
            Kind::TaxRate => "tax rate",
            Kind::TestClock => "test clock",
            Kind::WebhookEndpoint => "webhook endpoint",
            Kind::Source => "source",
            Kind::PaymentLink => "payment link",
            Kind::ReportRun => "report run",
            Kind::VerificationSession => "verification session",
            Kind::Cardholder => "cardholder",
            Kind::IssuingCard => "issuing card",
            Kind::Authorization => "authorization",
            Kind::IssuingTransaction => "issuing transaction",
            Kind::ShippingRate => "shipping rate",
            other => other.name(),
        }
    }

    /// The parameter that Stripe blames when the id in the URL is unknown.
    pub(crate) fn id_param(self) -> &'static str {
        match self {
            Kind::Price => "price",
            Kind::Coupon => "coupon",
            Kind::Invoice => "invoice",
            Kind::InvoicePayment => "invoice_payment",
            Kind::PaymentMethod => "payment_method",
            Kind::PaymentIntent | Kind::SetupIntent => "intent",
            Kind::InvoiceItem => "invoiceitem",
            Kind::CheckoutSession | Kind::VerificationSession => "session",
            Kind::PromotionCode => "promotion_code",
            Kind::WebhookEndpoint => "webhook_endpoint",
            Kind::Dispute => "dispute",
            Kind::SubscriptionSchedule => "schedule",
            Kind::TaxRate => "tax_rate",
            Kind::Account => "account",
            Kind::Source => "source",
            Kind::Payout => "payout",
            Kind::Topup => "topup",
            Kind::Transfer => "transfer",
            Kind::Quote => "quote",
            Kind::PaymentLink => "payment_link",
            Kind::ReportRun => "report_run",
            Kind::Cardholder => "cardholder",
            Kind::IssuingCard => "card",
            Kind::Authorization => "authorization",
            Kind::IssuingTransaction => "transaction",
            Kind::ShippingRate => "shipping_rate_token",
            _ => "id",
        }
    }
}

/// What a list can be narrowed by without looking at every object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Index {
    Customer,
    Email,
    Status,
    /// Everything but canceled subscriptions: what Stripe lists by default.
    Live,
    /// Canceled and expired subscriptions.
    Ended,
    Price,
    Product,
    Active,
    Type,
    Currency,
    LookupKey,
    Item,
    Subscription,
    Invoice,
    PaymentIntent,
    Charge,
    Coupon,
    Code,
    Clock,
    /// Invoice items that no invoice has taken up yet.
    Pending,
    EventName,
}

/// One entry of an index.
pub(crate) type Entry = (Index, Arc<str>);

/// The index entries of an object.
pub(crate) fn entries(kind: Kind, object: &Value) -> Vec<Entry> {
    let mut out = Vec::with_capacity(4);
    let mut add = |index: Index, value: &Value| {
        if let Some(text) = value.as_str() {
            out.push((index, Arc::from(text)));
        }
    };
    match kind {
        Kind::Customer => {
            add(Index::Email, &object["email"]);
            add(Index::Clock, &object["test_clock"]);
        }
        Kind::Price => {
            add(Index::Product, &object["product"]);
            add(Index::Type, &object["type"]);
            add(Index::Currency, &object["currency"]);
            add(Index::LookupKey, &object["lookup_key"]);
        }
        Kind::Subscription => {
            add(Index::Customer, &object["customer"]);
            add(Index::Status, &object["status"]);
            add(Index::Clock, &object["test_clock"]);
            for item in object["items"]["data"].as_array().into_iter().flatten() {
                add(Index::Item, &item["id"]);
                add(Index::Price, &item["price"]["id"]);
            }
        }
        Kind::Invoice => {
            add(Index::Customer, &object["customer"]);
            add(Index::Subscription, &object["parent"]["subscription_details"]["subscription"]);
            add(Index::Status, &object["status"]);
        }
        Kind::InvoicePayment => {
            add(Index::Invoice, &object["invoice"]);
            add(Index::PaymentIntent, &object["payment"]["payment_intent"]);
            add(Index::Charge, &object["payment"]["charge"]);
            add(Index::Status, &object["status"]);
        }
        Kind::Charge => {
            add(Index::Customer, &object["customer"]);
            add(Index::PaymentIntent, &object["payment_intent"]);
        }
        Kind::Refund | Kind::Dispute => {
            add(Index::Charge, &object["charge"]);
            add(Index::PaymentIntent, &object["payment_intent"]);
        }
        Kind::PaymentMethod => {
            add(Index::Customer, &object["customer"]);
            add(Index::Type, &object["type"]);
        }
        Kind::PaymentIntent => add(Index::Customer, &object["customer"]),
        other => add_rarer(other, object, &mut add),
    }
    flags(kind, object, &mut out);
    out
}

fn add_rarer(kind: Kind, object: &Value, add: &mut dyn FnMut(Index, &Value)) {
    match kind {
        Kind::InvoiceItem => {
            add(Index::Customer, &object["customer"]);
            add(Index::Invoice, &object["invoice"]);
            if object["invoice"].is_null() {
                add(Index::Pending, &object["customer"]);
            }
        }
        Kind::CreditNote => {
            add(Index::Invoice, &object["invoice"]);
            add(Index::Customer, &object["customer"]);
        }
        Kind::PromotionCode => {
            add(Index::Coupon, &object["promotion"]["coupon"]);
            add(Index::Code, &object["code"]);
            add(Index::Customer, &object["customer"]);
        }
        Kind::CheckoutSession => {
            add(Index::Customer, &object["customer"]);
            add(Index::Status, &object["status"]);
            add(Index::Subscription, &object["subscription"]);
            add(Index::PaymentIntent, &object["payment_intent"]);
        }
        Kind::SetupIntent
        | Kind::PortalSession
        | Kind::SubscriptionSchedule
        | Kind::TaxId
        | Kind::Source
        | Kind::CashTransaction => {
            add(Index::Customer, &object["customer"]);
        }
        Kind::Meter => {
            add(Index::Status, &object["status"]);
            add(Index::EventName, &object["event_name"]);
        }
        Kind::MeterEvent => {
            add(Index::EventName, &object["event_name"]);
            add(Index::Customer, &object["payload"]["stripe_customer_id"]);
        }
        _ => {}
    }
}

fn flags(kind: Kind, object: &Value, out: &mut Vec<Entry>) {
    let yes = || Arc::from("true");
    let flag = |name: &str| Arc::from(if object[name] == true { "true" } else { "false" });
    match kind {
        Kind::Product | Kind::Price | Kind::PromotionCode => out.push((Index::Active, flag("active"))),
        Kind::TaxRate => out.extend([(Index::Active, flag("active")), (Index::Type, flag("inclusive"))]),
        Kind::Subscription => {
            if object["status"] != "canceled" {
                out.push((Index::Live, yes()));
            }
            if object["status"] == "canceled" || object["status"] == "incomplete_expired" {
                out.push((Index::Ended, yes()));
            }
        }
        _ => {}
    }
}
