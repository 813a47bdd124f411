//! How long the credentials of a request stay valid. Pure.
//!
//! Signatures are not verified here. The content of a token can only shorten the time for which a permission
//! of the registry is remembered, so that the gateway refuses an expired token as soon as the registry does.
//! For the same reason, tokens are searched everywhere in a request: a permission with an overlooked token
//! would be remembered for too long.

mod decoder;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode;
use serde::de::IgnoredAny;

use self::decoder::{Decoder, Exhausted};

/// How long a credential stays valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// The request has no credential, or only credentials that do not say when they end.
    Unknown,
    /// The credential ends this long after the given time.
    Left(Duration),
    /// The credential is a token whose end cannot be read, or has an unknown form, or the request has more
    /// possible tokens than are decoded.
    Unreadable,
}

impl Life {
    /// The shorter of two lifetimes.
    fn min(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unreadable, _) | (_, Self::Unreadable) => Self::Unreadable,
            (Self::Left(one), Self::Left(other)) => Self::Left(one.min(other)),
            (Self::Left(one), Self::Unknown) | (Self::Unknown, Self::Left(one)) => Self::Left(one),
            (Self::Unknown, Self::Unknown) => Self::Unknown,
        }
    }

    /// For a credential of an unknown kind: only a token in it can say when it ends.
    fn or_unreadable(self) -> Self {
        match self {
            Self::Unknown => Self::Unreadable,
            known => known,
        }
    }
}

/// How long the token in `Authorization` stays valid after `now`.
pub fn token_life(headers: &HeaderMap, now: SystemTime) -> Life {
    shortest(headers, None, |name| *name == AUTHORIZATION, now)
}

/// The shortest remaining lifetime of the tokens of a request after `now`, wherever they are: in any header
/// that the registry may judge (`may_judge`), or in the query.
pub fn shortest(
    headers: &HeaderMap,
    query: Option<&str>,
    may_judge: impl Fn(&HeaderName) -> bool,
    now: SystemTime,
) -> Life {
    Search { decoder: Decoder::default(), now }.request(headers, query, may_judge)
}

/// The search for the tokens of one request.
struct Search {
    decoder: Decoder,
    now: SystemTime,
}

impl Search {
    fn request(
        &mut self,
        headers: &HeaderMap,
        query: Option<&str>,
        may_judge: impl Fn(&HeaderName) -> bool,
    ) -> Life {
        let judged = headers.iter().filter(|(name, _)| may_judge(name));
        let of_query = self.escaped(query.unwrap_or_default().as_bytes());
        judged.map(|(name, value)| self.field(name, value)).fold(of_query, Life::min)
    }

    fn field(&mut self, name: &HeaderName, value: &HeaderValue) -> Life {
        // It is unknown how the registry, or a proxy in front of it, interprets bytes beyond ASCII.
        if value.to_str().is_err() {
            return Life::Unreadable;
        }
        match *name == AUTHORIZATION {
            true => self.authorization(value.as_bytes().trim_ascii()),
            false => self.escaped(value.as_bytes()),
        }
    }

    fn authorization(&mut self, value: &[u8]) -> Life {
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
        let Some(end) = value.iter().position(is_space) else { return self.tokens(value).or_unreadable() };
        let (scheme, credentials) = (value[..end].to_ascii_lowercase(), value[end..].trim_ascii());
        let found = self.tokens(credentials);
        match &*scheme {
            b"bearer" if credentials.iter().any(|byte| is_space(byte) || *byte == b',') => Life::Unreadable,
            // Dots may separate the parts of a token of an unknown form. Other tokens are opaque.
            b"bearer" if credentials.iter().filter(|byte| **byte == b'.').count() >= 2 => {
                found.or_unreadable()
            }
            b"bearer" => found,
            // Quay also accepts tokens as passwords (`auth/credentials.py`), and other registries accept them
            // as users.
            b"basic" => match self.decoder.basic(credentials) {
                Ok(Some(pair)) => self.tokens(&pair),
                Ok(None) => found.or_unreadable(),
                Err(Exhausted) => Life::Unreadable,
            },
            _ => found.or_unreadable(),
        }
    }

    /// The lifetime of the tokens in text that may be percent-encoded.
    fn escaped(&mut self, text: &[u8]) -> Life {
        let plain = self.tokens(text);
        match text.contains(&b'%') {
            true => plain.min(self.tokens(&percent_decode(text).collect::<Vec<_>>())),
            false => plain,
        }
    }

    /// The lifetime of the tokens anywhere in these bytes.
    fn tokens(&mut self, bytes: &[u8]) -> Life {
        let is_of_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_+/=.".contains(byte);
        let words = bytes.split(|byte| !is_of_word(byte));
        words.map(|word| self.word(word)).fold(Life::Unknown, Life::min)
    }

    /// The lifetime of the tokens in a word. A token has three parts with dots between them, or five if it is
    /// encrypted, and the first part names an algorithm (RFC 7515 section 4.1.1, RFC 7516 section 4.1.1).
    /// Other parts may stand before and after it.
    fn word(&mut self, word: &[u8]) -> Life {
        let parts: Vec<_> = word.split(|byte| *byte == b'.').collect();
        let lives = parts.windows(3).map(|parts| match self.ends_in_token_header(parts[0]) {
            Ok(true) => self.claimed_end(parts[1]),
            Ok(false) => Life::Unknown,
            Err(Exhausted) => Life::Unreadable,
        });
        lives.fold(Life::Unknown, Life::min)
    }

    /// Whether a part is the header of a token, possibly after some other bytes.
    fn ends_in_token_header(&mut self, part: &[u8]) -> Result<bool, Exhausted> {
        // In base64, a brace and the quote or white space after it are `ew` or `ey`.
        let begins = |at: &usize| *at == 0 || matches!(part[*at..], [b'e', b'w' | b'y', ..]);
        for at in (0..part.len()).filter(begins) {
            if self.decoder.member::<IgnoredAny>(&part[at..], "alg")?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The lifetime up to the `exp` of a token's claims.
    fn claimed_end(&mut self, claims: &[u8]) -> Life {
        let Ok(seconds) = self.decoder.member::<f64>(claims, "exp") else { return Life::Unreadable };
        let end = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        match (end, self.now.duration_since(UNIX_EPOCH)) {
            (Some(end), Ok(now)) => Life::Left(end.saturating_sub(now)),
            _ => Life::Unreadable,
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use http::header::COOKIE;
    use proptest::prelude::*;

    use super::decoder::DECODED_MAX;
    use super::*;

    fn jwt(payload: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.sig", part(r#"{"alg":"RS256"}"#), part(payload))
    }

    fn headers(authorization: &[&str], cookies: &[&str]) -> HeaderMap {
        let all = authorization.iter().map(|value| (AUTHORIZATION, value));
        let all = all.chain(cookies.iter().map(|value| (COOKIE, value)));
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(name, value.parse().expect("a value"));
        }
        headers
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn left(seconds: u64) -> Life {
        Life::Left(Duration::from_secs(seconds))
    }

    /// The lifetime by Quay's rule for headers that a client may send.
    fn every_life(headers: &HeaderMap, query: Option<&str>) -> Life {
        shortest(headers, query, |name| name != "user-agent", at(1000))
    }

    fn life_in(name: &'static str, value: &[u8]) -> Life {
        let value = HeaderValue::from_bytes(value).expect("a value");
        every_life(&[(HeaderName::from_static(name), value)].into_iter().collect(), None)
    }

    #[test]
    fn white_space_before_the_scheme_hides_no_token() {
        let token = jwt(r#"{"exp":1007}"#);
        for before in ["", " ", "\t", " \t "] {
            for between in [" ", "\t", "  "] {
                let value = format!("{before}Bearer{between}{token} ");
                assert_eq!(life_in("authorization", value.as_bytes()), left(7), "{value:?}");
            }
        }
    }

    #[test]
    fn bytes_beyond_ascii_hide_no_token() {
        let token = jwt(r#"{"exp":1007}"#);
        for name in ["authorization", "cookie", "x-access-jwt"] {
            let value = [b"name=J\xfcrgen; token=", token.as_bytes()].concat();
            assert_eq!(life_in(name, &value), Life::Unreadable, "{name}");
        }
        assert_eq!(life_in("user-agent", b"J\xfcrgen"), Life::Unknown, "this header is not judged");
    }

    #[test]
    fn every_judged_header_counts() {
        let token = jwt(r#"{"exp":1007}"#);
        for value in [token.clone(), format!("Bearer {token}"), format!("v=1,t=\"{token}\"")] {
            assert_eq!(life_in("x-access-jwt", value.as_bytes()), left(7), "{value}");
            assert_eq!(life_in("user-agent", value.as_bytes()), Life::Unknown, "{value}");
        }
    }

    #[test]
    fn unknown_credentials_are_not_taken_for_endless() {
        let (token, other) = (jwt(r#"{"exp":1007}"#), |text: &str| life_in("authorization", text.as_bytes()));
        assert_eq!(other(&format!("Token {token}")), left(7));
        assert_eq!(other(&format!("Token token=\"{token}\"")), left(7));
        assert_eq!(other("Token opaque"), Life::Unreadable);
        assert_eq!(other("Basic !!!"), Life::Unreadable);
        assert_eq!(other(&format!("Basic {token}")), left(7));
        let pair = |pair: &str| other(&format!("Basic {}", STANDARD.encode(pair)));
        assert_eq!(pair(&format!("{token}:x")), left(7));
        assert_eq!(pair(&format!("$oauthtoken:{token}")), left(7));
        assert_eq!(pair(&token), left(7));
    }

    /// What docker, podman and skopeo send, and Quay's own tokens. Permissions for these must stay
    /// remembered.
    #[test]
    fn ordinary_clients_are_understood() {
        let quays = |names: usize| {
            let access = |n: usize| serde_json::json!({"type": "repository", "name": format!("admin/{n}"), "actions": ["push", "pull"]});
            let claims = serde_json::json!({
                "iss": "quay", "aud": "localhost:38580", "nbf": 1000, "iat": 1000, "exp": 4600, "sub": "admin",
                "access": (0..names).map(access).collect::<Vec<_>>(),
                "context": {"version": 2, "entity_kind": "user", "kind": "user", "user": "admin",
                    "com.apostille.roots": {"admin/one": "$disabled"}, "com.apostille.root": "$disabled"},
            });
            let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
            let header = part(r#"{"alg":"RS256","kid":"HMnw6L0K","typ":"JWT"}"#);
            format!("Bearer {header}.{}.{}", part(&claims.to_string()), part(&"s".repeat(256)))
        };
        for names in [1, 60] {
            assert_eq!(life_in("authorization", quays(names).as_bytes()), left(3600));
        }
        for pair in
            ["admin+bot1:0ABCDEF", "admin:pass.word.with.dots", "$oauthtoken:ZXlK0aBc", "$app:eyJ.eyJ"]
        {
            let value = format!("Basic {}", STANDARD.encode(pair));
            assert_eq!(life_in("authorization", value.as_bytes()), Life::Unknown, "{pair}");
        }
        for (name, value) in [
            (
                "accept",
                "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json",
            ),
            ("docker-distribution-api-version", "registry/2.0"),
            ("content-length", "0"),
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-for", "2001:db8::1"),
            ("x-meta-source-client", "docker/27.3.1 go/go1.22.7 kernel/6.8.0-45-generic os/linux arch/amd64"),
            ("referer", "https://quay.example.com/repository/admin/one?tab=tags"),
            ("cookie", "session=opaque; _csrf_token=a.b"),
        ] {
            assert_eq!(life_in(name, value.as_bytes()), Life::Unknown, "{name}: {value}");
        }
    }

    /// The lifetime of a token in fields with these values, and the number of bytes that were decoded.
    fn work(values: &[String], query: Option<&str>) -> (Life, usize) {
        let name = || HeaderName::from_static("x-docker-a");
        let fields = values.iter().map(|value| (name(), value.parse().expect("a value"))).collect();
        let mut search = Search { decoder: Decoder::default(), now: at(1000) };
        (search.request(&fields, query, |_| true), search.decoder.decoded())
    }

    #[test]
    fn the_search_for_tokens_is_bounded() {
        // Each brace may begin a header, and everything but the last byte is valid.
        let json = format!("{}{}{}", "{\"a\": ".repeat(31), "[0],".repeat(500), "}".repeat(32));
        let nested = format!("{}.a.a %", URL_SAFE_NO_PAD.encode(json));
        let token = jwt(r#"{"exp":1007}"#);
        for values in [
            vec![nested; 15],
            vec!["ey".repeat(30_000) + ".b.c"],
            vec!["ey".repeat(600) + ".b.c"; 50],
            vec![format!("{}.b.c", "eyJh.".repeat(12_000)), "%".to_owned() + &"eyJh.".repeat(12_000)],
            vec![format!("{}{token}", "ey".repeat(30_000))],
            vec![token.repeat(1500)],
        ] {
            let of = (values.len(), &values[0][..12]);
            let (life, decoded) = work(&values, None);
            assert!(decoded <= DECODED_MAX, "{of:?}: {decoded}");
            assert_eq!(life, Life::Unreadable, "{of:?}");
            let (_, decoded) = work(&values, Some(&values.concat()));
            assert!(decoded <= DECODED_MAX, "{of:?} and in the query: {decoded}");
        }
    }

    #[test]
    fn the_lifetime_of_one_token() {
        let life = |value: &str| token_life(&headers(&[value], &[]), at(1000));
        let bearer = |payload: &str| life(&format!("Bearer {}", jwt(payload)));
        assert_eq!(bearer(r#"{"exp":1007}"#), left(7));
        assert_eq!(bearer(r#"{"exp":1007.5}"#), Life::Left(Duration::from_millis(7500)));
        assert_eq!(bearer(r#"{"exp":7}"#), left(0));
        assert_eq!(bearer("{}"), Life::Unreadable);
        assert_eq!(life("Bearer a.b.c"), Life::Unreadable);
        assert_eq!(life("Bearer opaque"), Life::Unknown);
        assert_eq!(life("Bearer a, Bearer b"), Life::Unreadable);
        assert_eq!(life("opaque"), Life::Unreadable);
        assert_eq!(life("Basic YTpi"), Life::Unknown);
        assert_eq!(token_life(&HeaderMap::new(), at(1000)), Life::Unknown);
        let password = STANDARD.encode(format!("$oauthtoken:{}", jwt(r#"{"exp":1003}"#)));
        assert_eq!(life(&format!("Basic {password}")), left(3));
        // An encrypted token has an end too, which cannot be read here.
        let encrypted = format!("{}.b.c.d.e", URL_SAFE_NO_PAD.encode(r#"{"alg":"dir","enc":"A256GCM"}"#));
        assert_eq!(life(&format!("Bearer {encrypted}")), Life::Unreadable);
    }

    #[test]
    fn tokens_are_found_everywhere() {
        let (long, short) = (jwt(r#"{"exp":1900}"#), jwt(r#"{"exp":1007}"#));
        let bearer = format!("Bearer {long}");
        let life = |cookies: &[&str], query: Option<&str>| every_life(&headers(&[&bearer], cookies), query);
        assert_eq!(life(&[], None), left(900));
        assert_eq!(life(&["a=b", &format!("c=d; token=\"{short}\"")], None), left(7));
        assert_eq!(life(&[], Some(&format!("a=b&token={short}"))), left(7));
        assert_eq!(life(&[], Some(&format!("auth=Bearer+{}", short.replace('.', "%2E")))), left(7));
        assert_eq!(life(&[], Some(&format!("token={}", jwt("{}")))), Life::Unreadable);
        // A session of Flask also has three parts, the first of them JSON, but is not a token.
        let session = format!("session={}.Zx12.c2ln", URL_SAFE_NO_PAD.encode(r#"{"csrf":"x"}"#));
        assert_eq!(life(&[&session], Some("digest=1.2.3")), left(900));
    }

    proptest! {
        #[test]
        fn the_shortest_lifetime_counts(ends in prop::collection::vec(0u64..5000, 1..6), now in 0u64..5000) {
            let tokens: Vec<_> = ends.iter().map(|end| jwt(&format!("{{\"exp\":{end}}}"))).collect();
            let bearer = format!("Bearer {}", tokens[0]);
            let cookies: Vec<_> = tokens.iter().skip(1).step_by(2).map(|token| format!("t={token}")).collect();
            let cookies: Vec<_> = cookies.iter().map(String::as_str).collect();
            let query: Vec<_> = tokens.iter().skip(2).step_by(2).map(|token| format!("t={token}")).collect();
            let life = shortest(&headers(&[&bearer], &cookies), Some(&query.join("&")), |_| true, at(now));
            let first = ends.iter().min().copied().unwrap_or_default();
            prop_assert_eq!(life, left(first.saturating_sub(now)));
        }

        #[test]
        fn never_panics(authorization in "[ -~]{0,60}", cookie in "[ -~]{0,60}", query in "[ -~]{0,60}") {
            let _ = every_life(&headers(&[&authorization], &[&cookie]), Some(&query));
        }

        #[test]
        fn no_neighbouring_byte_hides_a_token(
            name in prop::sample::select(vec!["authorization", "cookie", "x-access-jwt", "x-docker-token"]),
            space in "[ \t]{0,3}",
            scheme in prop::sample::select(vec!["", "Bearer ", "bearer\t", "Token ", "Basic ", "t="]),
            before in prop::option::of(any::<u8>()),
            after in prop::option::of(any::<u8>()),
        ) {
            let token = jwt(r#"{"exp":1007}"#);
            let pieces = [space.as_bytes(), scheme.as_bytes(), before.as_slice(), token.as_bytes(), after.as_slice()];
            let value = HeaderValue::from_bytes(&pieces.concat());
            prop_assume!(value.is_ok());
            let name = HeaderName::from_static(name);
            let life = every_life(&value.into_iter().map(|value| (name.clone(), value)).collect(), None);
            prop_assert!(matches!(life, Life::Unreadable) || life == left(7), "{life:?}");
        }
    }
}
