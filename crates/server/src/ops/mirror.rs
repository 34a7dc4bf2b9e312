//! Puts objects of Stripe's into the mirror, and says how old the mirror is.

use std::sync::atomic::Ordering;
use std::time::Duration;

use billing::catalogue::Catalogue;
use jiff::Timestamp;

use super::derivation;
use crate::app::App;
use crate::error::{Error, Result, Upstream};
use crate::gateways::stripe::StripeError;
use crate::gateways::stripe::read;
use crate::store::mirror::{Resource, Seen};
use crate::store::revenue::Since;
use crate::store::{self, Tx, charges, customers, invoices, parts, payment_methods, refunds, syncs};

/// How old the mirror becomes while all is well, whatever was lost: by a sweep of Stripe's events, else by a full sync.
pub const FRESH: Duration = Duration::from_mins(5);

/// Something from the mirror, and since when it can be out of date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirrored<T> {
    pub value: T,
    /// Nothing where no mirrored data is needed for the answer.
    pub as_of: Option<Timestamp>,
}

/// Writes one object as Stripe sent it; a subscription brings what it brings `since` then. What is mirrored with the same
/// text is only marked as seen.
pub fn apply(
    tx: &mut Tx<'_>,
    resource: Resource,
    raw: &str,
    run: i64,
    catalogue: &Catalogue,
    now: Timestamp,
    since: &Since,
) -> Result<()> {
    let id = read::id(raw).map_err(Error::internal)?;
    let seen = Seen { resource, id: &id, raw, run };
    if seen.unchanged(tx)? {
        return Ok(());
    }
    match resource {
        Resource::Coupons => {
            let coupon = read::coupon(raw).map_err(Error::internal)?;
            if coupon.deleted {
                return take_out(tx, resource, &id);
            }
            parts::save_coupon(tx, seen)?;
            parts::mark_stale(tx, &id)
        }
        Resource::Products => save_product(tx, seen),
        Resource::Prices => save_price(tx, seen),
        Resource::Customers => save_customer(tx, seen),
        Resource::Subscriptions => derivation::save_subscription(tx, seen, catalogue, now, since),
        Resource::Invoices => save_invoice(tx, seen),
        Resource::Charges => save_charge(tx, seen),
        Resource::Refunds => save_refund(tx, seen),
        Resource::PaymentMethods => save_payment_method(tx, seen),
    }
}

/// Takes an object out of the mirror that Stripe no longer has, and a subscription out of the revenue `since` then.
pub fn delete(tx: &mut Tx<'_>, resource: Resource, id: &str, since: &Since) -> Result<()> {
    if resource == Resource::Subscriptions {
        return store::subscriptions::delete(tx, id, since).map(drop);
    }
    take_out(tx, resource, id)
}

fn take_out(tx: &mut Tx<'_>, resource: Resource, id: &str) -> Result<()> {
    store::mirror::delete(tx, resource, id)?;
    // A deleted coupon still counts where it is applied, a deleted price where it is sold: their texts stay.
    tx.changed(store::Change::Totals);
    if resource == Resource::Customers {
        store::plans::mark_customer(tx, id)?;
        tx.changed(store::Change::Customer(id.to_owned()));
    }
    Ok(())
}

fn save_product(tx: &mut Tx<'_>, seen: Seen<'_>) -> Result<()> {
    let product = read::product(seen.raw).map_err(Error::internal)?;
    if product.deleted {
        return take_out(tx, seen.resource, seen.id);
    }
    let row = parts::Product { id: product.id, name: product.name, metadata: product.metadata };
    parts::save_product(tx, seen, &row)?;
    parts::mark_stale(tx, seen.id)
}

fn save_price(tx: &mut Tx<'_>, seen: Seen<'_>) -> Result<()> {
    let price = read::price(seen.raw).map_err(Error::internal)?;
    if price.deleted {
        return take_out(tx, seen.resource, seen.id);
    }
    parts::save_price(tx, seen, price.product.as_deref())?;
    parts::mark_stale(tx, seen.id)
}

fn save_customer(tx: &mut Tx<'_>, seen: Seen<'_>) -> Result<()> {
    let customer = read::customer(seen.raw, &()).map_err(Error::internal)?;
    if customer.deleted {
        return take_out(tx, seen.resource, seen.id);
    }
    let row = customers::Customer {
        id: customer.id,
        email: customer.email,
        name: customer.name,
        created: customer.created.unwrap_or(Timestamp::UNIX_EPOCH),
        metadata: customer.metadata,
    };
    customers::save(tx, seen, &row)?;
    parts::mark_stale(tx, seen.id)
}

fn save_invoice(tx: &mut Tx<'_>, seen: Seen<'_>) -> Result<()> {
    let invoice = read::invoice(seen.raw).map_err(Error::internal)?;
    if invoice.deleted {
        return take_out(tx, seen.resource, seen.id);
    }
    let row = invoices::Invoice {
        id: invoice.id,
        customer: invoice.customer,
        subscription: invoice.subscription,
        number: invoice.number,
        status: invoice.status,
        currency: invoice.currency.map(|currency| currency.code().to_owned()),
        amount_due: invoice.amount_due_minor,
        amount_paid: invoice.amount_paid_minor,
        created: invoice.created.unwrap_or(Timestamp::UNIX_EPOCH),
        due_date: invoice.due_date,
        paid: invoice.paid,
        invoice_pdf: invoice.invoice_pdf,
        hosted_invoice_url: invoice.hosted_invoice_url,
    };
    invoices::save(tx, seen, &row)
}

fn save_charge(tx: &mut Tx<'_>, seen: Seen<'_>) -> Result<()> {
    let charge = read::charge(seen.raw).map_err(Error::internal)?;
    let row = charges::Charge {
        id: charge.id,
        customer: charge.customer,
        amount: charge.amount_minor,
        amount_refunded: charge.amount_refunded_minor,
        currency: charge.currency.map(|currency| currency.code().to_owned()),
        status: charge.status,
        description: charge.description,
        created: charge.created.unwrap_or(Timestamp::UNIX_EPOCH),
        paid: charge.paid,
        refunded: charge.refunded,
    };
    charges::save(tx, seen, &row)
}

fn save_refund(tx: &mut Tx<'_>, seen: Seen<'_>) -> Result<()> {
    let refund = read::refund(seen.raw).map_err(Error::internal)?;
    let row = refunds::Refund {
        id: refund.id,
        charge: refund.charge,
        amount: refund.amount_minor,
        currency: refund.currency.map(|currency| currency.code().to_owned()),
        status: refund.status,
        created: refund.created.unwrap_or(Timestamp::UNIX_EPOCH),
    };
    refunds::save(tx, seen, &row)
}

fn save_payment_method(tx: &mut Tx<'_>, seen: Seen<'_>) -> Result<()> {
    let method = read::payment_method(seen.raw).map_err(Error::internal)?;
    if method.deleted {
        return take_out(tx, seen.resource, seen.id);
    }
    let card = method.card.map(|card| payment_methods::Card {
        brand: card.brand,
        last4: card.last4,
        exp_month: card.exp_month,
        exp_year: card.exp_year,
    });
    let row = payment_methods::PaymentMethod {
        id: method.id,
        customer: method.customer,
        kind: method.kind.unwrap_or_else(|| "unknown".to_owned()),
        card,
        created: method.created.unwrap_or(Timestamp::UNIX_EPOCH),
    };
    payment_methods::save(tx, seen, &row)
}

/// Tells that an answer of Stripe's was not what was asked for: what is mirrored stays as it was.
pub fn refused(app: &App, resource: Resource, id: &str) {
    app.webhooks.unfit.fetch_add(1, Ordering::Relaxed);
    tracing::warn!(
        list = resource.name(),
        id,
        "Stripe showed another object than asked for, or nothing of it: not mirrored"
    );
}

/// Since when what the mirror says of a customer's objects can be out of date; nothing when it was never read.
pub fn as_of(tx: &mut Tx<'_>, resource: Resource, customer: Option<&str>) -> Result<Option<Timestamp>> {
    let list = syncs::get(tx, resource.name())?.and_then(|sync| sync.as_of);
    let alone = customer.map(|customer| syncs::customer_as_of(tx, customer)).transpose()?.flatten();
    Ok(list.max(alone))
}

/// After how many seconds what is mirrored is called stale: one full sync, or a few sweeps, may be missed.
pub fn stale_after_s(app: &App) -> i64 {
    i64::try_from(app.config.sync_interval.min(FRESH).as_secs().saturating_mul(2)).unwrap_or(i64::MAX)
}

/// Reads a customer on their own when the full sync has not come to them yet, so that the first question has an answer.
pub async fn ensure(app: &App, resource: Resource, customer: &str) -> Result<()> {
    let id = customer.to_owned();
    if app.stripe.is_none() || app.db.read(move |tx| as_of(tx, resource, Some(&id))).await?.is_some() {
        return Ok(());
    }
    super::sync::customer(app, customer).await
}

/// What the caller hears when nothing was ever mirrored and Stripe does not answer.
pub fn unavailable(error: StripeError) -> Error {
    let retry_after = error.retry_after().unwrap_or(Duration::from_secs(30));
    Error::Upstream { who: Upstream::Stripe, code: error.code(), retry_after, cause: Some(error.into()) }
}

/// The same, while the first full sync is still under way.
pub fn never_mirrored() -> Error {
    let retry_after = Duration::from_secs(5);
    Error::Upstream { who: Upstream::Stripe, code: "stripe.unavailable", retry_after, cause: None }
}
