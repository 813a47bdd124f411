//! The Docker daemon: only `certs.d`. Pure.
//!
//! It has mirrors only for Docker Hub (<https://github.com/moby/moby/issues/18818>).

use super::comment::Comment;
use super::{Configuration, Plan, SYSTEM_ROOTS, ca_file};

const CERTS: &str = "/etc/docker/certs.d";

pub(super) fn configuration(plan: &Plan<'_>) -> Configuration {
    let gateway = plan.gateway;
    let comment = Comment {
        what: format!("quay-gateway, for docker: the CA of {gateway}."),
        images: plan.images_by_name(),
        changes: format!("which CA the Docker daemon accepts for {gateway}, in addition to the system's."),
        nodes: "no drain, no reboot. docker reads this file at each pull, without a restart.".to_owned(),
        undo: "remove this file.".to_owned(),
        more: vec![(
            "Note",
            "docker has mirrors only for Docker Hub, so the gateway cannot be a mirror of another registry for it. \
             If the gateway does not answer, docker does not ask the registry itself."
                .to_owned(),
        )],
    };
    let file = |ca| ca_file(format!("{CERTS}/{gateway}/ca.crt"), ca, &comment);
    let mut next = Vec::new();
    if plan.ca.is_none() {
        next.push(format!("# Nothing to write. {SYSTEM_ROOTS}"));
    }
    next.push("# Name images after the gateway, and log in with the account for the registry.".to_owned());
    next.push(format!("docker login {gateway}"));
    next.push(format!("docker pull {gateway}/NAMESPACE/REPOSITORY:TAG"));
    Configuration { files: plan.ca.map(file).into_iter().collect(), next }
}
