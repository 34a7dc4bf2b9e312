//! Who serves a SQLite file: one process at a time, because holds and rates are in its memory. It holds a lock beside the file,
//! which the kernel takes from it with its life. Commands beside it need no lock: what they write goes through the log.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{OpenError, sqlite_path};

/// The right to serve a file, for as long as this value lives.
#[derive(Debug)]
pub struct ServeLock {
    _lock: File,
}

/// Takes the right to serve the database at `address`; nothing where any number may serve it.
pub fn lock_for_serve(address: &str) -> Result<Option<ServeLock>, OpenError> {
    let Some(path) = sqlite_path(address) else { return Ok(None) };
    // By whatever name the file is called.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let failed = |problem: String| OpenError::Unusable(format!("{}: {problem}", path.display()).into());
    let lock = lock_file(&path).map_err(|error| failed(format!("the lock beside it: {error}")))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(ServeLock { _lock: lock })),
        Err(TryLockError::WouldBlock) => Err(failed("another billhook serve works on this file".to_owned())),
        Err(TryLockError::Error(error)) => Err(failed(format!("the lock beside it: {error}"))),
    }
}

/// A file of its own: SQLite's locks on the database would go with the first handle on it that is closed.
fn lock_file(path: &Path) -> std::io::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push("-serve");
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(name)
}
