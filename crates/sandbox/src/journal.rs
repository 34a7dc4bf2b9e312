//! The state file: one JSON object a line, a header first, then what changed. It survives a restart, and a torn last
//! line (the machine went away while writing) is cut off. One sandbox at a time writes it.

use crate::idempotency::{Idempotency, Saved};
use crate::kind::Kind;
use crate::store::{Change, Store};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::sync::Arc;

const FORMAT: u32 = 1;

/// First line: which seed this state grew from, and when.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Header {
    billhook_sandbox: u32,
    pub(crate) seed: String,
    pub(crate) born: i64,
}

impl Header {
    pub(crate) fn new(seed: &str, born: i64) -> Header {
        Header { billhook_sandbox: FORMAT, seed: seed.to_owned(), born }
    }
}

/// An open state file.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    /// Lines that were read at the start, most of them perhaps about objects that have changed since.
    lines: usize,
}

/// The right to write a state file, for as long as this lives. It is a lock on a file of its own beside the state file,
/// because that one is replaced when it is compacted, and a lock would go with the old one.
#[derive(Debug)]
pub(crate) struct Hold {
    _locked: File,
}

impl Hold {
    /// Errors: another process, or another sandbox of this one, holds it (`ResourceBusy`); the lock file cannot be made.
    pub(crate) fn of(state: &Path) -> io::Result<Hold> {
        let path = state.with_added_extension("lock");
        let locked = private(&path)?;
        match locked.try_lock() {
            Ok(()) => Ok(Hold { _locked: locked }),
            Err(TryLockError::WouldBlock) => {
                let why = format!(
                    "the state file {} is in use by another sandbox; stop that one or name another file",
                    state.display()
                );
                Err(io::Error::new(io::ErrorKind::ResourceBusy, why))
            }
            Err(TryLockError::Error(error)) => {
                Err(io::Error::new(error.kind(), format!("locking {}: {error}", path.display())))
            }
        }
    }
}

/// Opens or creates a file for appending that nobody else may read: its objects have people's names and addresses in them.
fn private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[derive(Deserialize)]
struct Line {
    put: Option<String>,
    sequence: Option<u64>,
    object: Option<Value>,
    drop: Option<String>,
    id: Option<String>,
    saved: Option<Saved>,
}

fn bad(line: usize, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("sandbox state, line {line}: {why}"))
}

/// Reads the header of an existing state file; none where there is no file or an empty one.
pub(crate) fn header(path: &Path) -> io::Result<Option<Header>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut first = String::new();
    BufReader::new(file).read_line(&mut first)?;
    if first.is_empty() {
        return Ok(None);
    }
    let header: Header = serde_json::from_str(&first).map_err(|error| bad(1, &error.to_string()))?;
    if header.billhook_sandbox != FORMAT {
        return Err(bad(1, "written by another version of this program; start afresh or move the file away"));
    }
    Ok(Some(header))
}

/// Applies all lines after the header, then opens the file for more.
pub(crate) fn replay(path: &Path, store: &mut Store, idempotency: &mut Idempotency) -> io::Result<Journal> {
    let file = OpenOptions::new().read(true).append(true).open(path)?;
    let mut reader = BufReader::new(&file);
    let (mut good, mut number, mut text) = (0_u64, 0_usize, String::new());
    loop {
        text.clear();
        let length = reader.read_line(&mut text)?;
        if length == 0 {
            break;
        }
        number += 1;
        if !text.ends_with('\n') {
            break;
        }
        if number > 1 {
            let line: Line = serde_json::from_str(&text).map_err(|error| bad(number, &error.to_string()))?;
            apply(line, store, idempotency).map_err(|why| bad(number, why))?;
        }
        good += u64::try_from(length).unwrap_or_default();
    }
    drop(reader);
    file.set_len(good)?;
    Ok(Journal { file, lines: number })
}

fn apply(line: Line, store: &mut Store, idempotency: &mut Idempotency) -> Result<(), &'static str> {
    if let Some(saved) = line.saved {
        idempotency.restore(saved);
        return Ok(());
    }
    let kind = |name: &str| Kind::parse(name).ok_or("unknown kind of object");
    match (line.put, line.sequence, line.object, line.drop, line.id) {
        (Some(name), Some(sequence), Some(object), None, _) => store.restore(kind(&name)?, sequence, object),
        (None, _, None, Some(name), Some(id)) => store.forget(kind(&name)?, &id),
        _ => return Err("neither an object, a deletion nor a saved answer"),
    }
    Ok(())
}

impl Journal {
    /// Starts a new state file. What a crash left in its place goes, and the mode that it had.
    pub(crate) fn create(path: &Path, header: &Header) -> io::Result<Journal> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = private(path)?;
        let mut text = serde_json::to_vec(header)?;
        text.push(b'\n');
        file.write_all(&text)?;
        Ok(Journal { file, lines: 1 })
    }

    /// Writes the file anew where most of its lines are history, through a temporary file, so that a crash costs nothing.
    pub(crate) fn compacted(
        self,
        path: &Path,
        header: &Header,
        store: &Store,
        saved: &Idempotency,
    ) -> io::Result<Journal> {
        let held: usize = Kind::ALL.iter().map(|kind| store.held(*kind).count()).sum();
        if self.lines < 10_000 || self.lines < held * 4 {
            return Ok(self);
        }
        let temporary = path.with_extension("compacting");
        let mut fresh = Journal::create(&temporary, header)?;
        let mut changes: Vec<Change> = store.deleted().map(|(kind, id)| Change::Drop(kind, id.to_owned())).collect();
        for kind in Kind::ALL {
            changes.extend(store.held(kind).map(|(sequence, object)| Change::Put(kind, sequence, Arc::clone(object))));
        }
        fresh.write(&changes, None)?;
        for saved in saved.all() {
            fresh.write(&[], Some(saved))?;
        }
        fresh.file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        Ok(fresh)
    }

    /// Writes the changes of one request in one piece.
    pub(crate) fn write(&mut self, changes: &[Change], saved: Option<&Saved>) -> io::Result<()> {
        let mut text = Vec::new();
        for change in changes {
            let line = match change {
                Change::Put(kind, sequence, object) => {
                    json!({"put": kind.name(), "sequence": sequence, "object": **object})
                }
                Change::Drop(kind, id) => json!({"drop": kind.name(), "id": id}),
            };
            serde_json::to_writer(&mut text, &line)?;
            text.push(b'\n');
        }
        if let Some(saved) = saved {
            serde_json::to_writer(&mut text, &json!({ "saved": saved }))?;
            text.push(b'\n');
        }
        self.file.write_all(&text)
    }
}
