//! Whether a certificate expires soon. Pure.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::facts::CertificateFacts;

const DAY: i64 = 24 * 3600;

/// From how long before its end a certificate is reported, in seconds.
const SOON: i64 = 30 * DAY;

/// A certificate with a short life is reported when this part of it is left, because it is renewed later: cert-manager
/// renews when a third is left.
const SOON_PART: i64 = 4;

/// How much time a certificate has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeLeft {
    /// It is not valid yet.
    NotYet,
    /// It is valid for this many whole days.
    Days(i64),
    /// It is valid for this many whole days, which are few: it should be renewed now.
    FewDays(i64),
    /// It has expired.
    Expired,
}

impl TimeLeft {
    /// The time that is left at `now`, in seconds since 1970, of a certificate that is valid from `not_before` until
    /// `not_after`.
    #[must_use]
    pub fn at(now: i64, not_before: i64, not_after: i64) -> Self {
        let left = not_after.saturating_sub(now);
        let soon = SOON.min(not_after.saturating_sub(not_before) / SOON_PART);
        match left {
            _ if left < 0 => Self::Expired,
            _ if now < not_before => Self::NotYet,
            _ if left < soon => Self::FewDays(left / DAY),
            _ => Self::Days(left / DAY),
        }
    }

    /// The time that is left now of a chain that ends at `expires`, in seconds since 1970.
    #[must_use]
    pub fn until(expires: i64, leaf: &CertificateFacts) -> Self {
        Self::at(now(), leaf.not_before, expires)
    }

    /// The time that is left of a certificate now.
    #[must_use]
    pub fn of(facts: &CertificateFacts) -> Self {
        Self::at(now(), facts.not_before, facts.not_after)
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_days_are_few_unless_the_whole_life_is_short() {
        let of = |life: i64, left: i64| {
            TimeLeft::at(1_000_000 * DAY - left, 1_000_000 * DAY - life, 1_000_000 * DAY)
        };
        assert_eq!(of(397 * DAY, 31 * DAY), TimeLeft::Days(31));
        assert_eq!(of(397 * DAY, 30 * DAY), TimeLeft::Days(30));
        assert_eq!(of(397 * DAY, 30 * DAY - 1), TimeLeft::FewDays(29));
        assert_eq!(of(397 * DAY, 0), TimeLeft::FewDays(0));
        assert_eq!(of(397 * DAY, -1), TimeLeft::Expired);
        assert_eq!(of(397 * DAY, 398 * DAY), TimeLeft::NotYet);
        // 90 days, renewed by cert-manager when 30 are left.
        assert_eq!(of(90 * DAY, 29 * DAY), TimeLeft::Days(29));
        assert_eq!(of(90 * DAY, 22 * DAY), TimeLeft::FewDays(22));
        assert_eq!(of(8 * DAY, 2 * DAY), TimeLeft::Days(2));
    }
}
