//! Quantiles. Pure.

/// The quantiles of some values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The minimum.
    pub min: f64,
    /// The first quartile.
    pub p25: f64,
    /// The median.
    pub p50: f64,
    /// The third quartile.
    pub p75: f64,
    /// The 95th percentile. Of 20 values or fewer, it is between the two largest.
    pub p95: f64,
    /// The maximum.
    pub max: f64,
}

impl Spread {
    /// The quantiles of the finite values, in any order. `None` if there are none.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            min: *sorted.first()?,
            p25: quantile(&sorted, 0.25)?,
            p50: quantile(&sorted, 0.5)?,
            p75: quantile(&sorted, 0.75)?,
            p95: quantile(&sorted, 0.95)?,
            max: *sorted.last()?,
        })
    }
}

/// The quantile `q` (0 to 1) of sorted, finite values, interpolated linearly (Hyndman and Fan's definition 7, which R,
/// NumPy and criterion use).
fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = q.clamp(0.0, 1.0) * last as f64;
    let below = (place.floor() as usize).min(last);
    let (low, high) = (sorted[below], sorted[(below + 1).min(last)]);
    // Rounding must not lead beyond either value.
    Some((low + (high - low) * (place - below as f64)).clamp(low, high))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_values() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0, 5.0]).expect("values");
        assert_eq!((spread.min, spread.p25, spread.p50, spread.p75, spread.max), (1.0, 2.0, 3.0, 4.0, 5.0));
        assert!((spread.p95 - 4.8).abs() < 1e-12);
        assert_eq!(quantile(&[1.0, 2.0], 0.5), Some(1.5));
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([f64::NAN, 7.0]).map(|spread| (spread.min, spread.max)), Some((7.0, 7.0)));
    }

    proptest! {
        #[test]
        fn quantiles_are_ordered_and_within(mut values in prop::collection::vec(0.0..1e6_f64, 1..60), a in 0.0..=1.0_f64, b in 0.0..=1.0_f64) {
            values.sort_by(f64::total_cmp);
            let (low, high) = (a.min(b), a.max(b));
            let (at_low, at_high) = (quantile(&values, low).expect("one"), quantile(&values, high).expect("one"));
            prop_assert!(at_low <= at_high);
            prop_assert!(values[0] <= at_low && at_high <= values[values.len() - 1]);
        }

        #[test]
        fn as_many_lie_below_as_it_says(mut values in prop::collection::vec(0.0..1e6_f64, 1..60), q in 0.0..=1.0_f64) {
            values.sort_by(f64::total_cmp);
            let found = quantile(&values, q).expect("one");
            let span = (values.len() - 1) as f64;
            let (below, not_above) = (values.iter().filter(|v| **v < found).count(), values.iter().filter(|v| **v <= found).count());
            prop_assert!(below as f64 <= (q * span).ceil() + 1e-9);
            prop_assert!(not_above as f64 >= (q * span).floor());
        }

        #[test]
        fn order_does_not_matter_and_scale_goes_through(values in prop::collection::vec(0.0..1e6_f64, 1..60), by in 0.1..10.0_f64) {
            let spread = Spread::of(values.iter().copied()).expect("values");
            prop_assert_eq!(Spread::of(values.iter().rev().copied()), Some(spread));
            let scaled = Spread::of(values.iter().map(|value| value * by)).expect("values");
            prop_assert!((scaled.p95 - spread.p95 * by).abs() <= 1e-9 * scaled.max.max(1.0));
        }
    }
}
