//! The arguments of `clients`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use operations::clients::{Client, RegistryName, Role};

#[derive(Debug, Args)]
pub(crate) struct ClientsArguments {
    /// The client.
    #[arg(value_name = "CLIENT")]
    pub(crate) client: ClientArgument,
    /// The configuration file of the gateway, for its hostname, the registry's own name, and the CA.
    #[arg(long, value_name = "FILE", env = "QUAY_GATEWAY_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// The gateway's name for clients, instead of the configured hostname.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) gateway: Option<RegistryName>,
    /// The registry's own name, such as Quay's SERVER_HOSTNAME, instead of the configured one.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) registry: Option<RegistryName>,
    /// The registry itself speaks plain HTTP. By default what the configuration says.
    #[arg(long)]
    pub(crate) registry_http: bool,
    /// The CA that clients must trust to trust the gateway, in PEM. By default the CA that the gateway made in
    /// state_dir, ca.crt beside tls.certificate, or the last certificate of tls.certificate if that signed itself. Else
    /// clients use the roots of their systems.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// The CA of the registry itself, for clients that fall back to it and do not trust it yet, in PEM.
    #[arg(long, value_name = "FILE")]
    pub(crate) registry_ca: Option<PathBuf>,
    /// Only this role of the gateway. By default each role that is possible.
    #[arg(long = "as", value_name = "ROLE")]
    pub(crate) role: Option<RoleArgument>,
    /// Write the files below this folder, as they lie on a node, instead of printing them. May be /. A file that is
    /// there with other contents is not replaced.
    #[arg(long, value_name = "DIR")]
    pub(crate) write: Option<PathBuf>,
    /// Replace files that are there with other contents. They are kept beside the new ones, with .orig after their
    /// names (then .orig.1 to .orig.9).
    #[arg(long, requires = "write")]
    pub(crate) force: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ClientArgument {
    /// hosts.toml and the CA, in certs.d.
    Containerd,
    /// The CA in certs.d, and a drop-in in registries.conf.d.
    Crio,
    /// The CA in certs.d, and a drop-in in registries.conf.d. For buildah, too.
    Podman,
    /// The CA in certs.d. Only by name.
    Docker,
    /// For oc: a ConfigMap with the CA, a patch of image.config.openshift.io/cluster, a filter for the pull secret,
    /// an ImageDigestMirrorSet and an ImageTagMirrorSet.
    Openshift,
    /// The CA in certs.d, and a drop-in in registries.conf.d.
    Skopeo,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum RoleArgument {
    /// Images keep the registry's name. The client asks the gateway first.
    Mirror,
    /// Images are named after the gateway.
    Name,
}

impl From<ClientArgument> for Client {
    fn from(argument: ClientArgument) -> Self {
        match argument {
            ClientArgument::Containerd => Self::Containerd,
            ClientArgument::Crio => Self::Crio,
            ClientArgument::Podman => Self::Podman,
            ClientArgument::Docker => Self::Docker,
            ClientArgument::Openshift => Self::Openshift,
            ClientArgument::Skopeo => Self::Skopeo,
        }
    }
}

impl From<RoleArgument> for Role {
    fn from(argument: RoleArgument) -> Self {
        match argument {
            RoleArgument::Mirror => Self::Mirror,
            RoleArgument::Name => Self::Name,
        }
    }
}

/// One example for each client.
pub(crate) fn clients_examples() -> String {
    let examples = [
        (
            "What a node with containerd needs; then the same, in its place",
            "containerd --config gateway.yaml",
        ),
        ("", "containerd --config gateway.yaml --write /"),
        (
            "A tree for many nodes with CRI-O, for a configuration tool",
            "crio --config gateway.yaml --write tree",
        ),
        (
            "podman on a machine without the gateway's configuration",
            "podman --gateway \
          edge.example.com:8443 --registry quay.example.com --ca ca.pem",
        ),
        ("docker, by name", "docker --gateway edge.example.com:8443 --ca ca.pem --write /"),
        (
            "An OpenShift cluster: files in ./quay-gateway, and the commands for oc",
            "openshift --config gateway.yaml \
          --write .",
        ),
        (
            "skopeo, with a registry whose CA is private",
            "skopeo --config gateway.yaml --registry-ca quay-ca.pem",
        ),
    ];
    let mut text = String::from("Examples:\n");
    for (what, arguments) in examples {
        if !what.is_empty() {
            text.push_str(&format!("  # {what}\n"));
        }
        text.push_str(&format!("  quay-gateway clients {arguments}\n"));
    }
    text
}
