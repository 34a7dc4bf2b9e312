//! `GET /api/v1/admin/billing/recent-charges`

use axum::extract::State;
use axum::response::Response;
use billing::money::{Currency, Money};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::Result;
use crate::http::answer;
use crate::http::extract::{Admin, Validator};
use crate::http::query::Query;
use crate::http::wire::{Amount, Time};
use crate::ops;
use crate::ops::mirror::Mirrored;
use crate::ops::page::Ask;
use crate::store::charges::Charge;

/// A page of charges.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Charges)]
pub struct View {
    charges: Vec<Row>,
    /// All charges, not only this page.
    total: u64,
    has_more: bool,
    /// Pass it as `cursor` for the next page.
    next_cursor: Option<String>,
}

/// A charge at Stripe.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Charge)]
pub struct Row {
    #[schema(example = "ch_1234")]
    id: String,
    amount: Option<Amount>,
    /// What of it was given back.
    amount_refunded: Option<Amount>,
    #[schema(example = "usd")]
    currency: Option<String>,
    #[schema(example = "succeeded")]
    status: Option<String>,
    #[schema(example = "cus_5678")]
    customer: Option<String>,
    description: Option<String>,
    created: Time,
    paid: bool,
    /// Given back as a whole.
    refunded: bool,
}

/// Charges, newest first
#[utoipa::path(get, path = "/api/v1/admin/billing/recent-charges", tag = "admin", operation_id = "recent_charges",
    params(
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 1000, description = "How many at most; default 20"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")
    ),
    responses((status = 200, body = View)), extensions(("x-role" = json!("admin"))), security(("session" = [])))]
pub async fn list(State(app): State<App>, me: Admin, query: Query, held: Validator) -> Result<Response> {
    let (limit, cursor) = Query::both(query.limit(20, 1000), query.one("cursor"))?;
    let scope = format!("{} charges", me.user().id);
    let page = ops::charges::list(&app, Ask { limit, cursor, scope }).await?;
    let view = View {
        has_more: page.value.next_cursor.is_some(),
        total: page.value.total,
        next_cursor: page.value.next_cursor,
        charges: page.value.rows.into_iter().map(Row::of).collect(),
    };
    answer::respond(&app, &answer::render(Mirrored { value: view, as_of: page.as_of })?, &held)
}

impl Row {
    fn of(charge: Charge) -> Self {
        let currency = charge.currency.as_deref().and_then(|code| Currency::parse(code).ok());
        let amount =
            |minor: Option<i64>| minor.zip(currency).map(|(minor, currency)| Amount(Money::new(minor, currency)));
        Self {
            amount: amount(charge.amount),
            amount_refunded: amount(charge.amount_refunded),
            id: charge.id,
            currency: charge.currency,
            status: charge.status,
            customer: charge.customer,
            description: charge.description,
            created: Time(charge.created),
            paid: charge.paid,
            refunded: charge.refunded,
        }
    }
}
