//! containerd: `hosts.toml` for each registry's name. Pure.
//!
//! The format is that of `docs/hosts.md` of containerd. A `ca` stands at the top level, for the fallback to `server`,
//! and in the host: containerd also tries the fallback after a 404 of the host. Both are relative to the file, and
//! add to the system's roots (`core/remotes/docker/config/hosts.go`).

use super::comment::{Comment, unbroken};
use super::{
    ClientFile, Configuration, Plan, RegistryName, SYSTEM_ROOTS, TrustedCa, ca_file, images_of_mirror,
};

const FOLDER: &str = "/etc/containerd/certs.d";
/// Next to `hosts.toml`.
const CA: &str = "ca.crt";
/// Next to `hosts.toml`: the registry's own CA.
const REGISTRY_CA: &str = "registry-ca.crt";
/// How long containerd waits for a connection to a gateway that is gone. Its own default is 30 s.
const DIAL_TIMEOUT: &str = "2s";

pub(super) fn configuration(plan: &Plan<'_>) -> Configuration {
    let mut files = Vec::new();
    if let Some(registry) = plan.mirrored {
        files.push(mirror(plan, registry));
        files.extend(plan.ca.map(|ca| trusted(registry, CA, ca, plan.gateway, images_of_mirror(registry))));
        let trusted_registry =
            |ca| trusted(registry, REGISTRY_CA, ca, registry, format!("{registry}/NAMESPACE/REPOSITORY."));
        files.extend(plan.registry_ca.map(trusted_registry));
    }
    if plan.by_name {
        files.push(by_name(plan));
        files.extend(plan.ca.map(|ca| trusted(plan.gateway, CA, ca, plan.gateway, plan.images_by_name())));
    }
    Configuration { files, next: next(plan) }
}

fn folder(of: &RegistryName) -> String {
    format!("{FOLDER}/{of}")
}

fn mirror(plan: &Plan<'_>, registry: &RegistryName) -> ClientFile {
    let gateway = plan.gateway;
    let path = format!("{}/hosts.toml", folder(registry));
    let mut more = needs();
    more.push((
        "Login",
        format!(
            "none of its own. containerd gives the gateway the login that the kubelet or ctr gave it for {registry}."
        ),
    ));
    more.push((
        "Note",
        format!(
            "with this file containerd reads no other *.crt of this folder. If {registry} has a private CA, make this \
             file with --registry-ca."
        ),
    ));
    if plan.ca.is_none() {
        more.push(("Trust", SYSTEM_ROOTS.to_owned()));
    }
    let comment = Comment {
        what: format!(
            "quay-gateway, for containerd: asks {gateway} first for images of {registry}, and {registry} itself if \
             the gateway does not have the image or does not answer."
        ),
        images: images_of_mirror(registry),
        changes: format!("where images of {registry} are pulled from. Pushes go to {registry} itself."),
        nodes: "no drain, no reboot. containerd reads this file at each pull, without a restart.".to_owned(),
        undo: "remove this file and the *.crt that it names. The next pull is as before.".to_owned(),
        more,
    };
    let scheme = if plan.registry_is_plain { "http" } else { "https" };
    let host_ca = plan.ca.map(|_| CA);
    let all: Vec<_> = host_ca.into_iter().chain(plan.registry_ca.map(|_| REGISTRY_CA)).collect();
    let text = format!(
        "{}\nserver = \"{scheme}://{registry}\"\n{}\n[host.\"https://{gateway}\"]\ncapabilities = [\"pull\", \
         \"resolve\"]\n{}# containerd 2.1 and later; earlier ones ignore it.\ndial_timeout = \"{DIAL_TIMEOUT}\"\n",
        comment.text(),
        trust(&all),
        trust(host_ca.as_slice()),
    );
    ClientFile { path, text }
}

fn by_name(plan: &Plan<'_>) -> ClientFile {
    let gateway = plan.gateway;
    let mut more = needs();
    let login = "as for any registry, such as an image pull secret with an entry for";
    more.push(("Login", format!("{login} {gateway}.")));
    if plan.ca.is_none() {
        more.push(("Trust", SYSTEM_ROOTS.to_owned()));
    }
    let comment = Comment {
        what: format!("quay-gateway, for containerd: pulls and pushes images that are named {gateway}/…."),
        images: plan.images_by_name(),
        changes: format!("which CA containerd accepts for {gateway}. No other registry is concerned."),
        nodes: "no drain, no reboot. containerd reads this file at each pull, without a restart.".to_owned(),
        undo: "remove this folder.".to_owned(),
        more,
    };
    let ca: Vec<_> = plan.ca.map(|_| CA).into_iter().collect();
    let text = format!(
        "{}\nserver = \"https://{gateway}\"\n{1}\n[host.\"https://{gateway}\"]\ncapabilities = [\"pull\", \
         \"resolve\", \"push\"]\n{1}",
        comment.text(),
        trust(&ca),
    );
    ClientFile { path: format!("{}/hosts.toml", folder(gateway)), text }
}

/// The line that names the CAs, if there are any.
fn trust(files: &[&str]) -> String {
    match files {
        [] => String::new(),
        [one] => format!("ca = \"{one}\"\n"),
        many => {
            let quoted: Vec<_> = many.iter().map(|file| format!("\"{file}\"")).collect();
            format!("ca = [{}]\n", quoted.join(", "))
        }
    }
}

fn trusted(
    folder_of: &RegistryName,
    name: &str,
    ca: &TrustedCa,
    of: &RegistryName,
    images: String,
) -> ClientFile {
    let comment = Comment {
        what: format!("quay-gateway, for containerd: the CA of {of}, which hosts.toml beside it names."),
        images,
        changes: format!("which CA containerd accepts for {of}, in addition to the system's."),
        nodes: "no drain, no reboot. containerd reads this file at each pull, without a restart.".to_owned(),
        undo: "remove this file together with hosts.toml.".to_owned(),
        more: Vec::new(),
    };
    ca_file(format!("{}/{name}", folder(folder_of)), ca, &comment)
}

/// Without this setting the kubelet's pulls ignore the folder.
fn needs() -> Vec<(&'static str, String)> {
    let setting = unbroken(&format!("config_path = \"{FOLDER}\""));
    let old = unbroken("[plugins.\"io.containerd.grpc.v1.cri\".registry]");
    let new = unbroken("[plugins.\"io.containerd.cri.v1.images\".registry]");
    vec![(
        "Needs",
        format!(
            "{setting} in /etc/containerd/config.toml, under {old} (containerd 1.x) or {new} (containerd 2.x). It \
             excludes registry.mirrors and registry.configs.*.tls there. Restart containerd after a change of \
             config.toml; containers keep running."
        ),
    )]
}

fn next(plan: &Plan<'_>) -> Vec<String> {
    let mut next = vec![
        format!(
            "# Once for each node, if config_path is not {FOLDER} yet: set it as hosts.toml says, and restart"
        ),
        "# containerd. Running containers continue.".to_owned(),
        "containerd config dump | grep config_path".to_owned(),
        "# Then try a pull as the kubelet does, and look for it in the gateway's log.".to_owned(),
    ];
    let host = plan.mirrored.unwrap_or(plan.gateway);
    next.push(format!("crictl pull {host}/NAMESPACE/REPOSITORY:TAG"));
    next
}
