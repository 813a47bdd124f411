//! Who reads images through the gateway, and for which platforms.

use std::path::Path;

use anyhow::Context as _;
use backends::Secret;
use config::Account;
use operations::images::{AuthFile, Logins, Platforms};

use crate::arguments::ReadingArguments;

/// The logins that the arguments name, or those of the user.
pub(super) fn logins(arguments: &ReadingArguments) -> anyhow::Result<Logins> {
    if let (Some(username), Some(file)) = (&arguments.username, &arguments.password_file) {
        let account = Account { username: username.clone(), password: password(file)? };
        return Ok(Logins { given: Some(account), files: Vec::new() });
    }
    let files = match &arguments.authfile {
        Some(file) => vec![AuthFile::read(file).context("--authfile")?],
        None => AuthFile::of_user(|name| std::env::var_os(name))?,
    };
    Ok(Logins { given: None, files })
}

/// The platforms that the arguments name, or all.
pub(super) fn platforms(arguments: &ReadingArguments) -> anyhow::Result<Platforms> {
    Platforms::parse(&arguments.platform).context("--platform")
}

/// A password without the end of its line.
pub(super) fn password(file: &Path) -> anyhow::Result<Secret> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("--password-file: cannot read {}", file.display()))?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
}
