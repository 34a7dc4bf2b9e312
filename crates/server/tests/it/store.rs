//! The store: one suite that runs on SQLite and on PostgreSQL, and beside it what only one of the two promises.

mod log;
mod news;
mod pages;
mod people;
mod postgres;
mod sqlite;
mod totals;
mod transactions;

use billhook::error::{Error, Result};
use billhook::store::db::Value;
use billhook::store::mirror::{Resource, Seen};
use billhook::store::revenue::Since;
use billhook::store::subscriptions::Subscription;
use billhook::store::{Db, Tx, migrations, readings, subscriptions};
use billing::subscription::Status;
use jiff::Timestamp;

use crate::harness::Database;

/// Runs each test of the suite on both databases.
macro_rules! on_both {
    ($($module:ident :: $test:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test] async fn $test() { super::$module::$test(super::Database::sqlite()).await; })*
        }
        mod on_postgres {
            $(#[tokio::test] async fn $test() { super::$module::$test(super::Database::postgres()).await; })*
        }
    };
}

on_both! {
    people::the_schema_comes_up_once,
    people::a_schema_of_a_newer_version_is_refused_by_name,
    people::an_email_and_a_customer_belong_to_one_user_each,
    people::a_user_that_cannot_be_linked_is_not_added,
    people::s34_hostile_text_is_kept_as_it_is,
    people::sessions_end_when_they_are_over_or_ended,
    totals::i07_totals_are_the_sums_of_their_rows_after_any_history,
    totals::totals_that_are_wrong_are_found_and_mended,
    totals::a_subscription_that_is_seen_again_unchanged_moves_nothing,
    totals::parts_that_changed_name_the_subscriptions_made_of_them,
    pages::i15_pages_joined_are_the_whole_list_also_where_instants_are_equal,
    pages::i15_a_row_that_comes_or_goes_between_two_pages_moves_no_other,
    pages::i16_a_filter_shows_what_a_naive_filter_shows,
    pages::a_customer_sees_their_own_invoices_and_payment_methods_only,
    log::an_entry_is_read_back_as_it_was_written,
    log::an_id_that_is_a_ulid_is_told_as_it_was_sent,
    log::i04_an_id_is_known_on_its_day_and_for_ever_where_it_is_history,
    log::i04_old_and_new_ids_in_one_group_are_numbered_as_one_by_one,
    log::a_users_entries_are_their_own_and_in_order,
    log::i04_an_entry_told_by_many_at_once_is_there_once,
    log::positions_have_no_gap_and_no_reader_skips_one,
    log::ids_are_forgotten_by_the_day_and_nothing_else_is,
    log::accounts_move_with_their_position_or_not_at_all,
    log::days_add_up_and_are_paged_as_a_list_would_be,
    log::a_lease_has_one_holder_and_a_token_that_grows,
    transactions::readers_see_one_snapshot,
    transactions::f10_a_panic_leaves_nothing_and_the_store_goes_on,
    transactions::an_error_leaves_nothing,
    transactions::f11_a_caller_who_goes_away_leaves_the_whole_or_nothing,
    transactions::f20_a_database_that_hangs_is_not_called_writable_at_the_next_question,
    transactions::fifty_writers_at_once_lose_no_update,
    transactions::fifty_writers_over_two_handles_lose_no_update,
    transactions::only_the_changes_of_what_was_committed_are_told,
}

/// A handle on the database, without a schema.
async fn bare(database: &Database) -> Db {
    let address = database.address();
    tokio::task::spawn_blocking(move || Db::open(&address)).await.expect("a thread").expect("a database")
}

/// A handle on the database, the schema up to date.
async fn open(database: &Database) -> Db {
    let db = bare(database).await;
    migrations::run(&db).await.expect("a schema");
    db
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("instant")
}

/// The code under which an error is told.
fn code(error: &Error) -> &'static str {
    match error {
        Error::NotFound => "not_found",
        Error::Invalid(_) => "invalid",
        Error::Conflict { code, .. } | Error::Upstream { code, .. } => code,
        Error::Internal(_) => "internal",
        other => panic!("unexpected: {other:?}"),
    }
}

/// A counter among the facts, read and written back by Rust: what a lost update would show in.
fn increment(tx: &mut Tx<'_>) -> Result<i64> {
    let sql = "SELECT value FROM facts WHERE name = 'counter'";
    let before = tx.row(sql, &[])?.map_or(Ok("0".to_owned()), |row| row.text(0))?;
    let before: i64 = before.parse().expect("a number");
    tx.run(
        "INSERT INTO facts (name, value) VALUES ('counter', ?1) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        &[Value::from((before + 1).to_string())],
    )?;
    Ok(before + 1)
}

async fn counter(db: &Db) -> i64 {
    let row = db.read(|tx| tx.row("SELECT value FROM facts WHERE name = 'counter'", &[])).await.expect("a read");
    row.map_or(0, |row| row.text(0).expect("text").parse().expect("number"))
}

/// A monthly subscription of professional at 49.00 USD.
fn professional(id: &str, created: i64) -> Subscription {
    Subscription {
        id: id.to_owned(),
        customer: Some("cus_1".to_owned()),
        status: Status::Active,
        tier: "professional".to_owned(),
        currency: "usd".to_owned(),
        amount_minor: Some(4900),
        interval: Some("month".to_owned()),
        interval_count: Some(1),
        monthly_minor: 4900,
        value_until: None,
        period: None,
        anchor: None,
        cancel_at_period_end: false,
        created: at(created),
        fault: None,
    }
}

/// A cause of its own, with a date that may lie before the last.
fn since(tx: &mut Tx<'_>) -> Result<Since> {
    let ticket = readings::take_ticket(tx)?;
    Ok(Since { at: at(ticket % 7), cause: format!("look {ticket}"), exact: false })
}

fn save(tx: &mut Tx<'_>, row: &Subscription, parts: &[String]) -> Result<()> {
    let raw = format!("{row:?}");
    let since = since(tx)?;
    subscriptions::save(
        tx,
        Seen { resource: Resource::Subscriptions, id: &row.id, raw: &raw, run: 1 },
        row,
        parts,
        &since,
        &Vec::new,
    )
}
