//! What units cost: the charge models that the sandbox computes, in exact decimals of the currency.

use super::asked::Fields;
use super::decimal::{Decimal, Result, Rounding};
use serde_json::Value;
use std::cmp::Ordering;

/// How units become an amount.
#[derive(Debug, Clone)]
pub(super) enum Model {
    /// So much per unit.
    Standard { amount: Decimal },
    /// So much per begun package.
    Package { amount: Decimal, free_units: Decimal, package_size: Decimal },
    /// Each range prices the units that lie in it.
    Graduated(Vec<Range>),
    /// The range that the total lies in prices all units.
    Volume(Vec<Range>),
    /// The events carry their price.
    Dynamic,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    /// Inclusive; none in the last range.
    to: Option<Decimal>,
    per_unit: Decimal,
    flat: Decimal,
}

impl Model {
    /// Errors: the field and the code of what is wrong. `percentage`, `graduated_percentage` and `custom` are Lago's too;
    /// the sandbox does not compute them and so does not take them.
    pub(super) fn read(
        name: &str,
        properties: Option<&Value>,
    ) -> std::result::Result<Model, (&'static str, &'static str)> {
        let nothing = serde_json::Map::new();
        let sent = properties.and_then(Fields::of).unwrap_or(Fields(&nothing));
        let positive = |name: &str| sent.amount(name).filter(|amount| !amount.is_negative());
        let amount = || positive("amount").ok_or(("properties", "invalid_amount"));
        match name {
            "standard" => Ok(Model::Standard { amount: amount()? }),
            "package" => Ok(Model::Package {
                amount: amount()?,
                free_units: positive("free_units").ok_or(("properties", "invalid_free_units"))?,
                package_size: positive("package_size")
                    .filter(|size| !size.is_zero())
                    .ok_or(("properties", "invalid_package_size"))?,
            }),
            "graduated" => ranges(sent, "graduated_ranges", "missing_graduated_ranges").map(Model::Graduated),
            "volume" => ranges(sent, "volume_ranges", "missing_volume_ranges").map(Model::Volume),
            "dynamic" => Ok(Model::Dynamic),
            _ => Err(("charge_model", "value_is_invalid")),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Model::Standard { .. } => "standard",
            Model::Package { .. } => "package",
            Model::Graduated(_) => "graduated",
            Model::Volume(_) => "volume",
            Model::Dynamic => "dynamic",
        }
    }

    /// What the units cost, before rounding. `carried`: the sum of the prices, in cents, that the events carry.
    pub(super) fn price(&self, units: Decimal, carried: Decimal) -> Result {
        if units.is_zero() || units.is_negative() {
            return Ok(Decimal::ZERO);
        }
        match self {
            Model::Standard { amount } => units.times(*amount),
            Model::Package { amount, free_units, package_size } => {
                let paid = units.minus(*free_units)?.or_zero_if_negative();
                let packages = paid.over(*package_size, 0, Rounding::Up)?.unwrap_or_default();
                packages.times(*amount)
            }
            Model::Graduated(ranges) => graduated(ranges, units),
            Model::Volume(ranges) => volume(ranges, units),
            Model::Dynamic => Ok(carried.over(Decimal::whole(100), 20, Rounding::HalfUp)?.unwrap_or_default()),
        }
    }
}

fn ranges(
    sent: Fields<'_>,
    name: &str,
    missing: &'static str,
) -> std::result::Result<Vec<Range>, (&'static str, &'static str)> {
    let range = |value: &Value| {
        let sent = Fields::of(value)?;
        Some(Range {
            to: sent.value("to_value").map(|to| Decimal::amount(Some(to)).ok_or(())).transpose().ok()?,
            per_unit: sent.amount("per_unit_amount")?,
            flat: sent.amount("flat_amount").unwrap_or_default(),
        })
    };
    let read: Option<Vec<Range>> = sent.list(name).iter().map(range).collect();
    let read = read.ok_or(("properties", "invalid_amount"))?;
    if read.is_empty() {
        return Err(("properties", missing));
    }
    // Only the last range is open.
    let open = read.iter().position(|range| range.to.is_none());
    if open == Some(read.len() - 1) { Ok(read) } else { Err(("properties", "invalid_graduated_ranges")) }
}

fn graduated(ranges: &[Range], units: Decimal) -> Result {
    let (mut sum, mut below) = (Decimal::ZERO, Decimal::ZERO);
    for range in ranges {
        let (top, is_last) = match range.to {
            Some(to) if units.compared(to)? == Ordering::Greater => (to, false),
            _ => (units, true),
        };
        sum = sum.plus(range.flat)?.plus(top.minus(below)?.times(range.per_unit)?)?;
        if is_last {
            break;
        }
        below = top;
    }
    Ok(sum)
}

fn volume(ranges: &[Range], units: Decimal) -> Result {
    for range in ranges {
        let fits = match range.to {
            Some(to) => units.compared(to)? != Ordering::Greater,
            None => true,
        };
        if fits {
            return units.times(range.per_unit)?.plus(range.flat);
        }
    }
    Ok(Decimal::ZERO)
}

/// The decimals of a currency that we know; none for what is no currency.
pub(super) fn decimals(currency: &str) -> Option<u32> {
    const NONE: &[&str] = &[
        "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF",
    ];
    const THREE: &[&str] = &["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"];
    const TWO: &str = "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BWP BYN BZD CAD CDF CHF CNY COP \
                       CRC CVE CZK DKK DOP DZD EGP ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HRK HTG HUF IDR ILS INR IRR JMD \
                       KES KGS KHR KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR \
                       NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SEK SGD SHP SLL SOS SRD STD SZL THB TJS TOP TRY TTD \
                       TWD TZS UAH USD UYU UZS WST XCD YER ZAR ZMW";
    if NONE.contains(&currency) {
        Some(0)
    } else if THREE.contains(&currency) {
        Some(3)
    } else {
        TWO.split(' ').any(|own| own == currency).then_some(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn prices_by_hand() {
        let ranges = json!([
            {"from_value": 0, "to_value": 10, "per_unit_amount": "0.01", "flat_amount": "0.01"},
            {"from_value": 11, "to_value": null, "per_unit_amount": "0.005", "flat_amount": "1"},
        ]);
        let graduated = json!({ "graduated_ranges": ranges });
        let volume = json!({ "volume_ranges": ranges });
        let package = json!({"amount": "5", "free_units": 100, "package_size": 1000});
        for (model, properties, units, wanted) in [
            ("standard", &json!({"amount": "0.002"}), "1500", "3.0"),
            ("standard", &json!({"amount": "0.002"}), "-4", "0.0"),
            ("package", &package, "100", "0.0"),
            ("package", &package, "100.5", "5.0"),
            ("package", &package, "1101", "10.0"),
            ("graduated", &graduated, "0", "0.0"),
            ("graduated", &graduated, "4", "0.05"),
            ("graduated", &graduated, "12", "1.12"),
            ("volume", &volume, "10", "0.11"),
            ("volume", &volume, "12", "1.06"),
        ] {
            let read = Model::read(model, Some(properties)).unwrap();
            let price = read.price(Decimal::plain(units).unwrap(), Decimal::ZERO).unwrap();
            assert_eq!(price.text(), wanted, "{model} {units}");
        }
    }

    #[test]
    fn what_cannot_be_computed_is_refused() {
        for (model, properties, wanted) in [
            ("standard", json!({}), ("properties", "invalid_amount")),
            ("standard", json!({"amount": "cheap"}), ("properties", "invalid_amount")),
            (
                "package",
                json!({"amount": "1", "free_units": 0, "package_size": 0}),
                ("properties", "invalid_package_size"),
            ),
            ("graduated", json!({}), ("properties", "missing_graduated_ranges")),
            ("percentage", json!({"rate": "1"}), ("charge_model", "value_is_invalid")),
        ] {
            assert_eq!(Model::read(model, Some(&properties)).unwrap_err(), wanted);
        }
    }
}
