//! Accounts as they were written down last, and what moves with them: sums by day, closed periods, warnings.
//!
//! All of it belongs to one position of the log, the fact `accounts_position`, and moves in one transaction with it. What was
//! thrown away and counted anew is another edition, the fact `accounts_edition`: it may stand where the former one stood.

use billing::usage::PICO_IN_CREDIT;

use super::db::{Arg, Dialect, Row, Value, args};
use super::{Tx, facts};
use crate::error::{Error, Result};

/// An account, written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub user: String,
    pub shard: i64,
    /// Of the last entry in it.
    pub position: i64,
    pub state: Vec<u8>,
}

/// What a user used of a type on a local day, or what was added to that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Day {
    /// Days since 1970 of the local date.
    pub day: i64,
    pub user: String,
    pub event_type: String,
    /// Millionths.
    pub quantity: i64,
    pub events: i64,
    /// Of a credit.
    pub cost_pico: i128,
}

/// A credit period that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    pub user: String,
    pub start_ms: i64,
    pub end_ms: i64,
    /// Of the entry that closed it.
    pub position: i64,
    /// JSON text.
    pub summary: String,
}

/// An account came to so many per cent of its credits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub user: String,
    pub period_start_ms: i64,
    pub percent: i64,
    pub position: i64,
    pub at_ms: i64,
}

/// Everything that is written down at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    pub accounts: Vec<Snapshot>,
    pub days: Vec<Day>,
    pub closed: Vec<Closed>,
    pub warnings: Vec<Warning>,
}

/// Where the written accounts stand: two that differ are not the same accounts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stand {
    pub edition: i64,
    /// The position that they belong to.
    pub position: i64,
}

impl Stand {
    /// Whether these are the accounts of that stand, or what they have become.
    pub fn follows(self, before: Self) -> bool {
        self.edition == before.edition && self.position >= before.position
    }
}

/// Where the accounts stand.
pub fn stand(tx: &mut Tx<'_>) -> Result<Stand> {
    let number = |stored: Option<String>| stored.map_or(Ok(0), |text| text.parse());
    let (edition, position) = facts::both(tx, facts::ACCOUNTS_EDITION, facts::ACCOUNTS_POSITION)?;
    let impossible = |_| Error::internal("impossible fact: accounts_edition or accounts_position");
    Ok(Stand { edition: number(edition).map_err(impossible)?, position: number(position).map_err(impossible)? })
}

/// The position that the accounts belong to.
pub fn position(tx: &mut Tx<'_>) -> Result<i64> {
    Ok(stand(tx)?.position)
}

/// The state of an account as it was written down.
pub fn get(tx: &mut Tx<'_>, user: &str) -> Result<Option<Vec<u8>>> {
    Ok(whole(tx, user)?.map(|account| account.state))
}

/// An account as it was written down, whole.
pub fn whole(tx: &mut Tx<'_>, user: &str) -> Result<Option<Snapshot>> {
    let row = tx.row("SELECT user_id, shard, position, state FROM accounts WHERE user_id = ?1", args![user])?;
    row.as_ref().map(snapshot).transpose()
}

fn snapshot(row: &Row) -> Result<Snapshot> {
    Ok(Snapshot { user: row.text(0)?, shard: row.int(1)?, position: row.int(2)?, state: row.bytes(3)?.to_vec() })
}

/// Accounts in the order of their users, after this one.
pub fn page(tx: &mut Tx<'_>, after: &str, most: i64) -> Result<Vec<Snapshot>> {
    tx.rows(
        "SELECT user_id, shard, position, state FROM accounts WHERE user_id > ?1 ORDER BY user_id LIMIT ?2",
        args![after, most],
    )?
    .iter()
    .map(snapshot)
    .collect()
}

/// Accounts after this one, up to that one, whose users nobody knows.
pub fn strangers(tx: &mut Tx<'_>, after: &str, to: &str) -> Result<Vec<String>> {
    let sql = "SELECT a.user_id FROM accounts a WHERE a.user_id > ?1 AND a.user_id <= ?2
         AND NOT EXISTS (SELECT 1 FROM users u WHERE u.id = a.user_id) ORDER BY a.user_id";
    tx.rows(sql, args![after, to])?.iter().map(|row| row.text(0)).collect()
}

/// The accounts of a shard.
pub fn of_shard(tx: &mut Tx<'_>, shard: i64) -> Result<Vec<Snapshot>> {
    tx.rows("SELECT user_id, shard, position, state FROM accounts WHERE shard = ?1 ORDER BY user_id", args![shard])?
        .iter()
        .map(snapshot)
        .collect()
}

pub fn count(tx: &mut Tx<'_>) -> Result<u64> {
    tx.row("SELECT COUNT(*) FROM accounts", args![])?.map_or(Ok(0), |row| row.count(0))
}

/// Writes a page down, if the accounts still stand where it begins; whether it was.
pub fn turn(tx: &mut Tx<'_>, from: Stand, to: i64, page: &Page) -> Result<bool> {
    if stand(tx)? != from {
        return Ok(false);
    }
    save_accounts(tx, &page.accounts)?;
    add_days(tx, &page.days)?;
    for closed in &page.closed {
        tx.run(
            "INSERT INTO usage_periods (user_id, start_ms, end_ms, position, summary) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (user_id, start_ms) DO NOTHING",
            args![&closed.user, closed.start_ms, closed.end_ms, closed.position, &closed.summary],
        )?;
    }
    for warning in &page.warnings {
        tx.run(
            "INSERT INTO usage_warnings (user_id, period_start_ms, percent, position, at_ms) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (user_id, period_start_ms, percent) DO NOTHING",
            args![&warning.user, warning.period_start_ms, warning.percent, warning.position, warning.at_ms],
        )?;
    }
    facts::set(tx, facts::ACCOUNTS_POSITION, &to.to_string())?;
    Ok(true)
}

fn save_accounts(tx: &mut Tx<'_>, accounts: &[Snapshot]) -> Result<()> {
    if accounts.is_empty() {
        return Ok(());
    }
    if tx.dialect() == Dialect::Postgres {
        let texts = Value::Texts(accounts.iter().map(|account| Some(account.user.clone())).collect());
        let ints = |of: fn(&Snapshot) -> i64| Value::Ints(accounts.iter().map(of).collect());
        let states = Value::Blobs(accounts.iter().map(|account| account.state.clone()).collect());
        let args = [texts, ints(|account| account.shard), ints(|account| account.position), states];
        tx.run(
            "INSERT INTO accounts (user_id, shard, position, state)
             SELECT * FROM UNNEST(?1::TEXT[], ?2::BIGINT[], ?3::BIGINT[], ?4::BYTEA[])
             ON CONFLICT (user_id) DO UPDATE SET position = excluded.position, state = excluded.state",
            &args,
        )?;
        return Ok(());
    }
    tx.many(
        "INSERT INTO accounts (user_id, shard, position, state) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (user_id) DO UPDATE SET position = excluded.position, state = excluded.state",
        |insert| {
            for account in accounts {
                let row = [Arg::Text(&account.user), Arg::Int(account.shard), Arg::Int(account.position)];
                insert(&[row[0], row[1], row[2], Arg::Bytes(&account.state)])?;
            }
            Ok(())
        },
    )
}

fn add_days(tx: &mut Tx<'_>, days: &[Day]) -> Result<()> {
    if days.is_empty() {
        return Ok(());
    }
    let split = |day: &Day| -> Result<(i64, i64)> {
        let whole = i64::try_from(day.cost_pico.div_euclid(PICO_IN_CREDIT)).map_err(Error::internal)?;
        Ok((whole, i64::try_from(day.cost_pico.rem_euclid(PICO_IN_CREDIT)).map_err(Error::internal)?))
    };
    let costs = days.iter().map(split).collect::<Result<Vec<_>>>()?;
    if tx.dialect() == Dialect::Postgres {
        let ints = |of: fn(&Day) -> i64| Value::Ints(days.iter().map(of).collect());
        let texts = |of: fn(&Day) -> &String| Value::Texts(days.iter().map(|day| Some(of(day).clone())).collect());
        let args = [
            ints(|day| day.day),
            texts(|day| &day.user),
            texts(|day| &day.event_type),
            ints(|day| day.quantity),
            ints(|day| day.events),
            Value::Ints(costs.iter().map(|(whole, _)| *whole).collect()),
            Value::Ints(costs.iter().map(|(_, pico)| *pico).collect()),
        ];
        tx.run(
            "INSERT INTO usage_days (day, user_id, type, quantity_micro, events, cost_whole, cost_pico)
             SELECT * FROM UNNEST(?1::BIGINT[], ?2::TEXT[], ?3::TEXT[], ?4::BIGINT[], ?5::BIGINT[], ?6::BIGINT[], ?7::BIGINT[])
             ON CONFLICT (day, user_id, type) DO UPDATE SET quantity_micro = usage_days.quantity_micro + excluded.quantity_micro,
                 events = usage_days.events + excluded.events, cost_whole = usage_days.cost_whole + excluded.cost_whole,
                 cost_pico = usage_days.cost_pico + excluded.cost_pico",
            &args,
        )?;
        return Ok(());
    }
    tx.many(
        "INSERT INTO usage_days (day, user_id, type, quantity_micro, events, cost_whole, cost_pico)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (day, user_id, type) DO UPDATE SET quantity_micro = usage_days.quantity_micro + excluded.quantity_micro,
             events = usage_days.events + excluded.events, cost_whole = usage_days.cost_whole + excluded.cost_whole,
             cost_pico = usage_days.cost_pico + excluded.cost_pico",
        |insert| {
            for (day, (whole, pico)) in days.iter().zip(&costs) {
                insert(&[
                    Arg::Int(day.day),
                    Arg::Text(&day.user),
                    Arg::Text(&day.event_type),
                    Arg::Int(day.quantity),
                    Arg::Int(day.events),
                    Arg::Int(*whole),
                    Arg::Int(*pico),
                ])?;
            }
            Ok(())
        },
    )
}

/// Which days are asked for; `after` is the last row of the page before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DaysAsked {
    pub user: Option<String>,
    pub event_type: Option<String>,
    pub from: Option<i64>,
    /// The last day, itself included.
    pub to: Option<i64>,
    pub after: Option<(i64, String, String)>,
}

/// A page of days, newest first, then by user and type.
pub fn days(tx: &mut Tx<'_>, asked: &DaysAsked, most: i64) -> Result<Vec<Day>> {
    let (after_day, after_user, after_type) = asked.after.clone().unwrap_or((i64::MAX, String::new(), String::new()));
    let (from, to) = (asked.from.unwrap_or(i64::MIN), asked.to.unwrap_or(i64::MAX).min(after_day));
    let event_type = asked.event_type.as_deref();
    let rows = match asked.user.as_deref() {
        Some(user) => tx.rows(
            "SELECT day, user_id, type, quantity_micro, events, cost_whole, cost_pico FROM usage_days
             WHERE user_id = ?1 AND day >= ?2 AND day <= ?3 AND (day < ?4 OR (day = ?4 AND type > ?5))
                 AND (?6 = '' OR type = ?6) ORDER BY day DESC, type LIMIT ?7",
            args![user, from, to, after_day, after_type, event_type.unwrap_or_default(), most],
        )?,
        None => tx.rows(
            "SELECT day, user_id, type, quantity_micro, events, cost_whole, cost_pico FROM usage_days
             WHERE day >= ?1 AND day <= ?2 AND (day < ?3 OR (day = ?3 AND (user_id > ?4 OR (user_id = ?4 AND type > ?5))))
                 AND (?6 = '' OR type = ?6) ORDER BY day DESC, user_id, type LIMIT ?7",
            args![from, to, after_day, after_user, after_type, event_type.unwrap_or_default(), most],
        )?,
    };
    rows.iter()
        .map(|row| {
            Ok(Day {
                day: row.int(0)?,
                user: row.text(1)?,
                event_type: row.text(2)?,
                quantity: row.int(3)?,
                events: row.int(4)?,
                cost_pico: i128::from(row.int(5)?) * PICO_IN_CREDIT + i128::from(row.int(6)?),
            })
        })
        .collect()
}

/// Closed periods in the order of their users and beginnings, after this one.
pub fn periods(tx: &mut Tx<'_>, (user, start_ms): &(String, i64), most: i64) -> Result<Vec<Closed>> {
    tx.rows(
        "SELECT user_id, start_ms, end_ms, position, summary FROM usage_periods WHERE (user_id, start_ms) > (?1, ?2)
         ORDER BY user_id, start_ms LIMIT ?3",
        args![user, *start_ms, most],
    )?
    .iter()
    .map(|row| {
        Ok(Closed {
            user: row.text(0)?,
            start_ms: row.int(1)?,
            end_ms: row.int(2)?,
            position: row.int(3)?,
            summary: row.text(4)?,
        })
    })
    .collect()
}

/// Warnings in the order of their users, periods and percentages, after this one.
pub fn warnings(
    tx: &mut Tx<'_>,
    (user, period_start_ms, percent): &(String, i64, i64),
    most: i64,
) -> Result<Vec<Warning>> {
    tx.rows(
        "SELECT user_id, period_start_ms, percent, position, at_ms FROM usage_warnings
         WHERE (user_id, period_start_ms, percent) > (?1, ?2, ?3) ORDER BY user_id, period_start_ms, percent LIMIT ?4",
        args![user, *period_start_ms, *percent, most],
    )?
    .iter()
    .map(|row| {
        Ok(Warning {
            user: row.text(0)?,
            period_start_ms: row.int(1)?,
            percent: row.int(2)?,
            position: row.int(3)?,
            at_ms: row.int(4)?,
        })
    })
    .collect()
}

/// Forgets everything that was written down, so that it is folded anew from the log; where the accounts stand then. Every process
/// that has some of the former edition in memory sees by it that they are of no use any more.
pub fn forget(tx: &mut Tx<'_>) -> Result<Stand> {
    for sql in
        ["DELETE FROM accounts", "DELETE FROM usage_days", "DELETE FROM usage_periods", "DELETE FROM usage_warnings"]
    {
        tx.run(sql, args![])?;
    }
    let anew = Stand { edition: stand(tx)?.edition + 1, position: 0 };
    facts::set(tx, facts::ACCOUNTS_EDITION, &anew.edition.to_string())?;
    facts::set(tx, facts::ACCOUNTS_POSITION, "0")?;
    Ok(anew)
}
