//! Ids that say what they are and sort by when they were made: `res_01J…`, a prefix and a ULID.

use jiff::Timestamp;

/// Crockford's base 32: no I, L, O or U, so that an id can be read out.
const ALPHABET: [char; 32] = [
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'J', 'K', 'M', 'N', 'P',
    'Q', 'R', 'S', 'T', 'V', 'W', 'X', 'Y', 'Z',
];
/// 128 bits in groups of five, the first of three.
const LENGTH: u32 = 26;

/// A new id: the prefix as it is given (`res_`), 48 bits of milliseconds since 1970 (an earlier clock counts as 1970), and
/// the 80 random bits. The same arguments make the same id.
pub fn new(prefix: &str, at: Timestamp, random: [u8; 10]) -> String {
    let millis = u64::try_from(at.as_millisecond()).unwrap_or(0).to_be_bytes();
    let mut bytes = [0_u8; 16];
    for (to, from) in bytes.iter_mut().zip(millis.iter().skip(2).chain(&random)) {
        *to = *from;
    }
    let bits = u128::from_be_bytes(bytes);
    let digit = |place: u32| {
        let group = bits.checked_shr(place.saturating_mul(5)).unwrap_or(0) & 31;
        usize::try_from(group).ok().and_then(|group| ALPHABET.get(group)).copied().unwrap_or('0')
    };
    let ulid: String = (0..LENGTH).rev().map(digit).collect();
    format!("{prefix}{ulid}")
}
