//! The pages that Stripe would show: paying a checkout session, the customer portal, and the bank's question to the owner
//! of a card. Plain HTML and plain forms, so that a person or a test can use them.

use crate::error::StripeError;
use crate::http::{Arrived, Desk, Reaction};
use crate::kind::{Index, Kind};
use crate::params::{Params, Sent, read};
use crate::resources::{
    Call, checkout_sessions, currencies, customers, lines, payment_links, payment_methods, payments, portal,
    setup_intents, subscription_changes,
};
use crate::world::{World, array};
use serde_json::{Value, json};

/// Where the pages are.
pub(crate) const ROOT: &str = "/_sandbox/pages/";

/// Cards to choose from: token, what the page says.
const CARDS: &[(&str, &str)] = &[
    ("pm_card_visa", "Visa 4242 (works)"),
    ("pm_card_mastercard", "Mastercard 4444 (works)"),
    ("pm_card_chargeCustomerFail", "Visa 0341 (is declined when it is charged)"),
    ("pm_card_chargeDeclined", "Visa 0002 (is declined at once)"),
    ("pm_card_authenticationRequired", "Visa 3184 (the bank wants to see the owner)"),
];

/// What a visitor gets: a page, or the way to another.
enum Visit {
    Page(u16, String),
    GoTo(String),
}

pub(crate) fn answer(desk: &Desk, arrived: &Arrived) -> Reaction {
    let visit = visited(desk, arrived).unwrap_or_else(|error| {
        Visit::Page(error.status, page("That did not work", &format!("<p class=bad>{}</p>", text(&error.message))))
    });
    let html = ("content-type", "text/html; charset=utf-8".to_owned());
    match visit {
        Visit::Page(status, body) => Reaction { status, headers: vec![html], body },
        Visit::GoTo(to) => Reaction { status: 303, headers: vec![html, ("location", to)], body: String::new() },
    }
}

fn visited(desk: &Desk, arrived: &Arrived) -> Result<Visit, StripeError> {
    let (name, id) = arrived.path.strip_prefix(ROOT).and_then(|rest| rest.split_once('/')).unwrap_or_default();
    let mut form = Vec::new();
    read(&arrived.body, &mut form)?;
    match (arrived.method.as_str(), name) {
        ("GET", "checkout") => desk.work(|world| checkout(world, id, None)),
        ("POST", "checkout") => pay(desk, id, &form),
        ("GET", "link") => {
            let session = desk.work(|world| payment_links::visited(world, id))?;
            Ok(Visit::GoTo(session["url"].as_str().unwrap_or_default().to_owned()))
        }
        ("GET", "portal") => desk.work(|world| show_portal(world, id)),
        ("POST", "portal") => desk.work(|world| change(world, id, &form)).map(|()| Visit::GoTo(arrived.path.clone())),
        ("GET", "authentication") => desk.work(|world| question(world, id)),
        ("POST", "authentication") => {
            let agreed = field(&form, "outcome") == "complete";
            desk.work(|world| authenticate(world, id, agreed))
        }
        _ => Err(StripeError { status: 404, ..StripeError::invalid("There is no such page.") }),
    }
}

fn field<'a>(form: &'a [(String, Sent)], name: &str) -> &'a str {
    match form.iter().find(|(known, _)| known == name) {
        Some((_, Sent::Text(text))) => text,
        _ => "",
    }
}

/// Text that is no markup.
fn text(raw: &str) -> String {
    raw.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{title}</title><style>body{{font:16px/1.5 system-ui;max-width:40em;margin:3em auto;padding:0 1em}}\
         form{{margin:1em 0}}select,input,button{{font:inherit;padding:.3em .6em}}.bad{{color:#b00020}}\
         section{{border:1px solid #ccc;border-radius:8px;padding:0 1em;margin:1em 0}}</style>\
         <h1>{title}</h1>{body}<hr><p><small>This is the Stripe sandbox of Billhook. No money moves here.</small></p></html>\n"
    )
}

fn card_choice() -> String {
    let options: Vec<String> =
        CARDS.iter().map(|(token, says)| format!("<option value={token}>{says}</option>")).collect();
    let options = options.concat();
    format!("<select name=card aria-label=Card>{options}</select>")
}

/// A place of the caller's, the session's id filled in.
fn place(session: &Value, name: &str) -> Option<String> {
    let place = session[name].as_str()?;
    Some(place.replace("{CHECKOUT_SESSION_ID}", session["id"].as_str().unwrap_or_default()))
}

fn checkout(world: &World, id: &str, trouble: Option<&str>) -> Result<Visit, StripeError> {
    let session = crate::resources::find(&world.store, Kind::CheckoutSession, id)?;
    if session["status"] != "open" {
        let says = format!("<p>This session is {}.</p>", text(session["status"].as_str().unwrap_or_default()));
        return Ok(Visit::Page(410, page("Checkout", &says)));
    }
    let currency = session["currency"].as_str().unwrap_or("usd");
    let amount = currencies::written(session["amount_total"].as_i64().unwrap_or_default(), currency);
    let email = if session["customer"].is_null() && session["customer_email"].is_null() {
        "<p><input name=email type=email value=\"buyer@example.com\" aria-label=\"E-mail\"></p>"
    } else {
        ""
    };
    let back = place(&session, "cancel_url")
        .map_or_else(String::new, |to| format!("<p><a href=\"{}\">Back</a></p>", text(&to)));
    let trouble = trouble.map_or_else(String::new, |says| format!("<p class=bad>{}</p>", text(says)));
    let body = format!(
        "<p>{} today: <strong>{amount}</strong></p>{trouble}<form method=post>{email}<p>{}</p>\
         <p><button>Pay</button></p></form>{back}",
        text(session["mode"].as_str().unwrap_or_default()),
        card_choice()
    );
    Ok(Visit::Page(if trouble.is_empty() { 200 } else { 402 }, page("Checkout", &body)))
}

fn pay(desk: &Desk, id: &str, form: &[(String, Sent)]) -> Result<Visit, StripeError> {
    let paid = desk.work(|world| checkout_sessions::complete(world, id, field(form, "card"), field(form, "email")));
    match paid {
        Ok(session) => Ok(Visit::GoTo(place(&session, "success_url").unwrap_or_default())),
        Err(error) if error.status == 402 => desk.work(|world| checkout(world, id, Some(&error.message))),
        Err(error) => Err(error),
    }
}

fn question(world: &World, id: &str) -> Result<Visit, StripeError> {
    let kind = if id.starts_with("seti_") { Kind::SetupIntent } else { Kind::PaymentIntent };
    let intent = crate::resources::find(&world.store, kind, id)?;
    if intent["status"] != "requires_action" {
        return Ok(Visit::Page(410, page("Your bank", "<p>There is nothing to confirm any more.</p>")));
    }
    let body = "<p>Is it you who pays?</p><form method=post><button name=outcome value=complete>Yes</button> \
                <button name=outcome value=fail>No</button></form>";
    Ok(Visit::Page(200, page("Your bank", body)))
}

fn authenticate(world: &mut World, id: &str, agreed: bool) -> Result<Visit, StripeError> {
    let kind = if id.starts_with("seti_") { Kind::SetupIntent } else { Kind::PaymentIntent };
    let before = crate::resources::find(&world.store, kind, id)?;
    let intent = match kind {
        Kind::SetupIntent => setup_intents::answered(world, id, agreed)?,
        _ => payments::answered(world, id, agreed)?,
    };
    if let Some(to) = before["next_action"]["redirect_to_url"]["return_url"].as_str() {
        return Ok(Visit::GoTo(to.to_owned()));
    }
    let says = format!("<p>The payment is now {}.</p>", text(intent["status"].as_str().unwrap_or_default()));
    Ok(Visit::Page(200, page("Your bank", &says)))
}

fn show_portal(world: &World, id: &str) -> Result<Visit, StripeError> {
    let session = portal::session(world, id)?;
    let owner = session["customer"].as_str().unwrap_or_default();
    let customer = crate::resources::find(&world.store, Kind::Customer, owner)?;
    let mut body = format!("<p>{}</p>", text(customer["email"].as_str().unwrap_or(owner)));
    for subscription in world.store.all(Kind::Subscription, Index::Customer, owner) {
        if subscription["status"] != "canceled" && subscription["status"] != "incomplete_expired" {
            body += &subscription_part(world, &subscription);
        }
    }
    body += &format!(
        "<h2>Payment method</h2><form method=post><input type=hidden name=do value=card>{} <button>Use this card</button></form>",
        card_choice()
    );
    let back = session["return_url"].as_str();
    body += &back.map_or_else(String::new, |to| format!("<p><a href=\"{}\">Back</a></p>", text(to)));
    Ok(Visit::Page(200, page("Your subscriptions", &body)))
}

fn subscription_part(world: &World, subscription: &Value) -> String {
    let id = text(subscription["id"].as_str().unwrap_or_default());
    let item = &subscription["items"]["data"][0];
    let name = lines::product_name(&world.store, &item["price"]);
    let prices = world.store.all(Kind::Price, Index::Active, "true");
    let offered = prices.iter().filter(|price| {
        price["type"] == "recurring"
            && price["currency"] == subscription["currency"]
            && price["id"] != item["price"]["id"]
    });
    let option = |price: &std::sync::Arc<Value>| {
        let currency = price["currency"].as_str().unwrap_or("usd");
        let amount = currencies::written(price["unit_amount"].as_i64().unwrap_or_default(), currency);
        let interval = price["recurring"]["interval"].as_str().unwrap_or_default();
        let product = text(&lines::product_name(&world.store, price));
        let id = text(price["id"].as_str().unwrap_or_default());
        format!("<option value=\"{id}\">{product} {amount} / {interval}</option>")
    };
    let options = offered.map(option).collect::<Vec<_>>().concat();
    let (verb, says) = if subscription["cancel_at_period_end"] == true {
        ("keep", "Keep it")
    } else {
        ("cancel", "Cancel at the end of the period")
    };
    format!(
        "<section><h2>{}</h2><p>{}</p><form method=post><input type=hidden name=subscription value=\"{id}\">\
         <button name=do value={verb}>{says}</button></form><form method=post><input type=hidden name=subscription value=\"{id}\">\
         <select name=price aria-label=Plan>{options}</select> <button name=do value=switch>Change the plan</button></form></section>",
        text(&name),
        text(subscription["status"].as_str().unwrap_or_default())
    )
}

/// What somebody does in the portal is what a request of theirs would do.
fn change(world: &mut World, id: &str, form: &[(String, Sent)]) -> Result<(), StripeError> {
    let session = portal::session(world, id)?;
    let owner = session["customer"].as_str().unwrap_or_default().to_owned();
    if field(form, "do") == "card" {
        return use_card(world, &owner, field(form, "card"));
    }
    let target = field(form, "subscription");
    let subscription = crate::resources::find(&world.store, Kind::Subscription, target)?;
    if subscription["customer"] != owner.as_str() {
        return Err(StripeError::not_found("subscription", target, "id"));
    }
    let asked = match field(form, "do") {
        "cancel" => json!({"cancel_at_period_end": true}),
        "keep" => json!({"cancel_at_period_end": false}),
        "switch" => {
            let item = &array(&subscription["items"]["data"])[0]["id"];
            json!({"items": [{"id": item, "price": field(form, "price")}]})
        }
        other => return Err(StripeError::invalid(format!("There is nothing called {other} here."))),
    };
    say(world, target, &asked, subscription_changes::update)
}

fn use_card(world: &mut World, owner: &str, card: &str) -> Result<(), StripeError> {
    let method = payment_methods::resolve(world, card, "card")?;
    let method = payment_methods::attach_to(world, method, owner)?;
    let asked = json!({"invoice_settings": {"default_payment_method": method["id"]}});
    say(world, owner, &asked, customers::update)
}

fn say(
    world: &mut World,
    id: &str,
    asked: &Value,
    handler: fn(&mut World, &Call<'_>) -> crate::resources::Answer,
) -> Result<(), StripeError> {
    handler(world, &Call::ours("", vec![id], Params::over(asked))?).map(drop)
}
