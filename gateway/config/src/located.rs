//! Configuration values with their line numbers.

use std::cell::Cell;

use serde::{Deserialize, Deserializer};

thread_local! {
    /// Whether the text that is parsed has no lines that could be named. Serde's derived code passes no context.
    static NO_LINES: Cell<bool> = const { Cell::new(false) };
}

/// Parses a text that is not in a file.
pub(super) fn without_lines<T>(parse: impl FnOnce() -> T) -> T {
    NO_LINES.set(true);
    let parsed = parse();
    NO_LINES.set(false);
    parsed
}

/// A configuration value with its line, so that a later check can name the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Located<T> {
    pub value: T,
    /// 1-based; `None` for a value from the environment.
    pub line: Option<u64>,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Located<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = serde_saphyr::Spanned::<T>::deserialize(deserializer)?;
        let line = if NO_LINES.get() { 0 } else { spanned.referenced.line() };
        Ok(Self { value: spanned.value, line: (line > 0).then_some(line) })
    }
}
