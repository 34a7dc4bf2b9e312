//! Every path of the sandbox and what it accepts.

use crate::params::{Field, PAGE};
use crate::resources::{
    Answer, Call, account, balances, cash_balances, charges, checkout_sessions, coupons, credit_notes, customers,
    disputes, events, funds, invoice_payments, invoice_writes, invoiceitems, invoices, issuing, meters,
    payment_intents, payment_links, payment_methods, payments, plain, plans, portal, previews, prices, products,
    promotion_codes, quotes, refunds, report_runs, retrieve, setup_intents, shipping_rates, sources,
    subscription_changes, subscription_items, subscription_schedules as schedules, subscriptions, tax_ids, tax_rates,
    test_clocks, verification_sessions, webhook_endpoints,
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

/// Reading what would be: it is done and taken back.
const fn look(pattern: &'static str, kind: &'static str, fields: Fields, run: Write) -> Route {
    Route { method: "GET", pattern, kind, list: false, fields, run: Run::Write(run) }
}

const fn post(pattern: &'static str, kind: &'static str, fields: Fields, run: Write) -> Route {
    Route { method: "POST", pattern, kind, list: false, fields, run: Run::Write(run) }
}

const fn delete(pattern: &'static str, kind: &'static str, fields: Fields, run: Write) -> Route {
    Route { method: "DELETE", pattern, kind, list: false, fields, run: Run::Write(run) }
}

const CONFIGURATION: &str = "billing_portal.configuration";
const SESSION: &str = "checkout.session";
const SCHEDULE: &str = "subscription_schedule";
const CASH: &str = "customer_cash_balance_transaction";
const VERIFICATION: &str = "identity.verification_session";
const AUTHORIZATION: &str = "issuing.authorization";

const ROUTES: &[Route] = &[
    get("/v1/account", "account", account::own),
    list("/v1/accounts", "account", &[PAGE], plain::page),
    post("/v1/accounts", "account", account::CREATE, account::create),
    get("/v1/accounts/{id}", "account", account::one),
    post("/v1/accounts/{id}", "account", account::UPDATE, account::update),
    delete("/v1/accounts/{id}", "account", &[], account::delete),
    get("/v1/balance", "balance", balances::own),
    list("/v1/balance_transactions", "balance_transaction", &[PAGE, balances::LIST], balances::page),
    get("/v1/balance_transactions/{id}", "balance_transaction", balances::movement_one),
    post("/v1/billing/meter_events", "billing.meter_event", &[meters::EVENT], meters::report),
    list("/v1/billing/meters", "billing.meter", &[PAGE, meters::LIST], meters::page),
    post("/v1/billing/meters", "billing.meter", &[meters::CREATE], meters::create),
    get("/v1/billing/meters/{id}", "billing.meter", retrieve),
    post("/v1/billing/meters/{id}", "billing.meter", &[meters::UPDATE], meters::update),
    post("/v1/billing/meters/{id}/deactivate", "billing.meter", &[], meters::deactivate),
    post("/v1/billing/meters/{id}/reactivate", "billing.meter", &[], meters::reactivate),
    list(
        "/v1/billing/meters/{id}/event_summaries",
        "billing.meter_event_summary",
        &[PAGE, meters::SUMMARIES],
        meters::summaries,
    ),
    list("/v1/billing_portal/configurations", CONFIGURATION, &[PAGE], portal::configuration_page),
    post("/v1/billing_portal/configurations", CONFIGURATION, &[portal::CONFIGURATION], portal::create_configuration),
    get("/v1/billing_portal/configurations/{id}", CONFIGURATION, retrieve),
    post(
        "/v1/billing_portal/configurations/{id}",
        CONFIGURATION,
        portal::CONFIGURATION_UPDATE,
        portal::update_configuration,
    ),
    post("/v1/billing_portal/sessions", "billing_portal.session", &[portal::SESSION], portal::create_session),
    list("/v1/charges", "charge", &[PAGE, charges::LIST], charges::page),
    post("/v1/charges", "charge", &[charges::CREATE], charges::create),
    get("/v1/charges/{id}", "charge", retrieve),
    post("/v1/charges/{id}", "charge", &[charges::UPDATE], charges::update),
    list("/v1/charges/{id}/refunds", "refund", &[PAGE], refunds::of_charge),
    list("/v1/checkout/sessions", SESSION, &[PAGE, checkout_sessions::LIST], checkout_sessions::page),
    post("/v1/checkout/sessions", SESSION, &[checkout_sessions::CREATE], checkout_sessions::create),
    get("/v1/checkout/sessions/{id}", SESSION, retrieve),
    post("/v1/checkout/sessions/{id}", SESSION, &[checkout_sessions::UPDATE], checkout_sessions::update),
    post("/v1/checkout/sessions/{id}/expire", SESSION, &[], checkout_sessions::expire_now),
    list("/v1/checkout/sessions/{id}/line_items", "item", &[PAGE], checkout_sessions::line_items),
    list("/v1/coupons", "coupon", &[PAGE], coupons::page),
    post("/v1/coupons", "coupon", &[coupons::CREATE], coupons::create),
    get("/v1/coupons/{id}", "coupon", retrieve),
    post("/v1/coupons/{id}", "coupon", &[coupons::UPDATE], coupons::update),
    delete("/v1/coupons/{id}", "coupon", &[], coupons::delete),
    list("/v1/credit_notes", "credit_note", &[PAGE, credit_notes::LIST], credit_notes::page),
    post("/v1/credit_notes", "credit_note", &[credit_notes::CREATE], credit_notes::create),
    look("/v1/credit_notes/preview", "credit_note", &[credit_notes::CREATE], credit_notes::preview),
    get("/v1/credit_notes/{id}", "credit_note", retrieve),
    post("/v1/credit_notes/{id}", "credit_note", &[credit_notes::UPDATE], credit_notes::update),
    list("/v1/credit_notes/{id}/lines", "credit_note_line_item", &[PAGE], credit_notes::lines),
    post("/v1/credit_notes/{id}/void", "credit_note", &[], credit_notes::void),
    list("/v1/customers", "customer", &[PAGE, customers::LIST], customers::page),
    post("/v1/customers", "customer", customers::CREATE, customers::create),
    get("/v1/customers/{id}", "customer", customers::one),
    post("/v1/customers/{id}", "customer", customers::UPDATE, customers::update),
    delete("/v1/customers/{id}", "customer", &[], customers::delete),
    get("/v1/customers/{id}/cash_balance", "cash_balance", cash_balances::own),
    list("/v1/customers/{id}/cash_balance_transactions", CASH, &[PAGE], cash_balances::page),
    get("/v1/customers/{id}/cash_balance_transactions/{transaction}", CASH, cash_balances::one),
    delete("/v1/customers/{id}/discount", "discount", &[], customers::delete_discount),
    list(
        "/v1/customers/{id}/payment_methods",
        "payment_method",
        &[PAGE, payment_methods::CUSTOMER_LIST],
        customers::payment_method_page,
    ),
    get("/v1/customers/{id}/payment_methods/{method}", "payment_method", customers::payment_method_one),
    list("/v1/customers/{id}/sources", "card", &[PAGE, sources::LIST], sources::page),
    post("/v1/customers/{id}/sources", "card", &[sources::CREATE], sources::create),
    get("/v1/customers/{id}/sources/{source}", "card", sources::one),
    post("/v1/customers/{id}/sources/{source}", "card", &[sources::UPDATE], sources::update),
    delete("/v1/customers/{id}/sources/{source}", "card", &[], sources::delete),
    list("/v1/customers/{id}/tax_ids", "tax_id", &[PAGE], tax_ids::page),
    post("/v1/customers/{id}/tax_ids", "tax_id", &[tax_ids::CREATE], tax_ids::create),
    get("/v1/customers/{id}/tax_ids/{tax_id}", "tax_id", tax_ids::one),
    delete("/v1/customers/{id}/tax_ids/{tax_id}", "tax_id", &[], tax_ids::delete),
    list("/v1/disputes", "dispute", &[PAGE, disputes::LIST], disputes::page),
    get("/v1/disputes/{id}", "dispute", retrieve),
    post("/v1/disputes/{id}", "dispute", &[disputes::UPDATE], disputes::update),
    post("/v1/disputes/{id}/close", "dispute", &[], disputes::close),
    list("/v1/events", "event", &[PAGE, events::LIST], events::page),
    get("/v1/events/{id}", "event", events::one),
    post("/v1/events/{id}/retry", "event", &[events::RETRY], events::retry),
    list("/v1/identity/verification_sessions", VERIFICATION, &[PAGE, verification_sessions::LIST], plain::page),
    post(
        "/v1/identity/verification_sessions",
        VERIFICATION,
        &[verification_sessions::CREATE],
        verification_sessions::create,
    ),
    get("/v1/identity/verification_sessions/{id}", VERIFICATION, retrieve),
    post("/v1/identity/verification_sessions/{id}", VERIFICATION, &[verification_sessions::UPDATE], plain::update),
    post("/v1/identity/verification_sessions/{id}/cancel", VERIFICATION, &[], plain::act),
    post("/v1/identity/verification_sessions/{id}/redact", VERIFICATION, &[], plain::act),
    list("/v1/invoice_payments", "invoice_payment", &[PAGE, invoice_payments::LIST], invoice_payments::page),
    get("/v1/invoice_payments/{id}", "invoice_payment", retrieve),
    list("/v1/invoiceitems", "invoiceitem", &[PAGE, invoiceitems::LIST], invoiceitems::page),
    post("/v1/invoiceitems", "invoiceitem", invoiceitems::CREATE, invoiceitems::create),
    get("/v1/invoiceitems/{id}", "invoiceitem", retrieve),
    post("/v1/invoiceitems/{id}", "invoiceitem", invoiceitems::UPDATE, invoiceitems::update),
    delete("/v1/invoiceitems/{id}", "invoiceitem", &[], invoiceitems::delete),
    list("/v1/invoices", "invoice", &[PAGE, invoices::LIST], invoices::page),
    post("/v1/invoices", "invoice", invoice_writes::CREATE, invoice_writes::create),
    post("/v1/invoices/create_preview", "invoice", &[previews::CREATE], previews::create),
    get("/v1/invoices/{id}", "invoice", retrieve),
    post("/v1/invoices/{id}", "invoice", invoice_writes::UPDATE, invoice_writes::update),
    delete("/v1/invoices/{id}", "invoice", &[], invoice_writes::delete),
    post("/v1/invoices/{id}/finalize", "invoice", &[invoice_writes::FINALIZE], invoice_writes::finalize),
    post("/v1/invoices/{id}/mark_uncollectible", "invoice", &[], invoice_writes::write_off),
    post("/v1/invoices/{id}/pay", "invoice", &[invoice_writes::PAY], invoice_writes::pay),
    post("/v1/invoices/{id}/send", "invoice", &[], invoice_writes::send),
    post("/v1/invoices/{id}/void", "invoice", &[], invoice_writes::void),
    list("/v1/invoices/{id}/lines", "line_item", &[PAGE], invoices::lines),
    list("/v1/issuing/authorizations", AUTHORIZATION, &[PAGE, issuing::LIST], plain::page),
    get("/v1/issuing/authorizations/{id}", AUTHORIZATION, retrieve),
    post("/v1/issuing/authorizations/{id}", AUTHORIZATION, &[plain::METADATA], plain::update),
    list("/v1/issuing/cardholders", "issuing.cardholder", &[PAGE, issuing::CARDHOLDER_LIST], plain::page),
    post("/v1/issuing/cardholders", "issuing.cardholder", issuing::CARDHOLDER, issuing::create_cardholder),
    get("/v1/issuing/cardholders/{id}", "issuing.cardholder", retrieve),
    post("/v1/issuing/cardholders/{id}", "issuing.cardholder", issuing::CARDHOLDER_UPDATE, plain::update),
    list("/v1/issuing/cards", "issuing.card", &[PAGE, issuing::CARD_LIST], plain::page),
    post("/v1/issuing/cards", "issuing.card", &[issuing::CARD], issuing::create_card),
    get("/v1/issuing/cards/{id}", "issuing.card", retrieve),
    post("/v1/issuing/cards/{id}", "issuing.card", &[issuing::CARD_UPDATE], issuing::update_card),
    post("/v1/issuing/cards/{id}/test/authorizations", AUTHORIZATION, &[issuing::AUTHORIZE], issuing::authorize),
    list("/v1/issuing/transactions", "issuing.transaction", &[PAGE, issuing::LIST], plain::page),
    get("/v1/issuing/transactions/{id}", "issuing.transaction", retrieve),
    post("/v1/issuing/transactions/{id}", "issuing.transaction", &[plain::METADATA], plain::update),
    list("/v1/payment_intents", "payment_intent", &[PAGE, payment_intents::LIST], payment_intents::page),
    get("/v1/payment_intents/{id}", "payment_intent", retrieve),
    post("/v1/payment_intents", "payment_intent", payment_intents::CREATE, payment_intents::create),
    post("/v1/payment_intents/{id}", "payment_intent", payment_intents::UPDATE, payment_intents::update),
    post("/v1/payment_intents/{id}/cancel", "payment_intent", &[payments::CANCEL], payments::cancel),
    post("/v1/payment_intents/{id}/capture", "payment_intent", &[payments::CAPTURE], payments::capture),
    post("/v1/payment_intents/{id}/confirm", "payment_intent", &[payments::CONFIRM], payments::confirm),
    list("/v1/payment_links", "payment_link", &[PAGE, payment_links::LIST], plain::page),
    post("/v1/payment_links", "payment_link", payment_links::CREATE, payment_links::create),
    get("/v1/payment_links/{id}", "payment_link", retrieve),
    post("/v1/payment_links/{id}", "payment_link", payment_links::UPDATE, plain::update),
    list("/v1/payment_links/{id}/line_items", "item", &[PAGE], payment_links::line_items),
    list("/v1/payment_methods", "payment_method", &[PAGE, payment_methods::LIST], payment_methods::page),
    post("/v1/payment_methods", "payment_method", &[payment_methods::CREATE], payment_methods::create),
    get("/v1/payment_methods/{id}", "payment_method", retrieve),
    post("/v1/payment_methods/{id}", "payment_method", &[payment_methods::UPDATE], payment_methods::update),
    post("/v1/payment_methods/{id}/attach", "payment_method", &[payment_methods::ATTACH], payment_methods::attach),
    post("/v1/payment_methods/{id}/detach", "payment_method", &[], payment_methods::detach),
    get("/v1/payment_pages/{id}", SESSION, retrieve),
    post("/v1/payment_pages/{id}/confirm", SESSION, &[checkout_sessions::CONFIRM], checkout_sessions::confirm),
    list("/v1/payouts", "payout", &[PAGE, funds::PAYOUT_LIST], plain::page),
    post("/v1/payouts", "payout", &[funds::PAYOUT], funds::pay_out),
    get("/v1/payouts/{id}", "payout", retrieve),
    post("/v1/payouts/{id}", "payout", &[plain::METADATA], plain::update),
    post("/v1/payouts/{id}/cancel", "payout", &[], plain::act),
    list("/v1/plans", "plan", &[PAGE, plans::LIST], plans::page),
    post("/v1/plans", "plan", &[plans::CREATE], plans::create),
    get("/v1/plans/{id}", "plan", plans::one),
    post("/v1/plans/{id}", "plan", &[plans::UPDATE], plans::update),
    delete("/v1/plans/{id}", "plan", &[], plans::delete),
    list("/v1/prices", "price", &[PAGE, prices::LIST], prices::page),
    post("/v1/prices", "price", &[prices::CREATE], prices::create),
    get("/v1/prices/{id}", "price", retrieve),
    post("/v1/prices/{id}", "price", &[prices::UPDATE], prices::update),
    list("/v1/products", "product", &[PAGE, products::LIST], products::page),
    post("/v1/products", "product", products::CREATE, products::create),
    get("/v1/products/{id}", "product", retrieve),
    post("/v1/products/{id}", "product", products::UPDATE, products::update),
    delete("/v1/products/{id}", "product", &[], products::delete),
    list("/v1/promotion_codes", "promotion_code", &[PAGE, promotion_codes::LIST], promotion_codes::page),
    post("/v1/promotion_codes", "promotion_code", &[promotion_codes::CREATE], promotion_codes::create),
    get("/v1/promotion_codes/{id}", "promotion_code", retrieve),
    post("/v1/promotion_codes/{id}", "promotion_code", &[promotion_codes::UPDATE], promotion_codes::update),
    list("/v1/quotes", "quote", &[PAGE, quotes::LIST], plain::page),
    post("/v1/quotes", "quote", quotes::CREATE, quotes::create),
    get("/v1/quotes/{id}", "quote", retrieve),
    post("/v1/quotes/{id}", "quote", quotes::UPDATE, quotes::update),
    post("/v1/quotes/{id}/accept", "quote", &[], quotes::accept),
    post("/v1/quotes/{id}/cancel", "quote", &[], quotes::cancel),
    post("/v1/quotes/{id}/finalize", "quote", &[quotes::FINALIZE], quotes::finalize),
    list("/v1/quotes/{id}/line_items", "item", &[PAGE], quotes::line_items),
    list("/v1/refunds", "refund", &[PAGE, refunds::LIST], refunds::page),
    post("/v1/refunds", "refund", &[refunds::CREATE], refunds::create),
    get("/v1/refunds/{id}", "refund", retrieve),
    post("/v1/refunds/{id}", "refund", &[refunds::UPDATE], refunds::update),
    list("/v1/reporting/report_runs", "reporting.report_run", &[PAGE], plain::page),
    post("/v1/reporting/report_runs", "reporting.report_run", &[report_runs::CREATE], report_runs::create),
    get("/v1/reporting/report_runs/{id}", "reporting.report_run", retrieve),
    list("/v1/setup_intents", "setup_intent", &[PAGE, setup_intents::LIST], setup_intents::page),
    post("/v1/setup_intents", "setup_intent", &[setup_intents::CREATE], setup_intents::create),
    get("/v1/setup_intents/{id}", "setup_intent", retrieve),
    post("/v1/setup_intents/{id}/cancel", "setup_intent", &[setup_intents::CANCEL], setup_intents::cancel),
    post("/v1/setup_intents/{id}/confirm", "setup_intent", &[setup_intents::CONFIRM], setup_intents::confirm),
    list("/v1/shipping_rates", "shipping_rate", &[PAGE, shipping_rates::LIST], plain::page),
    post("/v1/shipping_rates", "shipping_rate", &[shipping_rates::CREATE], shipping_rates::create),
    get("/v1/shipping_rates/{id}", "shipping_rate", retrieve),
    post("/v1/shipping_rates/{id}", "shipping_rate", &[shipping_rates::UPDATE], plain::update),
    list("/v1/subscription_items", "subscription_item", &[PAGE, subscription_items::LIST], subscription_items::page),
    get("/v1/subscription_items/{id}", "subscription_item", subscription_items::one),
    post("/v1/subscription_items", "subscription_item", subscription_items::CREATE, subscription_items::create),
    post("/v1/subscription_items/{id}", "subscription_item", subscription_items::UPDATE, subscription_items::update),
    delete(
        "/v1/subscription_items/{id}",
        "subscription_item",
        &[subscription_items::DELETE],
        subscription_items::delete,
    ),
    list("/v1/subscription_schedules", SCHEDULE, &[PAGE, schedules::LIST], schedules::page),
    post("/v1/subscription_schedules", SCHEDULE, schedules::CREATE, schedules::create),
    get("/v1/subscription_schedules/{id}", SCHEDULE, retrieve),
    post("/v1/subscription_schedules/{id}", SCHEDULE, schedules::UPDATE, schedules::update),
    post("/v1/subscription_schedules/{id}/cancel", SCHEDULE, &[schedules::CANCEL], schedules::cancel),
    post("/v1/subscription_schedules/{id}/release", SCHEDULE, &[schedules::RELEASE], schedules::release),
    list("/v1/subscriptions", "subscription", &[PAGE, subscriptions::LIST], subscriptions::page),
    post("/v1/subscriptions", "subscription", subscriptions::CREATE, subscriptions::create),
    get("/v1/subscriptions/{id}", "subscription", retrieve),
    post("/v1/subscriptions/{id}", "subscription", subscriptions::UPDATE, subscription_changes::update),
    delete("/v1/subscriptions/{id}", "subscription", &[subscriptions::CANCEL], subscription_changes::cancel),
    post("/v1/subscriptions/{id}/pause", "subscription", &[subscription_changes::PAUSE], subscription_changes::pause),
    post(
        "/v1/subscriptions/{id}/resume",
        "subscription",
        &[subscription_changes::RESUME],
        subscription_changes::resume,
    ),
    list("/v1/tax_rates", "tax_rate", &[PAGE, tax_rates::LIST], tax_rates::page),
    post("/v1/tax_rates", "tax_rate", tax_rates::CREATE, tax_rates::create),
    get("/v1/tax_rates/{id}", "tax_rate", retrieve),
    post("/v1/tax_rates/{id}", "tax_rate", tax_rates::UPDATE, tax_rates::update),
    post("/v1/test_helpers/customers/{id}/fund_cash_balance", CASH, &[cash_balances::FUND], cash_balances::fund),
    post("/v1/test_helpers/issuing/authorizations", AUTHORIZATION, &[issuing::AUTHORIZE], issuing::authorize),
    post(
        "/v1/test_helpers/issuing/transactions/create_force_capture",
        "issuing.transaction",
        &[issuing::CAPTURE],
        issuing::capture,
    ),
    list("/v1/test_helpers/test_clocks", "test_helpers.test_clock", &[PAGE], test_clocks::page),
    post("/v1/test_helpers/test_clocks", "test_helpers.test_clock", &[test_clocks::CREATE], test_clocks::create),
    get("/v1/test_helpers/test_clocks/{id}", "test_helpers.test_clock", retrieve),
    delete("/v1/test_helpers/test_clocks/{id}", "test_helpers.test_clock", &[], test_clocks::delete),
    post(
        "/v1/test_helpers/test_clocks/{id}/advance",
        "test_helpers.test_clock",
        &[test_clocks::ADVANCE],
        test_clocks::advance,
    ),
    list("/v1/topups", "topup", &[PAGE, funds::TOPUP_LIST], plain::page),
    post("/v1/topups", "topup", &[funds::TOPUP], funds::top_up),
    get("/v1/topups/{id}", "topup", retrieve),
    post("/v1/topups/{id}", "topup", &[funds::TOPUP_UPDATE], plain::update),
    post("/v1/topups/{id}/cancel", "topup", &[], plain::act),
    list("/v1/transfers", "transfer", &[PAGE, funds::TRANSFER_LIST], plain::page),
    post("/v1/transfers", "transfer", &[funds::TRANSFER], funds::transfer),
    get("/v1/transfers/{id}", "transfer", retrieve),
    post("/v1/transfers/{id}", "transfer", &[funds::TRANSFER_UPDATE], plain::update),
    list("/v1/transfers/{id}/reversals", "transfer_reversal", &[PAGE], funds::reversals),
    post("/v1/transfers/{id}/reversals", "transfer_reversal", &[funds::REVERSAL], funds::reverse),
    list("/v1/webhook_endpoints", "webhook_endpoint", &[PAGE], webhook_endpoints::page),
    post("/v1/webhook_endpoints", "webhook_endpoint", &[webhook_endpoints::CREATE], webhook_endpoints::create),
    get("/v1/webhook_endpoints/{id}", "webhook_endpoint", retrieve),
    post("/v1/webhook_endpoints/{id}", "webhook_endpoint", &[webhook_endpoints::UPDATE], webhook_endpoints::update),
    delete("/v1/webhook_endpoints/{id}", "webhook_endpoint", &[], webhook_endpoints::delete),
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
