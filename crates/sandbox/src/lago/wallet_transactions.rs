//! `/wallet_transactions`: credits in and out. Lago has no key against repetition here: a repeated request doubles them.

use super::agenda::Due;
use super::asked::{Call, Fields};
use super::decimal::{Decimal, Rounding, TooLong};
use super::desk::{Answer, Reply};
use super::instant::{self, Micros};
use super::invoices;
use super::page::Page;
use super::refusal::{Faulty, Refusal};
use super::table::Place;
use super::wallets;
use super::world::{World, uuid};
use serde_json::{Value, json};

#[derive(Debug)]
pub(super) struct Transaction {
    lago_id: String,
    wallet: Place,
    kind: Kind,
    state: State,
    credits: Decimal,
    amount: Decimal,
    invoice: Option<String>,
    metadata: Value,
    name: Value,
    created_at: Micros,
}

/// Where credits come from or go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Paid,
    Granted,
    Voided,
    /// They paid an invoice.
    Invoiced,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Pending,
    Settled { at: Micros },
    Failed { at: Micros },
}

/// What a request may ask for, in the order in which it is done.
const ASKED: [(&str, Kind, &str); 3] = [
    ("paid_credits", Kind::Paid, "invalid_paid_credits"),
    ("granted_credits", Kind::Granted, "invalid_granted_credits"),
    ("voided_credits", Kind::Voided, "invalid_voided_credits"),
];

/// `POST /wallet_transactions`: one for each kind that is asked for.
pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    let sent = call.root("wallet_transaction")?;
    let (wallet, asked) = read(world, sent)?;
    let mut made = Vec::new();
    for (kind, credits) in asked {
        let place = add(world, wallet, kind, credits, (sent.sent("metadata"), sent.sent("name")))?;
        match kind {
            Kind::Paid => bill(world, place)?,
            Kind::Granted | Kind::Voided | Kind::Invoiced => settle(world, place),
        }
        made.push(view(world, place));
        world.tell("wallet_transaction.created", "wallet_transaction", &view(world, place));
    }
    Ok(Reply::Json(json!({ "wallet_transactions": made })))
}

fn read(world: &World, sent: Fields<'_>) -> Result<(Place, Vec<(Kind, Decimal)>), Refusal> {
    let mut faulty = Faulty::default();
    let wallet = sent.text("wallet_id").and_then(|id| world.wallets.find(&id));
    let Some(place) = wallet else {
        return Err(Refusal::field("wallet_id", "wallet_not_found"));
    };
    let wallet = &world.wallets[place];
    faulty.add_if(wallet.terminated_at.is_some(), "wallet_id", "wallet_is_terminated");
    let mut asked = Vec::new();
    for (name, kind, code) in ASKED {
        let Some(value) = sent.value(name) else { continue };
        let Some(credits) = Decimal::amount(Some(value)).filter(|credits| !credits.is_negative()) else {
            faulty.add(name, code);
            faulty.add(name, "invalid_amount");
            continue;
        };
        // Credits have five places; what is below is cut off.
        let kept = credits.rounded(5, Rounding::Down)?;
        faulty.add_if(kept.is_zero() && !credits.is_zero(), name, "amount_rounds_to_zero");
        if kind == Kind::Paid && !sent.flag("ignore_paid_top_up_limits") {
            let (worth, (least, most)) = (wallet.worth(kept)?, wallet.top_up_cents);
            faulty.add_if(least.is_some_and(|least| worth < least), name, "amount_below_minimum");
            faulty.add_if(most.is_some_and(|most| worth > most), name, "amount_above_maximum");
        }
        faulty.add_if(kind == Kind::Voided && kept.compared(wallet.credits)?.is_gt(), name, "insufficient_credits");
        if !kept.is_zero() {
            asked.push((kind, kept));
        }
    }
    faulty.verdict()?;
    Ok((place, asked))
}

fn add(world: &mut World, wallet: Place, kind: Kind, credits: Decimal, said: (Value, Value)) -> Result<Place, TooLong> {
    let lago_id = uuid("wallet_transaction", world.transactions.len());
    let (metadata, name) = said;
    let transaction = Transaction {
        lago_id: lago_id.clone(),
        wallet,
        kind,
        state: State::Pending,
        credits,
        amount: credits.times(world.wallets[wallet].rate)?,
        invoice: None,
        metadata: if metadata.is_array() { metadata } else { json!([]) },
        name,
        created_at: world.now,
    };
    Ok(world.transactions.push(&lago_id, transaction))
}

/// The credits of a new wallet: a job puts them in, so they are not in its first answer.
pub(super) fn begin_later(world: &mut World, wallet: Place, kind: Kind, credits: Decimal) -> Result<(), TooLong> {
    let place = add(world, wallet, kind, credits.rounded(5, Rounding::Down)?, (Value::Null, Value::Null))?;
    match kind {
        Kind::Paid => bill(world, place)?,
        Kind::Granted | Kind::Voided | Kind::Invoiced => world.agenda.put(world.now, Due::TopUp(place)),
    }
    Ok(())
}

/// Paid credits wait for the payment of their invoice.
fn bill(world: &mut World, place: Place) -> Result<(), TooLong> {
    let own = &world.transactions[place];
    let wallet = &world.wallets[own.wallet];
    let (customer, currency) = (wallet.customer, wallet.currency.clone());
    let cents = wallet.worth(own.credits)?;
    let invoice = invoices::for_credits(world, customer, &currency, cents, place);
    world.transactions[place].invoice = Some(invoice);
    Ok(())
}

/// Moves the credits of one that waits, and says so.
pub(super) fn settle(world: &mut World, place: Place) {
    let own = &mut world.transactions[place];
    if own.state != State::Pending {
        return;
    }
    own.state = State::Settled { at: world.now };
    let wallet = &mut world.wallets[own.wallet];
    let moved = match own.kind {
        Kind::Paid | Kind::Granted => wallet.credits.plus(own.credits),
        Kind::Voided | Kind::Invoiced => wallet.credits.minus(own.credits),
    };
    // No sum of credits that were let in comes near the 38 digits, so this is a fault of ours and not of the caller's.
    if let Ok(credits) = moved {
        wallet.credits = credits;
    } else {
        tracing::error!(wallet = wallet.lago_id, "the sandbox holds no such number of credits");
    }
    world.tell("wallet_transaction.updated", "wallet_transaction", &view(world, place));
}

/// The payment of its invoice failed.
pub(super) fn fail(world: &mut World, place: Place) {
    if world.transactions[place].state == State::Pending {
        world.transactions[place].state = State::Failed { at: world.now };
        world.tell("wallet_transaction.updated", "wallet_transaction", &view(world, place));
    }
}

/// Takes out what pays so many cents of an invoice.
pub(super) fn consume(world: &mut World, wallet: Place, amount_cents: i64) -> Result<(), TooLong> {
    let held = &world.wallets[wallet];
    let credits = wallets::credits_for(held, amount_cents)?;
    let credits = if credits.compared(held.credits)?.is_gt() { held.credits } else { credits };
    let place = add(world, wallet, Kind::Invoiced, credits, (Value::Null, Value::Null))?;
    world.transactions[place].state = State::Settled { at: world.now };
    wallets::debit(&mut world.wallets[wallet], credits)
}

fn view(world: &World, place: Place) -> Value {
    let own = &world.transactions[place];
    let (status, settled_at, failed_at) = match own.state {
        State::Pending => ("pending", None, None),
        State::Settled { at } => ("settled", Some(at), None),
        State::Failed { at } => ("failed", None, Some(at)),
    };
    let (transaction_status, transaction_type) = match own.kind {
        Kind::Paid => ("purchased", "inbound"),
        Kind::Granted => ("granted", "inbound"),
        Kind::Voided => ("voided", "outbound"),
        Kind::Invoiced => ("invoiced", "outbound"),
    };
    json!({
        "lago_id": own.lago_id,
        "lago_wallet_id": world.wallets[own.wallet].lago_id,
        "lago_invoice_id": own.invoice,
        "lago_credit_note_id": null,
        "status": status,
        "source": "manual",
        "transaction_status": transaction_status,
        "transaction_type": transaction_type,
        "amount": own.amount.text(),
        "credit_amount": own.credits.text(),
        "remaining_amount_cents": null,
        "remaining_credit_amount": null,
        "priority": 50,
        "settled_at": settled_at.map(instant::seconds),
        "failed_at": failed_at.map(instant::seconds),
        "invoice_requires_successful_payment": false,
        "metadata": own.metadata,
        "name": own.name,
        "created_at": instant::seconds(own.created_at),
    })
}

/// `GET /wallet_transactions/{lago_id}`
pub(super) fn show(world: &World, lago_id: &str) -> Answer {
    let place = world.transactions.find(lago_id).ok_or_else(|| Refusal::not_found("wallet_transaction"))?;
    Ok(Reply::Json(json!({"wallet_transaction": view(world, place)})))
}

/// `GET /wallets/{lago_id}/wallet_transactions`
pub(super) fn list(world: &World, call: &Call, wallet: &str) -> Answer {
    let wallet = world.wallets.find(wallet).ok_or_else(|| Refusal::not_found("wallet"))?;
    let own = |place: &Place| world.transactions[*place].wallet == wallet;
    let all: Vec<Place> = (0..world.transactions.len()).rev().filter(own).collect();
    Ok(Page::of(call).show("wallet_transactions", &all, |place| view(world, *place)))
}
