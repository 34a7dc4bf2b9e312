//! `GET /api/v1/admin/usage`

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use jiff::civil::Date;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::{Error, Result};
use crate::http::answer;
use crate::http::extract::Admin;
use crate::http::query::Query;
use crate::http::wire::Number;
use crate::ops::usage::totals::{self, Total, Totals, TotalsAfter};
use crate::store::After;

/// A page of usage by day, user and type.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UsageTotals)]
pub struct View {
    usage: Vec<Row>,
    has_more: bool,
    /// Pass it as `cursor` for the next page.
    next_cursor: Option<String>,
}

/// What a user has used of a type on a day.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UsageTotal)]
pub struct Row {
    /// In the operator's time zone.
    #[schema(example = "2026-11-22")]
    day: String,
    user_id: String,
    #[schema(example = "inference")]
    r#type: String,
    quantity: Number,
    /// Entries that counted there: usage and corrections. An event that was taken back is two.
    events: u64,
    /// What it weighs, with the weights that held when it was recorded.
    credits: Number,
}

/// Usage of everybody by day, user and type, newest day first
#[utoipa::path(get, path = "/api/v1/admin/usage", tag = "admin", operation_id = "usage_totals",
    params(
        ("user_id" = Option<String>, Query, description = "Of this user only"),
        ("type" = Option<String>, Query, description = "Of this event type only"),
        ("from" = Option<String>, Query, description = "The first day, such as 2026-11-01"),
        ("to" = Option<String>, Query, description = "The last day, itself included"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 1000, description = "How many at most; default 100"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")
    ),
    responses((status = 200, body = View)), extensions(("x-role" = json!("admin"))), security(("session" = [])))]
pub async fn list(State(app): State<App>, me: Admin, query: Query) -> Result<Response> {
    let days = Query::both(day(&query, "from"), day(&query, "to"));
    query.only(&["user_id", "type", "from", "to", "limit", "cursor"])?;
    let names = Query::both(query.name("user_id"), query.name("type"));
    let page = Query::both(query.limit(100, 1000), query.one("cursor"));
    let (((from, to), (user, kind)), (limit, cursor)) = Query::both(Query::both(days, names), page)?;
    if from.zip(to).is_some_and(|(from, to)| from > to) {
        return Err(Error::invalid("?to", "expected the day of `from` or a later one"));
    }
    let asked = Totals { user: user.map(str::to_owned), kind: kind.map(str::to_owned), from, to };
    let scope = format!("{} usage {asked:?}", me.user().id);
    let after = cursor.map(|cursor| app.cursor_key.open(&scope, cursor)).transpose()?;
    let after = after.map(|after| place(&after)).transpose()?;
    let page = totals::totals(&app, asked, after, usize::from(limit)).await?;
    let last = page.rows.last().filter(|_| page.more);
    let next_cursor = last.map(|last| app.cursor_key.seal(&scope, &After::from(last)));
    let view = View { has_more: page.more, next_cursor, usage: page.rows.into_iter().map(Row::of).collect() };
    answer::view(&app, StatusCode::OK, &view)
}

/// A day, `YYYY-MM-DD`.
fn day(query: &Query, name: &'static str) -> Result<Option<Date>> {
    let Some(text) = query.one(name)? else { return Ok(None) };
    let shaped = text.len() == 10
        && text
            .bytes()
            .enumerate()
            .all(|(at, byte)| if matches!(at, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() });
    match text.parse() {
        Ok(day) if shaped => Ok(Some(day)),
        _ => Err(Error::invalid(format!("?{name}"), "expected a day such as 2026-11-22")),
    }
}

/// Stands between the parts of a place; no id holds it.
const BETWEEN: char = '\u{1f}';

impl From<&Total> for After {
    fn from(last: &Total) -> Self {
        let day = i64::from(last.day.year()) * 10_000 + i64::from(last.day.month()) * 100 + i64::from(last.day.day());
        Self { created: day, id: format!("{}{BETWEEN}{}", last.user, last.kind) }
    }
}

/// The row that a cursor of ours names.
fn place(after: &After) -> Result<TotalsAfter> {
    let strange = || Error::internal("a sealed cursor that names no row");
    let part = |number: i64| i8::try_from(number).map_err(Error::internal);
    let year = i16::try_from(after.created / 10_000).map_err(Error::internal)?;
    let day = Date::new(year, part(after.created / 100 % 100)?, part(after.created % 100)?).map_err(Error::internal)?;
    let (user, kind) = after.id.split_once(BETWEEN).ok_or_else(strange)?;
    Ok(TotalsAfter { day, user: user.to_owned(), kind: kind.to_owned() })
}

impl Row {
    fn of(total: Total) -> Self {
        Self {
            day: total.day.to_string(),
            user_id: total.user,
            r#type: total.kind,
            quantity: total.quantity.into(),
            events: total.events,
            credits: total.credits.into(),
        }
    }
}
