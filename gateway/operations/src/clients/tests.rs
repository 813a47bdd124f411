//! What the files say to the programs that read them.

use serde_json::{Value, json};

use super::*;

const CA: &str = "-----BEGIN CERTIFICATE-----\nZ2F0ZXdheQ==\n-----END CERTIFICATE-----\n";
const REGISTRY_CA: &str = "-----BEGIN CERTIFICATE-----\ncXVheQ==\n-----END CERTIFICATE-----\n";
const ALL: [Client; 6] =
    [Client::Containerd, Client::Crio, Client::Podman, Client::Docker, Client::Openshift, Client::Skopeo];

fn name(text: &str) -> RegistryName {
    text.parse().expect("a name")
}

fn setup() -> Setup {
    Setup {
        gateway: name("edge.example.com:8443"),
        registry: Some(name("quay.example.com")),
        ca: Some(TrustedCa::of_pem(CA)),
        registry_is_plain: false,
        registry_ca: None,
        role: None,
    }
}

fn files(client: Client, setup: &Setup) -> Vec<ClientFile> {
    Configuration::of(client, setup).expect("files").files
}

fn paths(client: Client, setup: &Setup) -> Vec<String> {
    files(client, setup).into_iter().map(|file| file.path).collect()
}

fn file(client: Client, setup: &Setup, path: &str) -> String {
    let files = files(client, setup);
    let found = files.iter().find(|file| file.path == path);
    found.unwrap_or_else(|| panic!("no {path} in {:?}", paths(client, setup))).text.clone()
}

fn toml(text: &str) -> Value {
    toml::from_str(text).expect("TOML")
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("YAML")
}

#[test]
fn every_file_begins_with_what_it_changes_and_how_to_undo_it() {
    for client in ALL {
        for role in [None, Some(Role::Name)] {
            for file in files(client, &Setup { role, ..setup() }) {
                let comment: Vec<_> = file.text.lines().take_while(|line| line.starts_with('#')).collect();
                for label in ["# quay-gateway", "# Images:", "# Changes:", "# Nodes:", "# Undo:"] {
                    assert!(comment.iter().any(|line| line.starts_with(label)), "{label}: {file:?}");
                }
                let nodes = comment.iter().find(|line| line.starts_with("# Nodes:")).expect("a line");
                assert!(nodes.contains("drain"), "{nodes}");
                assert!(file.text.ends_with('\n') && !file.text.contains('\u{a0}'), "{file:?}");
            }
        }
    }
}

#[test]
fn containerd_asks_the_gateway_first_and_trusts_it_in_both_places() {
    let path = "/etc/containerd/certs.d/quay.example.com/hosts.toml";
    let hosts = toml(&file(Client::Containerd, &setup(), path));
    let expected = json!({
        "server": "https://quay.example.com", "ca": "ca.crt",
        "host": { "https://edge.example.com:8443": {
            "capabilities": ["pull", "resolve"], "ca": "ca.crt", "dial_timeout": "2s",
        }},
    });
    assert_eq!(hosts, expected);
    let private = Setup { registry_ca: Some(TrustedCa::of_pem(REGISTRY_CA)), ..setup() };
    let hosts = toml(&file(Client::Containerd, &private, path));
    assert_eq!(hosts["ca"], json!(["ca.crt", "registry-ca.crt"]));
    assert_eq!(hosts["host"]["https://edge.example.com:8443"]["ca"], "ca.crt");
    let ca = file(Client::Containerd, &private, "/etc/containerd/certs.d/quay.example.com/registry-ca.crt");
    assert!(ca.ends_with(REGISTRY_CA), "{ca}");

    let path = "/etc/containerd/certs.d/edge.example.com:8443/hosts.toml";
    let hosts = toml(&file(Client::Containerd, &setup(), path));
    let expected = json!({
        "server": "https://edge.example.com:8443", "ca": "ca.crt",
        "host": { "https://edge.example.com:8443": {
            "capabilities": ["pull", "resolve", "push"], "ca": "ca.crt",
        }},
    });
    assert_eq!(hosts, expected);
}

#[test]
fn without_a_ca_no_file_names_one() {
    let setup = Setup { ca: None, ..setup() };
    for client in ALL {
        for file in files(client, &setup) {
            assert!(!file.path.ends_with(".crt"), "{}", file.path);
            let settings = file.text.lines().filter(|line| !line.starts_with('#'));
            assert!(settings.clone().all(|line| !line.starts_with("ca ")), "{}", file.text);
            let says = file.text.contains("# Trust:   No CA is named");
            assert!(says || file.path.ends_with(".jq"), "{}", file.text);
        }
    }
    let next = Configuration::of(Client::Docker, &setup).expect("nothing").next_text();
    assert!(next.starts_with("# Nothing to write. No CA is named"), "{next}");
}

#[test]
fn podman_and_its_kin_get_a_mirror_and_the_ca() {
    for client in [Client::Crio, Client::Podman, Client::Skopeo] {
        let drop_in =
            toml(&file(client, &setup(), "/etc/containers/registries.conf.d/999-quay-gateway.conf"));
        let expected = json!({ "registry": [{
            "prefix": "quay.example.com", "location": "quay.example.com",
            "mirror": [{ "location": "edge.example.com:8443" }],
        }]});
        assert_eq!(drop_in, expected);
        let ca = file(client, &setup(), "/etc/containers/certs.d/edge.example.com:8443/ca.crt");
        assert!(ca.ends_with(CA), "{ca}");
        let name = Setup { role: Some(Role::Name), ..setup() };
        assert_eq!(paths(client, &name), ["/etc/containers/certs.d/edge.example.com:8443/ca.crt"]);
    }
}

#[test]
fn a_registry_without_tls_is_dialled_without_and_the_gateway_is_not() {
    let plain = Setup { registry_is_plain: true, ..setup() };
    let drop_in =
        toml(&file(Client::Podman, &plain, "/etc/containers/registries.conf.d/999-quay-gateway.conf"));
    let expected = json!({ "registry": [{
        "prefix": "quay.example.com", "location": "quay.example.com", "insecure": true,
        "mirror": [{ "location": "edge.example.com:8443" }],
    }]});
    assert_eq!(drop_in, expected);
    let hosts =
        toml(&file(Client::Containerd, &plain, "/etc/containerd/certs.d/quay.example.com/hosts.toml"));
    assert_eq!(hosts["server"], "http://quay.example.com");
    assert!(hosts["host"]["https://edge.example.com:8443"].is_object());
    let next = Configuration::of(Client::Openshift, &plain).expect("files").next_text();
    assert!(next.contains("quay.example.com itself speaks plain HTTP"), "{next}");
}

#[test]
fn docker_only_trusts() {
    assert_eq!(paths(Client::Docker, &setup()), ["/etc/docker/certs.d/edge.example.com:8443/ca.crt"]);
    let mirror = Setup { role: Some(Role::Mirror), ..setup() };
    assert_eq!(Configuration::of(Client::Docker, &mirror), Err(ClientsError::DockerMirror));
}

#[test]
fn a_mirror_needs_two_names() {
    let mirror = |registry| Setup { registry, role: Some(Role::Mirror), ..setup() };
    let of = |setup: &Setup| Configuration::of(Client::Containerd, setup);
    assert_eq!(of(&mirror(None)), Err(ClientsError::NoRegistry));
    assert_eq!(of(&mirror(Some(name("Edge.example.com:8443")))), Err(ClientsError::SameName));
    // Without a role, what is possible.
    let same = Setup { registry: Some(name("edge.example.com:8443")), ..setup() };
    let by_name =
        ["hosts.toml", "ca.crt"].map(|file| format!("/etc/containerd/certs.d/edge.example.com:8443/{file}"));
    assert_eq!(paths(Client::Containerd, &same), by_name);
    assert_eq!(paths(Client::Containerd, &Setup { registry: None, ..setup() }), by_name);
    let unused =
        Setup { registry_ca: Some(TrustedCa::of_pem(REGISTRY_CA)), role: Some(Role::Name), ..setup() };
    assert_eq!(of(&unused), Err(ClientsError::UnusedRegistryCa));
}

#[test]
fn a_mirror_alone_is_not_used_by_name() {
    let setup = Setup { role: Some(Role::Mirror), ..setup() };
    let expected =
        ["hosts.toml", "ca.crt"].map(|file| format!("/etc/containerd/certs.d/quay.example.com/{file}"));
    assert_eq!(paths(Client::Containerd, &setup), expected);
}

#[test]
fn openshift_gets_its_objects() {
    let setup = Setup { registry_ca: Some(TrustedCa::of_pem(REGISTRY_CA)), ..setup() };
    let object = |path: &str| yaml(&file(Client::Openshift, &setup, path));
    let config_map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "quay-gateway-ca", "namespace": "openshift-config" },
        "data": { "edge.example.com..8443": CA, "quay.example.com": REGISTRY_CA },
    });
    assert_eq!(object("quay-gateway/1-trusted-ca.yaml"), config_map);
    let patch = json!({ "spec": { "additionalTrustedCA": { "name": "quay-gateway-ca" } } });
    assert_eq!(object("quay-gateway/2-image-config-patch.yaml"), patch);
    for (path, kind, field) in [
        ("quay-gateway/4-image-digest-mirror-set.yaml", "ImageDigestMirrorSet", "imageDigestMirrors"),
        ("quay-gateway/5-image-tag-mirror-set.yaml", "ImageTagMirrorSet", "imageTagMirrors"),
    ] {
        let expected = json!({
            "apiVersion": "config.openshift.io/v1", "kind": kind, "metadata": { "name": "quay-gateway" },
            "spec": { field: [{
                "source": "quay.example.com", "mirrors": ["edge.example.com:8443"],
                "mirrorSourcePolicy": "AllowContactingSource",
            }]},
        });
        assert_eq!(object(path), expected);
    }
    let name = Setup { role: Some(Role::Name), registry_ca: None, ..setup.clone() };
    let expected = ["1-trusted-ca.yaml", "2-image-config-patch.yaml", "3-pull-secret.jq"];
    assert_eq!(paths(Client::Openshift, &name), expected.map(|file| format!("quay-gateway/{file}")));
}

#[test]
fn the_text_has_every_file_after_its_path_and_ends_with_what_to_do() {
    let configuration = Configuration::of(Client::Openshift, &setup()).expect("files");
    let text = configuration.text();
    for file in &configuration.files {
        assert!(text.contains(&format!("==> {} <==\n{}", file.path, file.text)), "{text}");
    }
    assert!(text.contains("==> next <==\n# If this prints"), "{text}");
    assert!(text.ends_with("oc apply -f quay-gateway/5-image-tag-mirror-set.yaml\n"), "{text}");
}
