//! An OpenShift cluster: objects for `oc`. Pure.
//!
//! The schemas are those of `config/v1` of openshift/api. What drains and reboots is said in Red Hat's documentation,
//! *Image configuration resources*, and decided in the Machine Config Operator: for mirrors in
//! `pkg/daemon/drain.go:isSafeContainerRegistryConfChanges`, while CAs are written without a rollout
//! (`pkg/daemon/certificate_writer.go`).

use super::comment::{Comment, unbroken};
use super::{
    ClientFile, Configuration, Plan, RegistryName, SYSTEM_ROOTS, TrustedCa, images_of_mirror, pull_secret,
};

const CA: &str = "quay-gateway/1-trusted-ca.yaml";
const PATCH: &str = "quay-gateway/2-image-config-patch.yaml";
const PULL_SECRET: &str = "quay-gateway/3-pull-secret.jq";
const DIGEST_MIRROR: &str = "quay-gateway/4-image-digest-mirror-set.yaml";
const TAG_MIRROR: &str = "quay-gateway/5-image-tag-mirror-set.yaml";

/// The ConfigMap with the CA, in `openshift-config`.
const CONFIG_MAP: &str = "quay-gateway-ca";
const IMAGE_CONFIG: &str = "image.config.openshift.io/cluster";
/// What the documentation and the code of the Machine Config Operator agree on for changes that are not safe.
const DRAINS: &str = "drains the nodes of each pool, one after the other, and reloads CRI-O; the documentation also \
                      speaks of a reboot";

pub(super) fn configuration(plan: &Plan<'_>) -> Configuration {
    let mut files = Vec::new();
    let entries = entries(plan);
    if !entries.is_empty() {
        files.push(trusted_ca(plan, &entries));
        files.push(image_config_patch(plan));
    }
    let other = plan.registry.filter(|registry| !registry.is(plan.gateway));
    files.extend(other.map(|registry| pull_secret::filter(plan, registry, PULL_SECRET)));
    if let Some(registry) = plan.mirrored {
        files.push(digest_mirror_set(plan, registry));
        files.push(tag_mirror_set(plan, registry));
    }
    let mut next = next(plan, &files);
    if let Some(registry) = plan.mirrored.filter(|_| plan.registry_is_plain) {
        next.push(format!(
            "# {registry} itself speaks plain HTTP: it must be in spec.registrySources.insecureRegistries"
        ));
        next.push(format!("# of {IMAGE_CONFIG}, or nodes cannot fall back to it."));
    }
    Configuration { next, files }
}

/// The key of a registry in the ConfigMap: a key cannot have a colon.
fn key(registry: &str) -> String {
    registry.replace(':', "..")
}

/// The registries whose CAs are named.
fn entries<'a>(plan: &Plan<'a>) -> Vec<(&'a RegistryName, &'a TrustedCa)> {
    let of_gateway = plan.ca.map(|ca| (plan.gateway, ca));
    of_gateway.into_iter().chain(plan.mirrored.zip(plan.registry_ca)).collect()
}

fn trusted_ca(plan: &Plan<'_>, entries: &[(&RegistryName, &TrustedCa)]) -> ClientFile {
    let of: Vec<_> = entries.iter().map(|(registry, _)| registry.as_str()).collect();
    let comment = Comment {
        what: format!("quay-gateway, for OpenShift: the CA of {}.", of.join(" and of ")),
        images: plan.images(),
        changes: format!("nothing by itself. {IMAGE_CONFIG} names this ConfigMap; see {PATCH}."),
        nodes: "no drain, no reboot. The CA is written to /etc/docker/certs.d of each node.".to_owned(),
        undo: format!(
            "first undo {PATCH}, then {}",
            unbroken(&format!("oc delete configmap/{CONFIG_MAP} -n openshift-config"))
        ),
        more: vec![("Apply", unbroken(&format!("oc apply -f {CA}")))],
    };
    let entries: Vec<_> = entries.iter().map(|(registry, ca)| (registry.as_str(), ca.pem())).collect();
    let text = format!("{}\n{}", comment.text(), config_map(&entries));
    ClientFile { path: CA.to_owned(), text }
}

/// The ConfigMap for registries, as `HOST` or `HOST:PORT`, and the CA of each in PEM.
pub(crate) fn config_map(entries: &[(&str, &str)]) -> String {
    let entry = |(registry, ca): &(&str, &str)| {
        let lines: String = ca.lines().map(|line| format!("    {line}\n")).collect();
        format!("  \"{}\": |\n{lines}", key(registry))
    };
    let data: String = entries.iter().map(entry).collect();
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {CONFIG_MAP}\n  namespace: openshift-config\n\
         data:\n{data}"
    )
}

fn image_config_patch(plan: &Plan<'_>) -> ClientFile {
    let read = unbroken(&format!("oc get {IMAGE_CONFIG} -o jsonpath='{{.spec.additionalTrustedCA.name}}'"));
    let comment = Comment {
        what: format!("quay-gateway, for OpenShift: a patch of {IMAGE_CONFIG}."),
        images: plan.images(),
        changes: format!(
            "which ConfigMap holds the CAs of registries. There is only one: if {read} prints another name, do not \
             apply this patch, but add the keys of {CA} to that ConfigMap."
        ),
        nodes: "no drain, no reboot. The CA is written to /etc/docker/certs.d of each node. Folders there that the \
                ConfigMap does not name are removed."
            .to_owned(),
        undo: unbroken(&format!(
            "oc patch {IMAGE_CONFIG} --type=json -p '[{{\"op\":\"remove\",\"path\":\"/spec/additionalTrustedCA\"}}]'"
        )),
        more: vec![
            ("Apply", unbroken(&format!("oc patch {IMAGE_CONFIG} --type=merge --patch-file {PATCH}"))),
            (
                "Note",
                format!("if spec.registrySources.allowedRegistries is set, add {} to it.", plan.gateway),
            ),
        ],
    };
    let text = format!("{}\nspec:\n  additionalTrustedCA:\n    name: {CONFIG_MAP}\n", comment.text());
    ClientFile { path: PATCH.to_owned(), text }
}

fn digest_mirror_set(plan: &Plan<'_>, registry: &RegistryName) -> ClientFile {
    let nodes = format!(
        "creating it neither drains nor reboots: CRI-O is reloaded. Changing or deleting it {DRAINS} (Red Hat's \
         documentation, Image configuration resources). With hosted control planes, mirrors are set at the \
         HostedCluster, and every change replaces the nodes."
    );
    let kind = MirrorSet {
        kind: "ImageDigestMirrorSet",
        field: "imageDigestMirrors",
        pulled: "by digest, NAME@sha256:…",
        path: DIGEST_MIRROR,
        nodes,
    };
    kind.file(plan, registry)
}

fn tag_mirror_set(plan: &Plan<'_>, registry: &RegistryName) -> ClientFile {
    let nodes = format!(
        "creating, changing or deleting it {DRAINS} (Red Hat's documentation, Image configuration resources). Plan \
         it, or leave it out: then images with a tag come from {registry} itself."
    );
    let kind = MirrorSet {
        kind: "ImageTagMirrorSet",
        field: "imageTagMirrors",
        pulled: "by tag, NAME:TAG",
        path: TAG_MIRROR,
        nodes,
    };
    kind.file(plan, registry)
}

/// What differs between the two kinds of mirror sets.
struct MirrorSet {
    kind: &'static str,
    field: &'static str,
    pulled: &'static str,
    path: &'static str,
    nodes: String,
}

impl MirrorSet {
    fn file(self, plan: &Plan<'_>, registry: &RegistryName) -> ClientFile {
        let Self { kind, field, pulled, path, nodes } = self;
        let gateway = plan.gateway;
        let mut more = vec![
            ("Apply", unbroken(&format!("oc apply -f {path}"))),
            (
                "Note",
                format!(
                    "another mirror set for the same source must have the same mirrorSourcePolicy, else the Machine \
                     Config Operator applies no change of mirrors any more. Private images need the entry of {PULL_SECRET}."
                ),
            ),
        ];
        if plan.ca.is_none() {
            more.push(("Trust", SYSTEM_ROOTS.to_owned()));
        }
        let comment = Comment {
            what: format!(
                "quay-gateway, for OpenShift: nodes ask {gateway} first for images of {registry} that are pulled \
                 {pulled}, and {registry} itself if the gateway does not have the image or does not answer."
            ),
            images: images_of_mirror(registry),
            changes: format!(
                "where every node pulls these images of {registry} from (/etc/containers/registries.conf). Pushes go \
                 to {registry} itself."
            ),
            nodes,
            undo: format!("{}; see Nodes.", unbroken(&format!("oc delete -f {path}"))),
            more,
        };
        let text = format!(
            "{}\napiVersion: config.openshift.io/v1\nkind: {kind}\nmetadata:\n  name: quay-gateway\nspec:\n  \
             {field}:\n    - source: \"{registry}\"\n      mirrors:\n        - \"{gateway}\"\n      \
             mirrorSourcePolicy: AllowContactingSource\n",
            comment.text()
        );
        ClientFile { path: path.to_owned(), text }
    }
}

fn next(plan: &Plan<'_>, files: &[ClientFile]) -> Vec<String> {
    let has = |path: &str| files.iter().any(|file| file.path == path);
    let mut next = Vec::new();
    let mut say = |line: &str| next.push(line.to_owned());
    if has(CA) {
        say(
            "# If this prints the name of a ConfigMap, add the keys of file 1 to that one, and skip files 1 and 2.",
        );
        say(&format!("oc get {IMAGE_CONFIG} -o jsonpath='{{.spec.additionalTrustedCA.name}}'"));
        say(&format!("oc apply -f {CA}"));
        say(&format!("oc patch {IMAGE_CONFIG} --type=merge --patch-file {PATCH}"));
    } else {
        say(&format!("# {SYSTEM_ROOTS}"));
    }
    if has(PULL_SECRET) {
        say("# The pull secret, in a folder that only you can read. It is set only if the filter succeeds.");
        say("(");
        say("  dir=$(mktemp -d) && trap 'rm -r \"$dir\"' EXIT &&");
        say("  oc get secret/pull-secret -n openshift-config \\");
        say("    --template='{{index .data \".dockerconfigjson\" | base64decode}}' > \"$dir/old\" &&");
        say(&format!("  jq -f {PULL_SECRET} \"$dir/old\" > \"$dir/new\" &&"));
        say(
            "  oc set data secret/pull-secret -n openshift-config --from-file=.dockerconfigjson=\"$dir/new\"",
        );
        say(")");
    } else {
        say(&format!("# Private images need an entry for {} in openshift-config/pull-secret.", plan.gateway));
    }
    if plan.mirrored.is_some() {
        say(&format!("oc apply -f {DIGEST_MIRROR}"));
        say("# Only if images are pulled by tag as well: this drains nodes, see the comment of the file.");
        say(&format!("oc apply -f {TAG_MIRROR}"));
    }
    next
}
