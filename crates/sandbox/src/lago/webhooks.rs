//! What Lago tells its endpoints: the envelope, the signature, and three attempts.

use super::desk::Reply;
use super::instant::{Micros, SECOND};
use super::table::{Place, Table};
use super::webhook_endpoints::Endpoint;
use super::world::{ORGANIZATION, World, uuid};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::io;

/// What signs webhooks with `hmac`, the same in every sandbox.
pub const HMAC_KEY: &str = "sandbox-hmac-key";

/// The key pair of `jwt`. It is published here on purpose: it signs for sandboxes and for nobody else.
const PRIVATE_PEM: &str = include_str!("sandbox_signing_key.pem");
const PUBLIC_PEM: &str = include_str!("sandbox_signing_key.pub.pem");

/// How long Lago waits before the second and the third attempt, about.
const WAITS: [Micros; 2] = [3 * SECOND, 18 * SECOND];

/// How webhooks to an endpoint are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Jwt,
    Hmac,
}

impl Algorithm {
    pub(super) fn parse(name: &str) -> Option<Algorithm> {
        match name {
            "jwt" => Some(Algorithm::Jwt),
            "hmac" => Some(Algorithm::Hmac),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Algorithm::Jwt => "jwt",
            Algorithm::Hmac => "hmac",
        }
    }

    /// The value of `X-Lago-Signature`. `issuer` is where this Lago is.
    pub(super) fn sign(self, body: &str, issuer: &str) -> io::Result<String> {
        match self {
            Algorithm::Hmac => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, HMAC_KEY.as_bytes());
                Ok(STANDARD.encode(hmac::sign(&key, body.as_bytes())))
            }
            Algorithm::Jwt => jwt(body, issuer),
        }
    }
}

fn jwt(body: &str, issuer: &str) -> io::Result<String> {
    let pair = RsaKeyPair::from_pkcs8(&der(PRIVATE_PEM)).map_err(|error| io::Error::other(error.to_string()))?;
    let claims = json!({"data": body, "iss": issuer}).to_string();
    let said = format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"}"#), URL_SAFE_NO_PAD.encode(claims));
    let mut signature = vec![0; pair.public().modulus_len()];
    let signed = pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), said.as_bytes(), &mut signature);
    signed.map_err(|_| io::Error::other("the key is too small for the digest"))?;
    Ok(format!("{said}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// What a PEM file holds.
fn der(pem: &str) -> Vec<u8> {
    let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(text).unwrap_or_default()
}

/// `GET /webhooks/json_public_key`
pub(super) fn json_public_key() -> Reply {
    Reply::Json(json!({"webhook": {"public_key": STANDARD.encode(PUBLIC_PEM)}}))
}

/// `GET /webhooks/public_key`
pub(super) fn public_key() -> Reply {
    Reply::Text(STANDARD.encode(PUBLIC_PEM))
}

/// How far a webhook has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It will be tried, or tried again.
    Pending,
    /// The endpoint has taken it.
    Succeeded,
    /// Three attempts failed, or the sandbox was started anew before them; there will be no other.
    Failed,
}

/// A message for one endpoint.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// `X-Lago-Unique-Key`, the same on every attempt.
    pub unique_key: String,
    /// `customer.created`, `events.errors`, …
    pub kind: String,
    /// As it is sent, byte for byte.
    pub body: String,
    /// So often it was tried.
    pub attempts: u32,
    /// How far it has come.
    pub progress: Progress,
    pub(super) endpoint: Place,
}

/// All webhooks, and when they are due.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) endpoints: Table<Endpoint>,
    all: Vec<Webhook>,
    due: BTreeSet<(Micros, usize)>,
}

impl Outbox {
    /// The next one that is due. It is given out once: whoever takes it says with [`Outbox::tried`] how it went.
    pub(super) fn take_due(&mut self, now: Micros) -> Option<(usize, Webhook, Endpoint)> {
        let first = self.due.first().copied().filter(|(at, _)| *at <= now)?;
        self.due.remove(&first);
        let webhook = self.all[first.1].clone();
        let endpoint = self.endpoints[webhook.endpoint].clone();
        Some((first.1, webhook, endpoint))
    }

    /// How an attempt went.
    pub(super) fn tried(&mut self, number: usize, taken: bool, now: Micros) {
        let webhook = &mut self.all[number];
        webhook.attempts += 1;
        let wait = WAITS.get(webhook.attempts as usize - 1);
        webhook.progress = match (taken, wait) {
            (true, _) => Progress::Succeeded,
            (false, Some(wait)) => {
                self.due.insert((now + wait, number));
                Progress::Pending
            }
            (false, None) => Progress::Failed,
        };
    }

    /// Whatever is not delivered yet will not be.
    pub(super) fn forget_pending(&mut self) {
        self.due.clear();
        for webhook in self.all.iter_mut().filter(|webhook| webhook.progress == Progress::Pending) {
            webhook.progress = Progress::Failed;
        }
    }

    pub(super) fn all(&self) -> &[Webhook] {
        &self.all
    }
}

impl World {
    /// Tells every endpoint that wants to know. The object stands in the envelope under its type.
    pub(super) fn tell(&mut self, kind: &str, object_type: &str, object: &Value) {
        let wanting: Vec<Place> = {
            let endpoints = &self.outbox.endpoints;
            let wants =
                |place: &Place| endpoints.find(&endpoints[*place].lago_id).is_some() && endpoints[*place].wants(kind);
            (0..endpoints.len()).filter(wants).collect()
        };
        if wanting.is_empty() {
            return;
        }
        let body = envelope(kind, object_type, object);
        for endpoint in wanting {
            let number = self.outbox.all.len();
            let unique_key = uuid("webhook", number);
            let (kind, body) = (kind.to_owned(), body.clone());
            let progress = Progress::Pending;
            self.outbox.all.push(Webhook { unique_key, kind, body, attempts: 0, progress, endpoint });
            self.outbox.due.insert((self.now, number));
        }
    }
}

/// As Rails writes it: what could end a script element is escaped, so whoever writes the JSON anew gets other bytes.
fn envelope(kind: &str, object_type: &str, object: &Value) -> String {
    let mut body = Map::new();
    body.insert("webhook_type".to_owned(), kind.into());
    body.insert("object_type".to_owned(), object_type.into());
    body.insert("organization_id".to_owned(), ORGANIZATION.into());
    body.insert(object_type.to_owned(), object.clone());
    let text = Value::Object(body).to_string();
    let escapes =
        [('&', "\\u0026"), ('<', "\\u003c"), ('>', "\\u003e"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029")];
    escapes.into_iter().fold(text, |text, (letter, escape)| text.replace(letter, escape))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature;

    #[test]
    fn the_envelope_is_escaped_like_rails_does() {
        let body = envelope("customer.created", "customer", &json!({"name": "<b>A&B</b>"}));
        assert!(body.contains(r"\u003cb\u003eA\u0026B\u003c/b\u003e"), "{body}");
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["customer"]["name"], "<b>A&B</b>");
    }

    #[test]
    fn a_token_is_signed_by_the_published_key() {
        let token = jwt("{}", "http://lago").unwrap();
        let (said, signature) = token.rsplit_once('.').unwrap();
        // What precedes the key itself in its DER is always the same for 2048 bits.
        let key =
            signature::UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, der(PUBLIC_PEM)[24..].to_vec());
        key.verify(said.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
        let claims = URL_SAFE_NO_PAD.decode(said.split_once('.').unwrap().1).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&claims).unwrap(), json!({"data": "{}", "iss": "http://lago"}));
    }
}
