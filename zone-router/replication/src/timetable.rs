//! The bandwidth that is allowed at each hour of the week. Pure: the time is passed in. All times are UTC, so
//! that a change to or from summer time neither skips nor repeats an hour.

use std::time::{Duration, SystemTime};

/// Minutes in a day.
pub const DAY: u16 = 24 * 60;

/// The weekday of 1970-01-01, where Monday is 0: a Thursday.
const EPOCH_WEEKDAY: u64 = 3;

/// Bytes per second, by the hour of the week.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timetable {
    /// The bytes per second outside all windows. `None` for no limit.
    pub otherwise: Option<u64>,
    /// If several windows are open, the first one decides.
    pub windows: Vec<Window>,
}

/// A span of hours on some days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The days on which the window begins, Monday first.
    pub days: [bool; 7],
    /// The first minute of the window, below [`DAY`].
    pub from: u16,
    /// The minute at which the window ends, at most [`DAY`]. If it is not after `from`, the window ends on
    /// the next day.
    pub to: u16,
    /// Bytes per second; `None` for no limit.
    pub bandwidth: Option<u64>,
}

impl Timetable {
    /// The same bandwidth at any time.
    #[must_use]
    pub fn always(bandwidth: Option<u64>) -> Self {
        Self { otherwise: bandwidth, windows: Vec::new() }
    }

    /// The bytes per second at this time. `None` for no limit.
    #[must_use]
    pub fn at(&self, now: SystemTime) -> Option<u64> {
        let (weekday, minute) =
            weekday_and_minute(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
        let open = self.windows.iter().find(|window| window.is_open(weekday, minute));
        open.map_or(self.otherwise, |window| window.bandwidth)
    }

    /// The lowest limit in bytes per second, if there is one.
    #[must_use]
    pub fn lowest(&self) -> Option<u64> {
        self.windows.iter().map(|window| window.bandwidth).chain([self.otherwise]).flatten().min()
    }
}

impl Window {
    fn is_open(&self, weekday: usize, minute: u16) -> bool {
        let today = self.days[weekday] && minute >= self.from;
        if self.from < self.to {
            return today && minute < self.to;
        }
        today || (self.days[(weekday + 6) % 7] && minute < self.to)
    }
}

/// The day of the week, Monday first, and the minute of that day.
fn weekday_and_minute(since_1970: Duration) -> (usize, u16) {
    let minutes = since_1970.as_secs() / 60;
    let weekday = (minutes / u64::from(DAY) + EPOCH_WEEKDAY) % 7;
    // Both are small: below 7 and below 1440.
    (weekday as usize, (minutes % u64::from(DAY)) as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WORK: [bool; 7] = [true, true, true, true, true, false, false];

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn windows_of_a_day_and_of_a_night() {
        let office = Window { days: WORK, from: 8 * 60, to: 18 * 60, bandwidth: Some(5) };
        let backup = Window {
            days: [false, false, false, false, true, false, false],
            from: 22 * 60,
            to: 60,
            bandwidth: Some(1),
        };
        let table = Timetable { otherwise: Some(50), windows: vec![office, backup] };
        // Seconds since 1970, as `date -u +%s` has them.
        for (when, seconds, expected) in [
            ("Thu 2026-11-26 07:59:59", 1_795_679_999, 50),
            ("Thu 2026-11-26 08:00:00", 1_795_680_000, 5),
            ("Thu 2026-11-26 18:00:00", 1_795_716_000, 50),
            ("Fri 2026-11-27 22:00:00", 1_795_816_800, 1),
            ("Sat 2026-11-28 00:59:59", 1_795_827_599, 1),
            ("Sat 2026-11-28 01:00:00", 1_795_827_600, 50),
            ("Sat 2026-11-28 12:00:00", 1_795_867_200, 50),
            ("Mon 2026-11-30 09:30:00", 1_796_031_000, 5),
        ] {
            assert_eq!(table.at(at(seconds)), Some(expected), "{when}");
        }
        assert_eq!(table.lowest(), Some(1));
        assert_eq!(Timetable::default().at(SystemTime::now()), None);
    }

    fn window() -> impl Strategy<Value = Window> {
        let bandwidth = prop::option::of(1..1_000_u64);
        (any::<[bool; 7]>(), 0..DAY, 0..=DAY, bandwidth).prop_map(|(days, from, to, bandwidth)| Window {
            days,
            from,
            to,
            bandwidth,
        })
    }

    proptest! {
        /// A window is open for as many minutes a week as it states, wherever it begins and ends.
        #[test]
        fn a_window_is_open_for_its_length(window in window()) {
            let open = (0..7 * u64::from(DAY)).filter(|minute| {
                let (weekday, minute) = weekday_and_minute(Duration::from_secs(minute * 60));
                window.is_open(weekday, minute)
            });
            let length = match window.from < window.to {
                true => window.to - window.from,
                false => DAY - window.from + window.to,
            };
            let days = window.days.iter().filter(|day| **day).count();
            prop_assert_eq!(open.count(), days * usize::from(length));
        }

        /// Each week is like the one before, and the limit is never below the lowest.
        #[test]
        fn each_week_is_the_same(windows in prop::collection::vec(window(), 0..5), otherwise in prop::option::of(1..1_000_u64), second in 0..1_u64 << 33) {
            let table = Timetable { otherwise, windows };
            let now = table.at(at(second));
            prop_assert_eq!(now, table.at(at(second + 7 * 24 * 3600)));
            if let Some(now) = now {
                prop_assert!(table.lowest().is_some_and(|lowest| lowest <= now));
            }
        }
    }
}
