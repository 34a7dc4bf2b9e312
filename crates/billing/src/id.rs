//! Ids that say what they are and sort by when they were made: `res_01J…`, a prefix and a ULID.

use jiff::Timestamp;

/// Crockford's base 32: no I, L, O or U, so that an id can be read out.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A new id: the prefix as it is given (`res_`), 48 bits of milliseconds since 1970 (an earlier clock counts as 1970), and
/// the 80 random bits. The same arguments make the same id.
pub fn new(prefix: &str, at: Timestamp, random: [u8; 10]) -> String {
    let millis = u64::try_from(at.as_millisecond()).unwrap_or(0);
    let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |number, byte| (number << 8_u32) | u64::from(*byte));
    let (first, second) = random.split_at(5);
    // 128 bits in groups of five: 48 of time in ten, twice forty of chance in eight.
    let mut text = [0_u8; 26];
    let (time, chance) = text.split_at_mut(10);
    let (high, low) = chance.split_at_mut(8);
    for (part, bits) in [(time, millis), (high, number(first)), (low, number(second))] {
        let mut bits = bits;
        for place in part.iter_mut().rev() {
            let digit = usize::try_from(bits & 31).unwrap_or(0);
            *place = ALPHABET.get(digit).copied().unwrap_or(b'0');
            bits >>= 5_u32;
        }
    }
    let mut id = String::with_capacity(prefix.len().saturating_add(text.len()));
    id.push_str(prefix);
    id.push_str(str::from_utf8(&text).unwrap_or_default());
    id
}
