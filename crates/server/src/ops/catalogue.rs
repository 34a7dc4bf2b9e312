//! The catalogue that a database is priced by. Only `serve` puts another one in its place, and only while nobody serves by the
//! one that is there; every other command takes what it finds.

use std::sync::Arc;
use std::time::Duration;

use billing::account::Account;
use billing::catalogue::Catalogue;

use super::derivation;
use super::lago::codes;
use crate::app::App;
use crate::error::{Error, Result};
use crate::store::db::{Dialect, Isolation};
use crate::store::leases::Presence;
use crate::store::{Db, Tx, accounts, facts};

/// How long others take us for running after we have last said so.
const HELD_MS: i64 = 15_000;
/// How often we say so.
pub const SAID: Duration = Duration::from_secs(5);
/// How many accounts are looked at in one transaction.
const PAGE: i64 = 200;
/// Serving processes say by which catalogue.
const SERVING: &str = "serve";

/// The catalogue that a command works by beside whoever serves: the database's. One that is new there is given `own`.
pub async fn of_database(db: &Db, own: Catalogue) -> Result<Catalogue> {
    let fingerprint = own.fingerprint();
    let text = match db.read(kept).await? {
        (None, _) => {
            let ours = own.clone();
            db.write_in(Isolation::Statement, move |tx| keep(tx, &fingerprint, &ours)).await?;
            return Ok(own);
        }
        (Some(known), _) if known == fingerprint => {
            codes::begin(db, &own).await?;
            return Ok(own);
        }
        (_, text) => text,
    };
    let parsed = text.and_then(|text| Catalogue::parse(&text).ok());
    let theirs = parsed.ok_or_else(|| Error::Conflict { code: "catalogue.other", detail: UNREADABLE.to_owned() })?;
    if &*own.text != Catalogue::BUILT_IN {
        tracing::warn!(
            "BILLHOOK_CATALOG is not the catalogue of this database: the one that `billhook serve` keeps there holds"
        );
    }
    codes::begin(db, &theirs).await?;
    Ok(theirs)
}

const UNREADABLE: &str = "BILLHOOK_CATALOG: this database is priced by another catalogue, which it does not hold in a form \
    that this version reads: start billhook serve once, or give this command the file that billhook serve has";

/// Makes ours the database's catalogue, and derives everything anew where it was another.
pub async fn adopt(app: &App) -> Result<()> {
    let (fingerprint, text) = (app.catalogue.fingerprint(), Arc::clone(&app.catalogue.text));
    let (known, known_text) = app.db.read(kept).await?;
    let before = known_text.as_deref().and_then(|text| Catalogue::parse(text).ok());
    codes::begin(&app.db, before.as_ref().unwrap_or(&app.catalogue)).await?;
    if known.as_deref() == Some(&*fingerprint) && known_text.as_deref() == Some(&*text) {
        return Ok(());
    }
    if known.as_ref().is_some_and(|known| *known != fingerprint) {
        tracing::warn!(
            built_in = &*text == Catalogue::BUILT_IN,
            "the catalogue is not the one that this database was priced by: credits, prices and limits of everybody change now"
        );
        derivation::follow_catalogue(app).await?;
    }
    let catalogue = Arc::clone(&app.catalogue);
    app.db.write_in(Isolation::Statement, move |tx| keep(tx, &fingerprint, &catalogue)).await
}

/// Refuses a currency in which no account is: overage of two currencies cannot be added up, and nobody has said what a credit is
/// worth in the other. A version before this one took it, and left a database with accounts in both: that goes on with either.
pub async fn in_its_currency(app: &App) -> Result<()> {
    let ours = app.catalogue.currency;
    let mut theirs = None;
    let mut seen = |account: &Account| {
        let currency = account.terms().price_per_1k.currency();
        theirs.get_or_insert(currency);
        currency == ours
    };
    if app.book.slots().iter().any(|slot| seen(&slot.lock().account)) {
        return Ok(());
    }
    let mut after = String::new();
    loop {
        let from = after;
        let page = app.db.read(move |tx| accounts::page(tx, &from, PAGE)).await?;
        // One that cannot be read says nothing here.
        if page.iter().filter_map(|kept| Account::decode(&kept.state).ok()).any(|account| seen(&account)) {
            return Ok(());
        }
        let Some(last) = page.into_iter().next_back() else { break };
        after = last.user;
    }
    theirs.map_or(Ok(()), |theirs| {
        let (ours, theirs) = (ours.code(), theirs.code());
        let detail = format!(
            "BILLHOOK_CATALOG: its currency is {ours}, and the accounts of this database are in {theirs}: they keep it, so give \
             billhook serve a catalogue in {theirs}, or a database of its own"
        );
        Err(Error::Conflict { code: "catalogue.other", detail })
    })
}

/// The fingerprint and the text of the database's catalogue. A version before this one kept no text.
fn kept(tx: &mut Tx<'_>) -> Result<(Option<String>, Option<String>)> {
    Ok((facts::get(tx, facts::CATALOGUE)?, facts::get(tx, facts::CATALOGUE_TEXT)?))
}

fn keep(tx: &mut Tx<'_>, fingerprint: &str, catalogue: &Catalogue) -> Result<()> {
    codes::follow(tx, catalogue)?;
    facts::set(tx, facts::CATALOGUE, fingerprint)?;
    facts::set(tx, facts::CATALOGUE_TEXT, &catalogue.text)
}

/// Says that `holder` serves by a catalogue, for a while; refused while somebody serves by another one, or two would price the
/// same usage in turns. A SQLite file has one server anyway (`store::db::serve_lock`).
pub async fn serve_by(db: &Db, catalogue: &Catalogue, holder: &str) -> Result<()> {
    if db.dialect() == Dialect::Sqlite {
        return Ok(());
    }
    let (ours, presence) = (catalogue.fingerprint(), presence(catalogue, holder));
    db.write(move |tx| {
        if presence.others(tx)?.iter().any(|theirs| *theirs != ours) {
            return Err(Error::Conflict { code: "catalogue.other", detail: OTHER.to_owned() });
        }
        presence.say(tx, HELD_MS)
    })
    .await
}

const OTHER: &str = "BILLHOOK_CATALOG: another billhook serve works on this database by another catalogue: give this one the same \
    file, or stop the others first (one that was killed counts as running for 15 seconds)";

/// Says that we do not serve any more.
pub async fn leave(app: &App) -> Result<()> {
    let presence = presence(&app.catalogue, &app.holder);
    app.db.write(move |tx| presence.end(tx)).await
}

fn presence(catalogue: &Catalogue, holder: &str) -> Presence {
    Presence::new(SERVING, holder, catalogue.fingerprint())
}
