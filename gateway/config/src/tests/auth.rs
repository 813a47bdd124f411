//! Which tokens the gateway verifies by itself.

use std::time::Duration;

use super::super::TokenSettings;
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
        life_max: Duration::from_secs(3660),
    };
    assert_eq!(tokens("", ""), Some(usual.clone()));
    let own = "INSTANCE_SERVICE_KEY_SERVICE: mine\nREGISTRY_JWT_AUTH_MAX_FRESH_S: 600\nLIBRARY_NAMESPACE: library\n";
    let life_max = Duration::from_secs(600);
    assert_eq!(tokens("", own), Some(TokenSettings { issuer: "mine".into(), life_max, ..usual }));
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
