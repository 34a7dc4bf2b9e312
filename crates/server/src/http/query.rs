//! Query parameters, read strictly: said twice or not understood is an error with the parameter's name.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::error::{Error, Fault, Result};

/// The parameters of a request. Read after authentication, by the handler.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        if parts.uri.query().is_none() {
            return Ok(Self::default());
        }
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|axum::extract::Query(pairs)| Self(pairs))
            .map_err(|_| Error::invalid("?", "expected name=value pairs"))
    }
}

impl Query {
    /// A parameter that may be said once.
    pub fn one(&self, name: &str) -> Result<Option<&str>> {
        let mut values = self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            (_, Some(_)) => Err(Error::invalid(format!("?{name}"), "expected once")),
        }
    }

    /// The same for what names something: it is not empty.
    pub fn name(&self, name: &str) -> Result<Option<&str>> {
        match self.one(name)? {
            Some("") => Err(Error::invalid(format!("?{name}"), "expected at least one character")),
            named => Ok(named),
        }
    }

    /// Nothing else is said: a filter that is misspelt would show everything.
    pub fn only(&self, names: &[&str]) -> Result<()> {
        let unknown = self.0.iter().map(|(name, _)| name).filter(|name| !names.contains(&name.as_str()));
        let faults: Vec<Fault> = unknown
            .map(|name| Fault { pointer: format!("?{name}"), detail: format!("expected one of {}", names.join(", ")) })
            .collect();
        if faults.is_empty() { Ok(()) } else { Err(Error::Invalid(faults)) }
    }

    /// `limit`: a whole number from 1 to `most`.
    pub fn limit(&self, default: u16, most: u16) -> Result<u16> {
        let Some(text) = self.one("limit")? else { return Ok(default) };
        let digits = (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse::<u16>() {
            Ok(limit) if digits && (1..=most).contains(&limit) => Ok(limit),
            _ => Err(Error::invalid("?limit", format!("expected a whole number from 1 to {most}"))),
        }
    }

    /// Both results or all their faults together.
    pub fn both<A, B>(first: Result<A>, second: Result<B>) -> Result<(A, B)> {
        match (first, second) {
            (Ok(first), Ok(second)) => Ok((first, second)),
            (Err(Error::Invalid(mut faults)), Err(Error::Invalid(more))) => {
                faults.extend::<Vec<Fault>>(more);
                Err(Error::Invalid(faults))
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        let uri = format!("http://h/?{text}").parse().expect("uri");
        let axum::extract::Query(pairs) = axum::extract::Query::try_from_uri(&uri).expect("pairs");
        Query(pairs)
    }

    #[test]
    fn s31_limit_is_a_whole_number_in_its_range() {
        for (text, expected) in [
            ("", Some(10)),
            ("limit=1", Some(1)),
            ("limit=100", Some(100)),
            ("user_id=b", Some(10)),
            ("limit=0", None),
            ("limit=-1", None),
            ("limit=101", None),
            ("limit=1e9", None),
            ("limit=1.5", None),
            ("limit=abc", None),
            ("limit=%00", None),
            ("limit=", None),
            ("limit=%2B5", None),
            ("limit=%EF%BC%95", None),
            ("limit=99999999999999999999", None),
        ] {
            assert_eq!(query(text).limit(10, 100).ok(), expected, "{text}");
        }
    }

    #[test]
    fn s29_a_filter_that_is_misspelt_or_empty_is_named() {
        let faults = |outcome: Result<()>| match outcome {
            Err(Error::Invalid(faults)) => faults.into_iter().map(|fault| fault.pointer).collect(),
            _ => Vec::new(),
        };
        let names = ["user_id", "type"];
        assert_eq!(faults(query("user_id=u&type=t").only(&names)), [""; 0]);
        assert_eq!(faults(query("tpye=t&user_id=u&From=x").only(&names)), ["?tpye", "?From"]);
        assert_eq!(faults(query("type=").name("type").map(drop)), ["?type"]);
        assert_eq!(query("type=t").name("type").ok().flatten(), Some("t"));
        assert_eq!(query("").name("type").ok().flatten(), None);
    }

    #[test]
    fn s29_a_parameter_said_twice_is_refused() {
        assert!(query("limit=1&limit=100").limit(10, 100).is_err());
        assert!(query("limit=1&limit=1").limit(10, 100).is_err());
    }
}
