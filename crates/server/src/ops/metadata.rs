//! Objects of Stripe's that say in their metadata whose they are. Anybody may have written that, so it gives nobody anything:
//! an object belongs to the user that its customer is linked to (S-27). Where the two differ, somebody should know.

use serde_json::Value;

use crate::app::App;
use crate::error::Result;
use crate::ops::doctor::Report;
use crate::store::mirror::{self, Resource};
use crate::store::{Tx, users};

/// The member of the metadata that platforms write their user's id into.
const MEMBER: &str = "user_id";
/// Which lists are looked at: what rights come from.
const LISTS: [Resource; 2] = [Resource::Customers, Resource::Subscriptions];
/// How many objects are looked at in one transaction, and how many are named.
const BATCH: i64 = 200;
const NAMED: usize = 100;

/// A user of ours that an object names, though its customer is not theirs; in words.
pub fn false_owner(tx: &mut Tx<'_>, resource: Resource, raw: &str) -> Result<Option<String>> {
    // Nearly no object has it: that is seen without reading the object.
    if !LISTS.contains(&resource) || !raw.contains(MEMBER) {
        return Ok(None);
    }
    let object: Value = serde_json::from_str(raw).unwrap_or_default();
    let holder = if resource == Resource::Customers { &object["id"] } else { &object["customer"] };
    let customer = holder.as_str().or_else(|| holder["id"].as_str());
    let (Some(named), Some(customer)) = (object["metadata"][MEMBER].as_str(), customer) else { return Ok(None) };
    let Some(named) = users::get(tx, named)? else { return Ok(None) };
    if named.customer.as_deref() == Some(customer) {
        return Ok(None);
    }
    let owner = users::of_customer(tx, customer)?;
    let owner = owner.map_or_else(|| "nobody".to_owned(), |user| format!("user {user}"));
    Ok(Some(format!("its metadata names user {}, and its customer {customer} is linked to {owner}", named.id)))
}

/// Adds every such object to the report.
pub async fn examine(app: &App, report: &mut Report) -> Result<()> {
    let mut found = Vec::new();
    for resource in LISTS {
        let mut after = String::new();
        while found.len() < NAMED {
            let from = after.clone();
            let some = app.db.read(move |tx| {
                let ids = mirror::unseen(tx, resource, i64::MAX, &from, BATCH)?;
                let mut faults = Vec::new();
                for id in &ids {
                    let raw = mirror::raw(tx, resource, id)?.unwrap_or_default();
                    faults.extend(false_owner(tx, resource, &raw)?.map(|fault| format!("{id}: {fault}")));
                }
                Ok((ids.last().cloned(), faults))
            });
            let (last, faults) = some.await?;
            found.extend(faults);
            let Some(last) = last else { break };
            after = last;
        }
    }
    for fault in found.into_iter().take(NAMED) {
        report.warn("metadata", fault, "correct the metadata at Stripe, or billhook user link-customer");
    }
    Ok(())
}
