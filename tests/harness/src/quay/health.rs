//! Health (`endpoints/web.py`, `health/`).

use http::StatusCode;

use super::answer::{QuayAnswer, json, not_found};
use super::{Delivery, Instance};
use crate::body::full;

/// The object that Quay writes to test a store (`storage/basestorage.py:validate`).
const VERIFY: &[u8] = b"testing 123";

pub(super) async fn answer(quay: &Instance, which: &str, broken: bool) -> QuayAnswer {
    let up = !broken;
    let (good, services) = match which {
        // This report does not include the storage and Redis.
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

/// Writes to every zone. If one write fails, the result is bad. `LocalStorage` is good only on a mount of its
/// own, as in a container.
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

/// nginx's own answer. It says nothing about Quay, and has two Content-Types.
pub(super) fn v1_ping() -> QuayAnswer {
    QuayAnswer::new(StatusCode::OK, "application/octet-stream", full("true"))
        .with("content-type", "text/plain")
        .with("x-docker-registry-version", "0.6.0")
        .with("x-docker-registry-standalone", "0")
}
