//! The arguments that locate a running gateway.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

/// Where the admin API is, and how it is verified.
#[derive(Debug, Args)]
pub(crate) struct AdminArguments {
    /// The gateway's admin.listen, instead of the one in its configuration.
    #[arg(long, value_name = "ADDRESS", global = true)]
    pub(crate) admin: Option<SocketAddr>,
    /// A file of CAs to trust if the gateway has admin.tls, beside the system's and those of the configuration. Without a
    /// configuration, it also says that the gateway has admin.tls.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) ca: Option<PathBuf>,
    /// The host that the gateway's certificate must be for, instead of the configured hostname; without a configuration,
    /// instead of the address.
    #[arg(long, value_name = "HOST", global = true)]
    pub(crate) server_name: Option<String>,
}
