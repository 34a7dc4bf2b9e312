//! Whose entries a group has: their accounts, and whether they are still users of the platform.

use std::collections::HashSet;
use std::sync::Arc;

use billing::entry::PlanChange;

use super::batch::Batch;
use super::draft::{Draft, new_account, plan_entry};
use super::following::written;
use super::plans;
use crate::app::App;
use crate::counters::book::Slot;
use crate::counters::reading;
use crate::error::{Error, Result};
use crate::store::log::{Entry, Kind, Source};
use crate::store::{self, Tx, users};

/// Who of a group is still a user.
#[derive(Debug, Default)]
pub(super) struct People {
    /// Those of whom nobody had asked before, asked for at once; nothing as long as everybody is known.
    read: Option<HashSet<String>>,
    /// The places of those who have an account and are gone.
    gone: HashSet<usize>,
}

impl People {
    /// Whether this is the account of somebody who is no user any more.
    pub(super) fn are_without(&self, user: usize) -> bool {
        self.gone.contains(&user)
    }

    fn has(&mut self, tx: &mut Tx<'_>, app: &App, batches: &[Batch], id: &str) -> Result<bool> {
        let Err(epoch) = app.answers.disabled.get(id) else { return Ok(true) };
        if let Some(read) = &self.read {
            return Ok(read.contains(id));
        }
        let users = batches.iter().flat_map(|batch| {
            let candidates = batch.candidates.iter().map(|candidate| &*candidate.entry.user);
            candidates.chain(batch.plans.iter().map(String::as_str))
        });
        let unknown: HashSet<&str> = users.filter(|user| app.answers.disabled.get(user).is_err()).collect();
        let found = users::which_are_there(tx, unknown.into_iter())?;
        if app.db.notices_other_writers() {
            for (user, disabled) in &found {
                app.answers.disabled.keep(epoch, user, *disabled);
            }
        }
        let read = self.read.insert(found.into_iter().map(|(user, _)| user).collect());
        Ok(read.contains(id))
    }
}

/// Whether an entry counts also for who is gone: the work was begun while they were here, or it says something about what they used.
pub(super) fn is_owed(entry: &Entry) -> bool {
    entry.kind != Kind::Usage || matches!(entry.source, Source::Reservation | Source::FirstLog)
}

impl<'g> Draft<'g> {
    /// The user's account, from memory, from the database, or a new one with a first entry of its terms.
    pub(super) fn user(&mut self, tx: &mut Tx<'_>, id: &'g str, is_owed: bool) -> Result<Option<usize>> {
        if let Some(known) = self.known.get(id) {
            return Ok(*known);
        }
        if self.broken.contains(id) {
            return Err(Error::internal("this account could not be read"));
        }
        let is_here = self.people.has(tx, self.app, self.batches, id)?;
        // Something may be held of a user who has no entry yet: that account begins with this one.
        let in_memory = self.app.book.get(id);
        let in_book = in_memory.as_ref().filter(|slot| slot.is_open());
        let slot = if let Some(slot) = in_book {
            Some(Arc::clone(slot))
        } else {
            let held = in_memory.as_ref().filter(|_| is_owed);
            self.load(tx, id, held).inspect_err(|_| _ = self.broken.insert(id))?
        };
        let Some(slot) = slot else {
            // A commit that comes behind this one may have an account.
            if in_memory.is_none() {
                self.known.insert(id, None);
            }
            return Ok(None);
        };
        let at = self.users.len();
        if in_book.is_none() {
            self.new.push(at);
        }
        if slot.lock().account.is_nearly_full() {
            self.nearly_full.insert(at);
        }
        if !is_here {
            self.people.gone.insert(at);
        }
        self.users.push(slot);
        self.known.insert(id, Some(at));
        Ok(Some(at))
    }

    /// `held`: where something was held of somebody who is gone, their account begins with the terms that held then.
    fn load(&mut self, tx: &mut Tx<'_>, id: &str, held: Option<&Arc<Slot>>) -> Result<Option<Arc<Slot>>> {
        if let Some(slot) = written(tx, id)? {
            return Ok(Some(slot));
        }
        // Unmarked before the terms are read: a change that comes in between marks them anew.
        store::plans::unmark(tx, id)?;
        let terms = match (users::get(tx, id)?, held) {
            (Some(user), _) => {
                plans::show_tier(tx, &self.app.catalogue, &user, self.now)?;
                plans::terms(tx, &self.app.catalogue, &user, self.now)?
            }
            (None, Some(held)) => held.lock().account.terms().clone(),
            (None, None) => return Ok(None),
        };
        let account = new_account(terms, self.now)?;
        let body = reading::plan_body(PlanChange::KeepUsed, account.terms(), &[]);
        let entry = plan_entry(id, body, account.position(), [self.now.as_millisecond(); 2]);
        // Its place is the next in the list of users, where the caller puts the slot.
        self.add_made(self.users.len(), entry);
        Ok(Some(Slot::new(id, account)))
    }
}
