//! What an instance says of its health. Pure.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::Deserialize;

use config::RegistryKind;

/// The one of Quay's services that is about its preferred store
/// (`HEALTH_CHECKER_INSTANCE_CHECK_PREFERRED_STORAGE`). It is ignored: the gateway probes the stores itself.
const STORE: &str = "preferred_storage";

/// What an answer of `/health/instance` of Quay, or of `/v2/` of distribution, says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// The instance itself says that it serves.
    Serves,
    /// No error, but perhaps of a proxy before the instance, which says nothing about what is behind it.
    NotItsOwn,
    /// These services of the instance fail, or it names none.
    Fails(Vec<String>),
    /// An error that is no report of Quay's.
    Error,
}

/// Quay's report of its health (`endpoints/web.py`, `health/`).
#[derive(Deserialize)]
struct Report {
    data: ReportData,
}

#[derive(Deserialize)]
struct ReportData {
    services: BTreeMap<String, bool>,
}

impl Health {
    /// The meaning of an answer.
    ///
    /// Quay answers 503 if one of its services fails, and names that service. Without its database it can do
    /// nothing, with `registry_gunicorn` false it does not serve `/v2/`, with `service_key` false its tokens are
    /// not accepted. Whichever service it is, Quay means that no load balancer should send requests to it.
    #[must_use]
    pub fn of(kind: RegistryKind, status: StatusCode, body: &[u8]) -> Self {
        let report = serde_json::from_slice::<Report>(body).ok().filter(|_| kind == RegistryKind::Quay);
        if !status.is_server_error() {
            // A registry that asks for a token works, and so does a proxy that does not forward this path.
            let its_own = match kind {
                RegistryKind::Quay => status == StatusCode::OK && report.is_some(),
                RegistryKind::Distribution => true,
            };
            return if its_own { Self::Serves } else { Self::NotItsOwn };
        }
        let Some(report) = report.filter(|_| status == StatusCode::SERVICE_UNAVAILABLE) else {
            return Self::Error;
        };
        let services = report.data.services.into_iter();
        let failing: Vec<_> = services.filter(|(_, good)| !good).map(|(name, _)| name).collect();
        match failing.as_slice() {
            [only] if only == STORE => Self::Serves,
            _ => Self::Fails(failing),
        }
    }
}
