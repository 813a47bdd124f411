//! Formats sizes, times and speeds for people.

use std::time::Duration;

/// A size in decimal units, as registries show it: `96.0 MB`, `721 B`.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// A time, such as `8.7 ms`, `426 ms`, `2.41 s`.
pub(crate) fn time(time: Duration) -> String {
    match time.as_millis() {
        0..100 => format!("{:.1} ms", time.as_secs_f64() * 1e3),
        100..1_000 => format!("{:.0} ms", time.as_secs_f64() * 1e3),
        _ => format!("{:.2} s", time.as_secs_f64()),
    }
}

/// A speed, such as `213 MB/s`. Empty for small blobs, whose speed means nothing.
pub(crate) fn speed(bytes: u64, time: Duration) -> String {
    if bytes < 1_000_000 {
        return String::new();
    }
    format!("{:.0} MB/s", bytes as f64 / 1e6 / time.as_secs_f64().max(1e-9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_fit_the_values() {
        assert_eq!((bytes(721), bytes(96_000_000)), ("721 B".into(), "96.0 MB".into()));
        assert_eq!(time(Duration::from_millis(2_410)), "2.41 s");
        assert_eq!(speed(50_000_000, Duration::from_millis(500)), "100 MB/s");
        assert_eq!(speed(10, Duration::ZERO), "");
    }
}
