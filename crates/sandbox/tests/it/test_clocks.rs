//! Stripe's own test clocks: a few customers whose time is their own.

use crate::lab::{Lab, NOW};
use sandbox::Seed;
use serde_json::json;

const DAY: i64 = 24 * 60 * 60;

#[test]
fn a_customer_lives_in_the_time_of_its_clock() {
    let lab = Lab::new(Seed::Business);
    let start = NOW - 100 * DAY;
    let clock = lab.made("/v1/test_helpers/test_clocks", &format!("frozen_time={start}&name=Past"));
    assert_eq!((&clock["status"], &clock["frozen_time"]), (&json!("ready"), &json!(start)));
    let clock = clock["id"].as_str().unwrap();
    let form =
        format!("test_clock={clock}&payment_method=pm_card_visa&invoice_settings[default_payment_method]=pm_card_visa");
    let customer = lab.post("/v1/customers", &form);
    let customer = if customer.status == 200 {
        customer.body
    } else {
        lab.made("/v1/customers", &format!("test_clock={clock}&source=tok_visa"))
    };
    let id = customer["id"].as_str().unwrap();
    assert_eq!((&customer["created"], &customer["test_clock"]), (&json!(start), &json!(clock)));
    let made = lab.subscribe(id, "items[0][price]=price_starter_monthly&trial_period_days=7");
    assert_eq!((&made["created"], &made["trial_end"]), (&json!(start), &json!(start + 7 * DAY)));
    let advance = format!("/v1/test_helpers/test_clocks/{clock}/advance");
    let told = lab.told(|lab| {
        let moved = lab.made(&advance, &format!("frozen_time={}", start + 8 * DAY));
        assert_eq!((&moved["status"], &moved["frozen_time"]), (&json!("advancing"), &json!(start + 8 * DAY)));
    });
    assert_eq!(
        (told[0].as_str(), told[told.len() - 1].as_str()),
        ("test_helpers.test_clock.advancing", "test_helpers.test_clock.ready")
    );
    assert!(told.iter().any(|name| name == "customer.subscription.trial_will_end"));
    let now = lab.get(&format!("/v1/subscriptions/{}?expand[]=latest_invoice", made["id"].as_str().unwrap())).body;
    assert_eq!((&now["status"], &now["latest_invoice"]["status"]), (&json!("active"), &json!("paid")));
    assert_eq!(now["latest_invoice"]["created"], start + 7 * DAY);
    assert_eq!(lab.get(&format!("/v1/customers?test_clock={clock}")).ids(), [id]);
    assert!(!lab.get("/v1/customers?limit=100").ids().contains(&id), "only who asks for the clock's sees them");
    let own = made["id"].as_str().unwrap();
    assert!(!lab.get("/v1/subscriptions?limit=100").ids().contains(&own));
    assert_eq!(lab.get(&format!("/v1/subscriptions?customer={id}")).ids(), [own]);
    assert_eq!(lab.post(&advance, &format!("frozen_time={start}")).error(), "400 invalid_request_error - frozen_time");
    lab.advance(60 * DAY);
    let still = lab.get(&format!("/v1/subscriptions/{}", made["id"].as_str().unwrap())).body;
    assert_eq!(still["latest_invoice"], now["latest_invoice"]["id"], "the sandbox's own clock is not theirs");
    assert_eq!(lab.delete(&format!("/v1/test_helpers/test_clocks/{clock}")).body["deleted"], true);
    assert_eq!(lab.get(&format!("/v1/customers/{id}")).body["deleted"], true);
}
