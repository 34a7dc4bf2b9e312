//! Whether a webhook is Lago's own (S-47): `hmac` over the raw bytes, or `jwt` signed with RS256. Which of the two is
//! decided by the configuration and never by the sender.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::{hmac, signature};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

/// A Lago's public key, read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(Vec<u8>);

/// `X-Lago-Signature` is base64 of HMAC-SHA256 of the body, with the organisation's own key. Compared in constant time.
pub fn is_hmac(secret: &SecretString, body: &[u8], given: &str) -> bool {
    let Ok(given) = STANDARD.decode(given.trim()) else { return false };
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
    hmac::verify(&key, body, &given).is_ok()
}

/// `X-Lago-Signature` is a JSON web token whose claim `data` is the body. `alg` is pinned: a token that names another one is
/// refused before its signature is looked at. The claim `iss` is the address by which Lago knows itself, which need not be the
/// one that we know it by, and is not compared.
pub fn is_jwt(key: &PublicKey, body: &[u8], token: &str) -> bool {
    let mut parts = token.trim().split('.');
    let (Some(head), Some(claims), Some(signed), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let json = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
    let pinned = json(head).is_some_and(|head| head["alg"] == "RS256");
    let Ok(signed) = URL_SAFE_NO_PAD.decode(signed) else { return false };
    let message = &token.trim().as_bytes()[..head.len() + 1 + claims.len()];
    let key = signature::UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, &key.0);
    pinned
        && key.verify(message, &signed).is_ok()
        && json(claims).is_some_and(|claims| claims["data"].as_str().is_some_and(|data| data.as_bytes() == body))
}

impl PublicKey {
    /// Reads what Lago shows: base64 of a PEM text, either `PUBLIC KEY` or `RSA PUBLIC KEY`.
    pub fn read(text: &str) -> Option<PublicKey> {
        let compact: String = text.split_whitespace().collect();
        let pem = if text.contains("-----BEGIN") {
            text.to_owned()
        } else {
            String::from_utf8(STANDARD.decode(compact).ok()?).ok()?
        };
        let wrapped = pem.contains("-----BEGIN PUBLIC KEY-----");
        let lines: String = pem.lines().map(str::trim).filter(|line| !line.starts_with("-----")).collect();
        let der = STANDARD.decode(lines).ok()?;
        if wrapped { rsa_key_in(&der).map(|key| PublicKey(key.to_vec())) } else { Some(PublicKey(der)) }
    }
}

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;

/// A `SubjectPublicKeyInfo` is a sequence of the algorithm and a string of bits, which is the key itself.
fn rsa_key_in(der: &[u8]) -> Option<&[u8]> {
    let (info, _) = element(der, SEQUENCE)?;
    let (_algorithm, rest) = element(info, SEQUENCE)?;
    let (bits, _) = element(rest, BIT_STRING)?;
    bits.strip_prefix(&[0]) // no unused bits
}

/// The content of the DER element at the beginning, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = der.split_first_chunk::<2>()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), rest.get(2..)?),
        _ => return None,
    };
    rest.split_at_checked(length)
}
