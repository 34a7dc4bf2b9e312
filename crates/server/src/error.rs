//! One error for the whole server: transport-free kinds, causes kept. Only `http/error.rs` turns them into status codes.

use std::time::Duration;

/// Why a use case did not happen.
#[derive(Debug)]
pub enum Error {
    /// There is no such thing, or it is somebody else's: the caller cannot tell the two apart.
    NotFound,
    /// The input breaks a rule; every fault is listed.
    Invalid(Vec<Fault>),
    /// The request cannot be read at all: broken framing or JSON, a foreign media type, too many bytes. Nobody judged it.
    Malformed { code: &'static str, detail: String },
    /// One member of the input breaks a rule that has a name of its own (`too_old`, `user.unknown`, `usage.conflict`).
    Rule { code: &'static str, fault: Fault },
    /// The input is fine, the state of things is not.
    Conflict { code: &'static str, detail: String },
    /// Nobody is signed in. `code` says why (`auth.required`, `auth.expired`, `auth.ambiguous_cookie`).
    Unauthenticated { code: &'static str },
    /// Somebody is signed in who may not do this.
    Forbidden { code: &'static str },
    /// A limit or the capacity of the program was reached; try again later.
    LimitReached { code: &'static str, retry_after: Duration },
    /// The limits of a user's tier do not allow it.
    Refused(Box<Refused>),
    /// Somebody else's service did not do its part.
    Upstream { who: Upstream, code: &'static str, retry_after: Duration, cause: Option<Cause> },
    /// A fault of our own.
    Internal(Cause),
}

/// Why a user may not use more now, and how all their limits stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// `credits.exhausted`, `trial.over`, `limit.day`, `limit.month`, `limit.minute` or `limit.unknown`.
    pub code: &'static str,
    /// When it may be worth trying again; nothing where time alone does not help.
    pub retry_after: Option<Duration>,
    pub limits: Vec<LimitState>,
}

/// How one limit of a user stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitState {
    /// `credits`, `day`, `month` or `minute`.
    pub name: &'static str,
    /// In millionths: of credits for `credits`, of the quantity for the others.
    pub quota: i64,
    /// In the same unit; what is held for reservations is taken off.
    pub remaining: i64,
    pub reset_seconds: u64,
    pub window_seconds: u64,
}

/// Services that we depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upstream {
    Stripe,
    Lago,
    Redis,
    Database,
}

/// What caused an error: kept whole for the log, never shown to the caller.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One thing wrong with the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where: `?limit` for a query parameter, a JSON pointer such as `/quantity` for a body.
    pub pointer: String,
    /// What is expected, in a sentence that names no value of the caller's.
    pub detail: String,
}

impl Error {
    /// A fault of our own, with its cause.
    pub fn internal(cause: impl Into<Cause>) -> Self {
        Self::Internal(cause.into())
    }

    /// By which it is told.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Invalid(_) => "invalid",
            Self::Malformed { code, .. }
            | Self::Rule { code, .. }
            | Self::Conflict { code, .. }
            | Self::Unauthenticated { code }
            | Self::Forbidden { code }
            | Self::LimitReached { code, .. }
            | Self::Upstream { code, .. } => code,
            Self::Refused(refused) => refused.code,
            Self::Internal(_) => "internal",
        }
    }

    /// One thing wrong with the input.
    pub fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Invalid(vec![Fault { pointer: pointer.into(), detail: detail.into() }])
    }

    /// An input that breaks a rule with a name.
    pub fn rule(code: &'static str, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Rule { code, fault: Fault { pointer: pointer.into(), detail: detail.into() } }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotFound => f.write_str("not found"),
            Self::Invalid(faults) => {
                f.write_str("invalid input")?;
                faults.iter().try_for_each(|fault| write!(f, "; {}: {}", fault.pointer, fault.detail))
            }
            Self::Rule { code, fault } => write!(f, "{code}: {}: {}", fault.pointer, fault.detail),
            Self::Refused(refused) => f.write_str(refused.code),
            Self::Malformed { code, detail } | Self::Conflict { code, detail } => write!(f, "{code}: {detail}"),
            Self::Unauthenticated { code } | Self::Forbidden { code } | Self::LimitReached { code, .. } => {
                f.write_str(code)
            }
            Self::Upstream { code, cause: Some(cause), .. } => write!(f, "{code}: {cause}"),
            Self::Upstream { code, cause: None, .. } => f.write_str(code),
            Self::Internal(cause) => write!(f, "internal: {cause}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Upstream { cause: Some(cause), .. } | Self::Internal(cause) => Some(cause.as_ref()),
            _ => None,
        }
    }
}
