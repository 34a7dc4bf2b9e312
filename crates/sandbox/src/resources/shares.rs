//! A part of an amount, rounded once: half away from zero, so that a credit gives back what its charge took.

/// So much of `amount` as `part` is of `whole`; nothing of what is a part of nothing.
pub(super) fn share(amount: i64, part: i128, whole: i128) -> i64 {
    if whole == 0 {
        return 0;
    }
    let product = i128::from(amount).saturating_mul(part);
    let size = (product.unsigned_abs().saturating_mul(2) + whole.unsigned_abs()) / (whole.unsigned_abs() * 2);
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    if (product < 0) == (whole < 0) { size } else { -size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_away_from_zero() {
        for (amount, part, whole, expected) in [
            (100, 1, 3, 33),
            (100, 2, 3, 67),
            (100, 3, 3, 100),
            (1, 1, 2, 1),
            (-1, 1, 2, -1),
            (-100, 1, -3, 33),
            (100, -1, 3, -33),
            (0, 5, 7, 0),
            (7, 5, 0, 0),
            (i64::MAX, 3, 1, i64::MAX),
        ] {
            assert_eq!(share(amount, part, whole), expected, "{part}/{whole} of {amount}");
        }
    }
}
