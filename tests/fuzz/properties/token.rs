//! What holds for every token.

use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use registry::bearer::{Form, KeySet, Rules, Verified, verify};
use serde_json::{Value, json};

/// The time at which tokens are verified, since 1970.
const NOW: u64 = 1_795_504_276;
const LIFE_MAX: u64 = 3660;
const LEEWAY: u64 = 30;
const KEY: &str = "quay-1";

/// A key pair of this process. Nobody else has its private key.
struct Signer {
    key: EncodingKey,
    keys: KeySet,
}

static SIGNER: LazyLock<Signer> = LazyLock::new(|| {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key pair");
    let key = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).expect("an RSA key");
    let jwk = Jwk::from_encoding_key(&key, Algorithm::RS256).expect("a web key");
    let AlgorithmParameters::RSA(parts) = jwk.algorithm else { panic!("not RSA") };
    let set = json!({"keys": [{"kty": "RSA", "kid": KEY, "n": parts.n, "e": parts.e}]}).to_string();
    let keys = KeySet::parse(set.as_bytes(), &KeySet::default()).expect("a key set");
    Signer { key, keys }
});

/// The input is a token: nobody signed it, so it is never verified. The input is also a header and, after the first line
/// feed, claims. They are signed here with the registry's key. If such a token is verified, it keeps the registry's rules,
/// and without its signature, or with one of other claims, it is not verified.
pub(crate) fn hold(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    for form in [Form::Quay, Form::Distribution] {
        assert!(verified(text, form).is_none(), "a token that nobody signed was verified");
    }
    let Some((header, claims)) = text.split_once('\n') else { return };
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = crypto::sign(message.as_bytes(), &SIGNER.key, Algorithm::RS256).expect("a signature");
    for form in [Form::Quay, Form::Distribution] {
        let Some(token) = verified(&format!("{message}.{signature}"), form) else { continue };
        let header: Value = serde_json::from_str(header).expect("a header");
        assert_eq!(header["alg"], "RS256");
        let claims: Value = serde_json::from_str(claims).expect("claims");
        keeps_rules(&claims, &token, form);
        for other in
            [format!("{message}."), format!("{message}A.{signature}"), format!("{message}.{signature}A")]
        {
            assert!(verified(&other, form).is_none(), "a forged token was verified");
        }
    }
}

fn verified(token: &str, form: Form) -> Option<Verified> {
    let life_max = Duration::from_secs(LIFE_MAX);
    let rules = Rules { form, issuer: "quay".into(), audience: "quay.example.com".into(), life_max };
    verify(token, &SIGNER.keys, &rules, Duration::from_secs(NOW)).ok()
}

/// The registry's rules, written a second time over JSON.
fn keeps_rules(claims: &Value, token: &Verified, form: Form) {
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!("quay"), &json!("quay.example.com")));
    let time = |name: &str| claims[name].as_u64().expect("a time");
    let leeway = if form == Form::Quay { LEEWAY } else { 2 * LEEWAY };
    assert!(time("nbf") <= NOW + leeway && NOW < time("exp") + leeway, "not valid now");
    let access = claims["access"].as_array().expect("a list");
    if form == Form::Quay {
        assert!(time("iat") <= NOW + leeway && time("exp") <= time("iat") + LIFE_MAX, "wrong times");
        assert!(claims["sub"].as_str().is_some_and(|sub| !sub.is_empty()), "no subject");
        assert!(access.iter().all(|item| item["type"] == "repository"), "an item of another type");
        let known = |action: &Value| action == "push" || action == "pull" || action == "*";
        let all = |item: &Value| item["actions"].as_array().is_some_and(|actions| actions.iter().all(known));
        assert!(access.iter().all(all), "an unknown action");
    }
    for name in ["admin/one", "admin/other", "one", "library/one"] {
        let granted = access.iter().any(|item| {
            let same = item["name"] == name
                || item["name"].as_str().map(|own| format!("library/{own}")).as_deref() == Some(name)
                || name == "one" && item["name"] == "library/one";
            let some = item["actions"].as_array().is_some_and(|actions| !actions.is_empty());
            item["type"] == "repository" && same && some
        });
        assert!(granted || !token.grants().may_pull(name), "{name} was not granted");
    }
}
