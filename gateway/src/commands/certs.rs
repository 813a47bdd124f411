//! `certs`.

use std::process::ExitCode;

use anyhow::Context as _;
use certificates::SubjectName;
use config::without_port;
use operations::certs::{self, CaRequest, IssueRequest, SecretRequest, Shown, TrustRequest};
use serde_json::Value;

use super::output::{csv_of, print, rendered, runtime};
use crate::arguments::{CertsArguments, CertsCommand, IssueArguments, ShowArguments, TrustArguments};
use crate::exit;

/// The columns of CSV.
const COLUMNS: [&str; 9] =
    ["source", "chain_ok", "subject", "issuer", "names", "key", "not_after", "days_left", "sha256"];

/// Makes, issues and shows certificates.
pub(crate) fn certs(arguments: &CertsArguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        CertsCommand::Ca(ca) => {
            print(&certs::create_ca(&CaRequest { out: &ca.out, name: &ca.name, days: ca.days })?)?;
        }
        CertsCommand::Issue(issue) => print(&self::issue(issue)?)?,
        CertsCommand::Secret(secret) => {
            let made = certs::secret(&SecretRequest {
                certificate: &secret.certificate,
                key: &secret.key,
                ca: secret.ca.as_deref(),
                name: &secret.name,
                namespace: secret.namespace.as_deref(),
            })?;
            print(made.reveal())?;
        }
        CertsCommand::Show(show) => return self::show(show),
        CertsCommand::Trust(trust) => print(&self::trust(trust)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn issue(arguments: &IssueArguments) -> anyhow::Result<String> {
    let mut names: Vec<SubjectName> = Vec::new();
    if let Some(path) = &arguments.config {
        for hostname in config::load(path)?.hostnames() {
            let name = without_port(hostname).parse().with_context(|| format!("hostname {hostname}"))?;
            // Two names may differ in their ports.
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names.extend(arguments.sans.iter().cloned());
    certs::issue(&IssueRequest {
        ca: &arguments.ca,
        out: &arguments.out,
        names,
        key_type: arguments.key_type.into(),
        days: arguments.days,
    })
}

/// Prints the certificates. The exit status is 0 only if nothing is wrong.
fn show(arguments: &ShowArguments) -> anyhow::Result<ExitCode> {
    let ca = arguments.ca.as_deref();
    let all = match (&arguments.file, &arguments.config, &arguments.connect) {
        (Some(file), ..) => vec![certs::file(file, arguments.key.as_deref(), ca)?],
        (_, Some(path), _) => certs::configured(&config::load(path)?)?,
        (.., Some(address)) => {
            let shown = certs::served_by(address, arguments.server_name.as_deref(), ca);
            vec![runtime()?.block_on(shown)?]
        }
        // The arguments demand one of them.
        (None, None, None) => Vec::new(),
    };
    let csv = |chains: &Value| csv_of(&COLUMNS, None)(&records(chains));
    print(&rendered(arguments.output, &certs::json(&all), || certs::text(&all), csv)?)?;
    Ok(exit::of_check(all.iter().all(Shown::is_good)))
}

/// One record for each certificate.
fn records(chains: &Value) -> Value {
    let of_chain = |chain: &Value| {
        let certificates = chain["certificates"].as_array().cloned().unwrap_or_default();
        let (source, ok) = (chain["source"].clone(), chain["ok"].clone());
        certificates.into_iter().map(move |mut one| {
            let names: Vec<_> =
                one["names"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            one["names"] = names.join(" ").into();
            one["source"] = source.clone();
            one["chain_ok"] = ok.clone();
            one
        })
    };
    chains.as_array().into_iter().flatten().flat_map(of_chain).collect()
}

fn trust(arguments: &TrustArguments) -> anyhow::Result<String> {
    let mut hosts = arguments.hosts.clone();
    let ca = match (&arguments.ca, &arguments.config) {
        (Some(ca), _) => ca.clone(),
        (None, Some(path)) => {
            let settings = config::load(path)?;
            let own = settings.hostnames().map(|hostname| {
                hostname.parse().map_err(|why: String| anyhow::anyhow!("hostname {hostname}: {why}"))
            });
            hosts.splice(0..0, own.collect::<anyhow::Result<Vec<_>>>()?);
            certs::ca_of(&settings)
        }
        // The arguments demand one of them.
        (None, None) => anyhow::bail!("give the CA with --ca, or --config"),
    };
    anyhow::ensure!(hosts.len() <= certs::HOSTS_MAX, "at most {} hosts at once", certs::HOSTS_MAX);
    certs::trust(&TrustRequest { ca: &ca, hosts: &hosts })
}
