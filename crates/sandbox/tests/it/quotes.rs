//! Quotes: written, made, and accepted or not; and what is bought with them.

use crate::lab::Lab;
use sandbox::Seed;
use serde_json::{Value, json};

const DAY: i64 = 24 * 60 * 60;

fn quote(lab: &Lab, form: &str) -> Value {
    lab.made("/v1/quotes", form)
}

fn path(quote: &Value) -> String {
    format!("/v1/quotes/{}", quote["id"].as_str().unwrap())
}

fn once(lab: &Lab) -> String {
    let price = lab.made("/v1/prices", "product_data[name]=Setup&unit_amount=5000&currency=usd");
    price["id"].as_str().unwrap().to_owned()
}

#[test]
fn an_accepted_quote_is_a_subscription() {
    let lab = Lab::new(Seed::Business);
    let (setup, customer) = (once(&lab), lab.payer("pm_card_visa"));
    let rows =
        format!("line_items[0][price]=price_starter_monthly&line_items[0][quantity]=2&line_items[1][price]={setup}");
    let told = lab.told(|lab| {
        let offer = quote(lab, &format!("customer={customer}&{rows}&discounts[0][coupon]=FOUNDING20"));
        assert_eq!((&offer["status"], &offer["number"]), (&json!("draft"), &Value::Null));
        assert_eq!((&offer["amount_subtotal"], &offer["amount_total"]), (&json!(8800), &json!(7040)));
        let recurring = &offer["computed"]["recurring"];
        assert_eq!((&recurring["amount_total"], &recurring["interval"]), (&json!(3040), &json!("month")));
        let made = lab.made(&format!("{}/finalize", path(&offer)), "");
        assert!(made["status"] == "open" && made["number"].is_string(), "{made}");
        let accepted = lab.made(&format!("{}/accept", path(&offer)), "expand[]=subscription&expand[]=invoice");
        assert_eq!(accepted["subscription"]["items"]["data"][0]["quantity"], 2);
        // Like that of a schedule, the first invoice can be changed for an hour.
        assert_eq!((&accepted["invoice"]["status"], &accepted["invoice"]["total"]), (&json!("draft"), &json!(7040)));
        let again = lab.post(&format!("{}/accept", path(&offer)), "");
        assert_eq!(again.error(), "400 invalid_request_error - -");
        let rows = lab.get(&format!("{}/line_items?limit=1", path(&offer)));
        assert_eq!((rows.rows().len(), &rows.body["has_more"]), (1, &json!(true)));
    });
    let mut names: Vec<&str> = told.iter().map(String::as_str).filter(|name| name.starts_with("quote")).collect();
    names.sort_unstable();
    assert_eq!(names, ["quote.accepted", "quote.created", "quote.finalized"]);
    lab.advance(2 * 3600);
    assert_eq!(lab.get(&format!("/v1/invoices?customer={customer}")).rows()[0]["status"], "paid");
}

#[test]
fn what_is_bought_once_is_an_invoice() {
    let lab = Lab::new(Seed::Business);
    let (setup, customer) = (once(&lab), lab.payer("pm_card_visa"));
    let rate = lab.made("/v1/tax_rates", "display_name=VAT&inclusive=false&percentage=10")["id"].clone();
    let form = format!("line_items[0][price]={setup}&default_tax_rates[]={}", rate.as_str().unwrap());
    let offer = quote(&lab, &format!("{form}&discounts[0][coupon]=FOUNDING20"));
    assert_eq!((&offer["amount_total"], &offer["computed"]["recurring"]), (&json!(4400), &Value::Null));
    let refused = lab.post(&format!("{}/finalize", path(&offer)), "");
    assert_eq!(refused.error(), "400 invalid_request_error - customer");
    lab.made(&path(&offer), &format!("customer={customer}"));
    lab.made(&format!("{}/finalize", path(&offer)), "");
    let accepted = lab.made(&format!("{}/accept", path(&offer)), "expand[]=invoice");
    let invoice = &accepted["invoice"];
    assert_eq!((&accepted["subscription"], &invoice["total"]), (&Value::Null, &json!(4400)));
    assert_eq!(invoice["total_discount_amounts"][0]["amount"], 1000);
    assert_eq!(invoice["parent"]["quote_details"]["quote"], offer["id"]);
}

#[test]
fn an_offer_ends() {
    let lab = Lab::new(Seed::Business);
    let customer = lab.payer("pm_card_visa");
    let form = format!("customer={customer}&line_items[0][price]=price_starter_monthly");
    let (first, second) = (quote(&lab, &form), quote(&lab, &form));
    assert_eq!(lab.made(&format!("{}/cancel", path(&first)), "")["status"], "canceled");
    lab.made(&format!("{}/finalize", path(&second)), "");
    for (quote, act) in [(&first, "finalize"), (&first, "cancel"), (&second, "finalize")] {
        let refused = lab.post(&format!("{}/{act}", path(quote)), "");
        assert_eq!(refused.error(), "400 invalid_request_error - -", "{act}");
    }
    let rewritten = lab.post(&path(&second), "description=else");
    assert_eq!(rewritten.error(), "400 invalid_request_error - -");
    lab.advance(31 * DAY);
    assert_eq!(lab.get(&path(&second)).body["status"], "canceled");
    assert_eq!(lab.get("/v1/quotes?status=canceled").rows().len(), 2);
    assert_eq!(lab.get("/v1/quotes?status=open").rows().len(), 0);
}

#[test]
fn a_link_opens_a_page_for_each_who_comes() {
    let lab = Lab::new(Seed::Business);
    let link = lab.made("/v1/payment_links", "line_items[0][price]=price_starter_monthly&line_items[0][quantity]=1");
    let id = link["id"].as_str().unwrap();
    let page = format!("/_sandbox/pages/link/{id}");
    assert!(link["url"].as_str().unwrap().ends_with(&page));
    assert_eq!(lab.get(&page).status, 303);
    assert_ne!(lab.get(&page).header("location"), "");
    let sessions = lab.get("/v1/checkout/sessions");
    let seen: Vec<_> = sessions.rows().iter().map(|row| (row["payment_link"].clone(), row["mode"].clone())).collect();
    assert_eq!(seen, vec![(json!(id), json!("subscription")); 2]);
    assert_eq!(lab.made(&format!("/v1/payment_links/{id}"), "active=false")["active"], false);
    assert_eq!(lab.get(&page).status, 410);
    assert_eq!(lab.get("/v1/payment_links?active=true").rows().len(), 0);
    assert_eq!(lab.get(&format!("/v1/payment_links/{id}/line_items")).rows()[0]["amount_total"], 1900);
}

#[test]
fn a_link_sells_what_was_described_with_it_and_makes_it_once() {
    let lab = Lab::new(Seed::Empty);
    let row = "line_items[0][price_data][currency]=usd&line_items[0][price_data][product_data][name]=Book";
    let link = lab.made("/v1/payment_links", &format!("{row}&line_items[0][price_data][unit_amount]=700"));
    let page = format!("/_sandbox/pages/link/{}", link["id"].as_str().unwrap());
    for _ in 0..2 {
        assert_eq!(lab.get(&page).status, 303);
    }
    let sessions = lab.get("/v1/checkout/sessions");
    let totals: Vec<_> = sessions.rows().iter().map(|row| row["amount_total"].clone()).collect();
    assert_eq!(totals, [700, 700]);
    assert_eq!((lab.get("/v1/prices").rows().len(), lab.get("/v1/products").rows().len()), (1, 1));
}

#[test]
fn an_offer_is_reckoned_anew_when_its_terms_change() {
    let lab = Lab::new(Seed::Business);
    let rate = lab.made("/v1/tax_rates", "display_name=VAT&inclusive=false&percentage=10")["id"].clone();
    let offer = quote(&lab, &format!("line_items[0][price]={}", once(&lab)));
    let exempt = lab.made("/v1/customers", "tax_exempt=exempt")["id"].clone();
    for (form, total) in [
        (format!("default_tax_rates[]={}", rate.as_str().unwrap()), 5500),
        (format!("customer={}", exempt.as_str().unwrap()), 5000),
        (format!("customer={}", lab.payer("pm_card_visa")), 5500),
        ("default_tax_rates=".to_owned(), 5000),
    ] {
        assert_eq!(lab.made(&path(&offer), &form)["amount_total"], total, "{form}");
    }
}
