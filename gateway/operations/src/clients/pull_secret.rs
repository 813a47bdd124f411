//! A pull secret's entry for the gateway, as a filter for jq: it copies the registry's entries under the gateway's
//! name. So no password passes through this program. Pure.

use super::comment::Comment;
use super::{ClientFile, Plan, RegistryName};

/// The filter. Its input and output are a `.dockerconfigjson`.
pub(super) fn filter(plan: &Plan<'_>, registry: &RegistryName, path: &str) -> ClientFile {
    let gateway = plan.gateway;
    let comment = Comment {
        what: format!(
            "quay-gateway, a filter for jq: gives the pull secret entries for {gateway}, with the logins of the \
             entries for {registry}. It keeps all other entries."
        ),
        images: plan.images(),
        changes: "the secret pull-secret in openshift-config, when its output is set there. A mirror gets logins only \
                  from there, not from pull secrets of projects."
            .to_owned(),
        nodes: "no drain, no reboot, since OpenShift 4.7.4.".to_owned(),
        undo: format!(
            "set the secret again, with jq 'del(.auths[\"{gateway}\"])' instead of this filter (and the same for \
             entries that begin with {gateway}/)."
        ),
        more: vec![(
            "Note",
            "if a password changes, run it again. If no entry is for the registry, it fails and prints nothing."
                .to_owned(),
        )],
    };
    let text = format!(
        r#"{}
def from: "{registry}";
def to: "{gateway}";
def concerned: . == from or startswith(from + "/");
if (.auths // {{}}) | any(keys[]; concerned)
then .auths |= . + with_entries(select(.key | concerned) | .key |= to + .[(from | length):])
else error("there is no entry for \(from): log in there first")
end
"#,
        comment.text()
    );
    ClientFile { path: path.to_owned(), text }
}
