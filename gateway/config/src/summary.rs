//! The resolved configuration as text for operators, without secrets.

use std::fmt::{Display, Write as _};

use crate::{JournalSettings, Settings};

/// The configuration as text, zone by zone. Opens no connection.
#[must_use]
pub fn summary(settings: &Settings) -> String {
    let mut lines = Lines(String::new());
    served(&mut lines, settings);
    registry(&mut lines, settings);
    replication(&mut lines, settings);
    local(&mut lines, settings);
    lines.0 + &zones(settings)
}

/// Text with one key and its value on each line.
struct Lines(String);

impl Lines {
    fn add(&mut self, key: &str, value: impl Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{key:<24}{value}");
    }
}

fn served(lines: &mut Lines, settings: &Settings) {
    lines.add("listen", settings.listen);
    lines.add("hostname", &settings.hostname);
    if !settings.more_hostnames.is_empty() {
        lines.add("more hostnames", settings.more_hostnames.join(" "));
    }
    for pair in &settings.tls.pairs {
        lines.add("tls", format!("{} with {}", pair.certificate.display(), pair.key.display()));
    }
    if settings.tls.pairs.is_empty() {
        lines.add("tls", format!("a certificate that is made in {}", settings.state_dir.display()));
    }
    if let Some(ca) = &settings.tls.client_ca {
        lines.add("tls.client_ca", format!("{}: clients must show a certificate", ca.display()));
    }
    lines.add("state_dir", settings.state_dir.display());
    match &settings.journal {
        JournalSettings::Sqlite => lines.add("journal", "SQLite in state_dir, used by this gateway only"),
        JournalSettings::Postgres(database) => {
            lines.add("journal", format!("{database}, shared by replicas"))
        }
    }
}

fn registry(lines: &mut Lines, settings: &Settings) {
    lines.add("registry.kind", format!("{:?}", settings.registry_kind).to_lowercase());
    lines.add("registry's own name", &settings.registry_hostname);
    for instance in &settings.instances {
        match settings.instances.len() {
            1 => {
                lines.add("registry.url", &instance.url);
                lines.add("name in its certificate", &instance.server_name);
            }
            _ => lines.add(
                &format!("registry {}", instance.name),
                format!(
                    "{}, certificate for {}, prefers {}",
                    instance.url, instance.server_name, instance.zone
                ),
            ),
        }
    }
    if let Some(hosts) = &settings.redirects_to {
        lines.add("registry.redirects_to", hosts);
    }
    if settings.forward_headers != Default::default() {
        lines.add("forward_headers", &settings.forward_headers);
    }
    match &settings.account {
        Some(account) => lines.add("registry.account", format!("{}, password given", account.username)),
        None => lines.add("registry.account", "none"),
    }
}

fn replication(lines: &mut Lines, settings: &Settings) {
    match &settings.replication.placements {
        Some(placements) => {
            lines.add("placements", &placements.database);
            match &placements.lock {
                Some(redis) => lines.add("Quay's lock", redis),
                None => lines.add("Quay's lock", "none: replication.quay_lock is off"),
            }
        }
        None => lines.add("placements", "none: copies are not recorded in Quay's database"),
    }
    let sweep = &settings.replication.sweep;
    match (&settings.account, sweep.enabled) {
        (Some(_), true) => {
            let every = humantime::format_duration(sweep.every);
            lines.add("sweep", format!("every {every}, at most {} requests a second", sweep.rate));
        }
        _ => lines.add("sweep", "none"),
    }
}

fn local(lines: &mut Lines, settings: &Settings) {
    for file in &settings.ca_files {
        lines.add("ca", file.display());
    }
    let proxies = &settings.proxies;
    for (scheme, proxy) in [("http", &proxies.http), ("https", &proxies.https)] {
        if let Some(proxy) = proxy {
            let login = if proxy.has_credentials() { ", with credentials" } else { "" };
            lines.add(&format!("proxy for {scheme}"), format!("{proxy}{login}"));
        }
    }
    if !proxies.is_empty() && !proxies.no_proxy.is_empty() {
        lines.add("no proxy for", &proxies.no_proxy);
    }
    let cache = &settings.cache;
    let (size, reserve) = (bytesize::ByteSize(cache.size), bytesize::ByteSize(cache.reserve));
    lines.add("cache", format!("{size} in {}, leaving {reserve} of the disk free", cache.dir.display()));
    lines.add("admin.listen", settings.admin.listen);
    if !settings.admin.hosts.is_empty() {
        lines.add("admin.hosts", settings.admin.hosts.join(", "));
    }
    let commands = match (settings.admin.takes_commands(), &settings.admin.token) {
        (true, Some(_)) => "with the token of admin.token_file",
        (true, None) => "from this machine only",
        (false, _) => "refused: admin.listen is not a loopback address, and there is no admin.token_file",
    };
    lines.add("commands", commands);
    match settings.names_differ() {
        true => {
            lines.add("names", "token realm and Location are rewritten to the name that the client dialled")
        }
        false => lines.add("names", "the registry and the gateway have the same name, nothing is rewritten"),
    }
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
