//! `expand[]`: ids become objects, and members that are left out by default appear.
//!
//! A path is checked against what can be expanded before anything is done, so that a wrong one has no effects.

use crate::error::StripeError;
use crate::kind::{Index, Kind};
use crate::resources::{cash_balances, checkout_rows};
use crate::shape::{first_ten, refunds, reshape};
use crate::store::Store;
use crate::version::{BASIL, CLOVER, Version};
use serde_json::{Value, json};

/// What stands at the end of a path.
#[derive(Debug, Clone, Copy)]
enum To {
    /// The id of an object, or a list of ids.
    Id(Kind),
    /// The id of something that this sandbox never has: always null.
    Null,
    /// An object that is always whole.
    Whole(&'static str),
    /// A list object.
    List(&'static str),
    /// Something that appears only when asked for; its elements, if it is a list.
    Hidden(Option<&'static str>),
}

type Edge = (&'static str, To);

const CUSTOMER: &[Edge] = &[
    ("cash_balance", To::Hidden(None)),
    ("default_source", To::Id(Kind::Source)),
    ("discount", To::Whole("discount")),
    ("invoice_credit_balance", To::Hidden(None)),
    ("invoice_settings.default_payment_method", To::Id(Kind::PaymentMethod)),
    ("sources", To::Hidden(Some("source"))),
    ("subscriptions", To::Hidden(Some("subscription"))),
    ("tax", To::Hidden(None)),
    ("tax_ids", To::Hidden(Some("tax_id"))),
    ("test_clock", To::Id(Kind::TestClock)),
];
const PRODUCT: &[Edge] = &[("default_price", To::Id(Kind::Price)), ("tax_code", To::Null)];
const PRICE: &[Edge] =
    &[("currency_options", To::Hidden(None)), ("product", To::Id(Kind::Product)), ("tiers", To::Hidden(None))];
const PLAN: &[Edge] = &[("product", To::Id(Kind::Product)), ("tiers", To::Hidden(None))];
const COUPON: &[Edge] = &[("applies_to", To::Hidden(None)), ("currency_options", To::Hidden(None))];
const DISCOUNT: &[Edge] = &[
    ("customer", To::Id(Kind::Customer)),
    ("promotion_code", To::Id(Kind::PromotionCode)),
    ("source.coupon", To::Id(Kind::Coupon)),
];
const SUBSCRIPTION: &[Edge] = &[
    ("application", To::Null),
    ("customer", To::Id(Kind::Customer)),
    ("default_payment_method", To::Id(Kind::PaymentMethod)),
    ("default_source", To::Null),
    ("default_tax_rates", To::Null),
    ("discounts", To::Id(Kind::Discount)),
    ("items", To::List("subscription_item")),
    ("latest_invoice", To::Id(Kind::Invoice)),
    ("on_behalf_of", To::Null),
    ("pending_setup_intent", To::Null),
    ("schedule", To::Id(Kind::SubscriptionSchedule)),
    ("test_clock", To::Id(Kind::TestClock)),
];
const ITEM: &[Edge] = &[
    ("discounts", To::Id(Kind::Discount)),
    ("plan", To::Whole("plan")),
    ("price", To::Whole("price")),
    ("tax_rates", To::Null),
];
const INVOICE: &[Edge] = &[
    ("account_tax_ids", To::Null),
    ("application", To::Null),
    ("confirmation_secret", To::Hidden(None)),
    ("customer", To::Id(Kind::Customer)),
    ("default_payment_method", To::Id(Kind::PaymentMethod)),
    ("default_source", To::Null),
    ("default_tax_rates", To::Null),
    ("discounts", To::Id(Kind::Discount)),
    ("latest_revision", To::Null),
    ("lines", To::List("line_item")),
    ("on_behalf_of", To::Null),
    ("parent.subscription_details.subscription", To::Id(Kind::Subscription)),
    ("payments", To::Hidden(Some("invoice_payment"))),
    ("test_clock", To::Id(Kind::TestClock)),
    ("total_discount_amounts.discount", To::Id(Kind::Discount)),
];
const INVOICE_OLD: &[Edge] = &[
    ("charge", To::Id(Kind::Charge)),
    ("discount", To::Whole("discount")),
    ("payment_intent", To::Id(Kind::PaymentIntent)),
    ("quote", To::Null),
    ("subscription", To::Id(Kind::Subscription)),
];
const LINE: &[Edge] = &[
    ("discount_amounts.discount", To::Id(Kind::Discount)),
    ("discounts", To::Id(Kind::Discount)),
    ("pricing.price_details.price", To::Id(Kind::Price)),
    ("subscription", To::Id(Kind::Subscription)),
];
const INVOICE_PAYMENT: &[Edge] = &[
    ("invoice", To::Id(Kind::Invoice)),
    ("payment.charge", To::Id(Kind::Charge)),
    ("payment.payment_intent", To::Id(Kind::PaymentIntent)),
    ("payment.payment_record", To::Null),
];
const CHARGE: &[Edge] = &[
    ("application", To::Null),
    ("application_fee", To::Null),
    ("balance_transaction", To::Null),
    ("customer", To::Id(Kind::Customer)),
    ("failure_balance_transaction", To::Null),
    ("on_behalf_of", To::Null),
    ("payment_intent", To::Id(Kind::PaymentIntent)),
    ("refunds", To::Hidden(Some("refund"))),
    ("review", To::Null),
    ("source_transfer", To::Null),
    ("transfer", To::Null),
];
const REFUND: &[Edge] = &[
    ("balance_transaction", To::Null),
    ("charge", To::Id(Kind::Charge)),
    ("customer", To::Id(Kind::Customer)),
    ("failure_balance_transaction", To::Null),
    ("payment_intent", To::Id(Kind::PaymentIntent)),
    ("payment_method", To::Id(Kind::PaymentMethod)),
    ("source_transfer_reversal", To::Null),
    ("transfer_reversal", To::Null),
];
const SCHEDULE: &[Edge] = &[
    ("customer", To::Id(Kind::Customer)),
    ("phases.items.price", To::Id(Kind::Price)),
    ("subscription", To::Id(Kind::Subscription)),
    ("test_clock", To::Id(Kind::TestClock)),
];
const DISPUTE: &[Edge] = &[("charge", To::Id(Kind::Charge)), ("payment_intent", To::Id(Kind::PaymentIntent))];
const PAYMENT_METHOD: &[Edge] = &[("customer", To::Id(Kind::Customer))];
const PAYMENT_INTENT: &[Edge] = &[
    ("application", To::Null),
    ("customer", To::Id(Kind::Customer)),
    ("latest_charge", To::Id(Kind::Charge)),
    ("on_behalf_of", To::Null),
    ("payment_method", To::Id(Kind::PaymentMethod)),
    ("review", To::Null),
    ("source", To::Null),
];

const PROMOTION_CODE: &[Edge] = &[("customer", To::Id(Kind::Customer)), ("promotion.coupon", To::Id(Kind::Coupon))];
const CREDIT_NOTE: &[Edge] = &[
    ("customer", To::Id(Kind::Customer)),
    ("customer_balance_transaction", To::Null),
    ("invoice", To::Id(Kind::Invoice)),
    ("refunds.refund", To::Id(Kind::Refund)),
];
const INVOICE_ITEM: &[Edge] = &[
    ("customer", To::Id(Kind::Customer)),
    ("discounts", To::Id(Kind::Discount)),
    ("invoice", To::Id(Kind::Invoice)),
    ("tax_rates", To::Null),
];
const CHECKOUT_SESSION: &[Edge] = &[
    ("customer", To::Id(Kind::Customer)),
    ("invoice", To::Id(Kind::Invoice)),
    ("line_items", To::Hidden(Some("item"))),
    ("payment_intent", To::Id(Kind::PaymentIntent)),
    ("setup_intent", To::Null),
    ("subscription", To::Id(Kind::Subscription)),
];
const SETUP_INTENT: &[Edge] = &[
    ("customer", To::Id(Kind::Customer)),
    ("latest_attempt", To::Null),
    ("mandate", To::Null),
    ("payment_method", To::Id(Kind::PaymentMethod)),
];

const QUOTE: &[Edge] = &[
    ("customer", To::Id(Kind::Customer)),
    ("default_tax_rates", To::Null),
    ("discounts", To::Id(Kind::Discount)),
    ("invoice", To::Id(Kind::Invoice)),
    ("line_items", To::Hidden(Some("item"))),
    ("subscription", To::Id(Kind::Subscription)),
    ("subscription_schedule", To::Null),
    ("test_clock", To::Id(Kind::TestClock)),
];
const ISSUED: &[Edge] = &[("card", To::Whole("issuing.card")), ("cardholder", To::Id(Kind::Cardholder))];
const BOUGHT: &[Edge] = &[("card", To::Id(Kind::IssuingCard)), ("cardholder", To::Id(Kind::Cardholder))];

/// What can be expanded on an object of this kind, for this version.
fn edges(kind: &str, version: &Version) -> Vec<Edge> {
    let (always, old): (&[Edge], &[Edge]) = match kind {
        "customer" => (CUSTOMER, &[]),
        "product" => (PRODUCT, &[]),
        "price" => (PRICE, &[]),
        "plan" => (PLAN, &[]),
        "coupon" => (COUPON, &[]),
        "discount" => (DISCOUNT, &[]),
        "subscription" => (SUBSCRIPTION, &[("discount", To::Whole("discount")), ("plan", To::Whole("plan"))]),
        "subscription_item" => (ITEM, &[]),
        "invoice" => (INVOICE, INVOICE_OLD),
        "line_item" => (LINE, &[("plan", To::Whole("plan")), ("price", To::Whole("price"))]),
        "invoice_payment" => (INVOICE_PAYMENT, &[]),
        "charge" => (CHARGE, &[("invoice", To::Id(Kind::Invoice))]),
        "refund" => (REFUND, &[]),
        "dispute" => (DISPUTE, &[]),
        "subscription_schedule" => (SCHEDULE, &[]),
        "payment_method" => (PAYMENT_METHOD, &[]),
        "promotion_code" => (PROMOTION_CODE, &[]),
        "credit_note" => (CREDIT_NOTE, &[]),
        "invoiceitem" => (INVOICE_ITEM, &[]),
        "checkout.session" => (CHECKOUT_SESSION, &[]),
        "setup_intent" => (SETUP_INTENT, &[]),
        "billing_portal.session" => (&[("configuration", To::Id(Kind::PortalConfiguration))], &[]),
        "card" | "customer_cash_balance_transaction" | "tax_id" => (&[("customer", To::Id(Kind::Customer))], &[]),
        "payout" => (&[("balance_transaction", To::Null), ("destination", To::Null)], &[]),
        "transfer" => (&[("destination", To::Id(Kind::Account))], &[]),
        "transfer_reversal" => (&[("transfer", To::Id(Kind::Transfer))], &[]),
        "quote" => (QUOTE, &[]),
        "payment_link" => (&[("line_items", To::Hidden(Some("item")))], &[]),
        "issuing.card" => (&[("cardholder", To::Whole("issuing.cardholder"))], &[]),
        "issuing.authorization" => (ISSUED, &[]),
        "issuing.transaction" => (BOUGHT, &[]),
        "payment_intent" => (PAYMENT_INTENT, &[("charges", To::List("charge")), ("invoice", To::Id(Kind::Invoice))]),
        _ => (&[], &[]),
    };
    let gone = |path: &str| match (kind, path) {
        ("invoice", "payments" | "confirmation_secret" | "parent.subscription_details.subscription")
        | ("line_item", "pricing.price_details.price") => version.before(BASIL),
        ("discount", "source.coupon") => version.before(CLOVER),
        _ => false,
    };
    let mut out: Vec<Edge> = always.iter().copied().filter(|(path, _)| !gone(path)).collect();
    if version.before(BASIL) {
        out.extend_from_slice(old);
    }
    if kind == "discount" && version.before(CLOVER) {
        out.push(("coupon", To::Whole("coupon")));
    }
    out
}

/// Paths that were checked and can be followed.
#[derive(Debug, Default)]
pub(crate) struct Expansions {
    paths: Vec<Vec<String>>,
}

impl Expansions {
    /// Checks all paths; `list` says whether the answer is a list, whose paths begin with `data`.
    pub(crate) fn check(asked: &[Value], kind: &str, list: bool, version: &Version) -> Result<Expansions, StripeError> {
        let mut paths = Vec::with_capacity(asked.len());
        for text in asked.iter().filter_map(Value::as_str) {
            let path: Vec<&str> = text.split('.').collect();
            if path.len() > 4 {
                let message = format!("You cannot expand more than 4 levels of a property. Property: {text}");
                return Err(StripeError::invalid(message).code("property_expansion_max_depth"));
            }
            let rest = match path.split_first() {
                Some((&"data", rest)) if list => rest,
                _ if list => return Err(refuse(text, leads(kind, &path, version))),
                _ => path.as_slice(),
            };
            if !leads(kind, rest, version) {
                return Err(refuse(text, false));
            }
            paths.push(rest.iter().map(|part| (*part).to_owned()).collect());
        }
        Ok(Expansions { paths })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Follows every path in an object that is already in the caller's shape.
    pub(crate) fn follow(&self, store: &Store, object: &mut Value, version: &Version) {
        for path in &self.paths {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            follow(store, object, &path, version);
        }
    }
}

fn refuse(path: &str, below_data: bool) -> StripeError {
    let hint =
        if below_data { format!(" You may want to try expanding 'data.{path}' instead.") } else { String::new() };
    StripeError::invalid(format!("This property cannot be expanded ({path}).{hint}"))
}

/// The edge that a path begins with, and what is left of the path.
fn first_edge<'a, 'p>(edges: &'a [Edge], path: &'p [&'p str]) -> Option<(&'a Edge, &'p [&'p str])> {
    edges.iter().find_map(|edge| {
        let length = edge.0.split('.').count();
        let same = path.len() >= length && edge.0.split('.').eq(path[..length].iter().copied());
        same.then(|| (edge, &path[length..]))
    })
}

fn leads(kind: &str, path: &[&str], version: &Version) -> bool {
    if path.is_empty() {
        return true;
    }
    let edges = edges(kind, version);
    match first_edge(&edges, path) {
        None | Some(((_, To::Hidden(None)), [_, ..])) => false,
        Some((_, []) | ((_, To::Null), _)) => true,
        Some(((_, To::Id(kind)), rest)) => leads(kind.name(), rest, version),
        Some(((_, To::Whole(kind)), rest)) => leads(kind, rest, version),
        Some(((_, To::List(kind) | To::Hidden(Some(kind))), rest)) => {
            rest.first() == Some(&"data") && leads(kind, &rest[1..], version)
        }
    }
}

fn follow(store: &Store, object: &mut Value, path: &[&str], version: &Version) {
    let kind = object["object"].as_str().unwrap_or_default().to_owned();
    let edges = edges(&kind, version);
    let Some(((place, to), rest)) = first_edge(&edges, path) else { return };
    if let To::Hidden(_) = to {
        show(store, object, place, version);
    }
    let parts: Vec<&str> = place.split('.').collect();
    at(object, &parts, &mut |value| {
        if let To::Id(kind) = to {
            resolve(store, *kind, value, version);
        }
        match value {
            Value::Array(values) => values.iter_mut().for_each(|value| follow(store, value, rest, version)),
            Value::Object(list) if list.get("object").is_some_and(|object| object == "list") => {
                for value in list.get_mut("data").and_then(Value::as_array_mut).into_iter().flatten() {
                    follow(store, value, rest.get(1..).unwrap_or_default(), version);
                }
            }
            Value::Object(_) if !rest.is_empty() => follow(store, value, rest, version),
            _ => {}
        }
    });
}

/// Visits what stands at a place, once for each element of the arrays on the way.
fn at(value: &mut Value, parts: &[&str], visit: &mut dyn FnMut(&mut Value)) {
    match (value, parts.split_first()) {
        (value, None) => visit(value),
        (Value::Array(values), Some(_)) => values.iter_mut().for_each(|value| at(value, parts, visit)),
        (Value::Object(object), Some((name, rest))) => {
            if let Some(member) = object.get_mut(*name) {
                at(member, rest, visit);
            }
        }
        _ => {}
    }
}

fn resolve(store: &Store, kind: Kind, value: &mut Value, version: &Version) {
    match value {
        Value::String(id) => {
            if let Some(found) = store.get(kind, id) {
                *value = (*found).clone();
                reshape(store, value, version);
            } else if store.is_gone(kind, id) {
                *value = json!({"id": id, "object": kind.name(), "deleted": true});
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| resolve(store, kind, value, version)),
        _ => {}
    }
}

/// Members that are left out unless somebody asks.
fn show(store: &Store, object: &mut Value, place: &str, version: &Version) {
    if !object[place].is_null() {
        return;
    }
    let id = object["id"].as_str().unwrap_or_default().to_owned();
    let kept = |kind: Kind| store.get(kind, &id).map_or(Value::Null, |object| object[place].clone());
    let mut found = match (object["object"].as_str().unwrap_or_default(), place) {
        ("price" | "plan", "tiers") => kept(Kind::Price),
        ("coupon", "applies_to") => kept(Kind::Coupon),
        ("price", "currency_options") => {
            let currency = object["currency"].as_str().unwrap_or_default();
            json!({currency: {
                "custom_unit_amount": null, "tax_behavior": object["tax_behavior"], "unit_amount": object["unit_amount"],
                "unit_amount_decimal": object["unit_amount_decimal"]
            }})
        }
        ("charge", "refunds") => refunds(store, &id),
        ("customer", "subscriptions") => {
            first_ten(store, Kind::Subscription, Index::Customer, &id, format!("/v1/customers/{id}/subscriptions"))
        }
        ("customer", "tax_ids") => {
            first_ten(store, Kind::TaxId, Index::Customer, &id, format!("/v1/customers/{id}/tax_ids"))
        }
        ("customer", "sources") => {
            first_ten(store, Kind::Source, Index::Customer, &id, format!("/v1/customers/{id}/sources"))
        }
        ("customer", "cash_balance") => cash_balances::object(store, &id),
        ("quote", "line_items") => checkout_rows::list(store, &id, "quotes"),
        ("customer", "tax") => {
            json!({"automatic_tax": "unrecognized_location", "ip_address": null, "location": null, "provider": "stripe"})
        }
        ("customer", "invoice_credit_balance") => json!({}),
        ("invoice", "payments") => {
            first_ten(store, Kind::InvoicePayment, Index::Invoice, &id, format!("/v1/invoices/{id}/payments"))
        }
        ("checkout.session", "line_items") => checkout_rows::list(store, &id, "checkout/sessions"),
        ("payment_link", "line_items") => checkout_rows::list(store, &id, "payment_links"),
        ("invoice", "confirmation_secret") => confirmation_secret(store, object),
        _ => Value::Null,
    };
    reshape(store, &mut found, version);
    object[place] = found;
}

/// The secret of the payment that an open invoice waits for.
fn confirmation_secret(store: &Store, invoice: &Value) -> Value {
    let id = invoice["id"].as_str().unwrap_or_default();
    let payment = store.newest(Kind::InvoicePayment, Index::Invoice, id).filter(|_| invoice["status"] == "open");
    let intent = payment.and_then(|payment| {
        payment["payment"]["payment_intent"].as_str().and_then(|intent| store.get(Kind::PaymentIntent, intent))
    });
    intent.map_or(Value::Null, |intent| json!({"client_secret": intent["client_secret"], "type": "payment_intent"}))
}
