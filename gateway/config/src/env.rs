//! Configuration from environment variables, for containers.
//!
//! `registry.server_name` is `QUAY_GATEWAY__REGISTRY__SERVER_NAME`. Levels are joined by two underscores, so
//! that the variables that Kubernetes sets for a Service called `quay-gateway` (`QUAY_GATEWAY_PORT`, …) never
//! collide with them. Values are YAML.

use serde::de::IgnoredAny;

use super::file::ConfigFile;
use super::{ConfigError, from_yaml, located};

/// The prefix of every variable.
pub(crate) const PREFIX: &str = "QUAY_GATEWAY__";

const NO_VALUE: &str = "the value is empty: remove the variable to keep the value of the file";

const UNKNOWN_KEY: &str =
    "no such key; levels are joined by two underscores, as in QUAY_GATEWAY__REGISTRY__URL";

/// Generates `take` for a group of keys: all of them, then those which are groups themselves.
macro_rules! keys {
    ($group:ty { $($key:ident),* $(,)? } $($inner:ident),*) => {
        impl $group {
            /// Takes one key from another group of this kind. Returns whether there is such a key.
            pub(super) fn take(&mut self, from: Self, name: &str) -> bool {
                // Names every field, so that the compiler reports a field that is missing here.
                let Self { $($key),* } = from;
                let (first, rest) = name.split_once("__").unwrap_or((name, ""));
                match (first, rest) {
                    $((stringify!($inner), rest) if !rest.is_empty() => return self.$inner.take($inner, rest),)*
                    // A secret may be in a file of its own, which is named one level below its key.
                    $((stringify!($key), "" | "url_file") => self.$key = $key,)*
                    _ => return false,
                }
                true
            }

            /// Adds the names of the keys that are no groups, with `above` before each.
            #[cfg(test)]
            pub(super) fn names(&self, above: &str, names: &mut Vec<String>) {
                let groups: &[&str] = &[$(stringify!($inner)),*];
                let keys: &[&str] = &[$(stringify!($key)),*];
                names.extend(keys.iter().filter(|key| !groups.contains(key)).map(|key| format!("{above}{key}")));
                $(self.$inner.names(&format!("{above}{}.", stringify!($inner)), names);)*
            }
        }
    };
}
pub(super) use keys;

/// Overrides keys of the file with the variables.
///
/// # Errors
/// A variable with the prefix names no key, or its value is empty or not valid.
pub(crate) fn overlay(
    file: &mut ConfigFile,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<(), ConfigError> {
    let mut variables: Vec<_> = variables.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    // Sorted, so that a variable for a whole group comes before the variables for its keys.
    variables.sort();
    for (name, value) in variables {
        let key = name[PREFIX.len()..].to_ascii_lowercase();
        if !ConfigFile::default().take(ConfigFile::default(), &key) {
            return Err(ConfigError::variable(&name, UNKNOWN_KEY));
        }
        // Null would remove the value of the file. YAML also reads nothing, a comment or `~` as null.
        if matches!(from_yaml::<Option<IgnoredAny>>(&value), Ok(None)) {
            return Err(ConfigError::variable(&name, NO_VALUE));
        }
        // `registry__url` becomes `url` within `registry`.
        let yaml = key
            .rsplit("__")
            .fold(value, |value, level| format!("{level}:\n  {}", value.replace('\n', "\n  ")));
        let parsed = located::without_lines(|| from_yaml(&yaml));
        file.take(parsed.map_err(|error| ConfigError::variable(&name, &error.to_string()))?, &key);
    }
    Ok(())
}
