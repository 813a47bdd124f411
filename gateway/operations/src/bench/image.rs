//! Image names, and the blobs that the registry has for an image.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, bail, ensure};
use backends::Digest;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use serde::Deserialize;

use registry::service_account::{ACCEPTED, Scope, Tokens};
use registry::{LocalBlob, RegistryClient, describe, local_blobs, read_body};

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
    /// The name without the registry's own name, if it begins with that.
    ///
    /// # Errors
    /// The name begins with the name of another registry.
    pub(super) fn at(&self, registries: &[&str]) -> anyhow::Result<Self> {
        let (host, rest) = self.repository.split_once('/').unwrap_or_default();
        if registries.iter().any(|name| name.eq_ignore_ascii_case(host)) {
            return Ok(Self { repository: rest.to_owned(), ..self.clone() });
        }
        // A colon belongs to a port, because no repository has one.
        ensure!(
            !self.repository.contains(':'),
            "{self} names a registry that is not the configured one ({}): leave its name out",
            registries.join(", ")
        );
        Ok(self.clone())
    }
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Child>,
}

#[derive(Deserialize)]
struct Child {
    digest: String,
    #[serde(default)]
    platform: Platform,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Platform {
    os: String,
    architecture: String,
}

/// The blobs of an image. Of an image for several platforms, those for this machine, or else for the first.
///
/// # Errors
/// The image does not exist or may not be read, its manifest cannot be parsed, or the registry fails.
pub(super) async fn blobs(
    client: &RegistryClient,
    tokens: &Tokens,
    image: &ImageName,
    manifest_max: usize,
) -> anyhow::Result<Vec<LocalBlob>> {
    let manifest = manifest(client, tokens, image, &image.reference, manifest_max).await?;
    let manifest = match child(&manifest) {
        Some(digest) => self::manifest(client, tokens, image, &digest, manifest_max).await?,
        None => manifest,
    };
    local_blobs(&manifest).with_context(|| format!("{image}: its manifest cannot be parsed"))
}

async fn manifest(
    client: &RegistryClient,
    tokens: &Tokens,
    image: &ImageName,
    reference: &str,
    max: usize,
) -> anyhow::Result<Vec<u8>> {
    let path = format!("/v2/{}/manifests/{reference}", image.repository);
    let mut headers = tokens.headers(&Scope::Pull(image.repository.clone())).await?;
    headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
    let answer = client.get(&path, headers).await?;
    let status = answer.status();
    if status != StatusCode::OK {
        let who = tokens.who();
        let said = describe(answer).await;
        match status {
            StatusCode::NOT_FOUND => {
                bail!("there is no image {image} at the registry ({said}): check its tags")
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => bail!(
                "{who} may not read {}, or there is no such repository ({said}): give an account that may read it, \
                 with --username and --password-file, or as registry.account in the configuration",
                image.repository
            ),
            _ => bail!("{image}: the registry's answer for its manifest is {said}: check the registry's log"),
        }
    }
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let html = kind.contains("html");
    let body = read_body(answer, max).await.with_context(|| format!("{image}: its manifest"))?;
    ensure!(
        !html,
        "{image}: the answer is an HTML page instead of a manifest: the server at registry.url is not a registry"
    );
    if let Ok(digest) = reference.parse::<Digest>() {
        ensure!(Digest::of(&body) == digest, "{image}: the registry returned another manifest than {digest}");
    }
    Ok(body)
}

/// The digest of the manifest in an index that this machine would pull. `None` if the manifest is not an index.
fn child(manifest: &[u8]) -> Option<String> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    };
    let index: Index = serde_json::from_slice(manifest).ok()?;
    let ours = |child: &&Child| child.platform.os == "linux" && child.platform.architecture == architecture;
    let child = index.manifests.iter().find(ours).or(index.manifests.first())?;
    // The digest becomes part of a path, so it must be valid.
    child.digest.parse::<Digest>().ok().map(|digest| digest.to_string())
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
    fn an_index_gives_a_child_for_linux() {
        let one = |os: &str, architecture: &str, text: &str| {
            let platform = serde_json::json!({"os": os, "architecture": architecture});
            serde_json::json!({"digest": Digest::of(text.as_bytes()).to_string(), "platform": platform})
        };
        let found = |children: &[serde_json::Value]| {
            child(serde_json::json!({"manifests": children}).to_string().as_bytes())
        };
        let here = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let children = [one("windows", here, "w"), one("linux", "none", "n"), one("linux", here, "h")];
        assert_eq!(found(&children), Some(Digest::of(b"h").to_string()));
        assert_eq!(found(&children[..2]), Some(Digest::of(b"w").to_string()));
        assert_eq!(found(&[serde_json::json!({"digest": "../../x"})]), None);
        assert_eq!(child(br#"{"layers": []}"#), None);
    }
}
