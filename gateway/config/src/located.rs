//! Configuration values with their line numbers.

use serde::{Deserialize, Deserializer};

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
        let line = spanned.referenced.line();
        Ok(Self { value: spanned.value, line: (line > 0).then_some(line) })
    }
}
