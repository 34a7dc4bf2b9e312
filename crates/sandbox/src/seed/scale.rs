//! Very many customers, each with a subscription, an invoice that was paid by a charge, and a card. Only their places are
//! kept; the objects are stamped out while they are read, always the same.

use super::billing::{self, Bill};
use super::stencil::{Mark, Stencil};
use super::{catalogue, people};
use crate::calendar::{DAY, Period, Recurrence, period};
use crate::kind::{Entry, Index, Kind};
use crate::lifecycle::due;
use crate::resources::invoices;
use crate::resources::{
    charges, customers, invoice_payments, payment_intents, payment_methods, subscription_items, subscriptions,
};
use crate::store::Store;
use crate::world::{World, opaque};
use serde_json::{Value, json};
use std::collections::HashMap;
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

/// What differs from customer to customer.
#[derive(Debug, Clone, Copy)]
enum Hole {
    Number,
    /// When the customer subscribed, and so many seconds.
    Began(i64),
    From,
    Until,
    Name,
    Email,
    Home,
    Card,
    Charged,
    Prefix,
    Secret,
}

const NUMBER: &str = "~number~";
const BEGAN: i64 = 1_111_111_111;
const FROM: i64 = 1_222_222_222;
const UNTIL: i64 = 1_333_333_333;

/// The marks that stand for the holes in the pattern objects. Where a mark stands for a whole value, its quotes go too.
const MARKS: &[Mark<Hole>] = &[
    (NUMBER, Hole::Number),
    ("1111111111", Hole::Began(0)),
    ("1111111081", Hole::Began(-30)),
    ("1111111051", Hole::Began(-60)),
    ("1222222222", Hole::From),
    ("1333333333", Hole::Until),
    ("\"~name~\"", Hole::Name),
    ("~email~", Hole::Email),
    ("\"~home~\"", Hole::Home),
    ("\"~card~\"", Hole::Card),
    ("\"~charged~\"", Hole::Charged),
    ("~prefix~", Hole::Prefix),
    ("~secret~", Hole::Secret),
];

const KINDS: [Kind; 7] = [
    Kind::Customer,
    Kind::PaymentMethod,
    Kind::Subscription,
    Kind::Invoice,
    Kind::Charge,
    Kind::PaymentIntent,
    Kind::InvoicePayment,
];

/// One object of each kind with marks for its particulars, for one price.
struct Pattern<'a> {
    catalogue: &'a Store,
    price: Value,
}

impl Pattern<'_> {
    fn object(&self, kind: Kind) -> Value {
        match kind {
            Kind::Customer => customer(),
            Kind::PaymentMethod => method(),
            Kind::Subscription => self.subscription(),
            Kind::Invoice => self.invoice(),
            Kind::Charge => self.charge(),
            Kind::PaymentIntent => self.intent(),
            Kind::InvoicePayment => self.payment(),
            _ => Value::Null,
        }
    }

    fn subscription(&self) -> Value {
        let own = id("sub");
        let mut subscription = subscriptions::object(&own, &id("cus"), "usd", BEGAN);
        let mut item = subscription_items::object(&id("si"), &own, &self.price, 1, BEGAN);
        item["current_period_start"] = json!(FROM);
        item["current_period_end"] = json!(UNTIL);
        subscription["items"]["data"] = json!([item]);
        subscription["latest_invoice"] = json!(id("in"));
        subscription
    }

    fn invoice(&self) -> Value {
        let bill = Bill {
            name: NUMBER,
            subscription: &self.subscription(),
            customer: &customer(),
            reason: "subscription_cycle",
            at: FROM,
            period: Period { start: FROM, end: UNTIL },
            trial: false,
            method: &Value::Null,
        };
        let mut invoice = billing::open(self.catalogue, &bill, &id("in"), &format!("SCALE-{NUMBER}"));
        invoices::attempted(&mut invoice, true, FROM, None);
        invoice
    }

    fn charge(&self) -> Value {
        let mut charge = charges::object(&charges::Asked {
            id: &id("ch"),
            created: FROM,
            amount: amount(&self.price),
            currency: "usd",
            customer: &json!(id("cus")),
            description: Some("Subscription update"),
            intent: Some(&id("pi")),
            method: &method(),
            decline: None,
        });
        charge["payment_method_details"] = json!("~charged~");
        charge
    }

    fn intent(&self) -> Value {
        let customer = json!(id("cus"));
        let mut intent = payment_intents::object(&id("pi"), FROM, amount(&self.price), "usd", &customer);
        payment_intents::charged(&mut intent, &self.charge(), &method());
        intent["client_secret"] = json!("~secret~");
        intent
    }

    fn payment(&self) -> Value {
        let invoice = json!({"id": id("in"), "total": amount(&self.price), "currency": "usd", "created": FROM});
        invoice_payments::object(&id("inpay"), &invoice, &id("pi"), Some(FROM))
    }
}

fn customer() -> Value {
    let mut customer = customers::object(&id("cus"), BEGAN - 60);
    let facts = json!({
        "name": "~name~", "email": "~email~", "currency": "usd", "address": "~home~", "invoice_prefix": "~prefix~",
        "metadata": {"user_id": format!("user_{NUMBER}")}
    });
    crate::resources::fill(&mut customer, Some(&facts));
    customer["invoice_settings"]["default_payment_method"] = json!(id("pm"));
    customer
}

fn method() -> Value {
    let mut method = payment_methods::object(&id("pm"), "card", BEGAN - 30);
    method["card"] = json!("~card~");
    method["customer"] = json!(id("cus"));
    method
}

/// The id of a pattern; [`numbered`] is that of an object.
fn id(prefix: &str) -> String {
    format!("{prefix}_scale_{NUMBER}")
}

fn numbered(prefix: &str, number: u32) -> String {
    format!("{prefix}_scale_{number:07}")
}

fn amount(price: &Value) -> i64 {
    price["unit_amount"].as_i64().unwrap_or_default()
}

/// Stamps out every object of one sandbox.
struct Maker {
    stencils: HashMap<(Kind, &'static str), Stencil<Hole>>,
    amounts: HashMap<&'static str, i64>,
    born: i64,
    customers: u32,
}

impl Maker {
    fn new(catalogue: &Store, born: i64, customers: u32) -> Maker {
        let (mut stencils, mut amounts) = (HashMap::new(), HashMap::new());
        for name in (0..10).map(price_of) {
            let pattern = Pattern { catalogue, price: catalogue::price(catalogue, name) };
            amounts.insert(name, amount(&pattern.price));
            for kind in KINDS {
                stencils.insert((kind, name), Stencil::cut(&pattern.object(kind).to_string(), MARKS));
            }
        }
        Maker { stencils, amounts, born, customers }
    }

    fn began(&self, number: u32) -> i64 {
        self.born - 20 * DAY - i64::from(self.customers - number) * APART
    }

    fn current(&self, number: u32) -> Period {
        period(self.began(number), Recurrence { interval: "month", count: 1 }, self.born)
    }

    fn text(&self, kind: Kind, number: u32) -> String {
        let Some(stencil) = self.stencils.get(&(kind, price_of(number))) else { return "null".to_owned() };
        let current = self.current(number);
        stencil.stamp(|hole| match hole {
            Hole::Number => format!("{number:07}"),
            Hole::Began(shift) => (self.began(number) + shift).to_string(),
            Hole::From => current.start.to_string(),
            Hole::Until => current.end.to_string(),
            Hole::Name => json!(people::person(place(number)).name).to_string(),
            Hole::Email => email(number),
            Hole::Home => people::home(place(number)).to_string(),
            Hole::Card => self.card(number).to_string(),
            Hole::Charged => self.charged(number).to_string(),
            Hole::Prefix => opaque(11, u64::from(number), 8).to_uppercase(),
            Hole::Secret => format!("{}_secret_{}", numbered("pi", number), opaque(12, u64::from(number), 25)),
        })
    }

    fn card(&self, number: u32) -> Value {
        let (brand, funding, last4) = people::card(place(number));
        let year = i64::from(crate::calendar::year(self.born));
        payment_methods::card(brand, funding, &last4, 1 + i64::from(number % 12), year + 2)
    }

    fn charged(&self, number: u32) -> Value {
        let amount = self.amounts.get(price_of(number)).copied().unwrap_or_default();
        charges::details(&json!({"type": "card", "card": self.card(number)}), amount)
    }
}

fn place(number: u32) -> usize {
    usize::try_from(number).unwrap_or_default()
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
    let maker = Maker::new(&catalogue, born, u32::try_from(customers).unwrap_or(u32::MAX));
    for number in 0..maker.customers {
        place_one(&mut world.store, &maker, number);
    }
    world.store.set_maker(Arc::new(move |kind, number| maker.text(kind, number)));
}

/// The rows of one customer, with the index entries that their objects would have.
fn place_one(store: &mut Store, maker: &Maker, number: u32) {
    let own = |prefix: &str| -> Arc<str> { Arc::from(numbered(prefix, number)) };
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
        fact(Index::Item, &numbered("si", number)),
        fact(Index::Price, price_of(number)),
        fact(Index::Live, "true"),
    ];
    let billed = vec![of.clone(), fact(Index::Subscription, &numbered("sub", number)), fact(Index::Status, "paid")];
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
    let due = due::announced(maker.current(number).end, maker.born);
    store.note_lazy(Kind::Subscription, &numbered("sub", number), due);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::entries;
    use crate::lifecycle::due;

    #[test]
    fn places_are_what_the_objects_say() {
        let mut world = World::new(1_790_000_000);
        plant(&mut world, 12);
        assert_eq!(world.store.ids(Kind::InvoicePayment).len(), 12);
        let first = world.store.next_due("").unwrap();
        let object = world.store.at(first.kind, first.key).unwrap();
        assert_eq!(due::of(first.kind, &object, world.born()), Some(first.at), "what is due is what the object says");
        for kind in Kind::ALL {
            for id in world.store.ids(kind) {
                let object = world.store.get(kind, &id).unwrap();
                let created = object["created"].as_i64().unwrap();
                assert!(MARKS.iter().all(|(mark, _)| !object.to_string().contains(mark)), "{object}");
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
