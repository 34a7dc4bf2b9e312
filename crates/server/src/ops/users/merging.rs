//! Two users who are one person are made one of them.

use billing::account::Account;
use billing::catalogue::Catalogue;
use billing::entry::Terms;
use jiff::Timestamp;

use super::database_time;
use crate::app::App;
use crate::counters::reading::Said;
use crate::error::{Error, Result};
use crate::ops::mirror;
use crate::ops::subscriptions;
use crate::ops::usage::merging::{History, Move, Moved, Side};
use crate::ops::usage::{self, plans};
use crate::store::mirror::Resource;
use crate::store::users::{self, User};
use crate::store::{self, Tx};

/// How often it begins anew because something was recorded meanwhile.
const TRIES: usize = 50;

/// What becomes of a user who is the same person as another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Merged {
    pub moved: Moved,
    /// The customer at Stripe that goes with it.
    pub customer: Option<String>,
}

/// The two as the database has them, and the one who stays as they will be.
#[derive(Debug, Clone)]
struct Pair {
    from: User,
    into: User,
    /// The customer that goes over.
    customer: Option<String>,
    /// The terms of `into` then, and since when.
    terms: Terms,
    began: Timestamp,
}

/// Makes one user of two who are the same person: `from` is disabled, and what they have used in the running credit period, what is
/// left of their packs and their customer at Stripe are those of `into`. Sums over both stay what they were, by type and by day. All
/// of it is done, or nothing; said again it moves what has come since.
///
/// # Errors
/// `user.subscribed` where both have a customer and the one of `from` has a subscription that has not ended; `user.busy` while something
/// is reserved for `from`; `user.owes` where it would change what is to be paid; `usage.moved_on` where something is recorded for them
/// all the time, or one of their credit periods has just begun.
pub async fn merge(app: &App, from: &str, into: &str, preview: bool) -> Result<Merged> {
    if from == into {
        return Err(Error::invalid("/into", "expected another user"));
    }
    for id in [from, into] {
        settle(app, id).await?;
    }
    let mut history = History::default();
    for _ in 0..TRIES {
        let now = app.clock.now();
        let pair = look(app, from, into, now).await?;
        let sides = [side(app, &pair.from).await?, side(app, &pair.into).await?];
        let last = sides.iter().map(|side| (side.user.clone(), side.account.position())).collect();
        let [from_side, into_side] = sides;
        history.follow(app, from, &from_side.account).await?;
        let into_side = after_plan(app, &pair, into_side, now).await?;
        let made = Move::of(app, &history, &from_side, &into_side, now)?;
        if preview {
            return Ok(Merged { moved: made.moved, customer: pair.customer });
        }
        let customer = pair.customer.clone();
        let change = Box::new(move |tx: &mut Tx<'_>| pair.write(tx, now));
        match made.write(app, into, usage::batch::With { last, change }).await {
            Ok(moved) => {
                app.db.outwait_other_readers().await;
                plans::follow_user(app, from).await?;
                return Ok(Merged { moved, customer });
            }
            Err(Error::Conflict { code: "usage.moved_on", .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let detail = "something is recorded for these users all the time".to_owned();
    Err(Error::Conflict { code: "usage.moved_on", detail })
}

/// Whoever has a customer by their address has it from now on, and the log says the terms that hold.
async fn settle(app: &App, id: &str) -> Result<()> {
    let user = id.to_owned();
    let user = app.db.read(move |tx| users::get(tx, &user)).await?.ok_or(Error::NotFound)?;
    if let Some(customer) = super::customer(app, &user).await? {
        mirror::ensure(app, Resource::Subscriptions, &customer).await?;
    }
    plans::follow_user(app, id).await
}

async fn look(app: &App, from: &str, into: &str, now: Timestamp) -> Result<Pair> {
    let (from, into, catalogue) = (from.to_owned(), into.to_owned(), app.catalogue.clone());
    app.db.read(move |tx| Pair::read(tx, &catalogue, [&from, &into], now)).await
}

async fn side(app: &App, user: &User) -> Result<Side> {
    let account = usage::account(app, user).await?.lock().account.clone();
    Ok(Side { user: user.id.clone(), account })
}

/// How the one who stays will stand by the terms that come with the customer.
async fn after_plan(app: &App, pair: &Pair, side: Side, now: Timestamp) -> Result<Side> {
    if *side.account.terms() == pair.terms {
        return Ok(side);
    }
    let terms = pair.terms.clone();
    if side.account.position() == 0 {
        let account = Account::new(terms, now.as_millisecond()).map_err(Error::internal)?;
        return Ok(Side { account, ..side });
    }
    let (catalogue, user, before) = (app.catalogue.clone(), side.user.clone(), side.account.clone());
    let instants = [pair.began.as_millisecond(), now.as_millisecond()];
    let change = move |tx: &mut Tx<'_>| plans::change_entry(tx, &catalogue, (&user, &before), &terms, instants);
    let entry = app.db.read(change).await?;
    let mut account = side.account.clone();
    let said = Said::at(account.position() + 1, &entry);
    said.read(|entry| account.fold(entry))?.map_err(Error::internal)?;
    Ok(Side { account, ..side })
}

impl Pair {
    fn read(tx: &mut Tx<'_>, catalogue: &Catalogue, [from, into]: [&str; 2], now: Timestamp) -> Result<Self> {
        let from = users::get(tx, from)?.ok_or(Error::NotFound)?;
        let into = users::get(tx, into)?.ok_or(Error::NotFound)?;
        if into.disabled {
            return Err(Error::invalid("/into", "expected a user who is not disabled"));
        }
        let customer = match (&from.customer, &into.customer) {
            (Some(theirs), Some(own)) if theirs != own => {
                if let Some(running) = subscriptions::current_of(tx, theirs)? {
                    let detail = format!("{} has the subscription {}, which has not ended", from.id, running.id);
                    return Err(Error::Conflict { code: "user.subscribed", detail });
                }
                None // its invoices stay where they can be found
            }
            (customer, _) => customer.clone(),
        };
        let open = store::reservations::open(tx, now.as_millisecond())?;
        let theirs = open.iter().filter(|one| one.user == from.id);
        if let Some(until_ms) = theirs.map(|one| one.expires_ms).max() {
            let until = Timestamp::from_millisecond(until_ms).map_err(Error::internal)?;
            let detail =
                format!("something is reserved for {} until {until}: disable them and try again then", from.id);
            return Err(Error::Conflict { code: "user.busy", detail });
        }
        let then = User { customer: into.customer.clone().or_else(|| customer.clone()), ..into.clone() };
        let terms = plans::terms(tx, catalogue, &then, now)?;
        let began = plans::began(tx, &then, &terms, now)?;
        Ok(Self { from, into, customer, terms, began })
    }

    /// What the database has of it beside the log. The terms of `into` follow in the same transaction; those of `from` after it, as
    /// they may end the period that was moved.
    fn write(&self, tx: &mut Tx<'_>, now: Timestamp) -> Result<()> {
        let at = database_time(now);
        users::set_disabled(tx, &self.from.id, Some(now), &at)?;
        if let Some(customer) = &self.customer {
            users::unlink(tx, &self.from.id, &at)?;
            if self.into.customer.is_none() {
                users::link(tx, &self.into.id, customer, &at)?;
            }
            store::plans::mark_user(tx, &self.from.id)?;
        }
        Ok(())
    }
}
