//! Metrics of the certificates that clients see.

use std::fmt;

use certificates::{ServedCertificate, ServerTlsStatus};

use super::families::Families;

pub(super) fn encode(families: &mut Families<'_>, status: &ServerTlsStatus) -> fmt::Result {
    let dates = |date: fn(&ServedCertificate) -> i64| {
        status.certificates.iter().map(move |served| {
            // A file is named once in the configuration, so no series is there twice.
            (
                [("certificate", served.name.clone()), ("file", served.file.display().to_string())],
                date(served),
            )
        })
    };
    let help =
        "When a certificate of the gateway, or another one of its chain, expires, in seconds since 1970";
    families.gauges("certificate_expiry_timestamp_seconds", help, dates(|served| served.expires))?;
    let help = "From when a certificate of the gateway is valid, in seconds since 1970";
    families.gauges("certificate_start_timestamp_seconds", help, dates(|served| served.begins))?;
    let counts = [("loaded", status.loaded), ("refused", status.refused)];
    let help = "Certificates and CAs of clients that were read again, by whether they were taken";
    families.counters(
        "certificate_reloads",
        help,
        counts.map(|(outcome, count)| ([("outcome", outcome)], count)),
    )
}
