//! Compares the mirror with Stripe: each object, each field, each column that we derive from it. What differs is looked at
//! once more before it is called a difference, because both sides go on while we read.

pub mod difference;
pub mod sampling;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::value::RawValue;

use self::difference::Difference;
use super::places::{self, payment_methods_of, places};
use super::readings::{self, Look};
use super::sync::NO_SUCH_LIST;
use super::webhooks::alone::{Found, found};
use super::{derivation, doctor, mirror, usage::plans};
use crate::app::App;
use crate::error::{Error, Result};
use crate::gateways::stripe::{Pages, Stripe, StripeError, read};
use crate::store::mirror::Resource;
use crate::store::revenue::Since;
use crate::store::webhooks::Target;
use crate::store::{self, Tx, customers, syncs, verification, webhooks};

/// Customers whose payment methods are read in one step, and how many of them at once.
const CUSTOMERS: i64 = 96;
const ABREAST: usize = 16;
const UNMET_BATCH: i64 = 100;
/// How long an event may take to be applied before its object counts as different.
const PATIENCE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(250);

/// What happens to what differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Compare,
    /// What Stripe says is written.
    Repair,
}

/// What a comparison of everything came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Objects of Stripe's that were compared.
    pub objects: u64,
    /// Objects that differ; with [`Mode::Repair`] they no longer do.
    pub different: u64,
    /// What could not be compared: whether it differs is not known.
    pub uncompared: Vec<Uncompared>,
}

/// A list, or objects of one, that Stripe did not show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uncompared {
    pub resource: Resource,
    /// The first of the objects, and how many there are; nothing where it is the whole list.
    pub objects: Option<(String, u64)>,
    pub reason: String,
    /// Stripe itself says that it has no such list, and nothing of it is mirrored: then nothing can differ.
    pub is_absent: bool,
}

impl Verified {
    /// Whether everything that is mirrored was compared. Where no list was there, nothing was.
    pub fn is_whole(&self) -> bool {
        let lists = self.uncompared.iter().filter(|one| one.objects.is_none()).count();
        lists < Resource::ALL.len() && self.uncompared.iter().all(|one| one.is_absent)
    }
}

/// Who is told of each difference.
pub type Tell<'a> = &'a mut (dyn FnMut(&Difference) + Send);

/// Compares everything, page by page, in memory that does not grow with the mirror.
pub async fn run(app: &App, mode: Mode, tell: Tell<'_>) -> Result<Verified> {
    let Some(stripe) = &app.stripe else { return Ok(Verified::default()) };
    let run = billing::id::new("vrf_", app.clock.now(), app.chance.bytes()?);
    let mut walk = Walk { app, stripe, mode, run, verified: Verified::default() };
    for resource in Resource::ALL {
        walk.list(resource, tell).await?;
    }
    app.db.write(verification::forget_met).await?;
    if mode == Mode::Repair && walk.verified.different > 0 {
        finish_repairs(app).await?;
    }
    Ok(walk.verified)
}

/// What hangs on objects that were repaired. Where a row was wrong by itself, nobody knows what the totals had counted of it:
/// they are counted anew.
async fn finish_repairs(app: &App) -> Result<()> {
    app.db.write(doctor::recount).await?;
    derivation::follow_parts(app).await?;
    plans::follow(app).await
}

struct Walk<'a> {
    app: &'a App,
    stripe: &'a Stripe,
    mode: Mode,
    run: String,
    verified: Verified,
}

impl Walk<'_> {
    async fn list(&mut self, resource: Resource, tell: Tell<'_>) -> Result<()> {
        let read = if resource == Resource::PaymentMethods {
            self.payment_methods(tell).await?
        } else {
            self.pages(resource, tell).await?
        };
        if let Err(error) = read {
            return self.leave_list_out(resource, &error).await;
        }
        let mut after = String::new();
        loop {
            let (run, from) = (self.met(resource), after.clone());
            let ids = self.app.db.read(move |tx| verification::unmet(tx, resource, &run, &from, UNMET_BATCH)).await?;
            let Some(last) = ids.last().cloned() else { return Ok(()) };
            for id in ids {
                self.look_closer(resource, &id, tell).await?;
            }
            after = last;
        }
    }

    /// Under which name is remembered what was met of a list: another list may have the same ids.
    fn met(&self, resource: Resource) -> String {
        format!("{} {}", self.run, resource.name())
    }

    /// An outage is no empty list: what was not compared is not said to agree.
    async fn leave_list_out(&mut self, resource: Resource, error: &StripeError) -> Result<()> {
        let mirrored = self.app.db.read(move |tx| store::mirror::unseen(tx, resource, i64::MAX, "", 1)).await?;
        let said_by_stripe = error.is_missing_object();
        let reason = if said_by_stripe { NO_SUCH_LIST.to_owned() } else { error.to_string() };
        let is_absent = said_by_stripe && mirrored.is_empty();
        self.verified.uncompared.push(Uncompared { resource, objects: None, reason, is_absent });
        Ok(())
    }

    fn leave_out(&mut self, resource: Resource, id: &str, reason: String) {
        let known = self.verified.uncompared.iter_mut().find(|one| one.resource == resource);
        if let Some((_, count)) = known.and_then(|one| one.objects.as_mut()) {
            *count += 1;
            return;
        }
        let objects = Some((id.to_owned(), 1));
        self.verified.uncompared.push(Uncompared { resource, objects, reason, is_absent: false });
    }

    /// Every page of a list. The inner error is Stripe's.
    async fn pages(&mut self, resource: Resource, tell: Tell<'_>) -> Result<Result<(), StripeError>> {
        let (mut pages, mut page) = match open(self.stripe, resource).await {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(error)),
        };
        while let Some(objects) = page {
            // The next page is on its way while this one is compared.
            let (next, compared) = tokio::join!(pages.next(), self.compare(resource, objects, tell));
            compared?;
            page = match next {
                Ok(next) => next.map(|page| page.objects),
                Err(error) => return Ok(Err(error)),
            };
        }
        Ok(Ok(()))
    }

    async fn payment_methods(&mut self, tell: Tell<'_>) -> Result<Result<(), StripeError>> {
        let (app, stripe) = (self.app, self.stripe);
        let mut some = payment_methods_after(app, stripe, String::new()).await?;
        loop {
            match some {
                Ok(Some((last, objects))) => {
                    let next = payment_methods_after(app, stripe, last);
                    let (next, compared) = tokio::join!(next, self.compare(Resource::PaymentMethods, objects, tell));
                    compared?;
                    some = next?;
                }
                Ok(None) => return Ok(Ok(())),
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    async fn compare(&mut self, resource: Resource, objects: Vec<Box<RawValue>>, tell: Tell<'_>) -> Result<()> {
        if objects.is_empty() {
            return Ok(());
        }
        let mut page = Vec::new();
        for object in objects {
            let mut raw = object.get().to_owned();
            let id = read::id(&raw).map_err(Error::internal)?;
            if resource == Resource::Subscriptions
                && let Err(error) = places::complete_items(self.stripe, &mut raw).await
            {
                self.leave_out(resource, &id, error.to_string());
                continue;
            }
            page.push((id, raw));
        }
        self.verified.objects += page.len() as u64;
        let (run, ids) = (self.met(resource), page.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>());
        // Side by side, so that both share one commit.
        let met = self.app.db.write(move |tx| verification::meet(tx, &run, &ids));
        let (met, suspects) = tokio::join!(met, suspects(self.app, resource, page));
        met?;
        for id in suspects? {
            self.look_closer(resource, &id, tell).await?;
        }
        Ok(())
    }

    async fn look_closer(&mut self, resource: Resource, id: &str, tell: Tell<'_>) -> Result<()> {
        wait_for_events(self.app, resource, id).await?;
        match look(self.app, self.stripe, resource, id, self.mode).await? {
            Looked::Compared(differences) => {
                self.verified.different += u64::from(!differences.is_empty());
                differences.iter().for_each(&mut *tell);
            }
            Looked::Superseded => {}
            Looked::InVain(error) => self.leave_out(resource, id, error.to_string()),
        }
        Ok(())
    }
}

/// Payment methods of some customers, of whom the last is named; nothing after the last of all. The inner error is Stripe's.
type Methods = Result<Option<(String, Vec<Box<RawValue>>)>, StripeError>;

async fn payment_methods_after(app: &App, stripe: &Stripe, after: String) -> Result<Methods> {
    let customers = app.db.read(move |tx| customers::ids(tx, &after, CUSTOMERS)).await?;
    let Some(last) = customers.last().cloned() else { return Ok(Ok(None)) };
    let asked = stream::iter(&customers).map(|customer| payment_methods_of(stripe, customer));
    let found = asked.buffer_unordered(ABREAST).try_collect::<Vec<_>>().await;
    Ok(found.map(|found| Some((last, found.into_iter().flatten().collect()))))
}

/// The list with the richest query that the server takes, and its first page.
async fn open(stripe: &Stripe, resource: Resource) -> Result<(Pages, Option<Vec<Box<RawValue>>>), StripeError> {
    let (mut refused, mut absent) = (None, None);
    for place in places(resource) {
        for query in place.queries {
            let mut pages = stripe.pages(place.path, query, None);
            match pages.next().await {
                Ok(page) => return Ok((pages, page.map(|page| page.objects))),
                Err(error) if error.is_not_found() => {
                    absent = Some(error);
                    break;
                }
                Err(error @ StripeError::Status { status: 400, .. }) => refused = Some(error),
                Err(error) => return Err(error),
            }
        }
    }
    Err(refused.or(absent).unwrap_or(StripeError::Request("no list has these objects")))
}

/// Objects of a page that do not look as they do at Stripe.
async fn suspects(app: &App, resource: Resource, page: Vec<(String, String)>) -> Result<Vec<String>> {
    let catalogue = app.catalogue.clone();
    let now = readings::stripe_now(app);
    undone(app, move |tx| {
        let mut suspects = Vec::new();
        for (id, raw) in &page {
            let state = Found::There(raw.clone());
            if !differences(tx, resource, id, &state, &catalogue, now)?.is_empty() {
                suspects.push(id.clone());
            }
        }
        Ok(suspects)
    })
    .await
}

/// How the mirror differs from a state. Writes the state to see it; whoever only wants to know undoes that.
fn differences(
    tx: &mut Tx<'_>,
    resource: Resource,
    id: &str,
    state: &Found,
    catalogue: &billing::catalogue::Catalogue,
    now: jiff::Timestamp,
) -> Result<Vec<Difference>> {
    let there = store::mirror::is_there(tx, resource, id)?;
    let ours = if there { store::mirror::raw(tx, resource, id)? } else { None };
    let Found::There(theirs) = state else {
        return Ok(difference::of_texts(resource, id, ours.as_deref().or(there.then_some("{}")), None));
    };
    let texts = difference::of_texts(resource, id, ours.as_deref(), Some(theirs));
    if !texts.is_empty() {
        return Ok(texts);
    }
    let before = verification::row(tx, resource, id)?.unwrap_or_default();
    let run = syncs::get(tx, resource.name())?.map_or(0, |state| state.run);
    verification::loosen(tx, resource, id)?;
    let since = Since { at: now, cause: "verify".to_owned(), exact: false };
    mirror::apply(tx, resource, theirs, run, catalogue, now, &since)?;
    let after = verification::row(tx, resource, id)?.unwrap_or_default();
    Ok(difference::of_rows(resource, id, &before, &after))
}

/// Runs `work` in a transaction that is undone, whatever it wrote.
async fn undone<T, F>(app: &App, mut work: F) -> Result<T>
where
    F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    T: Send + 'static,
{
    const UNDO: &str = "verify.undone";
    let slot: Arc<Mutex<Option<T>>> = Arc::default();
    let kept = Arc::clone(&slot);
    let undo = app
        .db
        .write(move |tx| -> Result<()> {
            let value = work(tx)?;
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
            Err(Error::Conflict { code: UNDO, detail: String::new() })
        })
        .await;
    match undo {
        Err(Error::Conflict { code: UNDO, .. }) | Ok(()) => {}
        Err(error) => return Err(error),
    }
    let value = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    value.ok_or_else(|| Error::internal("a transaction that was undone left no answer"))
}

/// Gives a webhook that is under way the time to be applied: what is only late is no difference.
async fn wait_for_events(app: &App, resource: Resource, id: &str) -> Result<()> {
    let start = tokio::time::Instant::now();
    loop {
        let target = Target { resource, id: id.to_owned() };
        let waiting = app.db.read(move |tx| webhooks::waiting_of(tx, &target)).await?;
        if waiting.is_empty() || start.elapsed() >= PATIENCE {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What became of the comparison of one object.
enum Looked {
    Compared(Vec<Difference>),
    /// Somebody else has looked meanwhile.
    Superseded,
    /// Stripe did not show it.
    InVain(StripeError),
}

/// Asks Stripe for one object and says how ours differs; with [`Mode::Repair`] it is written as it is there.
async fn look(app: &App, stripe: &Stripe, resource: Resource, id: &str, mode: Mode) -> Result<Looked> {
    let look = Look::begin(app, "verify").await?;
    let state = match places::object(stripe, resource, id).await {
        Ok(raw) => found(raw),
        Err(error) if places::is_missing(&error) => Found::Gone,
        Err(error) => return Ok(Looked::InVain(error)),
    };
    let (look, catalogue, now) = (look.ended(app), app.catalogue.clone(), readings::stripe_now(app));
    let (of, seen, ticket) = (id.to_owned(), state.clone(), look.ticket);
    let differences = undone(app, move |tx| {
        let later = store::readings::of(tx, resource, &of)?.is_some_and(|known| known.ticket > ticket);
        if later { Ok(None) } else { differences(tx, resource, &of, &seen, &catalogue, now).map(Some) }
    })
    .await?;
    if mode == Mode::Repair && differences.as_ref().is_some_and(|found| !found.is_empty()) {
        repair(app, look, resource, id.to_owned(), state).await?;
    }
    Ok(differences.map_or(Looked::Superseded, Looked::Compared))
}

async fn repair(app: &App, look: Look, resource: Resource, id: String, state: Found) -> Result<()> {
    let (catalogue, now) = (app.catalogue.clone(), app.clock.now());
    app.db
        .write(move |tx| {
            verification::loosen(tx, resource, &id)?;
            match &state {
                Found::Gone => drop(readings::delete(tx, &look, resource, &id)?),
                Found::There(raw) => {
                    let run = syncs::get(tx, resource.name())?.map_or(0, |state| state.run);
                    readings::apply(tx, &look, resource, raw, run, &catalogue, now)?;
                }
            }
            Ok(())
        })
        .await
}
