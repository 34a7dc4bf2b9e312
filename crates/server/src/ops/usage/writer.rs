//! The writer of the usage log: takes everything that waits, appends it in one transaction, counts it, and then answers.
//!
//! One group is under way at a time. While the disk flushes it, the next one gathers: the flush itself sets the pace.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::batch::{Batch, Whole, With};
use super::group::Group;
use crate::app::App;
use crate::error::{Error, Result};
use crate::store::db::Isolation;
use crate::store::log::Entry;
use crate::telemetry::Counts;

/// How many events may wait before a caller is told to come back.
const WAITING_MAX: usize = 100_000;
/// How many events share one transaction at most.
const GROUP_MAX: usize = 8_192;
/// After so many entries the accounts are written down.
const UNWRITTEN_MAX: usize = 200_000;

/// An entry that is to be appended; judged by itself, not yet against the log.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub entry: Entry,
    /// Its sender gave the time; else it is not compared by it.
    pub timed: bool,
}

/// What became of a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is in the log and counts. `late`: its own period is over, so it counts in the running one.
    Recorded { position: i64, late: bool },
    /// The same event is in the log already.
    Duplicate { position: i64 },
    /// Another event with this id is in the log; names the member that differs.
    Conflict { member: &'static str },
    /// It is not recorded.
    Refused { code: &'static str, pointer: &'static str, detail: &'static str },
}

/// The writer; one for each process.
#[derive(Debug)]
pub struct Writer {
    queue: Mutex<Queue>,
    /// Told when enough has been counted to be written down.
    pub much_unwritten: Notify,
    /// Events that were not recorded, by the code of why.
    pub refusals: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Queue {
    batches: VecDeque<Batch>,
    waiting: usize,
    busy: bool,
}

impl Default for Writer {
    fn default() -> Self {
        Self { queue: Mutex::default(), much_unwritten: Notify::new(), refusals: Arc::default() }
    }
}

impl Writer {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends and counts; a verdict for each candidate. `Ok` means: on disk.
    ///
    /// # Errors
    /// `usage.queue_full` when too much waits, and what the database says. Nothing of it was recorded then, or, when the
    /// database went away during the commit, it is not known: the same ids again will tell.
    pub async fn append(&self, app: &App, candidates: Vec<Candidate>) -> Result<Vec<Verdict>> {
        self.submit(app, Vec::new(), candidates, Whole::No).await
    }

    /// The same for all or none: where one of the verdicts is not `Recorded`, nothing was recorded.
    pub async fn append_all(&self, app: &App, candidates: Vec<Candidate>) -> Result<Vec<Verdict>> {
        // One by itself is whole, and may share a transaction with others.
        let whole = if candidates.len() > 1 { Whole::Yes { with: None, undone: None } } else { Whole::No };
        self.submit(app, Vec::new(), candidates, whole).await
    }

    /// The same with the terms of these users where they have changed, and with a change of the database's own.
    ///
    /// # Errors
    /// `usage.moved_on` where an entry that was to be the last one of its user is not.
    pub(super) async fn append_with(
        &self,
        app: &App,
        plans: Vec<String>,
        candidates: Vec<Candidate>,
        with: With,
    ) -> Result<Vec<Verdict>> {
        self.submit(app, plans, candidates, Whole::Yes { with: Some(with), undone: None }).await
    }

    /// What would be said of them if they were appended; nothing is.
    pub async fn try_out(&self, app: &App, candidates: Vec<Candidate>) -> Result<Vec<Verdict>> {
        self.submit(app, Vec::new(), candidates, Whole::Never { undone: None }).await
    }

    /// Appends the terms of these users where they have changed.
    pub async fn replan(&self, app: &App, users: Vec<String>) -> Result<()> {
        self.submit(app, users, Vec::new(), Whole::No).await.map(drop)
    }

    async fn submit(
        &self,
        app: &App,
        plans: Vec<String>,
        candidates: Vec<Candidate>,
        whole: Whole,
    ) -> Result<Vec<Verdict>> {
        let (done, answer) = oneshot::channel();
        if self.queue(Batch { plans, candidates, whole, failed: None, done })? {
            start(app.clone());
        }
        answer.await.unwrap_or_else(|_| Err(Error::internal("the writer of the log has stopped")))
    }

    /// Puts a batch in line; whether the writer rested and is to be started.
    fn queue(&self, batch: Batch) -> Result<bool> {
        let mut queue = self.lock();
        if queue.waiting + batch.candidates.len() > WAITING_MAX {
            return Err(Error::LimitReached { code: "usage.queue_full", retry_after: Duration::from_secs(1) });
        }
        queue.waiting += batch.candidates.len();
        queue.batches.push_back(batch);
        Ok(!std::mem::replace(&mut queue.busy, true))
    }

    /// Events that wait for their turn.
    pub fn waiting(&self) -> usize {
        self.lock().waiting
    }

    /// The next group; nothing when nobody waits, and then the writer rests.
    fn next(&self) -> Option<Vec<Batch>> {
        let mut queue = self.lock();
        let mut group = Vec::new();
        let mut events = 0;
        while events < GROUP_MAX
            && let Some(batch) =
                queue.batches.pop_front_if(|next| group.last().is_none_or(|last: &Batch| last.goes_with(next)))
        {
            events += batch.candidates.len();
            group.push(batch);
        }
        queue.waiting -= events;
        queue.busy = !group.is_empty();
        (!group.is_empty()).then_some(group)
    }
}

/// Gives the next group to the database. Its end starts the one after it.
fn start(app: App) {
    let Some(batches) = app.usage.next() else { return };
    let batches = Arc::new(Mutex::new(batches));
    let (work_app, work_batches) = (app.clone(), Arc::clone(&batches));
    let now = app.clock.now();
    app.clone().db.write_then(
        Isolation::Statement,
        move |tx| {
            let mut batches = work_batches.lock().unwrap_or_else(PoisonError::into_inner);
            let mut group = Group::append(tx, &work_app, &batches, now)?;
            for (number, batch) in batches.iter_mut().enumerate() {
                batch.accepts(&group.verdicts, group.failed.remove(&number))?;
            }
            Ok(group)
        },
        move |outcome| {
            let batches = std::mem::take(&mut *batches.lock().unwrap_or_else(PoisonError::into_inner));
            finish(&app, batches, outcome);
            start(app);
        },
    );
}

fn finish(app: &App, batches: Vec<Batch>, outcome: Result<Group>) {
    let verdicts = match outcome {
        Ok(group) => group.count(app, &batches),
        Err(error) => {
            for mut batch in batches {
                let heard = batch.undone(&error);
                batch.tell(app, heard);
            }
            return;
        }
    };
    let mut verdicts = verdicts.into_iter();
    for batch in batches {
        let own = verdicts.by_ref().take(batch.candidates.len()).collect();
        batch.tell(app, Ok(own));
    }
    if app.book.unwritten() > UNWRITTEN_MAX {
        app.usage.much_unwritten.notify_one();
    }
}
