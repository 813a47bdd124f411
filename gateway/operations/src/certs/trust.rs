//! `certs trust`: what each client needs to trust the gateway.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;
use certificates::{CertificateFacts, SubjectName, pem_file};
use config::Settings;

use crate::clients::config_map;

/// The most hosts for which the text is printed.
pub const HOSTS_MAX: usize = 100;

/// A host that clients dial, with a port unless it is 443.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedHost(String);

impl FromStr for TrustedHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = match text.rsplit_once(':') {
            // Neither an address of IPv6 nor a URL, of which the error says more.
            Some((host, port)) if !port.contains('/') && (!host.contains(':') || host.ends_with(']')) => {
                (host, Some(port))
            }
            _ => (text, None),
        };
        let is_port = |port: &str| {
            port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
        };
        if !port.is_none_or(is_port) {
            return Err("the port is no number from 1 to 65535: write HOST or HOST:PORT".into());
        }
        match host.parse::<SubjectName>() {
            Ok(SubjectName::Host(name)) if name.starts_with('*') => {
                Err("clients are told each host by its name: a wildcard does not work here".into())
            }
            Ok(_) => Ok(Self(text.to_ascii_lowercase())),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl fmt::Display for TrustedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What `certs trust` is asked for.
#[derive(Debug)]
pub struct TrustRequest<'a> {
    /// The CA's certificate, or a chain that ends with it.
    pub ca: &'a Path,
    /// The hosts that clients dial; at least one.
    pub hosts: &'a [TrustedHost],
}

/// The file of the CA that clients of this configuration must trust: the one that the gateway makes, `ca.crt` beside
/// `tls.certificate`, or the end of that chain. An empty `ca.crt`, as cert-manager writes it for a public CA, is none.
#[must_use]
pub fn ca_of(settings: &Settings) -> PathBuf {
    match settings.tls.pairs.first() {
        None => settings.state_dir.join("ca.pem"),
        Some(pair) => {
            let beside = pair.certificate.with_file_name("ca.crt");
            let is_there = fs::metadata(&beside).is_ok_and(|found| found.is_file() && found.len() > 0);
            if is_there { beside } else { pair.certificate.clone() }
        }
    }
}

/// What to do at each kind of client.
///
/// # Errors
/// The file has no CA, or there is no host.
pub fn trust(request: &TrustRequest<'_>) -> anyhow::Result<String> {
    certificates::install_provider();
    let ca = request.ca.display();
    let chain = pem_file::chain(request.ca)?;
    let mut all = chain.iter().filter_map(|der| Some((der, CertificateFacts::of(der).ok()?)));
    let root = all.rfind(|(_, facts)| facts.is_ca && facts.is_self_issued());
    let (der, root) = root.with_context(|| {
        format!("{ca} has no root, which is a CA that signed itself: give its file with --ca")
    })?;
    anyhow::ensure!(!request.hosts.is_empty(), "give the host that clients dial with --host, or --config");
    let mut text = format!(
        "# {}, SHA-256 {}\n# Save this as ca.crt, and compare: openssl x509 -in ca.crt -noout -fingerprint -sha256\n",
        root.subject, root.fingerprint
    );
    text.push_str(&pem_file::chain_to_pem(std::slice::from_ref(der)));
    for host in request.hosts {
        text.push_str(&of_host(host));
    }
    text.push_str(&openshift(request.hosts, &pem_file::chain_to_pem(std::slice::from_ref(der))));
    text.push_str(
        "\n# every program of a machine\n\
         Debian, Ubuntu  cp ca.crt /usr/local/share/ca-certificates/quay-gateway.crt && update-ca-certificates\n\
         RHEL, Fedora    cp ca.crt /etc/pki/ca-trust/source/anchors/quay-gateway.crt && update-ca-trust\n\
         docker, containerd and CRI-O read the system's roots when they start: restart them afterwards\n",
    );
    Ok(text)
}

fn of_host(host: &TrustedHost) -> String {
    format!(
        "\n# {host}\n\
         podman, skopeo, CRI-O  /etc/containers/certs.d/{host}/ca.crt\n\
         docker                 /etc/docker/certs.d/{host}/ca.crt\n\
         containerd             hosts.toml and ca.crt in /etc/containerd/certs.d/{host}; to get them:\n\
         \x20 quay-gateway clients containerd --as name --gateway {host} --ca ca.crt\n"
    )
}

/// The ConfigMap is that of `clients openshift`.
fn openshift(hosts: &[TrustedHost], ca: &str) -> String {
    // A key of a ConfigMap has no bracket.
    let named = hosts.iter().filter(|host| !host.0.contains('['));
    let entries: Vec<_> = named.map(|host| (host.0.as_str(), ca)).collect();
    if entries.is_empty() {
        return String::new();
    }
    format!(
        "\n# OpenShift: all nodes, and the cluster's own image imports. Save this as quay-gateway-ca.yaml, and run:\n\
         #   oc apply -f quay-gateway-ca.yaml\n\
         #   oc patch image.config.openshift.io/cluster --type=merge \\\n\
         #     -p '{{\"spec\":{{\"additionalTrustedCA\":{{\"name\":\"quay-gateway-ca\"}}}}}}'\n\
         # If additionalTrustedCA names a ConfigMap already (oc get image.config.openshift.io/cluster -o yaml), add the\n\
         # keys to that one instead. To use the gateway as a mirror: quay-gateway clients openshift\n\
         {}",
        config_map(&entries)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_may_have_a_port() {
        for text in
            ["registry.example.com", "registry.example.com:8443", "10.0.0.1:8443", "[::1]:8443", "::1"]
        {
            assert_eq!(text.parse::<TrustedHost>().expect(text).to_string(), text);
        }
        for (text, wanted) in [
            ("https://registry.example.com", "no scheme"),
            ("registry.example.com:x", "no number"),
            ("registry.example.com:+443", "no number"),
            ("registry.example.com:0", "no number"),
            ("*.apps.example.com", "wildcard"),
            ("a b", "no host name"),
        ] {
            let error = text.parse::<TrustedHost>().expect_err(text);
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn a_port_is_written_as_openshift_demands() {
        let hosts = ["a.example.com:8443", "b.example.com"].map(|host| host.parse().expect("a host"));
        let pem = "-----BEGIN CERTIFICATE-----\nZ2F0ZXdheQ==\n-----END CERTIFICATE-----\n";
        let text = openshift(&hosts, pem);
        let object: serde_json::Value = serde_saphyr::from_str(&text).expect("YAML");
        let data = serde_json::json!({ "a.example.com..8443": pem, "b.example.com": pem });
        assert_eq!(object["data"], data);
        assert_eq!(object["metadata"]["name"], "quay-gateway-ca");
        assert_eq!(openshift(&["[::1]:8443".parse().expect("a host")], pem), "");
    }
}
