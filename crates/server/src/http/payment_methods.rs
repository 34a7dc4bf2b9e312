//! `GET /api/v1/billing/payment-methods`

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::answer;
use super::extract::{Customer, Validator};
use super::wire::Time;
use crate::answers::Page;
use crate::app::App;
use crate::error::Result;
use crate::ops;
use crate::ops::mirror::Mirrored;
use crate::store::payment_methods::PaymentMethod;

/// A payment method of any type.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PaymentMethod)]
pub struct View {
    #[schema(example = "pm_1234")]
    id: String,
    /// Stripe's type: card, us_bank_account, sepa_debit, …
    #[serde(rename = "type")]
    #[schema(example = "card")]
    kind: String,
    /// Null where the type is not a card.
    card: Option<Card>,
    created: Time,
}

/// What is shown of a card.
#[derive(Debug, Serialize, ToSchema)]
pub struct Card {
    #[schema(example = "visa")]
    brand: Option<String>,
    #[schema(example = "4242")]
    last4: Option<String>,
    exp_month: Option<i64>,
    exp_year: Option<i64>,
}

/// The caller's payment methods of every type
#[utoipa::path(get, path = "/api/v1/billing/payment-methods", tag = "billing", operation_id = "payment_methods",
    responses((status = 200, body = [View])), extensions(("x-role" = json!("customer"))), security(("session" = [])))]
pub async fn list(State(app): State<App>, me: Customer, held: Validator) -> Result<Response> {
    answer::for_customer(&app, &me, Page::PaymentMethods, &held, async || {
        let methods = ops::payment_methods::list(&app, me.user()).await?;
        let views: Vec<View> = methods.value.into_iter().map(View::of).collect();
        answer::render(Mirrored { value: views, as_of: methods.as_of })
    })
    .await
}

impl View {
    fn of(method: PaymentMethod) -> Self {
        let card = method.card.map(|card| Card {
            brand: card.brand,
            last4: card.last4,
            exp_month: card.exp_month,
            exp_year: card.exp_year,
        });
        Self { id: method.id, kind: method.kind, card, created: Time(method.created) }
    }
}
