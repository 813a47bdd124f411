//! Writes families in the OpenMetrics text form that prometheus-client cannot write: histograms of gauges, and
//! histograms whose exemplars are kept elsewhere.

use std::fmt::{self, Display, Write};

/// Writes the head of a family.
pub(super) fn head(text: &mut String, name: &str, help: &str, kind: &str) -> fmt::Result {
    writeln!(text, "# HELP {name} {help}.\n# TYPE {name} {kind}")
}

/// Labels as they stand between the braces, with their values escaped.
pub(super) fn labels(pairs: &[(&str, &str)]) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    pairs.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect::<Vec<_>>().join(",")
}

/// Writes the number of values that are not above `bound`, without the end of the line.
pub(super) fn bucket(text: &mut String, name: &str, labels: &str, bound: f64, count: u64) -> fmt::Result {
    match bound.is_finite() {
        // OpenMetrics requires a decimal point in the bound.
        true => write!(text, "{name}_bucket{{{labels},le=\"{bound:?}\"}} {count}"),
        false => write!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}"),
    }
}

/// Writes a value of the family, such as its sum.
pub(super) fn value(
    text: &mut String,
    name: &str,
    suffix: &str,
    labels: &str,
    value: impl Display,
) -> fmt::Result {
    writeln!(text, "{name}_{suffix}{{{labels}}} {value}")
}
