//! The resolved configuration for operators, without secrets.

use std::fmt::{self, Display};

use serde::Serialize;

use crate::{AccessLogTarget, JournalSettings, NamedZone, Settings};

/// The resolved configuration, zone by zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The settings. A key may be there more than once.
    pub settings: Vec<Setting>,
    /// The zones, home first.
    pub zones: Vec<ZoneSummary>,
    /// Settings that are probably not intended.
    pub warnings: Vec<String>,
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The key of the configuration, or a name.
    pub key: String,
    /// The value, or what it means.
    pub value: String,
}

/// A zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ZoneSummary {
    /// The name.
    pub name: String,
    /// Quay's name of its driver.
    pub driver: String,
    /// Whether it is the home zone.
    pub home: bool,
    /// Whether pushed blobs are copied to it.
    pub target: bool,
    /// The parameters of its store.
    pub settings: Vec<Setting>,
}

impl Summary {
    /// The summary of these settings. Opens no connection.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        let mut lines = Lines(Vec::new());
        served(&mut lines, settings);
        registry(&mut lines, settings);
        replication(&mut lines, settings);
        local(&mut lines, settings);
        Self { settings: lines.0, zones: zones(settings), warnings: settings.warnings.clone() }
    }
}

/// As text, with one key and its value on each line.
impl Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Setting { key, value } in &self.settings {
            writeln!(f, "{key:<24}{value}")?;
        }
        for zone in &self.zones {
            let home = if zone.home { ", home" } else { "" };
            let target = if zone.target { ", pushed blobs are copied here" } else { "" };
            writeln!(f, "\nzone {}: {}{home}{target}", zone.name, zone.driver)?;
            for Setting { key, value } in &zone.settings {
                writeln!(f, "    {key:<20}{value}")?;
            }
        }
        for warning in &self.warnings {
            writeln!(f, "\nwarning: {warning}")?;
        }
        Ok(())
    }
}

/// Settings that are being collected.
struct Lines(Vec<Setting>);

impl Lines {
    fn add(&mut self, key: &str, value: impl Display) {
        self.0.push(Setting { key: key.to_owned(), value: value.to_string() });
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
    let freshness = humantime::format_duration(settings.auth.freshness);
    match &settings.auth.tokens {
        Some(tokens) => lines.add(
            "auth",
            format!(
                "tokens of {} for {} are verified here, blobs of repositories believed for {freshness}",
                tokens.issuer, tokens.audience
            ),
        ),
        None => lines.add("auth", "the registry is asked for each credential"),
    }
    if let Some(offline) = &settings.offline {
        let max_age = humantime::format_duration(offline.max_age);
        let tokens = if offline.tokens { "with" } else { "without" };
        lines.add(
            "offline",
            format!(
                "while the registry is away, answers of the last {max_age}, {tokens} tokens of the gateway"
            ),
        );
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
    for pin in &settings.pins {
        lines.add("pinned", pin);
    }
    lines.add("cache", format!("{size} in {}, leaving {reserve} of the disk free", cache.dir.display()));
    lines.add("admin.listen", settings.admin.listen);
    let scheme = if settings.admin.tls { "on, with the certificates that clients see" } else { "off" };
    lines.add("admin.tls", scheme);
    if !settings.admin.hosts.is_empty() {
        lines.add("admin.hosts", settings.admin.hosts.join(", "));
    }
    let commands = match (settings.admin.takes_commands(), &settings.admin.token) {
        (true, Some(_)) => "with the token of admin.token_file",
        (true, None) => "from this machine only",
        (false, _) => "refused: admin.listen is not a loopback address, and there is no admin.token_file",
    };
    lines.add("commands", commands);
    if let Some(log) = &settings.access_log {
        let to = match &log.to {
            AccessLogTarget::Stdout => "standard output".to_owned(),
            AccessLogTarget::File(file) => file.display().to_string(),
        };
        lines.add("access_log", format!("{} to {to}", format!("{:?}", log.format).to_lowercase()));
    }
    if let Some(otlp) = &settings.otlp {
        let share = format!("{} % of the traces that begin here", otlp.sample * 100.0);
        lines.add("tracing.otlp", format!("{share}, to {}", otlp.endpoint));
    }
    match settings.names_differ() {
        true => {
            lines.add("names", "token realm and Location are rewritten to the name that the client dialled")
        }
        false => lines.add("names", "the registry and the gateway have the same name, nothing is rewritten"),
    }
}

fn zones(settings: &Settings) -> Vec<ZoneSummary> {
    let zone = |(index, zone): (usize, &NamedZone)| ZoneSummary {
        name: zone.name.clone(),
        driver: zone.store.driver().to_string(),
        home: index == 0,
        target: settings.targets.contains(&zone.name),
        settings: zone
            .store
            .summary()
            .into_iter()
            .map(|(key, value)| Setting { key: key.to_owned(), value })
            .collect(),
    };
    settings.zones.iter().enumerate().map(zone).collect()
}
