//! What a server was asked.

use std::collections::VecDeque;
use std::time::Instant;

use http::{HeaderMap, Method, Request};
use parking_lot::Mutex;

/// Requests remembered; older ones go.
const REMEMBERED: usize = 20_000;

/// One request as it came in.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its method.
    pub method: Method,
    /// Path and query, byte for byte.
    pub target: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// When its headers had been read.
    pub at: Instant,
}

impl Seen {
    /// A header as text, or nothing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Whether it is a probe of the gateway's.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        is_probe(&self.headers)
    }
}

/// Whether a request with these headers is a probe of the gateway's, which only looks whether a server
/// serves.
#[must_use]
pub fn is_probe(headers: &HeaderMap) -> bool {
    headers.get("user-agent").is_some_and(|value| value.as_bytes().ends_with(b" (probe)"))
}

/// The last 20,000 requests of a server.
#[derive(Debug, Default)]
pub struct Record(Mutex<VecDeque<Seen>>);

impl Record {
    /// Remembers a request.
    pub fn note<B>(&self, request: &Request<B>) {
        let seen = Seen {
            method: request.method().clone(),
            target: request.uri().path_and_query().map_or_else(|| "/".into(), ToString::to_string),
            headers: request.headers().clone(),
            at: Instant::now(),
        };
        let mut requests = self.0.lock();
        if requests.len() == REMEMBERED {
            requests.pop_front();
        }
        requests.push_back(seen);
    }

    /// All of them, oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Seen> {
        self.0.lock().iter().cloned().collect()
    }

    /// Those of `method` with `part` in path and query, oldest first.
    #[must_use]
    pub fn of(&self, method: &Method, part: &str) -> Vec<Seen> {
        let requests = self.0.lock();
        requests.iter().filter(|seen| seen.method == method && seen.target.contains(part)).cloned().collect()
    }

    /// How many there were of `method` with `part` in path and query.
    #[must_use]
    pub fn count(&self, method: &Method, part: &str) -> usize {
        let requests = self.0.lock();
        requests.iter().filter(|seen| seen.method == method && seen.target.contains(part)).count()
    }

    /// Reads of what has `part` in path and query, oldest first; probes are none.
    #[must_use]
    pub fn reads(&self, part: &str) -> Vec<Seen> {
        let mut reads = self.of(&Method::GET, part);
        reads.retain(|seen| !seen.is_probe());
        reads
    }

    /// Forgets them.
    pub fn clear(&self) {
        self.0.lock().clear();
    }
}
