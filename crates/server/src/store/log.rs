//! The usage log: append-only, deduplicated, in one order without gaps. Everything that counts is in it.

mod ids;
pub mod ulid;

use std::sync::LazyLock;

use super::Tx;
use super::db::{Arg, Dialect, Row, Value, args};
use crate::error::{Error, Result};

pub use ids::{Known, day_back, days_between, forget_ids, known, known_among, lost_days, newest};

pub const DAY_MS: i64 = 86_400_000;
/// No window for live events is longer.
const LIVE_DAYS_MAX: i64 = 400;
/// Where the days of history begin among the ids.
const HISTORY: i64 = 1_000_000_000;
/// The day of ids that name something for ever: a correction, a pack.
pub const NAMED: i64 = 2_000_000_000;

/// What an entry does to an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something was used.
    Usage,
    /// A correction by hand, either way.
    Adjust,
    /// An earlier entry is taken back.
    Void,
    /// A pack of credits.
    Grant,
    Revoke,
    Expire,
    /// The terms of the account from here on.
    Plan,
}

/// Where an entry came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Our own JSON.
    Own,
    CloudEvents,
    /// Lago's wire.
    Lago,
    LiteLlm,
    /// History that was brought in.
    Backfill,
    CommandLine,
    /// The commit of a reservation.
    Reservation,
    /// The program itself: plans, expiries.
    Program,
    /// The log of the first version.
    FirstLog,
    /// Two users were made one.
    Merge,
}

macro_rules! stored {
    ($name:ident { $($variant:ident = $number:literal $text:literal),* $(,)? }) => {
        impl $name {
            /// As people read it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }

            fn number(self) -> i64 {
                match self { $(Self::$variant => $number),* }
            }

            fn of(number: i64) -> Result<Self> {
                match number {
                    $($number => Ok(Self::$variant),)*
                    _ => Err(Error::internal(format!("impossible row: {} {number}", stringify!($name)))),
                }
            }
        }
    };
}
stored!(Kind { Usage = 0 "usage", Adjust = 1 "adjust", Void = 2 "void", Grant = 3 "grant", Revoke = 4 "revoke",
    Expire = 5 "expire", Plan = 6 "plan" });
stored!(Source { Own = 0 "own", CloudEvents = 1 "cloudevents", Lago = 2 "lago", LiteLlm = 3 "litellm",
    Backfill = 4 "backfill", CommandLine = 5 "command_line", Reservation = 6 "reservation", Program = 7 "program",
    FirstLog = 8 "first_log", Merge = 9 "merge" });

impl Source {
    /// Whether it is read from a request, where its names and its properties are judged in the same pass.
    pub fn is_wire(self) -> bool {
        matches!(self, Self::Own | Self::CloudEvents | Self::Lago | Self::LiteLlm)
    }

    /// Whether it tells of times before this log: then an event whose period is over is shown on its day and counts for
    /// nothing else.
    pub fn is_history(self) -> bool {
        matches!(self, Self::Backfill | Self::FirstLog)
    }
}

/// The days under which an event of this time may be known: its UTC day, and that day of history.
pub fn days(event_ms: i64) -> [i64; 2] {
    let day = event_ms.div_euclid(DAY_MS);
    [day, day + HISTORY]
}

/// Which entry this is: ours of a day, for ever. A ULID or UUID as it is, everything else hashed.
pub type EntryId = [u8; 16];

/// An entry to be appended; already judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub kind: Kind,
    pub user: String,
    /// Empty where the kind has none.
    pub event_type: String,
    /// Millionths. A void's is what is taken back.
    pub quantity: i64,
    /// Millionths of a credit for one unit.
    pub weight: i64,
    pub event_ms: i64,
    pub received_ms: i64,
    pub id: EntryId,
    /// Of the content, for the question whether the same id came with the same content.
    pub fingerprint: i64,
    pub transaction_id: String,
    pub source: Source,
    /// Properties of usage; the terms or the pack of other kinds.
    pub body: Option<String>,
}

impl Entry {
    /// The day that the id belongs to: the UTC day of the event. Ids of history, and of what was given a name, lie beyond all
    /// days and are never forgotten.
    pub fn day(&self) -> i64 {
        let [day, history] = days(self.event_ms);
        match self.kind {
            Kind::Adjust | Kind::Void | Kind::Grant | Kind::Revoke | Kind::Expire => NAMED,
            Kind::Usage | Kind::Plan if self.source == Source::Backfill => history,
            Kind::Usage | Kind::Plan => day,
        }
    }

    /// Its transaction id as it is kept: nothing where that is its id, spelt as a ULID.
    fn name(&self) -> &str {
        if ulid::read(&self.transaction_id) == Some(self.id) { "" } else { &self.transaction_id }
    }

    /// The UTC day of the event and, of the commit of a reservation, the day on which it came: whoever commits again at another
    /// process may tell another time, and a hold ends within a day.
    pub fn told_and_came(&self) -> [i64; 2] {
        let day = self.event_ms.div_euclid(DAY_MS);
        [day, if self.source == Source::Reservation { self.received_ms.div_euclid(DAY_MS) } else { day }]
    }

    /// The day under which it is known beside its own: of a commit the day on which it came, of history its day as long as the same
    /// event may still come live.
    fn other_day(&self) -> Option<i64> {
        if self.source == Source::Backfill {
            let may_come = self.received_ms.saturating_sub(self.event_ms) < LIVE_DAYS_MAX * DAY_MS;
            return may_come.then(|| self.event_ms.div_euclid(DAY_MS));
        }
        let [told, came] = self.told_and_came();
        (told != came).then_some(came)
    }
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    pub position: i64,
    pub kind: Kind,
    pub user: String,
    pub event_type: String,
    pub quantity: i64,
    pub weight: i64,
    pub event_ms: i64,
    pub received_ms: i64,
    pub id: EntryId,
    pub transaction_id: String,
    pub source: Source,
    pub previous: Option<i64>,
    pub body: Option<String>,
}

/// What became of an entry that was to be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    At(i64),
    /// Its id was there already, or came twice in this call.
    Known(Known),
}

/// The position of the last entry; 0 in an empty log.
pub fn head(tx: &mut Tx<'_>) -> Result<i64> {
    tx.row("SELECT COALESCE(MAX(position), 0) FROM usage_log", args![])?.map_or(Ok(0), |row| row.int(0))
}

/// Holds the end of the log until this transaction ends, so that positions become visible in their order; the last one.
pub fn hold_head(tx: &mut Tx<'_>) -> Result<i64> {
    match tx.dialect() {
        // The one write transaction at a time holds everything.
        Dialect::Sqlite => head(tx),
        Dialect::Postgres => tx
            .row("SELECT position FROM usage_head WHERE one = 1 FOR UPDATE", args![])?
            .map_or_else(|| Err(Error::internal("usage_head is empty")), |row| row.int(0)),
    }
}

/// Leads from an entry that is appended (its place in the call, its position) to the one before it of the same user.
pub type Chain<'c> = &'c mut dyn FnMut(usize, i64) -> Option<i64>;

/// Appends entries behind `head`, which must be held. An entry whose id is known is not appended; the others follow each
/// other without a gap.
pub fn append(tx: &mut Tx<'_>, head: i64, entries: &[&Entry], chain: Chain<'_>) -> Result<Vec<Appended>> {
    let appended = match tx.dialect() {
        Dialect::Sqlite => append_rows(tx, head, entries, chain),
        Dialect::Postgres => append_columns(tx, head, entries),
    }?;
    for (entry, verdict) in entries.iter().zip(&appended) {
        if let (Appended::At(position), Some(day)) = (verdict, entry.other_day()) {
            tx.run(
                "INSERT INTO usage_ids (day, id, position, fingerprint) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
                args![day, entry.id.to_vec(), *position, entry.fingerprint],
            )?;
        }
    }
    Ok(appended)
}

/// The columns of an entry; SQLite has `previous` behind them. `Logged` is read in this order, `log_row` written.
macro_rules! columns {
    () => {
        "position, kind, user_id, type, quantity_micro, weight_micro, event_ms, received_ms, id, transaction_id, source, body"
    };
}

/// Rows that one statement inserts, where so many are at hand: running a statement costs about as much as a row.
const ABREAST: usize = 16;
/// Entries that go into both tables before the next ones do: so many stay in the processor's cache meanwhile.
const AT_HAND: usize = 512;
const ID: &str = "INSERT OR IGNORE INTO usage_ids (day, id, position, fingerprint) VALUES (?, ?, ?, ?)";
/// Or fail: a row that is there already undoes the whole transaction, so SQLite need not keep the pages of half a statement.
const ROW: &str = concat!(
    "INSERT OR FAIL INTO usage_log (",
    columns!(),
    ", previous) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
);
static IDS: LazyLock<String> = LazyLock::new(|| abreast(ID));
static ROWS: LazyLock<String> = LazyLock::new(|| abreast(ROW));

/// The same statement for many rows.
fn abreast(one: &str) -> String {
    let row = one.rsplit_once("VALUES").map_or("", |(_, row)| row);
    one.to_owned() + &format!(",{row}").repeat(ABREAST - 1)
}

fn append_rows(tx: &mut Tx<'_>, head: i64, entries: &[&Entry], chain: Chain<'_>) -> Result<Vec<Appended>> {
    let mut appended = Vec::with_capacity(entries.len());
    let mut position = head;
    let mut fresh = Vec::with_capacity(AT_HAND);
    for some in entries.chunks(AT_HAND) {
        let verdicts = append_ids(tx, &mut position, some)?;
        fresh.clear();
        for (place, (entry, verdict)) in (appended.len()..).zip(some.iter().zip(&verdicts)) {
            if let Appended::At(position) = *verdict {
                fresh.push((position, *entry, chain(place, position)));
            }
        }
        append_fresh(tx, &fresh)?;
        appended.extend(verdicts);
    }
    Ok(appended)
}

fn append_fresh(tx: &mut Tx<'_>, fresh: &[(i64, &Entry, Option<i64>)]) -> Result<()> {
    let (many, few) = fresh.split_at(fresh.len() - fresh.len() % ABREAST);
    if !many.is_empty() {
        let mut row = Vec::with_capacity(ABREAST * 13);
        tx.many(&ROWS, |insert| {
            for some in many.chunks(ABREAST) {
                row.clear();
                row.extend(some.iter().flat_map(log_row));
                insert(&row)?;
            }
            Ok(())
        })?;
    }
    if !few.is_empty() {
        tx.many(ROW, |insert| few.iter().try_for_each(|one| insert(&log_row(one)).map(drop)))?;
    }
    Ok(())
}

fn id_row(entry: &Entry, position: i64) -> [Arg<'_>; 4] {
    [Arg::Int(entry.day()), Arg::Bytes(&entry.id), Arg::Int(position), Arg::Int(entry.fingerprint)]
}

fn log_row<'e>((position, entry, previous): &(i64, &'e Entry, Option<i64>)) -> [Arg<'e>; 13] {
    [
        Arg::Int(*position),
        Arg::Int(entry.kind.number()),
        Arg::Text(&entry.user),
        Arg::Text(&entry.event_type),
        Arg::Int(entry.quantity),
        Arg::Int(entry.weight),
        Arg::Int(entry.event_ms),
        Arg::Int(entry.received_ms),
        Arg::Bytes(&entry.id),
        Arg::Text(entry.name()),
        Arg::Int(entry.source.number()),
        Arg::text_or_null(entry.body.as_deref()),
        previous.map_or(Arg::Null, Arg::Int),
    ]
}

/// Takes the ids that are not known, and gives each the next position after `last`, which moves with them.
fn append_ids(tx: &mut Tx<'_>, last: &mut i64, entries: &[&Entry]) -> Result<Vec<Appended>> {
    let mut appended = Vec::with_capacity(entries.len());
    // Until some are known: where one is, usually all that follow are as well, because a whole batch came again.
    let mut mixed = false;
    let whole = entries.len() - entries.len() % ABREAST;
    tx.many(&IDS, |insert| {
        let mut rows = Vec::with_capacity(ABREAST * 4);
        for some in entries[..whole].chunks(ABREAST) {
            rows.clear();
            rows.extend(some.iter().zip(*last + 1..).flat_map(|(entry, position)| id_row(entry, position)));
            mixed = insert(&rows)? != ABREAST as u64;
            if mixed {
                break;
            }
            appended.extend((*last + 1..).take(ABREAST).map(Appended::At));
            *last += i64::try_from(ABREAST).unwrap_or(i64::MAX);
        }
        Ok(())
    })?;
    if mixed {
        let some = &entries[appended.len()..][..ABREAST];
        appended.extend(close_gaps(tx, last, some)?);
    }
    tx.many(ID, |insert| {
        for entry in &entries[appended.len()..] {
            let next = *last + 1;
            let fresh = insert(&id_row(entry, next))? == 1;
            *last += i64::from(fresh);
            appended.push(if fresh { Appended::At(next) } else { UNSEEN });
        }
        Ok(())
    })?;
    for (entry, verdict) in entries.iter().zip(&mut appended) {
        if *verdict == UNSEEN {
            *verdict = Appended::Known(known(tx, entry.day(), &entry.id)?.ok_or_else(lost)?);
        }
    }
    Ok(appended)
}

/// Of ids that were inserted with a position each, those that were known already have left theirs free: what follows moves up.
fn close_gaps(tx: &mut Tx<'_>, last: &mut i64, entries: &[&Entry]) -> Result<Vec<Appended>> {
    let mut appended = Vec::with_capacity(entries.len());
    for (entry, given) in entries.iter().zip(*last + 1..) {
        let known = known(tx, entry.day(), &entry.id)?.ok_or_else(lost)?;
        if known.position != given {
            appended.push(Appended::Known(known));
            continue;
        }
        *last += 1;
        if given != *last {
            let sql = "UPDATE usage_ids SET position = ?3 WHERE day = ?1 AND id = ?2";
            tx.run(sql, args![entry.day(), entry.id.to_vec(), *last])?;
        }
        appended.push(Appended::At(*last));
    }
    Ok(appended)
}

/// Not looked up yet.
const UNSEEN: Appended = Appended::Known(Known { position: 0, fingerprint: 0 });

fn lost() -> Error {
    Error::internal("an id of the log was there and then was not")
}

/// The same with whole columns: two statements for a group, however large it is.
fn append_columns(tx: &mut Tx<'_>, head: i64, entries: &[&Entry]) -> Result<Vec<Appended>> {
    let asked: Vec<(i64, EntryId)> = entries.iter().map(|entry| (entry.day(), entry.id)).collect();
    let mut seen = known_among(tx, &asked)?;
    let mut position = head;
    let mut appended = Vec::with_capacity(entries.len());
    let mut fresh = Vec::with_capacity(entries.len());
    for &entry in entries {
        let key = (entry.day(), entry.id);
        if let Some(known) = seen.get(&key) {
            appended.push(Appended::Known(*known));
            continue;
        }
        position += 1;
        seen.insert(key, Known { position, fingerprint: entry.fingerprint });
        appended.push(Appended::At(position));
        fresh.push((position, entry));
    }
    if !fresh.is_empty() {
        insert_columns(tx, &fresh)?;
        tx.run("UPDATE usage_head SET position = ?1 WHERE one = 1", args![position])?;
    }
    Ok(appended)
}

fn insert_columns(tx: &mut Tx<'_>, fresh: &[(i64, &Entry)]) -> Result<()> {
    let ints = |of: fn(&Entry) -> i64| Value::Ints(fresh.iter().map(|(_, entry)| of(entry)).collect());
    let texts = |of: fn(&Entry) -> Option<String>| Value::Texts(fresh.iter().map(|(_, entry)| of(entry)).collect());
    tx.run(
        concat!(
            "WITH fresh AS (SELECT * FROM UNNEST(?1::BIGINT[], ?2::BIGINT[], ?3::TEXT[], ?4::TEXT[], ?5::BIGINT[],
                 ?6::BIGINT[], ?7::BIGINT[], ?8::BIGINT[], ?9::BYTEA[], ?10::TEXT[], ?11::BIGINT[], ?12::TEXT[],
                 ?13::BIGINT[], ?14::BIGINT[]) AS f (",
            columns!(),
            ", day, fingerprint)),
             ids AS (INSERT INTO usage_ids (day, id, position, fingerprint) SELECT day, id, position, fingerprint FROM fresh)
             INSERT INTO usage_log (",
            columns!(),
            ") SELECT ",
            columns!(),
            " FROM fresh"
        ),
        &[
            Value::Ints(fresh.iter().map(|(position, _)| *position).collect()),
            ints(|entry| entry.kind.number()),
            texts(|entry| Some(entry.user.clone())),
            texts(|entry| Some(entry.event_type.clone())),
            ints(|entry| entry.quantity),
            ints(|entry| entry.weight),
            ints(|entry| entry.event_ms),
            ints(|entry| entry.received_ms),
            Value::Blobs(fresh.iter().map(|(_, entry)| entry.id.to_vec()).collect()),
            texts(|entry| Some(entry.name().to_owned())),
            ints(|entry| entry.source.number()),
            texts(|entry| entry.body.clone()),
            ints(Entry::day),
            ints(|entry| entry.fingerprint),
        ],
    )?;
    Ok(())
}

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT ", columns!(), ", previous FROM usage_log ", $rest)
    };
}

/// One entry.
pub fn at(tx: &mut Tx<'_>, position: i64) -> Result<Option<Logged>> {
    tx.row(select!("WHERE position = ?1"), args![position])?.as_ref().map(logged).transpose()
}

/// The entries after a position, oldest first, at most so many.
pub fn read(tx: &mut Tx<'_>, after: i64, most: i64) -> Result<Vec<Logged>> {
    tx.rows(select!("WHERE position > ?1 ORDER BY position LIMIT ?2"), args![after, most])?.iter().map(logged).collect()
}

/// Usage with this transaction id among the entries after a position, up to another one.
pub fn usage_named(tx: &mut Tx<'_>, transaction_id: &str, after: i64, to: i64) -> Result<Vec<Logged>> {
    if transaction_id.is_empty() {
        return Ok(Vec::new());
    }
    tx.rows(
        select!(
            "WHERE position > ?1 AND position <= ?2 AND (transaction_id = ?3 OR transaction_id = '' AND id = ?4) AND kind = 0
             ORDER BY position"
        ),
        args![after, to, transaction_id, ulid::read(transaction_id).map(Vec::from).unwrap_or_default()],
    )?
    .iter()
    .map(logged)
    .collect()
}

/// How many entries of a user are read at a time by those who want many.
pub const PAGE: usize = 500;

/// A user's entries, newest first: `last` is the position of the newest one wanted, where the caller knows it.
pub fn of_user(tx: &mut Tx<'_>, user: &str, last: i64, most: usize) -> Result<Vec<Logged>> {
    if tx.dialect() == Dialect::Postgres {
        let rows = tx.rows(
            select!("WHERE user_id = ?1 AND position <= ?2 ORDER BY position DESC LIMIT ?3"),
            args![user, last, i64::try_from(most).unwrap_or(i64::MAX)],
        )?;
        return rows.iter().map(logged).collect();
    }
    // Each entry leads to the one before it: a page costs its own length, and appending costs no index.
    let mut page = Vec::new();
    let mut next = Some(last).filter(|last| *last > 0);
    while let (Some(position), true) = (next, page.len() < most) {
        let Some(entry) = at(tx, position)? else { break };
        if entry.user != user {
            return Err(Error::internal(format!("the entry {position} is not one of the user who led to it")));
        }
        next = entry.previous;
        page.push(entry);
    }
    Ok(page)
}

/// A user's entries behind a position of theirs (0: from the first) up to another, the oldest first.
pub fn of_user_between(tx: &mut Tx<'_>, user: &str, after: i64, to: i64) -> Result<Vec<Logged>> {
    let mut entries = Vec::new();
    let mut next = Some(to);
    while let Some(last) = next {
        let page = of_user(tx, user, last, PAGE)?;
        let oldest = page.last().filter(|oldest| page.len() == PAGE && oldest.position > after);
        next = oldest.and_then(|oldest| before(tx, oldest));
        entries.extend(page.into_iter().take_while(|entry| entry.position > after));
    }
    entries.reverse();
    Ok(entries)
}

/// Where the user's entry before this one can be looked for.
pub fn before(tx: &Tx<'_>, entry: &Logged) -> Option<i64> {
    match tx.dialect() {
        Dialect::Sqlite => entry.previous,
        Dialect::Postgres => entry.position.checked_sub(1).filter(|before| *before > 0),
    }
}

/// The user's last entry before a position; 0 where there is none. Reads the whole log on SQLite: for what should not happen.
pub fn last_of_user(tx: &mut Tx<'_>, user: &str, before: i64) -> Result<i64> {
    let sql = "SELECT COALESCE(MAX(position), 0) FROM usage_log WHERE user_id = ?1 AND position < ?2";
    tx.row(sql, args![user, before])?.map_or(Ok(0), |row| row.int(0))
}

fn entry_id(row: &Row, column: usize) -> Result<EntryId> {
    row.bytes(column)?.try_into().map_err(|_| Error::internal("impossible row: an id has 16 bytes"))
}

fn logged(row: &Row) -> Result<Logged> {
    let id = entry_id(row, 8)?;
    let name = row.text(9)?;
    Ok(Logged {
        position: row.int(0)?,
        kind: Kind::of(row.int(1)?)?,
        user: row.text(2)?,
        event_type: row.text(3)?,
        quantity: row.int(4)?,
        weight: row.int(5)?,
        event_ms: row.int(6)?,
        received_ms: row.int(7)?,
        id,
        transaction_id: if name.is_empty() { ulid::text(id) } else { name },
        source: Source::of(row.int(10)?)?,
        body: row.text_or_null(11)?,
        previous: row.int_or_null(12)?,
    })
}
