//! A made-up mirror of any size, for benchmarks: rows as a sync would have written them, without the texts of Stripe.

use billing::subscription::Status;
use billing::time::Window;
use billing::usage::Quantity;
use jiff::Timestamp;

use super::usage;
use crate::app::App;
use crate::error::{Error, Result};
use crate::store::charges::{self, Charge};
use crate::store::invoices::{self, Invoice};
use crate::store::log::Source;
use crate::store::mirror::{Resource, Seen};
use crate::store::payment_methods::{self, Card, PaymentMethod};
use crate::store::revenue::Since;
use crate::store::subscriptions::{self, Subscription};
use crate::store::syncs::{self, ListState};
use crate::store::users::{self, NewUser};
use crate::store::{Tx, customers};

/// The user whose subscription, invoices and cards the benchmark asks for.
pub const USER: &str = "usr_bench";
/// The admin who asks for statistics and lists.
pub const ADMIN: &str = "usr_bench_admin";

const BATCH: u64 = 2_000;

/// Writes `count` customers with a subscription each, the two people, and `users` more without a customer.
pub async fn fill(app: &App, count: u64, users: u64) -> Result<()> {
    let now = app.clock.now();
    let mut from = 0;
    while from < count {
        let to = (from + BATCH).min(count);
        app.db.write(move |tx| (from..to).try_for_each(|number| one(tx, number, now))).await?;
        from = to;
    }
    app.db.write(move |tx| people(tx, now)).await?;
    let mut from = 0;
    while from < users {
        let to = (from + BATCH).min(users);
        app.db.write(move |tx| (from..to).try_for_each(|number| user(tx, number))).await?;
        from = to;
    }
    Ok(())
}

fn user(tx: &mut Tx<'_>, number: u64) -> Result<()> {
    let id = format!("{USER}_{number}");
    let new = NewUser {
        email: format!("{id}@example.com"),
        name: id.clone(),
        id,
        tier: "professional".to_owned(),
        customer: None,
        admin: false,
        now: "2026-01-01 00:00:00".to_owned(),
    };
    match users::add(tx, &new) {
        Ok(()) | Err(Error::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Records `events` events of those users, one after the other in turn.
pub async fn use_up(app: &App, users: u64, events: u64) -> Result<()> {
    let mut from = 0;
    while from < events {
        let to = (from + BATCH).min(events);
        let now = app.clock.now();
        let told = (from..to).map(|number| usage::Told {
            transaction_id: billing::id::new("", now, ordered(number)),
            producer: None,
            user: format!("{USER}_{}", number % users.max(1)),
            kind: "inference".to_owned(),
            quantity: Quantity::from_micro(1_000_000),
            at: Some(now),
            properties: None,
            source: Source::Program,
        });
        usage::record(app, told.collect()).await?;
        from = to;
    }
    usage::totals::write_down(app).await?;
    Ok(())
}

/// The random part of an id that grows with its number.
fn ordered(number: u64) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[2..].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn seen(resource: Resource, id: &str) -> Seen<'_> {
    Seen { resource, id, raw: "{}", run: 1 }
}

/// A customer and what they subscribe to: tiers and statuses in fixed shares.
fn one(tx: &mut Tx<'_>, number: u64, now: Timestamp) -> Result<()> {
    let (customer, id) = (format!("cus_bench{number}"), format!("sub_bench{number}"));
    let created = now - jiff::SignedDuration::from_secs(i64::try_from(number).unwrap_or(0));
    let row = customers::Customer {
        id: customer.clone(),
        email: Some(format!("bench{number}@example.com")),
        name: None,
        created,
        metadata: std::collections::BTreeMap::new(),
    };
    customers::save(tx, seen(Resource::Customers, &customer), &row)?;
    let (tier, minor) = match number % 12 {
        0 => ("trial", 0),
        1..=3 => ("starter", 1_900),
        4..=10 => ("professional", 4_900),
        _ => ("enterprise", 9_900),
    };
    let status = match number % 50 {
        _ if tier == "trial" => Status::Trialing,
        0 => Status::PastDue,
        1 => Status::Canceled,
        _ => Status::Active,
    };
    let subscription = subscription(id.clone(), customer, tier, status, minor, created);
    subscriptions::save(tx, seen(Resource::Subscriptions, &id), &subscription, &[], &made_up(created), &Vec::new)?;
    charge(tx, number, minor, created)
}

fn made_up(at: Timestamp) -> Since {
    Since { at, cause: "made up".to_owned(), exact: true }
}

fn charge(tx: &mut Tx<'_>, number: u64, minor: i64, created: Timestamp) -> Result<()> {
    let id = format!("ch_bench{number}");
    let row = Charge {
        id: id.clone(),
        customer: Some(format!("cus_bench{number}")),
        amount: Some(minor),
        amount_refunded: Some(0),
        currency: Some("usd".to_owned()),
        status: Some("succeeded".to_owned()),
        description: None,
        created,
        paid: true,
        refunded: false,
    };
    charges::save(tx, seen(Resource::Charges, &id), &row)
}

fn subscription(
    id: String,
    customer: String,
    tier: &str,
    status: Status,
    minor: i64,
    created: Timestamp,
) -> Subscription {
    let month = jiff::SignedDuration::from_hours(30 * 24);
    Subscription {
        id,
        customer: Some(customer),
        monthly_minor: if status.is_active() { minor } else { 0 },
        status,
        tier: tier.to_owned(),
        currency: "usd".to_owned(),
        amount_minor: Some(minor),
        interval: Some("month".to_owned()),
        interval_count: Some(1),
        value_until: None,
        period: Some(Window { start: created, end: created + month }),
        anchor: Some(created),
        cancel_at_period_end: false,
        created,
        fault: None,
    }
}

/// The user with a believable account, the admin, and lists that were read to the end.
fn people(tx: &mut Tx<'_>, now: Timestamp) -> Result<()> {
    let customer = "cus_bench_user";
    for (id, admin) in [(USER, false), (ADMIN, true)] {
        let new = NewUser {
            id: id.to_owned(),
            email: format!("{id}@example.com"),
            name: id.to_owned(),
            tier: "professional".to_owned(),
            customer: (!admin).then(|| customer.to_owned()),
            admin,
            now: "2026-01-01 00:00:00".to_owned(),
        };
        match users::add(tx, &new) {
            Ok(()) | Err(Error::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let id = "sub_bench_user".to_owned();
    let row = subscription(id.clone(), customer.to_owned(), "professional", Status::Active, 4_900, now);
    subscriptions::save(tx, seen(Resource::Subscriptions, &id), &row, &[], &made_up(now), &Vec::new)?;
    for number in 0..10 {
        invoice(tx, number, customer, now)?;
    }
    for number in 0..2 {
        card(tx, number, customer, now)?;
    }
    for resource in Resource::ALL {
        let state = ListState {
            resource: resource.name().to_owned(),
            run: 1,
            cursor: None,
            objects: 0,
            started_at: None,
            as_of: Some(now),
            fault: None,
        };
        syncs::save(tx, &state)?;
    }
    Ok(())
}

fn invoice(tx: &mut Tx<'_>, number: i64, customer: &str, now: Timestamp) -> Result<()> {
    let id = format!("in_bench{number}");
    let row = Invoice {
        id: id.clone(),
        customer: Some(customer.to_owned()),
        subscription: Some("sub_bench_user".to_owned()),
        number: Some(format!("INV-2026-{number:04}")),
        status: Some("paid".to_owned()),
        currency: Some("usd".to_owned()),
        amount_due: Some(4_900),
        amount_paid: Some(4_900),
        created: now - jiff::SignedDuration::from_hours(720 * number),
        due_date: None,
        paid: true,
        invoice_pdf: Some(format!("https://pay.example.com/{id}/pdf")),
        hosted_invoice_url: Some(format!("https://pay.example.com/{id}")),
    };
    invoices::save(tx, seen(Resource::Invoices, &id), &row)
}

fn card(tx: &mut Tx<'_>, number: i64, customer: &str, now: Timestamp) -> Result<()> {
    let id = format!("pm_bench{number}");
    let card =
        Card { brand: Some("visa".into()), last4: Some("4242".into()), exp_month: Some(12), exp_year: Some(2030) };
    let row = PaymentMethod {
        id: id.clone(),
        customer: Some(customer.to_owned()),
        kind: "card".to_owned(),
        card: Some(card),
        created: now,
    };
    payment_methods::save(tx, seen(Resource::PaymentMethods, &id), &row)
}
