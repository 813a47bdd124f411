//! The certificates that clients see.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use certificates::{ServedCertificate, ServerTlsStatus};
use serde::{Deserialize, Serialize};

const SECONDS_OF_A_DAY: i64 = 24 * 60 * 60;

/// The served certificates, in the order of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificatesReport {
    /// The certificates.
    pub certificates: Vec<CertificateReport>,
    /// How often files were read again and taken.
    pub loaded: u64,
    /// How often files were read again and refused.
    pub refused: u64,
}

/// A served certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateReport {
    /// The first name of the certificate.
    pub name: String,
    /// The file with the certificate.
    pub file: String,
    /// From when it is valid (RFC 3339).
    pub not_before: String,
    /// Until when it and its chain are valid (RFC 3339).
    pub not_after: String,
    /// Whole days until then. Negative if it has expired.
    pub days_left: i64,
}

impl CertificatesReport {
    /// Creates the report at the time `now`.
    #[must_use]
    pub fn new(status: &ServerTlsStatus, now: SystemTime) -> Self {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        Self {
            certificates: status
                .certificates
                .iter()
                .map(|served| CertificateReport::new(served, now))
                .collect(),
            loaded: status.loaded,
            refused: status.refused,
        }
    }
}

impl CertificateReport {
    /// `now` is in seconds since 1970.
    fn new(served: &ServedCertificate, now: i64) -> Self {
        Self {
            name: served.name.clone(),
            file: served.file.display().to_string(),
            not_before: rfc3339(served.begins),
            not_after: rfc3339(served.expires),
            days_left: served.expires.saturating_sub(now).div_euclid(SECONDS_OF_A_DAY),
        }
    }
}

/// A time in seconds since 1970. Times before that are shown as 1970.
fn rfc3339(seconds: i64) -> String {
    let since = Duration::from_secs(seconds.try_into().unwrap_or(0));
    let time = UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH);
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_whole() {
        let days = |expires| {
            let served = ServedCertificate { name: "a".into(), file: "a.pem".into(), begins: 0, expires };
            CertificateReport::new(&served, 1_000_000).days_left
        };
        assert_eq!(days(1_000_000 + SECONDS_OF_A_DAY), 1);
        assert_eq!(days(1_000_000 + SECONDS_OF_A_DAY - 1), 0);
        assert_eq!(days(999_999), -1, "it has expired");
        assert_eq!(rfc3339(86_400), "1970-01-02T00:00:00Z");
    }
}
