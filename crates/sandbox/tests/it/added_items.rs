//! What is sold once beside a subscription: on its first invoice, on its next one, or when a phase begins.

use crate::lab::Lab;
use sandbox::Seed;
use serde_json::{Value, json};

const DAY: i64 = 24 * 60 * 60;
const STARTER: &str = "items[0][price]=price_starter_monthly";

/// A price that is paid once, of a product called Setup.
fn once(lab: &Lab, amount: i64, currency: &str) -> String {
    let form = format!("product_data[name]=Setup&unit_amount={amount}&currency={currency}");
    lab.made("/v1/prices", &form)["id"].as_str().unwrap().to_owned()
}

/// What stands on an invoice, line by line, and what it costs.
fn lines(invoice: &Value) -> (Vec<(String, i64)>, i64) {
    let line = |line: &Value| (line["description"].as_str().unwrap().to_owned(), line["amount"].as_i64().unwrap());
    (invoice["lines"]["data"].as_array().unwrap().iter().map(line).collect(), invoice["total"].as_i64().unwrap())
}

fn newest_invoice(lab: &Lab, customer: &str) -> Value {
    lab.get(&format!("/v1/invoices?customer={customer}&limit=1")).rows()[0].clone()
}

#[test]
fn the_first_invoice_has_it_and_the_second_has_not() {
    let lab = Lab::new(Seed::Business);
    let (setup, customer) = (once(&lab, 5000, "usd"), lab.payer("pm_card_visa"));
    let sold = format!("add_invoice_items[0][price]={setup}&add_invoice_items[0][quantity]=2");
    let begun = lab.subscribe(&customer, &format!("{STARTER}&{sold}&discounts[0][coupon]=FOUNDING20"));
    let invoice = &begun["latest_invoice"];
    let starter = "1 × Starter (at $19.00 / month)".to_owned();
    assert_eq!(lines(invoice), (vec![(starter.clone(), 1900), ("Setup".into(), 10_000)], 9520));
    let parent = &invoice["lines"]["data"][1]["parent"];
    assert_eq!(parent["invoice_item_details"]["subscription"], begun["id"]);
    let item = &begun["items"]["data"][0];
    let period = json!({"start": item["current_period_start"], "end": item["current_period_end"]});
    assert_eq!(invoice["lines"]["data"][1]["period"], period);
    lab.advance(31 * DAY);
    assert_eq!(lines(&newest_invoice(&lab, &customer)), (vec![(starter, 1900)], 1520));
}

#[test]
fn a_trial_costs_what_is_sold_with_it() {
    let lab = Lab::new(Seed::Business);
    let (setup, customer) = (once(&lab, 5000, "usd"), lab.payer("pm_card_visa"));
    let begun = lab.subscribe(&customer, &format!("{STARTER}&trial_period_days=7&add_invoice_items[0][price]={setup}"));
    assert_eq!((&begun["status"], &begun["latest_invoice"]["amount_paid"]), (&json!("trialing"), &json!(5000)));
}

#[test]
fn a_change_puts_it_on_the_next_invoice_or_on_one_of_its_own() {
    let lab = Lab::new(Seed::Business);
    let (setup, customer) = (once(&lab, 5000, "usd"), lab.payer("pm_card_visa"));
    let begun = lab.subscribe(&customer, STARTER);
    let path = format!("/v1/subscriptions/{}", begun["id"].as_str().unwrap());
    lab.made(&path, &format!("add_invoice_items[0][price]={setup}"));
    let first = begun["latest_invoice"]["id"].clone();
    assert_eq!(newest_invoice(&lab, &customer)["id"], first);
    let data = "add_invoice_items[0][price_data][currency]=usd&add_invoice_items[0][price_data][product]=prod_professional\
                &add_invoice_items[0][price_data][unit_amount]=700&proration_behavior=always_invoice";
    lab.made(&path, data);
    let both = vec![("Setup".to_owned(), 5000), ("Professional".to_owned(), 700)];
    assert_eq!(lines(&newest_invoice(&lab, &customer)), (both, 5700));
}

#[test]
fn a_phase_sells_it_when_it_begins_and_only_then() {
    let lab = Lab::new(Seed::Business);
    let (setup, move_in) = (once(&lab, 5000, "usd"), once(&lab, 800, "usd"));
    let rate = lab.made("/v1/tax_rates", "display_name=VAT&inclusive=false&percentage=10")["id"].clone();
    let customer = lab.payer("pm_card_visa");
    let phase = |place: usize, price: &str| {
        format!(
            "phases[{place}][items][0][price]=price_starter_monthly&phases[{place}][duration][interval]=month\
             &phases[{place}][add_invoice_items][0][price]={price}&phases[{place}][default_tax_rates][]={}",
            rate.as_str().unwrap()
        )
    };
    let form = format!("customer={customer}&start_date=now&{}&{}", phase(0, &setup), phase(1, &move_in));
    let schedule = lab.made("/v1/subscription_schedules", &form);
    assert_eq!(schedule["phases"][1]["add_invoice_items"][0]["price"], json!(move_in));
    assert_eq!(schedule["phases"][0]["default_tax_rates"][0]["percentage"], json!(10));
    assert_eq!(newest_invoice(&lab, &customer)["total"], (1900 + 5000) * 11 / 10);
    // Written anew, the phase that runs does not sell a second time.
    let path = format!("/v1/subscription_schedules/{}", schedule["id"].as_str().unwrap());
    lab.made(&path, &format!("{}&{}", phase(0, &setup), phase(1, &move_in)));
    assert_eq!(lab.get(&format!("/v1/invoiceitems?customer={customer}")).rows().len(), 1);
    lab.advance(31 * DAY);
    assert_eq!(newest_invoice(&lab, &customer)["total"], (1900 + 800) * 11 / 10);
}

#[test]
fn what_cannot_be_sold_once() {
    let lab = Lab::new(Seed::Business);
    let (euros, customer) = (once(&lab, 5000, "eur"), lab.payer("pm_card_visa"));
    let (setup, period) = (once(&lab, 5000, "usd"), "add_invoice_items[0][period]");
    for (item, expected) in [
        ("[price]=price_starter_monthly", "- add_invoice_items[0][price]"),
        ("[price]=price_nothing", "resource_missing add_invoice_items[0][price]"),
        ("[quantity]=2", "parameter_missing add_invoice_items[0][price]"),
        (
            &format!("[price]={setup}&{period}[start][type]=timestamp&{period}[end][type]=min_item_period_end"),
            "parameter_missing add_invoice_items[0][period][start][timestamp]",
        ),
        (
            &format!("[price]={setup}&{period}[start][type]=now&{period}[end][type]=timestamp"),
            "parameter_missing add_invoice_items[0][period][end][timestamp]",
        ),
        ("[colour]=red", "parameter_unknown add_invoice_items[0][colour]"),
        (&format!("[price]={euros}"), "- add_invoice_items[0][price]"),
        (&format!("[price]={euros}&add_invoice_items[0][tax_rates][]=txr_x"), "- add_invoice_items[0][price]"),
    ] {
        let form = format!("customer={customer}&{STARTER}&add_invoice_items[0]{item}");
        let refused = lab.post("/v1/subscriptions", &form).error();
        assert_eq!(refused, format!("400 invalid_request_error {expected}"), "{item}");
    }
    assert_eq!(lab.get(&format!("/v1/subscriptions?customer={customer}")).rows().len(), 0);
}
