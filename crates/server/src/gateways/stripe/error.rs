//! What can go wrong between us and Stripe, each with the facts that a caller decides by.
//!
//! Nothing here ever shows the secret key or a response body: `Debug` and `Display` end up in logs (S-56).

use std::fmt;
use std::time::Duration;

pub use super::super::transport::Place;
use super::super::transport::clean;
use super::pages::ListFault;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a call brought no answer.
#[derive(Debug)]
pub enum StripeError {
    /// The call itself cannot be put on the wire: a bad path, a bad idempotency key. Nothing was sent.
    Request(&'static str),
    /// No connection, or it broke before the answer was complete.
    Unreachable { place: Place, source: Cause },
    /// The server's certificate or its TLS is not acceptable. There is no way around it on purpose (S-64).
    Tls { source: Cause },
    /// No complete answer within this time.
    Timeout { after: Duration },
    /// Any other status that is not a success.
    Status { status: u16, refusal: Box<Refusal> },
    /// 404: no such object, or no such list.
    NotFound { refusal: Box<Refusal> },
    /// 401 or 403: the key is wrong, revoked or not allowed to do this.
    Auth { status: u16, refusal: Box<Refusal> },
    /// 429 on every try.
    RateLimited { retry_after: Option<Duration>, request_id: Option<String> },
    /// A success whose body is not what Stripe sends.
    BadBody { fault: BodyFault, request_id: Option<String> },
    /// The body is longer than we read.
    TooLarge { cap: usize, request_id: Option<String> },
    /// A list that contradicts itself (F-31) or the question (S-30).
    ListInconsistent { path: String, fault: ListFault },
    /// An object that is not the one asked for (S-30).
    OtherObject { path: String },
    /// Stripe answers, only not this question: the trouble is of one object, or where the list is not shown either, of a kind.
    OnlyThere { source: Box<StripeError>, list_answers: bool },
    /// Stripe failed several times in a row; nobody asks until then.
    BreakerOpen { retry_after: Duration },
    /// Our own limits leave no room for this call within its deadline.
    Busy { retry_after: Duration },
}

/// What is wrong with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// HTML, text, anything that is not JSON.
    NotJson,
    /// JSON that stops in the middle.
    Truncated,
    /// JSON, but not an object.
    NotAnObject,
    /// A list was asked for, and this is none.
    NotAList,
    /// Compressed although nobody asked for it.
    Encoded,
}

/// Stripe's own error object, as far as it was there, and the headers that matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// `error.type`: `invalid_request_error`, `card_error`, …
    pub kind: Option<String>,
    /// `error.code`: `resource_missing`, `card_declined`, …
    pub code: Option<String>,
    /// `error.param`: the parameter that is to blame.
    pub param: Option<String>,
    /// `error.message`, shortened, and with anything that looks like a key taken out.
    pub message: Option<String>,
    /// `Request-Id`, by which Stripe's support finds the call.
    pub request_id: Option<String>,
    /// `Retry-After`.
    pub retry_after: Option<Duration>,
}

impl StripeError {
    /// May the same call succeed later without anybody changing anything?
    pub fn retryable(&self) -> bool {
        match self {
            StripeError::Unreachable { .. }
            | StripeError::Timeout { .. }
            | StripeError::RateLimited { .. }
            | StripeError::BadBody { .. }
            | StripeError::ListInconsistent { .. }
            | StripeError::BreakerOpen { .. }
            | StripeError::Busy { .. } => true,
            StripeError::Status { status, .. } => matches!(*status, 409 | 424 | 500..),
            StripeError::OnlyThere { source, .. } => source.retryable(),
            StripeError::Request(_)
            | StripeError::Tls { .. }
            | StripeError::NotFound { .. }
            | StripeError::Auth { .. }
            | StripeError::TooLarge { .. }
            | StripeError::OtherObject { .. } => false,
        }
    }

    /// How long to wait before the next try, where somebody said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            StripeError::RateLimited { retry_after, .. } => *retry_after,
            StripeError::BreakerOpen { retry_after } | StripeError::Busy { retry_after } => Some(*retry_after),
            _ => self.refusal().and_then(|refusal| refusal.retry_after),
        }
    }

    /// Stripe's name for the call, to be quoted to its support.
    pub fn request_id(&self) -> Option<&str> {
        match self {
            StripeError::RateLimited { request_id, .. }
            | StripeError::BadBody { request_id, .. }
            | StripeError::TooLarge { request_id, .. } => request_id.as_deref(),
            StripeError::OnlyThere { source, .. } => source.request_id(),
            _ => self.refusal().and_then(|refusal| refusal.request_id.as_deref()),
        }
    }

    /// Stripe's error object, where one came.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            StripeError::Status { refusal, .. }
            | StripeError::NotFound { refusal }
            | StripeError::Auth { refusal, .. } => Some(refusal),
            _ => None,
        }
    }

    /// 404, from whomever: this server does not have the list or the object.
    pub fn is_not_found(&self) -> bool {
        matches!(self, StripeError::NotFound { .. }) && !self.is_missing_cursor()
    }

    /// 404 in Stripe's own words. Only this proves that an object is gone; a proxy's 404 page proves nothing.
    pub fn is_missing_object(&self) -> bool {
        self.is_not_found() && self.refusal().is_some_and(|refusal| refusal.kind.is_some() || refusal.code.is_some())
    }

    /// The object after which a page was to begin is gone: start the list again (F-31).
    pub fn is_missing_cursor(&self) -> bool {
        let refused = matches!(self, StripeError::NotFound { .. } | StripeError::Status { status: 400, .. });
        let cursor = |refusal: &Refusal| matches!(refusal.param.as_deref(), Some("starting_after" | "ending_before"));
        refused && self.refusal().is_some_and(cursor)
    }

    /// The same idempotency key was used for something else. Never to be healed with a new key (F-30).
    pub fn is_key_mismatch(&self) -> bool {
        let refusal = self.refusal();
        refusal.is_some_and(|refusal| refusal.kind.as_deref() == Some("idempotency_error") && !self.retryable())
    }

    /// The code under which the outside world hears of it.
    pub fn code(&self) -> &'static str {
        match self {
            StripeError::Auth { .. } => "stripe.auth",
            StripeError::Tls { .. } => "stripe.tls",
            StripeError::RateLimited { .. } => "stripe.rate_limited",
            StripeError::ListInconsistent { .. } | StripeError::OtherObject { .. } => "stripe.inconsistent",
            StripeError::Request(_) | StripeError::NotFound { .. } => "stripe.refused",
            StripeError::OnlyThere { source, .. } => source.code(),
            // A redirect comes from something between us and Stripe, 409 and 424 from a moment: not from our question.
            StripeError::Status { status, .. } if (400..500).contains(status) && !self.retryable() => "stripe.refused",
            StripeError::Status { .. }
            | StripeError::Unreachable { .. }
            | StripeError::Timeout { .. }
            | StripeError::BadBody { .. }
            | StripeError::TooLarge { .. }
            | StripeError::BreakerOpen { .. }
            | StripeError::Busy { .. } => "stripe.unavailable",
        }
    }

    /// Stripe itself is there and says no, whatever to: nobody else writes errors like that.
    pub(super) fn is_stripes_refusal(&self) -> bool {
        let of_the_question = !matches!(self, StripeError::Auth { status: 401, .. }) && !self.retryable();
        of_the_question && self.refusal().is_some_and(|refusal| refusal.kind.is_some())
    }

    /// May only what was asked for be out of order, and all else be answered?
    pub(super) fn may_be_of_one_object(&self) -> bool {
        match self {
            StripeError::Unreachable { place, .. } => *place == Place::Exchange,
            StripeError::Timeout { .. }
            | StripeError::BadBody { .. }
            | StripeError::TooLarge { .. }
            | StripeError::ListInconsistent { .. } => true,
            StripeError::Status { .. } => self.retryable(),
            _ => false,
        }
    }

    /// Does it count against the breaker: nobody there, or nobody in their right mind?
    pub(super) fn is_failure(&self) -> bool {
        match self {
            StripeError::Unreachable { .. }
            | StripeError::Tls { .. }
            | StripeError::Timeout { .. }
            | StripeError::BadBody { .. }
            | StripeError::TooLarge { .. } => true,
            StripeError::Status { status, .. } => *status >= 500,
            _ => false,
        }
    }
}

impl fmt::Display for StripeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StripeError::Request(problem) => write!(f, "the call to Stripe was not sent: {problem}"),
            StripeError::Unreachable { place: Place::Dns, .. } => f.write_str("Stripe's host name does not resolve"),
            StripeError::Unreachable { place: Place::Connect, .. } => f.write_str("no connection to Stripe"),
            StripeError::Unreachable { place: Place::Exchange, .. } => f.write_str("the connection to Stripe broke"),
            StripeError::Tls { .. } => f.write_str("Stripe's TLS certificate or handshake is not acceptable"),
            StripeError::Timeout { after } => {
                write!(f, "no complete answer from Stripe within {} ms", after.as_millis())
            }
            StripeError::Status { status, refusal } => write!(f, "Stripe answered {status}{refusal}"),
            StripeError::NotFound { refusal } => write!(f, "Stripe answered 404{refusal}"),
            StripeError::Auth { status, refusal } => write!(f, "Stripe does not accept the key: {status}{refusal}"),
            StripeError::RateLimited { .. } => f.write_str("Stripe answered 429: too many requests"),
            StripeError::BadBody { fault, .. } => write!(f, "Stripe's answer is unusable: {}", fault.text()),
            StripeError::TooLarge { cap, .. } => write!(f, "Stripe's answer is longer than {cap} bytes"),
            StripeError::ListInconsistent { path, fault } => write!(f, "the list {path} contradicts itself: {fault}"),
            StripeError::OtherObject { path } => write!(f, "Stripe answered {path} with another object"),
            StripeError::OnlyThere { source, .. } => write!(f, "{source}, and answers other questions"),
            StripeError::BreakerOpen { retry_after } => {
                write!(f, "Stripe failed repeatedly; asked again in {} ms", retry_after.as_millis())
            }
            StripeError::Busy { .. } => f.write_str("too many calls to Stripe are waiting already"),
        }
    }
}

impl std::error::Error for StripeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StripeError::Unreachable { source, .. } | StripeError::Tls { source } => Some(source.as_ref()),
            StripeError::OnlyThere { source, .. } => Some(source.as_ref()),
            _ => None,
        }
    }
}

impl BodyFault {
    fn text(self) -> &'static str {
        match self {
            BodyFault::NotJson => "not JSON",
            BodyFault::Truncated => "truncated JSON",
            BodyFault::NotAnObject => "JSON, but not an object",
            BodyFault::NotAList => "not a list",
            BodyFault::Encoded => "compressed without being asked to",
        }
    }
}

impl fmt::Display for Refusal {
    /// `, resource_missing (customer): No such customer [req_1]`, as much of it as is known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.code.as_ref().or(self.kind.as_ref()) {
            write!(f, ", {name}")?;
        }
        if let Some(param) = &self.param {
            write!(f, " ({param})")?;
        }
        if let Some(message) = &self.message {
            write!(f, ": {message}")?;
        }
        if let Some(request_id) = &self.request_id {
            write!(f, " [{request_id}]")?;
        }
        Ok(())
    }
}

impl Refusal {
    /// Reads `{"error":{…}}`. What is not there, or is not JSON at all, stays unknown; `key` is taken out of all of it.
    pub(super) fn read(body: &[u8], key: &str) -> Refusal {
        let Ok(body) = serde_json::from_slice::<serde_json::Value>(body) else { return Refusal::default() };
        let text = |name: &str| body["error"][name].as_str().map(|text| clean(text, key));
        Refusal {
            kind: text("type"),
            code: text("code"),
            param: text("param"),
            message: text("message"),
            request_id: None,
            retry_after: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(body: &str) -> Box<Refusal> {
        Box::new(Refusal::read(body.as_bytes(), "sk_test_canary"))
    }

    #[test]
    fn s56_a_key_that_comes_back_in_a_message_is_taken_out() {
        let body = r#"{"error":{"message":"Invalid key: sk_test_canary, \u001b[31mor sk_live_other","type":"x"}}"#;
        let refusal = refusal(body);
        assert_eq!(refusal.message.as_deref(), Some("Invalid key: [key], [31mor [key]"));
    }

    #[test]
    fn s57_s58_a_message_is_one_line_and_names_nobody() {
        let body = r#"{"error":{"message":"Invalid email address: ann@example.com\u2028{\"level\"\r\n","type":"x"}}"#;
        assert_eq!(refusal(body).message.as_deref(), Some("Invalid email address: [e-mail]"));
        let body = r#"{"error":{"message":"a\u2028b\r\nc\u0085d"}}"#;
        assert_eq!(refusal(body).message.as_deref(), Some("abcd"));
    }

    #[test]
    fn only_stripes_own_words_prove_that_an_object_is_gone() {
        let gone = StripeError::NotFound { refusal: refusal(r#"{"error":{"code":"resource_missing","param":"id"}}"#) };
        let page = StripeError::NotFound { refusal: refusal("<html>no such page</html>") };
        assert!(gone.is_not_found() && gone.is_missing_object());
        assert!(page.is_not_found() && !page.is_missing_object());
    }

    #[test]
    fn f31_a_deleted_cursor_is_neither_a_missing_list_nor_a_missing_object() {
        let body = r#"{"error":{"code":"resource_missing","param":"starting_after","type":"invalid_request_error"}}"#;
        for error in [
            StripeError::NotFound { refusal: refusal(body) },
            StripeError::Status { status: 400, refusal: refusal(body) },
        ] {
            assert!(error.is_missing_cursor() && !error.is_not_found() && !error.is_missing_object());
        }
    }

    #[test]
    fn f30_a_used_key_is_a_mismatch_and_a_busy_key_is_not() {
        let body = r#"{"error":{"type":"idempotency_error"}}"#;
        assert!(StripeError::Status { status: 400, refusal: refusal(body) }.is_key_mismatch());
        assert!(!StripeError::Status { status: 409, refusal: refusal(body) }.is_key_mismatch());
    }
}
