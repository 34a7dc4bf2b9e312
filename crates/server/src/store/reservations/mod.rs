//! Reservations that were open when they were last written down: for a restart, and for commits that come after it.
//!
//! Several times a second one note says what was opened and what ended since the note before it ([`note`]). Most reservations are over before
//! their note is [`OLD_MS`] old. Then it goes, and what it leaves behind has a row of its own in `reservations`. What is open is what the rows and the
//! notes say together: whoever was opened, and was not ended after that. In which order they are read does not matter.

pub mod note;

use std::collections::{HashMap, HashSet};
use std::hash::Hasher;

use siphasher::sip128::{Hash128, Hasher128, SipHasher13};

use super::Tx;
use super::db::{Arg, Row, args};
use crate::error::{Error, Result};
use note::{Damaged, Note};

/// How long one is kept after it has expired: a commit may still come, and counts.
const KEPT_MS: i64 = 86_400_000;
/// So old a note goes.
pub const OLD_MS: i64 = 30_000;
/// So long after everything in it is over by itself a note goes before that.
const OVER_MS: i64 = 5_000;
/// So many notes go at a time.
const NOTES_MAX: usize = 4;
/// So many get a row then that nobody resolved and whose time is over. Whoever reserves without end and never resolves must not fill the disk.
const OVER_MAX: usize = 128;

/// An open reservation, written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    pub id: String,
    pub user: String,
    pub kind: String,
    /// Millionths.
    pub quantity: i64,
    /// Microcredits.
    pub credits: i64,
    pub expires_ms: i64,
}

fn reservation(row: &Row) -> Result<Reservation> {
    Ok(Reservation {
        id: row.text(0)?,
        user: row.text(1)?,
        kind: row.text(2)?,
        quantity: row.int(3)?,
        credits: row.int(4)?,
        expires_ms: row.int(5)?,
    })
}

impl note::Opened<'_> {
    fn owned(&self) -> Reservation {
        Reservation {
            id: self.id.to_owned(),
            user: self.user.to_owned(),
            kind: self.kind.to_owned(),
            quantity: self.quantity,
            credits: self.credits,
            expires_ms: self.expires_ms,
        }
    }
}

/// Writes a note down. `id` is its own.
pub fn write(tx: &mut Tx<'_>, id: &str, now_ms: i64, note: &Note) -> Result<()> {
    let [opened, ended] = note.packed();
    let sql = "INSERT INTO reservation_notes (id, at_ms, until_ms, opened, ended) VALUES (?1, ?2, ?3, ?4, ?5)";
    tx.run(sql, args![id, now_ms, note.until_ms(), opened, ended]).map(drop)
}

/// Which ids each note names, as far as the notes were read: whoever looks for one id reads few of them. A note never changes.
#[derive(Debug, Default)]
pub struct Index(HashMap<String, Vec<u64>>);

impl Index {
    /// The notes that may name this id. Reads those that have come since it was last asked, and forgets those that have gone.
    fn naming(&mut self, tx: &mut Tx<'_>, id: &str) -> Result<Vec<String>> {
        let rows = tx.rows("SELECT id FROM reservation_notes", args![])?;
        let mut there = rows.iter().map(|row| row.text(0)).collect::<Result<HashSet<_>>>()?;
        self.0.retain(|note, _| there.contains(note));
        there.retain(|note| !self.0.contains_key(note));
        for note in there {
            let named = named(tx, &note)?;
            self.0.insert(note, named);
        }
        let asked = short(id);
        let naming = self.0.iter().filter(|(_, named)| named.binary_search(&asked).is_ok());
        Ok(naming.map(|(note, _)| note.clone()).collect())
    }
}

/// The ids that a note names, in eight bytes each and in the order of those. What is damaged names nobody.
fn named(tx: &mut Tx<'_>, note: &str) -> Result<Vec<u64>> {
    let mut named = Vec::new();
    if let Some(row) = one_note(tx, note)? {
        let _damaged = note::opened(row.bytes(0)?, |opened| named.push(short(opened.id)));
        let _damaged = note::ended(row.bytes(1)?, |ended| named.push(short(ended.id)));
    }
    named.sort_unstable();
    named.dedup();
    named.shrink_to_fit();
    Ok(named)
}

fn one_note(tx: &mut Tx<'_>, note: &str) -> Result<Option<Row>> {
    tx.row("SELECT opened, ended FROM reservation_notes WHERE id = ?1", args![note])
}

/// One that nobody is known to have resolved.
pub fn get(tx: &mut Tx<'_>, index: &mut Index, id: &str) -> Result<Option<Reservation>> {
    let sql = "SELECT id, user_id, type, quantity_micro, credits_micro, expires_ms FROM reservations WHERE id = ?1";
    let mut found = tx.row(sql, args![id])?.map(|row| reservation(&row)).transpose()?;
    let mut ended_ms = i64::MIN;
    for note in index.naming(tx, id)? {
        let Some(row) = one_note(tx, &note)? else { continue };
        let _damaged = note::opened(row.bytes(0)?, |opened| {
            let is_newer = found.as_ref().is_none_or(|found| found.expires_ms < opened.expires_ms);
            if opened.id == id && is_newer {
                found = Some(opened.owned());
            }
        });
        let _damaged = note::ended(row.bytes(1)?, |ended| {
            if ended.id == id {
                ended_ms = ended_ms.max(ended.expires_ms);
            }
        });
    }
    Ok(found.filter(|found| found.expires_ms > ended_ms))
}

/// Those that have not expired, by their ids.
pub fn open(tx: &mut Tx<'_>, now_ms: i64) -> Result<Vec<Reservation>> {
    let sql =
        "SELECT id, user_id, type, quantity_micro, credits_micro, expires_ms FROM reservations WHERE expires_ms > ?1";
    let mut open: Vec<Reservation> = tx.rows(sql, args![now_ms])?.iter().map(reservation).collect::<Result<_>>()?;
    let notes = notes(tx)?;
    for row in &notes {
        let _damaged = note::opened(row.bytes(1)?, |opened| {
            if opened.expires_ms > now_ms {
                open.push(opened.owned());
            }
        });
    }
    let ends = Ends::of(&notes, 2)?;
    open.retain(|row| !ends.have(&row.id, row.expires_ms));
    open.sort_unstable_by(|one, other| (&one.id, other.expires_ms).cmp(&(&other.id, one.expires_ms)));
    open.dedup_by(|later, kept| later.id == kept.id);
    Ok(open)
}

/// The notes that cannot be read, or not all of them.
pub fn damaged(tx: &mut Tx<'_>) -> Result<Vec<String>> {
    let is_whole = |row: &Row| -> Result<bool> {
        let (opened, ended) = (note::opened(row.bytes(1)?, |_| ()), note::ended(row.bytes(2)?, |_| ()));
        Ok(opened.and(ended).is_ok())
    };
    let mut damaged = Vec::new();
    for row in notes(tx)? {
        if !is_whole(&row)? {
            damaged.push(row.text(0)?);
        }
    }
    Ok(damaged)
}

fn notes(tx: &mut Tx<'_>) -> Result<Vec<Row>> {
    tx.rows("SELECT id, opened, ended FROM reservation_notes ORDER BY at_ms, id", args![])
}

/// Until when the lives of each id have ended.
#[derive(Default)]
struct Ends(HashMap<u128, i64>);

impl Ends {
    /// Those in this column of the notes. What is damaged says nothing.
    fn of(notes: &[Row], column: usize) -> Result<Self> {
        let mut ends = Self::default();
        for row in notes {
            let _damaged = note::ended(row.bytes(column)?, |ended| {
                let until_ms = ends.0.entry(hash(ended.id)).or_insert(i64::MIN);
                *until_ms = ended.expires_ms.max(*until_ms);
            });
        }
        Ok(ends)
    }

    fn have(&self, id: &str, expires_ms: i64) -> bool {
        self.0.get(&hash(id)).is_some_and(|until_ms| expires_ms <= *until_ms)
    }
}

/// An id in sixteen bytes.
fn hash(id: &str) -> u128 {
    hashed(id).as_u128()
}

/// An id in eight bytes, which two may share: whoever goes by it compares the ids.
fn short(id: &str) -> u64 {
    hashed(id).h1
}

fn hashed(id: &str) -> Hash128 {
    let mut hasher = SipHasher13::new_with_keys(0x6269_6c6c_686f_6f6b, 0x7265_7365_7276_6564);
    hasher.write(id.as_bytes());
    hasher.finish128()
}

/// Notes that go, and what they leave behind.
#[derive(Debug, Default, Clone)]
pub struct Going {
    notes: Vec<String>,
    /// Get a row.
    left: Vec<Reservation>,
    /// Have none any more.
    ended: Vec<(String, i64)>,
    /// How many of `left` are over.
    over: usize,
}

/// The oldest notes whose time has come; nothing where there is none. One that is damaged stays until somebody has seen it.
pub fn going(tx: &mut Tx<'_>, now_ms: i64) -> Result<Option<Going>> {
    let sql = "SELECT id FROM reservation_notes WHERE at_ms <= ?1 OR until_ms <= ?2 ORDER BY at_ms, id";
    let due = tx.rows(sql, args![now_ms - OLD_MS, now_ms - OVER_MS])?;
    if due.is_empty() {
        return Ok(None);
    }
    let ends = Ends::of(&tx.rows("SELECT ended FROM reservation_notes", args![])?, 0)?;
    let mut going = Going::default();
    for due in due {
        let Some(row) = one_note(tx, &due.text(0)?)? else { continue };
        if going.take(row.bytes(0)?, row.bytes(1)?, &ends, now_ms).is_ok() {
            going.notes.push(due.text(0)?);
        }
        if going.notes.len() == NOTES_MAX {
            break;
        }
    }
    Ok(Some(going).filter(|going| !going.notes.is_empty()))
}

impl Going {
    fn take(&mut self, opened: &[u8], ended: &[u8], ends: &Ends, now_ms: i64) -> Result<(), Damaged> {
        note::ended(ended, |_| ())?;
        note::opened(opened, |opened| {
            let is_over = opened.expires_ms <= now_ms;
            if (!is_over || self.over < OVER_MAX) && !ends.have(opened.id, opened.expires_ms) {
                self.over += usize::from(is_over);
                self.left.push(opened.owned());
            }
        })?;
        note::ended(ended, |ended| {
            if ended.is_old {
                self.ended.push((ended.id.to_owned(), ended.expires_ms));
            }
        })
    }
}

/// Lets them go. Nothing of it is done where another process was faster.
pub fn let_go(tx: &mut Tx<'_>, going: &Going) -> Result<()> {
    for id in &going.notes {
        if tx.run("DELETE FROM reservation_notes WHERE id = ?1", args![id])? == 0 {
            return Err(Error::internal("a note has gone already"));
        }
    }
    let sql = "INSERT INTO reservations (id, user_id, type, quantity_micro, credits_micro, expires_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO UPDATE SET user_id = excluded.user_id, type = excluded.type,
         quantity_micro = excluded.quantity_micro, credits_micro = excluded.credits_micro, expires_ms = excluded.expires_ms
         WHERE reservations.expires_ms < excluded.expires_ms";
    tx.many(sql, |save| {
        going.left.iter().try_for_each(|row| {
            let (quantity, credits) = (Arg::Int(row.quantity), Arg::Int(row.credits));
            let [id, user, kind] = [&row.id, &row.user, &row.kind].map(|text| Arg::Text(text));
            save(&[id, user, kind, quantity, credits, Arg::Int(row.expires_ms)]).map(drop)
        })
    })?;
    tx.many("DELETE FROM reservations WHERE id = ?1 AND expires_ms <= ?2", |end| {
        going.ended.iter().try_for_each(|(id, until_ms)| end(&[Arg::Text(id), Arg::Int(*until_ms)]).map(drop))
    })
}

/// Takes away what cannot be open; `note_id` is that of the note which says so of what stands in another.
pub fn take_away(tx: &mut Tx<'_>, note_id: &str, now_ms: i64, wrong: &[Reservation]) -> Result<()> {
    let (mut pen, mut note) = (note::Pen::default(), Note::default());
    for Reservation { id, expires_ms, .. } in wrong {
        tx.run("DELETE FROM reservations WHERE id = ?1", args![id])?;
        pen.ended(&note::Ended { id, expires_ms: *expires_ms, is_old: true });
    }
    pen.hand_over(&mut note);
    write(tx, note_id, now_ms, &note)
}

/// Throws notes away.
pub fn discard(tx: &mut Tx<'_>, notes: &[String]) -> Result<()> {
    notes.iter().try_for_each(|id| tx.run("DELETE FROM reservation_notes WHERE id = ?1", args![id]).map(drop))
}

/// Removes what is long over.
pub fn forget_old(tx: &mut Tx<'_>, now_ms: i64) -> Result<()> {
    tx.run("DELETE FROM reservations WHERE expires_ms <= ?1", args![now_ms - KEPT_MS]).map(drop)
}
