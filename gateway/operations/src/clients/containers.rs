//! podman, skopeo and CRI-O, which read the same files: `certs.d` and `registries.conf.d`. Pure.
//!
//! The formats are those of containers-certs.d(5), containers-registries.conf(5) and containers-registries.conf.d(5).

use super::comment::Comment;
use super::{
    ClientFile, Configuration, Plan, RegistryName, SYSTEM_ROOTS, TrustedCa, ca_file, images_of_mirror,
};

const CERTS: &str = "/etc/containers/certs.d";
/// Files are read in the order of their names, and a later one overwrites the registry's entry. This one comes after
/// `99-…`.
const DROP_IN: &str = "/etc/containers/registries.conf.d/999-quay-gateway.conf";

/// A client of this family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    Crio,
    Podman,
    Skopeo,
}

impl Tool {
    fn name(self) -> &'static str {
        match self {
            Self::Crio => "CRI-O",
            Self::Podman => "podman",
            Self::Skopeo => "skopeo",
        }
    }

    /// What happens to nodes and processes when `registries.conf.d` changes.
    fn nodes(self) -> &'static str {
        match self {
            // crio.conf(5): SIGHUP reloads containers-registries.conf(5).
            Self::Crio => {
                "no drain, no reboot. CRI-O reads this file when it gets SIGHUP (systemctl reload crio); containers \
                 keep running."
            }
            Self::Podman => "no drain, no reboot. podman reads this file at each start.",
            Self::Skopeo => "no drain, no reboot. skopeo reads this file at each start.",
        }
    }

    /// Where a login for the gateway comes from if it is a mirror. The login for the registry's name is not used
    /// (containers/image `docker/docker_image_src.go`: `DockerAuthConfig` is cleared for a mirror at another host).
    fn login(self, gateway: &RegistryName, registry: &RegistryName) -> String {
        let why = format!("The login for {registry} is not sent to a mirror of another name");
        match self {
            Self::Crio => format!(
                "private images need an entry for {gateway} in the file that global_auth_file of crio.conf names. \
                 {why}, and neither are pull secrets of pods; without the entry they come from {registry} itself."
            ),
            Self::Podman => format!(
                "private images need podman\u{a0}login\u{a0}{gateway}, with the account for {registry}. {why}, also not \
                 --creds."
            ),
            Self::Skopeo => format!(
                "private images need skopeo\u{a0}login\u{a0}{gateway}, with the account for {registry}. {why}, also not \
                 --src-creds."
            ),
        }
    }
}

pub(super) fn configuration(plan: &Plan<'_>, tool: Tool) -> Configuration {
    let mut files: Vec<_> =
        plan.ca.map(|ca| trusted(plan.gateway, ca, tool, plan.images())).into_iter().collect();
    if let Some(registry) = plan.mirrored {
        let own = format!("{registry}/NAMESPACE/REPOSITORY.");
        files.extend(plan.registry_ca.map(|ca| trusted(registry, ca, tool, own)));
        files.push(drop_in(plan, registry, tool));
    }
    Configuration { files, next: next(plan, tool) }
}

fn trusted(of: &RegistryName, ca: &TrustedCa, tool: Tool, images: String) -> ClientFile {
    let tool = tool.name();
    let comment = Comment {
        what: format!("quay-gateway, for {tool}: the CA of {of}."),
        images,
        changes: format!(
            "which CA podman, buildah, skopeo and CRI-O of this machine accept for {of}, in addition to the system's."
        ),
        nodes: format!("no drain, no reboot. {tool} reads this file at each pull, without a restart."),
        undo: "remove this file.".to_owned(),
        more: Vec::new(),
    };
    ca_file(format!("{CERTS}/{of}/ca.crt"), ca, &comment)
}

fn drop_in(plan: &Plan<'_>, registry: &RegistryName, tool: Tool) -> ClientFile {
    let (gateway, name) = (plan.gateway, tool.name());
    let mut more = vec![("Login", tool.login(gateway, registry))];
    more.push((
        "Note",
        format!(
            "this entry replaces another one with the prefix {registry} in an earlier file. If there is one, copy its \
             other settings to this file."
        ),
    ));
    let mut insecure = "";
    if plan.registry_is_plain {
        insecure = "insecure = true\n";
        more.push((
            "HTTP",
            format!("{registry} itself speaks plain HTTP, hence insecure. The gateway is not concerned."),
        ));
    }
    if plan.ca.is_none() {
        more.push(("Trust", SYSTEM_ROOTS.to_owned()));
    }
    let comment = Comment {
        what: format!(
            "quay-gateway, for {name}: asks {gateway} first for images of {registry}, and {registry} itself if the \
             gateway does not have the image or does not answer."
        ),
        images: images_of_mirror(registry),
        changes: format!(
            "where podman, buildah, skopeo and CRI-O of this machine pull images of {registry} from. Pushes go to \
             {registry} itself."
        ),
        nodes: tool.nodes().to_owned(),
        undo: match tool {
            Tool::Crio => "remove this file, then systemctl\u{a0}reload\u{a0}crio.".to_owned(),
            Tool::Podman | Tool::Skopeo => "remove this file.".to_owned(),
        },
        more,
    };
    let text = format!(
        "{}\n[[registry]]\nprefix = \"{registry}\"\nlocation = \"{registry}\"\n{insecure}\n[[registry.mirror]]\nlocation = \
         \"{gateway}\"\n",
        comment.text()
    );
    ClientFile { path: DROP_IN.to_owned(), text }
}

fn next(plan: &Plan<'_>, tool: Tool) -> Vec<String> {
    let gateway = plan.gateway;
    let image = format!("{}/NAMESPACE/REPOSITORY:TAG", plan.mirrored.unwrap_or(gateway));
    let mut next = Vec::new();
    if plan.ca.is_none() && plan.mirrored.is_none() {
        next.push(format!("# Nothing to write. {SYSTEM_ROOTS}"));
    }
    match tool {
        Tool::Crio => {
            if plan.mirrored.is_some() {
                next.push("systemctl reload crio".to_owned());
            }
            next.push(
                "# Then try a pull as the kubelet does, and look for it in the gateway's log.".to_owned(),
            );
            next.push(format!("crictl pull {image}"));
        }
        Tool::Podman => {
            next.push(format!("podman login {gateway}"));
            next.push(format!("podman pull {image}"));
        }
        Tool::Skopeo => {
            next.push(format!("skopeo login {gateway}"));
            next.push(format!("skopeo inspect docker://{image}"));
        }
    }
    next
}
