//! Stripe's error answer: a status, a type, perhaps a code and the parameter at fault.

use serde_json::{Map, Value, json};

/// One refused request, as Stripe words it.
#[derive(Debug, Clone)]
pub(crate) struct StripeError {
    /// HTTP status of the answer.
    pub(crate) status: u16,
    /// `error.type`, the class that official clients switch on.
    pub(crate) kind: &'static str,
    /// `error.code`, where Stripe has one.
    pub(crate) code: Option<&'static str>,
    /// `error.message`, for people.
    pub(crate) message: String,
    /// `error.param`, in Stripe's bracket syntax.
    pub(crate) param: Option<String>,
    /// Members that only some errors carry (`decline_code`, `charge`, ...).
    pub(crate) extra: Vec<(&'static str, Value)>,
    /// Whether what was done before the refusal stays done: the declined charge, the failed attempt.
    pub(crate) keeps: bool,
}

impl StripeError {
    pub(crate) fn new(status: u16, kind: &'static str, message: impl Into<String>) -> StripeError {
        StripeError { status, kind, code: None, message: message.into(), param: None, extra: Vec::new(), keeps: false }
    }

    /// A 400 `invalid_request_error`, the common case.
    pub(crate) fn invalid(message: impl Into<String>) -> StripeError {
        StripeError::new(400, "invalid_request_error", message)
    }

    pub(crate) fn code(mut self, code: &'static str) -> StripeError {
        self.code = Some(code);
        self
    }

    pub(crate) fn param(mut self, param: impl Into<String>) -> StripeError {
        self.param = Some(param.into());
        self
    }

    pub(crate) fn with(mut self, name: &'static str, value: Value) -> StripeError {
        self.extra.push((name, value));
        self
    }

    /// What was done so far stays done.
    pub(crate) fn keeping(mut self) -> StripeError {
        self.keeps = true;
        self
    }

    pub(crate) fn missing(param: &str) -> StripeError {
        StripeError::invalid(format!("Missing required param: {param}.")).code("parameter_missing").param(param)
    }

    pub(crate) fn unknown(param: &str) -> StripeError {
        StripeError::invalid(format!("Received unknown parameter: {param}")).code("parameter_unknown").param(param)
    }

    /// Several names that the endpoint does not know.
    pub(crate) fn unknowns(params: &[String]) -> StripeError {
        match params {
            [only] => StripeError::unknown(only),
            many => StripeError {
                message: format!("Received unknown parameters: {}", many.join(", ")),
                ..StripeError::unknown(many.first().map_or("", String::as_str))
            },
        }
    }

    /// Parameters of which only one can be said.
    pub(crate) fn exclusive(params: &[&str]) -> StripeError {
        let text = format!("You may only specify one of these parameters: {}.", params.join(", "));
        StripeError::invalid(text).code("parameters_exclusive")
    }

    /// Stripe has it, this sandbox does not: said loudly, because a parameter that is silently ignored is a lie.
    pub(crate) fn unsupported(what: &str) -> StripeError {
        StripeError::invalid(format!("The sandbox does not model this: {what}")).code("sandbox_unsupported").param(what)
    }

    /// The id stands in a parameter: 400.
    pub(crate) fn no_such(noun: &str, id: &str, param: &str) -> StripeError {
        StripeError::invalid(format!("No such {noun}: '{id}'")).code("resource_missing").param(param)
    }

    /// The id stands in the URL: 404.
    pub(crate) fn not_found(noun: &str, id: &str, param: &str) -> StripeError {
        StripeError { status: 404, ..StripeError::no_such(noun, id, param) }
    }

    /// A card was declined: 402 `card_error`.
    pub(crate) fn declined(decline_code: &str) -> StripeError {
        let (code, message) = match decline_code {
            "insufficient_funds" => ("card_declined", "Your card has insufficient funds."),
            "expired_card" => ("expired_card", "Your card has expired."),
            "incorrect_cvc" => ("incorrect_cvc", "Your card's security code is incorrect."),
            "processing_error" => {
                ("processing_error", "An error occurred while processing your card. Try again in a little bit.")
            }
            _ => ("card_declined", "Your card was declined."),
        };
        let error = StripeError::new(402, "card_error", message).code(code).with("decline_code", json!(decline_code));
        match decline_code {
            "expired_card" => error.param("exp_month"),
            "incorrect_cvc" => error.param("cvc"),
            _ => error,
        }
    }

    /// The JSON body, complete with the links that Stripe adds.
    pub(crate) fn body(&self, request_id: &str) -> Value {
        let mut error = Map::new();
        if let Some(code) = self.code {
            error.insert("code".into(), json!(code));
            let page = code.replace('_', "-");
            error.insert("doc_url".into(), json!(format!("https://stripe.com/docs/error-codes/{page}")));
        }
        error.insert("message".into(), json!(self.message));
        if let Some(param) = &self.param {
            error.insert("param".into(), json!(param));
        }
        let log = format!("https://dashboard.stripe.com/test/logs/{request_id}");
        error.insert("request_log_url".into(), json!(log));
        error.insert("type".into(), json!(self.kind));
        for (name, value) in &self.extra {
            error.insert((*name).into(), value.clone());
        }
        json!({ "error": error })
    }
}
