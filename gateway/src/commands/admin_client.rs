//! Finds the running gateway that a command is for.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::bail;
use config::{self, Settings};
use operations::admin_client::AdminClient;

/// A client of the gateway at `--admin`, or else of the one in the configuration. The token is in the configuration.
pub(super) fn admin_client(admin: Option<SocketAddr>, config: Option<&Path>) -> anyhow::Result<AdminClient> {
    match (admin, config) {
        (Some(address), None) => AdminClient::at(address, None),
        (admin, Some(path)) => client_for(admin, &config::load(path)?),
        (None, None) => {
            bail!("give the gateway's configuration file with --config, or its admin.listen with --admin")
        }
    }
}

/// A client of the gateway with these settings, at `--admin` if that is given.
pub(super) fn client_for(admin: Option<SocketAddr>, settings: &Settings) -> anyhow::Result<AdminClient> {
    AdminClient::at(admin.unwrap_or(settings.admin.listen), settings.admin.token.clone())
}
