//! How to reach Stripe: a key, or nothing.

use secrecy::SecretString;

use super::{Reader, base_url};

/// Where Stripe is and as whom we speak to it.
#[derive(Debug, Clone)]
pub struct Stripe {
    pub key: SecretString,
    pub base: String,
    pub version: String,
    pub rate_per_second: u32,
}

/// What the environment says of Stripe.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Stripe> {
    let key = reader.given("STRIPE_SECRET_KEY");
    if let Some(key) = &key
        && !is_stripe_key(key)
    {
        reader.fault(
            "STRIPE_SECRET_KEY",
            "expected a secret or restricted key: sk_test_…, sk_live_…, rk_test_… or rk_live_…",
        );
    }
    let base = reader.parsed("STRIPE_API_BASE", base_url);
    let version = reader.parsed("STRIPE_API_VERSION", api_version);
    let rate = reader.parsed("STRIPE_RATE", |text| match text.parse::<u32>() {
        Ok(rate @ 1..=10_000) => Ok(rate),
        _ => Err("expected a whole number from 1 to 10000".to_owned()),
    });
    let (key, base, version) = (key?, base?, version?);
    let live = key.contains("_live_");
    if live && base.starts_with("http://") {
        reader.fault("STRIPE_API_BASE", "a live key is only sent over https");
    }
    let rate_per_second = rate.unwrap_or(if live { 80 } else { 20 });
    Some(Stripe { key: SecretString::from(key), base, version, rate_per_second })
}

fn is_stripe_key(key: &str) -> bool {
    ["sk_test_", "sk_live_", "rk_test_", "rk_live_"].iter().any(|prefix| {
        key.strip_prefix(prefix).is_some_and(|rest| {
            (3..=250).contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        })
    })
}

/// Stripe's versions are a date, since 2024 with a name: `2026-09-30.endive`.
fn api_version(text: &str) -> Result<String, String> {
    let (date, name) = text.split_once('.').unwrap_or((text, "x"));
    let fits = date.len() == 10
        && date
            .bytes()
            .enumerate()
            .all(|(at, byte)| if at == 4 || at == 7 { byte == b'-' } else { byte.is_ascii_digit() })
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_lowercase());
    if fits { Ok(text.to_owned()) } else { Err("expected a Stripe version such as 2026-09-30.endive".to_owned()) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::config::Config;

    #[test]
    fn f56_a_live_key_never_travels_in_the_clear() {
        let table: BTreeMap<String, String> =
            [("STRIPE_SECRET_KEY", "sk_live_12345678"), ("STRIPE_API_BASE", "http://proxy")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into();
        let faults = Config::read(&table).expect_err("refused");
        assert_eq!(faults[0].name, "STRIPE_API_BASE");
    }
}
