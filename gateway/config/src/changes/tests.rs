//! Every key of the schema is classed, and a change of it is seen.

use std::collections::BTreeSet;
use std::fs;

use super::applied::RELOAD;
use super::*;
use crate::env::PREFIX;
use crate::file::ConfigFile;
use crate::load_with;

const QUAY: &str = r"
SERVER_HOSTNAME: quay.example.com
PREFERRED_URL_SCHEME: https
FEATURE_STORAGE_REPLICATION: true
DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS: [zone-a]
DISTRIBUTED_STORAGE_CONFIG:
  zone-a:
    - RadosGWStorage
    - {hostname: a.example.com, is_secure: true, access_key: AK, secret_key: hunter2, bucket_name: quay, storage_path: /root}
  zone-b:
    - LocalStorage
    - {storage_path: /datastorage}
";

const GATEWAY: &str = "registry: {url: 'https://quay.internal:8443', config: quay.yaml}\n";
const DISTRIBUTION: &str =
    "registry: {kind: distribution, url: 'http://r:5000'}\nzones: {z: [LocalStorage, {storage_path: /d}]}\n";
const NO_REGISTRY: &str = "registry: {config: quay.yaml}\n";

/// Keys that are set in the environment, such as `limits.streams` to `9`.
type Variables<'a> = &'a [(&'a str, &'a str)];

fn load(file: &str, variables: Variables<'_>) -> Settings {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("writes");
    write("gateway.yaml", file);
    write("quay.yaml", QUAY);
    write("other.yaml", &QUAY.replace("quay.example.com", "registry.example.com"));
    for (name, text) in [
        ("a", "a_long_enough_text_of_a"),
        ("b", "a_long_enough_text_of_b"),
        ("c", "c"),
        ("d", "d"),
        ("headers", "A: hunter2"),
        ("proxy", "u:hunter2"),
    ] {
        write(name, text);
    }
    let variables = variables.iter().map(|(key, value)| {
        (format!("{PREFIX}{}", key.to_uppercase().replace('.', "__")), (*value).to_owned())
    });
    let mut settings =
        load_with(&dir.path().join("gateway.yaml"), variables).unwrap_or_else(|error| panic!("{error}"));
    // Each configuration has a folder of its own here.
    let relative = |path: &mut std::path::PathBuf| {
        *path = path.strip_prefix(dir.path()).unwrap_or(path).to_owned();
    };
    settings.tls.pairs.iter_mut().for_each(|pair| {
        relative(&mut pair.certificate);
        relative(&mut pair.key);
    });
    settings.tls.client_ca.iter_mut().for_each(relative);
    settings.ca_files.iter_mut().for_each(relative);
    settings
}

/// For each key: the file, what both configurations have in the environment, and what the second one has besides.
#[rustfmt::skip]
const SAMPLES: &[(&str, Variables<'static>, Variables<'static>)] = &[
    (GATEWAY, &[], &[("listen", "127.0.0.1:1")]),
    (GATEWAY, &[], &[("hostname", "edge.example.com")]),
    (GATEWAY, &[], &[("more_hostnames", "[edge.example.com]")]),
    (GATEWAY, &[("tls.key", "c"), ("tls.certificate", "a")], &[("tls.certificate", "b")]),
    (GATEWAY, &[("tls.certificate", "a"), ("tls.key", "c")], &[("tls.key", "d")]),
    (GATEWAY, &[("tls.certificate", "a"), ("tls.key", "c")], &[("tls.more", "[{certificate: b, key: d}]")]),
    (GATEWAY, &[], &[("tls.client_ca", "a")]),
    (GATEWAY, &[], &[("state_dir", "/s")]),
    (GATEWAY, &[], &[("journal", "postgres://u:hunter2@h/d")]),
    (DISTRIBUTION, &[], &[("registry.kind", "quay"), ("registry.server_name", "r:5000")]),
    (GATEWAY, &[], &[("registry.url", "https://other.internal")]),
    (NO_REGISTRY, &[("registry.instances", "[{url: 'https://a', zone: zone-a}, {url: 'https://b', zone: zone-b}]")],
        &[("registry.instances", "[{url: 'https://a', zone: zone-a}, {url: 'https://c', zone: zone-b}]")]),
    (GATEWAY, &[], &[("registry.server_name", "q.example.com")]),
    (GATEWAY, &[], &[("registry.redirects_to", "[s.example.com]")]),
    (GATEWAY, &[], &[("registry.forward_headers", "[X-Site]")]),
    (GATEWAY, &[("registry.account.username", "u"), ("registry.account.password_file", "a")],
        &[("registry.account.username", "v")]),
    (GATEWAY, &[("registry.account.username", "u"), ("registry.account.password_file", "a")],
        &[("registry.account.password_file", "b")]),
    (GATEWAY, &[], &[("proxy.url", "http://proxy.example.com:3128")]),
    (GATEWAY, &[("proxy.url", "http://proxy.example.com:3128")], &[("proxy.credentials_file", "proxy")]),
    (GATEWAY, &[("proxy.url", "http://proxy.example.com:3128")], &[("proxy.no_proxy", "[.example.org]")]),
    (DISTRIBUTION, &[], &[("registry.token_keys", "{file: a, issuer: i, service: s}")]),
    (GATEWAY, &[], &[("auth.freshness", "30s")]),
    (GATEWAY, &[], &[("auth.verify_tokens", "false")]),
    (GATEWAY, &[], &[("offline.max_age", "24h")]),
    (GATEWAY, &[("offline.max_age", "24h")], &[("offline.tokens", "false")]),
    (GATEWAY, &[], &[("registry.config", "other.yaml")]),
    (GATEWAY, &[], &[("home", "zone-b")]),
    (GATEWAY, &[], &[("ca", "a")]),
    (GATEWAY, &[], &[("zones", "{zone-c: [LocalStorage, {storage_path: /c}]}")]),
    (GATEWAY, &[], &[("cache.dir", "/c")]),
    (GATEWAY, &[], &[("cache.size", "1GiB")]),
    (GATEWAY, &[], &[("cache.reserve", "1MiB")]),
    (GATEWAY, &[("registry.account.username", "u"), ("registry.account.password_file", "a")], &[("pins", "[{images: ['a:1']}]")]),
    (GATEWAY, &[], &[("admin.listen", "127.0.0.1:2")]),
    (GATEWAY, &[], &[("admin.hosts", "[admin.example.com]")]),
    (GATEWAY, &[], &[("admin.token_file", "a")]),
    (GATEWAY, &[], &[("admin.tls", "true")]),
    (GATEWAY, &[], &[("access_log.format", "combined")]),
    (GATEWAY, &[], &[("access_log.to", "access.log")]),
    (GATEWAY, &[], &[("tracing.otlp.endpoint", "http://collector:4318")]),
    (GATEWAY, &[("tracing.otlp.endpoint", "http://collector:4318")], &[("tracing.otlp.headers_file", "headers")]),
    (GATEWAY, &[("tracing.otlp.endpoint", "http://collector:4318")], &[("tracing.otlp.sample", "0.5")]),
    (GATEWAY, &[], &[("trusted_proxies", "[10.0.0.0/8]")]),
    (GATEWAY, &[("trusted_proxies", "[10.0.0.0/8]")], &[("proxy_protocol", "true")]),
    (GATEWAY, &[], &[("replication.accept_orphans", "true")]),
    (GATEWAY, &[], &[("replication.verify", "deep")]),
    (GATEWAY, &[], &[("replication.limits", "{default: {copies: 3}}")]),
    (GATEWAY, &[("replication.database", "postgres://u@h/d"), ("replication.quay_lock", "false"), ("replication.placements", "true")],
        &[("replication.database", "postgres://u:hunter2@h/d")]),
    (GATEWAY, &[], &[("replication.placements", "true"), ("replication.database", "postgres://u@h/d"), ("replication.quay_lock", "false")]),
    (GATEWAY, &[], &[("replication.fetch_max", "1GB")]),
    (GATEWAY, &[], &[("replication.sweep.enabled", "false")]),
    (GATEWAY, &[], &[("replication.sweep.every", "1h")]),
    (GATEWAY, &[], &[("replication.sweep.rate", "4.5")]),
    (GATEWAY, &[], &[("replication.sweep.backlog", "1")]),
    (GATEWAY, &[], &[("routing.zones", "{zone-b: {weight: 2}}")]),
    (GATEWAY, &[], &[("routing.probe_interval", "2s")]),
    (GATEWAY, &[], &[("routing.probes_per_hour", "1")]),
    (GATEWAY, &[], &[("routing.hedge_percent", "1")]),
    (GATEWAY, &[], &[("routing.ejection_max", "1s")]),
    (GATEWAY, &[], &[("routing.stall", "1s")]),
    (GATEWAY, &[], &[("routing.slowest", "3MiB")]),
];

/// Samples of groups whose values have one type: the key and its value.
const TIMES: &str = "59s";
const COUNTS: &str = "65";

/// Values that others of the group cannot have.
const SPECIAL: [(&str, &str); 5] = [
    ("limits.memory", "64MiB"),
    ("limits.header_bytes", "65KiB"),
    ("limits.request_rate", "3KiB"),
    ("limits.manifest", "3MiB"),
    ("limits.redirects", "4"),
];

fn schema() -> BTreeSet<String> {
    let mut names = Vec::new();
    ConfigFile::default().names("", &mut names);
    names.into_iter().collect()
}

#[test]
fn every_key_of_the_schema_is_in_one_class() {
    let classed: Vec<_> = RESTART.into_iter().chain(RELOAD).map(str::to_owned).collect();
    let once: BTreeSet<_> = classed.iter().cloned().collect();
    assert_eq!(classed.len(), once.len(), "a key is in both classes, or twice in one");
    let schema = schema();
    let missing: Vec<_> = schema.difference(&once).collect();
    assert!(missing.is_empty(), "keys without a class: decide whether a reload applies them: {missing:?}");
    let unknown: Vec<_> = once.difference(&schema).collect();
    assert!(unknown.is_empty(), "these are no keys: {unknown:?}");
}

/// Checks the comparison of two configurations that differ in one key.
fn check(key: &str, before: &Settings, after: Settings) {
    let found = changes(before, &after);
    let class = applied(key).expect("every key has a class");
    let seen = found.iter().any(|change| change.applied == class);
    assert!(seen, "{key}: {found:?}");
    let text = format!("{found:?}");
    for secret in ["hunter2", "a_long_enough_text"] {
        assert!(!text.contains(secret), "{key}: {text}");
    }
    // A reload applies everything of its class, and nothing else.
    let Ok(running) = after.clone().applied_to(before) else {
        return assert_eq!(key, "registry.kind");
    };
    let left = changes(&running, &after);
    let done = changes(before, &running);
    // Placements decide which zones get copies.
    let is_ours = |change: &Change, of: Applied| change.applied == of || key == "replication.placements";
    assert!(left.iter().all(|change| is_ours(change, Applied::Restart)), "{key}: {left:?}");
    assert!(done.iter().all(|change| is_ours(change, Applied::Reload)), "{key}: {done:?}");
}

#[test]
fn a_change_of_every_key_is_seen_and_shows_no_secret() {
    let mut left = schema();
    for (file, both, second) in SAMPLES {
        let key = second[0].0;
        let kept = both.iter().filter(|(key, _)| second.iter().all(|(other, _)| other != key));
        let all: Vec<_> = kept.chain(*second).copied().collect();
        if key == "admin.token_file" {
            let (before, after) = (load(file, &[(key, "a")]), load(file, &[(key, "b")]));
            check(key, &before, after);
        } else if key == "registry.kind" {
            let zones = "zones: {z: [LocalStorage, {storage_path: /d}]}\n";
            let quay = format!("registry: {{url: 'http://r:5000', server_name: 'r:5000'}}\n{zones}");
            check(key, &load(file, both), load(&quay, &[]));
        } else {
            check(key, &load(file, both), load(file, &all));
        }
        left.remove(key);
    }
    left.remove("replication.quay_lock");
    // What it means is in other variables.
    left.remove("proxy.from_environment");
    for key in left {
        let special = SPECIAL.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
        let value = special.unwrap_or(if key.starts_with("timeouts.") { TIMES } else { COUNTS });
        assert!(key.starts_with("timeouts.") || key.starts_with("limits."), "{key} has no sample");
        let (before, after) = (load(GATEWAY, &[]), load(GATEWAY, &[(&key, value)]));
        let found = changes(&before, &after);
        assert_eq!(found.iter().map(|change| &*change.key).collect::<Vec<_>>(), [&*key]);
        check(&key, &before, after);
    }
}

#[test]
fn equal_configurations_have_no_changes() {
    assert_eq!(changes(&load(GATEWAY, &[]), &load(GATEWAY, &[])), []);
}

#[test]
fn a_zone_and_its_credentials() {
    let with = |text: &str| load(GATEWAY, &[("zones", text)]);
    let store = |key: &str| {
        format!(
            "{{zone-c: [RadosGWStorage, {{hostname: c.example.com, is_secure: true, access_key: AK, secret_key: \
             {key}, bucket_name: quay, storage_path: /root}}]}}"
        )
    };
    let found = changes(&with(&store("hunter2")), &with(&store("hunter3")));
    let expected = Change {
        key: "zones.zone-c.secret_key".into(),
        applied: Applied::Reload,
        from: Some(HIDDEN.into()),
        to: Some(HIDDEN.into()),
        secret: true,
    };
    assert_eq!(found, [expected]);
    let found = changes(&load(GATEWAY, &[]), &with(&store("hunter2")));
    let zone = found.iter().find(|change| change.key == "zones.zone-c").expect("the zone is new");
    assert_eq!(zone.from, None);
    assert!(found.iter().all(|change| !change.key.starts_with("zones.zone-c.")), "{found:?}");
    assert!(zone.to.as_ref().is_some_and(|to| to.contains("c.example.com")), "{zone:?}");
}

#[test]
fn connections_that_are_opened_once_keep_their_roots() {
    let left = |both: Variables<'static>| {
        let (before, mut after) = (load(GATEWAY, both), load(GATEWAY, both));
        let roots = backends::Digest::of(b"other roots");
        (after.ca_digest, after.opened_roots) = (roots, roots);
        let running = after.clone().applied_to(&before).expect("the same kind");
        changes(&running, &after).into_iter().map(|change| change.key).collect::<Vec<_>>()
    };
    assert_eq!(left(&[]), Vec::<String>::new());
    assert_eq!(left(&[("journal", "postgres://u:hunter2@h/d")]), ["journal.ca"]);
    assert_eq!(left(&[("tracing.otlp.endpoint", "https://collector:4318")]), ["journal.ca"]);
}
