//! Very many customers, each with a subscription, an invoice that was paid by a charge, and a card. Only their places are
//! kept; the objects are made while they are read, always the same.

use super::{catalogue, people};
use crate::calendar::{DAY, Period, period};
use crate::kind::{Entry, Index, Kind};
use crate::resources::invoices::{self, Bill, Payment};
use crate::resources::{charges, customers, invoice_payments, payment_intents, payment_methods, subscriptions};
use crate::store::Store;
use crate::world::World;
use serde_json::{Value, json};
use std::sync::Arc;

/// Customers begin this far apart, the last of them twenty days before the sandbox was born.
const APART: i64 = 17;

/// The tier and price of a customer: three in ten starter, one in ten enterprise, the others professional.
fn price_of(number: u32) -> &'static str {
    match number % 10 {
        0..3 => "price_starter_monthly",
        3 => "price_enterprise_monthly",
        _ => "price_professional_monthly",
    }
}

/// Everything the objects of one sandbox are made from.
struct Maker {
    /// Products and prices only.
    catalogue: Store,
    born: i64,
    customers: u32,
}

impl Maker {
    fn began(&self, number: u32) -> i64 {
        self.born - 20 * DAY - i64::from(self.customers - number) * APART
    }

    fn current(&self, number: u32) -> Period {
        let month = crate::calendar::Recurrence { interval: "month", count: 1 };
        period(self.began(number), month, self.born)
    }

    fn make(&self, kind: Kind, number: u32) -> Value {
        match kind {
            Kind::Customer => self.customer(number),
            Kind::PaymentMethod => self.method(number),
            Kind::Subscription => self.subscription(number),
            Kind::Invoice => self.invoice(number),
            Kind::Charge => self.charge(number),
            Kind::PaymentIntent => self.intent(number),
            Kind::InvoicePayment => self.payment(number),
            _ => Value::Null,
        }
    }

    fn customer(&self, number: u32) -> Value {
        let person = people::person(place(number));
        let mut customer = customers::object(&id("cus", number), self.began(number) - 60);
        customer["name"] = json!(person.name);
        customer["email"] = json!(email(number));
        customer["currency"] = json!("usd");
        customer["address"] = people::home(place(number));
        customer["metadata"] = json!({"user_id": format!("user_{number:07}")});
        customer["invoice_settings"]["default_payment_method"] = json!(id("pm", number));
        customer
    }

    fn method(&self, number: u32) -> Value {
        let (brand, funding, last4) = people::card(place(number));
        let mut method = payment_methods::object(&id("pm", number), "card", self.began(number) - 30);
        let year = i64::from(crate::calendar::year(self.born));
        method["card"] = payment_methods::card(brand, funding, &last4, 1 + i64::from(number % 12), year + 2);
        method["customer"] = json!(id("cus", number));
        method
    }

    fn subscription(&self, number: u32) -> Value {
        let (own, start) = (id("sub", number), self.began(number));
        let price = catalogue::price(&self.catalogue, price_of(number));
        let mut subscription = subscriptions::object(&own, &id("cus", number), "usd", start);
        subscription["items"]["data"] = json!([subscriptions::item(&id("si", number), &own, &price, 1, start)]);
        subscription["latest_invoice"] = json!(id("in", number));
        subscriptions::set_periods(&mut subscription, self.born);
        subscription
    }

    fn invoice(&self, number: u32) -> Value {
        let period = self.current(number);
        let bill = Bill {
            name: None,
            subscription: &self.subscription(number),
            customer: &self.customer(number),
            reason: "subscription_cycle",
            at: period.start,
            period: Some(period),
            trial: false,
            payment: Payment::Wait,
        };
        let mut invoice = invoices::draft(&self.catalogue, &bill, &id("in", number), &format!("SCALE-{number:07}"));
        invoices::attempted(&mut invoice, true, period.start);
        invoice
    }

    fn amount(&self, number: u32) -> i64 {
        let price = self.catalogue.get(Kind::Price, price_of(number));
        price.and_then(|price| price["unit_amount"].as_i64()).unwrap_or_default()
    }

    fn charge(&self, number: u32) -> Value {
        charges::object(&charges::Asked {
            id: &id("ch", number),
            created: self.current(number).start,
            amount: self.amount(number),
            currency: "usd",
            customer: &json!(id("cus", number)),
            description: Some("Subscription update"),
            intent: Some(&id("pi", number)),
            method: &self.method(number),
            decline: None,
        })
    }

    fn intent(&self, number: u32) -> Value {
        let (amount, customer) = (self.amount(number), json!(id("cus", number)));
        let at = self.current(number).start;
        let mut intent = payment_intents::object(&id("pi", number), at, amount, "usd", &customer);
        payment_intents::charged(&mut intent, &self.charge(number), &self.method(number));
        intent
    }

    fn payment(&self, number: u32) -> Value {
        let at = self.current(number).start;
        let invoice = json!({"id": id("in", number), "total": self.amount(number), "currency": "usd", "created": at});
        invoice_payments::object(&id("inpay", number), &invoice, &id("pi", number), Some(at))
    }
}

fn place(number: u32) -> usize {
    usize::try_from(number).unwrap_or_default()
}

fn id(prefix: &str, number: u32) -> String {
    format!("{prefix}_scale_{number:07}")
}

/// Numbered from the start, because names repeat.
fn email(number: u32) -> String {
    let person = people::person(place(number) + 150);
    person.email
}

pub(super) fn plant(world: &mut World, customers: u64) {
    let born = world.born();
    catalogue::plant(&mut world.store, born);
    let mut catalogue = Store::new();
    catalogue::plant(&mut catalogue, born);
    let maker = Arc::new(Maker { catalogue, born, customers: u32::try_from(customers).unwrap_or(u32::MAX) });
    for number in 0..maker.customers {
        place_one(&mut world.store, &maker, number);
    }
    world.store.set_maker(Arc::new(move |kind, number| maker.make(kind, number)));
}

/// The rows of one customer, with the index entries that their objects would have.
fn place_one(store: &mut Store, maker: &Maker, number: u32) {
    let own = |prefix: &str| -> Arc<str> { Arc::from(id(prefix, number)) };
    let (customer, invoice, intent) = (own("cus"), own("in"), own("pi"));
    let of: Entry = (Index::Customer, Arc::clone(&customer));
    let fact = |index: Index, value: &str| -> Entry { (index, Arc::from(value)) };
    let (began, at) = (maker.began(number), maker.current(number).start);
    let mut put = |kind: Kind, id: Arc<str>, created: i64, found: Vec<Entry>| {
        store.put_lazy(kind, id, created, number, found);
    };
    let subscribed = vec![
        of.clone(),
        fact(Index::Status, "active"),
        fact(Index::Item, &id("si", number)),
        fact(Index::Price, price_of(number)),
        fact(Index::Live, "true"),
    ];
    let billed = vec![of.clone(), fact(Index::Subscription, &id("sub", number)), fact(Index::Status, "paid")];
    let paid = vec![
        (Index::Invoice, Arc::clone(&invoice)),
        (Index::PaymentIntent, Arc::clone(&intent)),
        fact(Index::Status, "paid"),
    ];
    put(Kind::Customer, customer, began - 60, vec![fact(Index::Email, &email(number))]);
    put(Kind::PaymentMethod, own("pm"), began - 30, vec![of.clone(), fact(Index::Type, "card")]);
    put(Kind::Subscription, own("sub"), began, subscribed);
    put(Kind::Invoice, invoice, at, billed);
    put(Kind::Charge, own("ch"), at, vec![of.clone(), (Index::PaymentIntent, Arc::clone(&intent))]);
    put(Kind::PaymentIntent, intent, at, vec![of]);
    put(Kind::InvoicePayment, own("inpay"), at, paid);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::entries;

    #[test]
    fn places_are_what_the_objects_say() {
        let mut world = World::new(1_790_000_000);
        plant(&mut world, 12);
        assert_eq!(world.store.ids(Kind::InvoicePayment).len(), 12);
        for kind in Kind::ALL {
            for id in world.store.ids(kind) {
                let object = world.store.get(kind, &id).unwrap();
                let created = object["created"].as_i64().unwrap();
                assert_eq!(object["id"], *id);
                assert_eq!(world.store.place(kind, &id).unwrap().0, created, "{id}");
                for (index, value) in entries(kind, &object) {
                    let all = world.store.all(kind, index, &value);
                    assert!(all.iter().any(|found| found["id"] == *id), "{id} {index:?}");
                }
            }
        }
    }
}
