//! `certs`.

use std::process::ExitCode;

use anyhow::Context as _;
use config::without_port;
use operations::certs::{self, CaRequest, IssueRequest, SecretRequest, Shown, TrustRequest};

use super::output::{print, runtime};
use crate::arguments::{CertsArguments, CertsCommand, IssueArguments, Output, ShowArguments, TrustArguments};

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
    let mut names = Vec::new();
    if let Some(path) = &arguments.config {
        let hostname = config::load(path)?.hostname;
        names.push(without_port(&hostname).parse().with_context(|| format!("hostname {hostname}"))?);
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
    print(&match arguments.output {
        Output::Table => certs::text(&all),
        Output::Json => format!("{:#}\n", certs::json(&all)),
    })?;
    Ok(if all.iter().all(Shown::is_good) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn trust(arguments: &TrustArguments) -> anyhow::Result<String> {
    let mut hosts = arguments.hosts.clone();
    let ca = match (&arguments.ca, &arguments.config) {
        (Some(ca), _) => ca.clone(),
        (None, Some(path)) => {
            let settings = config::load(path)?;
            let own = settings
                .hostname
                .parse()
                .map_err(|why: String| anyhow::anyhow!("hostname {}: {why}", settings.hostname))?;
            hosts.insert(0, own);
            certs::ca_of(&settings)
        }
        // The arguments demand one of them.
        (None, None) => anyhow::bail!("give the CA with --ca, or --config"),
    };
    anyhow::ensure!(hosts.len() <= certs::HOSTS_MAX, "at most {} hosts at once", certs::HOSTS_MAX);
    certs::trust(&TrustRequest { ca: &ca, hosts: &hosts })
}
