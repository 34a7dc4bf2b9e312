//! A note: what was reserved and what ended in one moment, packed into one row, whatever its number.
//!
//! Each text is written as how much of it is that of the entry before it, and its rest; an instant as its distance from the one before; each
//! number as short as it is. An entry whose id shares nothing with the one before shares nothing at all: so what several pens have written can stand
//! in one note. What is packed ends with a checksum, so a row that is damaged is known as one and says nothing wrong.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// The first byte of what is packed in this way.
const FORM: u8 = 1;
const CHECKSUM: usize = 8;
/// Which of the texts of an entry its id is.
const ID: usize = 0;

/// What is to be written down next.
#[derive(Debug, Default)]
pub struct Note {
    opened: Vec<u8>,
    ended: Vec<u8>,
    /// When the last of what it names is over by itself.
    until_ms: i64,
}

/// A reservation in a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened<'n> {
    pub id: &'n str,
    pub user: &'n str,
    pub kind: &'n str,
    /// Millionths.
    pub quantity: i64,
    /// Microcredits.
    pub credits: i64,
    pub expires_ms: i64,
}

/// One that was committed or released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended<'n> {
    pub id: &'n str,
    pub expires_ms: i64,
    /// It was opened so long ago that it may have a row of its own by now.
    pub is_old: bool,
}

/// What no pen of ours has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damaged;

/// Writes what happens, entry by entry; what it has written is taken from it as a [`Note`].
#[derive(Debug, Default)]
pub struct Pen {
    opened: Lines,
    ended: Lines,
}

#[derive(Debug, Default)]
struct Lines {
    bytes: Vec<u8>,
    before: Before,
    until_ms: i64,
}

/// The entry before.
#[derive(Debug, Default)]
struct Before {
    texts: [Vec<u8>; 3],
    expires_ms: i64,
}

impl Pen {
    pub fn opened(&mut self, opened: &Opened<'_>) {
        let Opened { id, user, kind, quantity, credits, expires_ms } = opened;
        for (at, text) in [id, user, kind].into_iter().enumerate() {
            self.opened.text(at, text.as_bytes());
        }
        signed(&mut self.opened.bytes, *quantity);
        signed(&mut self.opened.bytes, *credits);
        self.opened.instant(*expires_ms);
    }

    pub fn ended(&mut self, ended: &Ended<'_>) {
        self.ended.text(ID, ended.id.as_bytes());
        self.ended.bytes.push(u8::from(ended.is_old));
        self.ended.instant(ended.expires_ms);
    }

    /// Moves what was written to the end of a note.
    pub fn hand_over(&mut self, note: &mut Note) {
        note.opened.append(&mut self.opened.bytes);
        note.ended.append(&mut self.ended.bytes);
        note.until_ms = note.until_ms.max(self.opened.until_ms).max(self.ended.until_ms);
        self.forget();
    }

    /// What was written is not wanted any more.
    pub fn forget(&mut self) {
        for lines in [&mut self.opened, &mut self.ended] {
            lines.bytes.clear();
            lines.before.texts.iter_mut().for_each(Vec::clear);
            (lines.before.expires_ms, lines.until_ms) = (0, 0);
        }
    }
}

impl Lines {
    fn text(&mut self, at: usize, text: &[u8]) {
        let before = &mut self.before.texts[at];
        let shared = before.iter().zip(text).take_while(|(one, other)| one == other).count();
        if shared == 0 && at == ID {
            self.before.expires_ms = 0;
        }
        length(&mut self.bytes, shared);
        length(&mut self.bytes, text.len() - shared);
        self.bytes.extend_from_slice(&text[shared..]);
        before.truncate(shared);
        before.extend_from_slice(&text[shared..]);
    }

    fn instant(&mut self, expires_ms: i64) {
        signed(&mut self.bytes, expires_ms.wrapping_sub(self.before.expires_ms));
        self.before.expires_ms = expires_ms;
        self.until_ms = self.until_ms.max(expires_ms);
    }
}

impl Note {
    pub fn is_empty(&self) -> bool {
        self.opened.is_empty() && self.ended.is_empty()
    }

    /// Bytes that it has so far.
    pub fn len(&self) -> usize {
        self.opened.len() + self.ended.len()
    }

    pub fn until_ms(&self) -> i64 {
        self.until_ms
    }

    /// What was opened and what has ended, as the two are stored.
    pub fn packed(&self) -> [Vec<u8>; 2] {
        [&self.opened, &self.ended].map(|lines| {
            let mut bytes = Vec::with_capacity(1 + lines.len() + CHECKSUM);
            bytes.push(FORM);
            bytes.extend_from_slice(lines);
            let checksum = checksum(&bytes);
            bytes.extend_from_slice(&checksum);
            bytes
        })
    }
}

/// Reads what was opened, in its order.
pub fn opened(bytes: &[u8], mut tell: impl FnMut(Opened<'_>)) -> Result<(), Damaged> {
    read(bytes, |reader| {
        (0..3).try_for_each(|at| reader.text(at))?;
        let (quantity, credits, expires_ms) = (reader.signed()?, reader.signed()?, reader.instant()?);
        let [id, user, kind] = [reader.told(0)?, reader.told(1)?, reader.told(2)?];
        tell(Opened { id, user, kind, quantity, credits, expires_ms });
        Ok(())
    })
}

/// Reads what has ended, in its order.
pub fn ended(bytes: &[u8], mut tell: impl FnMut(Ended<'_>)) -> Result<(), Damaged> {
    read(bytes, |reader| {
        reader.text(ID)?;
        let (is_old, expires_ms) = (reader.byte()? != 0, reader.instant()?);
        tell(Ended { id: reader.told(0)?, expires_ms, is_old });
        Ok(())
    })
}

fn read(bytes: &[u8], mut entry: impl FnMut(&mut Reader<'_>) -> Result<(), Damaged>) -> Result<(), Damaged> {
    let (said, kept) = bytes.split_last_chunk::<CHECKSUM>().ok_or(Damaged)?;
    if checksum(said) != *kept || said.first() != Some(&FORM) {
        return Err(Damaged);
    }
    let mut reader = Reader { rest: &said[1..], before: Before::default() };
    while !reader.rest.is_empty() {
        entry(&mut reader)?;
    }
    Ok(())
}

struct Reader<'n> {
    rest: &'n [u8],
    before: Before,
}

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, Damaged> {
        let (byte, rest) = self.rest.split_first().ok_or(Damaged)?;
        self.rest = rest;
        Ok(*byte)
    }

    fn text(&mut self, at: usize) -> Result<(), Damaged> {
        let (shared, own) = (self.length()?, self.length()?);
        let before = &mut self.before.texts[at];
        if shared > before.len() || own > self.rest.len() {
            return Err(Damaged);
        }
        if shared == 0 && at == ID {
            self.before.expires_ms = 0;
        }
        let (text, rest) = self.rest.split_at(own);
        before.truncate(shared);
        before.extend_from_slice(text);
        self.rest = rest;
        Ok(())
    }

    fn told(&self, at: usize) -> Result<&str, Damaged> {
        std::str::from_utf8(&self.before.texts[at]).map_err(|_| Damaged)
    }

    fn length(&mut self) -> Result<usize, Damaged> {
        usize::try_from(self.unsigned()?).map_err(|_| Damaged)
    }

    fn unsigned(&mut self) -> Result<u64, Damaged> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Damaged)
    }

    fn signed(&mut self) -> Result<i64, Damaged> {
        let folded = self.unsigned()?;
        Ok((folded >> 1).cast_signed() ^ -(folded & 1).cast_signed())
    }

    fn instant(&mut self) -> Result<i64, Damaged> {
        self.before.expires_ms = self.before.expires_ms.wrapping_add(self.signed()?);
        Ok(self.before.expires_ms)
    }
}

fn length(bytes: &mut Vec<u8>, length: usize) {
    unsigned(bytes, u64::try_from(length).unwrap_or(u64::MAX));
}

/// Seven bits in a byte, the lowest first; the eighth says that more follow.
fn unsigned(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

/// Small numbers of either sign become small ones without.
fn signed(bytes: &mut Vec<u8>, number: i64) {
    unsigned(bytes, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let mut hasher = SipHasher13::new_with_keys(0x6269_6c6c_686f_6f6b, 0x6e6f_7465_206f_6620);
    hasher.write(bytes);
    hasher.finish().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENED: [Opened<'static>; 4] = [
        Opened {
            id: "res_01A",
            user: "u_1",
            kind: "inference",
            quantity: 3,
            credits: -1,
            expires_ms: 1_900_000_000_000,
        },
        Opened { id: "res_01B", user: "u_12", kind: "inference", quantity: i64::MAX, credits: i64::MIN, expires_ms: 5 },
        Opened { id: "é", user: "u", kind: "tts", quantity: 0, credits: 0, expires_ms: i64::MIN },
        Opened { id: "è", user: "", kind: "tts", quantity: 1, credits: 1, expires_ms: i64::MAX },
    ];
    const ENDED: [Ended<'static>; 2] =
        [Ended { id: "res_01A", expires_ms: 7, is_old: true }, Ended { id: "res_0", expires_ms: -7, is_old: false }];

    fn written() -> [Vec<u8>; 2] {
        let (mut pen, mut note) = (Pen::default(), Note::default());
        for opened in &OPENED[..2] {
            pen.opened(opened);
        }
        pen.hand_over(&mut note);
        for opened in &OPENED[2..] {
            pen.opened(opened);
        }
        for ended in &ENDED {
            pen.ended(ended);
        }
        pen.hand_over(&mut note);
        assert_eq!(note.until_ms(), i64::MAX);
        note.packed()
    }

    fn all_opened(bytes: &[u8]) -> Result<Vec<String>, Damaged> {
        let mut all = Vec::new();
        opened(bytes, |opened| all.push(format!("{opened:?}"))).map(|()| all)
    }

    #[test]
    fn what_is_packed_is_read_again() {
        let [opened, ended_bytes] = written();
        assert_eq!(all_opened(&opened), Ok(OPENED.iter().map(|opened| format!("{opened:?}")).collect()));
        let mut all = Vec::new();
        ended(&ended_bytes, |ended| all.push((ended.id.to_owned(), ended.expires_ms, ended.is_old))).expect("read");
        assert_eq!(all, ENDED.map(|ended| (ended.id.to_owned(), ended.expires_ms, ended.is_old)));
        assert_eq!(all_opened(&Note::default().packed()[0]), Ok(Vec::new()));
    }

    #[test]
    fn what_is_damaged_says_nothing_wrong() {
        let [whole, _] = written();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            assert_eq!(all_opened(&bytes), Err(Damaged), "byte {at}");
            assert_eq!(all_opened(&whole[..at]), Err(Damaged), "the first {at}");
        }
    }

    /// With a right checksum as well: whoever writes such a thing meets an error, and no panic.
    #[test]
    fn what_was_packed_by_somebody_else_is_refused() {
        for lines in [&[1_u8, 9][..], &[2, 0], &[0, 200], &[0; 5], &[0xff; 40], &[0, 1, 0xc3, 0, 0, 0, 0, 0, 0, 0]] {
            let mut bytes = vec![FORM];
            bytes.extend_from_slice(lines);
            let checksum = checksum(&bytes);
            bytes.extend_from_slice(&checksum);
            assert_eq!(all_opened(&bytes), Err(Damaged), "{lines:?}");
        }
    }
}
