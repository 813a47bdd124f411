//! Decides how large the pieces of a connection's answers are. Pure.

use std::time::Duration;

use gateway_http::{PIECE_MAX, PIECE_MIN};

/// A piece is at most this part of the bytes that the client took since its last standstill.
const PART: u64 = 16;

/// If a client takes no bytes for this long, it stands still. A client that needs this long for half of the kernel's
/// unsent bytes is slower than about 1 MiB/s, and small pieces cost it little.
pub(super) const STANDSTILL: Duration = Duration::from_millis(200);

/// The pace at which a client takes bytes.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The bytes taken since the last standstill.
    taken: u64,
}

impl Pace {
    /// Records that the client took bytes, after its socket had taken none for `waited`.
    pub(super) fn took(&mut self, bytes: usize, waited: Duration) {
        if waited >= STANDSTILL {
            self.taken = 0;
        }
        self.taken = self.taken.saturating_add(bytes as u64);
    }

    /// The size of the next piece, in bytes. It is a power of two.
    pub(super) fn piece(&self) -> usize {
        let part = usize::try_from(self.taken / PART).unwrap_or(PIECE_MAX).clamp(PIECE_MIN, PIECE_MAX);
        1 << part.ilog2()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pieces_grow_as_they_are_taken_and_shrink_at_a_standstill() {
        let mut pace = Pace::default();
        let mut pieces = vec![pace.piece()];
        while pace.piece() < PIECE_MAX {
            pace.took(pace.piece(), Duration::ZERO);
            if pieces.last() != Some(&pace.piece()) {
                pieces.push(pace.piece());
            }
        }
        assert_eq!(pieces, [16, 32, 64, 128, 256].map(|kib| kib * 1024));
        pace.took(1, STANDSTILL);
        assert_eq!(pace.piece(), PIECE_MIN);
    }

    proptest! {
        /// If a client stands still between bursts, its pieces are never larger than a part of one burst.
        #[test]
        fn bursts_are_not_trusted(burst in 1..4_000_000_usize, bursts in 1..50_usize) {
            let mut pace = Pace::default();
            for _ in 0..bursts {
                pace.took(burst, STANDSTILL);
                let piece = pace.piece();
                prop_assert!(piece.is_power_of_two() && (PIECE_MIN..=PIECE_MAX).contains(&piece));
                prop_assert!(piece as u64 <= (burst as u64 / PART).max(PIECE_MIN as u64));
            }
        }
    }
}
