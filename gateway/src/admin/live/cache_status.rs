//! Reads the gateway's own `Cache-Status` (RFC 9211). Pure.

/// The beginning of the gateway's own field.
const OWN: &str = "quay-gateway; ";

/// What `Cache-Status` says of an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct CacheStatus<'a> {
    /// `hit`, `zone=NAME`, `registry` or `registry-redirect`. `None` if the answer is not that of a blob.
    pub(super) source: Option<&'a str>,
    /// Whether another request had begun to fill the cache with the blob.
    pub(super) collapsed: bool,
    /// Whether the cache keeps the blob.
    pub(super) stored: bool,
    /// Why the cache does not keep the blob.
    pub(super) not_stored: Option<&'a str>,
}

impl<'a> CacheStatus<'a> {
    /// Parses the field of an answer. Fields of other servers say nothing.
    pub(super) fn parse(field: &'a str) -> Self {
        let Some(parameters) = field.strip_prefix(OWN) else { return Self::default() };
        if parameters == "hit" {
            return Self { source: Some("hit"), ..Self::default() };
        }
        let detail = parameters.split_once("detail=\"").map(|(_, rest)| rest.trim_end_matches('"'));
        let (source, not_stored) = match detail.and_then(|detail| detail.split_once(", not stored: ")) {
            Some((source, why)) => (Some(source), Some(why)),
            None => (detail, None),
        };
        let has = |name: &str| parameters.split("; ").any(|parameter| parameter == name);
        Self { source, collapsed: has("collapsed"), stored: has("stored"), not_stored }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_field_is_read() {
        let hit = CacheStatus { source: Some("hit"), ..CacheStatus::default() };
        assert_eq!(CacheStatus::parse("quay-gateway; hit"), hit);
        let joined = CacheStatus::parse("quay-gateway; fwd=miss; collapsed; stored; detail=\"zone=a\"");
        let expected =
            CacheStatus { source: Some("zone=a"), collapsed: true, stored: true, ..CacheStatus::default() };
        assert_eq!(joined, expected);
        let passed = CacheStatus::parse("quay-gateway; fwd=miss; detail=\"registry, not stored: busy\"");
        let expected =
            CacheStatus { source: Some("registry"), not_stored: Some("busy"), ..CacheStatus::default() };
        assert_eq!(passed, expected);
    }

    #[test]
    fn other_fields_say_nothing() {
        for field in ["-", "", "quay-gateway; fwd=miss", "cdn; hit", "quay-gateway"] {
            assert_eq!(CacheStatus::parse(field), CacheStatus::default(), "{field}");
        }
    }
}
