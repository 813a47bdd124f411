//! What clients got, in the admin API.

use super::answer::{Answer, json};
use crate::Gateway;

/// Requests, and bodies of blobs by where they came from, since the start.
pub(super) fn traffic(gateway: &Gateway) -> Answer {
    json(&gateway.traffic.report())
}
