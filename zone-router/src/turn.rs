//! The turns of a read: where it left the straight way from one zone to its client.

use std::fmt::Debug;
use std::sync::Arc;

use backends::Digest;

/// One turn of a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// What happened.
    pub kind: TurnKind,
    /// The zone that it happened to.
    pub zone: Arc<str>,
}

/// The kinds of turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnKind {
    /// The zone was asked as a hedge, because another zone's headers were late.
    Hedged,
    /// The zone was asked as a hedge and answered first.
    HedgeWon,
    /// The zone was asked because another zone's headers were overdue.
    Replaced,
    /// The zone failed before its first byte.
    Failed,
    /// The zone continues a body that broke off.
    Resumed,
}

impl TurnKind {
    /// The kind in one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hedged => "hedged",
            Self::HedgeWon => "hedge-won",
            Self::Replaced => "replaced",
            Self::Failed => "failed",
            Self::Resumed => "resumed",
        }
    }
}

/// Learns of the turns of all reads. It is called on the path of the read, so it must not wait.
pub trait TurnObserver: Debug + Send + Sync {
    /// The read of this blob took a turn.
    fn turned(&self, digest: &Digest, turn: Turn);
}
