//! Our own balance at Stripe, and the movements that it is the sum of. Each movement is a view of the object that caused it,
//! so a charge has its balance transaction without a second object being kept for it; `source` finds it.

use super::{Answer, Call, Reply, in_place};
use crate::calendar::DAY;
use crate::error::StripeError;
use crate::kind::Kind;
use crate::params::{Field, Spec, opt};
use crate::store::{Query, Start, Store};
use crate::world::{World, array};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const LIST: &[Field] = &[
    opt("currency", Spec::Text),
    opt("payout", Spec::Unsupported),
    opt("source", Spec::Text),
    opt("type", Spec::Text),
];

/// What moves the balance: kind, letter in the id, prefix of the id, `type`, and which way its amount goes.
const MOVERS: &[(Kind, char, &str, &str, i64)] = &[
    (Kind::Charge, 'C', "ch", "charge", 1),
    (Kind::Refund, 'R', "re", "refund", -1),
    (Kind::Payout, 'P', "po", "payout", -1),
    (Kind::Topup, 'U', "tu", "topup", 1),
    (Kind::Transfer, 'T', "tr", "transfer", -1),
    (Kind::TransferReversal, 'V', "trr", "transfer_refund", 1),
];

/// How long what a card has paid is on its way to us.
const WAY: i64 = 2 * DAY;

/// The id of the movement that an object of this kind is.
pub(super) fn id_of(kind: Kind, id: &str) -> Value {
    let letter = MOVERS.iter().find(|(of, ..)| *of == kind).map(|(_, letter, ..)| letter);
    let rest = id.split_once('_').map_or(id, |(_, rest)| rest);
    letter.map_or(Value::Null, |letter| json!(format!("txn_{letter}{rest}")))
}

/// The movement that this object is, where it moves anything.
fn movement(kind: Kind, object: &Value, now: i64) -> Option<Value> {
    let (.., name, sign) = MOVERS.iter().find(|(of, ..)| *of == kind)?;
    let status = object["status"].as_str();
    let (amount, fee) = match kind {
        Kind::Charge if status == Some("succeeded") && object["captured"] == true => {
            let amount = object["amount_captured"].as_i64()?;
            (amount, fee(amount))
        }
        Kind::Refund | Kind::Topup if status == Some("succeeded") => (object["amount"].as_i64()?, 0),
        Kind::Payout if !matches!(status, Some("canceled" | "failed")) => (object["amount"].as_i64()?, 0),
        Kind::Transfer | Kind::TransferReversal => (object["amount"].as_i64()?, 0),
        _ => return None,
    };
    let created = object["created"].as_i64().unwrap_or_default();
    let at_once = kind != Kind::Charge || object["payment_method_details"]["card"]["last4"] == "0077";
    let from = if at_once { created } else { created + WAY };
    let details = json!([{
        "amount": fee, "application": null, "currency": object["currency"], "description": "Stripe processing fees",
        "type": "stripe_fee"
    }]);
    Some(json!({
        "id": id_of(kind, object["id"].as_str().unwrap_or_default()), "object": "balance_transaction",
        "amount": sign * amount, "available_on": from, "balance_type": "payments", "created": created,
        "currency": object["currency"], "description": object["description"], "exchange_rate": null, "fee": fee,
        "fee_details": if fee == 0 { json!([]) } else { details }, "net": sign * amount - fee,
        "reporting_category": if *name == "transfer_refund" { "transfer_reversal" } else { name },
        "source": object["id"], "status": if from > now { "pending" } else { "available" }, "type": name
    }))
}

/// 2.9 % and thirty of the smallest unit.
fn fee(amount: i64) -> i64 {
    (amount * 29 + 500) / 1000 + 30
}

/// All movements, oldest first; those of a dispute are kept in it.
fn movements(store: &Store, now: i64) -> Vec<Value> {
    let all = |kind: Kind| {
        let page = store.page(kind, &Query::default(), Start::Newest, usize::MAX - 1);
        page.rows.into_iter().map(move |row| (kind, store.made(&row))).collect::<Vec<_>>()
    };
    let mut out: Vec<Value> = MOVERS
        .iter()
        .flat_map(|(kind, ..)| all(*kind))
        .filter_map(|(kind, object)| movement(kind, &object, now))
        .collect();
    out.extend(all(Kind::Dispute).iter().flat_map(|(_, dispute)| array(&dispute["balance_transactions"]).to_vec()));
    out.sort_by_key(|movement| movement["created"].as_i64());
    out
}

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    let wanted = |movement: &Value| {
        let equal = |name: &str| call.params.get(name).is_none_or(|value| movement[name] == *value);
        let created = super::within(call.params.get("created"), movement["created"].as_i64());
        ["currency", "source", "type"].into_iter().all(equal) && created
    };
    let rows = movements(&world.store, world.wall).into_iter().rev().filter(wanted).map(Arc::new);
    in_place(call, "balance transaction", rows.collect())
}

pub(crate) fn movement_one(world: &World, call: &Call<'_>) -> Answer {
    let missing = || StripeError::not_found("balance transaction", call.id(), "id");
    let mut letters = call.id().strip_prefix("txn_").unwrap_or_default().chars();
    let mover = letters.next().and_then(|letter| MOVERS.iter().find(|(_, known, ..)| *known == letter));
    if let Some((kind, _, prefix, ..)) = mover
        && let Some(object) = world.store.get(*kind, &format!("{prefix}_{}", letters.as_str()))
        && let Some(movement) = movement(*kind, &object, world.wall)
    {
        return Ok(Reply::One(Arc::new(movement)));
    }
    let own = movements(&world.store, world.wall).into_iter().find(|movement| movement["id"] == call.id());
    own.map(|movement| Reply::One(Arc::new(movement))).ok_or_else(missing)
}

#[allow(clippy::unnecessary_wraps, reason = "every handler has this form; the router holds them in one table")]
pub(crate) fn own(world: &World, _call: &Call<'_>) -> Answer {
    Ok(Reply::One(Arc::new(object(world))))
}

/// The balance by currency: what can be paid out, and what is on its way.
pub(super) fn object(world: &World) -> Value {
    let mut sums: BTreeMap<String, (i64, i64)> = BTreeMap::from([("usd".to_owned(), (0, 0))]);
    for movement in movements(&world.store, world.wall) {
        let sum = sums.entry(movement["currency"].as_str().unwrap_or_default().to_owned()).or_default();
        let net = movement["net"].as_i64().unwrap_or_default();
        if movement["status"] == "available" { sum.0 += net } else { sum.1 += net }
    }
    let row = |(currency, amount): (&String, i64)| json!({"amount": amount, "currency": currency, "source_types": {"card": amount}});
    json!({
        "object": "balance",
        "available": sums.iter().map(|(currency, sum)| row((currency, sum.0))).collect::<Vec<_>>(),
        "livemode": false,
        "pending": sums.iter().map(|(currency, sum)| row((currency, sum.1))).collect::<Vec<_>>()
    })
}

/// Refuses what is more than can be paid out.
pub(super) fn must_have(world: &World, amount: i64, currency: &str) -> Result<(), StripeError> {
    let balance = object(world);
    let row = array(&balance["available"]).iter().find(|row| row["currency"] == currency);
    if row.and_then(|row| row["amount"].as_i64()).unwrap_or_default() >= amount {
        return Ok(());
    }
    let text = "You have insufficient available funds in your Stripe account. Try adding funds directly to your available \
                balance by creating Charges using the 4000000000000077 test card. See: \
                https://stripe.com/docs/testing#available-balance";
    Err(StripeError::invalid(text).code("balance_insufficient"))
}

/// What some test cards pay is there at once, and that is told.
pub(super) fn tell_of(world: &mut World, charge: &Value) {
    if charge["payment_method_details"]["card"]["last4"] == "0077" && charge["status"] == "succeeded" {
        let balance = Arc::new(object(world));
        world.store.tell("balance.available", balance);
    }
}
