//! Why a call to Lago brought no answer, in the kinds that a caller decides by. No key and no body ever gets into them.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::super::transport::{Place, clean};

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a call brought no answer.
#[derive(Debug)]
pub enum LagoError {
    /// No connection, or it broke before the answer was complete. What was sent may have been stored.
    Unreachable { place: Place, source: Cause },
    /// The server's certificate or its TLS is not acceptable.
    Tls { source: Cause },
    /// No complete answer within this time. What was sent may have been stored.
    Timeout { after: Duration },
    /// 401 or 403: the key is wrong, revoked or not allowed to do this.
    Auth { status: u16, refusal: Refusal },
    /// 429.
    RateLimited { reset: Option<Duration> },
    /// 404: no such object, or no such route.
    NotFound { refusal: Refusal },
    /// 422: something that was sent breaks a rule.
    Refused { refusal: Refusal },
    /// Any other status that is not a success; a 503 may say when it is over.
    Status { status: u16, refusal: Refusal, retry_after: Option<Duration> },
    /// A success whose body is not what Lago sends, or longer than we read.
    BadBody { fault: &'static str },
    /// Our own rate leaves no room for this call within its deadline.
    Busy { retry_after: Duration },
}

/// What is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// The same bytes again, later: nobody has to change anything.
    Again,
    /// Somebody has to correct the key or the address first.
    Operator,
    /// What was sent is refused; sent again, it is refused again.
    Content,
}

impl LagoError {
    /// Whether the same call can ever succeed, and who has to act before.
    pub fn remedy(&self) -> Remedy {
        match self {
            LagoError::Unreachable { .. }
            | LagoError::Timeout { .. }
            | LagoError::RateLimited { .. }
            | LagoError::BadBody { .. }
            | LagoError::Busy { .. } => Remedy::Again,
            LagoError::Auth { .. } | LagoError::Tls { .. } => Remedy::Operator,
            // A 404 that is not in Lago's words comes from somebody else: a wrong address, a proxy.
            LagoError::NotFound { refusal } if !refusal.names_an_object() => Remedy::Operator,
            LagoError::Status { status, .. } if (300..400).contains(status) => Remedy::Operator,
            LagoError::Status { status, .. } if *status >= 500 || *status == 408 || *status == 409 => Remedy::Again,
            LagoError::NotFound { .. } | LagoError::Refused { .. } | LagoError::Status { .. } => Remedy::Content,
        }
    }

    /// Whether less at once might be taken: `too_many_events`, or a 413 of whatever stands before Lago.
    pub fn is_too_long(&self) -> bool {
        match self {
            LagoError::Refused { refusal } => refusal.says("events", "too_many_events"),
            LagoError::Status { status, .. } => *status == 413,
            _ => false,
        }
    }

    /// How long the server asks us to wait.
    pub fn asked_wait(&self) -> Option<Duration> {
        match self {
            LagoError::RateLimited { reset } => *reset,
            LagoError::Status { retry_after, .. } => *retry_after,
            LagoError::Busy { retry_after } => Some(*retry_after),
            _ => None,
        }
    }

    /// Lago's own error, where one came.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            LagoError::Auth { refusal, .. }
            | LagoError::NotFound { refusal }
            | LagoError::Refused { refusal }
            | LagoError::Status { refusal, .. } => Some(refusal),
            _ => None,
        }
    }

    /// The code under which it is kept and shown.
    pub fn code(&self) -> &'static str {
        match self {
            LagoError::Auth { .. } => "lago.auth",
            LagoError::Tls { .. } => "lago.tls",
            LagoError::RateLimited { .. } | LagoError::Busy { .. } => "lago.rate_limited",
            _ => match self.remedy() {
                Remedy::Again => "lago.unavailable",
                Remedy::Operator => "lago.address",
                Remedy::Content => "lago.refused",
            },
        }
    }
}

impl fmt::Display for LagoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LagoError::Unreachable { place: Place::Dns, .. } => f.write_str("Lago's host name does not resolve"),
            LagoError::Unreachable { place: Place::Connect, .. } => f.write_str("no connection to Lago"),
            LagoError::Unreachable { place: Place::Exchange, .. } => f.write_str("the connection to Lago broke"),
            LagoError::Tls { .. } => f.write_str("Lago's TLS certificate or handshake is not acceptable"),
            LagoError::Timeout { after } => write!(f, "no complete answer from Lago within {} ms", after.as_millis()),
            LagoError::Auth { status, refusal } => write!(f, "Lago does not accept the key: {status}{refusal}"),
            LagoError::RateLimited { .. } => f.write_str("Lago answered 429: too many requests"),
            LagoError::NotFound { refusal } => write!(f, "Lago answered 404{refusal}"),
            LagoError::Refused { refusal } => write!(f, "Lago answered 422{refusal}"),
            LagoError::Status { status, refusal, .. } => write!(f, "Lago answered {status}{refusal}"),
            LagoError::BadBody { fault } => write!(f, "Lago's answer is unusable: {fault}"),
            LagoError::Busy { .. } => f.write_str("too many calls to Lago are waiting already"),
        }
    }
}

impl std::error::Error for LagoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LagoError::Unreachable { source, .. } | LagoError::Tls { source } => Some(source.as_ref()),
            _ => None,
        }
    }
}

/// Lago's error object: `{"status","error","code","error_details"}`, as much of it as came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusal {
    /// `validation_errors`, `plan_not_found`, …
    pub code: Option<String>,
    /// Members that are wrong, each with its reasons.
    pub members: Vec<(String, String)>,
    /// Items of a batch that are wrong, by their place in the request, each with its reasons.
    pub items: Vec<(usize, String)>,
    /// The details were one text (a failed expression), or nothing that has a place above.
    pub text: Option<String>,
}

impl Refusal {
    /// Reads an error body; what is no JSON stays unknown. `key` is taken out of all of it.
    pub(super) fn read(body: &[u8], key: &str) -> Refusal {
        let Ok(body) = serde_json::from_slice::<Value>(body) else { return Refusal::default() };
        let mut refusal = Refusal { code: body["code"].as_str().map(|code| clean(code, key)), ..Refusal::default() };
        match &body["error_details"] {
            Value::Object(details) => {
                for (name, reasons) in details {
                    let reasons = clean(&reasons_of(reasons), key);
                    match name.parse::<usize>() {
                        Ok(place) => refusal.items.push((place, reasons)),
                        Err(_) => refusal.members.push((clean(name, key), reasons)),
                    }
                }
            }
            Value::String(text) => refusal.text = Some(clean(text, key)),
            _ if refusal.code.is_none() => refusal.text = body["error"].as_str().map(|text| clean(text, key)),
            _ => {}
        }
        refusal.items.sort();
        refusal
    }

    /// Is this 404 about an object, in Lago's own words? An unknown route is `resource_not_found`.
    fn names_an_object(&self) -> bool {
        self.code.as_deref().is_some_and(|code| code.ends_with("_not_found") && code != "resource_not_found")
    }

    /// Whether a member is refused with this reason.
    pub fn says(&self, member: &str, reason: &str) -> bool {
        self.members.iter().any(|(name, reasons)| name == member && reasons.contains(reason))
    }

    /// The reason in one line, for a dead letter.
    pub fn reason(&self) -> String {
        let members: Vec<String> = self.members.iter().map(|(name, reasons)| format!("{name}: {reasons}")).collect();
        let parts = [self.code.clone(), Some(members.join("; ")).filter(|text| !text.is_empty()), self.text.clone()];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// `["a","b"]`, `{"transaction_id":["value_already_exist"]}` or a bare text, in one line.
fn reasons_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(reasons) => reasons.iter().map(reasons_of).collect::<Vec<_>>().join(", "),
        Value::Object(members) => {
            let members = members.iter().map(|(name, reasons)| format!("{name}: {}", reasons_of(reasons)));
            members.collect::<Vec<_>>().join("; ")
        }
        other => other.to_string(),
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.reason();
        if !reason.is_empty() {
            write!(f, ", {reason}")?;
        }
        let items: Vec<String> =
            self.items.iter().take(3).map(|(place, reason)| format!("{place}: {reason}")).collect();
        if items.is_empty() { Ok(()) } else { write!(f, " ({})", items.join("; ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_read_in_every_form_that_lago_has() {
        for (body, reason, items) in [
            (
                r#"{"error_details":{"transaction_id":["value_already_exist"]},"code":"validation_errors"}"#,
                "validation_errors, transaction_id: value_already_exist",
                vec![],
            ),
            (
                r#"{"error_details":{"10":{"transaction_id":["value_already_exist"]},"2":"expression_evaluation_failed: x"}}"#,
                "",
                vec![(2, "expression_evaluation_failed: x"), (10, "transaction_id: value_already_exist")],
            ),
            (r#"{"error_details":"expression_evaluation_failed"}"#, "expression_evaluation_failed", vec![]),
            (r#"{"status":404,"error":"Not Found","code":"plan_not_found"}"#, "plan_not_found", vec![]),
            ("<html>", "", vec![]),
        ] {
            let refusal = Refusal::read(body.as_bytes(), "");
            assert_eq!(refusal.reason(), reason, "{body}");
            let items: Vec<(usize, String)> = items.into_iter().map(|(place, text)| (place, text.to_owned())).collect();
            assert_eq!(refusal.items, items, "{body}");
        }
    }

    #[test]
    fn f44_who_has_to_act() {
        let refusal = |code: &str| Refusal { code: Some(code.to_owned()), ..Refusal::default() };
        let status = |status| LagoError::Status { status, refusal: Refusal::default(), retry_after: None };
        for (error, remedy) in [
            (status(502), Remedy::Again),
            (LagoError::RateLimited { reset: None }, Remedy::Again),
            (LagoError::Auth { status: 401, refusal: Refusal::default() }, Remedy::Operator),
            (LagoError::NotFound { refusal: Refusal::default() }, Remedy::Operator),
            (LagoError::NotFound { refusal: refusal("resource_not_found") }, Remedy::Operator),
            (LagoError::NotFound { refusal: refusal("plan_not_found") }, Remedy::Content),
            (LagoError::Refused { refusal: Refusal::default() }, Remedy::Content),
            (status(302), Remedy::Operator),
            (status(413), Remedy::Content),
        ] {
            assert_eq!(error.remedy(), remedy, "{error}");
        }
    }
}
