//! The `User-Agent` of the gateway, so that an access log shows which requests are probes.

use http::HeaderValue;

/// The `User-Agent` (RFC 9110, 10.1.5) of every request that is not a probe.
const READS_AND_WRITES: HeaderValue =
    HeaderValue::from_static(concat!("quay-gateway/", env!("CARGO_PKG_VERSION")));

/// The `User-Agent` of a request that only tests whether a server works.
pub const PROBES: HeaderValue =
    HeaderValue::from_static(concat!("quay-gateway/", env!("CARGO_PKG_VERSION"), " (probe)"));

tokio::task_local! {
    static IS_PROBE: ();
}

/// Runs `work`. Every request to a store within it has the `User-Agent` of a probe.
pub async fn as_probe<F: Future>(work: F) -> F::Output {
    IS_PROBE.scope((), work).await
}

/// The `User-Agent` for a request that is sent from the current task.
pub(crate) fn user_agent() -> HeaderValue {
    if IS_PROBE.try_with(|()| ()).is_ok() { PROBES } else { READS_AND_WRITES }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_probe_has_its_own_user_agent() {
        let (probe, read) = (as_probe(async { user_agent() }).await, user_agent());
        assert_ne!(probe, read);
        assert!(
            probe.to_str().is_ok_and(|text| text.starts_with("quay-gateway/") && text.ends_with(" (probe)"))
        );
    }
}
