//! Metrics of the keys that verify tokens, read at the time of a scrape.

use std::fmt;

use super::families::Families;

/// The number of keys that verify tokens now; `None` if tokens are not verified.
pub(super) fn encode(families: &mut Families<'_>, keys: Option<usize>) -> fmt::Result {
    let help =
        "Keys that verify the registry's tokens now; without any, the registry is asked for each credential";
    families.gauge("token_keys", help, keys.unwrap_or(0) as u64)
}
