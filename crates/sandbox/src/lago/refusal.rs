//! Errors in the shapes that Lago answers.

use super::decimal::TooLong;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// An answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) body: Value,
}

impl Refusal {
    pub(super) fn unauthorized() -> Refusal {
        Refusal { status: 401, body: json!({"status": 401, "error": "Unauthorized"}) }
    }

    pub(super) fn forbidden(code: &str) -> Refusal {
        Refusal { status: 403, body: json!({"status": 403, "error": "Forbidden", "code": code}) }
    }

    /// `customer` makes `customer_not_found`.
    pub(super) fn not_found(noun: &str) -> Refusal {
        Refusal { status: 404, body: json!({"status": 404, "error": "Not Found", "code": format!("{noun}_not_found")}) }
    }

    /// Lago's way of saying that something is not possible now, although the method is.
    pub(super) fn not_allowed(code: &str) -> Refusal {
        Refusal { status: 405, body: json!({"status": 405, "error": "Method Not Allowed", "code": code}) }
    }

    /// The root key is missing or is no object.
    pub(super) fn no_root(root: &str) -> Refusal {
        Refusal::bad_request(&format!("param is missing or the value is empty or invalid: {root}"))
    }

    pub(super) fn bad_request(why: &str) -> Refusal {
        Refusal { status: 400, body: json!({"status": 400, "error": format!("BadRequest: {why}")}) }
    }

    /// `details` is a text, fields with codes, or those by index.
    pub(super) fn invalid(details: Value) -> Refusal {
        let error = "Unprocessable Entity";
        let body = json!({"status": 422, "error": error, "code": "validation_errors", "error_details": details});
        Refusal { status: 422, body }
    }

    pub(super) fn field(name: &str, code: &str) -> Refusal {
        Refusal::invalid(json!({name: [code]}))
    }
}

impl From<TooLong> for Refusal {
    fn from(_: TooLong) -> Refusal {
        let error = "the sandbox computes with 38 digits, and this needs more";
        Refusal { status: 500, body: json!({"status": 500, "error": error}) }
    }
}

/// What is wrong with each field.
#[derive(Debug, Default)]
pub(super) struct Faulty(BTreeMap<String, Vec<&'static str>>);

impl Faulty {
    pub(super) fn add(&mut self, field: &str, code: &'static str) {
        self.0.entry(field.to_owned()).or_default().push(code);
    }

    pub(super) fn add_if(&mut self, wrong: bool, field: &str, code: &'static str) {
        if wrong {
            self.add(field, code);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn details(&self) -> Value {
        self.0.iter().map(|(field, codes)| (field.clone(), json!(codes))).collect::<Map<_, _>>().into()
    }

    /// Ok where nothing is wrong.
    pub(super) fn verdict(&self) -> Result<(), Refusal> {
        if self.is_empty() { Ok(()) } else { Err(Refusal::invalid(self.details())) }
    }
}
