//! The certificates of the gateway: makes a CA, issues and shows certificates, and says how clients trust them.

mod authority;
mod connect;
mod files;
mod issue;
mod secret;
mod show;
mod shown;
mod trust;

pub use authority::{CA_DAYS_MAX, CaRequest, create_ca};
pub use connect::served_by;
pub use issue::{DAYS_MAX, IssueRequest, NAMES_MAX, issue};
pub use secret::{SecretRequest, secret};
pub use show::{configured, file};
pub use shown::{Shown, json, text};
pub use trust::{HOSTS_MAX, TrustRequest, TrustedHost, ca_of, trust};

use std::time::Duration;

/// Days as a duration.
fn days(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * 24 * 3600)
}
