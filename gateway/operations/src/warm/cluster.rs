//! The images of a cluster's pods, of `kubectl get pods -A -o json`. Pure.

use std::collections::BTreeSet;

use anyhow::Context as _;
use serde::Deserialize;

use crate::images::ImageName;

/// The images that a cluster runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterImages {
    /// Those of this gateway or its registry, in the order of their names.
    pub ours: Vec<ImageName>,
    /// How many others there are.
    pub others: usize,
}

#[derive(Deserialize)]
struct Pods {
    items: Vec<Pod>,
}

#[derive(Deserialize)]
struct Pod {
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    ephemeral_containers: Vec<Container>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    phase: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Container {
    image: String,
}

/// Finds the images of pods that run or are about to, at a registry with one of these names. A name without a host is
/// not one of them: in a cluster it means Docker Hub.
///
/// # Errors
/// The text is not a list of pods.
pub fn images_of_pods(json: &[u8], registries: &[&str]) -> anyhow::Result<ClusterImages> {
    let pods: Pods = serde_json::from_slice(json).context(
        "the answer of kubectl is not a list of pods: it must be that of `kubectl get pods -A -o json`",
    )?;
    let (mut ours, mut others) = (BTreeSet::new(), BTreeSet::new());
    for Pod { spec, status } in pods.items {
        if !matches!(status.phase.as_str(), "Running" | "Pending") {
            continue;
        }
        let all = spec.containers.into_iter().chain(spec.init_containers).chain(spec.ephemeral_containers);
        for Container { image } in all {
            match ImageName::as_clients_write(&image) {
                Ok(name) if name.is_at(registries) => ours.insert((name.to_string(), image)),
                _ => {
                    others.insert(image);
                    continue;
                }
            };
        }
    }
    let ours: Vec<_> = ours.iter().filter_map(|(_, image)| ImageName::as_clients_write(image).ok()).collect();
    Ok(ClusterImages { ours, others: others.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_pods_that_run_at_our_registry() {
        let pods = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [
            {"metadata": {"name": "a"}, "status": {"phase": "Running"}, "spec": {
                "containers": [{"name": "x", "image": "quay.corp/org/app:v1"}, {"image": "nginx"}],
                "initContainers": [{"image": "edge.corp:8443/org/init"}],
                "ephemeralContainers": [{"image": "quay.corp/org/debug:1"}],
            }},
            {"status": {"phase": "Pending"}, "spec": {"containers": [{"image": "quay.corp/org/app:v1"}]}},
            {"status": {"phase": "Succeeded"}, "spec": {"containers": [{"image": "quay.corp/org/job:v1"}]}},
            {"status": {"phase": "Running"}, "spec": {"containers": [
                {"image": "quay.corp.example/org/app:v1"}, {"image": "not an image"}, {"image": ""},
            ]}},
        ]});
        let found =
            images_of_pods(pods.to_string().as_bytes(), &["edge.corp:8443", "quay.corp"]).expect("pods");
        let ours: Vec<_> = found.ours.iter().map(ToString::to_string).collect();
        assert_eq!(ours, ["edge.corp:8443/org/init:latest", "quay.corp/org/app:v1", "quay.corp/org/debug:1"]);
        assert_eq!(found.others, 4);
        let none = images_of_pods(br#"{"items": []}"#, &["quay.corp"]).expect("no pods");
        assert_eq!(none, ClusterImages::default());
        for wrong in [&b"[]"[..], b"{}", b"error: You must be logged in"] {
            let error = format!("{:#}", images_of_pods(wrong, &[]).expect_err("no pods"));
            assert!(error.contains("kubectl get pods -A -o json"), "{error}");
        }
    }
}
