//! The secrets by which Stripe's webhooks are known.

use secrecy::SecretString;

/// One or several, with commas between.
pub(super) fn secrets(text: &str) -> Result<Vec<SecretString>, String> {
    let secrets: Vec<&str> = text.split(',').map(str::trim).collect();
    if secrets.iter().all(|secret| is_secret(secret)) {
        return Ok(secrets.into_iter().map(|secret| SecretString::from(secret.to_owned())).collect());
    }
    Err("expected whsec_…, or several with commas between".to_owned())
}

/// An empty key would let anybody sign (S-40).
fn is_secret(secret: &str) -> bool {
    secret
        .strip_prefix("whsec_")
        .is_some_and(|rest| (8..=250).contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_graphic()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s40_s42_secrets_are_whole_or_refused() {
        for (text, count) in [
            ("whsec_12345678", Some(1)),
            ("whsec_12345678, whsec_abcdefgh/+=", Some(2)),
            ("", None),
            (" ", None),
            (",", None),
            ("whsec_12345678,", None),
            ("whsec_", None),
            ("whsec_1234567", None),
            ("sk_test_12345678", None),
            ("whsec_1234 5678", None),
        ] {
            assert_eq!(secrets(text).ok().map(|found| found.len()), count, "{text:?}");
        }
    }
}
