//! The full sync: every list of Stripe's from its beginning to its end, with a checkpoint in the transaction of each page.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::value::RawValue;

use super::{derivation, mirror};
use crate::app::App;
use crate::error::Result;
use crate::gateways::stripe::{Page, Pages, Stripe, StripeError, read};
use crate::store::mirror::{Resource, unseen};
use crate::store::syncs::{self, ListState};

/// How many customers' payment methods are asked for at once.
const ABREAST: usize = 8;
/// How many objects that a list left out are looked at in one step.
const UNSEEN_BATCH: i64 = 100;

/// The fault of a list that the server answers with 404.
pub const NO_SUCH_LIST: &str = "the server does not have this list";

/// How long somebody who asks may wait for Stripe; shorter than the deadline of their own request.
const CUSTOMER_DEADLINE: Duration = Duration::from_secs(12);

/// How far a sync has come.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    pub resource: Resource,
    /// Objects read in this run, over all lists.
    pub objects: u64,
}

/// Who is told how far it is.
pub type OnProgress<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// What a full sync did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Objects read.
    pub objects: u64,
    /// Objects that Stripe no longer has.
    pub deleted: u64,
    /// Lists that the server does not have, or that contradict themselves; by name, with the reason.
    pub faults: Vec<(&'static str, String)>,
}

/// Reads everything. A list that cannot be read to its end keeps its checkpoint, from which the next run goes on, and does
/// not stop the others; the first such error is the outcome.
pub async fn full(app: &App, progress: OnProgress<'_>) -> Result<Outcome> {
    let Some(stripe) = &app.stripe else { return Ok(Outcome::default()) };
    let _turn = app.sync_turn.lock().await;
    let mut outcome = Outcome::default();
    let mut failure = None;
    for resource in Resource::ALL {
        let walk = Walk { app, stripe, resource, progress, before: outcome.objects };
        match walk.run().await? {
            Ok(done) => {
                outcome.objects += done.objects;
                outcome.deleted += done.deleted;
                outcome.faults.extend(done.fault.map(|fault| (resource.name(), fault)));
            }
            Err(error) => {
                walk.fail(&error.to_string()).await?;
                failure.get_or_insert(error);
            }
        }
    }
    derivation::follow_parts(app).await?;
    derivation::follow_time(app).await?;
    app.db
        .write(|tx| {
            tx.changed(crate::store::Change::Everything);
            Ok(())
        })
        .await?;
    failure.map_or(Ok(outcome), |error| Err(mirror::unavailable(error)))
}

/// One list in one run.
struct Walk<'a> {
    app: &'a App,
    stripe: &'a Stripe,
    resource: Resource,
    progress: OnProgress<'a>,
    before: u64,
}

#[derive(Default)]
struct Done {
    objects: u64,
    deleted: u64,
    fault: Option<String>,
}

/// Where one kind of list is read: a path, and the query variants from the richest to the plainest.
struct Place {
    path: &'static str,
    queries: &'static [&'static [(&'static str, &'static str)]],
}

/// Servers differ in what they let one expand; a refused variant (400) is followed by the next plainer one.
fn places(resource: Resource) -> &'static [Place] {
    const PLAIN: &[&[(&str, &str)]] = &[&[]];
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

impl Walk<'_> {
    /// Reads the list to its end. The inner error is Stripe's, the outer one our own.
    async fn run(&self) -> Result<Result<Done, StripeError>> {
        let state = self.begin().await?;
        let read = if self.resource == Resource::PaymentMethods {
            self.payment_methods(state).await?
        } else {
            self.list(state).await?
        };
        match read {
            Ok(Read::ToTheEnd { objects }) => {
                let removed = match self.remove_unseen().await? {
                    Ok(removed) => removed,
                    Err(error) => return Ok(Err(error)),
                };
                self.complete(removed.fault.clone()).await?;
                Ok(Ok(Done { objects, ..removed }))
            }
            Ok(Read::NoSuchList) => {
                self.give_up().await?;
                Ok(Ok(Done { fault: Some(NO_SUCH_LIST.to_owned()), ..Done::default() }))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// Begins a run, or goes on with the one that was interrupted.
    async fn begin(&self) -> Result<ListState> {
        let (name, now) = (self.resource.name(), self.app.clock.now());
        self.app
            .db
            .write(move |tx| {
                let known = syncs::get(tx, name)?;
                if let Some(state) = known.clone().filter(|state| state.started_at.is_some()) {
                    return Ok(state);
                }
                let state = ListState {
                    resource: name.to_owned(),
                    run: known.as_ref().map_or(1, |state| state.run + 1),
                    cursor: None,
                    objects: 0,
                    started_at: Some(now),
                    as_of: known.as_ref().and_then(|state| state.as_of),
                    fault: known.and_then(|state| state.fault),
                };
                syncs::save(tx, &state)?;
                Ok(state)
            })
            .await
    }

    async fn list(&self, mut state: ListState) -> Result<Result<Read, StripeError>> {
        for place in places(self.resource) {
            for query in place.queries {
                let mut pages = self.stripe.pages(place.path, query, state.cursor.clone());
                let mut first = true;
                let refused = loop {
                    match pages.next().await {
                        Ok(Some(page)) => {
                            self.apply(&mut state, &page).await?;
                            first = false;
                        }
                        Ok(None) => return Ok(Ok(Read::ToTheEnd { objects: state.objects })),
                        Err(error) if error.is_missing_cursor() => {
                            // The object we stood on is gone: from the beginning, in the same run.
                            self.rewind(&mut state).await?;
                            pages = self.stripe.pages(place.path, query, None);
                        }
                        Err(error) if first && error.is_not_found() => break Refused::List,
                        Err(StripeError::Status { status: 400, .. }) if first => break Refused::Query,
                        Err(error) => return Ok(Err(error)),
                    }
                };
                if matches!(refused, Refused::List) {
                    break;
                }
            }
        }
        Ok(Ok(Read::NoSuchList))
    }

    /// One page and its checkpoint in one transaction.
    async fn apply(&self, state: &mut ListState, page: &Page) -> Result<()> {
        let mut objects: Vec<String> = page.objects.iter().map(|object| object.get().to_owned()).collect();
        if self.resource == Resource::Subscriptions {
            for object in &mut objects {
                complete_items(self.stripe, object).await?;
            }
        }
        state.cursor = page.last_id.clone().or_else(|| state.cursor.clone());
        state.objects += objects.len() as u64;
        let (saved, resource) = (state.clone(), self.resource);
        let (catalogue, now) = (self.app.catalogue.clone(), self.app.clock.now());
        self.app
            .db
            .write(move |tx| {
                syncs::still_ours(tx, &saved)?;
                for object in &objects {
                    mirror::apply(tx, resource, object, saved.run, &catalogue, now)?;
                }
                syncs::save(tx, &saved)
            })
            .await?;
        (self.progress)(Progress { resource, objects: self.before + state.objects });
        Ok(())
    }

    async fn rewind(&self, state: &mut ListState) -> Result<()> {
        (state.cursor, state.objects) = (None, 0);
        let saved = state.clone();
        self.app
            .db
            .write(move |tx| {
                syncs::still_ours(tx, &saved)?;
                syncs::save(tx, &saved)
            })
            .await
    }

    /// The payment methods of all customers, in the order of customers' ids; the cursor is a customer.
    async fn payment_methods(&self, mut state: ListState) -> Result<Result<Read, StripeError>> {
        loop {
            let after = state.cursor.clone().unwrap_or_default();
            let limit = i64::try_from(ABREAST).unwrap_or(i64::MAX);
            let customers = self.app.db.read(move |tx| crate::store::customers::ids(tx, &after, limit)).await?;
            let Some(last) = customers.last().cloned() else {
                return Ok(Ok(Read::ToTheEnd { objects: state.objects }));
            };
            let mut objects = Vec::new();
            for found in join_all(customers.iter().map(|customer| payment_methods_of(self.stripe, customer))).await {
                match found {
                    Ok(found) => objects.extend(found),
                    Err(error) => return Ok(Err(error)),
                }
            }
            self.apply(&mut state, &Page { objects, last: false, last_id: Some(last) }).await?;
        }
    }

    /// Objects that this run did not see are asked for one by one: gone, or left out by a list that lies.
    async fn remove_unseen(&self) -> Result<Result<Done, StripeError>> {
        let mut done = Done::default();
        let mut after = String::new();
        loop {
            let (resource, from, name) = (self.resource, after.clone(), self.resource.name());
            let ids = self
                .app
                .db
                .read(move |tx| {
                    let run = syncs::get(tx, name)?.map_or(0, |state| state.run);
                    unseen(tx, resource, run, &from, UNSEEN_BATCH)
                })
                .await?;
            let Some(last) = ids.last().cloned() else { return Ok(Ok(done)) };
            for id in ids {
                match self.look_at(id).await? {
                    Ok(true) => done.deleted += 1,
                    Ok(false) if self.resource == Resource::PaymentMethods => {}
                    Ok(false) => done.fault = Some("the list left out objects that exist".to_owned()),
                    Err(error) => return Ok(Err(error)),
                }
            }
            after = last;
        }
    }

    /// Whether the object is gone; one that is there is mirrored as it is.
    async fn look_at(&self, id: String) -> Result<Result<bool, StripeError>> {
        let path = match self.resource {
            Resource::PaymentMethods => "/v1/payment_methods",
            other => places(other).first().map_or("", |place| place.path),
        };
        let (resource, name, now) = (self.resource, self.resource.name(), self.app.clock.now());
        match self.stripe.object(path, &id, &[]).await {
            Ok(answer) => {
                let (raw, catalogue) = (answer.body.get().to_owned(), self.app.catalogue.clone());
                let gone = serde_json::from_str::<Stub>(&raw).is_ok_and(|stub| stub.deleted == Some(true));
                self.app
                    .db
                    .write(move |tx| {
                        let run = syncs::get(tx, name)?.map_or(0, |state| state.run);
                        if gone {
                            mirror::delete(tx, resource, &id)
                        } else {
                            mirror::apply(tx, resource, &raw, run, &catalogue, now)
                        }
                    })
                    .await?;
                Ok(Ok(gone))
            }
            Err(error) if is_gone(&error) => {
                self.app.db.write(move |tx| mirror::delete(tx, resource, &id)).await?;
                Ok(Ok(true))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    async fn complete(&self, fault: Option<String>) -> Result<()> {
        self.settle(move |state| {
            state.as_of = state.started_at.take();
            state.cursor = None;
            state.fault.clone_from(&fault);
        })
        .await
    }

    /// There is nothing to read. That makes nothing known: `as_of` stays what it was.
    async fn give_up(&self) -> Result<()> {
        self.settle(|state| {
            (state.started_at, state.cursor) = (None, None);
            state.fault = Some(NO_SUCH_LIST.to_owned());
        })
        .await
    }

    async fn fail(&self, reason: &str) -> Result<()> {
        let fault = Some(reason.to_owned());
        self.settle(move |state| state.fault.clone_from(&fault)).await
    }

    async fn settle(&self, change: impl Fn(&mut ListState) + Send + 'static) -> Result<()> {
        let name = self.resource.name();
        self.app
            .db
            .write(move |tx| {
                let Some(mut state) = syncs::get(tx, name)? else { return Ok(()) };
                change(&mut state);
                syncs::save(tx, &state)
            })
            .await
    }
}

enum Read {
    ToTheEnd { objects: u64 },
    NoSuchList,
}

enum Refused {
    List,
    Query,
}

/// Stripe itself says that there is no such object. A bare 404 may come from something on the way and says nothing.
fn is_gone(error: &StripeError) -> bool {
    error.is_missing_object() || error.is_not_found() && error.refusal().is_some_and(|refusal| refusal.kind.is_some())
}

#[derive(serde::Deserialize)]
struct Stub {
    deleted: Option<bool>,
}

/// Every object of a list.
async fn all(mut pages: Pages) -> Result<Vec<Box<RawValue>>, StripeError> {
    let mut objects = Vec::new();
    while let Some(page) = pages.next().await? {
        objects.extend(page.objects);
    }
    Ok(objects)
}

/// The payment methods of one customer, from where this server keeps them.
async fn payment_methods_of(stripe: &Stripe, customer: &str) -> Result<Vec<Box<RawValue>>, StripeError> {
    let own = format!("/v1/customers/{}/payment_methods", crate::gateways::stripe::segment(customer));
    match all(stripe.pages(&own, &[], None)).await {
        Err(error) if error.is_not_found() => {}
        other => return other,
    }
    // Older servers have one list for all, and may want to be told a type.
    for query in [&[("customer", customer)][..], &[("customer", customer), ("type", "card")][..]] {
        match all(stripe.pages("/v1/payment_methods", query, None)).await {
            Err(StripeError::Status { status: 400, .. }) => {}
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            other => return other,
        }
    }
    Ok(Vec::new())
}

/// Stripe embeds the first items only: the others are fetched and put beside them.
async fn complete_items(stripe: &Stripe, raw: &mut String) -> Result<()> {
    if !raw.contains("has_more") {
        return Ok(());
    }
    let Ok(subscription) = read::subscription(raw, &()) else { return Ok(()) };
    if !subscription.items_incomplete {
        return Ok(());
    }
    let items = all(stripe.pages("/v1/subscription_items", &[("subscription", &subscription.id)], None)).await;
    let items = items.map_err(mirror::unavailable)?;
    let mut whole: serde_json::Value = serde_json::from_str(raw).map_err(crate::error::Error::internal)?;
    let mut data = Vec::with_capacity(items.len());
    for item in &items {
        data.push(serde_json::from_str::<serde_json::Value>(item.get()).map_err(crate::error::Error::internal)?);
    }
    whole["items"]["data"] = data.into();
    whole["items"]["has_more"] = false.into();
    *raw = whole.to_string();
    Ok(())
}

/// Reads one customer with all that users ask for.
pub async fn customer(app: &App, customer: &str) -> Result<()> {
    let Some(stripe) = &app.stripe else { return Ok(()) };
    let now = app.clock.now();
    let found = tokio::time::timeout(CUSTOMER_DEADLINE, read_customer(stripe, customer)).await;
    let found = match found.unwrap_or(Err(StripeError::Timeout { after: CUSTOMER_DEADLINE })) {
        Ok(found) => found,
        // A customer that Stripe does not have owns nothing: that is known, not missing.
        Err(error) if is_gone(&error) => Vec::new(),
        Err(error) => return Err(mirror::unavailable(error)),
    };
    save_customer(app, customer.to_owned(), found, now).await
}

type Found = Vec<(Resource, String)>;

async fn read_customer(stripe: &Stripe, customer: &str) -> Result<Found, StripeError> {
    let mut found: Found = Vec::new();
    let object = stripe.object("/v1/customers", customer, &[]).await?;
    found.push((Resource::Customers, object.body.get().to_owned()));
    for resource in [Resource::Subscriptions, Resource::Invoices] {
        let objects = list_of(stripe, resource, customer).await?;
        found.extend(objects.into_iter().map(|object| (resource, object.get().to_owned())));
    }
    let methods = payment_methods_of(stripe, customer).await?;
    found.extend(methods.into_iter().map(|object| (Resource::PaymentMethods, object.get().to_owned())));
    Ok(found)
}

/// A customer's part of a list, with the richest query that the server takes.
async fn list_of(stripe: &Stripe, resource: Resource, customer: &str) -> Result<Vec<Box<RawValue>>, StripeError> {
    for place in places(resource) {
        for query in place.queries {
            let mut query = query.to_vec();
            query.push(("customer", customer));
            match all(stripe.pages(place.path, &query, None)).await {
                Err(StripeError::Status { status: 400, refusal }) if refusal.param.as_deref() == Some("customer") => {
                    return Err(StripeError::NotFound { refusal });
                }
                Err(StripeError::Status { status: 400, .. }) => {}
                other => return other,
            }
        }
    }
    Ok(Vec::new())
}

async fn save_customer(app: &App, customer: String, mut found: Found, now: Timestamp) -> Result<()> {
    if let Some(stripe) = &app.stripe {
        for (resource, raw) in &mut found {
            if *resource == Resource::Subscriptions {
                complete_items(stripe, raw).await?;
            }
        }
    }
    let catalogue = app.catalogue.clone();
    app.db
        .write(move |tx| {
            let mut runs = std::collections::BTreeMap::new();
            let kinds: HashSet<Resource> = found.iter().map(|(resource, _)| *resource).collect();
            for resource in kinds {
                runs.insert(resource, syncs::get(tx, resource.name())?.map_or(0, |state| state.run));
            }
            for (resource, raw) in &found {
                let run = runs.get(resource).copied().unwrap_or(0);
                mirror::apply(tx, *resource, raw, run, &catalogue, now)?;
            }
            syncs::complete_customer(tx, &customer, now)
        })
        .await
}
