//! An account as bytes: equal accounts give equal bytes, and the bytes give the account back.
//!
//! A version, then the members in the order of the struct. Numbers are written in groups of seven bits, the lowest first,
//! the top bit saying that more follow; those with a sign by turns (0, -1, 1, -2, …). Text is its length and its bytes.

use std::fmt;
use std::sync::Arc;

use super::packs::{Kept, Packs};
use super::period::{Period, Segment, Span};
use super::{Account, Kind};
use crate::currency::Currency;
use crate::entry::{NotationError, Pack, Terms};
use crate::money::Money;
use crate::usage::{Credits, Quantity};

/// The first byte. Another one is another format, and the log makes a new snapshot.
const VERSION: u8 = 1;

/// Why bytes are no account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotError {
    /// Of a version that this program does not know.
    Version(Option<u8>),
    /// They end too early, go on too long, or hold what no account holds.
    Malformed {
        /// At which byte.
        at: usize,
    },
    /// The terms or a pack in them cannot be read.
    Notation(NotationError),
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::Version(Some(version)) => write!(f, "version {version} of a snapshot is not known"),
            SnapshotError::Version(None) => f.write_str("the snapshot is empty"),
            SnapshotError::Malformed { at } => write!(f, "the snapshot is damaged at byte {at}"),
            SnapshotError::Notation(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SnapshotError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SnapshotError::Notation(error) => Some(error),
            SnapshotError::Version(_) | SnapshotError::Malformed { .. } => None,
        }
    }
}

impl From<NotationError> for SnapshotError {
    fn from(error: NotationError) -> SnapshotError {
        SnapshotError::Notation(error)
    }
}

impl Account {
    /// The account as bytes, version first. Equal accounts give equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer(vec![VERSION]);
        out.number(self.position);
        out.natural(u128::from(self.entries));
        out.number(self.received_ms);
        out.text(&self.period.terms.encode());
        out.period(&self.period);
        let same = self.before.terms == self.period.terms;
        out.flag(same);
        if !same {
            out.text(&self.before.terms.encode());
        }
        out.period(&self.before);
        out.flag(self.before_open);
        out.span(self.day);
        out.span(self.yesterday);
        out.list(&self.kinds, |out, kind| {
            out.text(&kind.name);
            for sum in kind.sums() {
                out.number(sum.micro());
            }
        });
        out.list(&self.packs.0, |out, kept| {
            out.text(&kept.pack.encode());
            for amount in [kept.left, kept.used, kept.used_before] {
                out.number(amount);
            }
        });
        out.0
    }

    /// Reads what [`Account::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Account, SnapshotError> {
        match bytes.first() {
            Some(&VERSION) => {}
            other => return Err(SnapshotError::Version(other.copied())),
        }
        let mut from = Reader { bytes, at: 1 };
        let (position, entries, received_ms) = (from.number()?, from.natural()?, from.number()?);
        let terms = Arc::new(Terms::parse(from.text()?)?);
        let period = from.period(&terms)?;
        let terms_before = if from.flag()? { terms } else { Arc::new(Terms::parse(from.text()?)?) };
        let before = from.period(&terms_before)?;
        let before_open = from.flag()?;
        let (day, yesterday) = (from.span()?, from.span()?);
        let kinds = from.list(Reader::kind)?;
        let packs = Packs(from.list(Reader::pack)?);
        from.finish()?;
        Ok(Account { position, entries, received_ms, period, before, before_open, day, yesterday, kinds, packs })
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn natural(&mut self, number: u128) {
        let mut rest = number;
        loop {
            let low = u8::try_from(rest & 0x7f).unwrap_or(0x7f);
            rest = rest.wrapping_shr(7);
            if rest == 0 {
                return self.0.push(low);
            }
            self.0.push(low | 0x80);
        }
    }

    fn number(&mut self, number: impl Into<i128>) {
        let number = number.into();
        self.natural((number.wrapping_shl(1) ^ number.wrapping_shr(127)).cast_unsigned());
    }

    fn flag(&mut self, flag: bool) {
        self.0.push(u8::from(flag));
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    fn length(&mut self, length: usize) {
        self.natural(u128::try_from(length).unwrap_or(u128::MAX));
    }

    fn span(&mut self, span: Span) {
        self.number(span.start_ms);
        self.number(span.end_ms);
    }

    fn list<T>(&mut self, items: &[T], each: impl Fn(&mut Writer, &T)) {
        self.length(items.len());
        for item in items {
            each(self, item);
        }
    }

    /// Without its terms, which come before it.
    fn period(&mut self, period: &Period) {
        self.span(period.span);
        self.number(period.since_ms);
        self.number(period.included.micro());
        self.number(period.used_pico);
        self.0.push(period.warned);
        self.list(&period.segments, |out, segment| {
            out.text(&segment.tier);
            out.number(segment.price_per_1k.minor());
            out.text(segment.price_per_1k.currency().code());
            out.number(segment.overage_pico);
        });
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn malformed(&self) -> SnapshotError {
        SnapshotError::Malformed { at: self.at }
    }

    fn byte(&mut self) -> Result<u8, SnapshotError> {
        let byte = *self.bytes.get(self.at).ok_or_else(|| self.malformed())?;
        self.at = self.at.saturating_add(1);
        Ok(byte)
    }

    fn natural<N: TryFrom<u128>>(&mut self) -> Result<N, SnapshotError> {
        let (mut number, mut shift) = (0_u128, 0_u32);
        loop {
            let byte = self.byte()?;
            let part = u128::from(byte & 0x7f);
            let placed = part.checked_shl(shift).filter(|placed| placed.checked_shr(shift) == Some(part));
            number |= placed.ok_or_else(|| self.malformed())?;
            if byte & 0x80 == 0 {
                return N::try_from(number).map_err(|_| self.malformed());
            }
            shift = shift.saturating_add(7);
        }
    }

    fn number<N: TryFrom<i128>>(&mut self) -> Result<N, SnapshotError> {
        let turns: u128 = self.natural()?;
        let number = turns.wrapping_shr(1).cast_signed() ^ (turns & 1).cast_signed().wrapping_neg();
        N::try_from(number).map_err(|_| self.malformed())
    }

    fn flag(&mut self) -> Result<bool, SnapshotError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.malformed()),
        }
    }

    fn text(&mut self) -> Result<&'a str, SnapshotError> {
        let length: usize = self.natural()?;
        let end = self.at.saturating_add(length);
        let text = self.bytes.get(self.at..end).and_then(|bytes| std::str::from_utf8(bytes).ok());
        let text = text.ok_or_else(|| self.malformed())?;
        self.at = end;
        Ok(text)
    }

    fn span(&mut self) -> Result<Span, SnapshotError> {
        let span = Span { start_ms: self.number()?, end_ms: self.number()? };
        if span.start_ms <= span.end_ms { Ok(span) } else { Err(self.malformed()) }
    }

    fn list<T>(&mut self, each: impl Fn(&mut Self) -> Result<T, SnapshotError>) -> Result<Vec<T>, SnapshotError> {
        let length: usize = self.natural()?;
        // No capacity ahead of the bytes: a damaged length must not ask for memory.
        (0..length).map(|_| each(self)).collect()
    }

    fn period(&mut self, terms: &Arc<Terms>) -> Result<Period, SnapshotError> {
        Ok(Period {
            terms: Arc::clone(terms),
            span: self.span()?,
            since_ms: self.number()?,
            included: Credits::from_micro(self.number()?),
            used_pico: self.number()?,
            warned: self.byte()?,
            segments: self.list(Reader::segment)?,
        })
    }

    fn segment(&mut self) -> Result<Segment, SnapshotError> {
        let (tier, minor) = (self.text()?.to_owned(), self.number()?);
        let code = self.text()?;
        let currency = Currency::parse(code).ok().filter(|currency| currency.code() == code);
        let currency = currency.ok_or_else(|| self.malformed())?;
        Ok(Segment { tier, price_per_1k: Money::new(minor, currency), overage_pico: self.number()? })
    }

    fn kind(&mut self) -> Result<Kind, SnapshotError> {
        let name = Arc::from(self.text()?);
        let mut sum = || self.number().map(Quantity::from_micro);
        Ok(Kind { name, day: sum()?, yesterday: sum()?, period: sum()?, before: sum()? })
    }

    fn pack(&mut self) -> Result<Kept, SnapshotError> {
        let pack = Pack::parse(self.text()?)?;
        Ok(Kept { pack, left: self.number()?, used: self.number()?, used_before: self.number()? })
    }

    fn finish(self) -> Result<(), SnapshotError> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.malformed()) }
    }
}
