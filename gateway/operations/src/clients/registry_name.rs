//! A registry's name as it stands in image names. Pure.

use std::fmt;
use std::str::FromStr;

/// The longest name of a host, in bytes (RFC 1035 section 2.3.4).
const HOST_MAX: usize = 253;
/// The longest label of a host name, in bytes.
const LABEL_MAX: usize = 63;

/// A registry's name as it stands in image names: `HOST` or `HOST:PORT`.
///
/// It consists of letters, digits, dots, hyphens and at most one colon, so it can stand in a path, in TOML and in
/// YAML. This is what `ImageDigestMirrorSet` of OpenShift allows (`config/v1` of openshift/api).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryName(String);

/// Why a text is no registry's name. Retrying does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RegistryNameError {
    /// It begins with `https://` or the like.
    #[error("it must be HOST or HOST:PORT: leave out the scheme, such as https://")]
    Scheme,
    /// It has a path.
    #[error("it must be HOST or HOST:PORT: leave out everything after the first /")]
    Path,
    /// It is an IPv6 address.
    #[error("an IPv6 address cannot stand in every client's image names: give the registry a host name")]
    Ipv6,
    /// The port is not from 1 to 65535.
    #[error("the port must be a number from 1 to 65535")]
    Port,
    /// The host is not a host name.
    #[error("the host must be a name such as registry.example.com, of letters, digits, hyphens and dots")]
    Host,
    /// Clients would take the first part of an image's name for a repository of Docker Hub.
    #[error(
        "in image names a registry needs a dot or a port, else clients look on Docker Hub: use its full name, or \
         add :443"
    )]
    Short,
}

impl RegistryName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether clients mean the same registry by both names.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        let plain = |name: &Self| name.0.strip_suffix(":443").unwrap_or(&name.0).to_ascii_lowercase();
        plain(self) == plain(other)
    }
}

impl fmt::Display for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RegistryName {
    type Err = RegistryNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains("://") {
            return Err(RegistryNameError::Scheme);
        }
        if text.contains('/') {
            return Err(RegistryNameError::Path);
        }
        if text.starts_with('[') || text.matches(':').count() > 1 {
            return Err(RegistryNameError::Ipv6);
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        if !port.is_none_or(is_port) {
            return Err(RegistryNameError::Port);
        }
        if host.len() > HOST_MAX || !host.split('.').all(is_label) {
            return Err(RegistryNameError::Host);
        }
        // How clients tell a registry from a repository of Docker Hub
        // (`distribution/reference`: `normalize.go:splitDockerDomain`).
        if port.is_none() && !host.contains('.') && host != "localhost" {
            return Err(RegistryNameError::Short);
        }
        Ok(Self(text.to_owned()))
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_label(label: &str) -> bool {
    (1..=LABEL_MAX).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_accepted_and_refused_with_the_fix() {
        for name in ["quay.example.com", "Edge.example.com:8443", "10.0.0.1:5000", "localhost", "edge:443"] {
            assert_eq!(name.parse::<RegistryName>().expect(name).as_str(), name);
        }
        for (text, error) in [
            ("https://quay.example.com", RegistryNameError::Scheme),
            ("quay.example.com/team", RegistryNameError::Path),
            ("../../etc", RegistryNameError::Path),
            ("[::1]:5000", RegistryNameError::Ipv6),
            ("fd00::1", RegistryNameError::Ipv6),
            ("quay.example.com:", RegistryNameError::Port),
            ("quay.example.com:0", RegistryNameError::Port),
            ("quay.example.com:+80", RegistryNameError::Port),
            ("quay.example.com:65536", RegistryNameError::Port),
            ("", RegistryNameError::Host),
            ("..", RegistryNameError::Host),
            ("quay.example.com\n[host]", RegistryNameError::Host),
            ("a\"b.example.com", RegistryNameError::Host),
            ("user@quay.example.com", RegistryNameError::Host),
            ("-a.example.com", RegistryNameError::Host),
            ("*.example.com", RegistryNameError::Host),
            ("edge", RegistryNameError::Short),
        ] {
            assert_eq!(text.parse::<RegistryName>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn the_default_port_and_case_make_no_other_registry() {
        let name = |text: &str| text.parse::<RegistryName>().expect("a name");
        assert!(name("Quay.example.com:443").is(&name("quay.example.com")));
        assert!(!name("quay.example.com:8443").is(&name("quay.example.com")));
    }

    proptest! {
        #[test]
        fn no_name_leaves_its_place(text in "[ -~\n]{0,40}") {
            if let Ok(name) = text.parse::<RegistryName>() {
                prop_assert!(name.as_str().chars().all(|c| c.is_ascii_alphanumeric() || ".-:".contains(c)), "{text:?}");
                prop_assert!(name.as_str() != "." && name.as_str() != "..");
            }
        }
    }
}
