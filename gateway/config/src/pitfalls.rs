//! What a configuration allows and its author may not have meant: Quay's own pitfalls. Pure.

use super::file::RegistryKind;
use super::quay::QuayFile;
use super::replication::Placements;
use super::settings::NamedZone;
use super::zones::{DEFAULT_LOCATIONS, Preference};

/// What is looked at.
pub(super) struct Facts<'a> {
    pub(super) kind: RegistryKind,
    pub(super) quay: &'a QuayFile,
    pub(super) preference: &'a Preference,
    /// All zones, those of the gateway's own file too.
    pub(super) zones: &'a [NamedZone],
    pub(super) targets: &'a [String],
    pub(super) placements: Option<&'a Placements>,
    pub(super) accept_orphans: bool,
}

impl Facts<'_> {
    /// Whether Quay's database learns of copies.
    fn is_told(&self) -> bool {
        self.quay.replication || self.placements.is_some()
    }

    fn is_zone(&self, name: &str) -> bool {
        self.zones.iter().any(|zone| zone.name == name)
    }
}

/// One sentence for each, with the fix; none holds a secret.
pub(super) fn pitfalls(facts: &Facts<'_>) -> Vec<String> {
    let mut found = Vec::new();
    found.extend(ignored_tokens(facts));
    found.extend(no_such_zone(facts));
    found.extend(one_place(facts));
    if facts.kind == RegistryKind::Quay {
        found.extend(local_replication(facts));
        found.extend(no_preference(facts));
        found.extend(orphans(facts));
        found.extend(no_lock(facts));
        found.extend(no_sslmode(facts));
    }
    // Where Quay would not know of copies, that has been said.
    let untold = facts.kind == RegistryKind::Quay && !facts.is_told() && !facts.accept_orphans;
    if facts.targets.is_empty() && facts.zones.len() > 1 && !untold {
        found.push(format!(
            "no zone is a target for copies: name them in Quay's {DEFAULT_LOCATIONS}, or set \
             replication.accept_orphans (copies that Quay's garbage collection never removes)"
        ));
    }
    found
}

/// `storage/azurestorage.py:AzureStorage.__init__` keeps `sas_token` and uses it nowhere.
fn ignored_tokens(facts: &Facts<'_>) -> Vec<String> {
    let azure = facts
        .zones
        .iter()
        .filter(|zone| zone.store.driver() == "AzureStorage" && zone.store.has("sas_token"));
    let told =
        |zone: &NamedZone| format!("zone {}: Quay ignores `sas_token`; give `azure_account_key`", zone.name);
    azure.map(told).collect()
}

fn no_such_zone(facts: &Facts<'_>) -> Vec<String> {
    let preferred = facts.preference.names.iter().map(|name| (facts.preference.origin, name));
    let defaults = facts.quay.default_locations.iter().map(|name| (DEFAULT_LOCATIONS, name));
    let strangers = preferred.chain(defaults).filter(|(_, name)| !facts.is_zone(name));
    let told = |(origin, name): (&str, &String)| {
        let known: Vec<_> = facts.zones.iter().map(|zone| zone.name.as_str()).collect();
        format!(
            "{origin} names {name}, which is no zone and is skipped here (Quay itself fails where it comes \
             to it): write one of {}, or remove it",
            known.join(", ")
        )
    };
    strangers.map(told).collect()
}

fn one_place(facts: &Facts<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for (index, zone) in facts.zones.iter().enumerate() {
        let Some(place) = zone.store.location() else { continue };
        let twin = facts.zones[..index].iter().find(|other| other.store.location().as_ref() == Some(&place));
        if let Some(twin) = twin {
            found.push(format!(
                "zones {} and {} are one place, {place}: what lies in both is one copy, and is lost with \
                 that store; give each a bucket or a storage_path of its own",
                twin.name, zone.name
            ));
        }
    }
    found
}

/// `workers/storagereplication.py` then sleeps for ever.
fn local_replication(facts: &Facts<'_>) -> Option<String> {
    let zone = facts.quay.storage.0.iter().find(|(_, store)| store.driver() == "LocalStorage");
    let (name, _) = zone.filter(|_| facts.quay.replication)?;
    Some(format!(
        "FEATURE_STORAGE_REPLICATION is on and zone {name} is LocalStorage: Quay's replication worker then \
         does nothing at all, for any zone; use object stores, or switch it off"
    ))
}

/// `app.py:apply_storage_replication_config`.
fn no_preference(facts: &Facts<'_>) -> Option<String> {
    (facts.quay.replication && facts.preference.names.is_empty()).then(|| {
        "FEATURE_STORAGE_REPLICATION is on without a preference: Quay does not start so; set \
         QUAY_DISTRIBUTED_STORAGE_PREFERENCE in its environment (which Quay up to 3.16 always wants) or \
         DISTRIBUTED_STORAGE_PREFERENCE, and here likewise"
            .to_owned()
    })
}

/// What its database does not know of, its garbage collection never removes.
fn orphans(facts: &Facts<'_>) -> Vec<String> {
    let mut found = Vec::new();
    if !facts.is_told() {
        found.push(match facts.accept_orphans {
            false => "FEATURE_STORAGE_REPLICATION is off and replication.placements is not set: Quay's database would \
                      never learn of copies, and its garbage collection would leave them for ever, so pushes are \
                      not copied; switch it on in Quay's config.yaml, or set replication.placements, or \
                      replication.accept_orphans"
                .to_owned(),
            true => "FEATURE_STORAGE_REPLICATION is off and replication.placements is not set: Quay's database never \
                     learns of the copies, and its garbage collection leaves them; replication.accept_orphans \
                     says that this is meant"
                .to_owned(),
        });
    } else if facts.accept_orphans {
        let stray = |name: &&String| !facts.quay.default_locations.contains(name);
        let strays: Vec<_> = facts.targets.iter().filter(stray).map(String::as_str).collect();
        if !strays.is_empty() {
            found.push(format!(
                "replication.accept_orphans: copies go to {} too, which is not in Quay's {DEFAULT_LOCATIONS}: what \
                 Quay does not know to be there, its garbage collection leaves",
                strays.join(", ")
            ));
        }
    }
    found
}

/// libpq's default is `prefer`: TLS where it is offered, of whoever answers, else none.
fn no_sslmode(facts: &Facts<'_>) -> Option<String> {
    facts.placements.filter(|placements| placements.sslmode_missing).map(|_| {
        "Quay's DB_CONNECTION_ARGS has no sslmode: Quay then goes without TLS where its database has none, and \
         verifies no certificate; here TLS is wanted and verified; if the database has no TLS, add \
         `sslmode: disable` to DB_CONNECTION_ARGS, else `sslmode: verify-full` (`quay-gateway check` says which)"
            .to_owned()
    })
}

/// Without its lock, nobody can take a copy back whose blob is deleted at that moment.
fn no_lock(facts: &Facts<'_>) -> Option<String> {
    facts.placements.filter(|placements| placements.lock.is_none()).map(|_| {
        "replication.quay_lock is off: a copy of a blob that Quay deletes in that very moment stays, and no garbage \
         collection finds it; right for Quay up to 3.16 alone, which has no such lock"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::super::from_yaml;
    use super::*;

    /// What is said of Quay's `config.yaml` with these lines.
    fn said(yaml: &str, variable: Option<&str>) -> String {
        let quay: QuayFile = from_yaml(yaml).unwrap_or_else(|error| panic!("{}", error.message));
        let preference = Preference::of(&quay, variable);
        let zones: Vec<_> =
            quay.storage.0.iter().cloned().map(|(name, store)| NamedZone { name, store }).collect();
        let targets = quay.default_locations.clone();
        let kind = RegistryKind::Quay;
        pitfalls(&Facts {
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
    fn nothing_to_say_of_a_sound_one() {
        assert_eq!(said(&good(), None), "");
        assert_eq!(said(&good(), Some("b a")), "");
    }

    #[test]
    fn each_pitfall_is_told() {
        let azure = "  c: [AzureStorage, {azure_container: c, storage_path: /c, azure_account_name: n, sas_token: hunter2}]\n";
        for (from, to, wanted) in [
            ("REPLICATION: true", "REPLICATION: false", "so pushes are not copied; switch it on"),
            (
                "PREFERENCE: [a, b]",
                "PREFERENCE: [a, x]",
                "DISTRIBUTED_STORAGE_PREFERENCE names x, which is no zone",
            ),
            ("PREFERENCE: [a, b]", "PREFERENCE: []", "without a preference: Quay does not start so"),
            (
                "LOCATIONS: [a, b]",
                "LOCATIONS: [a, y]",
                "DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS names y, which is no zone",
            ),
            ("LOCATIONS: [a, b]", "LOCATIONS: []", "no zone is a target for copies"),
            ("storage_path: /b", "storage_path: a/", "zones a and b are one place, https://h/b/a"),
            (
                "CONFIG:\n",
                "CONFIG:\n  l: [LocalStorage, {storage_path: /l}]\n",
                "zone l is LocalStorage: Quay's replication worker then does nothing",
            ),
            ("CONFIG:\n", &format!("CONFIG:\n{azure}"), "zone c: Quay ignores `sas_token`"),
        ] {
            let yaml = good().replace(from, to);
            assert_ne!(yaml, good(), "{from}");
            let said = said(&yaml, None);
            assert!(said.contains(wanted) && !said.contains('\n'), "{yaml}\n{said}");
            assert!(!said.contains("hunter2"));
        }
        assert!(said(&good(), Some("a z")).contains("QUAY_DISTRIBUTED_STORAGE_PREFERENCE names z"));
    }
}
