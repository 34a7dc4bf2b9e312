//! A batch in the writer's queue: what one caller wants appended.

use tokio::sync::oneshot;

use super::writer::{Candidate, Verdict};
use crate::app::App;
use crate::error::{Error, Result};
use crate::store::Tx;
use crate::store::log::Source;

#[derive(Debug)]
pub(super) struct Batch {
    /// Users whose terms may have changed.
    pub(super) plans: Vec<String>,
    pub(super) candidates: Vec<Candidate>,
    pub(super) whole: Whole,
    /// What went wrong with one of its candidates or users while others of its group were recorded.
    pub(super) failed: Option<Error>,
    pub(super) done: oneshot::Sender<Result<Vec<Verdict>>>,
}

/// Whether a batch is recorded whole or not at all.
#[derive(Debug)]
pub(super) enum Whole {
    /// Each candidate for itself.
    No,
    /// All or none. What was said when it was none.
    Yes { with: Option<With>, undone: Option<Vec<Verdict>> },
    /// None, whatever is said: somebody looks at what would be.
    Never { undone: Option<Vec<Verdict>> },
}

/// What is to be so for a batch, and what is to be done with it in the same transaction.
pub struct With {
    /// Users, each with the position of their last entry, 0 before they have one.
    pub last: Vec<(String, i64)>,
    pub change: Change,
}

/// Done before anything of the batch.
pub type Change = Box<dyn Fn(&mut Tx<'_>) -> Result<()> + Send>;

impl std::fmt::Debug for With {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("With").field("last", &self.last).finish_non_exhaustive()
    }
}

impl Batch {
    /// What is undone as a whole must not undo others: it is a group of its own.
    pub(super) fn goes_with(&self, next: &Self) -> bool {
        matches!((&self.whole, &next.whole), (Whole::No, Whole::No))
    }

    /// An error, so that its transaction is undone, where it is to be recorded whole and not all of it was.
    pub(super) fn accepts(&mut self, verdicts: &[Verdict], failed: Option<Error>) -> Result<()> {
        self.failed = failed;
        let (undone, is_tried) = match &mut self.whole {
            Whole::No => return Ok(()),
            Whole::Yes { undone, .. } => (undone, false),
            Whole::Never { undone } => (undone, true),
        };
        // Another try of the same transaction may find that all of it fits.
        *undone = None;
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if !is_tried && verdicts.iter().all(|verdict| matches!(verdict, Verdict::Recorded { .. })) {
            return Ok(());
        }
        *undone = Some(verdicts.to_vec());
        Err(Error::internal("a batch is not to be recorded, or not all of it can be"))
    }

    /// Tells its caller, who may have gone away: reservations whose commits are not in the log are as they were before that.
    pub(super) fn tell(self, app: &App, heard: Result<Vec<Verdict>>) {
        let commits = self.candidates.iter().enumerate().filter(|(_, one)| one.entry.source == Source::Reservation);
        for (place, candidate) in commits {
            let verdict = heard.as_ref().ok().and_then(|verdicts| verdicts.get(place));
            if !matches!(verdict, Some(Verdict::Recorded { .. })) {
                app.book.commit_failed(&candidate.entry.transaction_id);
            }
        }
        drop(self.done.send(self.failed.map_or(heard, Err)));
    }

    /// What its caller hears when its transaction was undone.
    pub(super) fn undone(&mut self, error: &Error) -> Result<Vec<Verdict>> {
        match &mut self.whole {
            Whole::Yes { undone: Some(verdicts), .. } | Whole::Never { undone: Some(verdicts) } => {
                Ok(std::mem::take(verdicts))
            }
            Whole::Yes { undone: None, .. } | Whole::Never { undone: None } | Whole::No => Err(alike(error)),
        }
    }
}

/// The error of a group for each of its callers: of the same kind, with its text as the cause.
fn alike(error: &Error) -> Error {
    let cause = error.to_string().into();
    match error {
        Error::Upstream { who, code, retry_after, .. } => {
            Error::Upstream { who: *who, code, retry_after: *retry_after, cause: Some(cause) }
        }
        Error::Conflict { code, detail } => Error::Conflict { code, detail: detail.clone() },
        _ => Error::Internal(cause),
    }
}
