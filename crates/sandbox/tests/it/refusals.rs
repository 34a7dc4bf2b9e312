//! What Stripe refuses is refused as Stripe refuses it: status, type, code, parameter and, where it is documented, the words.

use crate::lab::Lab;
use sandbox::Seed;
use std::collections::BTreeMap;

/// Things in every state that something can be refused in, by the names that the table calls them.
fn things(lab: &Lab) -> BTreeMap<&'static str, String> {
    let id = |path: &str, form: &str| lab.made(path, form)["id"].as_str().unwrap().to_owned();
    let mut things = BTreeMap::new();
    let payer = lab.payer("pm_card_visa");
    let begun = lab.subscribe(&payer, "items[0][price]=price_starter_monthly");
    things.insert("sub", begun["id"].as_str().unwrap().to_owned());
    things.insert("paid", begun["latest_invoice"]["id"].as_str().unwrap().to_owned());
    let ended = lab.subscribe(&payer, "items[0][price]=price_starter_monthly");
    things.insert("ended", ended["id"].as_str().unwrap().to_owned());
    lab.delete(&format!("/v1/subscriptions/{}", things["ended"]));
    things.insert("gone", id("/v1/customers", ""));
    lab.delete(&format!("/v1/customers/{}", things["gone"]));
    for name in ["draft", "open", "void"] {
        lab.made("/v1/invoiceitems", &format!("customer={payer}&amount=500&currency=usd"));
        things.insert(name, id("/v1/invoices", &format!("customer={payer}&pending_invoice_items_behavior=include")));
    }
    for name in ["open", "void"] {
        lab.made(&format!("/v1/invoices/{}/finalize", things[name]), "");
    }
    lab.made(&format!("/v1/invoices/{}/void", things["void"]), "");
    let intent = "amount=2000&currency=usd";
    let card = "payment_method=pm_card_visa&confirm=true";
    things.insert("unpaid", id("/v1/payment_intents", intent));
    things.insert("held", id("/v1/payment_intents", &format!("{intent}&{card}&capture_method=manual")));
    things.insert("given_up", id("/v1/payment_intents", intent));
    lab.made(&format!("/v1/payment_intents/{}/cancel", things["given_up"]), "");
    let done = lab.made("/v1/payment_intents", &format!("{intent}&{card}"));
    things.insert("done", done["id"].as_str().unwrap().to_owned());
    things.insert("charge", done["latest_charge"].as_str().unwrap().to_owned());
    things.insert("given_back", id("/v1/payment_intents", &format!("{intent}&{card}")));
    lab.made("/v1/refunds", &format!("payment_intent={}", things["given_back"]));
    things.insert("loose", id("/v1/payment_methods", "type=card&card[token]=tok_visa"));
    things.insert("taken", id("/v1/payment_methods/pm_card_visa/attach", &format!("customer={payer}")));
    things.insert("other", lab.payer("pm_card_visa"));
    let holder = id("/v1/issuing/cardholders", "name=Ada&billing[address][line1]=1+Way");
    things.insert("card", id("/v1/issuing/cards", &format!("currency=usd&type=virtual&cardholder={holder}")));
    things.insert("once", id("/v1/prices", "product=prod_starter&unit_amount=100&currency=usd"));
    things
        .insert("meter", id("/v1/billing/meters", "display_name=M&event_name=words&default_aggregation[formula]=sum"));
    things.insert("payer", payer);
    things
}

/// Each line is a request, `->`, and what is answered: status, type, code, parameter, and perhaps `|` and the beginning of
/// the message.
fn check(table: &str) {
    let lab = Lab::new(Seed::Business);
    let things = things(&lab);
    let mut wrong = Vec::new();
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut line = line.to_owned();
        for (name, id) in &things {
            line = line.replace(&format!("{{{name}}}"), id);
        }
        let (request, answer) = line.split_once(" -> ").unwrap();
        let mut words = request.split(' ');
        let (method, path, form) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or_default());
        let (expected, message) = answer.split_once(" | ").unwrap_or((answer, ""));
        let seen = lab.send(method, path, &[], form).unwrap();
        let said = seen.body["error"]["message"].as_str().unwrap_or_default();
        if seen.error() != expected || !said.starts_with(message) {
            wrong.push(format!(
                "{request}\n    expected {expected} | {message}\n    seen     {} | {said}",
                seen.error()
            ));
        }
    }
    assert!(wrong.is_empty(), "{} refusals are not Stripe's:\n{}", wrong.len(), wrong.join("\n"));
}

/// So many keys.
fn metadata(keys: usize) -> String {
    (0..keys).map(|key| format!("metadata[k{key}]=v")).collect::<Vec<_>>().join("&")
}

#[test]
fn parameters_of_the_wrong_form() {
    check("
        POST /v1/customers nmae=x -> 400 invalid_request_error parameter_unknown nmae | Received unknown parameter: nmae
        POST /v1/customers nmae=x&adress=y -> 400 invalid_request_error parameter_unknown nmae | Received unknown parameters: nmae, adress
        POST /v1/customers address[strasse]=x -> 400 invalid_request_error parameter_unknown address[strasse]
        GET /v1/customers?emails=x -> 400 invalid_request_error parameter_unknown emails
        POST /v1/customers metadata=x -> 400 invalid_request_error - metadata | Invalid object
        POST /v1/customers address=x -> 400 invalid_request_error - address | Invalid object
        POST /v1/customers preferred_locales=de -> 400 invalid_request_error - preferred_locales | Invalid array
        POST /v1/customers balance=1.5 -> 400 invalid_request_error parameter_invalid_integer balance | Invalid integer: 1.5
        POST /v1/customers email=nobody -> 400 invalid_request_error email_invalid email | Invalid email address: nobody
        POST /v1/products name= -> 400 invalid_request_error parameter_invalid_empty name | You passed an empty string for 'name'. We assume empty values are an attempt to unset a parameter; however 'name' cannot be unset.
        POST /v1/products name=x&active=maybe -> 400 invalid_request_error - active | Invalid boolean: maybe
        POST /v1/products -> 400 invalid_request_error parameter_missing name | Missing required param: name.
        POST /v1/coupons percent_off=5&duration=always -> 400 invalid_request_error - duration | Invalid duration: must be one of forever, once, or repeating
        POST /v1/prices currency=usd&product=prod_starter&unit_amount=5&recurring[interval]=fortnight -> 400 invalid_request_error - recurring[interval] | Invalid recurring[interval]: must be one of day, month, week, or year
        POST /v1/prices currency=usd&product=prod_starter&unit_amount=-5 -> 400 invalid_request_error parameter_invalid_integer unit_amount | This value must be greater than or equal to 0.
        POST /v1/prices currency=usd&product=prod_starter&unit_amount=5&unit_amount_decimal=5 -> 400 invalid_request_error parameters_exclusive - | You may only specify one of these parameters: unit_amount, unit_amount_decimal.
        POST /v1/prices currency=usd&product=prod_starter&product_data[name]=x&unit_amount=5 -> 400 invalid_request_error parameters_exclusive - | You may only specify one of these parameters: product, product_data.
        POST /v1/prices currency=xyz&product=prod_starter&unit_amount=5 -> 400 invalid_request_error - currency | Invalid currency: xyz. Stripe currently supports these currencies: usd, aed,
        POST /v1/prices currency=usd&product=prod_starter&unit_amount=5&recurring[interval]=month&recurring[interval_count]=37 -> 400 invalid_request_error - recurring[interval_count]
        POST /v1/prices currency=usd&product=prod_nothing&unit_amount=5 -> 400 invalid_request_error resource_missing product | No such product: 'prod_nothing'
    ");
    let lab = Lab::new(Seed::Empty);
    for (form, expected) in [
        (format!("name={}", "x".repeat(5001)), "400 invalid_request_error - name"),
        (format!("metadata[{}]=x", "k".repeat(41)), "400 invalid_request_error - metadata"),
        (format!("metadata[k]={}", "v".repeat(501)), "400 invalid_request_error - metadata[k]"),
        (metadata(51), "400 invalid_request_error - metadata"),
    ] {
        assert_eq!(lab.post("/v1/customers", &form).error(), expected, "{form:.60}");
    }
    // What is there already counts as well.
    let path = format!("/v1/customers/{}", lab.made("/v1/customers", &metadata(50))["id"].as_str().unwrap());
    assert_eq!(lab.post(&path, "metadata[one]=more").error(), "400 invalid_request_error - metadata");
    assert_eq!(lab.made(&path, "metadata[one]=more&metadata[k0]=")["metadata"]["one"], "more");
}

#[test]
fn pages_and_expansions() {
    check("
        GET /v1/customers?limit=0 -> 400 invalid_request_error parameter_invalid_integer limit | This value must be greater than or equal to 1.
        GET /v1/customers?limit=101 -> 400 invalid_request_error parameter_invalid_integer limit | This value must be less than or equal to 100 (it currently is '101').
        GET /v1/customers?limit=ten -> 400 invalid_request_error parameter_invalid_integer limit | Invalid integer: ten
        GET /v1/customers?starting_after={payer}&ending_before={other} -> 400 invalid_request_error parameters_exclusive - | Received both starting_after and ending_before parameters. Please pass in only one.
        GET /v1/customers?starting_after=cus_x -> 400 invalid_request_error resource_missing starting_after | No such customer: 'cus_x'
        GET /v1/invoices/{paid}/lines?starting_after=il_x -> 400 invalid_request_error resource_missing starting_after
        GET /v1/customers?created=yesterday -> 400 invalid_request_error parameter_invalid_integer created
        GET /v1/customers?created[since]=5 -> 400 invalid_request_error parameter_unknown created[since]
        GET /v1/subscriptions?status=asleep -> 400 invalid_request_error - status | Invalid status: must be one of
        GET /v1/customers?expand[]=nothing -> 400 invalid_request_error - - | This property cannot be expanded (nothing).
        GET /v1/subscriptions?expand[]=customer -> 400 invalid_request_error - - | This property cannot be expanded (customer). You may want to try expanding 'data.customer' instead.
        GET /v1/subscriptions?expand[]=data.latest_invoice.customer.subscriptions.data -> 400 invalid_request_error property_expansion_max_depth - | You cannot expand more than 4 levels of a property.
        POST /v1/customers expand[]=nothing -> 400 invalid_request_error - - | This property cannot be expanded (nothing).
        GET /v1/customers/cus_x -> 404 invalid_request_error resource_missing id | No such customer: 'cus_x'
        GET /v1/events/evt_x -> 404 invalid_request_error resource_missing id | No such event: 'evt_x'
        GET /v1/accounts/acct_x -> 403 invalid_request_error account_invalid - | The provided key does not have access to account 'acct_x' (or that account does not exist).
        GET /v1/balance_transactions/txn_x -> 404 invalid_request_error resource_missing id
        POST /v1/subscriptions/{sub}/nothing -> 404 invalid_request_error - - | Unrecognized request URL (POST: /v1/subscriptions/
    ");
}

#[test]
fn payments() {
    check("
        POST /v1/payment_intents amount=-1&currency=usd -> 400 invalid_request_error parameter_invalid_integer amount | This value must be greater than or equal to 1.
        POST /v1/payment_intents amount=abc&currency=usd -> 400 invalid_request_error parameter_invalid_integer amount | Invalid integer: abc
        POST /v1/payment_intents amount=49&currency=usd -> 400 invalid_request_error amount_too_small amount | Amount must be at least $0.50 usd
        POST /v1/payment_intents amount=49&currency=jpy -> 400 invalid_request_error amount_too_small amount | Amount must be at least ¥50 jpy
        POST /v1/payment_intents amount=100000000&currency=usd -> 400 invalid_request_error amount_too_large amount | Amount must be no more than $999,999.99
        POST /v1/payment_intents amount=100 -> 400 invalid_request_error parameter_missing currency
        POST /v1/payment_intents amount=100&currency=doubloon -> 400 invalid_request_error - currency | Invalid currency: doubloon.
        POST /v1/payment_intents amount=100&currency=usd&customer={gone} -> 400 invalid_request_error resource_missing customer | No such customer: '{gone}'
        POST /v1/payment_intents amount=100&currency=usd&payment_method=pm_x&confirm=true -> 400 invalid_request_error resource_missing payment_method | No such PaymentMethod: 'pm_x'
        POST /v1/payment_intents amount=100&currency=usd&payment_method={taken}&confirm=true&customer={other} -> 400 invalid_request_error - payment_method
        POST /v1/payment_intents amount=100&currency=usd&return_url=https://example.com -> 400 invalid_request_error - return_url
        POST /v1/payment_intents/{unpaid}/confirm -> 400 invalid_request_error payment_intent_unexpected_state - | You cannot confirm this PaymentIntent because it's missing a payment method.
        POST /v1/payment_intents/{done}/confirm payment_method=pm_card_visa -> 400 invalid_request_error payment_intent_unexpected_state - | You cannot confirm this PaymentIntent because it has already succeeded after being previously confirmed.
        POST /v1/payment_intents/{done}/cancel -> 400 invalid_request_error payment_intent_unexpected_state - | You cannot cancel this PaymentIntent because it has a status of succeeded. Only a PaymentIntent with one of the following statuses may be canceled:
        POST /v1/payment_intents/{given_up}/cancel -> 400 invalid_request_error payment_intent_unexpected_state - | You cannot cancel this PaymentIntent because it has a status of canceled.
        POST /v1/payment_intents/{done}/capture -> 400 invalid_request_error payment_intent_unexpected_state - | This PaymentIntent could not be captured because it has a status of succeeded. Only a PaymentIntent with one of the following statuses may be captured: requires_capture.
        POST /v1/payment_intents/{held}/capture amount_to_capture=2001 -> 400 invalid_request_error amount_too_large amount_to_capture
        POST /v1/payment_intents/{done} amount=3000 -> 400 invalid_request_error payment_intent_unexpected_state amount | This PaymentIntent's amount could not be updated because it has a status of succeeded.
        POST /v1/payment_intents/{unpaid} amount=20 -> 400 invalid_request_error amount_too_small amount
        POST /v1/charges amount=30&currency=usd&source=tok_visa -> 400 invalid_request_error amount_too_small amount
        POST /v1/refunds charge={charge}&amount=2001 -> 400 invalid_request_error - amount | Refund amount ($20.01) is greater than charge amount ($20.00)
        POST /v1/refunds charge={charge}&amount=0 -> 400 invalid_request_error parameter_invalid_integer amount
        POST /v1/refunds charge={charge}&reason=boredom -> 400 invalid_request_error - reason | Invalid reason: must be one of
        POST /v1/refunds payment_intent={given_back} -> 400 invalid_request_error charge_already_refunded - | Charge ch_
        POST /v1/refunds payment_intent={unpaid} -> 400 invalid_request_error - payment_intent | This PaymentIntent ({unpaid}) does not have a successful charge to refund.
        POST /v1/refunds -> 400 invalid_request_error - - | One of the following params should be provided for this request: payment_intent or charge.
        POST /v1/payment_methods/{taken}/attach customer={other} -> 400 invalid_request_error - - | The payment method you provided has already been attached to a customer.
        POST /v1/payment_methods/{loose}/detach -> 400 invalid_request_error - payment_method | The payment method you provided is not attached to a customer so detachment is impossible.
        POST /v1/payment_methods/{loose}/attach customer={gone} -> 400 invalid_request_error resource_missing customer
        POST /v1/payment_methods type=card&card[number]=4242424242424241&card[exp_month]=1&card[exp_year]=2030&card[cvc]=123 -> 402 card_error incorrect_number number | Your card number is incorrect.
        POST /v1/payment_methods type=card&card[number]=4242424242424242&card[exp_month]=13&card[exp_year]=2030&card[cvc]=123 -> 402 card_error invalid_expiry_month exp_month | Your card's expiration month is invalid.
        POST /v1/payment_methods type=card&card[number]=4242424242424242&card[exp_month]=1&card[exp_year]=2019&card[cvc]=123 -> 402 card_error invalid_expiry_year exp_year | Your card's expiration year is invalid.
        POST /v1/payment_methods type=gold -> 400 invalid_request_error - type
        POST /v1/customers payment_method=pm_card_chargeDeclined -> 402 card_error card_declined - | Your card was declined.
    ");
}

#[test]
fn cards_are_declined_for_their_reasons() {
    let lab = Lab::new(Seed::Empty);
    for (card, expected, decline) in [
        ("chargeDeclined", "card_declined -", "generic_decline"),
        ("visa_chargeDeclinedInsufficientFunds", "card_declined -", "insufficient_funds"),
        ("visa_chargeDeclinedLostCard", "card_declined -", "lost_card"),
        ("visa_chargeDeclinedStolenCard", "card_declined -", "stolen_card"),
        ("chargeDeclinedExpiredCard", "expired_card exp_month", "expired_card"),
        ("chargeDeclinedIncorrectCvc", "incorrect_cvc cvc", "incorrect_cvc"),
        ("chargeDeclinedProcessingError", "processing_error -", "processing_error"),
        ("visa_chargeDeclinedVelocityLimitExceeded", "card_declined -", "card_velocity_exceeded"),
    ] {
        let form = format!("amount=2000&currency=usd&confirm=true&payment_method=pm_card_{card}");
        let refused = lab.post("/v1/payment_intents", &form);
        assert_eq!(refused.error(), format!("402 card_error {expected}"), "{card}");
        let error = &refused.body["error"];
        assert_eq!(error["decline_code"], decline, "{card}");
        assert_eq!(error["payment_intent"]["status"], "requires_payment_method", "{card}");
        assert_eq!(error["payment_method"]["object"], "payment_method", "{card}");
        assert!(error["charge"].as_str().unwrap().starts_with("ch_"), "{card}");
    }
}

#[test]
fn subscriptions_and_what_they_are_made_of() {
    check("
        POST /v1/subscriptions customer={gone}&items[0][price]=price_starter_monthly -> 400 invalid_request_error resource_missing customer | No such customer: '{gone}'
        POST /v1/subscriptions customer={payer} -> 400 invalid_request_error parameter_missing items
        POST /v1/subscriptions customer={payer}&items[0][price]=price_x -> 400 invalid_request_error resource_missing items[0][price] | No such price: 'price_x'
        POST /v1/subscriptions customer={payer}&items[0][price]={once} -> 400 invalid_request_error - items[0][price] | The price specified is set to `type=one_time` but this field only accepts prices with `type=recurring`.
        POST /v1/subscriptions customer={payer}&items[0][price]=price_starter_monthly&items[0][quantity]=-1 -> 400 invalid_request_error parameter_invalid_integer items[0][quantity]
        POST /v1/subscriptions customer={payer}&items[0][price]=price_professional_monthly_jpy -> 400 invalid_request_error - - | You cannot combine currencies on a single customer.
        POST /v1/subscriptions customer={payer}&items[0][price]=price_starter_monthly&default_payment_method=pm_x -> 400 invalid_request_error resource_missing default_payment_method | No such PaymentMethod: 'pm_x'
        POST /v1/subscriptions customer={other}&items[0][price]=price_starter_monthly&default_payment_method={taken} -> 400 invalid_request_error resource_missing default_payment_method | The customer does not have a payment method with the ID {taken}. The payment method must be attached to the customer.
        POST /v1/subscriptions customer={payer}&items[0][price]=price_starter_monthly&trial_end=1000 -> 400 invalid_request_error - trial_end
        POST /v1/subscriptions customer={payer}&items[0][price]=price_starter_monthly&trial_period_days=7&trial_end=now -> 400 invalid_request_error parameters_exclusive - | You may only specify one of these parameters: trial_end, trial_period_days.
        POST /v1/subscriptions customer={payer}&items[0][price]=price_starter_monthly&coupon=FOUNDING20 -> 400 invalid_request_error parameter_unknown coupon
        POST /v1/subscriptions customer={payer}&items[0][price]=price_starter_monthly&discounts[0][coupon]=NONE -> 400 invalid_request_error resource_missing discounts[0][coupon] | No such coupon: 'NONE'
        POST /v1/subscriptions customer={payer}&items[0][price]=price_starter_monthly&default_tax_rates[]=txr_x -> 400 invalid_request_error resource_missing default_tax_rates
        POST /v1/subscriptions/{sub} customer={other} -> 400 invalid_request_error parameter_unknown customer
        POST /v1/subscriptions/{sub} items[0][id]=si_x&items[0][quantity]=2 -> 400 invalid_request_error resource_missing items[0][id]
        POST /v1/subscriptions/{sub} cancel_at=1000 -> 400 invalid_request_error - cancel_at
        POST /v1/subscriptions/{sub}/resume -> 400 invalid_request_error - -
        POST /v1/subscriptions/{ended} cancel_at_period_end=true -> 400 invalid_request_error invalid_canceled_subscription_fields - | A canceled subscription can only update its cancellation_details and metadata.
        DELETE /v1/subscriptions/{ended} -> 404 invalid_request_error resource_missing id | No such subscription: '{ended}'
        DELETE /v1/customers/{gone} -> 404 invalid_request_error resource_missing id | No such customer: '{gone}'
        POST /v1/customers/{gone} name=x -> 404 invalid_request_error resource_missing id | No such customer: '{gone}'
        POST /v1/prices/price_starter_monthly unit_amount=5 -> 400 invalid_request_error parameter_unknown unit_amount
        POST /v1/coupons/FOUNDING20 percent_off=50 -> 400 invalid_request_error parameter_unknown percent_off
        POST /v1/coupons id=FOUNDING20&percent_off=5 -> 400 invalid_request_error resource_already_exists id | Coupon already exists.
        POST /v1/coupons percent_off=101 -> 400 invalid_request_error - percent_off
        POST /v1/coupons amount_off=5 -> 400 invalid_request_error parameter_missing currency
        DELETE /v1/products/prod_starter -> 400 invalid_request_error - - | This product cannot be deleted because it has one or more user-created prices.
        POST /v1/customers/{payer}/tax_ids type=eu_vat&value=1 -> 400 invalid_request_error tax_id_invalid value | Invalid value for eu_vat.
    ");
}

#[test]
fn invoices() {
    check("
        POST /v1/invoices -> 400 invalid_request_error parameter_missing customer
        POST /v1/invoices customer={gone} -> 400 invalid_request_error resource_missing customer
        POST /v1/invoices customer={payer}&collection_method=send_invoice&days_until_due=-1 -> 400 invalid_request_error parameter_invalid_integer days_until_due
        POST /v1/invoices/{paid}/pay -> 400 invalid_request_error - - | Invoice is already paid
        POST /v1/invoices/{paid}/finalize -> 400 invalid_request_error invoice_not_editable - | This invoice is already finalized, you can't re-finalize a non-draft invoice.
        POST /v1/invoices/{void}/finalize -> 400 invalid_request_error invoice_not_editable -
        POST /v1/invoices/{draft}/void -> 400 invalid_request_error - - | You can only pass in open invoices. This invoice isn't open.
        POST /v1/invoices/{paid}/void -> 400 invalid_request_error - - | You can only pass in open invoices. This invoice isn't open.
        POST /v1/invoices/{void}/mark_uncollectible -> 400 invalid_request_error - - | You can only pass in open invoices. This invoice isn't open.
        POST /v1/invoices/{void}/pay -> 400 invalid_request_error - -
        POST /v1/invoices/{paid} footer=x -> 400 invalid_request_error invoice_not_editable - | Finalized invoices can't be updated in this way
        DELETE /v1/invoices/{open} -> 400 invalid_request_error invoice_not_editable -
        POST /v1/invoices/{open}/pay payment_method=pm_x -> 400 invalid_request_error resource_missing payment_method
        POST /v1/invoiceitems customer={payer}&currency=usd -> 400 invalid_request_error parameter_missing amount
        POST /v1/invoiceitems customer={payer}&currency=usd&amount=5&invoice=in_x -> 400 invalid_request_error resource_missing invoice | No such invoice: 'in_x'
        POST /v1/invoiceitems customer={payer}&currency=usd&amount=5&invoice={paid} -> 400 invalid_request_error invoice_not_editable - | This invoice is no longer editable
        POST /v1/invoiceitems customer={other}&currency=usd&amount=5&invoice={draft} -> 400 invalid_request_error - invoice
        POST /v1/invoiceitems customer={payer}&pricing[price]=price_starter_monthly -> 400 invalid_request_error - pricing[price] | The price specified is set to `type=recurring` but this field only accepts prices with `type=one_time`.
        POST /v1/credit_notes invoice={draft}&amount=5 -> 400 invalid_request_error - invoice
        POST /v1/credit_notes invoice={paid}&amount=9999&refund_amount=9999 -> 400 invalid_request_error - amount
        POST /v1/invoices/create_preview subscription={sub}&invoice_items[0][price]=price_nothing -> 400 invalid_request_error resource_missing invoice_items[0][price]
        POST /v1/invoices/create_preview subscription={sub}&invoice_items[0][price_data][currency]=usd&invoice_items[0][price_data][product]=prod_nothing&invoice_items[0][price_data][unit_amount]=5 -> 400 invalid_request_error resource_missing invoice_items[0][price_data][product]
        POST /v1/invoices/create_preview subscription={sub}&invoice_items[0][amount]=5&invoice_items[0][currency]=eur -> 400 invalid_request_error - invoice_items[0][currency]
        POST /v1/issuing/cards/ic_x/test/authorizations currency=usd -> 400 invalid_request_error resource_missing card
        POST /v1/issuing/cards/{card}/test/authorizations currency=usd -> 400 invalid_request_error parameter_missing amount
        POST /v1/invoices/create_preview subscription={ended} -> 400 invalid_request_error invoice_upcoming_none -
        POST /v1/checkout/sessions mode=payment&line_items[0][price]={once}&line_items[0][quantity]=1 -> 400 invalid_request_error parameter_missing success_url
        POST /v1/checkout/sessions mode=payment&success_url=https://example.com&line_items[0][price]=price_starter_monthly -> 400 invalid_request_error - line_items[0] | You specified `payment` mode but passed a recurring price.
        POST /v1/checkout/sessions mode=payment&success_url=https://example.com&line_items[0][quantity]=1 -> 400 invalid_request_error - line_items[0] | You must provide either price or price_data for each line item when using prices.
        POST /v1/checkout/sessions mode=payment&success_url=https://example.com&line_items[0][price]={once}&line_items[0][price_data][currency]=usd -> 400 invalid_request_error parameters_exclusive - | You may only specify one of these parameters: price, price_data.
        POST /v1/invoiceitems customer={payer}&amount=5&pricing[price]={once} -> 400 invalid_request_error parameters_exclusive - | You may only specify one of these parameters: amount, pricing.
        POST /v1/checkout/sessions mode=payment&success_url=nowhere&line_items[0][price]={once} -> 400 invalid_request_error url_invalid success_url | Invalid URL: An explicit scheme (such as https) must be provided.
        POST /v1/billing_portal/sessions -> 400 invalid_request_error parameter_missing customer
        POST /v1/billing_portal/sessions customer={gone} -> 400 invalid_request_error resource_missing customer
        POST /v1/webhook_endpoints url=https://example.com&enabled_events[]=everything.happened -> 400 invalid_request_error - enabled_events[0]
        POST /v1/test_helpers/test_clocks frozen_time=soon -> 400 invalid_request_error parameter_invalid_integer frozen_time
        POST /v1/payouts amount=99999999999&currency=usd -> 400 invalid_request_error balance_insufficient - | You have insufficient available funds in your Stripe account.
    ");
}

#[test]
fn a_key_is_for_one_request() {
    let lab = Lab::new(Seed::Empty);
    assert_eq!(lab.post_once("key", "/v1/customers", "name=Ada").unwrap().status, 200);
    for (path, form, message) in [
        (
            "/v1/customers",
            "name=Bob",
            "Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a key other than 'key' if you meant to execute a different request.",
        ),
        (
            "/v1/products",
            "name=Ada",
            "Keys for idempotent requests can only be used for the same endpoint they were first used for ('/v1/products' vs '/v1/customers'). Try using a key other than 'key' if you meant to execute a different request.",
        ),
    ] {
        let refused = lab.post_once("key", path, form).unwrap();
        assert_eq!(refused.error(), "400 idempotency_error - -");
        assert_eq!(refused.body["error"]["message"], message);
    }
    assert_eq!(lab.get("/v1/customers").rows().len(), 1);
}
