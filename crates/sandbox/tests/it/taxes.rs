//! Tax rates on subscriptions, items and invoices: what is due with them, to the cent.

use crate::lab::Lab;
use sandbox::Seed;
use serde_json::{Value, json};

const DAY: i64 = 24 * 60 * 60;

fn rate(lab: &Lab, percentage: &str, inclusive: bool) -> String {
    let form = format!("display_name=VAT&inclusive={inclusive}&percentage={percentage}");
    lab.made("/v1/tax_rates", &form)["id"].as_str().unwrap().to_owned()
}

/// Total, total without tax, and the sum of the taxes.
fn sums(invoice: &Value) -> (i64, i64, i64) {
    let number = |name: &str| invoice[name].as_i64().unwrap();
    let taxes = invoice["total_taxes"].as_array().unwrap().iter().map(|tax| tax["amount"].as_i64().unwrap()).sum();
    assert_eq!(invoice["amount_due"], invoice["total"]);
    (number("total"), number("total_excluding_tax"), taxes)
}

#[test]
fn a_subscription_is_billed_with_its_taxes() {
    let lab = Lab::new(Seed::Business);
    let (added, inside) = (rate(&lab, "19", false), rate(&lab, "19", true));
    let starter = "items[0][price]=price_starter_monthly";
    for (terms, expected) in [
        (format!("{starter}&default_tax_rates[]={added}"), (2261, 1900, 361)),
        (format!("{starter}&default_tax_rates[]={inside}"), (1900, 1597, 303)),
        (format!("{starter}&items[0][tax_rates][]={added}&default_tax_rates[]={inside}"), (2261, 1900, 361)),
        (format!("{starter}&default_tax_rates[]={added}&discounts[0][coupon]=FOUNDING20"), (1809, 1520, 289)),
        (format!("{starter}&items[0][quantity]=3&items[0][tax_rates][]={added}"), (6783, 5700, 1083)),
        (starter.to_owned(), (1900, 1900, 0)),
    ] {
        let customer = lab.payer("pm_card_visa");
        let begun = lab.subscribe(&customer, &terms);
        assert_eq!((sums(&begun["latest_invoice"]), &begun["status"]), (expected, &json!("active")), "{terms}");
        let charged = lab.get(&format!("/v1/charges?customer={customer}")).rows()[0]["amount"].as_i64();
        assert_eq!(charged, Some(expected.0), "{terms}");
        lab.advance(31 * DAY);
        let invoices = lab.get(&format!("/v1/invoices?customer={customer}"));
        assert_eq!(sums(&invoices.rows()[0]), expected, "{terms}: a month later");
    }
}

#[test]
fn a_change_gives_tax_back_and_takes_it() {
    let lab = Lab::new(Seed::Business);
    let added = rate(&lab, "10", false);
    let customer = lab.payer("pm_card_visa");
    let begun =
        lab.subscribe(&customer, &format!("items[0][price]=price_starter_monthly&items[0][tax_rates][]={added}"));
    let (id, item) = (begun["id"].as_str().unwrap(), begun["items"]["data"][0]["id"].as_str().unwrap());
    lab.advance(15 * DAY);
    let form = format!(
        "items[0][id]={item}&items[0][price]=price_professional_monthly&proration_behavior=always_invoice&expand[]=latest_invoice"
    );
    let changed = lab.made(&format!("/v1/subscriptions/{id}"), &form);
    let lines = changed["latest_invoice"]["lines"]["data"].as_array().unwrap();
    let taxed: Vec<(i64, i64)> = lines
        .iter()
        .map(|line| (line["amount"].as_i64().unwrap(), line["taxes"][0]["amount"].as_i64().unwrap()))
        .collect();
    assert_eq!(taxed, [(-950, -95), (2450, 245)]);
    assert_eq!(sums(&changed["latest_invoice"]), (1650, 1500, 150));
}

#[test]
fn each_line_is_rounded_by_itself() {
    let lab = Lab::new(Seed::Empty);
    let (added, inside) = (rate(&lab, "10", false), rate(&lab, "7.5", true));
    let invoice = |exempt: &str, defaults: &str, own: &str| {
        let customer = lab.made("/v1/customers", &format!("tax_exempt={exempt}"))["id"].as_str().unwrap().to_owned();
        for _ in 0..3 {
            lab.made("/v1/invoiceitems", &format!("customer={customer}&amount=33&currency=usd{own}"));
        }
        lab.made("/v1/invoices", &format!("customer={customer}&pending_invoice_items_behavior=include{defaults}"))
    };
    let (by_invoice, by_item) = (format!("&default_tax_rates[]={added}"), format!("&tax_rates[]={inside}"));
    for (exempt, defaults, own, expected) in [
        ("none", by_invoice.as_str(), "", (108, 99, 9)),
        ("none", &by_invoice, by_item.as_str(), (99, 93, 6)),
        ("none", "", &by_item, (99, 93, 6)),
        ("exempt", &by_invoice, "", (99, 99, 0)),
        ("reverse", &by_invoice, &by_item, (99, 99, 0)),
    ] {
        let draft = invoice(exempt, defaults, own);
        assert_eq!(sums(&draft), expected, "{exempt} {defaults} {own}");
        assert_eq!(draft["subtotal_excluding_tax"], expected.1, "{exempt} {defaults} {own}");
    }
    let draft = invoice("none", &by_invoice, "");
    let path = format!("/v1/invoices/{}", draft["id"].as_str().unwrap());
    assert_eq!(sums(&lab.made(&path, "default_tax_rates=")), (99, 99, 0));
    assert_eq!(sums(&lab.made(&path, &format!("default_tax_rates[]={inside}"))), (99, 93, 6));
    assert_eq!(lab.made(&format!("{path}/finalize"), "")["amount_remaining"], 99);
}

#[test]
fn before_basil_taxes_stood_elsewhere() {
    let lab = Lab::new(Seed::Business);
    let (added, inside) = (rate(&lab, "19", false), rate(&lab, "10", true));
    let customer = lab.payer("pm_card_visa");
    let terms =
        format!("items[0][price]=price_starter_monthly&default_tax_rates[]={added}&default_tax_rates[]={inside}");
    let begun = lab.subscribe(&customer, &terms);
    let id = begun["latest_invoice"]["id"].as_str().unwrap();
    let old = lab.get_as("2025-02-24.acacia", &format!("/v1/invoices/{id}")).body;
    // 173 of the 1,900 are tax already, and 19 % of the 1,727 that are left come on top.
    assert_eq!((&old["tax"], &old["total"], old.get("total_taxes")), (&json!(173 + 328), &json!(2228), None));
    let part = |tax: &Value| (tax["tax_rate"].clone(), tax["amount"].clone(), tax["inclusive"].clone());
    let expected = vec![(json!(added), json!(328), json!(false)), (json!(inside), json!(173), json!(true))];
    assert_eq!(old["total_tax_amounts"].as_array().unwrap().iter().map(part).collect::<Vec<_>>(), expected);
    let line = &old["lines"]["data"][0];
    assert_eq!(line["tax_amounts"].as_array().unwrap().iter().map(part).collect::<Vec<_>>(), expected);
    assert_eq!((&line["amount_excluding_tax"], &line["tax_rates"][0]["id"]), (&json!(1727), &json!(added)));
}

#[test]
fn rates_are_listed_changed_and_refused() {
    let lab = Lab::new(Seed::Empty);
    let (old, new) = (rate(&lab, "19", true), rate(&lab, "7.375", false));
    let path = format!("/v1/tax_rates/{old}");
    let told = lab.told(|lab| assert_eq!(lab.made(&path, "active=false&metadata[a]=b")["active"], false));
    assert_eq!(told, ["tax_rate.updated"]);
    assert_eq!(lab.get(&format!("/v1/tax_rates/{new}")).body["percentage"], json!(7.375));
    for (query, expected) in [("", vec![&new, &old]), ("?active=true", vec![&new]), ("?inclusive=true", vec![&old])] {
        assert_eq!(lab.get(&format!("/v1/tax_rates{query}")).ids(), expected, "{query}");
    }
    let customer = lab.payer("pm_card_visa");
    let item = format!("customer={customer}&amount=5&currency=usd&tax_rates[]");
    for (path, form, expected) in [
        ("/v1/tax_rates", "inclusive=true&percentage=19", "parameter_missing display_name"),
        ("/v1/tax_rates", "display_name=VAT&percentage=19", "parameter_missing inclusive"),
        ("/v1/tax_rates", "display_name=VAT&inclusive=true&percentage=100.5", "- percentage"),
        ("/v1/tax_rates", "display_name=VAT&inclusive=true&percentage=-1", "- percentage"),
        ("/v1/tax_rates", "display_name=VAT&inclusive=true&percentage=1.23456", "- percentage"),
        (path.as_str(), "percentage=20", "parameter_unknown percentage"),
        ("/v1/invoiceitems", &format!("{item}=txr_x"), "resource_missing tax_rates"),
        ("/v1/invoiceitems", &format!("{item}={old}"), "- tax_rates"),
    ] {
        assert_eq!(lab.post(path, form).error(), format!("400 invalid_request_error {expected}"), "{path} {form}");
    }
}

#[test]
fn tax_ids_stand_on_invoices() {
    let lab = Lab::new(Seed::Empty);
    let form = "source=tok_visa&tax_id_data[0][type]=eu_vat&tax_id_data[0][value]=DE123456789&expand[]=tax_ids";
    let customer = lab.made("/v1/customers", form);
    assert_eq!(customer["tax_ids"]["data"][0]["country"], "DE");
    let (id, other) = (customer["id"].as_str().unwrap(), lab.payer("pm_card_visa"));
    let path = format!("/v1/customers/{id}/tax_ids");
    let told = lab.told(|lab| {
        let gone = lab.made(&path, "type=gb_vat&value=GB1")["id"].as_str().unwrap().to_owned();
        lab.made(&path, "type=us_ein&value=12-3456789");
        let elsewhere = lab.get(&format!("/v1/customers/{other}/tax_ids/{gone}"));
        assert_eq!(elsewhere.error(), "404 invalid_request_error resource_missing id");
        assert_eq!(lab.delete(&format!("{path}/{gone}")).body["deleted"], true);
    });
    assert_eq!(told, ["customer.tax_id.created", "customer.tax_id.created", "customer.tax_id.deleted"]);
    let form = format!("customer={id}&amount=5&currency=usd");
    lab.made("/v1/invoiceitems", &form);
    let invoice = lab.made("/v1/invoices", &format!("customer={id}&pending_invoice_items_behavior=include"));
    let expected = json!([{"type": "eu_vat", "value": "DE123456789"}, {"type": "us_ein", "value": "12-3456789"}]);
    assert_eq!(invoice["customer_tax_ids"], expected);
    assert_eq!(lab.get(&path).rows().len(), 2);
    for (form, expected) in [
        ("type=eu_vat", "parameter_missing value"),
        ("type=Steuer&value=1", "- type"),
        ("type=eu_vat&value=1&country=DE", "parameter_unknown country"),
    ] {
        assert_eq!(lab.post(&path, form).error(), format!("400 invalid_request_error {expected}"), "{form}");
    }
}

/// The sums of a credit note, and what its lines are taxed with.
fn credited(note: &Value) -> (i64, i64, i64, i64) {
    let number = |name: &str| note[name].as_i64().unwrap();
    let taxes = note["total_taxes"].as_array().unwrap().iter().map(|tax| tax["amount"].as_i64().unwrap()).sum();
    assert_eq!((&note["amount"], number("total")), (&note["total"], number("total_excluding_tax") + taxes));
    (number("subtotal"), number("discount_amount"), taxes, number("total"))
}

#[test]
fn a_credit_note_gives_back_discount_and_tax_as_they_were_taken() {
    let lab = Lab::new(Seed::Business);
    let (added, inside) = (rate(&lab, "19", false), rate(&lab, "19", true));
    let starter = "items[0][price]=price_starter_monthly&items[0][quantity]=2";
    for (terms, line, expected) in [
        (format!("default_tax_rates[]={added}"), "", (3800, 0, 722, 4522)),
        (format!("default_tax_rates[]={added}"), "&lines[0][quantity]=1", (1900, 0, 361, 2261)),
        (format!("default_tax_rates[]={added}"), "&lines[0][amount]=1000", (1000, 0, 190, 1190)),
        (format!("default_tax_rates[]={inside}"), "&lines[0][amount]=1190", (1190, 0, 190, 1190)),
        (format!("default_tax_rates[]={added}&discounts[0][coupon]=FOUNDING20"), "", (3800, 760, 578, 3618)),
        ("description=plain".to_owned(), "&lines[0][amount]=100", (100, 0, 0, 100)),
    ] {
        let customer = lab.payer("pm_card_visa");
        let begun = lab.subscribe(&customer, &format!("{starter}&{terms}"));
        let invoice = &begun["latest_invoice"];
        let (id, row) = (invoice["id"].as_str().unwrap(), invoice["lines"]["data"][0]["id"].as_str().unwrap());
        let asked = format!("invoice={id}&lines[0][type]=invoice_line_item&lines[0][invoice_line_item]={row}{line}");
        let note = lab.made("/v1/credit_notes", &format!("{asked}&refund_amount={}", expected.3));
        assert_eq!(credited(&note), expected, "{terms}{line}");
        assert_eq!(lab.get("/v1/refunds?limit=1").rows()[0]["amount"], expected.3, "{terms}{line}");
    }
}

#[test]
fn a_credit_note_of_its_own_words_has_rates_of_its_own() {
    let lab = Lab::new(Seed::Business);
    let added = rate(&lab, "10", false);
    let customer = lab.payer("pm_card_visa");
    let begun = lab.subscribe(&customer, "items[0][price]=price_starter_monthly");
    let id = begun["latest_invoice"]["id"].as_str().unwrap();
    let line =
        "lines[0][type]=custom_line_item&lines[0][unit_amount]=500&lines[0][quantity]=2&lines[0][description]=Sorry";
    let asked = format!("invoice={id}&{line}&lines[0][tax_rates][]={added}");
    let refused = lab.post("/v1/credit_notes", &format!("{asked}&credit_amount=1000"));
    assert_eq!(refused.error(), "400 invalid_request_error - -");
    let note = lab.made("/v1/credit_notes", &format!("{asked}&credit_amount=1100"));
    assert_eq!(credited(&note), (1000, 0, 100, 1100));
    assert_eq!(note["lines"]["data"][0]["tax_rates"][0]["id"], json!(added));
    let refused = lab.post("/v1/credit_notes", &format!("{}&credit_amount=1000", asked.replace(&added, "txr_x")));
    assert_eq!(refused.error(), "400 invalid_request_error resource_missing lines[0][tax_rates]");
}

#[test]
fn a_checkout_page_shows_what_will_be_charged() {
    let lab = Lab::new(Seed::Business);
    let (added, inside) = (rate(&lab, "19", false), rate(&lab, "19", true));
    let once = lab.made("/v1/prices", "product_data[name]=Setup&unit_amount=1000&currency=usd")["id"].clone();
    let once = format!("[price]={}", once.as_str().unwrap());
    let starter = "[price]=price_starter_monthly";
    for (mode, rows, rest, expected) in [
        ("payment", vec![format!("{once}&#[tax_rates][]={added}")], "", (1000, 0, 190, 1190)),
        ("payment", vec![format!("{once}&#[tax_rates][]={inside}")], "", (1000, 0, 160, 1000)),
        ("payment", vec![once.clone()], "&discounts[0][coupon]=FOUNDING20", (1000, 200, 0, 800)),
        ("subscription", vec![format!("{starter}&#[tax_rates][]={added}"), once.clone()], "", (2900, 0, 361, 3261)),
        ("subscription", vec![starter.to_owned(), once.clone()], "DEFAULTS", (2900, 580, 441, 2761)),
    ] {
        let row = |(place, row): (usize, &String)| {
            let row = format!("#{row}").replace('#', &format!("line_items[{place}]"));
            format!("&{row}&line_items[{place}][quantity]=1")
        };
        let rows: String = rows.iter().enumerate().map(row).collect();
        let defaults = format!("&discounts[0][coupon]=FOUNDING20&subscription_data[default_tax_rates][]={added}");
        let rest = rest.replace("DEFAULTS", &defaults);
        let form = format!("mode={mode}&success_url=https://example.com{rows}{rest}");
        let session = lab.made("/v1/checkout/sessions", &form);
        let number = |value: &Value| value.as_i64().unwrap();
        let details = &session["total_details"];
        let seen = (
            number(&session["amount_subtotal"]),
            number(&details["amount_discount"]),
            number(&details["amount_tax"]),
            number(&session["amount_total"]),
        );
        assert_eq!(seen, expected, "{form}");
        let path = format!("/v1/payment_pages/{}/confirm", session["id"].as_str().unwrap());
        lab.made(&path, &format!("payment_method=pm_card_visa&expected_amount={}", expected.3));
        assert_eq!(lab.get("/v1/charges?limit=1").rows()[0]["amount"], expected.3, "{form}");
    }
}

#[test]
fn a_preview_has_the_taxes_and_extras_that_it_would_have() {
    let lab = Lab::new(Seed::Business);
    let added = rate(&lab, "19", false);
    let customer = lab.payer("pm_card_visa");
    let begun = lab.subscribe(&customer, "items[0][price]=price_starter_monthly");
    let id = begun["id"].as_str().unwrap();
    let made_up = format!("customer={customer}&subscription_details[items][0][price]=price_starter_monthly");
    let taxed = format!("subscription_details[default_tax_rates][]={added}");
    for (form, expected) in [
        (format!("subscription={id}"), (1900, 1900, 0)),
        (format!("subscription={id}&{taxed}"), (2261, 1900, 361)),
        (format!("subscription={id}&{taxed}&discounts[0][coupon]=FOUNDING20"), (1809, 1520, 289)),
        (
            format!("subscription={id}&invoice_items[0][amount]=100&invoice_items[0][tax_rates][]={added}"),
            (2019, 2000, 19),
        ),
        (format!("{made_up}&{taxed}"), (2261, 1900, 361)),
        (format!("{made_up}&discounts[0][coupon]=FOUNDING20&invoice_items[0][amount]=-500"), (1020, 1020, 0)),
    ] {
        assert_eq!(sums(&lab.made("/v1/invoices/create_preview", &form)), expected, "{form}");
    }
    let refused = lab.post("/v1/invoices/create_preview", &format!("subscription={id}&invoice_items[0][quantity]=2"));
    assert_eq!(refused.error(), "400 invalid_request_error parameter_missing invoice_items[0][amount]");
    // Nothing of it has happened.
    assert_eq!(lab.get(&format!("/v1/invoiceitems?customer={customer}")).rows().len(), 0);
    assert_eq!(lab.get(&format!("/v1/subscriptions/{id}")).body["default_tax_rates"], json!([]));
    assert_eq!(lab.get(&format!("/v1/subscriptions?customer={customer}")).rows().len(), 1);
}

#[test]
fn a_credit_note_can_be_looked_at_before() {
    let lab = Lab::new(Seed::Business);
    let added = rate(&lab, "19", false);
    let customer = lab.payer("pm_card_visa");
    let terms = format!("items[0][price]=price_starter_monthly&default_tax_rates[]={added}");
    let invoice = lab.subscribe(&customer, &terms)["latest_invoice"].clone();
    let (id, row) = (invoice["id"].as_str().unwrap(), invoice["lines"]["data"][0]["id"].as_str().unwrap());
    let line = format!("lines[0][type]=invoice_line_item&lines[0][invoice_line_item]={row}");
    let preview = lab.get(&format!("/v1/credit_notes/preview?invoice={id}&{line}&refund_amount=2261"));
    assert_eq!(credited(&preview.body), (1900, 0, 361, 2261));
    assert_eq!(lab.get(&format!("/v1/credit_notes?invoice={id}")).rows().len(), 0);
    assert_eq!(lab.get("/v1/refunds?limit=1").rows().iter().filter(|row| row["amount"] == 2261).count(), 0);
    assert_eq!(lab.get(&format!("/v1/invoices/{id}")).body["post_payment_credit_notes_amount"], 0);
}
