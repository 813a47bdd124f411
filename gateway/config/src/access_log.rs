//! `access_log`: a line for each request, apart from the log.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::env::keys;
use super::files::relative_to;
use super::located::Located;

/// The value of `access_log.to` for standard output.
const STDOUT: &str = "stdout";

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AccessLogEntry {
    pub format: Option<AccessLogFormat>,
    pub to: Option<Located<PathBuf>>,
}

keys!(AccessLogEntry { format, to });

/// The form of a line of the access log.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessLogFormat {
    /// A JSON object.
    #[default]
    Json,
    /// The combined log format of Apache and nginx.
    Combined,
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogTarget {
    /// Standard output.
    Stdout,
    /// A file. It is opened again if it was moved.
    File(PathBuf),
}

/// The access log, if it is apart from the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLogSettings {
    /// The form of its lines.
    pub format: AccessLogFormat,
    /// Where it goes.
    pub to: AccessLogTarget,
}

/// `access_log` as it was understood. `None` if no key of it is set.
pub(super) fn access_log(path: &Path, entry: &AccessLogEntry) -> Option<AccessLogSettings> {
    if entry.format.is_none() && entry.to.is_none() {
        return None;
    }
    let to = match &entry.to {
        Some(to) if to.value != Path::new(STDOUT) => AccessLogTarget::File(relative_to(path, &to.value)),
        _ => AccessLogTarget::Stdout,
    };
    Some(AccessLogSettings { format: entry.format.unwrap_or_default(), to })
}
