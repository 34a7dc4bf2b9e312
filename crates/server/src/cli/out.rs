//! The two channels of a command: what it was asked for on stdout, everything else on stderr.

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether something that was asked for could not be said.
static UNSAID: AtomicBool = AtomicBool::new(false);

/// A line on stdout. A reader that went away is no error of ours.
pub fn say(line: &str) {
    write(format!("{line}\n").as_bytes());
}

/// The same with bytes as they are.
pub fn write(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    if let Err(error) = stdout.write_all(bytes).and_then(|()| stdout.flush())
        && error.kind() != ErrorKind::BrokenPipe
        && !UNSAID.swap(true, Ordering::Relaxed)
    {
        complain(&format!("standard output: {error}"));
    }
}

/// Whether everything that was asked for could be said.
pub fn is_said() -> bool {
    !UNSAID.load(Ordering::Relaxed)
}

/// A line on stderr.
pub fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "billhook: {line}");
}

/// A line on stderr that replaces the one before, on a terminal.
pub fn tell_progress(line: &str) {
    let _ = write!(std::io::stderr(), "\r\x1b[2K{line}");
    let _ = std::io::stderr().flush();
}
