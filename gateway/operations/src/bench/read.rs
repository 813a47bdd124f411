//! One read, and what came of it.

use std::sync::Arc;
use std::time::Duration;

use backends::Digest;
use zone_router::SizeClass;

/// By which way bytes came, as the result tells them apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Series {
    /// A zone's store itself.
    Zone(Arc<str>),
    /// The registry, and the store that it points to.
    Registry,
    /// The gateway, the first time in this run.
    GatewayFirst,
    /// The gateway, again.
    GatewayLater,
}

impl Series {
    /// For programs: `zone`, `registry`, `gateway-first` or `gateway-later`.
    #[must_use]
    pub fn path(&self) -> &'static str {
        match self {
            Self::Zone(_) => "zone",
            Self::Registry => "registry",
            Self::GatewayFirst => "gateway-first",
            Self::GatewayLater => "gateway-later",
        }
    }

    /// The zone, if it is one.
    #[must_use]
    pub fn zone(&self) -> Option<&str> {
        match self {
            Self::Zone(name) => Some(name),
            _ => None,
        }
    }

    /// Whether it is the gateway's.
    #[must_use]
    pub fn is_gateway(&self) -> bool {
        matches!(self, Self::GatewayFirst | Self::GatewayLater)
    }
}

/// How a read ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Whole, and its digest is right.
    Right,
    /// The zone does not have the blob.
    Absent,
    /// Whole, but these are other bytes.
    Wrong,
    /// It broke, and why.
    Failed(String),
}

impl Outcome {
    /// For programs.
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

/// One read of one blob by one way.
#[derive(Debug, Clone)]
pub struct Read {
    /// By which way.
    pub series: Series,
    /// The class of the blob's size.
    pub class: SizeClass,
    /// The blob.
    pub digest: Digest,
    /// Reads of one turn begin at the same moment.
    pub turn: u32,
    /// From the request to the first byte, if one came.
    pub first_byte: Option<Duration>,
    /// From the request to the end, whatever it was.
    pub whole: Duration,
    /// Bytes that came.
    pub bytes: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// `Cache-Status`, or host and port of the store that gave it.
    pub told: Option<String>,
}

impl Read {
    /// Whether it came from the gateway's cache (RFC 9211, 2.1).
    #[must_use]
    pub fn is_hit(&self) -> bool {
        let told = self.told.as_deref().filter(|_| self.series.is_gateway()).unwrap_or_default();
        told.split(',').any(|by| by.split(';').skip(1).any(|parameter| parameter.trim() == "hit"))
    }

    /// Whether something is wrong with the way that it came by.
    #[must_use]
    pub fn went_wrong(&self) -> bool {
        matches!(self.outcome, Outcome::Wrong | Outcome::Failed(_))
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
        outcome: Outcome::Right,
        told: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_is_the_gateways_word() {
        let hit = |series: Series, told: &str| {
            let read = example(series, SizeClass::Small, 0, 1, 1);
            Read { told: Some(told.to_owned()), ..read }.is_hit()
        };
        assert!(hit(Series::GatewayLater, "quay-gateway; hit"));
        assert!(!hit(Series::GatewayLater, r#"quay-gateway; fwd=miss; stored; detail="zone=hit""#));
        assert!(!hit(Series::Registry, "quay-gateway; hit"));
    }
}
