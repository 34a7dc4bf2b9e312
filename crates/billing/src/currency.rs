//! Currencies: how many decimals Stripe's minor unit has, and how many of them are real.

use std::fmt;

use crate::money::MoneyError;

/// Three ASCII letters in lower case, as Stripe writes them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

/// Stripe's zero-decimal currencies: the amount is in whole units.
const ZERO_DECIMAL: [&[u8; 3]; 15] = [
    b"bif", b"clp", b"djf", b"gnf", b"jpy", b"kmf", b"krw", b"mga", b"pyg", b"rwf", b"vnd", b"vuv", b"xaf", b"xof",
    b"xpf",
];
/// Stripe's three-decimal currencies.
const THREE_DECIMAL: [&[u8; 3]; 5] = [b"bhd", b"jod", b"kwd", b"omr", b"tnd"];
/// Counted by Stripe in hundredths that are always whole: the currency itself has no decimals. (HUF and TWD are special
/// for payouts only and have two real decimals in charges.)
const WHOLE_IN_HUNDREDTHS: [&[u8; 3]; 2] = [b"isk", b"ugx"];

/// The currencies in use by ISO 4217 (funds, metals and test codes left out).
const ISO_4217: &str = "aed afn all amd aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd btn bwp byn bzd \
cad cdf chf clp cny cop crc cup cve czk djf dkk dop dzd egp ern etb eur fjd fkp gbp gel ghs gip gmd gnf gtq gyd hkd hnl \
htg huf idr ils inr iqd irr isk jmd jod jpy kes kgs khr kmf kpw krw kwd kyd kzt lak lbp lkr lrd lsl lyd mad mdl mga mkd \
mmk mnt mop mru mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd omr pab pen pgk php pkr pln pyg qar ron rsd rub rwf sar \
sbd scr sdg sek sgd shp sle sos srd ssp stn svc syp szl thb tjs tmt tnd top try ttd twd tzs uah ugx usd uyu uzs ved ves \
vnd vuv wst xaf xcd xcg xof xpf yer zar zmw zwg";

impl Currency {
    /// The United States dollar.
    pub const USD: Currency = Currency(*b"usd");

    /// Reads three ASCII letters of either case. Any three will do: Stripe may know a currency before this program does.
    pub fn parse(text: &str) -> Result<Currency, MoneyError> {
        match <[u8; 3]>::try_from(text.as_bytes()) {
            Ok(code) if code.iter().all(u8::is_ascii_alphabetic) => {
                Ok(Currency(code.map(|byte| byte.to_ascii_lowercase())))
            }
            Ok(_) | Err(_) => Err(MoneyError::NotACurrency(text.chars().take(16).collect())),
        }
    }

    /// The code in lower case.
    pub fn code(&self) -> &str {
        // Three ASCII letters by construction, so the conversion cannot fail.
        std::str::from_utf8(&self.0).unwrap_or("???")
    }

    /// Decimals of Stripe's minor unit: 0, 2 or 3.
    pub fn exponent(self) -> u32 {
        if ZERO_DECIMAL.contains(&&self.0) {
            0
        } else if THREE_DECIMAL.contains(&&self.0) {
            3
        } else {
            2
        }
    }

    /// The smallest amount that exists, in minor units: 100 for ISK and UGX, 1 for all others.
    pub fn step(self) -> i64 {
        if WHOLE_IN_HUNDREDTHS.contains(&&self.0) { 100 } else { 1 }
    }

    /// In the list of ISO 4217? What people type is held against it (`use` for `usd`); what Stripe sends is not.
    pub fn is_listed(self) -> bool {
        ISO_4217.split(' ').any(|code| code == self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}
