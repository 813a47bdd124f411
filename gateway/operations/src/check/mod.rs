//! What an operator asks before and after starting: is this configuration right, and does all
//! that it names work?

mod advice;
mod behalf;
mod connection;
mod journal;
mod json;
mod progress;
mod registry;
mod step;
mod table;
mod zone;

use std::time::Duration;

use futures_util::future::{join_all, join4};

pub use advice::Advice;
pub use behalf::BehalfReport;
pub use journal::JournalReport;
pub use json::json;
pub use progress::Progress;
pub use registry::RegistryReport;
pub use step::{Name, Note, Outcome, Step, Steps};
pub use table::table;
pub use zone::ZoneReport;

use config::{JournalSettings, Settings};

/// What came of a check.
#[derive(Debug, Clone)]
pub struct Report {
    /// The registry's instances, as they are configured; never none.
    pub registry: Vec<RegistryReport>,
    /// Every zone, home first.
    pub zones: Vec<ZoneReport>,
    /// The journal's database, where it lies in one.
    pub journal: Option<JournalReport>,
    /// What the gateway asks and tells Quay on its own behalf, as far as it is configured.
    pub behalf: Vec<BehalfReport>,
    /// What may not be meant so, and what will fail before long.
    pub warnings: Vec<String>,
}

impl Report {
    /// Whether every step passed: of every instance of the registry, of every zone, of the journal,
    /// and of what the gateway does on its own behalf.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.registry.iter().all(|instance| instance.steps.passed())
            && self.zones.iter().all(|zone| zone.steps.passed())
            && self.journal.iter().all(|journal| journal.steps.passed())
            && self.behalf.iter().all(|one| one.steps.passed())
    }
}

/// Checks every instance of the registry, every zone, the journal where it lies in a database, and what
/// the gateway does on its own behalf, all at once. Writes Quay's own marker into
/// every zone that it can. Each step is bounded: by `each`, or by what `timeouts` has for its kind.
///
/// # Errors
/// A file of roots cannot be used.
pub async fn run(settings: &Settings, each: Option<Duration>, progress: Progress) -> anyhow::Result<Report> {
    certificates::install_provider();
    let tls = certificates::client(&settings.ca_files)?;
    let settings = bounded(settings.clone(), each);
    let transport = config::transport(&settings, std::sync::Arc::clone(&tls));
    let names: Vec<_> = settings
        .instances
        .iter()
        .map(|instance| registry_name(&settings.instances, &instance.name))
        .collect();
    let all = settings.zones.iter().map(|zone| zone.name.as_str());
    let behalf_names: Vec<&str> = behalf::names(&settings).collect();
    let all = all.chain(names.iter().map(String::as_str)).chain(behalf_names.iter().copied());
    let progress = progress.aligned(all);
    let registry = settings
        .instances
        .iter()
        .zip(&names)
        .map(|(instance, name)| registry::check(&settings, instance, &tls, each, progress.line(name)));
    let zones =
        settings.zones.iter().map(|zone| zone::check(zone, &transport, each, progress.line(&zone.name)));
    let journal = async {
        match &settings.journal {
            JournalSettings::Sqlite => None,
            JournalSettings::Postgres(database) => {
                Some(journal::check(database, &tls, each, progress.line("journal")).await)
            }
        }
    };
    let behalf = behalf::check(&settings, &tls, each, &progress);
    let (registry, zones, journal, behalf) =
        join4(join_all(registry), join_all(zones), journal, behalf).await;
    progress.clear();
    let mut warnings = settings.warnings.clone();
    warnings.extend(registry::strangers(&registry));
    warnings.extend(registry.iter().zip(&names).flat_map(|(instance, name)| noted(name, &instance.steps)));
    warnings.extend(zones.iter().flat_map(|zone| noted(&format!("zone {}", zone.name), &zone.steps)));
    warnings.extend(behalf.iter().flat_map(|one| noted(one.name, &one.steps)));
    let odd = |one: &BehalfReport| one.warning.as_ref().map(|warning| format!("{}: {warning}", one.name));
    warnings.extend(behalf.iter().filter_map(odd));
    Ok(Report { registry, zones, journal, behalf, warnings })
}

/// What an instance of the registry is called where there are these.
fn registry_name<T>(all: &[T], name: &str) -> String {
    match all.len() {
        1 => "registry".to_owned(),
        _ => format!("registry {name}"),
    }
}

/// With the drivers' own bounds no shorter than those of the steps.
fn bounded(mut settings: Settings, each: Option<Duration>) -> Settings {
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
fn noted(whose: &str, steps: &Steps) -> Vec<String> {
    let warnings = steps.all().iter().filter_map(|step| match &step.outcome {
        Outcome::Passed(Some(Note::Warning(text))) => Some(format!("{whose}: {text}")),
        _ => None,
    });
    warnings.collect()
}
