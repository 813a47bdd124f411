//! How files and variables resolve, and which are refused with the line and the fix.

use std::fs;
use std::path::PathBuf;

use super::*;

mod admin;
mod auth;
mod instances;
mod logs;
mod proxy;
mod replication;
mod tls;

const QUAY: &str = r"
SERVER_HOSTNAME: quay.example.com
PREFERRED_URL_SCHEME: https
FEATURE_USER_CREATION: true
FEATURE_STORAGE_REPLICATION: true
DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS: [zone-a, zone-b]
DISTRIBUTED_STORAGE_PREFERENCE: [zone-b, zone-a]
DISTRIBUTED_STORAGE_CONFIG:
  zone-a:
    - RadosGWStorage
    - {hostname: a.example.com, is_secure: true, access_key: AK, secret_key: hunter2, bucket_name: quay, storage_path: /root}
  zone-b:
    - S3Storage
    - {s3_bucket: quay, s3_region: eu-west-1, s3_access_key: AK, s3_secret_key: hunter2, storage_path: /root}
  zone-c:
    - LocalStorage
    - {storage_path: /datastorage}
";

const GATEWAY: &str = "registry: {url: 'https://quay.internal:8443', config: quay.yaml}\n";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(gateway: &str, quay: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("gateway.yaml"), gateway).expect("writes");
        fs::write(dir.path().join("quay.yaml"), quay).expect("writes");
        Self(dir)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("gateway.yaml")
    }

    fn load(&self, variables: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        load_with(&self.path(), variables)
    }
}

#[test]
fn a_lame_duck_under_kubernetes() {
    let kubernetes = [("KUBERNETES_SERVICE_HOST", "10.0.0.1")];
    assert_eq!(loaded(GATEWAY, &[]).timeouts.lame_duck, Some(Duration::ZERO));
    assert_eq!(loaded(GATEWAY, &kubernetes).timeouts.lame_duck, Some(Duration::from_secs(5)));
    let given = format!("{GATEWAY}timeouts: {{lame_duck: 1s}}\n");
    assert_eq!(loaded(&given, &kubernetes).timeouts.lame_duck, Some(Duration::from_secs(1)));
    let long = format!("{GATEWAY}timeouts: {{lame_duck: 1h}}\n");
    assert!(refused(&long).contains("timeouts.lame_duck: must not be more than 10m"));
}

fn loaded(gateway: &str, variables: &[(&str, &str)]) -> Settings {
    Folder::new(gateway, QUAY).load(variables).unwrap_or_else(|error| panic!("{error}"))
}

/// The error without its folder.
fn refused(gateway: &str) -> String {
    refused_with(gateway, QUAY, &[])
}

fn refused_with(gateway: &str, quay: &str, variables: &[(&str, &str)]) -> String {
    let folder = Folder::new(gateway, quay);
    let error = folder.load(variables).expect_err("is refused").to_string();
    error.replace(&format!("{}/", folder.0.path().display()), "")
}

fn names(settings: &Settings) -> Vec<&str> {
    settings.zones.iter().map(|zone| zone.name.as_str()).collect()
}

#[test]
fn nearly_everything_comes_from_quays_file() {
    let settings = loaded(GATEWAY, &[]);
    assert_eq!(settings.hostname, "quay.example.com");
    assert_eq!(settings.instances[0].server_name, "quay.example.com");
    assert_eq!((settings.instances.len(), settings.instances[0].zone.as_str()), (1, "zone-b"));
    assert!(!settings.names_differ());
    assert_eq!(names(&settings), ["zone-b", "zone-a", "zone-c"]);
    assert_eq!(settings.targets, ["zone-b", "zone-a"]);
    assert_eq!(settings.zones[0].store.driver(), "S3Storage");
}

#[test]
fn home_and_preference() {
    let home = format!("{GATEWAY}home: zone-c\n");
    assert_eq!(names(&loaded(&home, &[])), ["zone-c", "zone-b", "zone-a"]);
    let preference = [("QUAY_DISTRIBUTED_STORAGE_PREFERENCE", "zone-c zone-a")];
    assert_eq!(names(&loaded(GATEWAY, &preference)), ["zone-c", "zone-a", "zone-b"]);
    assert!(
        refused(&format!("{GATEWAY}home: zone-x\n"))
            .contains("gateway.yaml:2: home: there is no zone zone-x; zones are zone-a, zone-b, zone-c")
    );
    let stranger = loaded(GATEWAY, &[("QUAY_DISTRIBUTED_STORAGE_PREFERENCE", "zone-y zone-a")]);
    assert_eq!(names(&stranger), ["zone-a", "zone-b", "zone-c"]);
    assert!(stranger.warnings.iter().any(|warning| warning.contains("names zone-y, which is not a zone")));
}

#[test]
fn own_zones_add_and_override() {
    let own = format!(
        "{GATEWAY}zones:\n  zone-a: [LocalStorage, {{storage_path: /a}}]\n  zone-d: [LocalStorage, {{storage_path: /d}}]\n"
    );
    let settings = loaded(&own, &[]);
    assert_eq!(names(&settings), ["zone-b", "zone-a", "zone-c", "zone-d"]);
    assert_eq!(settings.zones[1].store.driver(), "LocalStorage");
}

#[test]
fn environment_variables_override_the_file() {
    let variables = [
        ("QUAY_GATEWAY__HOSTNAME", "edge.example.com:8443"),
        ("QUAY_GATEWAY__REGISTRY__URL", "http://127.0.0.1:8080"),
        ("QUAY_GATEWAY__CACHE__SIZE", "2GiB"),
        ("QUAY_GATEWAY__LIMITS__STREAMS", "9"),
        ("QUAY_GATEWAY__LIMITS", "{connections: 7}"),
        ("QUAY_GATEWAY__TIMEOUTS__DRAIN", "5m"),
        ("QUAY_GATEWAY_PORT", "tcp://10.0.0.1:8443"),
    ];
    let settings = loaded(GATEWAY, &variables);
    assert_eq!(settings.hostname, "edge.example.com:8443");
    assert!(settings.names_differ());
    assert_eq!(settings.cache.size, 2 << 30);
    assert_eq!((settings.limits.connections, settings.limits.streams), (7, 9));
    assert_eq!(settings.timeouts.drain, std::time::Duration::from_secs(300));
    let wrong = refused_with(GATEWAY, QUAY, &[("QUAY_GATEWAY__TIMEOUTS__DRAIN", "soon")]);
    assert!(wrong.contains("QUAY_GATEWAY__TIMEOUTS__DRAIN:"), "{wrong}");
    let wrong = refused_with(GATEWAY, QUAY, &[("QUAY_GATEWAY__HOSTNAM", "x")]);
    assert!(wrong.contains("QUAY_GATEWAY__HOSTNAM: no such key"), "{wrong}");
}

#[test]
fn a_variable_may_have_many_lines_and_its_lines_are_not_the_files() {
    let block = [("QUAY_GATEWAY__TRUSTED_PROXIES", "- 10.0.0.0/8\n- 192.168.0.0/16\n")];
    assert_eq!(loaded(GATEWAY, &block).trusted_proxies.len(), 2);
    let number = [("QUAY_GATEWAY__REGISTRY__SERVER_NAME", "12345")];
    assert_eq!(loaded(GATEWAY, &number).instances[0].server_name, "12345");
    let wrong = refused_with(GATEWAY, QUAY, &[("QUAY_GATEWAY__REGISTRY__URL", "ftp://x")]);
    assert!(wrong.starts_with("gateway.yaml: registry.url: must be http"), "{wrong}");
    let wrong = refused_with(GATEWAY, QUAY, &[("QUAY_GATEWAY__JOURNAL__URL_FIL", "x")]);
    assert!(wrong.contains("QUAY_GATEWAY__JOURNAL__URL_FIL: no such key"), "{wrong}");
}

/// A template with a missing value must not remove what the file says, such as the admin API's token.
#[test]
fn a_variable_removes_nothing_of_the_file() {
    for (name, value) in [
        ("QUAY_GATEWAY__ADMIN__TOKEN_FILE", ""),
        ("QUAY_GATEWAY__HOSTNAME", "  "),
        ("QUAY_GATEWAY__CACHE", "null"),
        ("QUAY_GATEWAY__CACHE__SIZE", "~"),
        ("QUAY_GATEWAY__CACHE__DIR", "# none"),
    ] {
        let wrong = refused_with(GATEWAY, QUAY, &[(name, value)]);
        assert!(wrong.contains(&format!("{name}: the value is empty")), "{wrong}");
    }
    // A part of a map would replace the whole map.
    for name in ["QUAY_GATEWAY__ZONES__C", "QUAY_GATEWAY__REPLICATION__LIMITS__DEFAULT__COPIES"] {
        let wrong = refused_with(GATEWAY, QUAY, &[(name, "3")]);
        assert!(wrong.contains(&format!("{name}: no such key")), "{wrong}");
    }
}

#[test]
fn distribution_needs_no_quay() {
    let settings = loaded(
        "registry: {kind: distribution, url: 'http://127.0.0.1:5000'}\nhostname: edge\nzones:\n  b: [LocalStorage, {storage_path: /b}]\n  a: [LocalStorage, {storage_path: /a}]\n",
        &[],
    );
    assert_eq!(names(&settings), ["b", "a"]);
    assert_eq!(settings.targets, ["a"]);
    assert_eq!(settings.registry_hostname, "127.0.0.1:5000");
}

const INSTANCES: &str = "home: zone-a
registry:
  config: quay.yaml
  instances:
    - {url: 'https://b.internal:8443', zone: zone-b}
    - {url: 'https://a.internal:8443', zone: zone-a, server_name: a.internal}
    - {url: 'http://b2.internal', zone: zone-b}
";

#[test]
fn an_error_names_its_line() {
    for (gateway, wanted) in [
        ("hostnam: x\n", "gateway.yaml:1:"),
        ("registry: {}\n", "registry.url is missing"),
        ("registry: {kind: Quay}\n", "gateway.yaml:1: registry.kind: unknown value; did you mean `quay`?"),
        ("registry: {kind: harbor}\n", "registry.kind: unknown value; there are `quay`, `distribution`"),
        ("replication: {verify: full}\n", "replication.verify: unknown value; there are `size`, `deep`"),
        (
            "routing: {zones: {a: {reads: nevr}}}\n",
            "routing.zones: reads: unknown value; did you mean `never`?",
        ),
        (
            "zones: {a: LocalStorage}\n",
            "expected a list of two, as in Quay: the name of a driver, and a map of its parameters, not a string",
        ),
        ("zones: [LocalStorage]\n", "expected a map of zones: each has a name, and a list"),
        ("registry:\n  url: ftp://x\n", "gateway.yaml:2: registry.url: must be http"),
        ("registry:\n  url: https://x/path\n", "gateway.yaml:2: registry.url: must hold no path"),
        ("registry:\n  url: https://x\n  config: nowhere.yaml\n", "gateway.yaml:3: cannot read nowhere.yaml"),
        ("registry: {url: 'https://x'}\n", "the registry's own name is not known"),
        ("registry: {url: 'https://x', server_name: x}\n", "no zone is known"),
        (&format!("{GATEWAY}ca: nowhere.pem\n"), "gateway.yaml:2: ca: there is no file nowhere.pem"),
        (&format!("{GATEWAY}hostname: https://x\n"), "gateway.yaml:2: hostname: must be a host name"),
        (
            &format!("{GATEWAY}more_hostnames: [edge.example.com, 'https://x']\n"),
            "gateway.yaml:2: more_hostnames: must be a host name",
        ),
        (
            &format!("{GATEWAY}more_hostnames: [{}]\n", ["x"; 65].join(", ")),
            "gateway.yaml:2: more_hostnames: 65 names, the most are 64",
        ),
        (
            &format!("{GATEWAY}proxy_protocol: true\n"),
            "gateway.yaml:2: proxy_protocol: the addresses of the proxies",
        ),
        (&format!("{GATEWAY}cache: {{size: 0}}\n"), "gateway.yaml:2: cache.size"),
        (
            &format!("{GATEWAY}timeouts: {{permission: 2m}}\n"),
            "timeouts.permission: must not be more than 60s",
        ),
        (&format!("{GATEWAY}offline: {{tokens: true}}\n"), "offline.max_age is missing: set it to how old"),
        (&format!("{GATEWAY}offline: {{max_age: 59s}}\n"), "offline.max_age: must be from 1m to 30days"),
        (&format!("{GATEWAY}offline: {{max_age: 31days}}\n"), "offline.max_age: must be from 1m to 30days"),
        (&format!("{GATEWAY}auth: {{freshness: 61s}}\n"), "auth.freshness: must not be more than 60s"),
        (&format!("{GATEWAY}auth: {{verify_tokens: perhaps}}\n"), "gateway.yaml:2: expected true or false"),
        (&format!("{GATEWAY}timeouts: {{idle: 0s}}\n"), "timeouts.idle: must be at least 1s"),
        (&format!("{GATEWAY}timeouts: {{drain: soon}}\n"), "gateway.yaml:2:"),
        (&format!("{GATEWAY}limits: {{requests: 0}}\n"), "limits.requests: 0 is not between 1 and"),
        (&format!("{GATEWAY}limits: {{connections: 18446744073709551615}}\n"), "limits.connections"),
        (
            &format!("{GATEWAY}zones: {{z: LocalStorage}}\n"),
            "gateway.yaml:2: expected a list of two, as in Quay",
        ),
        (&format!("{GATEWAY}zones: {{z: [LocalStorage, {{}}], z: [LocalStorage, {{}}]}}\n"), "duplicate"),
        (
            "registry:\n  kind: distribution\n  url: https://x\n  config: quay.yaml\n",
            "gateway.yaml:4: registry.config is Quay's file",
        ),
    ] {
        let error = refused(gateway);
        assert!(error.contains(wanted), "{gateway}\n{error}\nwanted {wanted}");
    }
}

#[test]
fn a_name_is_one_that_a_client_can_verify() {
    for (setting, wanted) in [
        (
            "hostname: edge.example.com.:8443",
            "edge.example.com.:8443: leave out the dot at the end of the name",
        ),
        ("more_hostnames: ['*.apps.example.com']", "*.apps.example.com: * is not possible here"),
        ("more_hostnames: ['x,y']", "x,y is no host name and no address"),
    ] {
        let (key, _) = setting.split_once(':').expect("a key");
        let error = refused(&format!("{GATEWAY}{setting}\n"));
        assert!(error.contains(&format!("gateway.yaml:2: {key}: {wanted}")), "{error}");
    }
    for name in ["edge_1.example.com", "10.0.0.1:8443", "'[fd00::1]:8443'", "edge"] {
        let _ = loaded(&format!("{GATEWAY}hostname: {name}\n"), &[]);
    }
}

#[test]
fn with_one_name_quay_must_use_https() {
    let quay = QUAY.replace("PREFERRED_URL_SCHEME: https", "");
    let error = refused_with(GATEWAY, &quay, &[]);
    assert!(error.contains("PREFERRED_URL_SCHEME is http"), "{error}");
    let other = ("QUAY_GATEWAY__HOSTNAME", "edge.example.com");
    Folder::new(GATEWAY, &quay).load(&[other]).expect("another name needs none");
    let both = [other, ("QUAY_GATEWAY__MORE_HOSTNAMES", "[quay.example.com]")];
    assert!(refused_with(GATEWAY, &quay, &both).contains("PREFERRED_URL_SCHEME is http"));
}

#[test]
fn a_target_that_is_no_zone_is_skipped() {
    let quay = QUAY.replace(
        "[zone-a, zone-b]\nDISTRIBUTED_STORAGE_PREFERENCE",
        "[zone-q, zone-a]\nDISTRIBUTED_STORAGE_PREFERENCE",
    );
    let settings = Folder::new(GATEWAY, &quay).load(&[]).expect("is read");
    assert_eq!(settings.targets, ["zone-a"]);
    assert!(settings.warnings.iter().any(|warning| warning.contains("DEFAULT_LOCATIONS names zone-q")));
}

#[test]
fn an_unusable_zone_does_not_stop_the_others() {
    for (entry, wanted) in [
        ("[S4Storage, {secret: hunter2}]", "did you mean `S3Storage`?"),
        ("[LocalStorage, {storage_pat: /x}]", "did you mean `storage_path`?"),
        ("[LocalStorage, {}]", "`storage_path` is missing"),
    ] {
        let settings = loaded(&format!("{GATEWAY}home: z\nzones: {{z: {entry}}}\n"), &[]);
        assert_eq!(names(&settings), ["z", "zone-b", "zone-a", "zone-c"]);
        let reason = settings.zones[0].store.unusable().expect("is unusable");
        assert!(reason.contains(wanted), "{reason}");
        let printed = crate::Summary::of(&settings).to_string();
        assert!(printed.contains(reason) && !printed.contains("hunter2"), "{printed}");
    }
    let alone = refused(
        "registry: {kind: distribution, url: 'http://x'}\nzones: {a: [S4Storage, {k: hunter2}], b: [LocalStorage, {}]}\n",
    );
    assert!(alone.contains("no zone can be used: zone a: ") && alone.contains("; zone b: "), "{alone}");
    assert!(!alone.contains("hunter2"));
}

#[test]
fn no_secret_is_printed() {
    let settings = loaded(GATEWAY, &[]);
    let printed = format!("{settings:?}{}", crate::Summary::of(&settings));
    assert!(!printed.contains("hunter2"), "{printed}");
    let broken = QUAY.replace("bucket_name: quay,", "bucket_nam: quay,");
    let settings = Folder::new(GATEWAY, &broken).load(&[]).expect("is read");
    let printed = format!("{settings:?}{}", crate::Summary::of(&settings));
    assert!(printed.contains("did you mean `bucket_name`?") && !printed.contains("hunter2"), "{printed}");
    let broken = QUAY.replace("secret_key: hunter2,", "secret_key: hunter2, secret_key: hunter2,");
    assert!(!refused_with(GATEWAY, &broken, &[]).contains("hunter2"));
}

#[test]
fn the_journal_is_a_file_or_a_database_and_its_password_is_never_shown() {
    use crate::JournalSettings;

    let with = |journal: &str| format!("{GATEWAY}\njournal: {journal}");
    assert!(matches!(loaded(GATEWAY, &[]).journal, JournalSettings::Sqlite));
    assert!(matches!(loaded(&with("sqlite"), &[]).journal, JournalSettings::Sqlite));
    let url = "postgres://quay:hunter2@db.example.com/quay";
    let shown = "PostgreSQL db.example.com:5432/quay as quay, TLS, verified";
    let folder = Folder::new(&with("{url_file: url}"), QUAY);
    fs::write(folder.0.path().join("url"), format!("{url}\n")).expect("writes");
    for settings in [
        loaded(&with(url), &[]),
        loaded(GATEWAY, &[("QUAY_GATEWAY__JOURNAL", url)]),
        folder.load(&[]).expect("reads"),
    ] {
        let JournalSettings::Postgres(database) = &settings.journal else { panic!("a database") };
        assert_eq!(database.to_string(), shown);
        let summary = crate::Summary::of(&settings).to_string();
        assert!(summary.contains(shown), "{summary}");
        assert!(!format!("{summary} {settings:?}").contains("hunter2"));
    }
    for (journal, why) in [
        ("postgres://quay:hunter2@db/quay?sslmode=require", "of sslmode there are `verify-full`"),
        ("mysql://quay:hunter2@db/quay", "expected is postgres://"),
        ("{url_file: nowhere}", "journal.url_file: the file that it names cannot be read"),
        ("{file: hunter2}", "unknown field"),
    ] {
        let refused = refused(&with(journal));
        assert!(refused.contains(why) && !refused.contains("hunter2"), "{refused}");
    }
}

#[test]
fn a_summary_names_the_settings() {
    let set = "admin: {hosts: [gateway-admin.example.com]}\n";
    let gateway =
        GATEWAY.replace('}', ", redirects_to: ['*.cdn.example.com'], forward_headers: [X-Corp-*]}") + set;
    let printed = crate::Summary::of(&loaded(&gateway, &[])).to_string();
    for line in [
        "registry.redirects_to   *.cdn.example.com",
        "forward_headers         x-corp-*",
        "admin.hosts             gateway-admin.example.com",
    ] {
        assert!(printed.contains(line), "{line} in {printed}");
    }
}
