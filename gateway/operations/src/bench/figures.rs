//! Numbers for people. Pure.

/// A number with two or three digits: `0.53`, `5.3`, `53`, `530`.
pub(super) fn figure(value: f64) -> String {
    match value.abs() {
        size if size < 1.0 => format!("{value:.2}"),
        size if size < 10.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// The same, or a dash for `None`.
pub(super) fn or_dash(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), figure)
}

/// A ratio: `0.35 ×`.
pub(super) fn times(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{} ×", figure(ratio)))
}

/// A size in bytes.
pub(super) fn size(bytes: u64) -> String {
    bytesize::ByteSize::b(bytes).display().iec().to_string()
}

/// The end of an axis that begins at 0 and reaches `most`, and the step of its ticks. The step is 1, 2 or 5 times
/// a power of ten, and there are 3 to 5 ticks besides 0.
pub(super) fn axis(most: f64) -> (f64, f64) {
    let most = if most.is_finite() && most > 0.0 { most } else { 1.0 };
    let power = 10_f64.powf((most / 5.0).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|by| by * power);
    // The rounding of the logarithm may miss the last step.
    let step = steps.into_iter().find(|step| most / step <= 5.0 + 1e-9).unwrap_or(10.0 * power);
    ((most / step - 1e-9).ceil().max(1.0) * step, step)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn three_digits() {
        assert_eq!([0.0, 0.526, 5.26, 52.6, 526.4].map(figure), ["0.00", "0.53", "5.3", "53", "526"]);
        assert_eq!((or_dash(None), times(Some(0.35))), ("–".to_owned(), "0.35 ×".to_owned()));
    }

    proptest! {
        #[test]
        fn an_axis_holds_all_with_few_ticks(most in 1e-6..1e9_f64) {
            let (end, step) = axis(most);
            let ticks = end / step;
            prop_assert!(end >= most * (1.0 - 1e-9) && end - step <= most);
            prop_assert!((ticks - ticks.round()).abs() < 1e-6 && (1.0..=5.0).contains(&ticks.round()), "{ticks}");
        }
    }

    #[test]
    fn an_axis_of_nothing() {
        for most in [0.0, f64::NAN, f64::INFINITY, -3.0] {
            assert_eq!(axis(most), axis(1.0));
        }
    }
}
