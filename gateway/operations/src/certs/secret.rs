//! `certs secret`: a Secret of Kubernetes with a certificate and its key.

use std::path::Path;

use anyhow::Context as _;
use backends::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certificates::{CertificateFacts, Pair, TimeLeft, pem_file, same_key, verify_trust_path};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

/// The most characters of a name and of a namespace in Kubernetes.
const NAME_MAX: usize = 253;
const NAMESPACE_MAX: usize = 63;

/// What `certs secret` is asked for.
#[derive(Debug)]
pub struct SecretRequest<'a> {
    /// The chain, leaf first.
    pub certificate: &'a Path,
    /// Its key.
    pub key: &'a Path,
    /// The CA's certificate, if it is not the end of the chain.
    pub ca: Option<&'a Path>,
    /// The name of the Secret.
    pub name: &'a str,
    /// Its namespace. `None` for the one into which it is applied.
    pub namespace: Option<&'a str>,
}

/// A Secret of the type `kubernetes.io/tls` as YAML, with the keys that cert-manager writes: `tls.crt`, `tls.key` and,
/// if the CA is known, `ca.crt`. Only certificates and the one key are in it, whatever else the files hold.
///
/// # Errors
/// - The pair cannot be used or has expired.
/// - The certificate is a CA's, or the key is.
/// - `ca` is no CA, or did not sign the chain.
/// - A name is not valid in Kubernetes.
pub fn secret(request: &SecretRequest<'_>) -> anyhow::Result<Secret> {
    certificates::install_provider();
    check_name(request.name, NAME_MAX, true).context("--name")?;
    if let Some(namespace) = request.namespace {
        check_name(namespace, NAMESPACE_MAX, false).context("--namespace")?;
    }
    let pair = Pair::read(request.certificate, request.key)?;
    let shown = request.certificate.display();
    anyhow::ensure!(
        !pair.leaf().is_ca,
        "{shown} begins with a CA's certificate, whose key must not be in a Secret: issue a certificate for the gateways \
         with `quay-gateway certs issue`"
    );
    anyhow::ensure!(
        TimeLeft::of(pair.leaf()) != TimeLeft::Expired,
        "{shown} has expired: issue another one with `quay-gateway certs issue`"
    );
    let root = match request.ca {
        Some(file) => Some(pem_file::chain(file)?),
        None => last_root(&pair).map(|root| vec![root]),
    };
    let (leaf, signers) = pair.chain().split_first().context("a chain is never empty")?;
    anyhow::ensure!(
        !signers.iter().chain(root.iter().flatten()).any(|other| other != leaf && same_key(leaf, other)),
        "{} is also the key of a CA, which must not be in a Secret: issue a certificate with a key of its own",
        request.key.display()
    );
    if let (Some(file), Some(cas)) = (request.ca, &root) {
        check_ca(file, cas, &pair)?;
    }
    let key = pem_file::key_to_pem(&pem_file::private_key(request.key)?);
    let data = |name: &str, pem: &str| format!("  {name}: {}\n", STANDARD.encode(pem));
    let mut yaml =
        Zeroizing::new(String::from("apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata:\n"));
    // Quoted, because a name such as `true` or `1e3` is no text otherwise.
    yaml.push_str(&format!("  name: \"{}\"\n", request.name));
    if let Some(namespace) = request.namespace {
        yaml.push_str(&format!("  namespace: \"{namespace}\"\n"));
    }
    yaml.push_str("data:\n");
    if let Some(root) = &root {
        yaml.push_str(&data("ca.crt", &pem_file::chain_to_pem(root)));
    }
    yaml.push_str(&data("tls.crt", &pem_file::chain_to_pem(pair.chain())));
    yaml.push_str(&data("tls.key", key.reveal()));
    Ok(Secret::new(yaml.as_str()))
}

/// Clients that trust only these CAs must accept the chain.
fn check_ca(file: &Path, cas: &[CertificateDer<'static>], pair: &Pair) -> anyhow::Result<()> {
    let shown = file.display();
    let is_ca = |der: &CertificateDer<'_>| CertificateFacts::of(der).is_ok_and(|facts| facts.is_ca);
    anyhow::ensure!(
        cas.iter().all(is_ca),
        "{shown} has a certificate that is no CA's: give only the CA with --ca"
    );
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(cas.iter().cloned());
    verify_trust_path(pair.chain(), pair.leaf(), roots).map_err(|error| {
        anyhow::anyhow!("the CA in {shown} did not sign the chain ({error}): give the one that did with --ca")
    })
}

/// The root at the end of a chain.
fn last_root(pair: &Pair) -> Option<CertificateDer<'static>> {
    let last = pair.chain().last()?;
    let facts = CertificateFacts::of(last).ok()?;
    (facts.is_ca && facts.is_self_issued()).then(|| last.clone())
}

/// A DNS subdomain or label (RFC 1123), as Kubernetes demands it.
fn check_name(name: &str, max: usize, dots: bool) -> anyhow::Result<()> {
    let is_label = |label: &str| {
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty() && label.bytes().all(known) && !label.starts_with('-') && !label.ends_with('-')
    };
    let sound = name.len() <= max
        && match dots {
            true => name.split('.').all(is_label),
            false => is_label(name),
        };
    anyhow::ensure!(
        sound,
        "{name:?} is not valid in Kubernetes: at most {max} lower-case letters, digits and -, - neither first nor last"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_as_kubernetes_does() {
        for (name, dots, sound) in [
            ("gateway-tls", true, true),
            ("gateway.tls", true, true),
            ("gateway.tls", false, false),
            ("true", false, true),
            ("Gateway", true, false),
            ("-gateway", true, false),
            ("a\nb: c", true, false),
            ("a\"b", true, false),
            ("", true, false),
            (&"a".repeat(64), false, false),
        ] {
            let max = if dots { NAME_MAX } else { NAMESPACE_MAX };
            assert_eq!(check_name(name, max, dots).is_ok(), sound, "{name:?}");
        }
    }
}
