//! The files that the configuration names.

use std::path::{Path, PathBuf};

use backends::Secret;

use super::ConfigError;
use super::file::ConfigFile;
use super::journal::JournalEntry;
use super::located::Located;

/// The path of a file that must exist. Relative paths start at the configuration's folder.
pub(super) fn existing(path: &Path, key: &str, file: &Located<PathBuf>) -> Result<PathBuf, ConfigError> {
    let found = relative_to(path, &file.value);
    match found.is_file() {
        true => Ok(found),
        false => {
            // The value may be a private key that was pasted instead of a path.
            let shown = found.to_str().filter(|path| !path.contains(['\n', '{']) && !path.contains("-----"));
            let shown = shown.unwrap_or("of this name");
            Err(ConfigError::new(path, file.line, format!("{key}: there is no file {shown}")))
        }
    }
}

/// Like [`existing`], for a file that holds a secret. A path that does not exist may be the secret itself, so
/// it is not shown.
pub(super) fn existing_secret(
    path: &Path,
    key: &str,
    file: &Located<PathBuf>,
) -> Result<PathBuf, ConfigError> {
    let found = relative_to(path, &file.value);
    match found.is_file() {
        true => Ok(found),
        false => {
            let why = format!(
                "{key}: there is no such file; relative paths start at the folder of the configuration file"
            );
            Err(ConfigError::new(path, file.line, why))
        }
    }
}

/// Reads a secret from a file of its own, without the newline at its end. If the file cannot be read, its path
/// is not shown, because it may be the secret itself.
pub(super) fn secret_file(path: &Path, key: &str, file: &Located<PathBuf>) -> Result<Secret, ConfigError> {
    let text = std::fs::read_to_string(relative_to(path, &file.value)).map_err(|error| {
        let why = format!(
            "{key}: the file that it names cannot be read: {error}; relative paths start at the folder of the \
             configuration file"
        );
        ConfigError::new(path, file.line, why)
    })?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
}

/// The files that a configuration at `path` is made from: itself, the files that it names, and those of further roots.
/// Certificates that clients see are not among them.
pub(super) fn files_read(path: &Path, file: &ConfigFile, ca_files: &[PathBuf]) -> Vec<PathBuf> {
    let url_file = |entry: &Option<Located<JournalEntry>>| match entry.as_ref().map(|entry| &entry.value) {
        Some(JournalEntry::UrlFile(file)) => Some(file.clone()),
        _ => None,
    };
    let value = |file: &Option<Located<PathBuf>>| file.as_ref().map(|file| file.value.clone());
    let named = [
        value(&file.registry.config),
        value(&file.registry.account.password_file),
        value(&file.admin.token_file),
        file.registry.token_keys.as_ref().and_then(|keys| value(&keys.value.file)),
        url_file(&file.journal),
        url_file(&file.replication.database),
    ];
    let named = named.into_iter().flatten().map(|file| relative_to(path, &file));
    std::iter::once(path.to_owned()).chain(named).chain(ca_files.iter().cloned()).collect()
}

pub(super) fn relative_to(config: &Path, path: &Path) -> PathBuf {
    config.parent().unwrap_or_else(|| Path::new("")).join(path)
}
