//! The served certificates in the admin API.

use std::time::SystemTime;

use operations::reports::CertificatesReport;

use super::answer::{Answer, json};
use crate::Gateway;

/// The certificates that clients see, and until when.
pub(super) fn certificates(gateway: &Gateway) -> Answer {
    json(&CertificatesReport::new(&gateway.server_tls.status(), SystemTime::now()))
}
