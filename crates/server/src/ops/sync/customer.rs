//! One customer with all that users ask for, read when somebody asks and no list has come to them yet.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::app::App;
use crate::error::Result;
use crate::gateways::stripe::{Stripe, StripeError};
use crate::ops::mirror;
use crate::ops::places::{self, complete_items, is_missing, list_of, payment_methods_of};
use crate::ops::readings::{self, Look};
use crate::ops::usage::plans;
use crate::store::mirror::Resource;
use crate::store::syncs;

/// How long somebody who asks may wait for Stripe; shorter than the deadline of their own request.
const CUSTOMER_DEADLINE: Duration = Duration::from_secs(12);

/// Reads one customer with all that users ask for.
pub async fn customer(app: &App, customer: &str) -> Result<()> {
    let Some(stripe) = &app.stripe else { return Ok(()) };
    let (began, look) = (app.clock.now(), Look::begin(app, "customer").await?);
    let found = tokio::time::timeout(CUSTOMER_DEADLINE, read_customer(stripe, customer)).await;
    let found = match found.unwrap_or(Err(StripeError::Timeout { after: CUSTOMER_DEADLINE })) {
        Ok(found) => found,
        // A customer that Stripe does not have owns nothing: that is known, not missing.
        Err(error) if is_missing(&error) => Vec::new(),
        Err(error) => return Err(mirror::unavailable(error)),
    };
    save_customer(app, customer.to_owned(), found, look, began).await?;
    plans::follow(app).await
}

type Found = Vec<(Resource, String)>;

async fn read_customer(stripe: &Stripe, customer: &str) -> Result<Found, StripeError> {
    let mut found: Found = Vec::new();
    let object = stripe.object("/v1/customers", customer, &[]).await?;
    found.push((Resource::Customers, object.body.get().to_owned()));
    for resource in [Resource::Subscriptions, Resource::Invoices] {
        let objects = match list_of(stripe, resource, customer).await {
            // The customer is there, so it is the list that is not: that costs them no other.
            Err(error)
                if error.is_missing_object() && error.refusal().is_some_and(|refusal| refusal.param.is_none()) =>
            {
                Vec::new()
            }
            objects => objects?,
        };
        found.extend(objects.into_iter().map(|object| (resource, object.get().to_owned())));
    }
    let methods = match payment_methods_of(stripe, customer).await {
        Err(error) if error.is_not_found() => Vec::new(),
        methods => methods?,
    };
    found.extend(methods.into_iter().map(|object| (Resource::PaymentMethods, object.get().to_owned())));
    match found.iter().find(|(resource, raw)| !places::shows(*resource, raw)) {
        Some((resource, _)) => Err(StripeError::OtherObject { path: format!("{} of {customer}", resource.name()) }),
        None => Ok(found),
    }
}

async fn save_customer(app: &App, customer: String, mut found: Found, look: Look, now: Timestamp) -> Result<()> {
    if let Some(stripe) = &app.stripe {
        for (resource, raw) in &mut found {
            if *resource == Resource::Subscriptions {
                complete_items(stripe, raw).await.map_err(mirror::unavailable)?;
            }
        }
    }
    let (catalogue, look) = (app.catalogue.clone(), look.ended(app));
    app.db
        .write(move |tx| {
            let mut runs = BTreeMap::new();
            let kinds: HashSet<Resource> = found.iter().map(|(resource, _)| *resource).collect();
            for resource in kinds {
                runs.insert(resource, syncs::get(tx, resource.name())?.map_or(0, |state| state.run));
            }
            for (resource, raw) in &found {
                let run = runs.get(resource).copied().unwrap_or(0);
                readings::apply(tx, &look, *resource, raw, run, &catalogue, now)?;
            }
            syncs::complete_customer(tx, &customer, now)
        })
        .await
}
