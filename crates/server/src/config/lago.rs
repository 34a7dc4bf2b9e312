//! How to reach Lago: both variables or neither.

use secrecy::SecretString;

use super::{Reader, base_url};

/// Where Lago is and as whom we speak to it.
#[derive(Debug, Clone)]
pub struct Lago {
    /// Without `/api/v1`.
    pub base: String,
    pub key: SecretString,
    pub rate_per_second: u32,
}

/// What the environment says of Lago, and the key of its webhooks.
pub(super) fn read(reader: &mut Reader<'_>) -> (Option<Lago>, Option<SecretString>) {
    let base = reader.parsed("LAGO_API_URL", |text| {
        // Some of Lago's clients want the path as well, others add it.
        base_url(text).map(|base| base.trim_end_matches("/api/v1").trim_end_matches('/').to_owned())
    });
    let key = reader.parsed("LAGO_API_KEY", printable);
    let secret = reader.parsed("LAGO_WEBHOOK_SECRET", printable);
    let rate = reader.parsed("BILLHOOK_LAGO_RATE", |text| match text.parse::<u32>() {
        Ok(rate @ 1..=10_000) => Ok(rate),
        _ => Err("expected a whole number from 1 to 10000".to_owned()),
    });
    let given = |reader: &Reader<'_>, name: &str| {
        reader.environment.get(name).or_else(|| reader.environment.get(&format!("{name}_FILE"))).is_some()
    };
    for (name, other) in [("LAGO_API_KEY", "LAGO_API_URL"), ("LAGO_API_URL", "LAGO_API_KEY")] {
        if !given(reader, name) && given(reader, other) {
            reader.fault(name, format!("is not set, but {other} is: set both or neither"));
        }
    }
    let lago = base.zip(key).zip(rate).map(|((base, key), rate_per_second)| Lago { base, key, rate_per_second });
    (lago, secret)
}

fn printable(text: &str) -> Result<SecretString, String> {
    let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits {
        Ok(SecretString::from(text.to_owned()))
    } else {
        Err("expected printable characters, no spaces".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::Config;

    #[test]
    fn f56_lago_is_configured_by_both_variables_or_by_neither() {
        let url = ("LAGO_API_URL", "http://lago:3000/api/v1/");
        let key = ("LAGO_API_KEY", "canary");
        for (pairs, outcome) in [
            (&[][..], Ok(None)),
            (&[url, key], Ok(Some("http://lago:3000"))),
            (&[url], Err("LAGO_API_KEY")),
            (&[key], Err("LAGO_API_URL")),
            (&[("LAGO_API_URL", "lago:3000"), key], Err("LAGO_API_URL")),
            (&[url, key, ("BILLHOOK_LAGO_RATE", "0")], Err("BILLHOOK_LAGO_RATE")),
            (&[url, ("LAGO_API_KEY", "two words")], Err("LAGO_API_KEY")),
        ] {
            let table: BTreeMap<String, String> =
                pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let found = Config::read(&table).map(|config| config.lago.map(|lago| lago.base));
            let found = found.map_err(|faults| faults[0].name.clone());
            assert_eq!(found, outcome.map(|base| base.map(str::to_owned)).map_err(str::to_owned), "{pairs:?}");
        }
    }
}
