//! Warnings about settings that are allowed but probably not intended, such as Quay's own pitfalls. Pure.

use super::file::RegistryKind;
use super::quay::QuayFile;
use super::replication::Placements;
use super::settings::NamedZone;
use super::zones::{DEFAULT_LOCATIONS, Preference};

/// The settings that the warnings depend on.
pub(super) struct PitfallInput<'a> {
    pub(super) kind: RegistryKind,
    pub(super) quay: &'a QuayFile,
    pub(super) preference: &'a Preference,
    /// All zones, including those of the gateway's own file.
    pub(super) zones: &'a [NamedZone],
    pub(super) targets: &'a [String],
    pub(super) placements: Option<&'a Placements>,
    pub(super) accept_orphans: bool,
}

impl PitfallInput<'_> {
    /// Whether copies are recorded in Quay's database.
    fn quay_knows_copies(&self) -> bool {
        self.quay.replication || self.placements.is_some()
    }

    fn is_zone(&self, name: &str) -> bool {
        self.zones.iter().any(|zone| zone.name == name)
    }
}

/// The warnings. Each names the fix, and none holds a secret.
pub(super) fn pitfalls(input: &PitfallInput<'_>) -> Vec<String> {
    let mut found = Vec::new();
    found.extend(ignored_tokens(input));
    found.extend(unknown_zones(input));
    found.extend(shared_locations(input));
    if input.kind == RegistryKind::Quay {
        found.extend(local_replication(input));
        found.extend(no_preference(input));
        found.extend(orphans(input));
        found.extend(no_lock(input));
        found.extend(no_sslmode(input));
    }
    // If Quay would not know of copies, `orphans` has already warned.
    let copies_are_off =
        input.kind == RegistryKind::Quay && !input.quay_knows_copies() && !input.accept_orphans;
    if input.targets.is_empty() && input.zones.len() > 1 && !copies_are_off {
        found.push(format!(
            "no zone is a target for copies: name them in Quay's {DEFAULT_LOCATIONS}, or set \
             replication.accept_orphans (copies that Quay's garbage collection never removes)"
        ));
    }
    found
}

/// Quay's `storage/azurestorage.py:AzureStorage.__init__` stores `sas_token` but never uses it.
fn ignored_tokens(input: &PitfallInput<'_>) -> Vec<String> {
    let azure = input
        .zones
        .iter()
        .filter(|zone| zone.store.driver() == "AzureStorage" && zone.store.has("sas_token"));
    let warning =
        |zone: &NamedZone| format!("zone {}: Quay ignores `sas_token`; set `azure_account_key`", zone.name);
    azure.map(warning).collect()
}

fn unknown_zones(input: &PitfallInput<'_>) -> Vec<String> {
    let preferred = input.preference.names.iter().map(|name| (input.preference.origin, name));
    let defaults = input.quay.default_locations.iter().map(|name| (DEFAULT_LOCATIONS, name));
    let unknown = preferred.chain(defaults).filter(|(_, name)| !input.is_zone(name));
    let warning = |(origin, name): (&str, &String)| {
        let known: Vec<_> = input.zones.iter().map(|zone| zone.name.as_str()).collect();
        format!(
            "{origin} names {name}, which is not a zone: the gateway skips it, but Quay itself fails when it \
             uses it; replace it with one of {}, or remove it",
            known.join(", ")
        )
    };
    unknown.map(warning).collect()
}

fn shared_locations(input: &PitfallInput<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for (index, zone) in input.zones.iter().enumerate() {
        let Some(location) = zone.store.location() else { continue };
        let duplicate =
            input.zones[..index].iter().find(|other| other.store.location().as_ref() == Some(&location));
        if let Some(duplicate) = duplicate {
            found.push(format!(
                "zones {} and {} are the same location, {location}: a blob in both is only one copy, and is lost \
                 with that store; give each zone its own bucket or storage_path",
                duplicate.name, zone.name
            ));
        }
    }
    found
}

/// With a LocalStorage zone, Quay's `workers/storagereplication.py` sleeps for ever.
fn local_replication(input: &PitfallInput<'_>) -> Option<String> {
    let zone = input.quay.storage.0.iter().find(|(_, store)| store.driver() == "LocalStorage");
    let (name, _) = zone.filter(|_| input.quay.replication)?;
    Some(format!(
        "FEATURE_STORAGE_REPLICATION is on and zone {name} is LocalStorage: Quay's replication worker then \
         copies nothing, for any zone; use object stores, or switch it off"
    ))
}

/// Quay checks this in `app.py:apply_storage_replication_config`.
fn no_preference(input: &PitfallInput<'_>) -> Option<String> {
    (input.quay.replication && input.preference.names.is_empty()).then(|| {
        "FEATURE_STORAGE_REPLICATION is on without a preference: Quay does not start; set \
         QUAY_DISTRIBUTED_STORAGE_PREFERENCE in its environment (required up to Quay 3.16) or \
         DISTRIBUTED_STORAGE_PREFERENCE, and set the same for the gateway"
            .to_owned()
    })
}

/// Quay's garbage collection removes only copies that are recorded in its database.
fn orphans(input: &PitfallInput<'_>) -> Vec<String> {
    let mut found = Vec::new();
    if !input.quay_knows_copies() {
        found.push(match input.accept_orphans {
            false => "FEATURE_STORAGE_REPLICATION is off and replication.placements is not set: copies would not be \
                      recorded in Quay's database, and its garbage collection would never remove them, so pushes \
                      are not copied; switch it on in Quay's config.yaml, or set replication.placements, or \
                      replication.accept_orphans"
                .to_owned(),
            true => "FEATURE_STORAGE_REPLICATION is off and replication.placements is not set: copies are not \
                     recorded in Quay's database, and its garbage collection never removes them; \
                     replication.accept_orphans accepts that"
                .to_owned(),
        });
    } else if input.accept_orphans {
        let is_orphaned = |name: &&String| !input.quay.default_locations.contains(name);
        let orphaned: Vec<_> = input.targets.iter().filter(is_orphaned).map(String::as_str).collect();
        if !orphaned.is_empty() {
            found.push(format!(
                "replication.accept_orphans: copies also go to {}, which is not in Quay's {DEFAULT_LOCATIONS}: \
                 Quay's garbage collection never removes copies there",
                orphaned.join(", ")
            ));
        }
    }
    found
}

/// libpq's default is `prefer`: TLS without verification if the server offers it, otherwise no TLS.
fn no_sslmode(input: &PitfallInput<'_>) -> Option<String> {
    input.placements.filter(|placements| placements.sslmode_missing).map(|_| {
        "Quay's DB_CONNECTION_ARGS has no sslmode: Quay then verifies no certificate, and uses no TLS if its \
         database has none; the gateway requires TLS and verifies it; if the database has no TLS, add \
         `sslmode: disable` to DB_CONNECTION_ARGS, otherwise `sslmode: verify-full` (`quay-gateway check` shows \
         which one applies)"
            .to_owned()
    })
}

/// Without Quay's lock, a copy can be recorded while Quay deletes its blob.
fn no_lock(input: &PitfallInput<'_>) -> Option<String> {
    input.placements.filter(|placements| placements.lock.is_none()).map(|_| {
        "replication.quay_lock is off: if Quay deletes a blob while it is being copied, the copy stays and no \
         garbage collection finds it; use this only with Quay up to 3.16, which has no such lock"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::super::from_yaml;
    use super::*;

    /// The warnings for Quay's `config.yaml` with these lines.
    fn warnings(yaml: &str, variable: Option<&str>) -> String {
        let quay: QuayFile = from_yaml(yaml).unwrap_or_else(|error| panic!("{}", error.message));
        let preference = Preference::of(&quay, variable);
        let zones: Vec<_> =
            quay.storage.0.iter().cloned().map(|(name, store)| NamedZone::new(name, store)).collect();
        let targets = quay.default_locations.clone();
        let kind = RegistryKind::Quay;
        pitfalls(&PitfallInput {
            kind,
            quay: &quay,
            preference: &preference,
            zones: &zones,
            targets: &targets,
            placements: None,
            accept_orphans: false,
        })
        .join("\n")
    }

    const BUCKET: &str = "hostname: h, is_secure: true, access_key: a, secret_key: hunter2, bucket_name: b";

    fn good() -> String {
        format!(
            "FEATURE_STORAGE_REPLICATION: true\n\
             DISTRIBUTED_STORAGE_PREFERENCE: [a, b]\n\
             DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS: [a, b]\n\
             DISTRIBUTED_STORAGE_CONFIG:\n\
             \x20 a: [RadosGWStorage, {{{BUCKET}, storage_path: /a}}]\n\
             \x20 b: [RadosGWStorage, {{{BUCKET}, storage_path: /b}}]\n"
        )
    }

    #[test]
    fn a_good_configuration_has_no_warning() {
        assert_eq!(warnings(&good(), None), "");
        assert_eq!(warnings(&good(), Some("b a")), "");
    }

    #[test]
    fn each_pitfall_gives_a_warning() {
        let azure = "  c: [AzureStorage, {azure_container: c, storage_path: /c, azure_account_name: n, sas_token: hunter2}]\n";
        for (from, to, wanted) in [
            ("REPLICATION: true", "REPLICATION: false", "so pushes are not copied; switch it on"),
            (
                "PREFERENCE: [a, b]",
                "PREFERENCE: [a, x]",
                "DISTRIBUTED_STORAGE_PREFERENCE names x, which is not a zone",
            ),
            ("PREFERENCE: [a, b]", "PREFERENCE: []", "without a preference: Quay does not start"),
            (
                "LOCATIONS: [a, b]",
                "LOCATIONS: [a, y]",
                "DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS names y, which is not a zone",
            ),
            ("LOCATIONS: [a, b]", "LOCATIONS: []", "no zone is a target for copies"),
            ("storage_path: /b", "storage_path: a/", "zones a and b are the same location, https://h/b/a"),
            (
                "CONFIG:\n",
                "CONFIG:\n  l: [LocalStorage, {storage_path: /l}]\n",
                "zone l is LocalStorage: Quay's replication worker then copies nothing",
            ),
            ("CONFIG:\n", &format!("CONFIG:\n{azure}"), "zone c: Quay ignores `sas_token`"),
        ] {
            let yaml = good().replace(from, to);
            assert_ne!(yaml, good(), "{from}");
            let warnings = warnings(&yaml, None);
            assert!(warnings.contains(wanted) && !warnings.contains('\n'), "{yaml}\n{warnings}");
            assert!(!warnings.contains("hunter2"));
        }
        assert!(warnings(&good(), Some("a z")).contains("QUAY_DISTRIBUTED_STORAGE_PREFERENCE names z"));
    }
}
