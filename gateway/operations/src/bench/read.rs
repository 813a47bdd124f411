//! One read of a blob and its outcome.

use std::sync::Arc;
use std::time::Duration;

use backends::Digest;
use zone_router::SizeClass;

/// A series of reads in the results, by path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Series {
    /// From the store of the zone of this name.
    Zone(Arc<str>),
    /// From the registry and the store to which it redirects.
    Registry,
    /// Through the gateway, for the first time in this run.
    GatewayFirst,
    /// Through the gateway, again.
    GatewayLater,
}

impl Series {
    /// The name in JSON and CSV: `zone`, `registry`, `gateway-first` or `gateway-later`.
    #[must_use]
    pub fn path(&self) -> &'static str {
        match self {
            Self::Zone(_) => "zone",
            Self::Registry => "registry",
            Self::GatewayFirst => "gateway-first",
            Self::GatewayLater => "gateway-later",
        }
    }

    /// The zone, if the series is of one.
    #[must_use]
    pub fn zone(&self) -> Option<&str> {
        match self {
            Self::Zone(name) => Some(name),
            _ => None,
        }
    }

    /// Whether the reads are through the gateway.
    #[must_use]
    pub fn is_gateway(&self) -> bool {
        matches!(self, Self::GatewayFirst | Self::GatewayLater)
    }
}

/// The outcome of a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadOutcome {
    /// The whole blob came, and its digest matches.
    Right,
    /// The zone does not have the blob.
    Absent,
    /// A whole body came, but its digest does not match.
    Wrong,
    /// The read failed, for this reason.
    Failed(String),
}

impl ReadOutcome {
    /// The name in CSV.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Absent => "absent",
            Self::Wrong => "wrong bytes",
            Self::Failed(_) => "failed",
        }
    }
}

/// One read of one blob by one path.
#[derive(Debug, Clone)]
pub struct Read {
    /// The series to which it belongs.
    pub series: Series,
    /// The size class of the blob.
    pub class: SizeClass,
    /// The blob.
    pub digest: Digest,
    /// The number of the turn. Reads of one turn begin at the same time.
    pub turn: u32,
    /// The time from the request to the first byte, if one came.
    pub first_byte: Option<Duration>,
    /// The time from the request to the end of the read.
    pub whole: Duration,
    /// The bytes that came.
    pub bytes: u64,
    /// The outcome.
    pub outcome: ReadOutcome,
    /// The `Cache-Status` header, or the host and port of the store that sent the body.
    pub source: Option<String>,
}

impl Read {
    /// Whether the body came from the gateway's cache (RFC 9211, 2.1).
    #[must_use]
    pub fn is_hit(&self) -> bool {
        let source = self.source.as_deref().filter(|_| self.series.is_gateway()).unwrap_or_default();
        source.split(',').any(|by| by.split(';').skip(1).any(|parameter| parameter.trim() == "hit"))
    }

    /// Whether the read failed or returned wrong bytes.
    #[must_use]
    pub fn went_wrong(&self) -> bool {
        matches!(self.outcome, ReadOutcome::Wrong | ReadOutcome::Failed(_))
    }
}

#[cfg(test)]
pub(super) fn example(series: Series, class: SizeClass, turn: u32, ms: u64, bytes: u64) -> Read {
    let whole = Duration::from_millis(ms);
    Read {
        series,
        class,
        digest: Digest::EMPTY,
        turn,
        first_byte: Some(whole / 2),
        whole,
        bytes,
        outcome: ReadOutcome::Right,
        source: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_gateways_cache_status_counts_as_a_hit() {
        let hit = |series: Series, source: &str| {
            let read = example(series, SizeClass::Small, 0, 1, 1);
            Read { source: Some(source.to_owned()), ..read }.is_hit()
        };
        assert!(hit(Series::GatewayLater, "quay-gateway; hit"));
        assert!(!hit(Series::GatewayLater, r#"quay-gateway; fwd=miss; stored; detail="zone=hit""#));
        assert!(!hit(Series::Registry, "quay-gateway; hit"));
    }
}
