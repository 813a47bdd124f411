//! Compares two configurations, key by key. Pure.

mod applied;
mod kept;
mod shown;
mod values;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use self::applied::{Applied, RESTART, applied};
pub(crate) use self::shown::{Shown, shown_fields};
use self::values::{ConfigValue, values};
use crate::Settings;

/// A key that differs between two configurations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The key, its levels joined by dots. `registry.config.X` is the key X of Quay's own file.
    pub key: String,
    /// When the change takes effect.
    pub applied: Applied,
    /// The value before. `None` if the key had none.
    pub from: Option<String>,
    /// The value after. `None` if the key has none.
    pub to: Option<String>,
    /// Whether the values are secret. Then `from` and `to` only say that there is one.
    pub secret: bool,
}

/// What stands in the place of a value that is not shown.
pub const HIDDEN: &str = "(not shown)";

/// The keys in which `to` differs from `from`, sorted by key. A default counts like a value that is written.
#[must_use]
pub fn changes(from: &Settings, to: &Settings) -> Vec<Change> {
    let (from, to) = (values(from), values(to));
    let keys: BTreeSet<_> = from.keys().chain(to.keys()).collect();
    let differs = |key: &String| from.get(key) != to.get(key);
    // A zone that comes or goes is one change, and not one for each of its parameters.
    let is_part = |key: &String| {
        let zone = key.strip_prefix("zones.").and_then(|rest| rest.rsplit_once('.'));
        zone.is_some_and(|(zone, _)| {
            let zone = format!("zones.{zone}");
            from.contains_key(&zone) != to.contains_key(&zone)
        })
    };
    let keys = keys.into_iter().filter(|key| differs(key) && !is_part(key));
    keys.map(|key| change(key, from.get(key), to.get(key))).collect()
}

fn change(key: &str, from: Option<&ConfigValue>, to: Option<&ConfigValue>) -> Change {
    let is_secret = |value: &ConfigValue| matches!(value, ConfigValue::Secret(_));
    let text = |value: &ConfigValue| match value {
        ConfigValue::Plain(text) => text.clone(),
        ConfigValue::Secret(_) => HIDDEN.to_owned(),
    };
    Change {
        key: key.to_owned(),
        // A key that nobody has classed is not applied, so nobody is told that it is.
        applied: applied(key).unwrap_or(Applied::Restart),
        from: from.map(text),
        to: to.map(text),
        secret: from.is_some_and(is_secret) || to.is_some_and(is_secret),
    }
}

#[cfg(test)]
mod tests;
