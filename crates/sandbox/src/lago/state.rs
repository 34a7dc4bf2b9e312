//! The state file: a header, then every request that changed something, with its time. What a Lago is follows from what it
//! was asked and when, so it is asked again at the start. A torn last line is cut off. One sandbox at a time writes a file.
//!
//! Webhooks that were not delivered before a restart are not delivered after it.

use super::Store;
use super::asked::Arrived;
use super::instant::Micros;
use crate::journal::Hold;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

const FORMAT: u32 = 1;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    billhook_lago_sandbox: u32,
    store: Store,
    /// When it all began, in microseconds since 1970.
    born: Micros,
}

/// A request that changed something.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Change {
    pub(super) at: Micros,
    /// Whether batches were stored as before 1.39.
    pub(super) legacy: bool,
    method: String,
    path: String,
    query: String,
    body: String,
}

impl Change {
    pub(super) fn of(arrived: &Arrived, at: Micros, legacy: bool) -> Change {
        let Arrived { method, path, query, body, .. } = arrived.clone();
        Change { at, legacy, method, path, query, body }
    }

    /// As it arrived then; that it was allowed has been decided.
    pub(super) fn arrived(self) -> Arrived {
        let Change { method, path, query, body, .. } = self;
        Arrived { method, path, query, authorization: None, is_json: true, body }
    }
}

/// An open state file.
#[derive(Debug)]
pub(super) struct State {
    file: File,
    _hold: Hold,
}

/// What was found in a state file.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) state: State,
    pub(super) born: Micros,
    /// In the order in which they happened.
    pub(super) changes: Vec<Change>,
}

/// Opens a state file or begins one.
///
/// Errors: another sandbox has it; it cannot be read or written; it is of another version or another store, or broken.
pub(super) fn open(path: &Path, store: Store, now: Micros) -> io::Result<Found> {
    let hold = Hold::of(path)?;
    let mut options = OpenOptions::new();
    options.create(true).append(true).read(true);
    // Customers' names and addresses are in it.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let fresh = Header { billhook_lago_sandbox: FORMAT, store, born: now };
    let lines = whole_lines(&file)?;
    let Some((first, rest)) = lines.split_first() else {
        write(&mut file, &fresh)?;
        return Ok(Found { state: State { file, _hold: hold }, born: now, changes: Vec::new() });
    };
    let header: Header = serde_json::from_str(first).map_err(|error| bad(1, &error.to_string()))?;
    if header != (Header { born: header.born, ..fresh }) {
        return Err(bad(1, "written by another version of this program or with another store"));
    }
    let change = |(number, line): (usize, &String)| {
        serde_json::from_str(line).map_err(|error| bad(number + 2, &error.to_string()))
    };
    let changes = rest.iter().enumerate().map(change).collect::<io::Result<_>>()?;
    Ok(Found { state: State { file, _hold: hold }, born: header.born, changes })
}

/// All lines that are whole; what follows them is cut off the file.
fn whole_lines(file: &File) -> io::Result<Vec<String>> {
    let (mut reader, mut lines, mut good) = (BufReader::new(file), Vec::new(), 0_u64);
    loop {
        let mut line = String::new();
        let length = reader.read_line(&mut line)?;
        if !line.ends_with('\n') {
            file.set_len(good)?;
            return Ok(lines);
        }
        good += length as u64;
        lines.push(line);
    }
}

fn bad(line: usize, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("Lago sandbox state, line {line}: {why}"))
}

fn write(file: &mut File, line: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    file.write_all(&text)
}

impl State {
    /// Writes a change down, before it is answered.
    pub(super) fn keep(&mut self, change: &Change) -> io::Result<()> {
        write(&mut self.file, change)
    }
}
