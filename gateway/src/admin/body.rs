//! The bodies of commands.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::problem::Problem;

/// The maximum size of a command in bytes.
const COMMAND_MAX: usize = 256 * 1024;

/// The time for the body of a command.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The first integer that a float cannot be told from its neighbour.
const INTEGERS_END: f64 = 9_007_199_254_740_992.0;

/// Receives the body of a command and parses it.
pub(super) async fn receive<T: DeserializeOwned>(headers: &HeaderMap, body: Incoming) -> Result<T, Problem> {
    if !is_json(headers) {
        let detail = "a command is JSON: send it with Content-Type: application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail));
    }
    parse(&collect(body).await?)
}

/// Whether the media type is JSON. Without one, the body is taken for JSON.
fn is_json(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_TYPE).iter().all(|value| {
        let media_type = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
        media_type.trim().eq_ignore_ascii_case("application/json")
    })
}

async fn collect(body: Incoming) -> Result<Bytes, Problem> {
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, COMMAND_MAX).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(_)) => Err(Problem::too_large(format!("a command has at most {COMMAND_MAX} bytes"))),
        Err(_) => {
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", "the command was not received in time"))
        }
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // Serde takes a list for a record, too.
    let object = serde_json::from_slice::<Map<String, Value>>(body);
    object.and_then(|object| serde_json::from_value(with_integers(object.into()))).map_err(|error| {
        Problem::malformed(format!("the command cannot be parsed: is it of another version? {error}"))
    })
}

/// JSON has one type of numbers: 1.0 is the integer 1. Larger ones than JavaScript's stay as they are.
fn with_integers(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float)
                if number.is_f64() && float.fract() == 0.0 && (0.0..INTEGERS_END).contains(&float) =>
            {
                (float as u64).into()
            }
            _ => number.into(),
        },
        Value::Array(list) => list.into_iter().map(with_integers).collect(),
        Value::Object(map) => map.into_iter().map(|(name, value)| (name, with_integers(value))).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types() {
        let of = |types: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for media_type in types {
                headers.append(CONTENT_TYPE, http::HeaderValue::from_static(media_type));
            }
            is_json(&headers)
        };
        assert!(of(&[]) && of(&["application/json"]) && of(&["Application/JSON; charset=utf-8"]));
        assert!(!of(&["text/plain"]) && !of(&["application/x-www-form-urlencoded"]) && !of(&[""]));
        assert!(!of(&["application/json", "text/plain"]));
    }

    #[test]
    fn integers_may_have_a_fraction_of_zero() {
        let parsed = |text: &str| parse::<std::collections::BTreeMap<String, u64>>(text.as_bytes()).ok();
        assert_eq!(parsed(r#"{"a": 7.0}"#), Some([("a".to_owned(), 7)].into()));
        assert_eq!(parsed(r#"{"a": 7.5}"#), None);
        assert_eq!(parsed(r#"{"a": -1.0}"#), None);
        assert_eq!(parsed(r#"{"a": 1e300}"#), None);
        assert_eq!(parsed("[]"), None);
    }
}
