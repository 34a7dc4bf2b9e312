//! The id of a request: in the answer, in problems and in the log.

/// The id of a request: `req_` and a ULID. In the answer's `X-Request-Id`, in problems
/// and in the log. Always ours: what a caller sends under that name is not taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId([u8; 30]);

impl RequestId {
    pub(super) fn new(at_ms: u64, (high, low): (u64, u64)) -> Self {
        const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let mut text = *b"req_00000000000000000000000000";
        for (part, word) in [(4..14, at_ms), (14..22, high), (22..30, low)] {
            let mut word = word;
            for place in text[part].iter_mut().rev() {
                *place = ALPHABET[usize::try_from(word & 31).unwrap_or_default()];
                word >>= 5;
            }
        }
        Self(text)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("req_")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_a_ulid_with_the_time_in_front() {
        let id = RequestId::new(1_763_799_000_000, (u64::MAX, 1));
        assert_eq!(id.as_str(), "req_01KAN9SRY0ZZZZZZZZ00000001");
    }
}
