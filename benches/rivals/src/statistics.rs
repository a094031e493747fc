//! Medians.

use crate::measure::{Series, Turns};
use crate::pair::Turn;

pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}

/// The median of the rounds; `None` if the peer was not measured.
pub(crate) fn median_of(series: &Series, value: impl Fn(&Turn) -> f64) -> Option<f64> {
    let measured = series.result.as_ref().ok()?;
    Some(median(measured.turns.iter().map(value)))
}

/// The median of the ratios of the rounds.
pub(crate) fn ratio(one: &Turns, other: &Turns, value: impl Fn(&Turn) -> f64) -> f64 {
    let rounds = one.turns.iter().zip(&other.turns);
    median(rounds.map(|(one, other)| value(one) / value(other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
