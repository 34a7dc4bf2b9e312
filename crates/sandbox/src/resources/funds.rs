//! Money that moves without a customer: payouts to our bank, top-ups from it, transfers to connected accounts and back.

use super::{Answer, Call, account, balances, changed, currencies, embedded, find, in_place, named, plain, prices};
use crate::calendar::DAY;
use crate::error::StripeError;
use crate::kind::Kind;
use crate::params::{Field, Spec, opt, req};
use crate::world::{World, array};
use serde_json::json;
use std::sync::Arc;

const AMOUNT: Spec = Spec::Int(1, prices::AMOUNT_MAX);

pub(crate) const PAYOUT: &[Field] = &[
    req("amount", AMOUNT),
    req("currency", Spec::Text),
    opt("description", Spec::Text),
    opt("destination", Spec::Text),
    opt("metadata", Spec::Metadata),
    opt("method", Spec::OneOf(&["instant", "standard"])),
    opt("payout_method", Spec::Unsupported),
    opt("source_type", Spec::OneOf(&["bank_account", "card", "fpx"])),
    opt("statement_descriptor", Spec::Text),
];
pub(crate) const PAYOUT_LIST: &[Field] = &[
    opt("arrival_date", Spec::Range),
    opt("destination", Spec::Text),
    opt("status", Spec::OneOf(&["canceled", "failed", "in_transit", "paid", "pending"])),
];
pub(crate) const TOPUP: &[Field] = &[
    req("amount", AMOUNT),
    req("currency", Spec::Text),
    opt("description", Spec::Text),
    opt("metadata", Spec::Metadata),
    opt("source", Spec::Unsupported),
    opt("statement_descriptor", Spec::Text),
    opt("transfer_group", Spec::Text),
];
pub(crate) const TOPUP_LIST: &[Field] =
    &[opt("amount", Spec::Range), opt("status", Spec::OneOf(&["canceled", "failed", "pending", "succeeded"]))];
pub(crate) const TOPUP_UPDATE: &[Field] = &[opt("description", Spec::Text), opt("metadata", Spec::Metadata)];
pub(crate) const TRANSFER: &[Field] = &[
    req("currency", Spec::Text),
    req("destination", Spec::Text),
    opt("amount", AMOUNT),
    opt("description", Spec::Text),
    opt("metadata", Spec::Metadata),
    opt("source_transaction", Spec::Unsupported),
    opt("source_type", Spec::OneOf(&["bank_account", "card", "fpx"])),
    opt("transfer_group", Spec::Text),
];
pub(crate) const TRANSFER_LIST: &[Field] = &[opt("destination", Spec::Text), opt("transfer_group", Spec::Text)];
pub(crate) const TRANSFER_UPDATE: &[Field] = &[opt("description", Spec::Text), opt("metadata", Spec::Metadata)];
pub(crate) const REVERSAL: &[Field] = &[
    opt("amount", AMOUNT),
    opt("description", Spec::Text),
    opt("metadata", Spec::Metadata),
    opt("refund_application_fee", Spec::Unsupported),
];

/// The amount and currency of what is to move.
fn sum(call: &Call<'_>) -> Result<(i64, String), StripeError> {
    Ok((call.params.need_int("amount")?, currencies::parse(call.params.need("currency")?)?))
}

pub(crate) fn pay_out(world: &mut World, call: &Call<'_>) -> Answer {
    let (amount, currency) = sum(call)?;
    balances::must_have(world, amount, &currency)?;
    let id = world.id("po");
    let mut payout = json!({
        "id": id, "object": "payout", "amount": amount, "application_fee": null, "application_fee_amount": null,
        "arrival_date": (world.now / DAY + 2) * DAY, "automatic": false,
        "balance_transaction": balances::id_of(Kind::Payout, &id), "created": world.now, "currency": currency,
        "description": null, "destination": "ba_sandbox", "failure_balance_transaction": null, "failure_code": null,
        "failure_message": null, "livemode": false, "metadata": {}, "method": "standard", "original_payout": null,
        "payout_method": null, "reconciliation_status": "not_applicable", "reversed_by": null, "source_type": "card",
        "statement_descriptor": null, "status": "pending", "trace_id": null, "type": "bank_account"
    });
    plain::write(&mut payout, &call.params.with("currency", json!(currency)));
    changed(world, Kind::Payout, payout)
}

pub(crate) fn top_up(world: &mut World, call: &Call<'_>) -> Answer {
    let (_, currency) = sum(call)?;
    let id = world.id("tu");
    let mut topup = json!({
        "id": id, "object": "topup", "amount": null, "balance_transaction": null, "created": world.now,
        "currency": null, "description": null, "expected_availability_date": (world.now / DAY + 3) * DAY,
        "failure_code": null, "failure_message": null, "livemode": false, "metadata": {}, "source": null,
        "statement_descriptor": null, "status": "pending", "transfer_group": null
    });
    plain::write(&mut topup, &call.params.with("currency", json!(currency)));
    changed(world, Kind::Topup, topup)
}

pub(crate) fn transfer(world: &mut World, call: &Call<'_>) -> Answer {
    let (amount, currency) = sum(call)?;
    let destination = call.params.need("destination")?;
    if destination != account::ID {
        named(&world.store, Kind::Account, destination, "destination")?;
    }
    balances::must_have(world, amount, &currency)?;
    let id = world.id("tr");
    let payment = world.id("py");
    let mut transfer = json!({
        "id": id, "object": "transfer", "amount": null, "amount_reversed": 0,
        "balance_transaction": balances::id_of(Kind::Transfer, &id), "created": world.now, "currency": null,
        "description": null, "destination": null, "destination_payment": payment, "livemode": false, "metadata": {},
        "reversals": embedded(format!("/v1/transfers/{id}/reversals"), Vec::new()), "reversed": false,
        "source_transaction": null, "source_type": "card", "transfer_group": null
    });
    plain::write(&mut transfer, &call.params.with("currency", json!(currency)));
    changed(world, Kind::Transfer, transfer)
}

/// All or a part of a transfer comes back.
pub(crate) fn reverse(world: &mut World, call: &Call<'_>) -> Answer {
    let transfer = find(&world.store, Kind::Transfer, call.id())?;
    let number = |name: &str| transfer[name].as_i64().unwrap_or_default();
    let left = number("amount") - number("amount_reversed");
    let amount = call.params.int("amount").unwrap_or(left);
    if amount > left || left == 0 {
        let text = format!("Reversal amount ({amount}) is greater than unreversed amount on transfer ({left})");
        return Err(StripeError::invalid(text).param("amount"));
    }
    let id = world.id("trr");
    let mut reversal = json!({
        "id": id, "object": "transfer_reversal", "amount": amount,
        "balance_transaction": balances::id_of(Kind::TransferReversal, &id), "created": world.now,
        "currency": transfer["currency"], "destination_payment_refund": null, "metadata": {}, "source_refund": null,
        "transfer": transfer["id"]
    });
    call.params.merge_metadata(&mut reversal);
    let mut transfer = (*transfer).clone();
    transfer["amount_reversed"] = json!(transfer["amount_reversed"].as_i64().unwrap_or_default() + amount);
    transfer["reversed"] = json!(amount == left);
    if let Some(rows) = transfer["reversals"]["data"].as_array_mut() {
        rows.insert(0, reversal.clone());
    }
    world.store.put(Kind::Transfer, transfer);
    changed(world, Kind::TransferReversal, reversal)
}

pub(crate) fn reversals(world: &World, call: &Call<'_>) -> Answer {
    let transfer = find(&world.store, Kind::Transfer, call.id())?;
    let rows = array(&transfer["reversals"]["data"]).iter().map(|row| Arc::new(row.clone()));
    in_place(call, "transfer reversal", rows.collect())
}
