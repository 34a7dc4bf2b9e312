//! `expand[]`.

use crate::lab::Lab;
use sandbox::Seed;
use serde_json::json;

#[test]
fn ids_become_objects() {
    let lab = Lab::new(Seed::Business);
    let path = "/v1/subscriptions/sub_sandbox_user?expand[]=customer&expand[]=latest_invoice.payments.data\
                &expand[]=items.data.price.product&expand[]=default_payment_method&expand[]=schedule";
    let found = lab.get(path).body;
    assert_eq!(found["customer"]["email"], "ada@example.com");
    assert_eq!(found["latest_invoice"]["payments"]["data"][0]["payment"]["payment_intent"], "pi_sandbox_user_6");
    assert_eq!(found["items"]["data"][0]["price"]["product"]["metadata"], json!({"tier": "professional"}));
    assert_eq!((&found["default_payment_method"], &found["schedule"]), (&json!(null), &json!(null)));
    let list = lab.get("/v1/charges?customer=cus_sandbox_user&expand[]=data.payment_intent.latest_charge.refunds");
    assert_eq!(list.rows().len(), 6);
    for charge in list.rows() {
        let intent = &charge["payment_intent"];
        assert_eq!(intent["latest_charge"]["id"], charge["id"]);
        assert_eq!(intent["latest_charge"]["refunds"]["object"], "list");
    }
}

#[test]
fn what_is_left_out_by_default_appears() {
    let lab = Lab::new(Seed::Business);
    let price = "currency=usd&product=prod_trial&billing_scheme=tiered&tiers_mode=graduated&recurring[interval]=month\
                 &tiers[0][up_to]=10&tiers[0][unit_amount]=500&tiers[1][up_to]=inf&tiers[1][unit_amount_decimal]=0.5";
    let price = lab.made("/v1/prices", price);
    assert_eq!(price.get("tiers"), None);
    let id = price["id"].as_str().unwrap();
    let tiers = lab.get(&format!("/v1/prices/{id}?expand[]=tiers")).body["tiers"].clone();
    assert_eq!(
        tiers[1],
        json!({"flat_amount": null, "flat_amount_decimal": null, "unit_amount": null, "unit_amount_decimal": "0.5", "up_to": null})
    );
    let made = lab.made("/v1/subscriptions", &format!(
        "customer=cus_sandbox_user&items[0][price]={id}&items[0][quantity]=13&expand[]=latest_invoice&expand[]=items.data.price.tiers"
    ));
    assert_eq!(made["latest_invoice"]["total"], 5002);
    assert_eq!(made["items"]["data"][0]["price"]["tiers"], tiers);
    let ada = lab.get("/v1/customers/cus_sandbox_user?expand[]=subscriptions&expand[]=sources&expand[]=tax_ids").body;
    assert_eq!(ada["subscriptions"]["data"].as_array().unwrap().len(), 2);
    assert_eq!(ada["sources"]["url"], "/v1/customers/cus_sandbox_user/sources");
    let charge = lab.get("/v1/charges/ch_sandbox_075_8?expand[]=refunds").body;
    assert_eq!(charge["refunds"]["data"][0]["id"], "re_sandbox_075_8");
}

#[test]
fn wrong_paths_are_refused() {
    let lab = Lab::new(Seed::Business);
    let refused = |path: &str| lab.get(path).body["error"]["message"].as_str().unwrap_or_default().to_owned();
    for (path, message) in [
        ("/v1/customers/cus_sandbox_user?expand[]=email", "This property cannot be expanded (email)."),
        (
            "/v1/charges/ch_sandbox_user_6?expand[]=customer.nothing",
            "This property cannot be expanded (customer.nothing).",
        ),
        ("/v1/charges?expand[]=data.email", "This property cannot be expanded (data.email)."),
        (
            "/v1/charges?expand[]=customer",
            "This property cannot be expanded (customer). You may want to try expanding 'data.customer' instead.",
        ),
        (
            "/v1/subscriptions?expand[]=data.items.data.price.product",
            "You cannot expand more than 4 levels of a property. Property: data.items.data.price.product",
        ),
        ("/v1/invoices?expand[]=data.charge", "This property cannot be expanded (data.charge)."),
    ] {
        assert_eq!(refused(path), message, "{path}");
    }
    assert_eq!(lab.get("/v1/customers?expand=customer").error(), "400 invalid_request_error - expand");
    // The same path was right before the payments moved away.
    assert_eq!(lab.get_as("2025-02-24.acacia", "/v1/invoices?expand[]=data.charge&limit=1").status, 200);
}

#[test]
fn a_deleted_customer_expands_to_the_fact() {
    let lab = Lab::new(Seed::Business);
    lab.delete("/v1/customers/cus_sandbox_user");
    let charge = lab.get("/v1/charges/ch_sandbox_user_6?expand[]=customer").body;
    assert_eq!(charge["customer"], json!({"id": "cus_sandbox_user", "object": "customer", "deleted": true}));
}
