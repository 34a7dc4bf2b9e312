//! `GET /api/v1/admin/billing/customers`

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::Result;
use crate::http::answer;
use crate::http::extract::{Admin, Validator};
use crate::http::query::Query;
use crate::http::wire::Time;
use crate::ops;
use crate::ops::mirror::Mirrored;
use crate::ops::page::Ask;
use crate::store::customers::Customer;

/// A page of customers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Customers)]
pub struct View {
    customers: Vec<Row>,
    /// All customers, not only this page.
    total: u64,
    has_more: bool,
    /// Pass it as `cursor` for the next page.
    next_cursor: Option<String>,
}

/// A customer at Stripe.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Customer)]
pub struct Row {
    #[schema(example = "cus_1234")]
    id: String,
    email: Option<String>,
    name: Option<String>,
    created: Time,
    metadata: BTreeMap<String, String>,
}

/// All customers, newest first
#[utoipa::path(get, path = "/api/v1/admin/billing/customers", tag = "admin", operation_id = "customers",
    params(
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 1000, description = "How many at most; default 100"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")
    ),
    responses((status = 200, body = View)), extensions(("x-role" = json!("admin"))), security(("session" = [])))]
pub async fn list(State(app): State<App>, me: Admin, query: Query, held: Validator) -> Result<Response> {
    let (limit, cursor) = Query::both(query.limit(100, 1000), query.one("cursor"))?;
    let scope = format!("{} customers", me.user().id);
    let page = ops::customers::list(&app, Ask { limit, cursor, scope }).await?;
    let view = View {
        has_more: page.value.next_cursor.is_some(),
        total: page.value.total,
        next_cursor: page.value.next_cursor,
        customers: page.value.rows.into_iter().map(Row::of).collect(),
    };
    answer::respond(&app, &answer::render(Mirrored { value: view, as_of: page.as_of })?, &held)
}

impl Row {
    fn of(customer: Customer) -> Self {
        Self {
            id: customer.id,
            email: customer.email,
            name: customer.name,
            created: Time(customer.created),
            metadata: customer.metadata,
        }
    }
}
