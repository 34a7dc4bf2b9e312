//! One attempt: send the request, read the answer up to the cap, and say what it was.

use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderMap};
use reqwest::{Client, Method, Response, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::value::RawValue;

use super::Answer;
use super::error::{BodyFault, Place, Refusal, StripeError};
use super::retry::{self, Failure};

/// An error body is read this far; Stripe's are under a kilobyte.
const ERROR_BODY_MAX: usize = 64 * 1024;
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const REQUEST_ID: &str = "request-id";

/// A request as it goes out, the same on every attempt.
#[derive(Debug)]
pub(super) struct Call {
    pub method: Method,
    pub url: Url,
    /// The encoded form of a write.
    pub form: Option<String>,
    /// The idempotency key of a write.
    pub key: Option<String>,
}

/// The answer of one attempt, and the server's `Date` whatever the outcome.
pub(super) struct Outcome {
    pub date: Option<jiff::Timestamp>,
    pub answer: Result<Answer, Failure>,
}

/// Sends the call once. `secret` is only needed to take it out of what comes back.
pub(super) async fn attempt(client: &Client, call: &Call, body_max: usize, secret: &SecretString) -> Outcome {
    let mut request = client.request(call.method.clone(), call.url.clone());
    if let Some(key) = &call.key {
        request = request.header(IDEMPOTENCY_KEY, key);
    }
    if let Some(form) = &call.form {
        request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form.clone());
    }
    match request.send().await {
        Err(error) => Outcome { date: None, answer: Err(transport(error).into()) },
        Ok(response) => {
            let date = text(response.headers(), DATE.as_str()).and_then(|text| http_date(&text));
            Outcome { date, answer: read(response, body_max, secret).await }
        }
    }
}

async fn read(response: Response, body_max: usize, secret: &SecretString) -> Result<Answer, Failure> {
    if !response.status().is_success() {
        return Err(refused(response, secret).await);
    }
    let request_id = text(response.headers(), REQUEST_ID);
    if response.headers().get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(StripeError::BadBody { fault: BodyFault::Encoded, request_id }.into());
    }
    let body = read_body(response, body_max, request_id.as_deref()).await?;
    let object = parse(&body).map_err(|fault| StripeError::BadBody { fault, request_id: request_id.clone() })?;
    Ok(Answer { body: object, request_id })
}

/// Counts while it reads: what a header promises is not believed, what arrives beyond the cap is not kept (F-32).
async fn read_body(mut response: Response, cap: usize, request_id: Option<&str>) -> Result<Vec<u8>, StripeError> {
    let too_large = || StripeError::TooLarge { cap, request_id: request_id.map(str::to_owned) };
    let promised = response.content_length().unwrap_or(0);
    if promised > u64::try_from(cap).unwrap_or(u64::MAX) {
        return Err(too_large());
    }
    let mut body = Vec::with_capacity(usize::try_from(promised).unwrap_or(0));
    while let Some(chunk) = response.chunk().await.map_err(transport)? {
        if body.len().saturating_add(chunk.len()) > cap {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Everything that Stripe sends is a JSON object.
fn parse(body: &[u8]) -> Result<Box<RawValue>, BodyFault> {
    let object: Box<RawValue> = serde_json::from_slice(body)
        .map_err(|error| if error.is_eof() { BodyFault::Truncated } else { BodyFault::NotJson })?;
    if object.get().starts_with('{') { Ok(object) } else { Err(BodyFault::NotAnObject) }
}

async fn refused(response: Response, secret: &SecretString) -> Failure {
    let status = response.status().as_u16();
    let request_id = text(response.headers(), REQUEST_ID);
    let retry_after = retry::retry_after(response.headers());
    let should_retry = retry::should_retry(response.headers());
    // The status says enough: a broken or endless error body changes nothing about it.
    let body = read_body(response, ERROR_BODY_MAX, None).await.unwrap_or_default();
    let mut refusal = Box::new(Refusal::read(&body, secret.expose_secret()));
    refusal.request_id = request_id;
    refusal.retry_after = retry_after;
    let error = match status {
        401 | 403 => StripeError::Auth { status, refusal },
        404 => StripeError::NotFound { refusal },
        429 => StripeError::RateLimited { retry_after, request_id: refusal.request_id.take() },
        _ => StripeError::Status { status, refusal },
    };
    Failure { error, should_retry }
}

/// Which end of the way is to blame. The URL is taken out: its query may hold an e-mail address.
fn transport(error: reqwest::Error) -> StripeError {
    let error = error.without_url();
    if is_tls(&error) {
        return StripeError::Tls { source: Box::new(error) };
    }
    let place = match (error.is_dns(), error.is_connect()) {
        (true, _) => Place::Dns,
        (false, true) => Place::Connect,
        (false, false) => Place::Exchange,
    };
    StripeError::Unreachable { place, source: Box::new(error) }
}

/// TLS errors hide inside I/O errors, which do not show what they wrap in their chain of sources.
fn is_tls(error: &reqwest::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if error.is::<rustls::Error>() || wrapped.is_some_and(|inner| inner.is::<rustls::Error>()) {
            return true;
        }
        next = match wrapped {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// `Sun, 22 Nov 2026 10:00:00 GMT`: the form of RFC 9110 that servers send is a form of RFC 2822 too.
fn http_date(text: &str) -> Option<jiff::Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}
