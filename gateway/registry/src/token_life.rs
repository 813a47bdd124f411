//! How long the credentials of a request live still: pure.
//!
//! Tokens are read without proof: what they say only ever shortens the memory of a yes, so that an expired
//! one is refused as promptly as by the registry.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Map, Value};

/// How long a credential lives still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// None is given, or it is no token with an end.
    Unknown,
    /// So long from the moment that was asked about.
    Left(Duration),
    /// A token whose end cannot be read, or a credential in a form that is not understood.
    Unreadable,
}

impl Life {
    /// The shorter of the two.
    fn min(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unreadable, _) | (_, Self::Unreadable) => Self::Unreadable,
            (Self::Left(one), Self::Left(other)) => Self::Left(one.min(other)),
            (Self::Left(one), Self::Unknown) | (Self::Unknown, Self::Left(one)) => Self::Left(one),
            (Self::Unknown, Self::Unknown) => Self::Unknown,
        }
    }
}

/// How long the token in `Authorization` lives still.
pub fn token_life(headers: &HeaderMap, now: SystemTime) -> Life {
    let all = headers.get_all(AUTHORIZATION).iter();
    all.map(|value| value.to_str().map_or(Life::Unreadable, |text| authorization(text, now)))
        .fold(Life::Unknown, Life::min)
}

/// How long the shortest-lived token of a request lives still, wherever it stands: in `Authorization`, in a
/// cookie or in the query.
pub fn shortest(headers: &HeaderMap, query: Option<&str>, now: SystemTime) -> Life {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let cookies = cookies.flat_map(|value| value.split(';')).map(str::to_owned);
    let query = query.unwrap_or_default().split('&').map(|pair| {
        let plain = pair.replace('+', " ");
        percent_decode_str(&plain).decode_utf8_lossy().into_owned()
    });
    let borne = cookies.chain(query).map(|pair| {
        let value = pair.split_once('=').map_or(&*pair, |(_, value)| value);
        let value = value.trim_matches([' ', '"']);
        borne(value.split_once(' ').map_or(value, |(_, token)| token), now)
    });
    borne.fold(token_life(headers, now), Life::min)
}

fn authorization(text: &str, now: SystemTime) -> Life {
    let Some((scheme, credentials)) = text.split_once(' ') else { return Life::Unreadable };
    let credentials = credentials.trim();
    match scheme.to_ascii_lowercase().as_str() {
        "bearer" if credentials.contains([' ', ',']) => Life::Unreadable,
        // A JWT has three parts; other tokens have no end that can be read.
        "bearer" if credentials.split('.').count() == 3 => end(credentials, now),
        "bearer" => borne(credentials, now),
        // Quay takes tokens as passwords too (`auth/credentials.py`).
        "basic" => {
            let pair = STANDARD.decode(credentials).ok().and_then(|pair| String::from_utf8(pair).ok());
            pair.map_or(Life::Unknown, |pair| {
                pair.split_once(':').map_or(Life::Unknown, |(_, word)| borne(word, now))
            })
        }
        _ => Life::Unknown,
    }
}

/// The life of what may be a JWT: three parts, or five where it is encrypted, of which the first names an
/// algorithm (RFC 7515 section 4.1.1, RFC 7516 section 4.1.1).
fn borne(text: &str, now: SystemTime) -> Life {
    let parts: Vec<_> = text.split('.').collect();
    let names_algorithm = |header: &str| object(header).is_some_and(|header| header.contains_key("alg"));
    match parts[..] {
        [header, _, _] | [header, _, _, _, _] if names_algorithm(header) => end(text, now),
        _ => Life::Unknown,
    }
}

/// Until the `exp` of a JWT.
fn end(token: &str, now: SystemTime) -> Life {
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
    }
    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Life::Unreadable;
    };
    let claims = object(payload).and_then(|claims| serde_json::from_value::<Claims>(claims.into()).ok());
    let end = claims.and_then(|claims| Duration::try_from_secs_f64(claims.exp).ok());
    match (end, now.duration_since(UNIX_EPOCH)) {
        (Some(end), Ok(now)) => Life::Left(end.saturating_sub(now)),
        _ => Life::Unreadable,
    }
}

fn object(part: &str) -> Option<Map<String, Value>> {
    let decoded = URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&decoded).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    #[test]
    fn of_one_token() {
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
        // An encrypted one has an end too, which nobody here can read.
        let encrypted = format!("{}.b.c.d.e", URL_SAFE_NO_PAD.encode(r#"{"alg":"dir","enc":"A256GCM"}"#));
        assert_eq!(life(&format!("Bearer {encrypted}")), Life::Unreadable);
    }

    #[test]
    fn wherever_tokens_stand() {
        let (long, short) = (jwt(r#"{"exp":1900}"#), jwt(r#"{"exp":1007}"#));
        let bearer = format!("Bearer {long}");
        let life =
            |cookies: &[&str], query: Option<&str>| shortest(&headers(&[&bearer], cookies), query, at(1000));
        assert_eq!(life(&[], None), left(900));
        assert_eq!(life(&["a=b", &format!("c=d; token=\"{short}\"")], None), left(7));
        assert_eq!(life(&[], Some(&format!("a=b&token={short}"))), left(7));
        assert_eq!(life(&[], Some(&format!("auth=Bearer+{}", short.replace('.', "%2E")))), left(7));
        assert_eq!(life(&[], Some(&format!("token={}", jwt("{}")))), Life::Unreadable);
        // A session of Flask has three parts as well, the first of them JSON, and is none.
        let session = format!("session={}.Zx12.c2ln", URL_SAFE_NO_PAD.encode(r#"{"csrf":"x"}"#));
        assert_eq!(life(&[&session], Some("digest=1.2.3")), left(900));
    }

    proptest! {
        #[test]
        fn the_shortest_counts(ends in prop::collection::vec(0u64..5000, 1..6), now in 0u64..5000) {
            let tokens: Vec<_> = ends.iter().map(|end| jwt(&format!("{{\"exp\":{end}}}"))).collect();
            let bearer = format!("Bearer {}", tokens[0]);
            let cookies: Vec<_> = tokens.iter().skip(1).step_by(2).map(|token| format!("t={token}")).collect();
            let cookies: Vec<_> = cookies.iter().map(String::as_str).collect();
            let query: Vec<_> = tokens.iter().skip(2).step_by(2).map(|token| format!("t={token}")).collect();
            let life = shortest(&headers(&[&bearer], &cookies), Some(&query.join("&")), at(now));
            let first = ends.iter().min().copied().unwrap_or_default();
            prop_assert_eq!(life, left(first.saturating_sub(now)));
        }

        #[test]
        fn never_panics(authorization in "[ -~]{0,60}", cookie in "[ -~]{0,60}", query in "[ -~]{0,60}") {
            let _ = shortest(&headers(&[&authorization], &[&cookie]), Some(&query), at(1000));
        }
    }
}
