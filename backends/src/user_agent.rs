//! How the gateway names itself, so that an access log tells its probes from its reads.

use http::HeaderValue;

/// What stores see as `User-Agent` (RFC 9110, 10.1.5) of every other request.
const READS_AND_WRITES: HeaderValue =
    HeaderValue::from_static(concat!("quay-gateway/", env!("CARGO_PKG_VERSION")));

/// What a server sees as `User-Agent` of a request that only looks whether it serves.
pub const PROBES: HeaderValue =
    HeaderValue::from_static(concat!("quay-gateway/", env!("CARGO_PKG_VERSION"), " (probe)"));

tokio::task_local! {
    static IS_PROBE: ();
}

/// Runs `work`; every request to a store that it sends says that it is a probe.
pub async fn as_probe<F: Future>(work: F) -> F::Output {
    IS_PROBE.scope((), work).await
}

/// The `User-Agent` of a request that is sent here and now.
pub(crate) fn user_agent() -> HeaderValue {
    if IS_PROBE.try_with(|()| ()).is_ok() { PROBES } else { READS_AND_WRITES }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_probe_says_so() {
        let (probe, read) = (as_probe(async { user_agent() }).await, user_agent());
        assert_ne!(probe, read);
        assert!(
            probe.to_str().is_ok_and(|text| text.starts_with("quay-gateway/") && text.ends_with(" (probe)"))
        );
    }
}
