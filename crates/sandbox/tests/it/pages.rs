//! Lists: pages both ways, filters, cursors.

use crate::lab::{Lab, NOW};
use sandbox::Seed;

fn five() -> Lab {
    let lab = Lab::new(Seed::Empty);
    for number in 0..5 {
        lab.made("/v1/customers", &format!("name=c{number}&email=c{}%40example.com", number % 2));
        lab.wait(10);
    }
    lab
}

fn names(lab: &Lab, path: &str) -> String {
    let answer = lab.get(path);
    let names: Vec<&str> = answer.rows().iter().map(|row| row["name"].as_str().unwrap()).collect();
    format!("{}{}", names.join(" "), if answer.body["has_more"] == true { " .." } else { "" })
}

#[test]
fn newest_first_and_both_ways() {
    let lab = five();
    let ids: Vec<String> = lab.get("/v1/customers").ids().into_iter().map(str::to_owned).collect();
    for (query, expected) in [
        ("limit=2".to_owned(), "c4 c3 .."),
        (format!("limit=2&starting_after={}", ids[1]), "c2 c1 .."),
        (format!("limit=2&starting_after={}", ids[3]), "c0"),
        (format!("limit=2&ending_before={}", ids[4]), "c2 c1 .."),
        (format!("limit=2&ending_before={}", ids[2]), "c4 c3"),
        (format!("limit=2&ending_before={}", ids[0]), ""),
        ("email=c1%40example.com".to_owned(), "c3 c1"),
        ("email=C1%40example.com".to_owned(), ""),
        (format!("created[gte]={}&created[lt]={}", NOW + 10, NOW + 30), "c2 c1"),
        (format!("created={}", NOW + 40), "c4"),
        (format!("created[gt]={NOW}&limit=1"), "c4 .."),
    ] {
        assert_eq!(names(&lab, &format!("/v1/customers?{query}")), expected, "{query}");
    }
    assert_eq!(lab.get("/v1/customers").body["url"], "/v1/customers");
}

#[test]
fn a_page_does_not_move_when_something_newer_comes() {
    let lab = five();
    let first = lab.get("/v1/customers?limit=2");
    lab.made("/v1/customers", "name=late");
    let second = format!("/v1/customers?limit=2&starting_after={}", first.ids()[1]);
    assert_eq!(names(&lab, &second), "c2 c1 ..");
}

/// F-31: the object that a cursor names may be gone by the time it is used.
#[test]
fn a_cursor_that_was_deleted_is_refused() {
    let lab = five();
    let last = lab.get("/v1/customers?limit=2").ids()[1].to_owned();
    assert_eq!(lab.delete(&format!("/v1/customers/{last}")).body["deleted"], true);
    let next = lab.get(&format!("/v1/customers?starting_after={last}"));
    assert_eq!(next.error(), "400 invalid_request_error resource_missing starting_after");
    assert_eq!(next.body["error"]["message"], format!("No such customer: '{last}'"));
}

/// S-31 at Stripe's side.
#[test]
fn limits_and_cursors_are_checked() {
    let lab = five();
    for (query, expected) in [
        ("limit=0", "400 invalid_request_error parameter_invalid_integer limit"),
        ("limit=101", "400 invalid_request_error parameter_invalid_integer limit"),
        ("limit=-1", "400 invalid_request_error parameter_invalid_integer limit"),
        ("limit=1.5", "400 invalid_request_error parameter_invalid_integer limit"),
        ("limit=abc", "400 invalid_request_error parameter_invalid_integer limit"),
        ("limit=", "400 invalid_request_error parameter_invalid_empty limit"),
        ("ending_before=cus_x", "400 invalid_request_error resource_missing ending_before"),
        ("created[than]=1", "400 invalid_request_error parameter_unknown created[than]"),
        ("offset=10", "400 invalid_request_error parameter_unknown offset"),
        ("starting_after=a&ending_before=b", "400 invalid_request_error parameters_exclusive -"),
    ] {
        assert_eq!(lab.get(&format!("/v1/customers?{query}")).error(), expected, "{query}");
    }
}

#[test]
fn lists_are_narrowed_by_what_they_hold() {
    let lab = Lab::new(Seed::Business);
    for (path, count) in [
        ("/v1/subscriptions?status=trialing&limit=100", 10),
        ("/v1/subscriptions?status=past_due", 1),
        ("/v1/subscriptions?status=canceled", 1),
        ("/v1/subscriptions?status=ended", 1),
        ("/v1/subscriptions?customer=cus_sandbox_user", 1),
        ("/v1/subscriptions?customer=cus_sandbox_120", 0),
        ("/v1/subscriptions?customer=cus_sandbox_120&status=all", 1),
        ("/v1/subscriptions?price=price_addon_support_monthly", 1),
        ("/v1/subscriptions?price=price_starter_yearly&status=active", 4),
        ("/v1/subscriptions?current_period_end[lt]=1", 0),
        ("/v1/invoices?customer=cus_sandbox_user", 6),
        ("/v1/invoices?subscription=sub_sandbox_user&status=paid", 6),
        ("/v1/invoices?status=open", 1),
        ("/v1/payment_methods?customer=cus_sandbox_user&type=card", 1),
        ("/v1/payment_methods?customer=cus_sandbox_user&type=sepa_debit", 0),
        ("/v1/customers/cus_sandbox_088/payment_methods?type=sepa_debit", 1),
        ("/v1/prices?product=prod_professional", 3),
        ("/v1/prices?product=prod_professional&currency=jpy", 1),
        ("/v1/prices?recurring[interval]=year", 3),
        ("/v1/prices?lookup_keys[]=starter_monthly&lookup_keys[]=trial_monthly", 2),
        ("/v1/prices?active=false", 0),
        ("/v1/plans?product=prod_starter", 2),
        ("/v1/products?ids[]=prod_trial&ids[]=prod_starter", 2),
        ("/v1/charges?payment_intent=pi_sandbox_user_6", 1),
        ("/v1/refunds?charge=ch_sandbox_user_6", 0),
        ("/v1/invoice_payments?invoice=in_sandbox_user_6&status=paid", 1),
    ] {
        assert_eq!(lab.get(path).rows().len(), count, "{path}");
    }
    assert!(lab.get("/v1/subscriptions?limit=100").rows().iter().all(|row| row["status"] != "canceled"));
}
