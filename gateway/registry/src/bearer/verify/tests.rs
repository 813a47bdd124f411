use jsonwebtoken::EncodingKey;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::test_tokens::{KEYS, LIFE_MAX, NOW, OTHER, QUAY, claims, rules, sealed};
use super::*;

fn at(token: &str, seconds: u64) -> Result<Verified, Unproven> {
    verify(token, &KEYS, &rules(), Duration::from_secs(seconds))
}

fn refusal(token: &str) -> Option<Unproven> {
    at(token, NOW).err()
}

#[test]
fn a_token_of_quay_permits_what_it_says() {
    let all = json!({"access": [
        {"type": "repository", "name": "admin/one", "actions": ["push", "pull"]},
        {"type": "repository", "name": "two", "actions": ["*"]},
        {"type": "repository", "name": "admin/three", "actions": ["push"]},
        {"type": "repository", "name": "admin/none", "actions": []},
    ]});
    let verified = at(&QUAY.sign(&claims(&all)), NOW).expect("a good token");
    let may = |repository| verified.grants().may_pull(repository);
    assert!(may("admin/one") && may("two") && may("library/two") && may("admin/three"));
    assert!(!may("admin/none") && !may("admin/other"));
    let anonymous = json!({"sub": "(anonymous)", "context": {}});
    assert!(at(&QUAY.sign(&claims(&anonymous)), NOW).expect("a good token").grants().may_pull("admin/one"));
    let nothing = at(&QUAY.sign(&claims(&json!({"access": []}))), NOW).expect("a good token");
    assert_eq!(*nothing.grants(), Grants::default());
}

#[test]
fn forged_tokens_prove_nothing() {
    use Unproven::*;
    let good = QUAY.sign(&claims(&json!({})));
    assert_eq!(refusal(&good), None);
    let payload = claims(&json!({})).to_string();
    let none = |alg: &str| {
        let message =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(QUAY.header(alg)), URL_SAFE_NO_PAD.encode(&payload));
        [format!("{message}."), message]
    };
    let hmac = |secret: &[u8]| {
        sealed(&QUAY.header("HS256"), &payload, &EncodingKey::from_secret(secret), Algorithm::HS256)
    };
    let modulus = URL_SAFE_NO_PAD.decode(QUAY.jwk["n"].as_str().expect("a text")).expect("base64");
    let (message, signature) = good.rsplit_once('.').expect("a token");
    let (_, foreign) = QUAY
        .sign(&claims(&json!({"sub": "mallory"})))
        .rsplit_once('.')
        .map(|(m, s)| (m.to_owned(), s.to_owned()))
        .expect("a token");
    for (what, token, expected) in [
        ("alg none", none("none")[0].clone(), Form),
        ("alg none, two parts", none("none")[1].clone(), Form),
        ("alg NONE", none("NONE")[0].clone(), Form),
        ("no signature", none("RS256")[0].clone(), Signature),
        ("HS256 with the public key as PEM", hmac(QUAY.pem.as_bytes()), Form),
        ("HS256 with the modulus", hmac(&modulus), Form),
        (
            "HS256 that says RS256",
            sealed(
                &QUAY.header("RS256"),
                &payload,
                &EncodingKey::from_secret(QUAY.pem.as_bytes()),
                Algorithm::HS256,
            ),
            Signature,
        ),
        ("RS512", sealed(&QUAY.header("RS512"), &payload, &QUAY.key, Algorithm::RS512), Form),
        ("PS256", sealed(&QUAY.header("PS256"), &payload, &QUAY.key, Algorithm::PS256), Form),
        ("the key of another Quay under the same id", OTHER.sign(&claims(&json!({}))), Signature),
        ("the signature of another token", format!("{message}.{foreign}"), Signature),
        ("a short signature", format!("{message}.{}", &signature[..100]), Signature),
        ("four parts", format!("{good}.x"), Form),
        ("an encrypted token", format!("{good}.x.y"), Form),
        ("padding", format!("{good}="), Signature),
        ("not base64", "a!.b.c".into(), Form),
        ("empty", String::new(), Form),
        ("dots", "..".into(), Form),
        ("huge", format!("{good}{}", "A".repeat(TOKEN_BYTES_MAX)), TooLong),
        ("no JSON", QUAY.raw(&QUAY.header("RS256"), "claims"), Claims),
    ] {
        assert_eq!(refusal(&token), Some(expected), "{what}");
    }
}

#[test]
fn headers_that_quay_does_not_write_prove_nothing() {
    use Unproven::*;
    let payload = claims(&json!({})).to_string();
    for (what, token, expected) in [
        ("an unknown id", QUAY.raw(r#"{"alg":"RS256","kid":"quay-2","typ":"JWT"}"#, &payload), UnknownKey),
        ("no id", QUAY.raw(r#"{"alg":"RS256","typ":"JWT"}"#, &payload), Form),
        ("an id that is no text", QUAY.raw(r#"{"alg":"RS256","kid":["quay-1"]}"#, &payload), Form),
        ("alg twice", QUAY.raw(r#"{"alg":"none","alg":"RS256","kid":"quay-1"}"#, &payload), Form),
        ("alg as an object", QUAY.raw(r#"{"alg":{"RS256":null},"kid":"quay-1"}"#, &payload), Form),
        ("a header that is a list", QUAY.raw(r#"["RS256","quay-1","JWT"]"#, &payload), Form),
        ("a key in the header", QUAY.raw(r#"{"alg":"RS256","kid":"quay-1","jwk":{}}"#, &payload), Form),
        (
            "a URL of keys",
            QUAY.raw(r#"{"alg":"RS256","kid":"quay-1","jku":"https://evil.example"}"#, &payload),
            Form,
        ),
        (
            "critical extensions",
            QUAY.raw(r#"{"alg":"RS256","kid":"quay-1","crit":["b64"],"b64":false}"#, &payload),
            Form,
        ),
        ("another type", QUAY.raw(r#"{"alg":"RS256","kid":"quay-1","typ":"at+jwt"}"#, &payload), Form),
        (
            "a long header",
            QUAY.raw(&json!({"alg": "RS256", "kid": "k".repeat(7000)}).to_string(), &payload),
            Form,
        ),
    ] {
        assert_eq!(refusal(&token), Some(expected), "{what}");
    }
}

#[test]
fn wrong_claims_prove_nothing() {
    use Unproven::*;
    let access = |item: Value| json!({ "access": [item] });
    let item = |kind: &str, actions: Value| json!({"type": kind, "name": "admin/one", "actions": actions});
    for (overrides, expected) in [
        (json!({"aud": "other.example.com"}), Audience),
        (json!({"aud": "quay.example.com:443"}), Audience),
        (json!({"aud": ["quay.example.com"]}), Claims),
        (json!({"aud": null}), Claims),
        (json!({"iss": "clair"}), Issuer),
        (json!({"iss": null}), Claims),
        (json!({"sub": null}), Claims),
        (json!({"sub": ""}), Claims),
        (json!({"sub": 7}), Claims),
        (json!({"nbf": null}), Claims),
        (json!({"iat": null}), Claims),
        (json!({"exp": null}), Claims),
        (json!({"exp": "1795507876"}), Claims),
        (json!({"exp": 1_795_507_876.5}), Claims),
        (json!({"exp": -1}), Claims),
        (json!({"exp": true}), Claims),
        (json!({"exp": u64::MAX}), Claims),
        (json!({"exp": NOW + LIFE_MAX + 1}), Life),
        (json!({"iat": NOW - 100, "exp": NOW + LIFE_MAX}), Life),
        (json!({"access": null}), Claims),
        (json!({"access": {}}), Claims),
        (access(item("storageproxy", json!(["pull"]))), Claims),
        (
            json!({"sub": "storageproxy", "access": [{"type": "storageproxy", "uri": "k", "host": "h", "scheme": "http"}]}),
            Claims,
        ),
        (access(item("registry", json!(["*"]))), Claims),
        (access(item("Repository", json!(["pull"]))), Claims),
        (access(item("repository", json!(["pull", "delete"]))), Claims),
        (access(item("repository", json!("pull"))), Claims),
        (access(item("repository", json!([{"pull": null}]))), Claims),
        (access(json!(["repository", "admin/one", ["pull"]])), Claims),
        (access(json!({"type": "repository", "actions": ["pull"]})), Claims),
        (access(json!({"type": "repository", "name": "admin/one"})), Claims),
        (access(json!({"type": "repository", "name": 7, "actions": ["pull"]})), Claims),
        (json!({"access": [item("repository", json!(["pull"])), item("storageproxy", json!([]))]}), Claims),
    ] {
        assert_eq!(refusal(&QUAY.sign(&claims(&overrides))), Some(expected), "{overrides}");
    }
    let good = claims(&json!({})).to_string();
    let twice = |extra: &str| QUAY.raw(&QUAY.header("RS256"), &format!("{{{extra},{}", &good[1..]));
    for extra in [r#""aud":"quay.example.com""#, r#""exp":1"#, r#""access":[]"#, r#""sub":"x""#] {
        assert_eq!(refusal(&twice(extra)), Some(Claims), "{extra} twice");
    }
    assert_eq!(refusal(&twice(r#""other":1,"other":2"#)), None, "nobody reads it");
    let list = json!(["quay", "quay.example.com", NOW, NOW, NOW + 9, "admin", []]).to_string();
    assert_eq!(refusal(&QUAY.raw(&QUAY.header("RS256"), &list)), Some(Claims));
    let deep = format!("{{\"x\":{}{}", "[".repeat(5000), &good[1..]);
    assert_eq!(refusal(&QUAY.raw(&QUAY.header("RS256"), &deep)), Some(Claims));
}

#[test]
fn a_key_that_has_left_the_set_ends_its_tokens() {
    let verified = at(&QUAY.sign(&claims(&json!({}))), NOW).expect("a good token");
    let now = Duration::from_secs(NOW);
    assert!(verified.counts(&KEYS, now));
    let renewed = KeySet::parse(KEYS.json().as_bytes(), &KEYS).expect("the same keys");
    assert!(verified.counts(&renewed, now));
    let other = json!({ "keys": [OTHER.jwk] }).to_string();
    let replaced = KeySet::parse(other.as_bytes(), &KEYS).expect("another key");
    assert!(!verified.counts(&replaced, now) && !verified.counts(&KeySet::default(), now));
    assert!(!verified.counts(&KEYS, now + Duration::from_secs(3630)));
}

#[test]
fn only_one_bearer_token_is_read() {
    let with = |values: &[&str]| -> HeaderMap {
        values.iter().map(|value| (AUTHORIZATION, value.parse().expect("a value"))).collect()
    };
    assert_eq!(bearer_token(&with(&["Bearer a.b.c"])), Some("a.b.c"));
    for values in
        [&[][..], &["Bearer a", "Bearer a"], &["bearer a"], &["Basic a"], &["Bearer "], &["Bearer\ta"]]
    {
        assert_eq!(bearer_token(&with(values)), None, "{values:?}");
    }
}

proptest! {
    /// Quay's rules, written once more (`util/security/jwtutil.py`, PyJWT's `_validate_claims`).
    #[test]
    fn times_count_as_in_quay(nbf in -4000i64..4000, iat in -4000i64..4000, life in -100i64..4000, later in -40i64..40) {
        let now = i64::try_from(NOW).expect("a time");
        let [nbf, iat, exp] = [now + nbf, now + iat, now + iat + life];
        let now = exp + later;
        let quay = nbf <= now + 30 && iat <= now + 30 && exp > now - 30 && exp - iat <= 3660;
        let token = QUAY.sign(&claims(&json!({"nbf": nbf, "iat": iat, "exp": exp})));
        prop_assert_eq!(at(&token, u64::try_from(now).expect("a time")).is_ok(), quay);
    }

    #[test]
    fn no_changed_byte_is_believed(place in 0usize..1000, byte in "[A-Za-z0-9_.-]") {
        let good = QUAY.sign(&claims(&json!({})));
        let place = place % good.len();
        let changed = format!("{}{byte}{}", &good[..place], &good[place + 1..]);
        prop_assert_eq!(at(&changed, NOW).is_ok(), changed == good);
    }

    #[test]
    fn any_bytes_are_survived(token in ".{0,200}", header in "[ -~]{0,60}", payload in "[ -~]{0,200}") {
        prop_assert!(at(&token, NOW).is_err());
        let signed = QUAY.raw(&header, &payload);
        prop_assert!(at(&signed, NOW).is_err());
        let signed = QUAY.raw(&QUAY.header("RS256"), &payload);
        prop_assert!(at(&signed, NOW).is_err());
    }
}

/// Distribution's tokens: a certificate in the header, or the id of a key.
mod distribution {
    use base64::engine::general_purpose::STANDARD;

    use super::super::super::Form;
    use super::*;

    struct Service {
        key: EncodingKey,
        pem: String,
        der: String,
    }

    impl Service {
        fn new(years: std::ops::Range<i32>) -> Self {
            let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key pair");
            let mut certificate = rcgen::CertificateParams::new(vec!["tokens".to_owned()]).expect("a name");
            certificate.not_before = rcgen::date_time_ymd(years.start, 1, 1);
            certificate.not_after = rcgen::date_time_ymd(years.end, 1, 1);
            let certificate = certificate.self_signed(&pair).expect("a certificate");
            let key = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).expect("an RSA key");
            Self { key, pem: certificate.pem(), der: STANDARD.encode(certificate.der()) }
        }

        fn sign(&self, header: &Value, claims: &Value) -> String {
            sealed(&header.to_string(), &claims.to_string(), &self.key, Algorithm::RS256)
        }
    }

    fn claims(overrides: &Value) -> Value {
        let mut claims = json!({
            "iss": "tokens", "aud": "registry", "nbf": NOW, "iat": NOW, "exp": NOW + 300, "sub": "", "jti": "1",
            "access": [{"type": "repository", "class": "", "name": "o/a", "actions": ["push", "pull", "delete"]}],
        });
        for (name, value) in overrides.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        claims
    }

    fn rules() -> Rules {
        Rules {
            form: Form::Distribution,
            issuer: "tokens".into(),
            audience: "registry".into(),
            life_max: Duration::MAX,
        }
    }

    fn at(token: &str, keys: &KeySet, seconds: u64) -> Result<Grants, Unproven> {
        verify(token, keys, &rules(), Duration::from_secs(seconds)).map(|verified| verified.grants().clone())
    }

    #[test]
    fn a_certificate_of_the_bundle_verifies_tokens_while_it_is_valid() {
        let [own, other] = [Service::new(2020..2040), Service::new(2020..2040)];
        let ended = Service::new(2020..2026);
        let keys = KeySet::parse_file(format!("{}{}", own.pem, ended.pem).as_bytes()).expect("keys");
        let header = |service: &Service| json!({"alg": "RS256", "typ": "JWT", "x5c": [service.der]});
        let good = claims(&json!({}));
        assert!(at(&own.sign(&header(&own), &good), &keys, NOW).is_ok_and(|grants| grants.may_pull("o/a")));
        for (what, token, expected) in [
            ("another certificate", other.sign(&header(&other), &good), Unproven::UnknownKey),
            ("the certificate of another key", other.sign(&header(&own), &good), Unproven::Signature),
            ("a certificate that has ended", ended.sign(&header(&ended), &good), Unproven::Time),
            ("no chain", own.sign(&json!({"alg": "RS256", "x5c": []}), &good), Unproven::Form),
            (
                "a key in the header",
                own.sign(&json!({"alg": "RS256", "x5c": [own.der], "jwk": {}}), &good),
                Unproven::Form,
            ),
            (
                "the certificate as an id",
                own.sign(&json!({"alg": "RS256", "kid": format!("x5c:{}", own.der)}), &good),
                Unproven::Form,
            ),
            ("Quay's form", own.sign(&json!({"alg": "RS256", "kid": "x"}), &good), Unproven::UnknownKey),
            ("another issuer", own.sign(&header(&own), &claims(&json!({"iss": "x"}))), Unproven::Issuer),
            ("another service", own.sign(&header(&own), &claims(&json!({"aud": "x"}))), Unproven::Audience),
            ("expired", own.sign(&header(&own), &claims(&json!({"exp": NOW - 60}))), Unproven::Time),
            ("not yet", own.sign(&header(&own), &claims(&json!({"nbf": NOW + 61}))), Unproven::Time),
        ] {
            assert_eq!(at(&token, &keys, NOW).err(), Some(expected), "{what}");
        }
        let late = own.sign(&header(&own), &claims(&json!({"exp": NOW - 59})));
        assert!(at(&late, &keys, NOW).is_ok(), "the registry's leeway is a minute");
    }

    #[test]
    fn only_pull_permits_and_only_under_plain_names() {
        let own = Service::new(2020..2040);
        let keys = KeySet::parse_file(own.pem.as_bytes()).expect("keys");
        let item = |kind: &str, name: &str, actions: &[&str]| json!({"type": kind, "name": name, "actions": actions});
        let access = json!({"access": [
            item("repository", "o/push", &["push"]),
            item("repository", "o/all", &["*"]),
            item("registry", "o/catalog", &["pull"]),
            item("repository", "library/a", &["pull"]),
            item("repository", "a", &["pull"]),
            item("repository", "o/good", &["pull"]),
        ]});
        let token = own.sign(&json!({"alg": "RS256", "x5c": [own.der]}), &claims(&access));
        let grants = at(&token, &keys, NOW).expect("a good token");
        assert!(grants.may_pull("o/good"));
        for other in ["o/push", "o/all", "o/catalog", "library/a", "a"] {
            assert!(!grants.may_pull(other), "{other}");
        }
    }

    #[test]
    fn a_set_verifies_tokens_by_id() {
        let keys = KeySet::parse_file(json!({ "keys": [QUAY.jwk] }).to_string().as_bytes()).expect("keys");
        let token =
            sealed(&QUAY.header("RS256"), &claims(&json!({})).to_string(), &QUAY.key, Algorithm::RS256);
        assert!(at(&token, &keys, NOW).is_ok_and(|grants| grants.may_pull("o/a")));
        for bad in ["", "{}", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"] {
            assert!(KeySet::parse_file(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
