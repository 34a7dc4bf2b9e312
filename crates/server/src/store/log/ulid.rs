//! ULIDs: sixteen bytes that have one spelling, 26 characters of Crockford's base 32 in upper case.

use super::EntryId;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const NO_DIGIT: u8 = 32;
/// What each byte is worth.
const DIGITS: [u8; 256] = {
    let (mut worth, mut digit) = ([NO_DIGIT; 256], 0);
    while digit < NO_DIGIT {
        worth[ALPHABET[digit as usize] as usize] = digit;
        digit += 1;
    }
    worth
};

/// The bytes of a text that is a ULID as it is usually written; nothing of any other.
pub fn read(text: &str) -> Option<EntryId> {
    let digits: &[u8; 26] = text.as_bytes().try_into().ok()?;
    if digits[0] > b'7' {
        return None;
    }
    let mut seen = 0;
    let mut number = |digits: &[u8]| {
        digits.iter().fold(0_u64, |number, digit| {
            let digit = DIGITS[usize::from(*digit)];
            seen |= digit;
            number << 5 | u64::from(digit)
        })
    };
    // As many at a time as one register holds.
    let [high, middle, low] = [&digits[..10], &digits[10..18], &digits[18..]].map(&mut number);
    let number = u128::from(high) << 80 | u128::from(middle) << 40 | u128::from(low);
    (seen < NO_DIGIT).then(|| number.to_be_bytes())
}

/// The one spelling of sixteen bytes.
pub fn text(id: EntryId) -> String {
    let number = u128::from_be_bytes(id);
    let digit = |place: u32| usize::try_from(number >> (5 * place) & 31).unwrap_or_default();
    (0..26).rev().map(|place| char::from(ALPHABET[digit(place)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ulid_has_one_spelling() {
        for spelling in [
            "01JD7Z2X0000000000000000AA",
            "00000000000000000000000000",
            "7ZZZZZZZZZZZZZZZZZZZZZZZZZ",
            "0123456789ABCDEFGHJKMNPQRS",
        ] {
            assert_eq!(read(spelling).map(text).as_deref(), Some(spelling));
        }
        for byte in 0..=255 {
            let id = std::array::from_fn(|place| if place % 3 == 0 { byte } else { 255 - byte });
            assert_eq!(read(&text(id)), Some(id));
        }
    }

    #[test]
    fn what_is_written_otherwise_is_none() {
        for text in [
            "",
            "01jd7z2x0000000000000000aa",
            "01JD7Z2X0000000000000000AI",
            "01JD7Z2X0000000000000000A\u{7f}",
            "01JD7Z2X00000000000000000\u{e9}",
            "8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
            "01JD7Z2X0000000000000000A",
            "01JD7Z2X0000000000000000AAA",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
