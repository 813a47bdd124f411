//! Finds the running gateway that a command is for.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::bail;
use config::{self, Settings};
use operations::AdminTls;
use operations::admin_client::AdminClient;

use crate::arguments::AdminArguments;

/// A client of the gateway at `--admin`, or else of the one in the configuration. The token is in the configuration.
pub(super) fn admin_client(arguments: &AdminArguments, config: Option<&Path>) -> anyhow::Result<AdminClient> {
    match (arguments.admin, config) {
        (_, Some(path)) => client_for(arguments, &config::load(path)?),
        (Some(address), None) => client_at(arguments, address),
        (None, None) => {
            bail!("give the gateway's configuration file with --config, or its admin.listen with --admin")
        }
    }
}

/// A client of the gateway with these settings, at `--admin` if that is given.
pub(super) fn client_for(arguments: &AdminArguments, settings: &Settings) -> anyhow::Result<AdminClient> {
    let tls = settings.admin.tls.then(|| {
        let tls = AdminTls::of(settings, arguments.ca.as_deref());
        tls.for_host(arguments.server_name.as_deref())
    });
    let address = arguments.admin.unwrap_or(settings.admin.listen);
    AdminClient::at(address, settings.admin.token.clone(), tls.as_ref())
}

/// A client of a gateway whose configuration is not known.
pub(super) fn client_at(arguments: &AdminArguments, address: SocketAddr) -> anyhow::Result<AdminClient> {
    let tls = arguments.ca.as_deref().map(AdminTls::trusting);
    let tls = tls.map(|tls| tls.for_host(arguments.server_name.as_deref()));
    AdminClient::at(address, None, tls.as_ref())
}
