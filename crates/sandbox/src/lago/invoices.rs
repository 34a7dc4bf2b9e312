//! `/invoices`: what a period came to, and what credits cost. Issued at once and final; nobody pays by themselves.

use super::asked::Call;
use super::charges::decimals;
use super::decimal::{Decimal, Rounding, TooLong};
use super::desk::{Answer, Reply};
use super::instant::{self, Micros};
use super::page::Page;
use super::periods::Period;
use super::refusal::Refusal;
use super::subscriptions;
use super::table::Place;
use super::taxes;
use super::usage::{self, Only, Seen};
use super::wallet_transactions;
use super::wallets;
use super::world::{World, uuid};
use serde_json::{Value, json};

const DAY: Micros = 24 * 60 * 60 * instant::SECOND;

#[derive(Debug)]
pub(super) struct Invoice {
    pub(super) lago_id: String,
    pub(super) billed: Billed,
    pub(super) customer: Place,
    number: usize,
    currency: String,
    fees_cents: i64,
    taxes_cents: i64,
    /// Paid out of a wallet.
    prepaid_cents: i64,
    payment: Payment,
    created_at: Micros,
}

/// What an invoice is about.
#[derive(Debug)]
pub(super) enum Billed {
    /// A period, with the usage as it was shown when it ended.
    Period { subscription: Place, usage: Value },
    /// Credits for a wallet.
    Credits { transaction: Place },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Payment {
    Pending,
    Succeeded,
    Failed,
}

impl Payment {
    const ALL: [(&'static str, Payment); 3] =
        [("pending", Payment::Pending), ("succeeded", Payment::Succeeded), ("failed", Payment::Failed)];

    fn name(self) -> &'static str {
        Payment::ALL.iter().find(|(_, own)| *own == self).map_or("", |(name, _)| name)
    }
}

/// Bills a period of a subscription. What arrives for it later is stored and never billed.
pub(super) fn close(world: &mut World, place: Place, period: Period) {
    let whole = subscriptions::period_at(world, place, period.from);
    let part = subscriptions::counted_part(world, place, period);
    let priced = usage::of(world, place, part, Only::default(), Seen::ByAnInvoice)
        .and_then(|usage| Ok((fee(world, place, part, whole)?, usage)));
    let Ok((fee, usage)) = priced else {
        let subscription = &world.subscriptions[place].external_id;
        tracing::error!(subscription, "the sandbox cannot bill numbers of more than 38 digits");
        return;
    };
    let lago_id = uuid("invoice", world.invoices.len());
    let customer = world.subscriptions[place].customer;
    let view = usage::view(world, place, &usage, Some(&lago_id));
    let fees_cents = usage.amount_cents.saturating_add(fee);
    let taxes_cents = taxes::on(world, fees_cents).unwrap_or(i64::MAX);
    let prepaid_cents = wallets::pay(world, customer, &usage.currency, fees_cents.saturating_add(taxes_cents));
    let billed = Billed::Period { subscription: place, usage: view };
    issue(world, Invoice { fees_cents, taxes_cents, prepaid_cents, ..new(world, customer, &usage.currency, billed) });
}

/// The plan's own price, by the days of the period that it ran; the sandbox bills it when the period is over.
fn fee(world: &World, place: Place, part: Period, whole: Period) -> Result<i64, TooLong> {
    let days = |period: Period| {
        let begun = (period.until - period.from).max(0).saturating_add(DAY - 1) / DAY;
        Decimal::whole(begun.into())
    };
    let plan = &world.plans[world.subscriptions[place].plan];
    let amount = Decimal::whole(plan.amount_cents.into()).times(days(part))?;
    amount.over(days(whole), 0, Rounding::HalfUp)?.unwrap_or_default().cents(0)
}

/// An invoice for credits; they are there when it is paid.
pub(super) fn for_credits(
    world: &mut World,
    customer: Place,
    currency: &str,
    cents: i64,
    transaction: Place,
) -> String {
    let invoice = new(world, customer, currency, Billed::Credits { transaction });
    let lago_id = invoice.lago_id.clone();
    issue(world, Invoice { fees_cents: cents, ..invoice });
    lago_id
}

fn new(world: &World, customer: Place, currency: &str, billed: Billed) -> Invoice {
    let number = world.invoices.len();
    Invoice {
        lago_id: uuid("invoice", number),
        billed,
        customer,
        number: number + 1,
        currency: currency.to_owned(),
        fees_cents: 0,
        taxes_cents: 0,
        prepaid_cents: 0,
        payment: Payment::Pending,
        created_at: world.now,
    }
}

fn issue(world: &mut World, mut invoice: Invoice) {
    if invoice.due() == 0 {
        invoice.payment = Payment::Succeeded;
    }
    let lago_id = invoice.lago_id.clone();
    let place = world.invoices.push(&lago_id, invoice);
    let view = view(world, &world.invoices[place]);
    world.tell("invoice.created", "invoice", &view);
}

impl Invoice {
    fn total(&self) -> i64 {
        self.fees_cents.saturating_add(self.taxes_cents).saturating_sub(self.prepaid_cents)
    }

    fn due(&self) -> i64 {
        if self.payment == Payment::Succeeded { 0 } else { self.total() }
    }
}

fn view(world: &World, invoice: &Invoice) -> Value {
    let customer = &world.customers[invoice.customer];
    let date = instant::date_in(&customer.zone, invoice.created_at);
    let (kind, subscriptions) = match &invoice.billed {
        Billed::Period { subscription, .. } => ("subscription", vec![subscriptions::view(world, *subscription)]),
        Billed::Credits { .. } => ("credit", Vec::new()),
    };
    let with_taxes = invoice.fees_cents.saturating_add(invoice.taxes_cents);
    json!({
        "lago_id": invoice.lago_id,
        "billing_entity_code": "sandbox",
        "sequential_id": invoice.number,
        "number": format!("SAND-{:03}-{:03}", invoice.customer + 1, invoice.number),
        "issuing_date": date,
        "payment_due_date": date,
        "net_payment_term": customer.view["net_payment_term"].as_i64().unwrap_or(0),
        "invoice_type": kind,
        "status": "finalized",
        "payment_status": invoice.payment.name(),
        "payment_dispute_lost_at": null,
        "payment_overdue": false,
        "currency": invoice.currency,
        "fees_amount_cents": invoice.fees_cents,
        "taxes_amount_cents": invoice.taxes_cents,
        "progressive_billing_credit_amount_cents": 0,
        "coupons_amount_cents": 0,
        "credit_notes_amount_cents": 0,
        "sub_total_excluding_taxes_amount_cents": invoice.fees_cents,
        "sub_total_including_taxes_amount_cents": with_taxes,
        "prepaid_credit_amount_cents": invoice.prepaid_cents,
        "total_amount_cents": invoice.total(),
        "total_due_amount_cents": invoice.due(),
        "total_paid_amount_cents": invoice.total() - invoice.due(),
        "file_url": null,
        "version_number": 4,
        "self_billed": false,
        "voided_at": null,
        "created_at": instant::seconds(invoice.created_at),
        "updated_at": instant::seconds(invoice.created_at),
        "customer": customer.view,
        "subscriptions": subscriptions,
        "metadata": [],
        "applied_taxes": [],
    })
}

fn find(world: &World, lago_id: &str) -> Result<Place, Refusal> {
    world.invoices.find(lago_id).ok_or_else(|| Refusal::not_found("invoice"))
}

/// `GET /invoices/{lago_id}`
pub(super) fn show(world: &World, lago_id: &str) -> Answer {
    Ok(Reply::Json(json!({"invoice": view(world, &world.invoices[find(world, lago_id)?])})))
}

/// `GET /invoices`
pub(super) fn list(world: &World, call: &Call) -> Reply {
    let (customer, payment) = (call.query("external_customer_id"), call.queries("payment_status"));
    let wanted = |invoice: &&Invoice| {
        customer.is_none_or(|id| world.customers[invoice.customer].text("external_id") == id)
            && (payment.is_empty() || payment.contains(&invoice.payment.name()))
            && call.query("status").is_none_or(|status| status == "finalized")
    };
    let all: Vec<&Invoice> = world.invoices.newest().filter(wanted).collect();
    Page::of(call).show("invoices", &all, |invoice| view(world, invoice))
}

/// `PUT /invoices/{lago_id}`: says how a payment outside of Lago went. Paid credits are then in their wallet.
pub(super) fn update(world: &mut World, call: &Call, lago_id: &str) -> Answer {
    let place = find(world, lago_id)?;
    let sent = call.root("invoice")?;
    if let Some(name) = sent.text("payment_status") {
        let payment = Payment::ALL.iter().find(|(own, _)| *own == name).map(|(_, payment)| *payment);
        let payment = payment.ok_or_else(|| Refusal::field("payment_status", "value_is_invalid"))?;
        let before = std::mem::replace(&mut world.invoices[place].payment, payment);
        if let Billed::Credits { transaction } = world.invoices[place].billed
            && before != payment
        {
            match payment {
                Payment::Succeeded => wallet_transactions::settle(world, transaction),
                Payment::Failed => wallet_transactions::fail(world, transaction),
                Payment::Pending => {}
            }
        }
        let shown = view(world, &world.invoices[place]);
        world.tell("invoice.payment_status_updated", "invoice", &shown);
    }
    show(world, lago_id)
}

/// The cents that so many decimals of a currency are.
pub(super) fn cents(currency: &str, amount: Decimal) -> Result<i64, TooLong> {
    amount.cents(decimals(currency).unwrap_or(2))
}
