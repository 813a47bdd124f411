//! What makes clients use the gateway: their configuration files and Kubernetes objects, as text.
//!
//! A client can use the gateway in two roles. *By name*: images are named `GATEWAY/…`, and the client only needs to
//! trust the gateway. *As a mirror*: images keep the registry's name, and the client asks the gateway first and the
//! registry itself if the gateway does not answer.

mod comment;
mod containerd;
mod containers;
mod docker;
mod earlier;
mod openshift;
mod pull_secret;
mod registry_name;
mod trusted_ca;
mod write;

use std::fmt::Write as _;

pub use earlier::earlier_entries;
pub(crate) use openshift::config_map;
pub use registry_name::{RegistryName, RegistryNameError};
pub use trusted_ca::TrustedCa;
pub use write::{Written, write};

/// A kind of client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// containerd, also as the runtime of Kubernetes.
    Containerd,
    /// CRI-O.
    Crio,
    /// podman, and buildah.
    Podman,
    /// The Docker daemon.
    Docker,
    /// An OpenShift cluster.
    Openshift,
    /// skopeo.
    Skopeo,
}

/// The role of the gateway for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A registry of its own name.
    Name,
    /// A mirror of the registry's name.
    Mirror,
}

/// What the files are made from.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The gateway's name.
    pub gateway: RegistryName,
    /// The registry's own name. `None` if it is not known; then the gateway is no mirror.
    pub registry: Option<RegistryName>,
    /// Whether the registry itself speaks plain HTTP.
    pub registry_is_plain: bool,
    /// What clients must trust to trust the gateway. `None` for the roots of their system.
    pub ca: Option<TrustedCa>,
    /// What clients must trust to trust the registry itself. `None` for what they trust already.
    pub registry_ca: Option<TrustedCa>,
    /// The only role. `None` for each that is possible.
    pub role: Option<Role>,
}

/// Why there are no files. Retrying does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClientsError {
    /// The gateway shall be a mirror, but nothing names the registry.
    #[error("a mirror needs the registry's own name: give --registry, or --config")]
    NoRegistry,
    /// The gateway shall be a mirror of its own name.
    #[error(
        "the gateway has the registry's own name, so there is nothing to mirror: clients that resolve the name to the \
         gateway only need to trust it. Use --as name"
    )]
    SameName,
    /// docker has no mirrors of other registries.
    #[error(
        "docker has mirrors only for Docker Hub (registry-mirrors in daemon.json), so it can use this gateway only by \
         name: use --as name, and name images GATEWAY/NAMESPACE/REPOSITORY"
    )]
    DockerMirror,
    /// The registry's CA is of no use without a mirror.
    #[error(
        "--registry-ca is for a mirror, whose clients fall back to the registry itself; by name they only meet the \
         gateway. Leave it out"
    )]
    UnusedRegistryCa,
}

/// A file for a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFile {
    /// Where it belongs: absolute on a node, relative if it is sent to a cluster.
    pub path: String,
    /// The contents.
    pub text: String,
}

/// All that a client needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// The files, in the order in which they take effect.
    pub files: Vec<ClientFile>,
    /// What to do when they are in their places, one line each.
    pub next: Vec<String>,
}

impl Configuration {
    /// Makes the files for a client.
    ///
    /// # Errors
    /// The role is impossible for the client or with these names.
    pub fn of(client: Client, setup: &Setup) -> Result<Self, ClientsError> {
        let plan = Plan::of(client, setup)?;
        Ok(match client {
            Client::Containerd => containerd::configuration(&plan),
            Client::Crio => containers::configuration(&plan, containers::Tool::Crio),
            Client::Podman => containers::configuration(&plan, containers::Tool::Podman),
            Client::Skopeo => containers::configuration(&plan, containers::Tool::Skopeo),
            Client::Docker => docker::configuration(&plan),
            Client::Openshift => openshift::configuration(&plan),
        })
    }

    /// All files as one text: each after a line with its path, and at the end what to do next.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for file in &self.files {
            // Writing to a string does not fail.
            let _ = writeln!(text, "==> {} <==\n{}", file.path, file.text);
        }
        let _ = writeln!(text, "==> next <==\n{}", self.next_text());
        text
    }

    /// What to do when the files are in their places.
    #[must_use]
    pub fn next_text(&self) -> String {
        self.next.iter().fold(String::new(), |text, line| text + line + "\n").trim_end().to_owned()
    }
}

/// A setup whose roles are decided.
#[derive(Debug)]
struct Plan<'a> {
    gateway: &'a RegistryName,
    /// The registry whose mirror the gateway is.
    mirrored: Option<&'a RegistryName>,
    /// The registry, mirrored or not.
    registry: Option<&'a RegistryName>,
    registry_is_plain: bool,
    /// Whether images may be named after the gateway.
    by_name: bool,
    ca: Option<&'a TrustedCa>,
    registry_ca: Option<&'a TrustedCa>,
}

impl<'a> Plan<'a> {
    fn of(client: Client, setup: &'a Setup) -> Result<Self, ClientsError> {
        let registry = setup.registry.as_ref();
        let mirror = match (client, registry) {
            (Client::Docker, _) => Err(ClientsError::DockerMirror),
            (_, None) => Err(ClientsError::NoRegistry),
            (_, Some(registry)) if registry.is(&setup.gateway) => Err(ClientsError::SameName),
            (_, Some(registry)) => Ok(registry),
        };
        let mirrored = match setup.role {
            Some(Role::Name) => None,
            Some(Role::Mirror) => Some(mirror?),
            None => mirror.ok(),
        };
        if mirrored.is_none() && setup.registry_ca.is_some() {
            return Err(ClientsError::UnusedRegistryCa);
        }
        Ok(Self {
            gateway: &setup.gateway,
            mirrored,
            registry,
            registry_is_plain: setup.registry_is_plain,
            by_name: setup.role != Some(Role::Mirror),
            ca: setup.ca.as_ref(),
            registry_ca: setup.registry_ca.as_ref(),
        })
    }

    /// What the comment of a file says of the names of images that the file concerns.
    fn images_by_name(&self) -> String {
        format!("{}/NAMESPACE/REPOSITORY (by name).", self.gateway)
    }

    /// Under which names images come through the gateway, in either role.
    fn images(&self) -> String {
        match self.mirrored {
            None => self.images_by_name(),
            Some(registry) if !self.by_name => images_of_mirror(registry),
            Some(registry) => format!(
                "{registry}/NAMESPACE/REPOSITORY, as before (mirror), and {}/NAMESPACE/REPOSITORY (by name).",
                self.gateway
            ),
        }
    }
}

fn images_of_mirror(registry: &RegistryName) -> String {
    format!("{registry}/NAMESPACE/REPOSITORY, as before (mirror).")
}

/// Where a client gets the trust in a registry from, if no CA is named.
const SYSTEM_ROOTS: &str = "No CA is named, so the client trusts the gateway's certificate only if a root of its \
                            system signed it. Else name the CA with --ca.";

/// A file with a CA for a client that reads `certs.d`.
fn ca_file(path: String, ca: &TrustedCa, comment: &comment::Comment<'_>) -> ClientFile {
    ClientFile { path, text: format!("{}\n{}", comment.text(), ca.pem()) }
}

#[cfg(test)]
mod tests;
