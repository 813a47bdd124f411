//! Measures how long this process left a body unread. Pure: times are passed in.

use std::time::Duration;

use crate::wait::Waited;

/// Stores close connections on which nothing is read for long. If this process left a body unread for this long and the
/// body then breaks, the zone is not the cause.
const LEFT_UNREAD: Duration = Duration::from_secs(5);

/// More bytes than kernels and drivers buffer between a store and this process. After this many bytes, the store must
/// have written again.
const BETWEEN: u64 = 16 << 20;

/// How long one body was left unread, over its latest bytes.
#[derive(Debug, Default)]
pub(crate) struct LeftUnread {
    lately: Duration,
    /// How long it was left unread over the bytes before those.
    before: Duration,
    bytes: u64,
}

impl LeftUnread {
    /// Records that the next piece was not asked for during `idle`, and was then waited for.
    pub(crate) fn waited(&mut self, idle: Duration, waited: &Waited) {
        self.lately += idle + waited.until_taken;
    }

    /// Records that a piece arrived.
    pub(crate) fn came(&mut self, bytes: u64) {
        self.bytes += bytes;
        if self.bytes >= BETWEEN {
            (self.before, self.lately, self.bytes) = (self.lately, Duration::ZERO, 0);
        }
    }

    /// Whether the unread time alone may be the cause if the body breaks after this wait.
    pub(crate) fn excuses(&self, waited: &Waited) -> bool {
        self.before + self.lately >= LEFT_UNREAD && waited.until_ready < LEFT_UNREAD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NONE: Waited = Waited { until_ready: Duration::ZERO, until_taken: Duration::ZERO };

    #[test]
    fn what_lies_between_is_read_before_the_break_is_met() {
        let mut unread = LeftUnread::default();
        unread.waited(60 * SECOND, &NONE);
        for _ in 0..BETWEEN / 65536 {
            unread.waited(Duration::ZERO, &NONE);
            unread.came(65536);
            assert!(unread.excuses(&NONE));
        }
        (0..BETWEEN / 65536).for_each(|_| unread.came(65536));
        assert!(!unread.excuses(&NONE), "the store has written since");
    }

    #[test]
    fn many_short_pauses_are_a_long_one() {
        let mut unread = LeftUnread::default();
        for _ in 0..4 {
            unread.waited(SECOND, &NONE);
            unread.came(16 << 10);
        }
        assert!(!unread.excuses(&NONE));
        unread.waited(Duration::ZERO, &Waited { until_ready: Duration::ZERO, until_taken: SECOND });
        assert!(unread.excuses(&NONE));
        assert!(
            !unread.excuses(&Waited { until_ready: LEFT_UNREAD, until_taken: Duration::ZERO }),
            "we waited in vain"
        );
    }

    #[test]
    fn who_reads_quickly_excuses_nothing() {
        let mut unread = LeftUnread::default();
        for _ in 0..10_000 {
            unread.waited(SECOND / 200, &NONE);
            unread.came(64 << 10);
        }
        assert!(!unread.excuses(&NONE), "13 MB a second");
    }
}
