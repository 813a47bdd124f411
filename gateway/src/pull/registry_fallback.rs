//! The registry fallback: if no zone has a blob, the gateway fetches it as the registry tells its clients to.
//! This serves legacy keys, proxy-cache organisations and stores outside the configuration.

use http::request::Parts;
use http::{Response, StatusCode};
use zone_router::{Blob, Verified};

use super::fill::Opened;
use crate::Gateway;
use crate::authorize;
use crate::forward;
use crate::request::Client;
use gateway_http::{Body, Problem};
use registry::upstream::StoreUse;
use registry::{BlobRequest, FetchError, FetchedBlob, Origin};

/// The answer of the registry.
pub(crate) enum Fetched {
    /// The blob.
    Blob(Opened),
    /// An answer of the registry that is not a blob. It is passed to the client as it is.
    Relay(Response<Body>),
}

/// Asks the registry for a blob with the client's own headers, and follows its redirects without them.
///
/// # Errors
/// - 502 or 504 if the registry gives no answer, or its redirects do not lead to a blob.
/// - 502 if the store to which it redirects does not return the blob, or returns it in another size.
pub(crate) async fn fetch(
    gateway: &Gateway,
    request: &Parts,
    blob: &Blob,
    expected: Option<u64>,
    client: &Client,
) -> Result<Fetched, Problem> {
    let asked = BlobRequest {
        who: client.identity,
        // An instance answers with a URL of the store that it prefers, whether that store works or not.
        order: gateway.order_by_store(StoreUse::Reads, None),
        path: forward::path(request)?,
        headers: authorize::unconditional(forward::headers(gateway, request, client)),
        bound: gateway.settings.timeouts.registry_first_pull,
    };
    match gateway.client.fetch(asked).await {
        Ok(fetched) => opened(fetched, blob, expected).map(Fetched::Blob),
        Err(FetchError::Refused(answer)) => Ok(Fetched::Relay(forward::relay(gateway, *answer, client))),
        Err(FetchError::Unanswered(problem)) => Err(problem),
        Err(FetchError::Store { place, error }) => Err(elsewhere(blob, &place, &error)),
        Err(error) => Err(Problem::registry(StatusCode::BAD_GATEWAY, error.to_string())),
    }
}

fn opened(fetched: FetchedBlob, blob: &Blob, expected: Option<u64>) -> Result<Opened, Problem> {
    let FetchedBlob { body, size, from } = fetched;
    let contradiction = contradiction(blob, size, expected);
    let from = match (from, contradiction) {
        (Origin::Registry(_), None) => "registry",
        (Origin::Store(_), None) => "registry-redirect",
        (Origin::Registry(_), Some(why)) => {
            return Err(Problem::zones(format!("no zone has the blob, and from the registry {why}")));
        }
        (Origin::Store(place), Some(why)) => return Err(elsewhere(blob, &place, &why)),
    };
    let size = size.or(expected);
    Ok(Opened { from: from.into(), body: Verified::hashing(body, blob.digest, size) })
}

/// The answer if a place outside the configuration does not return the blob. The reason is only logged,
/// because a client may have made the registry redirect there to learn it.
fn elsewhere(blob: &Blob, place: &str, why: &dyn std::fmt::Display) -> Problem {
    let why = why.to_string();
    tracing::warn!(digest = %blob.digest, host = place, why, "the store that the registry points to does not give a blob");
    Problem::zones("no zone has the blob, and the place that the registry points to does not give it")
}

fn contradiction(blob: &Blob, size: Option<u64>, expected: Option<u64>) -> Option<String> {
    let size = size?;
    match expected {
        Some(expected) if size != expected => Some(format!("it gives {size} bytes, not {expected}")),
        _ => (!blob.digest.may_have(size))
            .then(|| format!("it gives {size} bytes, which the digest rules out")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_may_contradict_the_registry_or_the_digest() {
        let blob = |digest| Blob { digest, key: backends::Key::new("k") };
        let (full, empty) = (blob(backends::Digest::of(b"hello")), blob(backends::Digest::EMPTY));
        for (blob, size, expected, contradicts) in [
            (&full, Some(5), None, false),
            (&full, Some(5), Some(5), false),
            (&full, Some(4), Some(5), true),
            (&full, Some(0), None, true),
            (&full, Some(0), Some(0), true),
            (&full, None, Some(5), false),
            (&empty, Some(0), None, false),
            (&empty, Some(5), None, true),
        ] {
            assert_eq!(contradiction(blob, size, expected).is_some(), contradicts, "{size:?} {expected:?}");
        }
    }
}
