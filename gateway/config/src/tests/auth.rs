//! Which tokens the gateway verifies by itself.

use std::time::Duration;

use super::super::{TokenKeys, TokenSettings};
use super::{Folder, GATEWAY, QUAY};

#[test]
fn tokens_are_verified_if_quays_rules_are_understood() {
    let tokens = |gateway: &str, more: &str| {
        let quay = format!("{QUAY}{more}");
        Folder::new(&format!("{GATEWAY}{gateway}"), &quay).load(&[]).expect("loads").auth.tokens
    };
    let usual = TokenSettings {
        issuer: "quay".into(),
        audience: "quay.example.com".into(),
        keys: TokenKeys::OfQuay { life_max: Duration::from_secs(3660) },
    };
    assert_eq!(tokens("", ""), Some(usual.clone()));
    let own = "INSTANCE_SERVICE_KEY_SERVICE: mine\nREGISTRY_JWT_AUTH_MAX_FRESH_S: 600\nLIBRARY_NAMESPACE: library\n";
    let keys = TokenKeys::OfQuay { life_max: Duration::from_secs(600) };
    assert_eq!(tokens("", own), Some(TokenSettings { issuer: "mine".into(), keys, ..usual }));
    assert_eq!(tokens("auth: {verify_tokens: false}\n", ""), None);
    for other in [
        "LIBRARY_NAMESPACE: ours\n",
        "LIBRARY_NAMESPACE: [library]\n",
        "INSTANCE_SERVICE_KEY_SERVICE: a/b\n",
        "INSTANCE_SERVICE_KEY_SERVICE: ''\n",
        "REGISTRY_JWT_AUTH_MAX_FRESH_S: long\n",
        "REGISTRY_JWT_AUTH_MAX_FRESH_S: -1\n",
    ] {
        assert_eq!(tokens("", other), None, "{other}");
    }
}

#[test]
fn distributions_keys_are_in_a_file() {
    let distribution = |keys: &str| {
        let zone = "zones: {a: [LocalStorage, {storage_path: /registry}]}\n";
        let registry =
            format!("registry: {{kind: distribution, url: 'https://r.example.com', token_keys: {keys}}}\n");
        let loaded = Folder::new(&format!("{registry}{zone}"), QUAY).load(&[]);
        loaded.map(|settings| settings.auth.tokens).map_err(|error| error.to_string())
    };
    let tokens = distribution("{file: quay.yaml, issuer: i, service: s}").expect("loads").expect("keys");
    assert_eq!((tokens.issuer.as_str(), tokens.audience.as_str()), ("i", "s"));
    assert!(
        matches!(&tokens.keys, TokenKeys::InFile { file, contents } if file.ends_with("quay.yaml") && *contents == backends::Digest::of(QUAY.as_bytes()))
    );
    for (keys, why) in [
        ("{file: none.pem, issuer: i, service: s}", "registry.token_keys.file: there is no file"),
        ("{file: quay.yaml, service: s}", "registry.token_keys: set file, issuer and service"),
        ("{issuer: i, service: s}", "registry.token_keys: set file, issuer and service"),
        ("{file: quay.yaml, issuer: i, service: s, more: x}", "unknown field"),
    ] {
        let error = distribution(keys).expect_err(keys);
        assert!(error.contains(why), "{error}");
    }
    let given = GATEWAY.replace("config:", "token_keys: {file: quay.yaml, issuer: i, service: s}, config:");
    let error = Folder::new(&given, QUAY).load(&[]).expect_err("Quay gives its keys itself").to_string();
    assert!(error.contains("registry.token_keys: Quay gives its keys itself"), "{error}");
}
