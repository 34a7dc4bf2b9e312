//! Credit notes: an invoice costs less after all. Before it is paid less is due; afterwards money or credit goes back.

use super::{
    Answer, Call, add, billing, changed, collection, credit_note_lines, embedded, find, in_place, invoices, list,
    named, refunds,
};
use crate::error::StripeError;
use crate::kind::{Index, Kind};
use crate::params::{Field, Params, Spec, opt, req};
use crate::world::{World, array};
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) const LIST: &[Field] =
    &[opt("customer", Spec::Text), opt("customer_account", Spec::Unsupported), opt("invoice", Spec::Text)];

pub(super) const AMOUNT: Spec = Spec::Int(0, 99_999_999);
pub(crate) const CREATE: &[Field] = &[
    req("invoice", Spec::Text),
    opt("amount", AMOUNT),
    opt("credit_amount", AMOUNT),
    opt("effective_at", Spec::Unsupported),
    opt("email_type", Spec::Ignored),
    opt("lines", Spec::List(&Spec::Hash(credit_note_lines::LINE))),
    opt("memo", Spec::Text),
    opt("metadata", Spec::Metadata),
    opt("out_of_band_amount", AMOUNT),
    opt("reason", Spec::OneOf(&["duplicate", "fraudulent", "order_change", "product_unsatisfactory"])),
    opt("refund_amount", AMOUNT),
    opt("refunds", Spec::Unsupported),
    opt("shipping_cost", Spec::Unsupported),
];

pub(crate) const UPDATE: &[Field] = &[opt("memo", Spec::Clearable), opt("metadata", Spec::Metadata)];

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    list(world, Kind::CreditNote, call, &[("invoice", Index::Invoice), ("customer", Index::Customer)])
}

pub(crate) fn lines(world: &World, call: &Call<'_>) -> Answer {
    let note = find(&world.store, Kind::CreditNote, call.id())?;
    let lines = array(&note["lines"]["data"]).iter().map(|line| Arc::new(line.clone()));
    in_place(call, "line item", lines.collect())
}

pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    let invoice = named(&world.store, Kind::Invoice, sent.need("invoice")?, "invoice")?;
    world.follow_clock(&invoice);
    let before = world.store.all(Kind::CreditNote, Index::Invoice, sent.need("invoice")?);
    let id = world.id("cn");
    let rows = credit_note_lines::of(&world.store, &id, &invoice, sent)?;
    let sums = credit_note_lines::sums(&rows);
    let amount = sums["total"].as_i64().unwrap_or_default();
    let issued = before.iter().filter(|note| note["status"] == "issued");
    let already: i64 = issued.filter_map(|note| note["amount"].as_i64()).sum();
    check(&invoice, amount, already)?;
    let paid = invoice["status"] == "paid";
    if paid {
        check_split(sent, amount)?;
    }
    let number = format!("{}-CN-{:02}", invoice["number"].as_str().unwrap_or_default(), before.len() + 1);
    let mut note = object(&id, &invoice, rows, amount, &number, world.now);
    add(&mut note, sums);
    sent.assign(&mut note, &["memo", "reason", "out_of_band_amount"]);
    sent.merge_metadata(&mut note);
    if paid {
        note["type"] = json!("post_payment");
        note["post_payment_amount"] = json!(amount);
        note["pre_payment_amount"] = json!(0);
        give_back(world, &invoice, &mut note, sent)?;
    }
    owe_less(world, &invoice, amount, paid);
    changed(world, Kind::CreditNote, note)
}

fn check(invoice: &Value, amount: i64, already: i64) -> Result<(), StripeError> {
    if invoice["status"] != "open" && invoice["status"] != "paid" {
        let text = "You can only create credit notes for invoices that are open or paid.";
        return Err(StripeError::invalid(text).param("invoice"));
    }
    let paid = invoice["status"] == "paid";
    let left = if paid { invoice["total"].as_i64() } else { invoice["amount_remaining"].as_i64() };
    let left = left.unwrap_or_default() - if paid { already } else { 0 };
    if amount <= 0 || amount > left {
        let text = format!("The amount of the credit note ({amount}) must be positive and at most {left}.");
        return Err(StripeError::invalid(text).param("amount"));
    }
    Ok(())
}

/// What was paid goes back in parts that sum to the whole.
fn check_split(sent: &Params, amount: i64) -> Result<(), StripeError> {
    let sum = parts(sent);
    if sum == amount {
        return Ok(());
    }
    let text = format!(
        "The sum of refund_amount, credit_amount and out_of_band_amount ({sum}) must equal the credit note amount ({amount})."
    );
    Err(StripeError::invalid(text))
}

/// The sum of the parts that were asked for; one that was not is nothing.
pub(super) fn parts(sent: &Params) -> i64 {
    ["refund_amount", "credit_amount", "out_of_band_amount"].iter().filter_map(|name| sent.int(name)).sum()
}

fn object(id: &str, invoice: &Value, rows: Vec<Value>, amount: i64, number: &str, at: i64) -> Value {
    let pdf = format!("https://pay.stripe.com/credit_notes/{}/test_{id}/pdf?s=ap", super::account::ID);
    json!({
        "id": id, "object": "credit_note", "amount": amount, "amount_shipping": 0, "created": at,
        "currency": invoice["currency"], "customer": invoice["customer"], "customer_account": null,
        "customer_balance_transaction": null, "effective_at": at,
        "invoice": invoice["id"], "lines": embedded(format!("/v1/credit_notes/{id}/lines"), rows), "livemode": false,
        "memo": null, "metadata": {}, "number": number, "out_of_band_amount": null, "pdf": pdf,
        "post_payment_amount": 0, "pre_payment_amount": amount, "pretax_credit_amounts": [], "reason": null,
        "refunds": [], "shipping_cost": null, "status": "issued", "type": "pre_payment", "voided_at": null
    })
}

fn give_back(world: &mut World, invoice: &Value, note: &mut Value, sent: &Params) -> Result<(), StripeError> {
    if let Some(amount) = sent.int("refund_amount").filter(|amount| *amount > 0) {
        let charge = collection::payment_of(&world.store, invoice)
            .and_then(|(_, intent)| intent["latest_charge"].as_str().and_then(|id| world.store.get(Kind::Charge, id)));
        let text = "The invoice was not paid by a charge that can be refunded.";
        let charge = charge.ok_or_else(|| StripeError::invalid(text).param("refund_amount"))?;
        let refund = refunds::give(world, &charge, Some(amount), None)?;
        let refund = world.store.put(Kind::Refund, refund);
        note["refunds"] = json!([{
            "amount_refunded": amount, "payment_record_refund": null, "refund": refund["id"], "type": "refund"
        }]);
    }
    if let Some(amount) = sent.int("credit_amount").filter(|amount| *amount > 0) {
        let customer = billing::of_customer(&world.store, invoice);
        let mut customer = (*customer).clone();
        customer["balance"] = json!(customer["balance"].as_i64().unwrap_or_default() - amount);
        world.store.put(Kind::Customer, customer);
    }
    Ok(())
}

fn owe_less(world: &mut World, invoice: &Value, amount: i64, paid: bool) {
    let mut invoice = invoice.clone();
    let add = |invoice: &mut Value, name: &str, amount: i64| {
        invoice[name] = json!(invoice[name].as_i64().unwrap_or_default() + amount);
    };
    if paid {
        add(&mut invoice, "post_payment_credit_notes_amount", amount);
        world.store.put(Kind::Invoice, invoice);
        return;
    }
    add(&mut invoice, "pre_payment_credit_notes_amount", amount);
    add(&mut invoice, "amount_due", -amount);
    add(&mut invoice, "amount_remaining", -amount);
    if invoice["amount_remaining"].as_i64() == Some(0) {
        invoices::settle(&mut invoice, world.now);
    } else if let Some((_, intent)) = collection::payment_of(&world.store, &invoice) {
        let mut intent = (*intent).clone();
        intent["amount"] = invoice["amount_due"].clone();
        world.store.put(Kind::PaymentIntent, intent);
    }
    let stored = world.store.put(Kind::Invoice, invoice);
    if stored["status"] == "paid" {
        collection::paid(world, &stored);
    }
}

/// The note that would be issued. Nothing of it happens.
pub(crate) fn preview(world: &mut World, call: &Call<'_>) -> Answer {
    let note = create(world, call);
    world.undo();
    note
}

pub(crate) fn update(world: &mut World, call: &Call<'_>) -> Answer {
    let mut note = (*find(&world.store, Kind::CreditNote, call.id())?).clone();
    call.params.assign(&mut note, &["memo"]);
    call.params.merge_metadata(&mut note);
    changed(world, Kind::CreditNote, note)
}

/// Takes a credit note back, as long as its invoice is open.
pub(crate) fn void(world: &mut World, call: &Call<'_>) -> Answer {
    let mut note = (*find(&world.store, Kind::CreditNote, call.id())?).clone();
    let invoice = find(&world.store, Kind::Invoice, note["invoice"].as_str().unwrap_or_default())?;
    if note["status"] == "void" || invoice["status"] != "open" {
        let text = "You can only void a credit note that is issued, for an invoice that is open.";
        return Err(StripeError::invalid(text));
    }
    owe_less(world, &invoice, -note["amount"].as_i64().unwrap_or_default(), false);
    note["status"] = json!("void");
    note["voided_at"] = json!(world.now);
    changed(world, Kind::CreditNote, note)
}
