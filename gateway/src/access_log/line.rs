//! The lines of the access log. Pure.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use config::AccessLogFormat;
use http::{HeaderValue, Method, Version};
use serde::Serialize;

/// The longest `User-Agent` in a line, in bytes.
const USER_AGENT_MAX: usize = 256;

/// A request that has ended. It has no query and no header that could hold a secret.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    /// When its head had arrived.
    pub(crate) at: SystemTime,
    pub(crate) took: Duration,
    /// The time to the first byte of the answer, if there was one.
    pub(crate) first_byte: Option<Duration>,
    pub(crate) request_id: &'a str,
    pub(crate) trace_id: Option<&'a str>,
    pub(crate) client: IpAddr,
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) version: Version,
    pub(crate) user_agent: Option<&'a HeaderValue>,
    pub(crate) status: u16,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) route: &'static str,
    pub(crate) repository: Option<&'a str>,
    pub(crate) source: &'a str,
    pub(crate) cache: &'a str,
    pub(crate) end: &'static str,
}

/// The fields of a line in JSON. Their names are part of what a version promises.
#[derive(Serialize)]
struct Json<'a> {
    time: String,
    request_id: &'a str,
    trace_id: Option<&'a str>,
    client: IpAddr,
    method: &'a str,
    path: String,
    protocol: &'static str,
    status: u16,
    received: u64,
    sent: u64,
    duration: f64,
    first_byte: Option<f64>,
    route: &'static str,
    repository: Option<&'a str>,
    source: &'a str,
    cache: &'a str,
    end: &'static str,
    user_agent: Option<String>,
}

impl Record<'_> {
    /// The line, with its end.
    pub(super) fn line(&self, format: AccessLogFormat) -> Vec<u8> {
        let mut line = match format {
            AccessLogFormat::Json => self.json(),
            AccessLogFormat::Combined => self.combined().into_bytes(),
        };
        line.push(b'\n');
        line
    }

    fn json(&self) -> Vec<u8> {
        let json = Json {
            time: humantime::format_rfc3339_micros(self.at).to_string(),
            request_id: self.request_id,
            trace_id: self.trace_id,
            client: self.client,
            method: self.method.as_str(),
            path: printable(self.path),
            protocol: protocol(self.version),
            status: self.status,
            received: self.received,
            sent: self.sent,
            duration: microseconds(self.took),
            first_byte: self.first_byte.map(microseconds),
            route: self.route,
            repository: self.repository,
            source: self.source,
            cache: self.cache,
            end: self.end,
            user_agent: self.user_agent().map(|agent| printable(&agent)),
        };
        // Numbers and texts are always written.
        serde_json::to_vec(&json).unwrap_or_default()
    }

    /// `%h - - %t "%r" %>s %B "-" "%{User-Agent}i"` of Apache. The referrer is left out, because the query of its URL
    /// may hold a secret.
    fn combined(&self) -> String {
        format!(
            "{} - - [{}] \"{} {} {}\" {} {} \"-\" \"{}\"",
            self.client,
            common_time(self.at),
            self.method,
            escaped(self.path),
            protocol(self.version),
            self.status,
            self.sent,
            self.user_agent().map_or_else(|| "-".to_owned(), |agent| escaped(&agent)),
        )
    }

    /// The beginning of the client's `User-Agent`.
    fn user_agent(&self) -> Option<String> {
        let bytes = self.user_agent?.as_bytes();
        Some(String::from_utf8_lossy(&bytes[..bytes.len().min(USER_AGENT_MAX)]).into_owned())
    }
}

/// Seconds to the microsecond.
fn microseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e6
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        _ => "HTTP/2.0",
    }
}

/// A time as `06/Nov/1994:08:49:37 +0000`.
fn common_time(at: SystemTime) -> String {
    // `Sun, 06 Nov 1994 08:49:37 GMT`
    let date = httpdate::fmt_http_date(at);
    let mut words = date.split(' ').skip(1);
    let mut word = || words.next().unwrap_or_default();
    let (day, month, year, time) = (word(), word(), word(), word());
    format!("{day}/{month}/{year}:{time} +0000")
}

/// Text without control characters. JSON itself escapes only those below U+0020, and terminals obey others too.
fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// Text between quotes, escaped as nginx does it: everything that is not printable ASCII, the quote and the backslash.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' | 0..b' ' | 127.. => {
                // Writing to a string does not fail.
                let _ = write!(out, "\\x{byte:02X}");
            }
            _ => out.push(char::from(byte)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn record<'a>(path: &'a str, user_agent: &'a HeaderValue) -> Record<'a> {
        Record {
            at: SystemTime::UNIX_EPOCH + Duration::from_micros(784_111_777_000_123),
            took: Duration::from_nanos(1_234_567_890),
            first_byte: Some(Duration::from_millis(2)),
            request_id: "7",
            trace_id: None,
            client: [192, 0, 2, 1].into(),
            method: &Method::GET,
            path,
            version: Version::HTTP_11,
            user_agent: Some(user_agent),
            status: 200,
            received: 0,
            sent: 5,
            route: "blob",
            repository: Some("o/a"),
            source: "zone=a",
            cache: "quay-gateway; hit",
            end: "whole",
        }
    }

    fn text(record: &Record<'_>, format: AccessLogFormat) -> String {
        String::from_utf8(record.line(format)).expect("UTF-8")
    }

    #[test]
    fn both_forms() {
        let agent = HeaderValue::from_static("docker/27");
        let combined =
            "192.0.2.1 - - [06/Nov/1994:08:49:37 +0000] \"GET /v2/o/a HTTP/1.1\" 200 5 \"-\" \"docker/27\"\n";
        assert_eq!(text(&record("/v2/o/a", &agent), AccessLogFormat::Combined), combined);
        let line = text(&record("/v2/o/a", &agent), AccessLogFormat::Json);
        let value: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(
            value,
            json!({
                "time": "1994-11-06T08:49:37.000123Z", "request_id": "7", "trace_id": null,
                "client": "192.0.2.1", "method": "GET", "path": "/v2/o/a", "protocol": "HTTP/1.1",
                "status": 200, "received": 0, "sent": 5, "duration": 1.234_568, "first_byte": 0.002,
                "route": "blob", "repository": "o/a", "source": "zone=a",
                "cache": "quay-gateway; hit", "end": "whole", "user_agent": "docker/27",
            })
        );
    }

    #[test]
    fn no_client_can_write_a_line_or_a_field_of_its_own() {
        let agent = HeaderValue::from_bytes(b"a\"b\\ \xc2\x9b31m\xff\t").expect("a value");
        let hostile = record("/v2/\"\\\u{9b}", &agent);
        let combined = text(&hostile, AccessLogFormat::Combined);
        let expected =
            r#""GET /v2/\x22\x5C\xC2\x9B HTTP/1.1" 200 5 "-" "a\x22b\x5C \xC2\x9B31m\xEF\xBF\xBD\x09""#;
        assert!(combined.trim_end().ends_with(expected), "{combined}");
        let json = text(&hostile, AccessLogFormat::Json);
        assert!(!json.trim_end().contains(char::is_control), "{json:?}");
    }

    proptest! {
        #[test]
        fn one_request_is_one_line(agent in prop::collection::vec(any::<u8>(), 0..600), path in "\\PC{0,40}") {
            let Ok(agent) = HeaderValue::from_bytes(&agent) else { return Ok(()) };
            let record = record(&path, &agent);
            for format in [AccessLogFormat::Json, AccessLogFormat::Combined] {
                let line = text(&record, format);
                prop_assert_eq!(line.matches('\n').count(), 1);
                prop_assert!(line.len() < 4000);
            }
            let combined = text(&record, AccessLogFormat::Combined);
            prop_assert_eq!(combined.matches('"').count(), 6);
            let json: Value = serde_json::from_str(&text(&record, AccessLogFormat::Json)).expect("JSON");
            prop_assert_eq!(json["status"].as_u64(), Some(200));
        }
    }
}
