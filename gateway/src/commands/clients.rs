//! `clients`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use config::Settings;
use operations::clients::{self, Configuration, RegistryName, Setup, TrustedCa, Written};

use super::output::print;
use crate::arguments::{ClientArgument, ClientsArguments, RoleArgument};

/// Prints a client's files, or writes them and prints what was written.
pub(crate) fn clients(arguments: &ClientsArguments) -> anyhow::Result<ExitCode> {
    let (setup, notes) = setup(arguments)?;
    let mut configuration = Configuration::of(arguments.client.into(), &setup)?;
    configuration.next.splice(0..0, notes);
    if let Some(dir) = &arguments.write {
        configuration.next.splice(0..0, replaced_entries(&configuration, &setup, dir));
    }
    match &arguments.write {
        None => print(&configuration.text())?,
        Some(dir) => print(&write(&configuration, dir, arguments.force)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Other files for the same registry, of which the new one takes nothing over.
fn replaced_entries(configuration: &Configuration, setup: &Setup, dir: &Path) -> Vec<String> {
    let Some(registry) = setup.registry.as_ref() else { return Vec::new() };
    let files = &configuration.files;
    if !files.iter().any(|file| file.path.contains("/registries.conf.d/")) {
        return Vec::new();
    }
    let earlier = clients::earlier_entries(dir, files, registry);
    let line = |path: &std::path::PathBuf| {
        let path = path.display();
        format!("# {path} has an entry for {registry}, which the new file replaces: copy its other settings.")
    };
    earlier.iter().map(line).collect()
}

fn write(configuration: &Configuration, dir: &Path, force: bool) -> anyhow::Result<String> {
    let mut text = String::new();
    for (path, written) in clients::write(&configuration.files, dir, force)? {
        let path = path.display();
        text.push_str(&match written {
            Written::New => format!("wrote {path}\n"),
            Written::Same => format!("{path} is the same already\n"),
            Written::Replaced(kept) => {
                format!("wrote {path}; what was there is {}\n", kept.display())
            }
        });
    }
    // The files of a cluster are named from there.
    let from = match configuration.files.iter().any(|file| !file.path.starts_with('/')) {
        true => format!(", in {}", dir.display()),
        false => String::new(),
    };
    Ok(format!("{text}\nnext{from}:\n{}\n", configuration.next_text()))
}

/// What the options say, and the configuration where they are silent. It is read only if they are. Also what is
/// doubtful about it, as comments of a shell.
fn setup(arguments: &ClientsArguments) -> anyhow::Result<(Setup, Vec<String>)> {
    let missing = arguments.gateway.is_none() || arguments.registry.is_none() || arguments.ca.is_none();
    let settings = arguments.config.as_deref().filter(|_| missing).map(config::load).transpose()?;
    let gateway = match (&arguments.gateway, &settings) {
        (Some(gateway), _) => gateway.clone(),
        (None, Some(settings)) => named("hostname", &settings.hostname)?,
        (None, None) => anyhow::bail!("name the gateway: give --gateway HOST[:PORT], or --config"),
    };
    let registry = match (&arguments.registry, &settings) {
        (Some(registry), _) => Some(registry.clone()),
        (None, Some(settings)) => registry(arguments, settings)?,
        (None, None) => None,
    };
    let is_plain_registry = |settings: &Settings| {
        let own = settings.registry_hostname.parse::<RegistryName>().ok();
        settings.registry_is_plain && own.zip(registry.as_ref()).is_some_and(|(own, named)| own.is(named))
    };
    let registry_is_plain = arguments.registry_http || settings.as_ref().is_some_and(is_plain_registry);
    let setup = Setup {
        gateway,
        registry,
        registry_is_plain,
        ca: ca(arguments.ca.as_deref(), settings.as_ref())?,
        registry_ca: arguments.registry_ca.as_deref().map(TrustedCa::read).transpose()?,
        role: arguments.role.map(Into::into),
    };
    let notes = notes(&setup, settings.as_ref());
    Ok((setup, notes))
}

/// What is probably a mistake.
fn notes(setup: &Setup, settings: Option<&Settings>) -> Vec<String> {
    let mut notes = Vec::new();
    let is_configured = |settings: &Settings| {
        settings.hostnames().flat_map(|name| name.parse::<RegistryName>()).any(|name| name.is(&setup.gateway))
    };
    if settings.is_some_and(|settings| !is_configured(settings)) {
        notes.push(format!(
            "# {} is neither hostname nor in more_hostnames, so the gateway sends clients to hostname for their tokens.",
            setup.gateway
        ));
        notes.push("# Add it to more_hostnames first.".to_owned());
    }
    for (option, ca) in [("--ca", &setup.ca), ("--registry-ca", &setup.registry_ca)] {
        if ca.as_ref().is_some_and(|ca| !ca.is_ca()) {
            notes.push(format!(
                "# {option} names no CA, but a server's certificate: many clients refuse it as a root. Name the CA."
            ));
        }
    }
    notes
}

fn ca(file: Option<&Path>, settings: Option<&Settings>) -> anyhow::Result<Option<TrustedCa>> {
    match (file, settings) {
        (Some(file), _) => TrustedCa::read(file).map(Some),
        (None, Some(settings)) => TrustedCa::of_gateway(settings),
        (None, None) => Ok(None),
    }
}

/// The configured name of the registry. If the gateway is no mirror, nothing depends on it.
fn registry(arguments: &ClientsArguments, settings: &Settings) -> anyhow::Result<Option<RegistryName>> {
    let only_by_name = matches!(arguments.role, Some(RoleArgument::Name))
        || matches!(arguments.client, ClientArgument::Docker);
    match named("registry's own name", &settings.registry_hostname) {
        Ok(name) => Ok(Some(name)),
        Err(_) if only_by_name => Ok(None),
        Err(error) => Err(error.context("give another one with --registry, or use --as name")),
    }
}

fn named(key: &str, name: &str) -> anyhow::Result<RegistryName> {
    name.parse().with_context(|| format!("the configuration's {key}, {name:?}, is of no use to clients"))
}
