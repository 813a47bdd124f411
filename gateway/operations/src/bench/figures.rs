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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits() {
        assert_eq!([0.0, 0.526, 5.26, 52.6, 526.4].map(figure), ["0.00", "0.53", "5.3", "53", "526"]);
        assert_eq!((or_dash(None), times(Some(0.35))), ("–".to_owned(), "0.35 ×".to_owned()));
    }
}
