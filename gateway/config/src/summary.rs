//! What was understood of a configuration, for an operator's eyes: secrets cut out.

use std::fmt::Write as _;

use crate::{JournalSettings, Settings};

/// The configuration as understood, zone by zone; opens no connection.
#[must_use]
pub fn summary(settings: &Settings) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{key:<24}{value}");
    };
    line("listen", &settings.listen);
    line("hostname", &settings.hostname);
    match &settings.tls {
        Some(tls) => line("tls", &format!("{} with {}", tls.certificate.display(), tls.key.display())),
        None => line("tls", &format!("made in {}", settings.state_dir.display())),
    }
    line("state_dir", &settings.state_dir.display());
    match &settings.journal {
        JournalSettings::Sqlite => line("journal", &"SQLite, in state_dir: of this gateway alone"),
        JournalSettings::Postgres(database) => line("journal", &format!("{database}: shared")),
    }
    line("registry.kind", &format!("{:?}", settings.registry_kind).to_lowercase());
    line("registry's own name", &settings.registry_hostname);
    for instance in &settings.instances {
        match settings.instances.len() {
            1 => {
                line("registry.url", &instance.url);
                line("name in its certificate", &instance.server_name);
            }
            _ => line(
                &format!("registry {}", instance.name),
                &format!(
                    "{}, certificate for {}, prefers {}",
                    instance.url, instance.server_name, instance.zone
                ),
            ),
        }
    }
    match &settings.account {
        Some(account) => line("registry.account", &format!("{}, password given", account.username)),
        None => line("registry.account", &"none"),
    }
    match &settings.replication.placements {
        Some(placements) => {
            line("placements", &placements.database);
            match &placements.lock {
                Some(redis) => line("Quay's lock", redis),
                None => line("Quay's lock", &"none: replication.quay_lock is off"),
            }
        }
        None => line("placements", &"none: Quay is not told of copies"),
    }
    let sweep = &settings.replication.sweep;
    match (&settings.account, sweep.enabled) {
        (Some(_), true) => {
            let every = humantime::format_duration(sweep.every);
            line("sweep", &format!("every {every}, {} requests a second at most", sweep.rate));
        }
        _ => line("sweep", &"none"),
    }
    for file in &settings.ca_files {
        line("ca", &file.display());
    }
    let cache = &settings.cache;
    let size = bytesize::ByteSize(cache.size);
    let reserve = bytesize::ByteSize(cache.reserve);
    line("cache", &format!("{} in {}, leaving {reserve} of the disk free", size, cache.dir.display()));
    line("admin.listen", &settings.admin.listen);
    line(
        "commands",
        &match (settings.admin.takes_commands(), &settings.admin.token) {
            (true, Some(_)) => "with the token of admin.token_file",
            (true, None) => "from this machine alone",
            (false, _) => "refused: admin.listen is not on loopback, and there is no admin.token_file",
        },
    );
    match settings.names_differ() {
        true => line("names", &"token realm and Location are rewritten to hostname"),
        false => line("names", &"the registry's and the gateway's are one, nothing is rewritten"),
    }
    text.push_str(&zones(settings));
    text
}

fn zones(settings: &Settings) -> String {
    let mut text = String::new();
    for (index, zone) in settings.zones.iter().enumerate() {
        let home = if index == 0 { ", home" } else { "" };
        let target =
            if settings.targets.contains(&zone.name) { ", pushed blobs are copied here" } else { "" };
        let _ = writeln!(text, "\nzone {}: {}{home}{target}", zone.name, zone.store.driver());
        for (key, value) in zone.store.summary() {
            let _ = writeln!(text, "    {key:<20}{value}");
        }
    }
    for warning in &settings.warnings {
        let _ = writeln!(text, "\nwarning: {warning}");
    }
    text
}
