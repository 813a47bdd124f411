//! Checks that a configuration is right, and that everything that it names works.

mod admin;
mod advice;
mod certificate;
mod connection;
mod csv;
mod journal;
mod json;
mod progress;
mod registry;
mod services;
mod step;
mod table;
mod zone;

use std::time::Duration;

use backends::Digest;
use futures_util::future::{join_all, join4};

pub use advice::Advice;
pub use csv::csv;
pub use journal::JournalCheck;
pub use json::json;
pub use progress::CheckProgress;
pub use registry::RegistryCheck;
pub use services::ServiceCheck;
pub use step::{Step, StepName, StepNote, StepOutcome, Steps};
pub use table::table;
pub use zone::ZoneCheck;

use config::{JournalSettings, Settings};

/// The result of a check.
#[derive(Debug, Clone)]
pub struct CheckReport {
    /// The registry's instances, in configured order; at least one.
    pub registry: Vec<RegistryCheck>,
    /// Every zone, home first.
    pub zones: Vec<ZoneCheck>,
    /// The journal, if it is in PostgreSQL.
    pub journal: Option<JournalCheck>,
    /// The services that the gateway uses for its own requests, if they are configured.
    pub services: Vec<ServiceCheck>,
    /// Warnings: settings that are probably not intended, and what will fail soon.
    pub warnings: Vec<String>,
}

impl CheckReport {
    /// Whether every step passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.registry.iter().all(|instance| instance.steps.passed())
            && self.zones.iter().all(|zone| zone.steps.passed())
            && self.journal.iter().all(|journal| journal.steps.passed())
            && self.services.iter().all(|one| one.steps.passed())
    }
}

/// Checks every instance of the registry, every zone, the journal if it is in PostgreSQL, and the services that the
/// gateway uses for its own requests, all at the same time. Writes Quay's own marker, `_verify`, into every zone.
/// Each step has a timeout: `each`, or the one in `timeouts` for its kind.
///
/// # Errors
/// A file of roots cannot be used.
pub async fn run(
    settings: &Settings,
    each: Option<Duration>,
    progress: CheckProgress,
) -> anyhow::Result<CheckReport> {
    certificates::install_provider();
    let tls = certificates::client(&settings.ca_files)?;
    let settings = with_timeout(settings.clone(), each);
    let transport = config::transport(&settings, std::sync::Arc::clone(&tls));
    let names: Vec<_> = settings
        .instances
        .iter()
        .map(|instance| registry_name(&settings.instances, &instance.name))
        .collect();
    let all = settings.zones.iter().map(|zone| zone.name.as_str());
    let service_names: Vec<&str> = services::names(&settings).collect();
    let all = all.chain(names.iter().map(String::as_str)).chain(service_names.iter().copied());
    let progress = progress.aligned(all);
    let registry = settings
        .instances
        .iter()
        .zip(&names)
        .map(|(instance, name)| registry::check(&settings, instance, &tls, each, progress.line(name)));
    let blobs = blobs(&settings);
    let zones = settings
        .zones
        .iter()
        .map(|zone| zone::check(zone, &blobs, &transport, each, progress.line(&zone.name)));
    let journal = async {
        match &settings.journal {
            JournalSettings::Sqlite => None,
            JournalSettings::Postgres(database) => {
                Some(journal::check(database, &tls, each, progress.line("journal")).await)
            }
        }
    };
    let services = services::check(&settings, &tls, each, &progress);
    let (registry, zones, journal, services) =
        join4(join_all(registry), join_all(zones), journal, services).await;
    progress.clear();
    let mut warnings = settings.warnings.clone();
    warnings.extend(registry::unrelated_instances(&registry));
    warnings.extend(
        registry.iter().zip(&names).flat_map(|(instance, name)| step_warnings(name, &instance.steps)),
    );
    warnings.extend(zones.iter().flat_map(|zone| step_warnings(&format!("zone {}", zone.name), &zone.steps)));
    warnings.extend(services.iter().flat_map(|one| step_warnings(one.name, &one.steps)));
    let warning = |one: &ServiceCheck| one.warning.as_ref().map(|warning| format!("{}: {warning}", one.name));
    warnings.extend(services.iter().filter_map(warning));
    Ok(CheckReport { registry, zones, journal, services, warnings })
}

/// What the keys of all blobs begin with, such as `sha256/`.
fn blobs(settings: &Settings) -> String {
    const FOLDER: &str = "sha256/";
    let key = ::registry::registry(settings).blob_key(&Digest::EMPTY);
    let above = key.as_str().split(FOLDER).next().unwrap_or_default();
    format!("{above}{FOLDER}")
}

/// The name of an instance in the output. If there is only one, it is called `registry`.
fn registry_name<T>(all: &[T], name: &str) -> String {
    match all.len() {
        1 => "registry".to_owned(),
        _ => format!("registry {name}"),
    }
}

/// Sets the drivers' own timeouts to that of the steps, so that they do not end a step earlier.
fn with_timeout(mut settings: Settings, each: Option<Duration>) -> Settings {
    if let Some(each) = each {
        let timeouts = &mut settings.timeouts;
        for bound in [
            &mut timeouts.registry_connect,
            &mut timeouts.zone_connect,
            &mut timeouts.zone_first_byte,
            &mut timeouts.zone_stall,
        ] {
            *bound = each;
        }
    }
    settings
}

/// The warnings of steps that passed.
fn step_warnings(whose: &str, steps: &Steps) -> Vec<String> {
    let warnings = steps.all().iter().filter_map(|step| match &step.outcome {
        StepOutcome::Passed(Some(StepNote::Warning(text))) => Some(format!("{whose}: {text}")),
        _ => None,
    });
    warnings.collect()
}
