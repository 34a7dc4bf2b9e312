//! The two channels of a command: what it was asked for on stdout, everything else on stderr.

use std::io::Write;

/// A line on stdout. A reader that went away is no error of ours.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
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
