//! Every path of the sandbox and what it accepts.

use crate::params::{Field, PAGE};
use crate::resources::{
    Answer, Call, account, charges, coupons, customers, events, invoice_payments, invoices, payment_intents,
    payment_methods, plans, prices, products, refunds, subscription_items, subscriptions,
};
use crate::world::World;

/// Reading needs no exclusive hold of the world, writing does.
#[derive(Clone, Copy)]
pub(crate) enum Run {
    Read(fn(&World, &Call<'_>) -> Answer),
    Write(fn(&mut World, &Call<'_>) -> Answer),
}

/// One method on one path.
pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) pattern: &'static str,
    /// `object` of the answer, or of its rows.
    pub(crate) kind: &'static str,
    pub(crate) list: bool,
    pub(crate) fields: &'static [&'static [Field]],
    pub(crate) run: Run,
}

type Fields = &'static [&'static [Field]];
type Read = fn(&World, &Call<'_>) -> Answer;
type Write = fn(&mut World, &Call<'_>) -> Answer;

const fn list(pattern: &'static str, kind: &'static str, fields: Fields, run: Read) -> Route {
    Route { method: "GET", pattern, kind, list: true, fields, run: Run::Read(run) }
}

const fn get(pattern: &'static str, kind: &'static str, run: Read) -> Route {
    Route { method: "GET", pattern, kind, list: false, fields: &[], run: Run::Read(run) }
}

const fn post(pattern: &'static str, kind: &'static str, fields: Fields, run: Write) -> Route {
    Route { method: "POST", pattern, kind, list: false, fields, run: Run::Write(run) }
}

const fn delete(pattern: &'static str, kind: &'static str, fields: Fields, run: Write) -> Route {
    Route { method: "DELETE", pattern, kind, list: false, fields, run: Run::Write(run) }
}

const ROUTES: &[Route] = &[
    get("/v1/account", "account", account::own),
    get("/v1/accounts/{id}", "account", account::one),
    list("/v1/charges", "charge", &[PAGE, charges::LIST], charges::page),
    post("/v1/charges", "charge", &[charges::CREATE], charges::create),
    get("/v1/charges/{id}", "charge", charges::one),
    post("/v1/charges/{id}", "charge", &[charges::UPDATE], charges::update),
    list("/v1/charges/{id}/refunds", "refund", &[PAGE], refunds::of_charge),
    list("/v1/coupons", "coupon", &[PAGE], coupons::page),
    post("/v1/coupons", "coupon", &[coupons::CREATE], coupons::create),
    get("/v1/coupons/{id}", "coupon", coupons::one),
    post("/v1/coupons/{id}", "coupon", &[coupons::UPDATE], coupons::update),
    delete("/v1/coupons/{id}", "coupon", &[], coupons::delete),
    list("/v1/customers", "customer", &[PAGE, customers::LIST], customers::page),
    post("/v1/customers", "customer", customers::CREATE, customers::create),
    get("/v1/customers/{id}", "customer", customers::one),
    post("/v1/customers/{id}", "customer", customers::UPDATE, customers::update),
    delete("/v1/customers/{id}", "customer", &[], customers::delete),
    list(
        "/v1/customers/{id}/payment_methods",
        "payment_method",
        &[PAGE, payment_methods::CUSTOMER_LIST],
        customers::payment_method_page,
    ),
    get("/v1/customers/{id}/payment_methods/{method}", "payment_method", customers::payment_method_one),
    list("/v1/events", "event", &[PAGE, events::LIST], events::page),
    get("/v1/events/{id}", "event", events::one),
    list("/v1/invoice_payments", "invoice_payment", &[PAGE, invoice_payments::LIST], invoice_payments::page),
    get("/v1/invoice_payments/{id}", "invoice_payment", invoice_payments::one),
    list("/v1/invoices", "invoice", &[PAGE, invoices::LIST], invoices::page),
    get("/v1/invoices/{id}", "invoice", invoices::one),
    list("/v1/invoices/{id}/lines", "line_item", &[PAGE], invoices::lines),
    list("/v1/payment_intents", "payment_intent", &[PAGE, payment_intents::LIST], payment_intents::page),
    get("/v1/payment_intents/{id}", "payment_intent", payment_intents::one),
    list("/v1/payment_methods", "payment_method", &[PAGE, payment_methods::LIST], payment_methods::page),
    post("/v1/payment_methods", "payment_method", &[payment_methods::CREATE], payment_methods::create),
    get("/v1/payment_methods/{id}", "payment_method", payment_methods::one),
    post("/v1/payment_methods/{id}", "payment_method", &[payment_methods::UPDATE], payment_methods::update),
    post("/v1/payment_methods/{id}/attach", "payment_method", &[payment_methods::ATTACH], payment_methods::attach),
    post("/v1/payment_methods/{id}/detach", "payment_method", &[], payment_methods::detach),
    list("/v1/plans", "plan", &[PAGE, plans::LIST], plans::page),
    post("/v1/plans", "plan", &[plans::CREATE], plans::create),
    get("/v1/plans/{id}", "plan", plans::one),
    post("/v1/plans/{id}", "plan", &[plans::UPDATE], plans::update),
    delete("/v1/plans/{id}", "plan", &[], plans::delete),
    list("/v1/prices", "price", &[PAGE, prices::LIST], prices::page),
    post("/v1/prices", "price", &[prices::CREATE], prices::create),
    get("/v1/prices/{id}", "price", prices::one),
    post("/v1/prices/{id}", "price", &[prices::UPDATE], prices::update),
    list("/v1/products", "product", &[PAGE, products::LIST], products::page),
    post("/v1/products", "product", products::CREATE, products::create),
    get("/v1/products/{id}", "product", products::one),
    post("/v1/products/{id}", "product", products::UPDATE, products::update),
    delete("/v1/products/{id}", "product", &[], products::delete),
    list("/v1/refunds", "refund", &[PAGE, refunds::LIST], refunds::page),
    post("/v1/refunds", "refund", &[refunds::CREATE], refunds::create),
    get("/v1/refunds/{id}", "refund", refunds::one),
    post("/v1/refunds/{id}", "refund", &[refunds::UPDATE], refunds::update),
    list("/v1/subscription_items", "subscription_item", &[PAGE, subscription_items::LIST], subscription_items::page),
    get("/v1/subscription_items/{id}", "subscription_item", subscription_items::one),
    list("/v1/subscriptions", "subscription", &[PAGE, subscriptions::LIST], subscriptions::page),
    post("/v1/subscriptions", "subscription", subscriptions::CREATE, subscriptions::create),
    get("/v1/subscriptions/{id}", "subscription", subscriptions::one),
    post("/v1/subscriptions/{id}", "subscription", subscriptions::UPDATE, subscriptions::update),
    delete("/v1/subscriptions/{id}", "subscription", &[subscriptions::CANCEL], subscriptions::cancel),
];

/// The route of a request and the ids in its path.
pub(crate) fn route<'a>(method: &str, path: &'a str) -> Option<(&'static Route, Vec<&'a str>)> {
    ROUTES.iter().filter(|route| route.method == method).find_map(|route| {
        let ids = fit(route.pattern, path)?;
        Some((route, ids))
    })
}

fn fit<'a>(pattern: &str, path: &'a str) -> Option<Vec<&'a str>> {
    let mut ids = Vec::new();
    let mut given = path.split('/');
    for part in pattern.split('/') {
        let own = given.next()?;
        if part.starts_with('{') {
            if own.is_empty() {
                return None;
            }
            ids.push(own);
        } else if own != part {
            return None;
        }
    }
    given.next().is_none().then_some(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_find_their_routes() {
        let ids =
            |method: &str, path: &'static str| route(method, path).map(|(route, ids)| (route.pattern, ids.join(",")));
        let found = |pattern: &'static str, ids: &str| Some((pattern, ids.to_owned()));
        assert_eq!(ids("GET", "/v1/customers"), found("/v1/customers", ""));
        assert_eq!(
            ids("GET", "/v1/customers/cus_1/payment_methods"),
            found("/v1/customers/{id}/payment_methods", "cus_1")
        );
        for (method, path) in
            [("GET", "/v1/customers/"), ("PUT", "/v1/customers"), ("GET", "/v1/nothing"), ("GET", "/")]
        {
            assert_eq!(ids(method, path), None, "{method} {path}");
        }
    }
}
