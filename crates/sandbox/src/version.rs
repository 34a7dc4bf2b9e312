//! `Stripe-Version`: which age of Stripe's API the caller speaks.

use crate::error::StripeError;
use jiff::civil::Date;

/// What is spoken to a caller who names no version.
pub(crate) const DEFAULT: &str = "2026-09-30.endive";

/// The day when periods, payments and taxes moved.
pub(crate) const BASIL: &str = "2025-03-31";
/// The day when a discount's coupon moved into its source.
pub(crate) const CLOVER: &str = "2025-09-30";
/// The day when the anchor of a billing cycle became a hash.
pub(crate) const ENDIVE: &str = "2026-09-30";
/// Before this day charges carried their refunds, and payment intents their charges.
pub(crate) const UNEMBEDDED: &str = "2022-11-15";

/// A version of the right form; dates nobody has heard of are spoken like their neighbours.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    date: String,
    /// Whether the caller named it. Who names none speaks the account's version, which has often been changed since their
    /// program was written: the Stripe CLI is such a caller.
    stated: bool,
}

impl Version {
    pub(crate) fn parse(text: &str) -> Result<Version, StripeError> {
        let plain = text.split(';').next().unwrap_or_default().trim();
        let (date, name) = plain.split_once('.').map_or((plain, None), |(date, name)| (date, Some(name)));
        let named = name.is_none_or(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase()));
        if date.len() == 10 && date.parse::<Date>().is_ok() && named {
            return Ok(Version { date: date.to_owned(), stated: true });
        }
        Err(StripeError::invalid(format!(
            "Invalid Stripe API version: {text}. You can find a list of valid versions at https://stripe.com/docs/upgrades"
        )))
    }

    /// The version of a caller who names none.
    pub(crate) fn unstated(mut self) -> Version {
        self.stated = false;
        self
    }

    /// Whether the caller surely knows that a parameter is gone since this day.
    pub(crate) fn knows(&self, day: &str) -> bool {
        self.stated && !self.before(day)
    }

    /// Whether the caller's API is older than this day.
    pub(crate) fn before(&self, day: &str) -> bool {
        self.date.as_str() < day
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_form_is_enough() {
        for text in ["2020-08-27", "2025-03-31.basil", "2031-01-01.zinnia", "2025-09-30.preview; feature=v2"] {
            assert_eq!(Version::parse(text).unwrap().date, text[..10]);
        }
        for text in ["", "latest", "2025-3-31", "2025-13-01", "2025-03-31.", "2025-03-31.Basil", "20250331"] {
            let error = Version::parse(text).unwrap_err();
            assert!(error.message.starts_with(&format!("Invalid Stripe API version: {text}")), "{text}");
        }
    }

    #[test]
    fn days_are_compared_not_names() {
        let old = Version::parse("2025-02-24.acacia").unwrap();
        assert!(old.before(BASIL) && !old.before(UNEMBEDDED));
        assert!(!Version::parse("2025-03-31.basil").unwrap().before(BASIL));
    }
}
