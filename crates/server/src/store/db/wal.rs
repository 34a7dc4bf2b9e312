//! SQLite's write-ahead log: how often it was committed to, how long it is, and that it stays short beside long reads (F-17).
//!
//! A log begins anew only when nobody reads what lies in it. Reads that overlap for ever, or one that never ends, would let it
//! grow until the disk is full.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;

/// From this length on the writer waits until nobody reads what lies in the log, and lets it begin anew.
const LONG: u64 = 64 << 20;
/// From this length on a read that has lasted a while is ended.
const TOO_LONG: u64 = 128 << 20;
const A_WHILE: Duration = Duration::from_secs(1);
/// How long everybody else waits for the database, and the writer for the readers.
pub(super) const BUSY: Duration = Duration::from_secs(5);
const ROOM: Duration = Duration::from_secs(1);

/// The index of the log (sqlite.org/walformat.html), which every process shares.
///
/// The file is never closed while the process lives: closing any descriptor of it would drop SQLite's locks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wal(&'static File);

impl Wal {
    pub(super) fn open(database: &Path) -> std::io::Result<Self> {
        let mut name = database.as_os_str().to_owned();
        name.push("-shm");
        Ok(Self(Box::leak(Box::new(File::open(PathBuf::from(name))?))))
    }

    /// SQLite's own count of committed transactions: the field `iChange`.
    pub(super) fn commits(self) -> Option<u32> {
        self.bytes_at(8).map(u32::from_ne_bytes)
    }

    /// How much of the file is in use: the fields `szPage` and `mxFrame`.
    fn length(self) -> u64 {
        let (Some(page), Some(frames)) = (self.bytes_at(14), self.bytes_at(16)) else { return 0 };
        let page = u64::from(u16::from_ne_bytes(page));
        // The largest page, of 65,536 bytes, is written as 1; each frame has a header of 24 bytes.
        let page = if page == 1 { 65_536 } else { page };
        u64::from(u32::from_ne_bytes(frames)) * (page + 24)
    }

    fn bytes_at<const N: usize>(self, offset: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.0.read_exact_at(&mut bytes, offset).ok().map(|()| bytes)
    }

    pub(super) fn reading(self) -> Reading {
        Reading { wal: self, began: Instant::now() }
    }
}

/// A read that has begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    wal: Wal,
    began: Instant,
}

impl Reading {
    /// Whether the log cannot wait for it any longer.
    pub(super) fn must_give_way(self) -> bool {
        self.began.elapsed() > A_WHILE && self.wal.length() > TOO_LONG
    }
}

/// The writer's care for the log.
pub(super) struct Room {
    wal: Wal,
    /// When it looks next.
    next: u64,
}

impl Room {
    pub(super) fn new(wal: Wal) -> Self {
        Self { wal, next: LONG }
    }

    /// Lets a long log begin anew. Who reads meanwhile is waited for, but not for long.
    pub(super) fn make(&mut self, connection: &Connection) {
        let length = self.wal.length();
        if length < self.next {
            return;
        }
        let _ = connection.busy_timeout(ROOM);
        let is_busy: Result<bool, _> = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
        let _ = connection.busy_timeout(BUSY);
        if let Ok(false) = is_busy {
            self.next = LONG;
            return;
        }
        // Soon again: on a busy machine a second may pass without the one moment that is needed.
        self.next = length + LONG / 4;
        tracing::warn!(
            length,
            "the write-ahead log is long and cannot begin anew: somebody has been reading for a while"
        );
    }
}
