//! What a reload of the configuration would change.

use config::{Applied, Change, Settings};
use serde::{Deserialize, Serialize};

/// The headers of the table.
const HEADERS: [&str; 4] = ["key", "now", "then", "applied by"];

/// The keys in which two configurations differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigDiff {
    /// The file of the newer configuration.
    pub file: String,
    /// Whether at least one of the changes needs a restart.
    pub needs_restart: bool,
    /// The changes, sorted by key.
    pub changes: Vec<Change>,
}

impl ConfigDiff {
    /// Compares a configuration with a newer one.
    #[must_use]
    pub fn between(from: &Settings, to: &Settings) -> Self {
        let changes = config::changes(from, to);
        let file = to.files.first().map(|file| file.display().to_string()).unwrap_or_default();
        let needs_restart = changes.iter().any(|change| change.applied == Applied::Restart);
        Self { file, needs_restart, changes }
    }
}

/// One row for each change, and what follows from them.
#[must_use]
pub fn table(diff: &ConfigDiff) -> String {
    if diff.changes.is_empty() {
        return format!("nothing differs from {}\n", diff.file);
    }
    let mut table = crate::table::with_headers(HEADERS);
    for change in &diff.changes {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        table.add_row([&change.key, &text(&change.from), &text(&change.to), change.applied.as_str()]);
    }
    let count = diff.changes.iter().filter(|change| change.applied == Applied::Restart).count();
    let conclusion = match count {
        0 => "a reload applies all of it".to_owned(),
        1 => "1 change needs a restart; a reload applies the others".to_owned(),
        _ => format!("{count} changes need a restart; a reload applies the others"),
    };
    format!("{table}\n{conclusion}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: &str, applied: Applied) -> Change {
        Change { key: key.to_owned(), applied, from: None, to: Some("1".to_owned()), secret: false }
    }

    #[test]
    fn the_table_says_what_needs_a_restart() {
        let mut diff = ConfigDiff { file: "gateway.yaml".into(), needs_restart: false, changes: Vec::new() };
        assert_eq!(table(&diff), "nothing differs from gateway.yaml\n");
        diff.changes.push(change("limits.streams", Applied::Reload));
        assert!(table(&diff).contains("a reload applies all of it"));
        diff.changes.push(change("listen", Applied::Restart));
        let text = table(&diff);
        assert!(text.contains("1 change needs a restart") && text.contains("limits.streams"), "{text}");
    }
}
