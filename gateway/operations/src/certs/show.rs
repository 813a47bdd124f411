//! `certs show`: reads certificates and judges them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use certificates::{CertificateFacts, Pair, TimeLeft, covers_host, pem_file, verify_trust_path};
use config::{Settings, bare_host};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::shown::Shown;

/// Names of the CA's certificate beside another one: cert-manager's, and the one that the gateway makes.
const CA_BESIDE: [&str; 2] = ["ca.crt", "ca.pem"];

/// Shows the certificates of a file. The key is looked for beside it under the same name with `.key`, and the CA as
/// `ca.crt`, if they are not given.
///
/// # Errors
/// The file cannot be read or has no certificate, or a file that is given cannot be read.
pub fn file(certificate: &Path, key: Option<&Path>, ca: Option<&Path>) -> anyhow::Result<Shown> {
    certificates::install_provider();
    let beside = certificate.with_extension("key");
    let key = key.map(Path::to_owned).or_else(|| beside.is_file().then_some(beside));
    pair(certificate, key, &Roots::AlsoSent(roots(certificate, ca)?))
}

fn pair(certificate: &Path, key: Option<PathBuf>, roots: &Roots) -> anyhow::Result<Shown> {
    let chain = pem_file::chain(certificate)?;
    let mut shown = judged(certificate.display().to_string(), &chain, roots)?;
    if let Some(key) = key {
        shown.key_file = Some(key.clone());
        match Pair::read(certificate, &key) {
            Ok(_) => shown.key_fits = Some(true),
            Err(error) => {
                shown.key_fits = Some(false);
                shown.problems.push(format!("{error:#}"));
            }
        }
    }
    Ok(shown)
}

/// Shows each certificate of a configuration.
///
/// # Errors
/// A file cannot be read or has no certificate.
pub fn configured(settings: &Settings) -> anyhow::Result<Vec<Shown>> {
    certificates::install_provider();
    let mut files: Vec<(PathBuf, PathBuf)> =
        settings.tls.pairs.iter().map(|pair| (pair.certificate.clone(), pair.key.clone())).collect();
    let mut all: Vec<_> = files
        .iter()
        .map(|(certificate, key)| file(certificate, Some(key), None))
        .collect::<Result<_, _>>()?;
    if files.is_empty() {
        let (certificate, key) = (settings.state_dir.join("tls.crt"), settings.state_dir.join("tls.key"));
        all.push(pair(&certificate, Some(key.clone()), &made_ca(&settings.state_dir)?)?);
        files.push((certificate, key));
    }
    let leaves: Vec<_> =
        files.iter().filter_map(|(file, _)| pem_file::chain(file).ok()?.into_iter().next()).collect();
    let is_covered = |host: &str| leaves.iter().any(|leaf| covers_host(leaf, host));
    let hosts = settings.hostnames().map(|name| bare_host(name));
    let uncovered: BTreeSet<_> = hosts.filter(|host| !is_covered(host)).collect();
    if let Some(first) = all.first_mut() {
        first.problems.extend(uncovered.into_iter().map(|host| {
            format!(
                "no certificate is for {host}, which clients dial (hostname, more_hostnames): issue one with that name"
            )
        }));
    }
    Ok(all)
}

/// The root of the certificate that the gateway makes: clients are told to trust `ca.pem`, and nothing else.
fn made_ca(state_dir: &Path) -> anyhow::Result<Roots> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(pem_file::chain(&state_dir.join("ca.pem"))?);
    Ok(Roots::Only(roots))
}

/// The roots that may be at the end of a chain.
pub(super) enum Roots {
    /// These, and those that are sent with the chain.
    AlsoSent(RootCertStore),
    /// Only these.
    Only(RootCertStore),
}

/// What a chain says, and what is wrong with it.
///
/// # Errors
/// It is damaged.
pub(super) fn judged(
    source: String,
    chain: &[CertificateDer<'static>],
    roots: &Roots,
) -> anyhow::Result<Shown> {
    let facts: Result<Vec<_>, _> = chain.iter().map(|der| CertificateFacts::of(der)).collect();
    let facts = facts.with_context(|| format!("{source} is damaged"))?;
    let mut shown = Shown { source, certificates: facts, ..Shown::default() };
    let leaf = shown.certificates.first().context("a chain is never empty")?.clone();
    let few = |days: i64| format!("expires in {days} days: renew it");
    for (position, facts) in shown.certificates.iter().enumerate() {
        let whose = if position == 0 { "it" } else { &facts.subject };
        match TimeLeft::of(facts) {
            TimeLeft::Days(_) => {}
            TimeLeft::FewDays(days) => shown.warnings.push(format!("{whose} {}", few(days))),
            TimeLeft::Expired if position > 0 => {
                // If clients need it, the chain is not whole.
                shown.warnings.push(format!("{whose} has expired: leave it out, or replace it"));
            }
            TimeLeft::Expired => shown.problems.push(format!("{whose} has expired: replace it")),
            TimeLeft::NotYet => {
                shown.problems.push(format!("{whose} is not valid yet: correct the clock, or wait"));
            }
        }
    }
    if leaf.is_ca {
        return Ok(shown);
    }
    if leaf.names.is_empty() {
        shown.problems.push(
            "it has no name that clients look at (subjectAltName): issue one with `quay-gateway certs issue --san`".into(),
        );
    }
    let only = matches!(roots, Roots::Only(_));
    let roots = match roots {
        Roots::Only(roots) => roots.clone(),
        Roots::AlsoSent(roots) => {
            let mut roots = roots.clone();
            let is_root = |facts: &CertificateFacts| {
                facts.is_ca && facts.is_self_issued() && TimeLeft::of(facts) != TimeLeft::Expired
            };
            let sent = chain.iter().zip(&shown.certificates).skip(1);
            roots.add_parsable_certificates(
                sent.filter(|(_, facts)| is_root(facts)).map(|(der, _)| der.clone()),
            );
            roots
        }
    };
    match verify_trust_path(chain, &leaf, roots) {
        Ok(()) => shown.chain_whole = Some(true),
        Err(error) => {
            shown.chain_whole = Some(false);
            let last = shown.certificates.last().unwrap_or(&leaf);
            if only {
                shown.problems.push(format!(
                    "ca.pem did not sign it ({error}): put ca.key of that CA beside ca.pem, and the gateway makes another"
                ));
                return Ok(shown);
            }
            shown.problems.push(format!(
                "the chain leads to no root ({error}): add the certificate of {}, or name the CA with --ca",
                last.issuer
            ));
        }
    }
    Ok(shown)
}

/// The roots that may be at the end of a chain: the system's, and the CA that is given or lies beside the certificate.
pub(super) fn roots(certificate: &Path, ca: Option<&Path>) -> anyhow::Result<RootCertStore> {
    let folder = certificate.parent().unwrap_or(Path::new(""));
    let beside =
        CA_BESIDE.iter().map(|name| folder.join(name)).find(|file| file.is_file() && file != certificate);
    let given: Vec<_> = ca.map(Path::to_owned).or(beside).into_iter().collect();
    certificates::load_roots(&given)
}
