//! Invoices, and the billing that makes them: lines from items, coupons taken off, then paid, declined or left open.

use super::{Answer, Call, coupons, embedded, list_where, narrow, retrieve};
use super::{charges, invoice_payments, payment_intents, payment_methods};
use crate::calendar::{DAY, Period};
use crate::kind::{Index, Kind};
use crate::params::{Field, Spec, opt};
use crate::store::{Row, Store};
use crate::world::{World, array};
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) const LIST: &[Field] = &[
    opt("collection_method", Spec::OneOf(&["charge_automatically", "send_invoice"])),
    opt("customer", Spec::Text),
    opt("customer_account", Spec::Unsupported),
    opt("due_date", Spec::Range),
    opt("status", Spec::OneOf(&["draft", "open", "paid", "uncollectible", "void"])),
    opt("subscription", Spec::Text),
];

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    let filters = [("subscription", Index::Subscription), ("customer", Index::Customer), ("status", Index::Status)];
    let mut query = narrow(call, &filters);
    let (method, due) = (call.params.get("collection_method"), call.params.get("due_date"));
    if method.is_some() || due.is_some() {
        query.keep = Some(Box::new(move |invoice| {
            method.is_none_or(|method| invoice["collection_method"] == *method)
                && super::within(due, invoice["due_date"].as_i64())
        }));
    }
    list_where(world, Kind::Invoice, call, query)
}

pub(crate) fn one(world: &World, call: &Call<'_>) -> Answer {
    retrieve(world, Kind::Invoice, call)
}

/// The lines of one invoice.
pub(crate) fn lines(world: &World, call: &Call<'_>) -> Answer {
    let invoice = super::find(&world.store, Kind::Invoice, call.id())?;
    let rows = array(&invoice["lines"]["data"]).iter().map(|line| Row::Made(Arc::new(line.clone()))).collect();
    Ok(super::Reply::Page { url: call.path.to_owned(), rows, has_more: false })
}

/// How an invoice is to be settled.
pub(crate) enum Payment<'a> {
    /// By this method, which may decline.
    Charge(&'a Value),
    /// It waits for somebody to pay.
    Wait,
    /// It is sent, and due after so many days.
    Send(i64),
}

/// What is to be billed.
pub(crate) struct Bill<'a> {
    /// The last part of readable ids; without it ids are opaque.
    pub(crate) name: Option<&'a str>,
    pub(crate) subscription: &'a Value,
    pub(crate) customer: &'a Value,
    /// `subscription_create` or `subscription_cycle`.
    pub(crate) reason: &'a str,
    pub(crate) at: i64,
    /// The period that all lines are for; each item's own where none is given.
    pub(crate) period: Option<Period>,
    pub(crate) trial: bool,
    pub(crate) payment: Payment<'a>,
}

impl Bill<'_> {
    pub(crate) fn id(&self, world: &mut World, prefix: &str) -> String {
        match self.name {
            Some(name) => format!("{prefix}_{name}"),
            None => world.id(prefix),
        }
    }
}

/// An invoice with its payment, as they are stored now.
pub(crate) struct Billed {
    pub(crate) invoice: Arc<Value>,
    pub(crate) intent: Option<Arc<Value>>,
    /// The decline code, when a charge was tried and failed.
    pub(crate) declined: Option<&'static str>,
}

/// Makes the invoice, tries to have it paid, and stores all of it.
pub(crate) fn bill(world: &mut World, bill: &Bill<'_>) -> Billed {
    let id = bill.id(world, "in");
    let number = world.invoice_number(bill.at);
    let mut invoice = draft(&world.store, bill, &id, &number);
    let total = invoice["total"].as_i64().unwrap_or_default();
    if total == 0 {
        settle(&mut invoice, bill.at);
        return Billed { invoice: world.store.put(Kind::Invoice, invoice), intent: None, declined: None };
    }
    let intent_id = bill.id(world, "pi");
    let currency = invoice["currency"].as_str().unwrap_or_default().to_owned();
    let mut intent = payment_intents::object(&intent_id, bill.at, total, &currency, &bill.customer["id"]);
    let declined = match bill.payment {
        Payment::Charge(method) => {
            let charge = charge(world, bill, &intent_id, total, &currency, method);
            payment_intents::charged(&mut intent, &charge, method);
            attempted(&mut invoice, charge["status"] == "succeeded", bill.at);
            payment_methods::decline(method)
        }
        Payment::Send(days) => {
            invoice["due_date"] = json!(bill.at + days * DAY);
            None
        }
        Payment::Wait => None,
    };
    let paid_at = invoice["status_transitions"]["paid_at"].as_i64();
    let payment_id = bill.id(world, "inpay");
    let payment = invoice_payments::object(&payment_id, &invoice, &intent_id, paid_at);
    world.store.put(Kind::InvoicePayment, payment);
    let intent = world.store.put(Kind::PaymentIntent, intent);
    Billed { invoice: world.store.put(Kind::Invoice, invoice), intent: Some(intent), declined }
}

/// The open invoice: lines from items, less the coupons that are running.
pub(crate) fn draft(store: &Store, bill: &Bill<'_>, id: &str, number: &str) -> Value {
    let lines = discounted(store, bill, lines_of(store, bill, id));
    object(id, number, bill, lines)
}

fn charge(world: &mut World, bill: &Bill<'_>, intent: &str, total: i64, currency: &str, method: &Value) -> Arc<Value> {
    let id = bill.id(world, "ch");
    let fallback = if bill.reason == "subscription_create" { "Subscription creation" } else { "Subscription update" };
    let charge = charges::object(&charges::Asked {
        id: &id,
        created: bill.at,
        amount: total,
        currency,
        customer: &bill.customer["id"],
        description: bill.subscription["description"].as_str().or(Some(fallback)),
        intent: Some(intent),
        method,
        decline: payment_methods::decline(method),
    });
    world.store.put(Kind::Charge, charge)
}

/// The invoice after a charge was tried.
pub(crate) fn attempted(invoice: &mut Value, paid: bool, at: i64) {
    invoice["attempt_count"] = json!(1);
    if paid {
        settle(invoice, at);
    } else {
        invoice["attempted"] = json!(true);
        invoice["next_payment_attempt"] = json!(at + 3 * DAY);
    }
}

fn settle(invoice: &mut Value, at: i64) {
    invoice["status"] = json!("paid");
    invoice["attempted"] = json!(true);
    invoice["amount_paid"] = invoice["total"].clone();
    invoice["amount_remaining"] = json!(0);
    invoice["status_transitions"]["paid_at"] = json!(at);
}

/// What an item costs for one period, in minor units; nothing for metered items, whose usage is not known here.
fn item_amount(store: &Store, item: &Value) -> i64 {
    let price = &item["price"];
    if price["recurring"]["usage_type"] == "metered" {
        return 0;
    }
    let quantity = transformed(price, item["quantity"].as_i64().unwrap_or(1));
    if let Some(unit) = price["unit_amount"].as_i64() {
        return unit.saturating_mul(quantity);
    }
    if let Some(decimal) = price["unit_amount_decimal"].as_str() {
        return rounded(decimal, quantity);
    }
    let stored = store.get(Kind::Price, price["id"].as_str().unwrap_or_default());
    stored.map_or(0, |stored| tiered(&stored, quantity))
}

fn transformed(price: &Value, quantity: i64) -> i64 {
    let transform = &price["transform_quantity"];
    match (transform["divide_by"].as_i64(), transform["round"].as_str()) {
        (Some(by), Some("up")) => quantity.div_euclid(by) + i64::from(quantity.rem_euclid(by) > 0),
        (Some(by), _) => quantity.div_euclid(by),
        (None, _) => quantity,
    }
}

/// `0.5` times 3 is 2: decimals of minor units, rounded half up once.
fn rounded(decimal: &str, quantity: i64) -> i64 {
    let (whole, part) = decimal.split_once('.').unwrap_or((decimal, ""));
    let digits = format!("{whole}{part:0<12}");
    let scaled = digits.get(..whole.len() + 12).and_then(|digits| digits.parse::<i128>().ok()).unwrap_or_default();
    let product = scaled * i128::from(quantity);
    i64::try_from((product * 2 + 1_000_000_000_000).div_euclid(2_000_000_000_000)).unwrap_or_default()
}

fn tiered(price: &Value, quantity: i64) -> i64 {
    let mut sum = 0_i64;
    let mut below = 0_i64;
    for tier in array(&price["tiers"]) {
        let end = tier["up_to"].as_i64().unwrap_or(i64::MAX);
        let units = if price["tiers_mode"] == "volume" { quantity } else { quantity.min(end) - below };
        let cost = rounded(tier["unit_amount_decimal"].as_str().unwrap_or("0"), units)
            + rounded(tier["flat_amount_decimal"].as_str().unwrap_or("0"), 1);
        if price["tiers_mode"] == "volume" {
            sum = cost;
        } else if units > 0 {
            sum += cost;
        }
        if quantity <= end {
            break;
        }
        below = end;
    }
    sum
}

/// `$49.00`, `¥7,000` without the comma: enough for the text of a line.
fn written(amount: i64, currency: &str) -> String {
    let sign = match currency {
        "usd" => "$",
        "eur" => "€",
        "jpy" => "¥",
        _ => "",
    };
    match currency {
        "jpy" | "krw" | "vnd" | "clp" => format!("{sign}{amount}"),
        _ => format!("{sign}{}.{:02}", amount / 100, amount % 100),
    }
}

fn lines_of(store: &Store, bill: &Bill<'_>, invoice: &str) -> Vec<Value> {
    let items = array(&bill.subscription["items"]["data"]);
    let licensed = items.iter().filter(|item| item["price"]["recurring"]["usage_type"] != "metered");
    let numbered = licensed.enumerate().map(|(place, item)| {
        let suffix = invoice.strip_prefix("in_").unwrap_or(invoice);
        line(store, bill, item, &format!("il_{suffix}_{}", place + 1), invoice)
    });
    numbered.collect()
}

fn line(store: &Store, bill: &Bill<'_>, item: &Value, id: &str, invoice: &str) -> Value {
    let price = &item["price"];
    let amount = if bill.trial { 0 } else { item_amount(store, item) };
    let product = store.get(Kind::Product, price["product"].as_str().unwrap_or_default());
    let name = product.as_ref().and_then(|product| product["name"].as_str()).unwrap_or("Subscription");
    let currency = price["currency"].as_str().unwrap_or_default();
    let interval = price["recurring"]["interval"].as_str().unwrap_or("month");
    let description = if bill.trial {
        format!("Trial period for {name}")
    } else {
        let unit = written(price["unit_amount"].as_i64().unwrap_or_default(), currency);
        format!("{} × {name} (at {unit} / {interval})", item["quantity"].as_i64().unwrap_or(1))
    };
    let (start, end) = match bill.period {
        Some(period) => (json!(period.start), json!(period.end)),
        None => (item["current_period_start"].clone(), item["current_period_end"].clone()),
    };
    json!({
        "id": id,
        "object": "line_item",
        "amount": amount,
        "currency": currency,
        "description": description,
        "discount_amounts": [],
        "discountable": true,
        "discounts": [],
        "invoice": invoice,
        "livemode": false,
        "metadata": bill.subscription["metadata"],
        "parent": {
            "invoice_item_details": null,
            "subscription_item_details": {
                "invoice_item": null, "proration": false, "proration_details": {"credited_items": null},
                "subscription": bill.subscription["id"], "subscription_item": item["id"]
            },
            "type": "subscription_item_details"
        },
        "period": {"start": start, "end": end},
        "pretax_credit_amounts": [],
        "pricing": {
            "price_details": {"price": price["id"], "product": price["product"]},
            "type": "price_details",
            "unit_amount_decimal": if bill.trial { json!("0") } else { price["unit_amount_decimal"].clone() }
        },
        "quantity": item["quantity"],
        "quantity_decimal": item["quantity"].as_i64().map(|quantity| quantity.to_string()),
        "subscription": bill.subscription["id"],
        "subtotal": amount,
        "taxes": []
    })
}

/// Takes the running coupons off the lines; a `once` coupon works on the first invoice only.
fn discounted(store: &Store, bill: &Bill<'_>, mut lines: Vec<Value>) -> Vec<Value> {
    for id in array(&bill.subscription["discounts"]).iter().filter_map(Value::as_str) {
        let Some(discount) = store.get(Kind::Discount, id) else { continue };
        let coupon = discount["source"]["coupon"].as_str().and_then(|coupon| store.get(Kind::Coupon, coupon));
        let Some(coupon) = coupon else { continue };
        let over = discount["end"].as_i64().is_some_and(|end| end <= bill.at)
            || discount["start"].as_i64().is_some_and(|start| start > bill.at)
            || (coupon["duration"] == "once" && bill.reason != "subscription_create");
        if over {
            continue;
        }
        let mut left = coupon["amount_off"].as_i64().unwrap_or(i64::MAX);
        for line in
            lines.iter_mut().filter(|line| coupons::covers(&coupon, &line["pricing"]["price_details"]["product"]))
        {
            let already: i64 = array(&line["discount_amounts"]).iter().filter_map(|part| part["amount"].as_i64()).sum();
            let amount = line["subtotal"].as_i64().unwrap_or_default() - already;
            let off = coupons::taken_off(&coupon, amount).min(left);
            left -= off;
            if let (Some(parts), true) = (line["discount_amounts"].as_array_mut(), off > 0) {
                parts.push(json!({"amount": off, "discount": id}));
            }
        }
    }
    lines
}

/// The discounts of all lines, summed by discount.
fn discount_totals(lines: &[Value]) -> Vec<Value> {
    let mut totals: Vec<(Value, i64)> = Vec::new();
    for part in lines.iter().flat_map(|line| array(&line["discount_amounts"])) {
        let amount = part["amount"].as_i64().unwrap_or_default();
        match totals.iter_mut().find(|(discount, _)| *discount == part["discount"]) {
            Some((_, sum)) => *sum += amount,
            None => totals.push((part["discount"].clone(), amount)),
        }
    }
    totals.into_iter().map(|(discount, amount)| json!({"amount": amount, "discount": discount})).collect()
}

fn object(id: &str, number: &str, bill: &Bill<'_>, lines: Vec<Value>) -> Value {
    let subtotal: i64 = lines.iter().filter_map(|line| line["subtotal"].as_i64()).sum();
    let discounts = discount_totals(&lines);
    let total = subtotal - discounts.iter().filter_map(|part| part["amount"].as_i64()).sum::<i64>();
    let page = format!("https://invoice.stripe.com/i/{}/test_{id}", super::account::ID);
    let mut invoice = blank(id);
    let facts = json!({
        "amount_due": total,
        "amount_remaining": total,
        "billing_reason": bill.reason,
        "collection_method": bill.subscription["collection_method"],
        "created": bill.at,
        "currency": bill.subscription["currency"],
        "customer": bill.customer["id"],
        "customer_address": bill.customer["address"],
        "customer_email": bill.customer["email"],
        "customer_name": bill.customer["name"],
        "customer_phone": bill.customer["phone"],
        "customer_shipping": bill.customer["shipping"],
        "customer_tax_exempt": bill.customer["tax_exempt"],
        "effective_at": bill.at,
        "hosted_invoice_url": format!("{page}?s=ap"),
        "invoice_pdf": format!("https://pay.stripe.com/invoice/{}/test_{id}/pdf?s=ap", super::account::ID),
        "lines": embedded(format!("/v1/invoices/{id}/lines"), lines),
        "number": number,
        "parent": {
            "quote_details": null,
            "subscription_details": {"metadata": bill.subscription["metadata"], "subscription": bill.subscription["id"]},
            "type": "subscription_details"
        },
        "period_end": bill.at,
        "period_start": bill.at,
        "status": "open",
        "subtotal": subtotal,
        "subtotal_excluding_tax": subtotal,
        "total": total,
        "total_discount_amounts": discounts,
        "total_excluding_tax": total,
        "discounts": bill.subscription["discounts"]
    });
    super::fill(&mut invoice, Some(&facts));
    invoice["status_transitions"]["finalized_at"] = json!(bill.at);
    invoice
}

/// What every invoice of this sandbox has in common.
fn blank(id: &str) -> Value {
    let mut invoice = json!({
        "id": id, "object": "invoice", "account_country": "US", "account_name": "Billhook Sandbox",
        "account_tax_ids": null, "amount_overpaid": 0, "amount_paid": 0, "amount_paid_off_stripe": 0,
        "amount_shipping": 0, "application": null, "attempt_count": 0, "attempted": false, "auto_advance": false,
        "automatic_tax": {"disabled_reason": null, "enabled": false, "liability": null, "provider": null, "status": null},
        "automatically_finalizes_at": null, "custom_fields": null, "customer_account": null, "customer_tax_ids": [],
        "default_payment_method": null, "default_source": null, "default_tax_rates": [], "description": null,
        "due_date": null, "ending_balance": 0, "footer": null, "from_invoice": null, "issuer": {"type": "self"},
        "last_finalization_error": null, "latest_revision": null, "livemode": false, "metadata": {},
        "next_payment_attempt": null, "on_behalf_of": null
    });
    let rest = json!({
        "payment_settings": {"default_mandate": null, "payment_method_options": null, "payment_method_types": null},
        "post_payment_credit_notes_amount": 0, "pre_payment_credit_notes_amount": 0, "receipt_number": null,
        "rendering": null, "shipping_cost": null, "shipping_details": null, "starting_balance": 0,
        "statement_descriptor": null, "status_details": null,
        "status_transitions": {"finalized_at": null, "marked_uncollectible_at": null, "paid_at": null, "voided_at": null},
        "test_clock": null, "total_pretax_credit_amounts": [], "total_taxes": [], "webhooks_delivered_at": null
    });
    super::fill(&mut invoice, Some(&rest));
    invoice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_rounded_once() {
        for (decimal, quantity, expected) in
            [("0.5", 3, 2), ("0.25", 1, 0), ("4900", 2, 9800), ("0.000000000001", 1, 0)]
        {
            assert_eq!(rounded(decimal, quantity), expected, "{decimal} x {quantity}");
        }
    }

    #[test]
    fn tiers_graduated_and_by_volume() {
        let tiers = json!([
            {"up_to": 10, "unit_amount_decimal": "100", "flat_amount_decimal": null},
            {"up_to": null, "unit_amount_decimal": "50", "flat_amount_decimal": "500"}
        ]);
        for (mode, quantity, expected) in [
            ("graduated", 10, 1000),
            ("graduated", 12, 1600),
            ("volume", 10, 1000),
            ("volume", 12, 1100),
            ("volume", 0, 0),
        ] {
            assert_eq!(tiered(&json!({"tiers": tiers, "tiers_mode": mode}), quantity), expected, "{mode} {quantity}");
        }
    }

    #[test]
    fn quantities_are_bundled() {
        let price = |round: &str| json!({"transform_quantity": {"divide_by": 10, "round": round}});
        assert_eq!(
            (transformed(&price("up"), 11), transformed(&price("down"), 19), transformed(&json!({}), 7)),
            (2, 1, 7)
        );
    }
}
