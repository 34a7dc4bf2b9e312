//! Whether a webhook is Stripe's own (S-41 to S-43): `Stripe-Signature: t=…,v1=…` over the raw bytes.
//!
//! Several secrets may be known and several `v1` be given, while one secret takes over from another. Other schemes (`v0`)
//! are Stripe's tests and prove nothing.

use std::fmt;

use jiff::Timestamp;
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};

/// How far the time of the signature may be from ours, either way, in seconds.
pub const TOLERANCE_S: i64 = 300;
/// More signatures than this are no rotation but somebody who wants us to compute.
const SIGNATURES_MAX: usize = 8;

/// Why a webhook is not taken for Stripe's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsigned {
    /// No header, or more than one.
    NoHeader,
    /// The header is not what Stripe writes: no time or two of them, a signature that is not 64 hexadecimal digits.
    Malformed,
    /// No signature of the scheme `v1`.
    NoSignature,
    /// Signed too long ago, or in the future.
    OutOfTime,
    /// Signed with another secret, or over other bytes.
    Mismatch,
}

impl fmt::Display for Unsigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unsigned::NoHeader => "the header Stripe-Signature is missing or there twice",
            Unsigned::Malformed => "the header Stripe-Signature cannot be read",
            Unsigned::NoSignature => "there is no signature of the scheme v1",
            Unsigned::OutOfTime => "the signature is older or younger than five minutes",
            Unsigned::Mismatch => "no signature fits the body and a known secret",
        })
    }
}

impl std::error::Error for Unsigned {}

/// Checks the header against the raw body. Signatures are compared in constant time.
///
/// # Errors
/// Says what is wrong, for the log: whoever sent it is only told that it is not signed.
pub fn verify(header: Option<&str>, body: &[u8], secrets: &[SecretString], now: Timestamp) -> Result<(), Unsigned> {
    let (time, given) = read(header.ok_or(Unsigned::NoHeader)?)?;
    let seconds: i64 = time.parse().map_err(|_| Unsigned::Malformed)?;
    if given.is_empty() {
        return Err(Unsigned::NoSignature);
    }
    if seconds.abs_diff(now.as_second()) > TOLERANCE_S.unsigned_abs() {
        return Err(Unsigned::OutOfTime);
    }
    for secret in secrets {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
        let mut signing = hmac::Context::with_key(&key);
        for part in [time.as_bytes(), b".", body] {
            signing.update(part);
        }
        let right = signing.sign();
        // A keyed hash of both: how long the comparison takes tells nothing of where they differ.
        let blind = hmac::sign(&key, right.as_ref());
        if given.iter().any(|given| hmac::verify(&key, given, blind.as_ref()).is_ok()) {
            return Ok(());
        }
    }
    Err(Unsigned::Mismatch)
}

/// The time as it was written, and the signatures.
fn read(header: &str) -> Result<(&str, Vec<[u8; 32]>), Unsigned> {
    let (mut time, mut given) = (None, Vec::new());
    for part in header.split(',') {
        match part.trim().split_once('=').ok_or(Unsigned::Malformed)? {
            ("t", value) if time.is_none() && !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                time = Some(value);
            }
            ("t", _) => return Err(Unsigned::Malformed),
            ("v1", value) => given.push(digest(value).ok_or(Unsigned::Malformed)?),
            _ => {}
        }
    }
    if given.len() > SIGNATURES_MAX {
        return Err(Unsigned::Malformed);
    }
    Ok((time.ok_or(Unsigned::Malformed)?, given))
}

fn digest(hexadecimal: &str) -> Option<[u8; 32]> {
    let digits: [u8; 64] = hexadecimal.as_bytes().try_into().ok()?;
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}
