//! The one-line notation in which terms and packs lie in the log: a version, then `name=value` words in a fixed order.
//!
//! What is written today is read for years, so a value is written in one way only, nothing is left to a default, and a
//! member that is not known is an error: skipping it would replay another history than the one that happened.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write};
use std::str::FromStr;

use jiff::Timestamp;

use super::TermsError;
use crate::time::{self, TimeError};
use crate::usage::{Credits, UsageError};

/// The first word of every line.
const VERSION: &str = "1";

/// Why a line of the log could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotationError {
    /// Written by a version that this program does not know.
    Version(String),
    /// The member is not there.
    Missing(&'static str),
    /// There is no such member, or it is there twice.
    Unexpected(String),
    /// The member's value says nothing.
    Malformed {
        /// The member.
        member: &'static str,
        /// Its value.
        text: String,
    },
    /// The member is not a number of credits.
    Credits {
        /// The member.
        member: &'static str,
        /// What is wrong with it.
        cause: UsageError,
    },
    /// The member is not a time or a zone.
    Time {
        /// The member.
        member: &'static str,
        /// What is wrong with it.
        cause: TimeError,
    },
    /// Each member can be read, but these are no terms.
    Terms(TermsError),
}

impl fmt::Display for NotationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotationError::Version(text) => write!(f, "version {text:?} is not known"),
            NotationError::Missing(member) => write!(f, "{member} is missing"),
            NotationError::Unexpected(member) => write!(f, "{member:?} was not expected"),
            NotationError::Malformed { member, text } => write!(f, "{member} cannot be {text:?}"),
            NotationError::Credits { member, cause } => write!(f, "{member}: {cause}"),
            NotationError::Time { member, cause } => write!(f, "{member}: {cause}"),
            NotationError::Terms(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for NotationError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            NotationError::Credits { cause, .. } => Some(cause),
            NotationError::Time { cause, .. } => Some(cause),
            NotationError::Terms(error) => Some(error),
            NotationError::Version(_)
            | NotationError::Missing(_)
            | NotationError::Unexpected(_)
            | NotationError::Malformed { .. } => None,
        }
    }
}

impl NotationError {
    pub(crate) fn malformed(member: &'static str, text: &str) -> NotationError {
        NotationError::Malformed { member, text: text.chars().take(64).collect() }
    }
}

/// A line that is being written.
pub(super) struct Line(String);

impl Line {
    pub(super) fn new() -> Line {
        Line(VERSION.to_owned())
    }

    /// A value that has no spaces by its nature.
    pub(super) fn plain(&mut self, member: &str, value: impl Display) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, " {member}={value}");
    }

    pub(super) fn optional(&mut self, member: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.plain(member, value);
        }
    }

    /// Free text: all but visible ASCII is written as `%` and two hex digits for each byte.
    pub(super) fn text(&mut self, member: &str, value: &str) {
        self.plain(member, "");
        for byte in value.bytes() {
            if byte.is_ascii_graphic() && byte != b'%' {
                self.0.push(char::from(byte));
            } else {
                let _ = write!(self.0, "%{byte:02x}");
            }
        }
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// The members of a line that are still to be read.
pub(super) struct Members<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Members<'a> {
    pub(super) fn read(line: &'a str) -> Result<Members<'a>, NotationError> {
        let mut words = line.split(' ');
        let version = words.next().unwrap_or_default();
        if version != VERSION {
            return Err(NotationError::Version(version.chars().take(64).collect()));
        }
        let mut members = BTreeMap::new();
        for word in words {
            let unexpected = || NotationError::Unexpected(word.chars().take(64).collect());
            let (member, value) = word.split_once('=').ok_or_else(unexpected)?;
            if members.insert(member, value).is_some() {
                return Err(unexpected());
            }
        }
        Ok(Members(members))
    }

    pub(super) fn optional(&mut self, member: &'static str) -> Option<&'a str> {
        self.0.remove(member)
    }

    pub(super) fn required(&mut self, member: &'static str) -> Result<&'a str, NotationError> {
        self.optional(member).ok_or(NotationError::Missing(member))
    }

    pub(super) fn text(&mut self, member: &'static str) -> Result<String, NotationError> {
        let written = self.required(member)?;
        unescaped(written).ok_or_else(|| NotationError::malformed(member, written))
    }

    pub(super) fn number<N: FromStr + Display>(&mut self, member: &'static str) -> Result<N, NotationError> {
        whole(member, self.required(member)?)
    }

    pub(super) fn optional_number(&mut self, member: &'static str) -> Result<Option<i64>, NotationError> {
        self.optional(member).map(|text| whole(member, text)).transpose()
    }

    pub(super) fn credits(&mut self, member: &'static str) -> Result<Credits, NotationError> {
        credits(member, self.required(member)?)
    }

    pub(super) fn optional_credits(&mut self, member: &'static str) -> Result<Option<Credits>, NotationError> {
        self.optional(member).map(|text| credits(member, text)).transpose()
    }

    /// Nothing may be left over.
    pub(super) fn finish(self) -> Result<(), NotationError> {
        match self.0.into_keys().next() {
            Some(member) => Err(NotationError::Unexpected(member.chars().take(64).collect())),
            None => Ok(()),
        }
    }
}

/// An instant by RFC 3339, to the nanosecond.
pub(super) fn instant(member: &'static str, text: &str) -> Result<Timestamp, NotationError> {
    let at = time::parse(text).map_err(|cause| NotationError::Time { member, cause })?;
    if at.to_string() == text { Ok(at) } else { Err(NotationError::malformed(member, text)) }
}

fn credits(member: &'static str, text: &str) -> Result<Credits, NotationError> {
    Credits::parse(text).map_err(|cause| NotationError::Credits { member, cause })
}

fn whole<N: FromStr + Display>(member: &'static str, text: &str) -> Result<N, NotationError> {
    let number: N = text.parse().map_err(|_| NotationError::malformed(member, text))?;
    // One number, one text: no `+1`, no `007`, no `-0`.
    if number.to_string() == text { Ok(number) } else { Err(NotationError::malformed(member, text)) }
}

fn unescaped(written: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(written.len());
    let mut rest = written;
    while let Some((plain, escaped)) = rest.split_once('%') {
        bytes.extend_from_slice(plain.as_bytes());
        bytes.push(u8::from_str_radix(escaped.get(..2)?, 16).ok()?);
        rest = escaped.get(2..)?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok()
}
