//! What a new sandbox begins with.

mod billing;
mod business;
mod catalogue;
mod people;
mod scale;
mod stencil;

use crate::world::World;

pub use business::USER_CUSTOMER;

/// What a new sandbox begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seed {
    /// Nothing at all.
    Empty,
    /// A believable little business: 150 customers, 120 running subscriptions, three months of invoices and charges.
    /// Its monthly value is 4,990.00 USD, beside one subscription in JPY.
    Business,
    /// Very many customers, each with a subscription, an invoice, a charge and a card; made while they are read.
    Scale {
        /// How many.
        customers: u64,
    },
}

impl Seed {
    /// How the state file names it.
    pub(crate) fn text(self) -> String {
        match self {
            Seed::Empty => "empty".to_owned(),
            Seed::Business => "business".to_owned(),
            Seed::Scale { customers } => format!("scale {customers}"),
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Seed> {
        match text {
            "empty" => Some(Seed::Empty),
            "business" => Some(Seed::Business),
            _ => text.strip_prefix("scale ")?.parse().ok().map(|customers| Seed::Scale { customers }),
        }
    }
}

/// Fills a world that is still empty. The same instant of birth makes the same world.
pub(crate) fn plant(world: &mut World, seed: Seed) {
    match seed {
        Seed::Empty => {}
        Seed::Business => business::plant(world),
        Seed::Scale { customers } => scale::plant(world, customers),
    }
}
