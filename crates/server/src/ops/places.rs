//! Where each kind of object is read at Stripe, and what the answers mean: lists from the richest query to the plainest,
//! and single objects in the same shape.

use std::collections::HashMap;

use serde_json::value::RawValue;

use crate::gateways::stripe::{Pages, Stripe, StripeError, read};
use crate::store::mirror::Resource;

/// Query variants, from the richest to the plainest.
pub type Queries = &'static [&'static [(&'static str, &'static str)]];

/// Where one kind of list is read: a path, and the query variants from the richest to the plainest.
#[derive(Debug)]
pub struct Place {
    pub path: &'static str,
    pub queries: Queries,
}

/// Servers differ in what they let one expand; a refused variant (400) is followed by the next plainer one.
pub fn places(resource: Resource) -> &'static [Place] {
    const PLAIN: Queries = &[&[]];
    match resource {
        Resource::Coupons => &[Place { path: "/v1/coupons", queries: &[&[("expand[]", "data.applies_to")], &[]] }],
        Resource::Products => &[Place { path: "/v1/products", queries: PLAIN }],
        Resource::Prices => &[
            Place { path: "/v1/prices", queries: &[&[("expand[]", "data.tiers")], &[]] },
            Place { path: "/v1/plans", queries: &[&[("expand[]", "data.tiers")], &[]] },
        ],
        Resource::Customers => &[Place { path: "/v1/customers", queries: PLAIN }],
        Resource::Subscriptions => &[Place {
            path: "/v1/subscriptions",
            queries: &[
                &[
                    ("status", "all"),
                    ("expand[]", "data.discounts.source.coupon"),
                    ("expand[]", "data.items.data.discounts"),
                ],
                &[("status", "all"), ("expand[]", "data.discounts"), ("expand[]", "data.items.data.discounts")],
                &[("status", "all"), ("expand[]", "data.discounts")],
                &[("status", "all")],
                &[],
            ],
        }],
        Resource::Invoices => &[Place { path: "/v1/invoices", queries: PLAIN }],
        Resource::Charges => &[Place { path: "/v1/charges", queries: PLAIN }],
        Resource::Refunds => &[Place { path: "/v1/refunds", queries: PLAIN }],
        // Stripe has no list of all customers' payment methods: they are read customer by customer.
        Resource::PaymentMethods => &[],
    }
}

/// Stripe itself says that there is no such object. A bare 404 may come from something on the way and says nothing, and neither
/// does a server that has no such path.
pub fn is_missing(error: &StripeError) -> bool {
    error.is_missing_object() && !is_no_path(error)
}

/// The server says, in Stripe's words, that nothing can be asked for there.
pub fn is_no_path(error: &StripeError) -> bool {
    let message = error.refusal().and_then(|refusal| refusal.message.as_deref());
    error.is_missing_object() && message.is_some_and(|message| message.starts_with("Unrecognized request URL"))
}

/// Stripe itself is away, or what stands between us: nothing is the fault of what was asked for. Where Stripe answers all but
/// this, it is.
pub fn is_outage(error: &StripeError) -> bool {
    let away = error.retryable() && !matches!(error, StripeError::OnlyThere { .. });
    away || matches!(error, StripeError::Tls { .. } | StripeError::Auth { status: 401, .. })
}

/// Whether a text shows an object of this list: of no other kind, and more of it than its name (S-30). A server that says
/// nothing of the kind is believed.
pub fn shows(resource: Resource, raw: &str) -> bool {
    let Ok(members) = serde_json::from_str::<HashMap<String, &RawValue>>(raw) else { return false };
    let text = |name: &str| serde_json::from_str::<&str>(members.get(name)?.get()).ok();
    let kinds: &[&str] = match resource {
        Resource::Coupons => &["coupon"],
        Resource::Products => &["product"],
        Resource::Prices => &["price", "plan"],
        Resource::Customers => &["customer"],
        Resource::Subscriptions => &["subscription"],
        Resource::Invoices => &["invoice"],
        Resource::Charges => &["charge"],
        Resource::Refunds => &["refund"],
        // Those of the older kinds are shown in their own shape by some servers.
        Resource::PaymentMethods => &["payment_method", "card", "source", "bank_account"],
    };
    let Some(kind) = text("object") else { return true };
    let says_more = members.keys().any(|name| !matches!(name.as_str(), "id" | "object" | "livemode" | "created"));
    let has_a_state =
        resource != Resource::Subscriptions || text("status").is_some() || members.contains_key("deleted");
    kinds.contains(&kind) && says_more && has_a_state
}

/// One object as the lists show it, from whichever list it stands in: a plan is none of the prices where both lists are.
pub async fn object(stripe: &Stripe, resource: Resource, id: &str) -> Result<String, StripeError> {
    const PLAIN: Queries = &[&[]];
    let lists: Vec<(&str, Queries)> = match resource {
        Resource::PaymentMethods => vec![("/v1/payment_methods", PLAIN)],
        other => places(other).iter().map(|place| (place.path, place.queries)).collect(),
    };
    let (mut gone, mut silent) = (None, None);
    for (list, queries) in lists {
        match object_in(stripe, list, queries, id).await {
            Err(error) if is_missing(&error) => gone = Some(error),
            // A list that is not there says nothing of its objects.
            Err(error) if error.is_not_found() => silent = Some(error),
            Err(error) => return Err(stripe.located(error, list).await),
            Ok(raw) if !shows(resource, &raw) => {
                return Err(StripeError::OtherObject { path: format!("{list}/{id}") });
            }
            Ok(mut raw) => {
                if resource == Resource::Subscriptions
                    && let Err(error) = complete_items(stripe, &mut raw).await
                {
                    return Err(stripe.located(error, list).await);
                }
                return Ok(raw);
            }
        }
    }
    Err(gone.or(silent).unwrap_or(StripeError::Request("no list has this object")))
}

/// Expanded as the list expands its objects, as far as the server lets us.
async fn object_in(stripe: &Stripe, list: &str, queries: Queries, id: &str) -> Result<String, StripeError> {
    let mut tried: Option<Vec<(&'static str, &'static str)>> = None;
    let mut refused = StripeError::Request("no list has this object");
    for query in queries {
        let expanded = |(name, value): &(&'static str, &'static str)| Some((*name, value.strip_prefix("data.")?));
        let query: Vec<_> = query.iter().filter_map(expanded).collect();
        if tried.as_ref() == Some(&query) {
            continue;
        }
        match stripe.object(list, id, &query).await {
            Ok(answer) => return Ok(answer.body.get().to_owned()),
            Err(error @ StripeError::Status { status: 400, .. }) => refused = error,
            Err(error) => return Err(error),
        }
        tried = Some(query);
    }
    Err(refused)
}

/// Every object of a list.
pub async fn all(mut pages: Pages) -> Result<Vec<Box<RawValue>>, StripeError> {
    let mut objects = Vec::new();
    while let Some(page) = pages.next().await? {
        objects.extend(page.objects);
    }
    Ok(objects)
}

/// The payment methods of one customer, from where this server keeps them. A server that has no such list says 404.
pub async fn payment_methods_of(stripe: &Stripe, customer: &str) -> Result<Vec<Box<RawValue>>, StripeError> {
    let own = format!("/v1/customers/{}/payment_methods", crate::gateways::stripe::segment(customer));
    match all(stripe.pages(&own, &[], None)).await {
        Err(error) if error.is_not_found() => {}
        other => return other,
    }
    // Older servers have one list for all, and may want to be told a type.
    let mut refused = StripeError::Request("no list has these objects");
    for query in [&[("customer", customer)][..], &[("customer", customer), ("type", "card")][..]] {
        match all(stripe.pages("/v1/payment_methods", query, None)).await {
            // The customer has gone since they were listed, and took theirs along.
            Err(StripeError::Status { status: 400, refusal })
                if refusal.code.as_deref() == Some("resource_missing") =>
            {
                return Ok(Vec::new());
            }
            Err(error @ StripeError::Status { status: 400, .. }) => refused = error,
            other => return other,
        }
    }
    Err(refused)
}

/// Stripe embeds the first items only: the others are fetched and put beside them.
pub async fn complete_items(stripe: &Stripe, raw: &mut String) -> Result<(), StripeError> {
    if !raw.contains("has_more") {
        return Ok(());
    }
    let Ok(subscription) = read::subscription(raw, &()) else { return Ok(()) };
    if !subscription.items_incomplete {
        return Ok(());
    }
    let items = all(stripe.pages("/v1/subscription_items", &[("subscription", &subscription.id)], None)).await?;
    // Both were read as JSON before: neither can fail to be it.
    let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap_or_default();
    let mut whole = parsed(raw);
    whole["items"] = serde_json::json!({
        "object": "list",
        "data": items.iter().map(|item| parsed(item.get())).collect::<Vec<_>>(),
        "has_more": false,
    });
    *raw = whole.to_string();
    Ok(())
}

/// A customer's part of a list, with the richest query that the server takes.
pub async fn list_of(stripe: &Stripe, resource: Resource, customer: &str) -> Result<Vec<Box<RawValue>>, StripeError> {
    let mut refused = StripeError::Request("no list has these objects");
    for place in places(resource) {
        for query in place.queries {
            let mut query = query.to_vec();
            query.push(("customer", customer));
            match all(stripe.pages(place.path, &query, None)).await {
                Err(StripeError::Status { status: 400, refusal }) if refusal.param.as_deref() == Some("customer") => {
                    return Err(StripeError::NotFound { refusal });
                }
                Err(error @ StripeError::Status { status: 400, .. }) => refused = error,
                other => return other,
            }
        }
    }
    Err(refused)
}
