//! Our own balance and what moves it, what customers have sent, and their cards in the old form.

use crate::lab::Lab;
use sandbox::Seed;
use serde_json::{Value, json};

const DAY: i64 = 24 * 60 * 60;

fn paid(lab: &Lab, amount: i64, card: &str) -> Value {
    let form = format!("amount={amount}&currency=usd&payment_method={card}&confirm=true");
    lab.made("/v1/payment_intents", &form)["latest_charge"].clone()
}

/// What can be paid out in dollars, and what is on its way.
fn balance(lab: &Lab) -> (Value, Value) {
    let balance = lab.get("/v1/balance").body;
    (balance["available"][0]["amount"].clone(), balance["pending"][0]["amount"].clone())
}

#[test]
fn the_balance_is_the_sum_of_its_movements() {
    let lab = Lab::new(Seed::Empty);
    let told = lab.told(|lab| drop(paid(lab, 10_000, "pm_card_bypassPending")));
    assert!(told.contains(&"balance.available".to_owned()), "{told:?}");
    let later = paid(&lab, 5_000, "pm_card_visa");
    // 2.9 % and thirty cents stay with Stripe.
    assert_eq!(balance(&lab), (json!(10_000 - 320), json!(5_000 - 175)));
    let own = lab.get(&format!("/v1/balance_transactions?source={}", later.as_str().unwrap()));
    let movement = &own.rows()[0];
    assert_eq!(
        (&movement["net"], &movement["status"], &movement["type"]),
        (&json!(4825), &json!("pending"), &json!("charge"))
    );
    let path = format!("/v1/balance_transactions/{}", movement["id"].as_str().unwrap());
    assert_eq!(lab.get(&path).body, *movement);
    lab.made("/v1/refunds", &format!("charge={}&amount=1000", later.as_str().unwrap()));
    let payout = lab.made("/v1/payouts", "amount=8000&currency=usd");
    let account = lab.made("/v1/accounts", "")["id"].as_str().unwrap().to_owned();
    let transfer = lab.made("/v1/transfers", &format!("amount=500&currency=usd&destination={account}"));
    lab.made(&format!("/v1/transfers/{}/reversals", transfer["id"].as_str().unwrap()), "amount=200");
    let available = 10_000 - 320 - 1000 - 8000 - 500 + 200;
    assert_eq!(balance(&lab), (json!(available), json!(4825)));
    assert_eq!(
        lab.post("/v1/payouts", "amount=9000&currency=usd").error(),
        "400 invalid_request_error balance_insufficient -"
    );
    lab.made("/v1/topups", "amount=100&currency=usd");
    lab.advance(4 * DAY);
    assert_eq!(balance(&lab), (json!(available + 4825 + 100), json!(0)));
    assert_eq!(lab.get(&format!("/v1/payouts/{}", payout["id"].as_str().unwrap())).body["status"], "paid");
    let net: i64 = lab
        .get("/v1/balance_transactions?limit=100")
        .rows()
        .iter()
        .map(|movement| movement["net"].as_i64().unwrap())
        .sum();
    assert_eq!(net, available + 4825 + 100);
    assert_eq!(lab.get("/v1/balance_transactions?type=payout").rows().len(), 1);
}

#[test]
fn what_was_not_sent_can_be_called_back() {
    let lab = Lab::new(Seed::Empty);
    paid(&lab, 10_000, "pm_card_bypassPending");
    let payout = lab.made("/v1/payouts", "amount=8000&currency=usd");
    let path = format!("/v1/payouts/{}", payout["id"].as_str().unwrap());
    let told = lab.told(|lab| assert_eq!(lab.made(&format!("{path}/cancel"), "")["status"], "canceled"));
    assert_eq!(told, ["payout.canceled"]);
    assert_eq!(balance(&lab).0, 9680);
    assert_eq!(lab.post(&format!("{path}/cancel"), "").error(), "400 invalid_request_error - -");
    for (path, form, expected) in [
        ("/v1/payouts", "amount=0&currency=usd", "400 invalid_request_error parameter_invalid_integer amount"),
        ("/v1/payouts", "amount=5", "400 invalid_request_error parameter_missing currency"),
        (
            "/v1/transfers",
            "amount=5&currency=usd&destination=acct_x",
            "400 invalid_request_error resource_missing destination",
        ),
        ("/v1/accounts/acct_x", "metadata[a]=b", "403 invalid_request_error account_invalid -"),
        (
            "/v1/reporting/report_runs",
            "report_type=weather.1",
            "400 invalid_request_error resource_missing report_type",
        ),
    ] {
        assert_eq!(lab.post(path, form).error(), expected, "{path} {form}");
    }
}

#[test]
fn what_customers_send_pays_what_waits_for_it() {
    let lab = Lab::new(Seed::Empty);
    let customer = lab.made("/v1/customers", "")["id"].as_str().unwrap().to_owned();
    let form =
        format!("amount=2000&currency=eur&customer={customer}&confirm=true&payment_method_data[type]=customer_balance");
    let intent = lab.made("/v1/payment_intents", &form);
    let path = format!("/v1/payment_intents/{}", intent["id"].as_str().unwrap());
    let remaining =
        |intent: &Value| intent["next_action"]["display_bank_transfer_instructions"]["amount_remaining"].clone();
    assert_eq!((&intent["status"], remaining(&intent)), (&json!("requires_action"), json!(2000)));
    let fund = |amount: i64| {
        lab.made(
            &format!("/v1/test_helpers/customers/{customer}/fund_cash_balance"),
            &format!("amount={amount}&currency=eur"),
        )
    };
    let told = lab.told(|_| drop(fund(500)));
    assert!(told.contains(&"payment_intent.partially_funded".to_owned()), "{told:?}");
    assert_eq!(remaining(&lab.get(&path).body), 1500);
    let told = lab.told(|_| drop(fund(1700)));
    assert!(told.contains(&"cash_balance.funds_available".to_owned()), "{told:?}");
    assert_eq!(lab.get(&path).body["status"], "succeeded");
    let own = format!("/v1/customers/{customer}");
    assert_eq!(lab.get(&format!("{own}/cash_balance")).body["available"], json!({"eur": 200}));
    let moves = lab.get(&format!("{own}/cash_balance_transactions"));
    let net: Vec<_> = moves.rows().iter().map(|row| row["net_amount"].as_i64().unwrap()).collect();
    assert_eq!(net, [-1500, 1700, -500, 500]);
}

#[test]
fn an_old_card_is_a_payment_method_too() {
    let lab = Lab::new(Seed::Business);
    let customer = lab.made("/v1/customers", "")["id"].as_str().unwrap().to_owned();
    let own = format!("/v1/customers/{customer}/sources");
    let (card, other) = (lab.made(&own, "source=tok_mastercard"), lab.made(&own, "source=tok_visa"));
    let id = card["id"].as_str().unwrap();
    assert_eq!(
        (&card["object"], &card["brand"], &card["last4"]),
        (&json!("card"), &json!("MasterCard"), &json!("4444"))
    );
    let begun = lab.subscribe(&customer, "items[0][price]=price_starter_monthly");
    assert_eq!(begun["status"], "active");
    assert_eq!(lab.get(&format!("/v1/charges?customer={customer}")).rows()[0]["payment_method"], json!(id));
    assert_eq!(lab.get(&own).rows().len(), 2);
    assert_eq!(lab.made(&format!("{own}/{id}"), "exp_month=3&name=Ada")["name"], "Ada");
    assert_eq!(lab.get(&format!("/v1/payment_methods/{id}")).body["card"]["exp_month"], 3);
    let told = lab.told(|lab| assert_eq!(lab.delete(&format!("{own}/{id}")).body["deleted"], true));
    assert_eq!(told, ["payment_method.detached", "customer.updated", "customer.source.deleted"]);
    assert_eq!(lab.get(&format!("/v1/customers/{customer}")).body["default_source"], other["id"]);
    assert_eq!(lab.get(&format!("{own}/{id}")).error(), "404 invalid_request_error resource_missing id");
}

#[test]
fn a_card_of_ours_is_asked_for() {
    let lab = Lab::new(Seed::Empty);
    let holder = lab.made("/v1/issuing/cardholders", "name=Ada&billing[address][line1]=1+Way")["id"].clone();
    let card = |status: &str| {
        let form = format!("currency=usd&type=virtual&cardholder={}&status={status}", holder.as_str().unwrap());
        lab.made("/v1/issuing/cards", &form)["id"].as_str().unwrap().to_owned()
    };
    for (status, approved, amount, reason) in
        [("active", true, 700, "webhook_timeout"), ("inactive", false, 0, "card_inactive")]
    {
        let path = format!("/v1/issuing/cards/{}/test/authorizations", card(status));
        let told = lab.told(|lab| {
            let asked = lab.made(&path, "held_amount=700");
            assert_eq!((&asked["approved"], &asked["amount"]), (&json!(approved), &json!(amount)));
            assert_eq!(asked["request_history"][0]["reason"], reason);
        });
        assert_eq!(told, ["issuing_authorization.request", "issuing_authorization.created"]);
        let card = path.split('/').nth(4).unwrap();
        assert_eq!(lab.get(&format!("/v1/issuing/authorizations?card={card}")).rows().len(), 1);
    }
    let card = card("active");
    lab.made(&format!("/v1/issuing/cards/{card}"), "status=canceled");
    let refused =
        lab.post("/v1/test_helpers/issuing/transactions/create_force_capture", &format!("card={card}&amount=5"));
    assert_eq!(refused.error(), "400 invalid_request_error - card");
    assert_eq!(
        lab.post(&format!("/v1/issuing/cards/{card}"), "status=active").error(),
        "400 invalid_request_error - status"
    );
}
