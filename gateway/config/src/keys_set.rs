//! The keys that a configuration sets, for people who help: names, and only such values as cannot be secrets.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use super::env::PREFIX;
use super::file::ConfigFile;
use super::{ConfigError, read_yaml};

/// Groups whose values are sizes, times, numbers and switches. A value of any other key is not shown: what is not
/// listed here counts as secret.
const SHOWN: [&str; 6] = ["cache", "limits", "proxy_protocol", "replication__limits", "routing", "timeouts"];

/// The keys that the file at `path` and the variables of the environment set, one a line.
///
/// Only keys of the schema are named, because anything may be written where a key belongs. Values are shown if
/// `is_accepted`: then each of them has the type of its key.
///
/// # Errors
/// The file cannot be read, or is not YAML.
pub fn keys_set(path: &Path, is_accepted: bool) -> Result<String, ConfigError> {
    keys_set_with(path, is_accepted, std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()))
}

/// Like [`keys_set`], with the names of the given environment variables.
fn keys_set_with(
    path: &Path,
    is_accepted: bool,
    variables: impl Iterator<Item = String>,
) -> Result<String, ConfigError> {
    let file: Value = read_yaml(path, None)?;
    let mut found = Found::default();
    found.group(&file, "");
    let mut text = String::new();
    for (key, value) in &found.keys {
        let name = key.replace("__", ".");
        // Writing to a string does not fail.
        let _ = match value.filter(|_| is_accepted && is_shown(key)) {
            Some(value) => writeln!(text, "{name}: {value}"),
            None => writeln!(text, "{name}: (set, not shown)"),
        };
    }
    for name in variables.filter(|name| name.starts_with(PREFIX)) {
        match is_key(&name[PREFIX.len()..].to_ascii_lowercase()) {
            true => _ = writeln!(text, "{name}: (set in the environment, not shown)"),
            false => found.unknown += 1,
        }
    }
    if found.unknown > 0 {
        let _ = writeln!(text, "{} keys that this release does not know are not named", found.unknown);
    }
    Ok(text)
}

/// Whether the schema has this key, whose levels are joined by two underscores.
fn is_key(name: &str) -> bool {
    ConfigFile::default().take(ConfigFile::default(), name)
}

fn is_shown(key: &str) -> bool {
    SHOWN
        .iter()
        .any(|group| key == *group || key.strip_prefix(group).is_some_and(|rest| rest.starts_with("__")))
}

#[derive(Debug, Default)]
struct Found<'a> {
    /// The value is there if it has no keys of its own.
    keys: BTreeMap<String, Option<&'a Value>>,
    /// How many keys the schema does not have.
    unknown: usize,
}

impl<'a> Found<'a> {
    /// Adds the keys of a group. Keys of a map whose keys the operator chooses, such as `zones`, are not named.
    fn group(&mut self, value: &'a Value, above: &str) {
        let Value::Object(map) = value else { return };
        for (key, value) in map {
            let name = if above.is_empty() { key.clone() } else { format!("{above}__{key}") };
            if !is_key(&name) {
                self.unknown += 1;
                continue;
            }
            let is_group =
                value.as_object().is_some_and(|map| map.keys().any(|key| is_key(&format!("{name}__{key}"))));
            if is_group {
                self.group(value, &name);
            } else {
                let value = Some(value).filter(|value| !value.is_object() && !value.is_array());
                self.keys.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
listen: 127.0.0.1:8443
timeouts: {drain: 20s, hunter2: 1s}
limits:
  headers: 50
registry:
  url: https://user:hunter2@quay.example.com
  account: {username: robot, password_file: /etc/hunter2}
zones: {hunter2: [LocalStorage, {secret_key: hunter2}]}
routing: {zones: {hunter2: {drain: true}}}
hunter2: hunter2
journal: postgres://u:hunter2@h/d
";

    fn shown(is_accepted: bool) -> String {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("gateway.yaml");
        std::fs::write(&path, FILE).expect("writes");
        let variables = ["QUAY_GATEWAY__REGISTRY__URL", "QUAY_GATEWAY__HUNTER2", "HUNTER2"];
        keys_set_with(&path, is_accepted, variables.map(str::to_owned).into_iter()).expect("YAML")
    }

    #[test]
    fn keys_are_named_and_only_harmless_values_are_shown() {
        let text = shown(true);
        for line in [
            "limits.headers: 50",
            "timeouts.drain: \"20s\"",
            "registry.url: (set, not shown)",
            "registry.account.password_file: (set, not shown)",
            "zones: (set, not shown)",
            "routing.zones: (set, not shown)",
            "journal: (set, not shown)",
            "QUAY_GATEWAY__REGISTRY__URL: (set in the environment, not shown)",
            "3 keys that this release does not know are not named",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
        assert!(!text.to_lowercase().contains("hunter2"), "{text}");
    }

    #[test]
    fn a_configuration_that_is_refused_shows_no_value() {
        let text = shown(false);
        assert!(text.contains("limits.headers: (set, not shown)"), "{text}");
    }
}
