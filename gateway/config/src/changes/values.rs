//! The values of a configuration, each at the key that sets it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

use backends::proxy::ProxyRules;
use backends::{Digest, Secret};
use postgres_connection::Database;
use replication::{Limits, LimitsByZone, Verify, Window};

use super::shown::{Shown as _, size};
use crate::{
    AccessLogSettings, AccessLogTarget, Account, AdminSettings, AuthSettings, CacheSettings, Instance,
    JournalSettings, NamedZone, OfflineSettings, OtlpSettings, Pin, Placements, ReplicationSettings,
    Settings, TlsSettings, TokenKeys, TokenSettings,
};

/// One value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ConfigValue {
    Plain(String),
    /// It is compared, and never shown.
    Secret(Secret),
}

/// The values by key.
#[derive(Debug, Default)]
struct Values(BTreeMap<String, ConfigValue>);

impl Values {
    fn add(&mut self, key: impl Into<String>, value: impl Display) {
        self.0.insert(key.into(), ConfigValue::Plain(value.to_string()));
    }

    fn add_some(&mut self, key: impl Into<String>, value: Option<impl Display>) {
        if let Some(value) = value {
            self.add(key, value);
        }
    }

    /// Adds a list, if it is not empty.
    fn add_list(&mut self, key: impl Into<String>, items: impl IntoIterator<Item = impl Display>) {
        let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
        self.add_some(key, Some(items.join(", ")).filter(|list| !list.is_empty()));
    }

    fn add_secret(&mut self, key: impl Into<String>, value: Secret) {
        self.0.insert(key.into(), ConfigValue::Secret(value));
    }

    /// Adds a database: where it is, and what else must be equal.
    fn add_database(&mut self, key: &str, database: &Database) {
        self.add(key, database);
        self.add_secret(format!("{key}.url"), database.compared());
    }

    fn add_group(&mut self, group: &str, values: Vec<(&str, Option<String>)>) {
        for (key, value) in values {
            self.add_some(format!("{group}.{key}"), value);
        }
    }
}

/// All values of a configuration that the gateway uses.
pub(super) fn values(settings: &Settings) -> BTreeMap<String, ConfigValue> {
    // Names every field, so that the compiler reports a field that is missing here.
    let Settings {
        listen,
        hostname,
        more_hostnames,
        registry_hostname,
        tls,
        state_dir,
        journal,
        registry_kind,
        instances,
        redirects_to,
        forward_headers,
        layer_max,
        account,
        auth,
        offline,
        proxies,
        // It follows from the URL of the registry and from Quay's own file.
        registry_is_plain: _,
        ca_files,
        ca_digest,
        opened_roots,
        zones,
        // They are about the other keys.
        warnings: _,
        // They are where the other keys come from.
        files: _,
        routing,
        targets,
        verify,
        copy_limits,
        replication,
        cache,
        pins,
        admin,
        access_log,
        otlp,
        trusted_proxies,
        proxy_protocol,
        limits,
        timeouts,
    } = settings;
    let mut values = Values::default();
    values.add("listen", listen);
    values.add("hostname", hostname);
    values.add_list("more_hostnames", more_hostnames);
    values.add("registry.config.SERVER_HOSTNAME", registry_hostname);
    add_tls(&mut values, tls);
    values.add("state_dir", state_dir.display());
    add_journal(&mut values, journal);
    values.add("registry.kind", format!("{registry_kind:?}").to_lowercase());
    add_instances(&mut values, instances);
    values.add_some("registry.redirects_to", redirects_to.as_ref());
    values.add_list("registry.forward_headers", Some(forward_headers));
    values.add("registry.config.MAXIMUM_LAYER_SIZE", size(*layer_max));
    add_decisions(&mut values, account.as_ref(), auth, offline.as_ref());
    add_proxies(&mut values, proxies);
    values.add_list("ca", ca_files.iter().map(|file| file.display()));
    add_roots(&mut values, ca_digest, settings.connects_once().then_some(opened_roots));
    add_zones(&mut values, zones);
    add_routing(&mut values, routing);
    values.add_list("registry.config.DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS", targets);
    values.add("replication.verify", shown_verify(*verify));
    add_copy_limits(&mut values, copy_limits);
    add_replication(&mut values, replication);
    add_cache(&mut values, cache, pins);
    add_admin(&mut values, admin);
    add_access_log(&mut values, access_log.as_ref());
    add_otlp(&mut values, otlp.as_ref());
    values.add_list("trusted_proxies", trusted_proxies);
    values.add("proxy_protocol", proxy_protocol);
    add_bounds(&mut values, limits, timeouts);
    values.0
}

fn add_journal(values: &mut Values, journal: &JournalSettings) {
    match journal {
        JournalSettings::Sqlite => values.add("journal", "sqlite"),
        JournalSettings::Postgres(database) => values.add_database("journal", database),
    }
}

fn add_account(values: &mut Values, account: Option<&Account>) {
    let Some(Account { username, password }) = account else { return };
    values.add("registry.account.username", username);
    values.add_secret("registry.account.password_file", password.clone());
}

fn add_roots(values: &mut Values, contents: &Digest, opened: Option<&Digest>) {
    values.add("ca.contents", contents);
    values.add_some("journal.ca", opened);
}

fn add_bounds(values: &mut Values, limits: &crate::Limits, timeouts: &crate::Timeouts) {
    values.add_group("limits", limits.shown());
    values.add_group("timeouts", timeouts.shown());
}

fn add_cache(values: &mut Values, cache: &CacheSettings, pins: &[Pin]) {
    let CacheSettings { dir, unremoved: _, size: bytes, reserve } = cache;
    values.add("cache.dir", dir.display());
    values.add("cache.size", size(*bytes));
    values.add("cache.reserve", size(*reserve));
    values.add_list("pins", pins);
}

fn add_admin(values: &mut Values, admin: &AdminSettings) {
    let AdminSettings { listen, hosts, token, tls } = admin;
    values.add("admin.listen", listen);
    values.add_list("admin.hosts", hosts);
    values.add("admin.tls", tls);
    if let Some(token) = token {
        values.add_secret("admin.token_file", token.clone());
    }
}

fn add_proxies(values: &mut Values, proxies: &ProxyRules) {
    let ProxyRules { http, https, no_proxy } = proxies;
    let both = [http, https].into_iter().flatten();
    let mut urls: Vec<_> = both.map(ToString::to_string).collect();
    urls.dedup();
    values.add_list("proxy.url", urls);
    if !proxies.is_empty() {
        values.add_secret("proxy.credentials_file", proxies.compared());
    }
    values.add_list("proxy.no_proxy", Some(no_proxy).filter(|list| !list.is_empty()));
}

/// Who reads, and who decides about it.
fn add_decisions(
    values: &mut Values,
    account: Option<&Account>,
    auth: &AuthSettings,
    offline: Option<&OfflineSettings>,
) {
    add_account(values, account);
    add_auth(values, auth);
    if let Some(OfflineSettings { max_age, tokens }) = offline {
        values.add("offline.max_age", humantime::format_duration(*max_age));
        values.add("offline.tokens", tokens);
    }
}

fn add_auth(values: &mut Values, auth: &AuthSettings) {
    let AuthSettings { freshness, tokens } = auth;
    values.add("auth.freshness", humantime::format_duration(*freshness));
    values.add("auth.verify_tokens", tokens.is_some());
    let Some(TokenSettings { issuer, audience, keys }) = tokens else { return };
    match keys {
        TokenKeys::OfQuay { life_max } => {
            values.add("registry.config.INSTANCE_SERVICE_KEY_SERVICE", issuer);
            values.add("registry.config.REGISTRY_JWT_AUTH_MAX_FRESH_S", life_max.as_secs());
        }
        TokenKeys::InFile { file, contents } => {
            values.add("registry.token_keys", format!("{} of {issuer} for {audience}", file.display()));
            values.add("registry.token_keys.contents", contents);
        }
    }
}

fn add_access_log(values: &mut Values, access_log: Option<&AccessLogSettings>) {
    let Some(AccessLogSettings { format, to }) = access_log else { return };
    values.add("access_log.format", format!("{format:?}").to_lowercase());
    match to {
        AccessLogTarget::Stdout => values.add("access_log.to", "stdout"),
        AccessLogTarget::File(path) => values.add("access_log.to", path.display()),
    }
}

fn add_otlp(values: &mut Values, otlp: Option<&OtlpSettings>) {
    let Some(OtlpSettings { endpoint, headers, sample }) = otlp else { return };
    values.add("tracing.otlp.endpoint", endpoint);
    let lines: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {}", value.reveal())).collect();
    values.add_secret("tracing.otlp.headers_file", Secret::new(lines.join("\n")));
    values.add("tracing.otlp.sample", sample);
}

fn add_tls(values: &mut Values, tls: &TlsSettings) {
    let TlsSettings { pairs, client_ca } = tls;
    let shown = |path: &Path| path.display().to_string();
    if let Some((first, more)) = pairs.split_first() {
        values.add("tls.certificate", shown(&first.certificate));
        values.add("tls.key", shown(&first.key));
        let pair = |pair: &crate::TlsPair| format!("{} with {}", shown(&pair.certificate), shown(&pair.key));
        values.add_list("tls.more", more.iter().map(pair));
    }
    values.add_some("tls.client_ca", client_ca.as_deref().map(shown));
}

fn add_instances(values: &mut Values, instances: &[Instance]) {
    if let [Instance { name: _, url, server_name, zone: _ }] = instances {
        values.add("registry.url", url);
        return values.add("registry.server_name", server_name);
    }
    for Instance { name, url, server_name, zone } in instances {
        let text = format!("{url}, certificate for {server_name}, prefers {zone}");
        values.add(format!("registry.instances.{name}"), text);
    }
    // The first of several is preferred.
    values.add_list("registry.instances", instances.iter().map(|instance| &instance.name));
}

fn add_zones(values: &mut Values, zones: &[NamedZone]) {
    values.add_some("home", zones.first().map(|zone| &zone.name));
    values.add_list("zones", zones.iter().map(|zone| &zone.name));
    for NamedZone { name, store, policy } in zones {
        let place = store.location().unwrap_or_else(|| "cannot be used".to_owned());
        values.add(format!("zones.{name}"), format!("{}, {place}", store.driver()));
        for (parameter, value) in store.parameters() {
            values.add_secret(format!("zones.{name}.{parameter}"), value.clone());
        }
        let zone_router::Policy { drain, reads, weight, latency_hint } = policy;
        // Only what an operator has set.
        let usual = zone_router::Policy::default();
        let key = |key: &str| format!("routing.zones.{name}.{key}");
        values.add_some(key("drain"), Some(drain).filter(|drain| **drain));
        values.add_some(key("reads"), Some("never").filter(|_| !reads));
        values.add_some(
            key("weight"),
            Some(weight).filter(|weight| weight.to_bits() != usual.weight.to_bits()),
        );
        values.add_some(key("latency"), latency_hint.shown());
    }
}

fn add_routing(values: &mut Values, routing: &zone_router::Settings) {
    let mut add = |key: &str, value: Option<String>| values.add_some(format!("routing.{key}"), value);
    add("probe_interval", routing.probe_interval.shown());
    add("probes_per_hour", routing.probes_per_hour.shown());
    add("hedge_percent", routing.hedge_percent.shown());
    add("ejection_max", routing.pause.max.shown());
    add("stall", routing.stall.shown());
    add("slowest", Some(size(routing.slowest)));
}

fn add_copy_limits(values: &mut Values, limits: &LimitsByZone) {
    let LimitsByZone { default, zones } = limits;
    let all = zones.iter().map(|(name, limits)| (format!("zones.{name}"), limits));
    for (group, limits) in all.chain([("default".to_owned(), default)]) {
        let Limits { copies, in_flight, bandwidth } = limits;
        let key = |key: &str| format!("replication.limits.{group}.{key}");
        values.add(key("copies"), copies);
        values.add(key("in_flight"), size(*in_flight));
        values.add_some(key("bandwidth"), bandwidth.otherwise.map(size));
        values.add_list(key("hours"), bandwidth.windows.iter().map(hours));
    }
}

/// Such as `mon tue 08:00 to 18:30 at 10MiB`.
fn hours(window: &Window) -> String {
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let Window { days, from, to, bandwidth } = window;
    let days: Vec<_> = DAYS.iter().zip(days).filter(|(_, on)| **on).map(|(day, _)| *day).collect();
    let time = |minute: &u16| format!("{:02}:{:02}", minute / 60, minute % 60);
    let rate = bandwidth.map_or_else(|| "no limit".to_owned(), size);
    format!("{} {} to {} at {rate}", days.join(" "), time(from), time(to))
}

fn add_replication(values: &mut Values, replication: &ReplicationSettings) {
    let ReplicationSettings { accept_orphans, placements, fetch_max, sweep } = replication;
    values.add("replication.accept_orphans", accept_orphans);
    values.add("replication.placements", placements.is_some());
    if let Some(Placements { database, root, sslmode_missing: _, lock, locations }) = placements {
        values.add_database("replication.database", database);
        values.add_some("replication.database.sslrootcert", root.as_ref().map(|root| root.display()));
        values.add("replication.quay_lock", lock.is_some());
        if let Some(lock) = lock {
            values.add("replication.quay_lock.redis", lock);
            let user = (&lock.username, lock.password.as_ref().map(Secret::reveal), &lock.root);
            values.add_secret("replication.quay_lock.login", Secret::new(format!("{user:?}")));
        }
        values.add_list("registry.config.DISTRIBUTED_STORAGE_CONFIG", locations);
    }
    values.add("replication.fetch_max", size(*fetch_max));
    values.add_group("replication.sweep", sweep.shown());
}

fn shown_verify(verify: Verify) -> &'static str {
    match verify {
        Verify::Size => "size",
        Verify::Deep => "deep",
    }
}

impl Settings {
    /// Whether there is a connection that is opened once and keeps its roots.
    fn connects_once(&self) -> bool {
        let is_shared = matches!(self.journal, JournalSettings::Postgres(_));
        is_shared || self.replication.placements.is_some() || self.otlp.is_some()
    }
}
