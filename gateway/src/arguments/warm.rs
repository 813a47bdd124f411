//! The arguments of `warm`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args};
use operations::images::ImageName;
use operations::warm::AT_ONCE_MAX;

use super::Output;

/// `warm`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true).args(["images", "from_file", "from_cluster"]))]
pub(crate) struct WarmArguments {
    /// The configuration file of the gateway, for its hostname, its CA and its service account.
    #[arg(long, value_name = "FILE", env = "QUAY_GATEWAY_CONFIG")]
    pub(crate) config: PathBuf,
    // No comment for rustdoc, which takes the brackets for a link.
    #[arg(
        value_name = "IMAGE",
        value_parser = ImageName::as_clients_write,
        help = "An image: [HOST/]REPOSITORY[:TAG|@DIGEST]. A HOST must be the gateway or its registry. Without a tag, it is latest"
    )]
    pub(crate) images: Vec<ImageName>,
    /// A file with an image a line, or - for standard input. What follows a # is a comment. May be repeated.
    #[arg(long, value_name = "FILE")]
    pub(crate) from_file: Vec<PathBuf>,
    /// The images of the cluster's pods that run or are about to, if they are at the gateway or its registry. Runs
    /// `kubectl get pods -A -o json` with your kubeconfig.
    #[arg(long)]
    pub(crate) from_cluster: bool,
    /// The context of the kubeconfig for --from-cluster.
    #[arg(long, value_name = "NAME", requires = "from_cluster")]
    pub(crate) context: Option<String>,
    #[command(flatten)]
    pub(crate) reading: ReadingArguments,
    /// How many blobs are read at the same time.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=i64::from(AT_ONCE_MAX)))]
    pub(crate) at_once: u32,
    /// The format of the result.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// How images are read through the gateway.
#[derive(Debug, Args)]
pub(crate) struct ReadingArguments {
    /// The platforms of images that have several, such as linux/amd64,linux/arm64, or all. By default all.
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    pub(crate) platform: Vec<String>,
    /// A file of logins of podman or docker. By default REGISTRY_AUTH_FILE, or else
    /// $XDG_RUNTIME_DIR/containers/auth.json, ~/.config/containers/auth.json and ~/.docker/config.json. If none of them
    /// has a login for the gateway or its registry, registry.account reads.
    #[arg(long, value_name = "FILE", conflicts_with = "username")]
    pub(crate) authfile: Option<PathBuf>,
    /// The account that reads, instead of a login of a file.
    #[arg(long, value_name = "NAME", requires = "password_file")]
    pub(crate) username: Option<String>,
    /// A file with the password or token of that account.
    #[arg(long, value_name = "FILE", requires = "username")]
    pub(crate) password_file: Option<PathBuf>,
    /// The gateway's address, instead of the configured listen on this machine. Its certificate must still be for
    /// the configured hostname.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) gateway: Option<SocketAddr>,
}
