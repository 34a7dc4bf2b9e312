//! The state file: one JSON object a line, a header first, then what changed. It survives a restart, and a torn last
//! line (the machine went away while writing) is cut off. One sandbox at a time writes it.

use crate::events::{self, Cause, Event};
use crate::idempotency::{Idempotency, Saved};
use crate::kind::Kind;
use crate::store::{Change, Store};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

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
    event: Option<EventLine>,
    delivered: Option<(String, String)>,
    at: Option<i64>,
}

/// An event as it is written down. It tells of the object of the line before, unless it brings its own.
#[derive(Debug, Deserialize)]
struct EventLine {
    id: String,
    name: String,
    created: i64,
    sequence: u64,
    cause: Cause,
    to: Vec<String>,
    /// Whether the event says what was there before.
    previous: bool,
    object: Option<Value>,
    before: Option<Value>,
}

fn event_line(event: &Event, whole: bool) -> Value {
    let to: Vec<&str> = event.to.iter().map(|id| &**id).collect();
    let mut line = json!({
        "id": &*event.id, "name": event.name, "created": event.key.0, "sequence": event.key.1, "cause": event.cause,
        "to": to, "previous": event.before.is_some()
    });
    if whole {
        line["object"] = (*event.object).clone();
        line["before"] = event.before.as_ref().map_or(Value::Null, |before| (**before).clone());
    }
    json!({ "event": line })
}

/// What a journal is read into.
pub(crate) struct Memory<'a> {
    pub(crate) store: &'a mut Store,
    pub(crate) idempotency: &'a mut Idempotency,
    pub(crate) events: &'a mut events::Log,
    /// Deliveries that are over: event and endpoint.
    pub(crate) delivered: Vec<(String, String)>,
    /// The object of the last line, and what stood there before.
    last: Option<(Arc<Value>, Option<Arc<Value>>)>,
}

impl<'a> Memory<'a> {
    pub(crate) fn new(store: &'a mut Store, idempotency: &'a mut Idempotency, events: &'a mut events::Log) -> Self {
        Memory { store, idempotency, events, delivered: Vec::new(), last: None }
    }

    fn apply(&mut self, line: Line) -> Result<(), &'static str> {
        if let Some(saved) = line.saved {
            self.idempotency.restore(saved);
            return Ok(());
        }
        if let Some(event) = line.event {
            return self.event(event);
        }
        if line.delivered.is_some() || line.at.is_some() {
            self.delivered.extend(line.delivered);
            self.store.reached = line.at.unwrap_or(self.store.reached);
            return Ok(());
        }
        let kind = |name: &str| Kind::parse(name).ok_or("unknown kind of object");
        match (line.put, line.sequence, line.object, line.drop, line.id) {
            (Some(name), Some(sequence), Some(object), None, _) => {
                let object = Arc::new(object);
                let before = self.store.restore(kind(&name)?, sequence, Arc::clone(&object));
                self.last = Some((object, before));
            }
            (None, _, None, Some(name), Some(id)) => self.store.bury(kind(&name)?, &id),
            _ => return Err("neither an object, a deletion, an event nor a saved answer"),
        }
        Ok(())
    }

    fn event(&mut self, line: EventLine) -> Result<(), &'static str> {
        let name = events::names().get(line.name.as_str()).ok_or("unknown type of event")?;
        let (object, before) = match line.object {
            Some(object) => (Arc::new(object), line.before.map(Arc::new)),
            None => self.last.clone().ok_or("an event of nothing")?,
        };
        self.store.used(line.sequence);
        let pending = AtomicUsize::new(line.to.len());
        self.events.push(Arc::new(Event {
            id: Arc::from(line.id),
            key: (line.created, line.sequence),
            name,
            object,
            before: before.filter(|_| line.previous),
            cause: line.cause,
            to: line.to.into_iter().map(Arc::from).collect(),
            pending,
        }));
        Ok(())
    }
}

/// One line that is to be written.
pub(crate) enum Entry<'a> {
    Change(&'a Change),
    /// An event; whole where the line before does not hold its object.
    Event(&'a Event, bool),
    Delivered(&'a str, &'a str),
    Saved(&'a Saved),
    /// Everything that was due until this instant has happened.
    At(i64),
}

impl Entry<'_> {
    fn write(&self, text: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Entry::Change(Change::Put { kind, key, object, .. }) => put(text, *kind, key.1, object),
            Entry::Change(Change::Drop { kind, before, .. }) => {
                line(text, &json!({"drop": kind.name(), "id": before["id"]}))
            }
            Entry::Change(Change::Tell { .. }) => Ok(()),
            Entry::Event(event, whole) => line(text, &event_line(event, *whole)),
            Entry::Delivered(event, endpoint) => line(text, &json!({"delivered": [event, endpoint]})),
            Entry::Saved(saved) => line(text, &json!({ "saved": saved })),
            Entry::At(at) => line(text, &json!({ "at": at })),
        }
    }
}

/// The line of an object. It is not put together as a value first, because that would copy the object.
fn put(text: &mut Vec<u8>, kind: Kind, sequence: u64, object: &Value) -> io::Result<()> {
    write!(text, r#"{{"put":"{}","sequence":{sequence},"object":"#, kind.name())?;
    serde_json::to_writer(&mut *text, object)?;
    text.extend_from_slice(b"}\n");
    Ok(())
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
pub(crate) fn replay(path: &Path, memory: &mut Memory<'_>) -> io::Result<Journal> {
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
            memory.apply(line).map_err(|why| bad(number, why))?;
        }
        good += u64::try_from(length).unwrap_or_default();
    }
    drop(reader);
    file.set_len(good)?;
    Ok(Journal { file, lines: number })
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
    pub(crate) fn compacted(self, path: &Path, header: &Header, memory: &Memory<'_>) -> io::Result<Journal> {
        let store = &memory.store;
        let held: usize = Kind::ALL.iter().map(|kind| store.held(*kind).count()).sum();
        if self.lines < 10_000 || self.lines < (held + memory.events.all().count()) * 4 {
            return Ok(self);
        }
        let temporary = path.with_extension("compacting");
        let mut fresh = Journal::create(&temporary, header)?;
        let mut text = Vec::new();
        for (kind, id) in store.deleted() {
            line(&mut text, &json!({"drop": kind.name(), "id": id}))?;
        }
        for kind in Kind::ALL {
            for (sequence, object) in store.held(kind) {
                put(&mut text, kind, sequence, object)?;
            }
        }
        fresh.file.write_all(&text)?;
        let events = memory.events.all().map(|event| Entry::Event(event, true));
        let delivered = memory.delivered.iter().map(|(event, endpoint)| Entry::Delivered(event, endpoint));
        let saved = memory.idempotency.all().map(Entry::Saved);
        let at = (store.reached > 0).then_some(Entry::At(store.reached));
        fresh.write(&events.chain(delivered).chain(saved).chain(at).collect::<Vec<_>>())?;
        fresh.file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        Ok(fresh)
    }

    /// Writes the lines of one request in one piece.
    pub(crate) fn write(&mut self, entries: &[Entry<'_>]) -> io::Result<()> {
        let mut text = Vec::new();
        for entry in entries {
            entry.write(&mut text)?;
        }
        self.file.write_all(&text)
    }
}

fn line(text: &mut Vec<u8>, value: &Value) -> io::Result<()> {
    serde_json::to_writer(&mut *text, value)?;
    text.push(b'\n');
    Ok(())
}
