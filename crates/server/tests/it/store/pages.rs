//! Lists: keyset pages, filters, and whose rows they show.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use billhook::error::Result;
use billhook::store::charges::{self, Charge};
use billhook::store::customers::{self, Customer};
use billhook::store::invoices::{self, Invoice};
use billhook::store::mirror::{self, Resource, Seen};
use billhook::store::payment_methods::{self, Card, PaymentMethod};
use billhook::store::subscriptions::{self, Filter, Subscription};
use billhook::store::{After, Tx};
use billing::subscription::Status;

use super::{at, open, professional, save, since};
use crate::harness::Database;

/// Thirty rows over four instants: most of them share theirs.
const PLACES: std::ops::Range<i64> = 0..30;

const fn created(number: i64) -> i64 {
    1_000 + (number * 7) % 4
}

fn charge(number: i64) -> Charge {
    Charge {
        id: format!("ch_{:02}", (number * 11) % 30),
        customer: None,
        amount: Some(number),
        amount_refunded: None,
        currency: None,
        status: None,
        description: None,
        created: at(created(number)),
        paid: true,
        refunded: false,
    }
}

fn save_charge(tx: &mut Tx<'_>, row: &Charge) -> Result<()> {
    charges::save(tx, Seen { resource: Resource::Charges, id: &row.id, raw: "{}", run: 1 }, row)
}

fn sorted<T>(mut rows: Vec<T>, place: impl Fn(&T) -> (i64, String)) -> Vec<String> {
    rows.sort_by_key(|row| Reverse(place(row)));
    rows.iter().map(|row| place(row).1).collect()
}

/// All pages of a list joined, and how many there were.
fn walk<T>(
    tx: &mut Tx<'_>,
    page: impl Fn(&mut Tx<'_>, &After) -> Result<Vec<T>>,
    place: impl Fn(&T) -> (i64, String),
) -> Result<Vec<String>> {
    let (mut after, mut seen) = (After::start(), Vec::new());
    loop {
        let rows = page(tx, &after)?;
        let Some(last) = rows.last() else { return Ok(seen) };
        let (created, id) = place(last);
        after = After { created, id };
        seen.extend(rows.iter().map(|row| place(row).1));
    }
}

pub async fn i15_pages_joined_are_the_whole_list_also_where_instants_are_equal(database: Database) {
    let db = open(&database).await;
    db.write(|tx| PLACES.map(charge).try_for_each(|row| save_charge(tx, &row))).await.expect("saved");
    let place = |row: &Charge| (row.created.as_second(), row.id.clone());
    let whole = sorted(PLACES.map(charge).collect(), place);
    for limit in [1, 2, 3, 7, 30, 31] {
        let pages =
            db.read(move |tx| walk(tx, |tx, after| charges::page(tx, after, limit), place)).await.expect("pages");
        assert_eq!(pages, whole, "pages of {limit}");
    }
}

pub async fn i15_a_row_that_comes_or_goes_between_two_pages_moves_no_other(database: Database) {
    let db = open(&database).await;
    db.write(|tx| PLACES.map(charge).try_for_each(|row| save_charge(tx, &row))).await.expect("saved");
    let place = |row: &Charge| (row.created.as_second(), row.id.clone());
    let whole = sorted(PLACES.map(charge).collect(), place);
    let first = db.read(|tx| charges::page(tx, &After::start(), 10)).await.expect("a page");
    let (created, id) = place(&first[9]);
    let cursor_row = id.clone();
    let rest = db
        .write(move |tx| {
            save_charge(tx, &Charge { id: "ch_new".to_owned(), created: at(9_999), ..charge(0) })?;
            // Even the row that the cursor names may go.
            mirror::delete(tx, Resource::Charges, &cursor_row)?;
            charges::page(tx, &After { created, id: cursor_row.clone() }, 100)
        })
        .await
        .expect("a page");
    let joined: Vec<String> = first.iter().chain(&rest).map(|row| row.id.clone()).collect();
    assert_eq!(joined, whole, "{id}");
}

fn subscription(number: i64) -> Subscription {
    let statuses = ["active", "trialing", "past_due", "canceled", "incomplete_expired", "dunning"];
    let status = Status::parse(statuses[usize::try_from(number).expect("small") % statuses.len()]);
    let monthly_minor = if status.earns() { 4900 } else { 0 };
    Subscription { status, monthly_minor, ..professional(&format!("sub_{:02}", (number * 13) % 30), created(number)) }
}

pub async fn i16_a_filter_shows_what_a_naive_filter_shows(database: Database) {
    let db = open(&database).await;
    db.write(|tx| PLACES.map(subscription).try_for_each(|row| save(tx, &row, &[]))).await.expect("saved");
    let delete = |tx: &mut Tx<'_>| {
        let since = since(tx)?;
        subscriptions::delete(tx, "sub_00", &since)
    };
    db.write(delete).await.expect("deleted");
    let place = |row: &Subscription| (row.created.as_second(), row.id.clone());
    let statuses = ["active", "trialing", "past_due", "canceled", "incomplete_expired", "dunning", "paused"];
    let mut filters = vec![Filter::All, Filter::Running];
    filters.extend(statuses.map(|status| Filter::Status(Status::parse(status))));
    for filter in filters {
        let shown = |row: &Subscription| match &filter {
            Filter::All => true,
            Filter::Running => !row.status.is_ended(),
            Filter::Status(status) => row.status == *status,
        };
        let naive = PLACES.map(subscription).filter(|row| row.id != "sub_00" && shown(row)).collect();
        let naive = sorted(naive, place);
        let of = filter.clone();
        let found = db
            .read(move |tx| walk(tx, |tx, after| subscriptions::page(tx, &of, after, 4), place))
            .await
            .expect("pages");
        assert_eq!(found, naive, "{filter:?}");
    }
    let back = db
        .read(|tx| subscriptions::page(tx, &Filter::Status(Status::Other("dunning".into())), &After::start(), 1))
        .await;
    let back = back.expect("a page").remove(0);
    let sent = PLACES.map(subscription).find(|row| row.id == back.id).expect("one of them");
    assert_eq!(back, sent, "what was saved comes back whole");
}

fn invoice(id: &str, customer: &str, second: i64) -> Invoice {
    Invoice {
        id: id.to_owned(),
        customer: Some(customer.to_owned()),
        subscription: Some("sub_1".to_owned()),
        number: None,
        status: Some("paid".to_owned()),
        currency: Some("jpy".to_owned()),
        amount_due: Some(i64::MAX),
        amount_paid: Some(-5),
        created: at(second),
        due_date: None,
        paid: true,
        invoice_pdf: None,
        hosted_invoice_url: Some("https://example.com/i".to_owned()),
    }
}

fn method(id: &str, customer: Option<&str>, kind: &str) -> PaymentMethod {
    let card = Card {
        brand: Some("visa".to_owned()),
        last4: Some("4242".to_owned()),
        exp_month: Some(12),
        exp_year: Some(2030),
    };
    let card = (kind == "card").then_some(card);
    PaymentMethod {
        id: id.to_owned(),
        customer: customer.map(str::to_owned),
        kind: kind.to_owned(),
        card,
        created: at(5),
    }
}

pub async fn a_customer_sees_their_own_invoices_and_payment_methods_only(database: Database) {
    let db = open(&database).await;
    let customer = |id: &str, email: &str| Customer {
        id: id.to_owned(),
        email: Some(email.to_owned()),
        name: None,
        created: at(1),
        metadata: BTreeMap::from([("a\"b".to_owned(), "c".to_owned())]),
    };
    let people =
        [customer("cus_1", "a@example.com"), customer("cus_2", "b@example.com"), customer("cus_3", "b@example.com")];
    let saved = people.clone();
    let papers = [invoice("in_1", "cus_1", 10), invoice("in_2", "cus_1", 20), invoice("in_3", "cus_2", 30)];
    let methods = [
        method("pm_1", Some("cus_1"), "card"),
        method("pm_2", Some("cus_1"), "sepa_debit"),
        method("pm_3", None, "card"),
    ];
    let (of_one, ways) = (papers.clone(), methods.clone());
    db.write(move |tx| {
        for row in &people {
            customers::save(tx, Seen { resource: Resource::Customers, id: &row.id, raw: "{}", run: 1 }, row)?;
        }
        for row in &papers {
            invoices::save(tx, Seen { resource: Resource::Invoices, id: &row.id, raw: "{}", run: 1 }, row)?;
        }
        for row in &methods {
            payment_methods::save(
                tx,
                Seen { resource: Resource::PaymentMethods, id: &row.id, raw: "{}", run: 1 },
                row,
            )?;
        }
        Ok(())
    })
    .await
    .expect("saved");
    let (found, own, listed, emails) = db
        .read(|tx| {
            let emails = ["a@example.com", "b@example.com", "A@example.com", "%"]
                .map(|email| customers::with_email(tx, email).map(|ids| ids.len()));
            let emails = emails.into_iter().collect::<Result<Vec<_>>>()?;
            let own = payment_methods::of_customer(tx, "cus_1")?;
            Ok((
                invoices::of_customer(tx, "cus_1", &After::start(), 9)?,
                own,
                customers::page(tx, &After::start(), 9)?,
                emails,
            ))
        })
        .await
        .expect("a read");
    assert_eq!(found, [of_one[1].clone(), of_one[0].clone()]);
    assert_eq!(own, [ways[1].clone(), ways[0].clone()]);
    assert_eq!(listed, [saved[2].clone(), saved[1].clone(), saved[0].clone()]);
    assert_eq!(emails, [1, 2, 0, 0], "an e-mail is matched exactly");
}
