//! The running gateway that a command asks.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::bail;
use config::{self, Settings};
use operations::running::Running;

/// The one at `--admin`, else the one that the configuration describes; with its token, where there
/// is a configuration.
pub(super) fn running(admin: Option<SocketAddr>, config: Option<&Path>) -> anyhow::Result<Running> {
    match (admin, config) {
        (Some(address), None) => Running::at(address, None),
        (admin, Some(path)) => described(admin, &config::load(path)?),
        (None, None) => bail!("name the gateway: --config with its file, or --admin with its admin.listen"),
    }
}

/// The one that these settings describe, at `--admin` where that is given.
pub(super) fn described(admin: Option<SocketAddr>, settings: &Settings) -> anyhow::Result<Running> {
    Running::at(admin.unwrap_or(settings.admin.listen), settings.admin.token.clone())
}
