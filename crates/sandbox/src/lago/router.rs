//! The whole API on one screen.

use super::asked::Call;
use super::desk::Answer;
use super::world::World;
use super::{
    customers, ingestion, invoices, metrics, past_usage, plans, subscriptions, taxes, usage, wallet_transactions,
    wallets, webhook_endpoints, webhooks,
};

/// A request that knows what it wants.
pub(super) type Handler<'a> = Box<dyn FnOnce(&mut World, &Call) -> Answer + 'a>;

/// What answers a method on a path below `/api/v1/`.
pub(super) fn route<'a>(method: &str, path: &'a [&'a str]) -> Option<Handler<'a>> {
    Some(match (method, path) {
        ("POST", ["events"]) => Box::new(ingestion::create),
        ("POST", ["events", "batch"]) => Box::new(ingestion::create_batch),
        ("GET", ["events"]) => Box::new(|world, call| ingestion::list(world, call)),
        ("GET", ["events", id]) => Box::new(move |world, _| ingestion::show(world, id)),

        ("POST", ["customers"]) => Box::new(customers::upsert),
        ("GET", ["customers"]) => Box::new(|world, call| Ok(customers::list(world, call))),
        ("GET", ["customers", id]) => Box::new(move |world, _| customers::show(world, id)),
        ("DELETE", ["customers", id]) => Box::new(move |world, _| customers::delete(world, id)),
        ("GET", ["customers", id, "current_usage"]) => Box::new(move |world, call| usage::current(world, call, id)),
        ("GET", ["customers", id, "past_usage"]) => Box::new(move |world, call| past_usage::list(world, call, id)),

        ("POST", ["billable_metrics"]) => Box::new(metrics::create),
        ("GET", ["billable_metrics"]) => Box::new(|world, call| Ok(metrics::list(world, call))),
        ("GET", ["billable_metrics", code]) => Box::new(move |world, _| metrics::show(world, code)),
        ("DELETE", ["billable_metrics", code]) => Box::new(move |world, _| metrics::delete(world, code)),

        ("POST", ["plans"]) => Box::new(plans::create),
        ("GET", ["plans"]) => Box::new(|world, call| Ok(plans::list(world, call))),
        ("GET", ["plans", code]) => Box::new(move |world, _| plans::show(world, code)),

        ("POST", ["taxes"]) => Box::new(taxes::create),
        ("GET", ["taxes"]) => Box::new(|world, call| Ok(taxes::list(world, call))),
        ("GET", ["taxes", code]) => Box::new(move |world, _| taxes::show(world, code)),

        ("POST", ["subscriptions"]) => Box::new(subscriptions::create),
        ("GET", ["subscriptions"]) => Box::new(|world, call| Ok(subscriptions::list(world, call))),
        ("GET", ["subscriptions", id]) => Box::new(move |world, call| subscriptions::show(world, call, id)),
        ("DELETE", ["subscriptions", id]) => Box::new(move |world, call| subscriptions::delete(world, call, id)),

        ("GET", ["invoices"]) => Box::new(|world, call| Ok(invoices::list(world, call))),
        ("GET", ["invoices", id]) => Box::new(move |world, _| invoices::show(world, id)),
        ("PUT", ["invoices", id]) => Box::new(move |world, call| invoices::update(world, call, id)),

        ("POST", ["wallets"]) => Box::new(wallets::create),
        ("GET", ["wallets"]) => Box::new(|world, call| wallets::list(world, call)),
        ("GET", ["wallets", id]) => Box::new(move |world, _| wallets::show(world, id)),
        ("DELETE", ["wallets", id]) => Box::new(move |world, _| wallets::terminate(world, id)),
        ("GET", ["wallets", id, "wallet_transactions"]) => {
            Box::new(move |world, call| wallet_transactions::list(world, call, id))
        }
        ("POST", ["wallet_transactions"]) => Box::new(wallet_transactions::create),
        ("GET", ["wallet_transactions", id]) => Box::new(move |world, _| wallet_transactions::show(world, id)),

        ("POST", ["webhook_endpoints"]) => Box::new(webhook_endpoints::create),
        ("GET", ["webhook_endpoints"]) => Box::new(|world, call| Ok(webhook_endpoints::list(world, call))),
        ("GET", ["webhook_endpoints", id]) => Box::new(move |world, _| webhook_endpoints::show(world, id)),
        ("PUT", ["webhook_endpoints", id]) => Box::new(move |world, call| webhook_endpoints::update(world, call, id)),
        ("DELETE", ["webhook_endpoints", id]) => Box::new(move |world, _| webhook_endpoints::delete(world, id)),
        ("GET", ["webhooks", "json_public_key"]) => Box::new(|_, _| Ok(webhooks::json_public_key())),
        ("GET", ["webhooks", "public_key"]) => Box::new(|_, _| Ok(webhooks::public_key())),
        _ => return None,
    })
}
