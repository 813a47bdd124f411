//! `journal`: where the list of pending copies is kept.

use std::fmt;
use std::path::{Path, PathBuf};

use backends::Secret;
use postgres_connection::Database;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::ConfigError;
use super::files::secret_file;
use super::located::Located;

/// The value of `journal` or of another key that names a database.
#[derive(Debug, Clone)]
pub(crate) enum JournalEntry {
    Sqlite,
    Url(Secret),
    UrlFile(PathBuf),
}

/// Where the list of pending copies is kept.
#[derive(Debug, Clone, Default)]
pub enum JournalSettings {
    /// In SQLite in `state_dir`. Only this gateway uses it.
    #[default]
    Sqlite,
    /// In PostgreSQL. All replicas with the same setting share it.
    Postgres(Box<Database>),
}

impl<'de> Deserialize<'de> for JournalEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct JournalVisitor;

        impl<'de> Visitor<'de> for JournalVisitor {
            type Value = JournalEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`sqlite`, a URL that begins with postgres://, or {url_file: FILE}")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<JournalEntry, E> {
                Ok(match text {
                    "sqlite" => JournalEntry::Sqlite,
                    _ => JournalEntry::Url(Secret::new(text)),
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JournalEntry, A::Error> {
                let mut file = None;
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "url_file" => file = Some(map.next_value()?),
                        _ => return Err(Error::unknown_field(&key, &["url_file"])),
                    }
                }
                file.map(JournalEntry::UrlFile).ok_or_else(|| Error::missing_field("url_file"))
            }
        }

        deserializer.deserialize_any(JournalVisitor)
    }
}

/// Checks `journal`, and reads the URL if it is in a file of its own.
///
/// # Errors
/// The file cannot be read, or the URL is not valid.
pub(super) fn journal(
    path: &Path,
    entry: Option<&Located<JournalEntry>>,
) -> Result<JournalSettings, ConfigError> {
    let Some(entry) = entry else { return Ok(JournalSettings::Sqlite) };
    let Some(url) = url(path, "journal", entry)? else { return Ok(JournalSettings::Sqlite) };
    let database = Database::parse(&url).map(Box::new).map(JournalSettings::Postgres);
    database.map_err(|why| ConfigError::new(path, entry.line, format!("journal: {why}; or `sqlite`")))
}

/// The URL of a database, which may be in a file of its own. `None` for `sqlite`.
///
/// # Errors
/// The file cannot be read.
pub(super) fn url(
    path: &Path,
    key: &str,
    entry: &Located<JournalEntry>,
) -> Result<Option<Secret>, ConfigError> {
    match &entry.value {
        JournalEntry::Sqlite => Ok(None),
        JournalEntry::Url(url) => Ok(Some(url.clone())),
        JournalEntry::UrlFile(file) => {
            let file = Located { value: file.clone(), line: entry.line };
            let text = secret_file(path, &format!("{key}.url_file"), &file)?;
            Ok(Some(Secret::new(text.reveal().trim())))
        }
    }
}
