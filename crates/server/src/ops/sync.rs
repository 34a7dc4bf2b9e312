//! The full sync: every list of Stripe's from its beginning to its end, with a checkpoint in the transaction of each page.

mod customer;
mod walk;

pub use self::customer::customer;
use self::walk::Walk;
use super::usage::plans;
use super::{derivation, mirror};
use crate::app::App;
use crate::error::Result;
use crate::store::mirror::Resource;

/// The fault of a list that the server answers with 404.
pub const NO_SUCH_LIST: &str = "the server does not have this list";

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
    /// Lists that the server does not have, that contradict themselves, or that were not read whole; by name, with the reason.
    pub faults: Vec<(&'static str, String)>,
    /// Some objects of a list could not be read: what is mirrored of it is as old as before, and is to be read again soon.
    pub incomplete: bool,
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
                outcome.incomplete |= done.unread;
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
    plans::follow(app).await?;
    app.db
        .write(|tx| {
            tx.changed(crate::store::Change::Everything);
            Ok(())
        })
        .await?;
    failure.map_or(Ok(outcome), |error| Err(mirror::unavailable(error)))
}
