//! The names of images.

use std::fmt;
use std::str::FromStr;

use backends::Digest;

/// The most bytes of a repository's name, as in the gateway's routes.
const REPOSITORY_MAX: usize = 512;

/// The most bytes of a tag (OCI distribution specification, "Pulling manifests").
const TAG_MAX: usize = 128;

/// The name of an image on the command line, such as `org/app:v1` or `org/app@sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageName {
    /// The repository. In a name from the command line, it may begin with the registry's name.
    pub repository: String,
    /// The tag or the digest.
    pub reference: String,
}

/// Why a text is not the name of an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ImageNameError(&'static str);

/// An image that is at another registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{image} names a registry that is not the configured one ({}): leave its name out", .registries.join(", "))]
pub struct OtherRegistry {
    image: String,
    registries: Vec<String>,
}

impl FromStr for ImageName {
    type Err = ImageNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (repository, reference) = match text.split_once('@') {
            Some((repository, digest)) if digest.parse::<Digest>().is_ok() => (repository, digest),
            Some(_) => return Err(ImageNameError("the @ is not followed by sha256:<64 hex characters>")),
            None => match text.rsplit_once(':') {
                Some((repository, tag)) if is_tag(tag) => (repository, tag),
                _ => return Err(ImageNameError("a tag is missing: REPOSITORY:TAG, such as org/app:v1")),
            },
        };
        // A port, as in `registry:8443/org/app`, is removed when the registry is known.
        let fine = |c: char| c.is_ascii_alphanumeric() || "._-/:".contains(c);
        let parts = repository.split('/').all(|part| part.starts_with(|c: char| c.is_ascii_alphanumeric()));
        if repository.len() > REPOSITORY_MAX || !repository.chars().all(fine) || !parts {
            return Err(ImageNameError(
                "the repository's name has characters that are not allowed, or is too long",
            ));
        }
        Ok(Self { repository: repository.to_owned(), reference: reference.to_owned() })
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let between = if self.reference.contains(':') { '@' } else { ':' };
        write!(f, "{}{between}{}", self.repository, self.reference)
    }
}

fn is_tag(text: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=TAG_MAX).contains(&text.len()) && text.chars().all(fine)
}

impl ImageName {
    /// Parses a name as clients and clusters write it: without a tag it is `latest`, and beside a digest the tag means
    /// nothing.
    ///
    /// # Errors
    /// The text is not the name of an image.
    pub fn as_clients_write(text: &str) -> Result<Self, ImageNameError> {
        let (name, digest) = text.split_once('@').map_or((text, None), |(name, digest)| (name, Some(digest)));
        // A colon before the last slash belongs to a port.
        let slash = name.rfind('/').map_or(0, |slash| slash + 1);
        let colon = name[slash..].find(':').map(|colon| slash + colon);
        match (digest, colon) {
            (Some(digest), colon) => format!("{}@{digest}", &name[..colon.unwrap_or(name.len())]).parse(),
            (None, None) => format!("{name}:latest").parse(),
            (None, Some(colon)) if name[colon + 1..].contains(':') => {
                Err(ImageNameError("the name has two tags: REPOSITORY:TAG, such as org/app:v1"))
            }
            (None, Some(_)) => text.parse(),
        }
    }

    /// Whether the name begins with one of these names of registries.
    #[must_use]
    pub fn is_at(&self, registries: &[&str]) -> bool {
        let host = self.repository.split_once('/').map(|(host, _)| host).unwrap_or_default();
        registries.iter().any(|name| name.eq_ignore_ascii_case(host))
    }

    /// The name without the registry's own name, if it begins with that.
    ///
    /// # Errors
    /// The name begins with the name of another registry.
    pub fn at(&self, registries: &[&str]) -> Result<Self, OtherRegistry> {
        let (_, rest) = self.repository.split_once('/').unwrap_or_default();
        if self.is_at(registries) {
            return Ok(Self { repository: rest.to_owned(), ..self.clone() });
        }
        // A colon belongs to a port, because no repository has one.
        if self.repository.contains(':') {
            let registries = registries.iter().map(ToString::to_string).collect();
            return Err(OtherRegistry { image: self.to_string(), registries });
        }
        Ok(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_back() {
        let digest = Digest::EMPTY.to_string();
        for text in ["app:1", "org/app:v1.0_x-y", "quay.corp:8443/org/app:v1", &format!("org/app@{digest}")] {
            let name: ImageName = text.parse().expect("an image");
            assert_eq!(name.to_string(), text);
        }
        for text in [
            "",
            "app",
            "app:",
            ":v1",
            "quay.corp:8443/app",
            "a?b:1",
            "../x:1",
            "a//b:1",
            "app@sha256:12",
            "app:a b",
            &"a".repeat(600),
        ] {
            assert!(text.parse::<ImageName>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_registrys_own_name_is_taken_off() {
        let at =
            |text: &str| text.parse::<ImageName>().expect("an image").at(&["quay.corp:8443", "edge.corp"]);
        assert_eq!(at("quay.corp:8443/org/app:v1").expect("ours").repository, "org/app");
        assert_eq!(at("Edge.corp/org/app:v1").expect("ours").repository, "org/app");
        assert_eq!(at("org.one/app:v1").expect("a namespace").repository, "org.one/app");
        let other = at("other:5000/app:v1").expect_err("another").to_string();
        assert!(other.contains("leave its name out"), "{other}");
    }

    #[test]
    fn names_as_clients_write_them() {
        let digest = Digest::EMPTY.to_string();
        for (text, expected) in [
            ("app", "app:latest".to_owned()),
            ("quay.corp:8443/org/app", "quay.corp:8443/org/app:latest".to_owned()),
            ("quay.corp:8443/org/app:v1", "quay.corp:8443/org/app:v1".to_owned()),
            (&format!("org/app:v1@{digest}"), format!("org/app@{digest}")),
            (&format!("quay.corp:8443/org/app@{digest}"), format!("quay.corp:8443/org/app@{digest}")),
        ] {
            assert_eq!(ImageName::as_clients_write(text).expect("an image").to_string(), expected);
        }
        for text in ["", ":", "app:", "app:a:b", "app@", "app@sha256:1", "a b", "a//b"] {
            assert!(ImageName::as_clients_write(text).is_err(), "{text}");
        }
    }
}
