//! Everything that this Lago knows, and the time it is there.

use super::Store;
use super::agenda::Agenda;
use super::customers::Customer;
use super::events::Events;
use super::instant::Micros;
use super::invoices::Invoice;
use super::metrics::Metric;
use super::plans::Plan;
use super::refusal::Refusal;
use super::subscriptions::Subscription;
use super::table::{Place, Table};
use super::taxes::Tax;
use super::wallet_transactions::Transaction;
use super::wallets::Wallet;
use super::webhooks::Outbox;
use std::collections::HashMap;

/// The state of the sandbox. It changes by requests and by time, and by nothing else.
#[derive(Debug)]
pub(super) struct World {
    /// What time it is; set before every request.
    pub(super) now: Micros,
    pub(super) events: Events,
    pub(super) customers: Table<Customer>,
    pub(super) metrics: Table<Metric>,
    pub(super) plans: Table<Plan>,
    pub(super) taxes: Table<Tax>,
    /// By Lago's own id, because an external id may have had several.
    pub(super) subscriptions: Table<Subscription>,
    /// All subscriptions that an external id ever had, oldest first.
    pub(super) by_external_id: HashMap<String, Vec<Place>>,
    pub(super) invoices: Table<Invoice>,
    pub(super) wallets: Table<Wallet>,
    pub(super) transactions: Table<Transaction>,
    pub(super) outbox: Outbox,
    pub(super) agenda: Agenda,
    /// Until where the hourly job has looked at events.
    pub(super) validated_until: Micros,
}

impl World {
    pub(super) fn new(store: Store, now: Micros) -> World {
        World {
            now,
            events: Events::new(store),
            customers: Table::default(),
            metrics: Table::default(),
            plans: Table::default(),
            taxes: Table::default(),
            subscriptions: Table::default(),
            by_external_id: HashMap::new(),
            invoices: Table::default(),
            wallets: Table::default(),
            transactions: Table::default(),
            outbox: Outbox::default(),
            agenda: Agenda::default(),
            validated_until: now,
        }
    }

    /// Errors: 404 `customer_not_found`.
    pub(super) fn customer(&self, external_id: &str) -> Result<Place, Refusal> {
        self.customers.find(external_id).ok_or_else(|| Refusal::not_found("customer"))
    }
}

/// The organisation of this Lago.
pub(super) const ORGANIZATION: &str = "1a900000-0000-4000-8000-000000000001";

/// An id of the right form, the same in every run: the number, scrambled so that nobody comes to sort by it.
pub(super) fn uuid(noun: &str, number: usize) -> String {
    let mix = |seed: u64| {
        let mut z = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    let noun = noun.bytes().fold(7, |sum: u64, byte| mix(sum ^ u64::from(byte)));
    let high = mix(noun.wrapping_add(number as u64));
    let low = mix(high);
    let hex = format!("{high:016x}{low:016x}");
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_uuids_and_differ() {
        let ids: std::collections::HashSet<String> =
            ["event", "customer"].iter().flat_map(|noun| (0..1000).map(|number| uuid(noun, number))).collect();
        assert_eq!(ids.len(), 2000);
        assert!(ids.iter().all(|id| id.len() == 36 && id.as_bytes()[14] == b'4'), "{:?}", ids.iter().next());
    }
}
