//! Two currencies never meet in a sum.

use crate::lab::Lab;
use sandbox::Seed;
use serde_json::json;

fn once(lab: &Lab, amount: i64, currency: &str) -> String {
    let form = format!("product_data[name]=Setup&unit_amount={amount}&currency={currency}");
    lab.made("/v1/prices", &form)["id"].as_str().unwrap().to_owned()
}

fn id(lab: &Lab, path: &str, form: &str) -> String {
    lab.made(path, form)["id"].as_str().unwrap().to_owned()
}

#[test]
fn what_is_bought_together_is_paid_in_one_currency() {
    let lab = Lab::new(Seed::Empty);
    let rows =
        format!("line_items[0][price]={}&line_items[1][price]={}", once(&lab, 500, "usd"), once(&lab, 700, "eur"));
    for (path, form) in [
        ("/v1/checkout/sessions", format!("{rows}&mode=payment&success_url=https://example.com")),
        ("/v1/payment_links", rows.clone()),
        ("/v1/quotes", rows),
    ] {
        assert_eq!(lab.post(path, &form).error(), "400 invalid_request_error - line_items[1]", "{path}");
    }
}

#[test]
fn an_invoice_takes_up_what_is_in_its_currency() {
    let lab = Lab::new(Seed::Empty);
    let customer = id(&lab, "/v1/customers", "");
    let of = format!("customer={customer}");
    for (amount, currency) in [(500, "usd"), (700, "eur")] {
        lab.made("/v1/invoiceitems", &format!("{of}&amount={amount}&currency={currency}"));
    }
    let include = format!("{of}&pending_invoice_items_behavior=include");
    let first = lab.made("/v1/invoices", &format!("{include}&currency=usd"));
    assert_eq!((&first["currency"], &first["total"]), (&json!("usd"), &json!(500)));
    let draft = first["id"].as_str().unwrap();
    let added = lab.post("/v1/invoiceitems", &format!("{of}&amount=5&currency=eur&invoice={draft}"));
    assert_eq!(added.error(), "400 invalid_request_error - currency");
    let second = lab.made("/v1/invoices", &format!("{include}&currency=eur"));
    assert_eq!((&second["currency"], &second["total"]), (&json!("eur"), &json!(700)));
}

#[test]
fn a_coupon_of_another_currency_takes_nothing_off() {
    let lab = Lab::new(Seed::Empty);
    let price = once(&lab, 700, "eur");
    for (coupon, total) in
        [("amount_off=200&currency=usd", 700), ("amount_off=200&currency=eur", 500), ("percent_off=50", 350)]
    {
        let coupon = id(&lab, "/v1/coupons", coupon);
        let form = format!(
            "line_items[0][price]={price}&mode=payment&success_url=https://example.com&discounts[0][coupon]={coupon}"
        );
        assert_eq!(lab.made("/v1/checkout/sessions", &form)["amount_total"], total, "{coupon}");
        let customer = id(&lab, "/v1/customers", "");
        lab.made("/v1/invoiceitems", &format!("customer={customer}&amount=700&currency=eur"));
        let form = format!(
            "customer={customer}&currency=eur&pending_invoice_items_behavior=include&discounts[0][coupon]={coupon}"
        );
        assert_eq!(lab.made("/v1/invoices", &form)["total"], total, "{coupon}");
    }
}

#[test]
fn an_amount_is_judged_in_the_currency_that_it_gets() {
    let lab = Lab::new(Seed::Empty);
    let intent = id(&lab, "/v1/payment_intents", "amount=60&currency=usd");
    let path = format!("/v1/payment_intents/{intent}");
    assert_eq!(lab.post(&path, "currency=sek").error(), "400 invalid_request_error amount_too_small amount");
    assert_eq!(lab.made(&path, "currency=sek&amount=300")["currency"], "sek");
}
