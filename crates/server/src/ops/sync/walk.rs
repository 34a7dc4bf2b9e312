//! One list of Stripe's in one run: page by page to its end, then object by object what the list left out.

use futures_util::future::join_all;
use jiff::Timestamp;

use super::{NO_SUCH_LIST, OnProgress, Progress};
use crate::app::App;
use crate::error::Result;
use crate::gateways::stripe::{Page, Stripe, StripeError, read};
use crate::ops::mirror;
use crate::ops::places::{self, complete_items, is_missing, is_no_path, payment_methods_of, places};
use crate::ops::readings::{self, Look};
use crate::store::mirror::{Resource, unseen};
use crate::store::readings::take_ticket;
use crate::store::syncs::{self, ListState};

/// How many customers' payment methods are asked for at once.
const ABREAST: usize = 16;
/// How many customers' payment methods are written in one transaction.
const CUSTOMERS: i64 = 96;
/// How many objects that a list left out are looked at in one step.
const UNSEEN_BATCH: i64 = 100;

/// So many objects of a list may be left out in one step because Stripe does not show them. More of them are no longer the
/// trouble of some objects: then the run ends where it is, and goes on there.
const FEW: usize = 5;

/// How often a list is begun anew in one sync because the object it stood on is gone.
const REWINDS: u32 = 3;

/// After this time without a first page nobody is at a list any more, here or in another process.
const ABANDONED_AFTER: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);

/// One list in one run.
pub(super) struct Walk<'a> {
    pub(super) app: &'a App,
    pub(super) stripe: &'a Stripe,
    pub(super) resource: Resource,
    pub(super) progress: OnProgress<'a>,
    /// Objects read before, of other lists.
    pub(super) before: u64,
}

/// What came of it.
#[derive(Default)]
pub(super) struct Done {
    pub(super) objects: u64,
    pub(super) deleted: u64,
    pub(super) fault: Option<String>,
    /// An object could not be read, so the list is not known to be as new as this run.
    pub(super) unread: bool,
}

impl Done {
    fn left_out(&mut self, why: String) {
        self.unread = true;
        self.fault = Some(why);
    }
}

impl Walk<'_> {
    /// Reads the list to its end. The inner error is Stripe's, the outer one our own.
    pub(super) async fn run(&self) -> Result<Result<Done, StripeError>> {
        if self.resource == Resource::PaymentMethods && !self.customers_are_known().await? {
            return Ok(Ok(Done::default()));
        }
        let (state, look) = self.begin().await?;
        let read = if self.resource == Resource::PaymentMethods {
            self.payment_methods(state, look).await?
        } else {
            self.list(state, look).await?
        };
        match read {
            Ok(Read::ToTheEnd { objects, left_out }) => {
                let mut done = match self.remove_unseen().await? {
                    Ok(removed) => Done { objects, ..removed },
                    Err(error) => return Ok(Err(error)),
                };
                if let Some(why) = left_out {
                    done.left_out(why);
                }
                self.complete(done.fault.clone(), !done.unread).await?;
                Ok(Ok(done))
            }
            Ok(Read::NoSuchList) => {
                self.give_up().await?;
                Ok(Ok(Done { fault: Some(NO_SUCH_LIST.to_owned()), ..Done::default() }))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// Payment methods are read customer by customer: while some customers are missing, nobody knows them all.
    async fn customers_are_known(&self) -> Result<bool> {
        let customers = self.app.db.read(|tx| syncs::get(tx, Resource::Customers.name())).await?;
        Ok(customers.is_some_and(|list| list.as_of.is_some() && list.started_at.is_none()))
    }

    /// Begins a run, or goes on with the one that was interrupted.
    async fn begin(&self) -> Result<(ListState, Look)> {
        let (name, now) = (self.resource.name(), self.app.clock.now());
        let (state, ticket) = self
            .app
            .db
            .write(move |tx| {
                let (known, ticket) = (syncs::get(tx, name)?, take_ticket(tx)?);
                if let Some(state) = known.clone().filter(|state| is_to_go_on(state, now)) {
                    return Ok((state, ticket));
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
                Ok((state, ticket))
            })
            .await?;
        Ok((state, self.look(ticket)))
    }

    fn look(&self, ticket: i64) -> Look {
        Look { ticket, cause: "sync".to_owned(), event_created: None, until_s: readings::stripe_second(self.app) }
    }

    async fn list(&self, mut state: ListState, mut look: Look) -> Result<Result<Read, StripeError>> {
        let (mut rewinds, mut refused, mut left_out) = (0, None, None);
        for place in places(self.resource) {
            for query in place.queries {
                let mut pages = self.stripe.pages(place.path, query, state.cursor.clone());
                let mut first = true;
                loop {
                    match pages.next().await {
                        Ok(Some(page)) => {
                            look = match self.apply(&mut state, &page, look, &mut left_out).await? {
                                Ok(next) => next,
                                Err(error) => return Ok(Err(error)),
                            };
                            first = false;
                        }
                        Ok(None) => return Ok(Ok(Read::ToTheEnd { objects: state.objects, left_out })),
                        Err(error) if error.is_missing_cursor() && rewinds < REWINDS => {
                            rewinds += 1;
                            // The object we stood on is gone: from the beginning.
                            self.rewind(&mut state).await?;
                            pages = self.stripe.pages(place.path, query, None);
                        }
                        Err(error) if first && error.is_not_found() => break,
                        Err(error @ StripeError::Status { status: 400, .. }) if first => {
                            refused = Some(error);
                            break;
                        }
                        Err(error) => return Ok(Err(error)),
                    }
                }
            }
        }
        // Refused in its plainest form is not absent: that is a fault of the server or of ours.
        refused.map_or(Ok(Ok(Read::NoSuchList)), |error| Ok(Err(error)))
    }

    /// One page and its checkpoint in one transaction, and the look at the next page begins in it. The inner error is
    /// Stripe's: items that it did not send.
    async fn apply(
        &self,
        state: &mut ListState,
        page: &Page,
        look: Look,
        left_out: &mut Option<String>,
    ) -> Result<Result<Look, StripeError>> {
        let objects = match self.whole(page).await {
            Ok((objects, none)) => {
                *left_out = left_out.take().or(none);
                objects
            }
            Err(error) => return Ok(Err(error)),
        };
        state.cursor = page.last_id.clone().or_else(|| state.cursor.clone());
        state.objects += objects.len() as u64;
        let (saved, resource) = (state.clone(), self.resource);
        let (catalogue, now, look) = (self.app.catalogue.clone(), self.app.clock.now(), look.ended(self.app));
        let ticket = self
            .app
            .db
            .write(move |tx| {
                syncs::still_ours(tx, &saved)?;
                for object in &objects {
                    readings::apply(tx, &look, resource, object, saved.run, &catalogue, now)?;
                }
                syncs::save(tx, &saved)?;
                take_ticket(tx)
            })
            .await?;
        (self.progress)(Progress { resource, objects: self.before + state.objects });
        Ok(Ok(self.look(ticket)))
    }

    /// The objects of a page with all their parts, without those that are none of this list or of which Stripe cannot show the
    /// parts, and why.
    async fn whole(&self, page: &Page) -> Result<(Vec<String>, Option<String>), StripeError> {
        let (mut objects, mut left_out, mut few) = (Vec::with_capacity(page.objects.len()), None, 0..FEW);
        for object in &page.objects {
            let mut object = object.get().to_owned();
            if !places::shows(self.resource, &object) {
                let id = read::id(&object).unwrap_or_default();
                mirror::refused(self.app, self.resource, &id);
                left_out = Some(format!("{id}: the list shows another object in its place, or nothing of it"));
                continue;
            }
            if self.resource == Resource::Subscriptions
                && let Err(error) = complete_items(self.stripe, &mut object).await
            {
                match self.stripe.located(error, "/v1/subscriptions").await {
                    error @ StripeError::OnlyThere { .. } if few.next().is_some() => {
                        left_out = Some(format!("{}: {error}", read::id(&object).unwrap_or_default()));
                        continue;
                    }
                    error => return Err(error),
                }
            }
            objects.push(object);
        }
        Ok((objects, left_out))
    }

    /// Begins the list anew, as another run: what this one saw may be gone since, as the object that it stood on is.
    async fn rewind(&self, state: &mut ListState) -> Result<()> {
        let before = state.clone();
        (state.run, state.cursor, state.objects) = (state.run + 1, None, 0);
        let saved = state.clone();
        self.app
            .db
            .write(move |tx| {
                syncs::still_ours(tx, &before)?;
                syncs::save(tx, &saved)
            })
            .await
    }

    /// The payment methods of all customers, in the order of customers' ids; the cursor is a customer.
    async fn payment_methods(&self, mut state: ListState, mut look: Look) -> Result<Result<Read, StripeError>> {
        let mut left_out = None;
        loop {
            let after = state.cursor.clone().unwrap_or_default();
            let customers = self.app.db.read(move |tx| crate::store::customers::ids(tx, &after, CUSTOMERS)).await?;
            let Some(last) = customers.last().cloned() else {
                return Ok(Ok(Read::ToTheEnd { objects: state.objects, left_out }));
            };
            let (mut objects, mut few) = (Vec::new(), 0..FEW);
            for some in customers.chunks(ABREAST) {
                let asked = join_all(some.iter().map(|customer| payment_methods_of(self.stripe, customer))).await;
                for (customer, found) in some.iter().zip(asked) {
                    match found {
                        Ok(found) => objects.extend(found),
                        Err(error) if error.is_not_found() => return Ok(Ok(Read::NoSuchList)),
                        Err(error) => match self.stripe.located(error, "/v1/payment_methods").await {
                            // One customer's trouble is nobody else's.
                            error @ StripeError::OnlyThere { .. } if few.next().is_some() => {
                                left_out = Some(format!("{customer}: {error}"));
                            }
                            error => return Ok(Err(error)),
                        },
                    }
                }
            }
            let page = Page { objects, last: false, last_id: Some(last) };
            look = match self.apply(&mut state, &page, look, &mut left_out).await? {
                Ok(next) => next,
                Err(error) => return Ok(Err(error)),
            };
        }
    }

    /// Objects that this run did not see are asked for one by one: gone, or left out by a list that lies.
    async fn remove_unseen(&self) -> Result<Result<Done, StripeError>> {
        let mut done = Done::default();
        let mut after = String::new();
        loop {
            let (resource, from, name) = (self.resource, after.clone(), self.resource.name());
            let (ids, ticket) = self
                .app
                .db
                .write(move |tx| {
                    let run = syncs::get(tx, name)?.map_or(0, |state| state.run);
                    Ok((unseen(tx, resource, run, &from, UNSEEN_BATCH)?, take_ticket(tx)?))
                })
                .await?;
            let Some(last) = ids.last().cloned() else { return Ok(Ok(done)) };
            let mut few = 0..FEW;
            for id in ids {
                match self.look_at(id.clone(), self.look(ticket)).await? {
                    Ok(LeftOut::Gone) => done.deleted += 1,
                    // A detached one stands in no list.
                    Ok(LeftOut::There) if self.resource == Resource::PaymentMethods => {}
                    Ok(LeftOut::OfClock) => {}
                    Ok(LeftOut::There) if done.unread => {}
                    Ok(LeftOut::There) => done.fault = Some("the list left out objects that exist".to_owned()),
                    Ok(LeftOut::Unknown) => {
                        done.fault = Some("the list left out objects that cannot be asked for by their ids".to_owned());
                    }
                    Err(error @ (StripeError::OnlyThere { .. } | StripeError::OtherObject { .. }))
                        if few.next().is_some() =>
                    {
                        done.left_out(format!("{id}: {error}"));
                    }
                    Err(error) => return Ok(Err(error)),
                }
            }
            after = last;
        }
    }

    /// What became of an object that the list left out; one that is there is mirrored as it is.
    async fn look_at(&self, id: String, look: Look) -> Result<Result<LeftOut, StripeError>> {
        let (resource, name, now) = (self.resource, self.resource.name(), self.app.clock.now());
        match places::object(self.stripe, self.resource, &id).await {
            Ok(raw) => {
                let catalogue = self.app.catalogue.clone();
                let stub: Stub = serde_json::from_str(&raw).unwrap_or_default();
                let gone = stub.deleted == Some(true);
                self.app
                    .db
                    .write(move |tx| {
                        let run = syncs::get(tx, name)?.map_or(0, |state| state.run);
                        if gone {
                            readings::delete(tx, &look, resource, &id)
                        } else {
                            readings::apply(tx, &look, resource, &raw, run, &catalogue, now)
                        }
                    })
                    .await?;
                Ok(Ok(match stub.test_clock {
                    _ if gone => LeftOut::Gone,
                    Some(_) => LeftOut::OfClock,
                    None => LeftOut::There,
                }))
            }
            Err(error) if is_missing(&error) => {
                self.app.db.write(move |tx| readings::delete(tx, &look, resource, &id)).await?;
                Ok(Ok(LeftOut::Gone))
            }
            Err(error) if is_no_path(&error) => Ok(Ok(LeftOut::Unknown)),
            Err(error) => Ok(Err(error)),
        }
    }

    /// The run has ended. Where it has read everything, what is mirrored is as new as its beginning.
    async fn complete(&self, fault: Option<String>, whole: bool) -> Result<()> {
        self.settle(move |state| {
            // Another process may have brought the run to its end meanwhile; what is known stays known.
            state.as_of = state.started_at.take().filter(|_| whole).max(state.as_of);
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

    pub(super) async fn fail(&self, reason: &str) -> Result<()> {
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

/// Whether a run is to be gone on with. One that came to nothing, a while ago, is begun anew: what is read from now on is
/// as old as now, not as old as the outage.
fn is_to_go_on(state: &ListState, now: Timestamp) -> bool {
    let Some(start) = state.started_at else { return false };
    state.cursor.is_some() || now.duration_since(start) < ABANDONED_AFTER
}

/// What became of an object that a list left out.
enum LeftOut {
    Gone,
    There,
    /// It has a test clock: Stripe lists such objects only for those who ask for the clock.
    OfClock,
    /// The server has no place to ask at.
    Unknown,
}

enum Read {
    /// `left_out`: what could not be read on the way, and why.
    ToTheEnd {
        objects: u64,
        left_out: Option<String>,
    },
    NoSuchList,
}

#[derive(Default, serde::Deserialize)]
struct Stub {
    deleted: Option<bool>,
    test_clock: Option<serde::de::IgnoredAny>,
}
