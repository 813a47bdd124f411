//! Metrics of the certificates that clients see.

use std::fmt;

use certificates::ServerTlsStatus;

use super::families::Families;

pub(super) fn encode(families: &mut Families<'_>, status: &ServerTlsStatus) -> fmt::Result {
    let ends = status.certificates.iter().map(|served| {
        // A file is named once in the configuration, so no series is there twice.
        ([("certificate", served.name.clone()), ("file", served.file.display().to_string())], served.expires)
    });
    let help =
        "When a certificate of the gateway, or another one of its chain, expires, in seconds since 1970";
    families.gauges("certificate_expiry_timestamp_seconds", help, ends)?;
    let counts = [("loaded", status.loaded), ("refused", status.refused)];
    let help = "Certificates and CAs of clients that were read again, by whether they were taken";
    families.counters(
        "certificate_reloads",
        help,
        counts.map(|(outcome, count)| ([("outcome", outcome)], count)),
    )
}
