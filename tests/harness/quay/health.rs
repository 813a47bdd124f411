//! Health (`endpoints/web.py`, `health/`).

use http::StatusCode;

use super::answer::{Answer, json, not_found};
use super::{Delivery, Instance};
use crate::body::full;

/// What Quay writes to see that a store takes something (`storage/basestorage.py:validate`).
const VERIFY: &[u8] = b"testing 123";

pub(super) async fn answer(quay: &Instance, which: &str, broken: bool) -> Answer {
    let up = !broken;
    let (good, services) = match which {
        // Storage and redis are not in it.
        "instance" => (
            up,
            format!(
                r#""auth":{up},"database":{up},"disk_space":true,"registry_gunicorn":true,"service_key":true,"web_gunicorn":true"#
            ),
        ),
        "endtoend" => {
            let storage = storage(quay).await;
            (up && storage, format!(r#""auth":{up},"database":{up},"redis":true,"storage":{storage}"#))
        }
        "warning" => (true, r#""disk_space_warning":true"#.to_owned()),
        _ => return not_found(),
    };
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &format!(r#"{{"data":{{"services":{{{services}}}}},"status_code":{}}}"#, status.as_u16()))
        .with("cache-control", "no-cache, no-store, must-revalidate")
        .with("vary", "Cookie")
}

/// Writes to every zone; one that does not take it makes it bad. `LocalStorage` is good on a
/// mount of its own only, as a container has it.
async fn storage(quay: &Instance) -> bool {
    if quay.delivery == Delivery::Stream {
        return false;
    }
    for zone in &quay.zones {
        if zone.put_bytes(&quay.http, &zone.key_of("_verify"), VERIFY.to_vec()).await.is_err() {
            return false;
        }
    }
    true
}

/// nginx's own answer; it says nothing about Quay, and has two Content-Types.
pub(super) fn v1_ping() -> Answer {
    Answer::new(StatusCode::OK, "application/octet-stream", full("true"))
        .with("content-type", "text/plain")
        .with("x-docker-registry-version", "0.6.0")
        .with("x-docker-registry-standalone", "0")
}
