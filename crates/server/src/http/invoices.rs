//! `GET /api/v1/billing/invoices`

use axum::extract::State;
use axum::response::Response;
use billing::money::{Currency, Money};
use serde::Serialize;
use utoipa::ToSchema;

use super::answer;
use super::extract::{Customer, Validator};
use super::query::Query;
use super::wire::{Amount, Time};
use crate::answers::Page;
use crate::app::App;
use crate::error::Result;
use crate::ops;
use crate::ops::mirror::Mirrored;
use crate::store::invoices::Invoice;

/// An invoice.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Invoice)]
pub struct View {
    #[schema(example = "in_1234")]
    id: String,
    /// Null until the invoice is finalised.
    #[schema(example = "INV-2025-0001")]
    number: Option<String>,
    amount_due: Option<Amount>,
    amount_paid: Option<Amount>,
    #[schema(example = "usd")]
    currency: Option<String>,
    /// Stripe's status: draft, open, paid, uncollectible or void.
    #[schema(example = "paid")]
    status: Option<String>,
    created: Time,
    /// Null where Stripe charges by itself.
    due_date: Option<Time>,
    paid: bool,
    invoice_pdf: Option<String>,
    hosted_invoice_url: Option<String>,
}

/// The caller's invoices, newest first
#[utoipa::path(get, path = "/api/v1/billing/invoices", tag = "billing", operation_id = "invoices",
    params(("limit" = Option<u16>, Query, minimum = 1, maximum = 100, description = "How many at most; default 10")),
    responses((status = 200, body = [View])), extensions(("x-role" = json!("customer"))), security(("session" = [])))]
pub async fn list(State(app): State<App>, me: Customer, query: Query, held: Validator) -> Result<Response> {
    let limit = query.limit(10, 100)?;
    answer::for_customer(&app, &me, Page::Invoices { limit }, &held, async || {
        let newest = ops::invoices::newest(&app, me.user(), limit).await?;
        let views: Vec<View> = newest.value.into_iter().map(View::of).collect();
        answer::render(Mirrored { value: views, as_of: newest.as_of })
    })
    .await
}

impl View {
    fn of(invoice: Invoice) -> Self {
        // Without a currency a number of minor units says nothing.
        let currency = invoice.currency.as_deref().and_then(|code| Currency::parse(code).ok());
        let amount =
            |minor: Option<i64>| minor.zip(currency).map(|(minor, currency)| Amount(Money::new(minor, currency)));
        Self {
            amount_due: amount(invoice.amount_due),
            amount_paid: amount(invoice.amount_paid),
            id: invoice.id,
            number: invoice.number,
            currency: invoice.currency,
            status: invoice.status,
            created: Time(invoice.created),
            due_date: invoice.due_date.map(Time),
            paid: invoice.paid,
            invoice_pdf: invoice.invoice_pdf,
            hosted_invoice_url: invoice.hosted_invoice_url,
        }
    }
}
