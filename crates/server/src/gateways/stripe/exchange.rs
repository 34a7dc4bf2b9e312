//! One attempt: send the request, read the answer up to the cap, and say what it was.

use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderMap};
use reqwest::{Client, Method, Response, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::value::RawValue;

use super::super::transport::{self, BodyEnd, Broken};
use super::Answer;
use super::error::{BodyFault, Refusal, StripeError};
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
        Err(error) => Outcome { date: None, answer: Err(unreachable(error).into()) },
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

async fn read_body(response: Response, cap: usize, request_id: Option<&str>) -> Result<Vec<u8>, StripeError> {
    transport::read_body(response, cap).await.map_err(|end| match end {
        BodyEnd::TooLarge => StripeError::TooLarge { cap, request_id: request_id.map(str::to_owned) },
        BodyEnd::Broken(error) => unreachable(error),
    })
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

fn unreachable(error: reqwest::Error) -> StripeError {
    match transport::broken(error) {
        Broken::Tls(source) => StripeError::Tls { source: Box::new(source) },
        Broken::Unreachable(place, source) => StripeError::Unreachable { place, source: Box::new(source) },
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// `Sun, 22 Nov 2026 10:00:00 GMT`: the form of RFC 9110 that servers send is a form of RFC 2822 too.
fn http_date(text: &str) -> Option<jiff::Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}
