//! The values of `limits`, `timeouts` and the sweep as texts. Equal texts mean equal values.

use std::time::Duration;

use bytesize::ByteSize;

use crate::Sweep;

/// A value that can be written as a text.
pub(crate) trait Shown {
    /// The text. `None` if no value is set.
    fn shown(&self) -> Option<String>;
}

macro_rules! shown_as_is {
    ($($number:ty),*) => {
        $(impl Shown for $number {
            fn shown(&self) -> Option<String> {
                Some(self.to_string())
            }
        })*
    };
}

shown_as_is!(bool, u32, u64, usize, f64);

impl Shown for Duration {
    fn shown(&self) -> Option<String> {
        Some(humantime::format_duration(*self).to_string())
    }
}

impl Shown for ByteSize {
    fn shown(&self) -> Option<String> {
        Some(size(self.as_u64()))
    }
}

impl<T: Shown> Shown for Option<T> {
    fn shown(&self) -> Option<String> {
        self.as_ref().and_then(Shown::shown)
    }
}

/// The units in which a size is written, if it is a multiple of one.
const UNITS: [(u64, &str); 7] = [
    (1 << 40, "TiB"),
    (1 << 30, "GiB"),
    (1 << 20, "MiB"),
    (1_000_000_000, "GB"),
    (1_000_000, "MB"),
    (1 << 10, "KiB"),
    (1000, "KB"),
];

/// A size in bytes, without rounding.
pub(super) fn size(bytes: u64) -> String {
    let unit = UNITS.iter().find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit));
    unit.map_or_else(|| bytes.to_string(), |(unit, name)| format!("{}{name}", bytes / unit))
}

/// Makes the fields of a group of keys values that can be compared.
macro_rules! shown_fields {
    ($group:ty { $($key:ident),* $(,)? }) => {
        impl $group {
            /// Each key and its value.
            pub(crate) fn shown(&self) -> Vec<(&'static str, Option<String>)> {
                // Names every field, so that the compiler reports a field that is missing here.
                let Self { $($key),* } = self;
                vec![$((stringify!($key), $crate::changes::Shown::shown($key))),*]
            }
        }
    };
}

pub(crate) use shown_fields;

shown_fields!(Sweep { enabled, every, rate, backlog });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_not_rounded() {
        for (bytes, text) in
            [(0, "0"), (1 << 30, "1GiB"), (20_000_000_000, "20GB"), (65 << 10, "65KiB"), (1025, "1025")]
        {
            assert_eq!(size(bytes), text);
        }
    }
}
