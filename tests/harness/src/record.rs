//! The record of the requests to a server.

use std::collections::VecDeque;
use std::time::Instant;

use http::{HeaderMap, Method, Request};
use parking_lot::Mutex;

/// The number of recorded requests. Older ones are dropped.
const REMEMBERED: usize = 20_000;

/// One request.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The method.
    pub method: Method,
    /// The path and query, byte for byte.
    pub target: String,
    /// The headers.
    pub headers: HeaderMap,
    /// When its headers were read.
    pub at: Instant,
}

impl Seen {
    /// The value of a header as text. Empty if there is no such header.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Whether it is a probe of the gateway.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        is_probe(&self.headers)
    }
}

/// Whether a request with these headers is a probe of the gateway, which only tests whether a server works.
#[must_use]
pub fn is_probe(headers: &HeaderMap) -> bool {
    headers.get("user-agent").is_some_and(|value| value.as_bytes().ends_with(b" (probe)"))
}

/// The last 20,000 requests to a server.
#[derive(Debug, Default)]
pub struct Record(Mutex<VecDeque<Seen>>);

impl Record {
    /// Records a request.
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

    /// All requests, oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Seen> {
        self.0.lock().iter().cloned().collect()
    }

    /// The requests with this method and with `part` in path and query, oldest first.
    #[must_use]
    pub fn of(&self, method: &Method, part: &str) -> Vec<Seen> {
        let requests = self.0.lock();
        requests.iter().filter(|seen| seen.method == method && seen.target.contains(part)).cloned().collect()
    }

    /// The number of requests with this method and with `part` in path and query.
    #[must_use]
    pub fn count(&self, method: &Method, part: &str) -> usize {
        let requests = self.0.lock();
        requests.iter().filter(|seen| seen.method == method && seen.target.contains(part)).count()
    }

    /// The reads with `part` in path and query, oldest first. Probes do not count.
    #[must_use]
    pub fn reads(&self, part: &str) -> Vec<Seen> {
        let mut reads = self.of(&Method::GET, part);
        reads.retain(|seen| !seen.is_probe());
        reads
    }

    /// Clears the record.
    pub fn clear(&self) {
        self.0.lock().clear();
    }
}
