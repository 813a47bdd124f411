//! No message and no `Debug` repeats a secret, whatever value is written where a secret may be.

use std::collections::BTreeSet;
use std::fs;

use backends::StoreConfig;
use serde_json::{Value, json};

use super::*;

/// The secrets that must not appear in any output: a string and a number.
const SECRETS: [&str; 2] = ["hunter2SECRET", "98765"];

/// A secret in forms in which it may be written by mistake, in YAML's flow style.
const SHAPES: [&str; 18] = [
    "hunter2SECRET",
    r#"'{"secret_key": "hunter2SECRET"}'"#,
    "[hunter2SECRET, {k: hunter2SECRET}]",
    "{hunter2SECRET: hunter2SECRET}",
    "{secret_key:hunter2SECRET}",
    r#"{"a": ["RadosGWStorage", "hunter2SECRET"]}"#,
    r#"{"a": ["RadosGWStorage {secret_key: hunter2SECRET}", {}]}"#,
    r#"{"a": ["RadosGWStorage", {secret_key:hunter2SECRET}]}"#,
    "987650123",
    "98765.0123",
    "*hunter2SECRET",
    "!hunter2SECRET x",
    "\"hunter2SECRET",
    "hunter2SECRET]",
    "@hunter2SECRET",
    r#""https://user:hunter2SECRET@registry.example.com""#,
    r#""postgres://u:p@hunter2SECRET@h/d""#,
    r#""-----BEGIN PRIVATE KEY-----\nhunter2SECRET\n""#,
];

/// Keys that hold no secret and are shown. Every other key counts as secret, and so does a new key until it is
/// added here.
const PLAIN: [&str; 24] = [
    "access_log.to",
    "admin.hosts",
    "ca",
    "cache",
    "home",
    "hostname",
    "limits",
    "listen",
    "pins",
    "proxy.no_proxy",
    "registry.account.username",
    "registry.config",
    "registry.forward_headers",
    "registry.redirects_to",
    "registry.server_name",
    "replication.fetch_max",
    "replication.limits",
    "replication.sweep",
    "routing",
    "state_dir",
    "timeouts",
    "tls.certificate",
    "tls.client_ca",
    "trusted_proxies",
];

/// Every key of the schema, including groups, as the schema's own errors list them.
fn keys(above: &str, found: &mut BTreeSet<String>) {
    let name = |key: &str| if above.is_empty() { key.to_owned() } else { format!("{above}.{key}") };
    let text = nested(&json!({}), &name("no-such-key-at-all"), &json!(1)).to_string();
    let Err(error) = from_yaml::<file::ConfigFile>(&text) else { return };
    let Some(listed) = error.message.strip_prefix("unknown field; there are ") else { return };
    for key in listed.split(", ").map(|key| name(key.trim_matches('`'))) {
        found.insert(key.clone());
        keys(&key, found);
    }
}

/// `base` with a value at `a.b.c`.
fn nested(base: &Value, key: &str, value: &Value) -> Value {
    let mut whole = base.clone();
    let at = key.split('.').fold(&mut whole, |at, part| &mut at[part]);
    *at = value.clone();
    whole
}

/// Everything that `check-config` and `run` print for these files and variables.
fn output(gateway: &str, quay: &str, variables: &[(String, String)]) -> String {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("gateway.yaml"), gateway).expect("writes");
    fs::write(dir.path().join("quay.yaml"), quay).expect("writes");
    fs::write(dir.path().join("exists.pem"), "nothing").expect("writes");
    match load_with(&dir.path().join("gateway.yaml"), variables.iter().cloned()) {
        Err(error) => format!("{error} {error:?}"),
        Ok(settings) => format!("{settings:?} {}", crate::Summary::of(&settings)),
    }
}

fn assert_no_secret(output: &str, of: &str) {
    for secret in SECRETS {
        assert!(!output.contains(secret), "{of}: {output}");
    }
}

const MARK: &str = "the shape";

fn shaped(config: &Value, shape: &str) -> String {
    config.to_string().replace(&format!("\"{MARK}\""), shape)
}

fn base() -> Value {
    json!({
        "registry": {"url": "https://quay.internal", "config": "quay.yaml"},
        "zones": {"home": ["LocalStorage", {"storage_path": "/z"}]},
        "home": "home",
    })
}

const QUAY: &str = "SERVER_HOSTNAME: quay.example.com\nPREFERRED_URL_SCHEME: https\n";

/// The configuration with the other keys that this key requires.
fn with_required(key: &str) -> Value {
    let (other, value) = match key {
        "registry.account.password_file" => ("registry.account.username", json!("robot")),
        "tls.key" => ("tls.certificate", json!("exists.pem")),
        "registry.instances" => ("registry.url", Value::Null),
        key if key.starts_with("replication.database") => ("replication.placements", json!(true)),
        _ => return base(),
    };
    nested(&base(), other, &value)
}

#[test]
fn no_key_of_the_configuration_shows_a_secret() {
    let mut all = BTreeSet::new();
    keys("", &mut all);
    for known in ["journal.url_file", "registry.account.password_file", "replication.database", "zones"] {
        assert!(all.contains(known), "{known} of {all:?}");
    }
    for plain in PLAIN {
        assert!(all.contains(plain), "{plain} of {all:?}");
    }
    let is_plain = |key: &str| {
        PLAIN.iter().any(|plain| key == *plain || key.strip_prefix(plain).is_some_and(|k| k.starts_with('.')))
    };
    for key in all.iter().filter(|key| !is_plain(key)) {
        for shape in SHAPES {
            let file = shaped(&nested(&with_required(key), key, &json!(MARK)), shape);
            assert_no_secret(&output(&file, QUAY, &[]), &format!("{key}: {shape}"));
            let variable = format!("QUAY_GATEWAY__{}", key.replace('.', "__").to_uppercase());
            let set = [(variable, shape.to_owned())];
            assert_no_secret(&output(&with_required(key).to_string(), QUAY, &set), &format!("{set:?}"));
        }
    }
    for shape in SHAPES {
        let first = nested(&with_required("tls.key"), "tls.key", &json!("exists.pem"));
        let more = json!([{"certificate": "exists.pem", "key": MARK}]);
        let file = shaped(&nested(&first, "tls.more", &more), shape);
        assert_no_secret(&output(&file, QUAY, &[]), &format!("another key: {shape}"));
    }
    for shape in SHAPES.into_iter().filter(|shape| shape.contains("://")) {
        let listed = json!([{"url": MARK, "zone": "home"}]);
        let file =
            shaped(&nested(&with_required("registry.instances"), "registry.instances", &listed), shape);
        assert_no_secret(&output(&file, QUAY, &[]), &format!("an instance at {shape}"));
    }
}

#[test]
fn no_parameter_of_a_store_shows_a_secret() {
    const SHOWN: [&str; 4] = ["access_key", "s3_access_key", "sts_user_access_key", "cloudfront_key_id"];
    let secret = |name: &&str| {
        let words =
            ["secret", "password", "token", "_key", "options", "storage_config", "providers", "rules"];
        words.iter().any(|word| name.contains(word)) && !SHOWN.contains(name)
    };
    let mut tried = 0;
    for (driver, params) in StoreConfig::drivers() {
        for param in params.iter().filter(|name| secret(name)) {
            for shape in SHAPES {
                let zone = json!([driver, {*param: MARK}]);
                let file = shaped(&nested(&base(), "zones.z", &zone), shape);
                assert_no_secret(&output(&file, QUAY, &[]), &format!("{driver} {param}: {shape}"));
                let quay = shaped(&json!({"DISTRIBUTED_STORAGE_CONFIG": {"z": zone}}), shape);
                let quay = quay.replacen('{', "{SERVER_HOSTNAME: q, PREFERRED_URL_SCHEME: https, ", 1);
                let file = base().to_string();
                assert_no_secret(&output(&file, &quay, &[]), &format!("Quay's {driver} {param}: {shape}"));
                tried += 1;
            }
        }
    }
    assert!(tried > 20 * SHAPES.len(), "{tried}");
}

#[test]
fn no_key_of_quays_own_file_shows_a_secret() {
    let mut base = base();
    base["replication"]["placements"] = json!(true);
    let database = "postgresql://quay:p@db.example.com/quay";
    for key in [
        "DISTRIBUTED_STORAGE_CONFIG",
        "DISTRIBUTED_STORAGE_CONFIG.z",
        "DB_URI",
        "DB_CONNECTION_ARGS",
        "DB_CONNECTION_ARGS.sslmode",
        "USER_EVENTS_REDIS",
        "USER_EVENTS_REDIS.host",
        "USER_EVENTS_REDIS.password",
        "USER_EVENTS_REDIS.port",
    ] {
        let whole = json!({
            "SERVER_HOSTNAME": "quay.example.com", "PREFERRED_URL_SCHEME": "https", "DB_URI": database,
            "USER_EVENTS_REDIS": {"host": "redis.example.com"},
        });
        for shape in SHAPES {
            // A host name is shown.
            if key == "USER_EVENTS_REDIS.host" && !shape.contains("://") {
                continue;
            }
            let quay = shaped(&nested(&whole, key, &json!(MARK)), shape);
            assert_no_secret(&output(&base.to_string(), &quay, &[]), &format!("Quay's {key}: {shape}"));
        }
    }
}
