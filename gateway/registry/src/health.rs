//! What an instance reports about its health. Pure.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::Deserialize;

use config::RegistryKind;

/// The service of Quay that checks its preferred store (`HEALTH_CHECKER_INSTANCE_CHECK_PREFERRED_STORAGE`). It is
/// ignored, because the gateway probes the stores itself.
const STORE: &str = "preferred_storage";

/// The services of Quay without which it answers no pull: it reads everything from its database, `registry_gunicorn` serves
/// `/v2/`, and without the service key its tokens are not accepted.
const NEEDED: [&str; 3] = ["database", "registry_gunicorn", "service_key"];

/// The meaning of an answer of `/health/instance` (Quay) or `/v2/` (distribution).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// The instance itself reports that it serves.
    Serves,
    /// The answer is no error, but a proxy in front of the instance may have given it. It says nothing about the
    /// instance.
    NotItsOwn,
    /// These services of the instance fail. The list is empty if the report names none.
    Fails(Vec<String>),
    /// An error that is not a report of Quay.
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
    /// Quay answers 503 if one of its services fails, and names that service. Whichever service it is, Quay means that no
    /// load balancer should send requests to it.
    #[must_use]
    pub fn of(kind: RegistryKind, status: StatusCode, body: &[u8]) -> Self {
        let report = serde_json::from_slice::<Report>(body).ok().filter(|_| kind == RegistryKind::Quay);
        if !status.is_server_error() {
            // A registry that asks for a token works. So does a proxy that does not forward this path.
            let its_own = match kind {
                RegistryKind::Quay => status == StatusCode::OK && report.is_some(),
                RegistryKind::Distribution | RegistryKind::Oci => true,
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

    /// Whether the report says that the instance cannot answer pulls. A report that names no service counts as that. With
    /// only its disk full or its web pages gone, Quay still answers them.
    #[must_use]
    pub fn is_down(failing: &[String]) -> bool {
        failing.is_empty() || failing.iter().any(|name| NEEDED.contains(&name.as_str()))
    }
}
