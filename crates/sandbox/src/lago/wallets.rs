//! `/wallets`: prepaid credits. They are put in by transactions and taken out when a period is billed.

use super::asked::{Call, Fields};
use super::charges::decimals;
use super::decimal::{Decimal, Rounding, TooLong};
use super::desk::{Answer, Reply};
use super::instant::{self, Micros};
use super::invoices::cents;
use super::page::Page;
use super::refusal::{Faulty, Refusal};
use super::table::Place;
use super::wallet_transactions::{self, Kind};
use super::world::{World, uuid};
use serde_json::{Value, json};

/// Wallets that a customer may have at a time.
const WALLETS_MAX: usize = 6;

#[derive(Debug)]
pub(super) struct Wallet {
    pub(super) lago_id: String,
    pub(super) customer: Place,
    /// What one credit is worth, in the currency.
    pub(super) rate: Decimal,
    pub(super) currency: String,
    pub(super) credits: Decimal,
    pub(super) terminated_at: Option<Micros>,
    /// The least and the most cents that a purchase of credits may come to.
    pub(super) top_up_cents: (Option<i64>, Option<i64>),
    consumed: Decimal,
    name: Value,
    expiration_at: Value,
    created_at: Micros,
}

impl Wallet {
    /// What so many credits are worth.
    pub(super) fn worth(&self, credits: Decimal) -> Result<i64, TooLong> {
        cents(&self.currency, credits.times(self.rate)?)
    }
}

/// `POST /wallets`. The answer shows the wallet before the credits are in it: a job does that.
pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    let sent = call.root("wallet")?;
    if !sent.list("recurring_transaction_rules").is_empty() {
        return Err(Refusal::forbidden("feature_unavailable"));
    }
    let wallet = read(world, sent)?;
    let lago_id = wallet.lago_id.clone();
    let place = world.wallets.push(&lago_id, wallet);
    let shown = view(world, place);
    world.tell("wallet.created", "wallet", &shown);
    for (name, kind) in [("paid_credits", Kind::Paid), ("granted_credits", Kind::Granted)] {
        let credits = sent.amount(name).filter(|credits| !credits.is_zero());
        if let Some(credits) = credits {
            wallet_transactions::begin_later(world, place, kind, credits)?;
        }
    }
    Ok(Reply::Json(json!({ "wallet": shown })))
}

fn read(world: &World, sent: Fields<'_>) -> Result<Wallet, Refusal> {
    let mut faulty = Faulty::default();
    let customer = sent.text("external_customer_id").and_then(|id| world.customers.find(&id));
    faulty.add_if(customer.is_none(), "customer", "customer_not_found");
    let many = customer.is_some_and(|customer| of_customer(world, customer).count() >= WALLETS_MAX);
    faulty.add_if(many, "customer", "wallet_limit_reached");
    let rate = sent.amount("rate_amount").filter(|rate| !rate.is_negative() && !rate.is_zero());
    faulty.add_if(rate.is_none(), "rate_amount", "value_is_invalid");
    let currency = sent.text("currency").filter(|code| decimals(code).is_some());
    faulty.add_if(currency.is_none(), "currency", "value_is_invalid");
    let own = customer.map_or("", |customer| world.customers[customer].text("currency"));
    let differs = currency.as_ref().is_some_and(|currency| !own.is_empty() && own != currency);
    faulty.add_if(differs, "currency", "currencies_does_not_match");
    for (name, code) in [("paid_credits", "invalid_paid_credits"), ("granted_credits", "invalid_granted_credits")] {
        if sent.value(name).is_some() && sent.amount(name).is_none_or(Decimal::is_negative) {
            faulty.add(name, code);
            faulty.add(name, "invalid_amount");
        }
    }
    let expires = sent.value("expiration_at").map(|value| value.as_str().and_then(instant::of_text));
    faulty.add_if(expires.is_some_and(|at| at.is_none_or(|at| at <= world.now)), "expiration_at", "invalid_date");
    faulty.verdict()?;
    let bound = |name: &str| sent.value(name).and_then(Value::as_i64);
    Ok(Wallet {
        lago_id: uuid("wallet", world.wallets.len()),
        customer: customer.unwrap_or_default(),
        rate: rate.unwrap_or_default(),
        currency: currency.unwrap_or_default(),
        credits: Decimal::ZERO,
        terminated_at: None,
        top_up_cents: (bound("paid_top_up_min_amount_cents"), bound("paid_top_up_max_amount_cents")),
        consumed: Decimal::ZERO,
        name: sent.sent("name"),
        expiration_at: sent.sent("expiration_at"),
        created_at: world.now,
    })
}

/// The open wallets of a customer, oldest first.
fn of_customer(world: &World, customer: Place) -> impl Iterator<Item = Place> {
    (0..world.wallets.len()).filter(move |place| {
        let wallet = &world.wallets[*place];
        wallet.customer == customer && wallet.terminated_at.is_none()
    })
}

/// Pays as much of an amount as a customer's wallets hold, and returns how many cents that was.
pub(super) fn pay(world: &mut World, customer: Place, currency: &str, amount_cents: i64) -> i64 {
    let mut paid = 0;
    for place in of_customer(world, customer).collect::<Vec<_>>() {
        let wallet = &world.wallets[place];
        let held = wallet.worth(wallet.credits).unwrap_or_default();
        let cents = held.min(amount_cents - paid);
        if wallet.currency == currency && cents > 0 && wallet_transactions::consume(world, place, cents).is_ok() {
            paid += cents;
        }
    }
    paid
}

/// The credits that so many cents are, to five places as Lago keeps them.
pub(super) fn credits_for(wallet: &Wallet, amount_cents: i64) -> Result<Decimal, TooLong> {
    let one = Decimal::whole(10_i128.pow(decimals(&wallet.currency).unwrap_or(2)));
    let worth = one.times(wallet.rate)?;
    Ok(Decimal::whole(amount_cents.into()).over(worth, 5, Rounding::HalfUp)?.unwrap_or_default())
}

/// Takes credits out, for what was used.
pub(super) fn debit(wallet: &mut Wallet, credits: Decimal) -> Result<(), TooLong> {
    wallet.consumed = wallet.consumed.plus(credits)?;
    wallet.credits = wallet.credits.minus(credits)?;
    Ok(())
}

pub(super) fn view(world: &World, place: Place) -> Value {
    let wallet = &world.wallets[place];
    let customer = &world.customers[wallet.customer];
    let cents = wallet.worth(wallet.credits).unwrap_or(i64::MAX);
    json!({
        "lago_id": wallet.lago_id,
        "lago_customer_id": customer.view["lago_id"],
        "external_customer_id": customer.view["external_id"],
        "status": if wallet.terminated_at.is_some() { "terminated" } else { "active" },
        "currency": wallet.currency,
        "name": wallet.name,
        "code": null,
        "priority": 50,
        "rate_amount": wallet.rate.text(),
        "credits_balance": wallet.credits.text(),
        "balance_cents": cents,
        "consumed_credits": wallet.consumed.text(),
        // Refreshed by a job that open-source Lago has only with a licence.
        "credits_ongoing_balance": wallet.credits.text(),
        "credits_ongoing_usage_balance": "0.0",
        "ongoing_balance_cents": cents,
        "ongoing_usage_balance_cents": 0,
        "invoice_requires_successful_payment": false,
        "paid_top_up_min_amount_cents": wallet.top_up_cents.0,
        "paid_top_up_max_amount_cents": wallet.top_up_cents.1,
        "applies_to": {"fee_types": [], "billable_metric_codes": []},
        "recurring_transaction_rules": [],
        "expiration_at": wallet.expiration_at,
        "last_balance_sync_at": null,
        "last_consumed_credit_at": null,
        "terminated_at": wallet.terminated_at.map(instant::seconds),
        "created_at": instant::seconds(wallet.created_at),
    })
}

fn find(world: &World, lago_id: &str) -> Result<Place, Refusal> {
    world.wallets.find(lago_id).ok_or_else(|| Refusal::not_found("wallet"))
}

/// `GET /wallets/{lago_id}`
pub(super) fn show(world: &World, lago_id: &str) -> Answer {
    Ok(Reply::Json(json!({"wallet": view(world, find(world, lago_id)?)})))
}

/// `GET /wallets?external_customer_id=`
pub(super) fn list(world: &World, call: &Call) -> Answer {
    let customer = world.customer(call.query("external_customer_id").unwrap_or_default())?;
    let own = |place: &Place| world.wallets[*place].customer == customer;
    let all: Vec<Place> = (0..world.wallets.len()).rev().filter(own).collect();
    Ok(Page::of(call).show("wallets", &all, |place| view(world, *place)))
}

/// `DELETE /wallets/{lago_id}`
pub(super) fn terminate(world: &mut World, lago_id: &str) -> Answer {
    let place = find(world, lago_id)?;
    world.wallets[place].terminated_at.get_or_insert(world.now);
    let shown = view(world, place);
    world.tell("wallet.terminated", "wallet", &shown);
    Ok(Reply::Json(json!({ "wallet": shown })))
}
