//! `replication.limits`: how many copies run into a zone at once, and how fast.

use std::collections::BTreeMap;
use std::path::Path;

use bytesize::ByteSize;
use replication::{DAY, Limits, LimitsByZone, Timetable, Verify, Window};
use serde::Deserialize;

use super::ConfigError;
use super::located::Located;
use super::settings::NamedZone;
use super::words::words;

/// `replication.verify`: when an object that is already in the target zone counts as copied.
#[derive(Debug, Clone, Copy, Default)]
pub enum VerifyBy {
    /// If it has the right size.
    #[default]
    Size,
    /// If it was read and its digest matches.
    Deep,
}

words!(VerifyBy, "replication.verify", "size" => Self::Size, "deep" => Self::Deep);

impl From<VerifyBy> for Verify {
    fn from(by: VerifyBy) -> Self {
        match by {
            VerifyBy::Size => Self::Size,
            VerifyBy::Deep => Self::Deep,
        }
    }
}

/// Keys of `replication.limits`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CopyLimitsEntry {
    /// For every zone.
    default: ZoneLimitsEntry,
    /// For single zones, by name. Keys that are missing here come from `default`.
    zones: BTreeMap<String, Located<ZoneLimitsEntry>>,
}

/// Limits for the copies into one zone.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ZoneLimitsEntry {
    copies: Option<usize>,
    in_flight: Option<ByteSize>,
    bandwidth: Option<ByteSize>,
    hours: Option<Vec<HoursEntry>>,
}

/// A bandwidth for some hours of the day, in UTC.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct HoursEntry {
    from: String,
    to: String,
    #[serde(default = "every_day")]
    days: String,
    bandwidth: Option<ByteSize>,
}

fn every_day() -> String {
    "mon-sun".to_owned()
}

/// The most concurrent copies. More is a typing error.
const COPIES_MAX: usize = 256;

/// The least bandwidth for each copy. With less, copies would be cancelled as stalled.
const BANDWIDTH_MIN: ByteSize = ByteSize::kib(64);

/// The least bytes in flight. With less, only one large blob would be copied at a time.
const IN_FLIGHT_MIN: ByteSize = ByteSize::mib(1);

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Why a limit of the copies cannot be used. The message begins with its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum CopyLimitError {
    #[error("copies: must be between 1 and {COPIES_MAX}")]
    Copies,
    #[error("in_flight: must be {IN_FLIGHT_MIN} or more")]
    InFlight,
    /// Copies share the bandwidth, so each of them must have enough.
    #[error("bandwidth: must be {least} (a second) or more, {BANDWIDTH_MIN} for each of {copies} copies")]
    Bandwidth { least: ByteSize, copies: usize },
    #[error("hours: {0}")]
    Hours(HoursError),
    #[error("hours: {0}")]
    HoursBandwidth(Box<CopyLimitError>),
}

/// Why an entry of `hours` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum HoursError {
    #[error("{0:?} is not a time of day such as 08:00")]
    Time(String),
    #[error("from {from} to {to} is not a span of time")]
    Span { from: String, to: String },
    #[error("{0:?} does not name days, as mon-fri or sat,sun do")]
    Days(String),
}

impl CopyLimitsEntry {
    /// Checks the limits.
    ///
    /// # Errors
    /// There is no zone of a name, or a limit is out of its range.
    pub(super) fn limits(&self, path: &Path, zones: &[NamedZone]) -> Result<LimitsByZone, ConfigError> {
        let refuse = |line, why: String| ConfigError::new(path, line, format!("replication.limits.{why}"));
        let default = self
            .default
            .merged_with(&Limits::default())
            .map_err(|error| refuse(None, format!("default.{error}")))?;
        let mut by_zone = BTreeMap::new();
        for (name, entry) in &self.zones {
            if !zones.iter().any(|zone| zone.name == *name) {
                let known: Vec<_> = zones.iter().map(|zone| zone.name.as_str()).collect();
                let why = format!("zones.{name}: there is no such zone; zones are {}", known.join(", "));
                return Err(refuse(entry.line, why));
            }
            let limits = entry
                .value
                .merged_with(&default)
                .map_err(|error| refuse(entry.line, format!("zones.{name}.{error}")))?;
            by_zone.insert(name.clone(), limits);
        }
        Ok(LimitsByZone { default, zones: by_zone })
    }
}

impl ZoneLimitsEntry {
    /// The limits of this entry. Those that it does not set come from `others`.
    fn merged_with(&self, others: &Limits) -> Result<Limits, CopyLimitError> {
        let mut limits = others.clone();
        if let Some(copies) = self.copies {
            limits.copies = copies;
        }
        if !(1..=COPIES_MAX).contains(&limits.copies) {
            return Err(CopyLimitError::Copies);
        }
        if let Some(in_flight) = self.in_flight {
            limits.in_flight = in_flight.as_u64();
        }
        if limits.in_flight < IN_FLIGHT_MIN.as_u64() {
            return Err(CopyLimitError::InFlight);
        }
        if let Some(bandwidth) = self.bandwidth {
            limits.bandwidth.otherwise = Some(bandwidth.as_u64());
        }
        if let Some(hours) = &self.hours {
            let windows: Result<_, _> = hours.iter().map(HoursEntry::window).collect();
            limits.bandwidth =
                Timetable { windows: windows.map_err(CopyLimitError::Hours)?, ..limits.bandwidth };
        }
        // An inherited bandwidth may be too little, because this zone may have more copies.
        check_bandwidth(limits.bandwidth.otherwise, limits.copies)?;
        for window in &limits.bandwidth.windows {
            check_bandwidth(window.bandwidth, limits.copies)
                .map_err(|error| CopyLimitError::HoursBandwidth(Box::new(error)))?;
        }
        Ok(limits)
    }
}

impl HoursEntry {
    fn window(&self) -> Result<Window, HoursError> {
        let (from, to) = (minute(&self.from)?, minute(&self.to)?);
        if from == to || from == DAY {
            return Err(HoursError::Span { from: self.from.clone(), to: self.to.clone() });
        }
        let bandwidth = self.bandwidth.map(|bandwidth| bandwidth.as_u64());
        Ok(Window { days: days(&self.days)?, from, to, bandwidth })
    }
}

fn check_bandwidth(bandwidth: Option<u64>, copies: usize) -> Result<(), CopyLimitError> {
    let least = BANDWIDTH_MIN.as_u64() * copies as u64;
    match bandwidth.is_none_or(|bandwidth| bandwidth >= least) {
        true => Ok(()),
        false => Err(CopyLimitError::Bandwidth { least: ByteSize(least), copies }),
    }
}

/// The minute of the day of `hh:mm`, up to `24:00`.
pub(super) fn minute(text: &str) -> Result<u16, HoursError> {
    let number = |text: &str| match text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<u16>().ok(),
        false => None,
    };
    let minute = text.split_once(':').and_then(|(hour, minute)| {
        let (hour, minute) = (number(hour)?, number(minute)?);
        (minute < 60 && hour * 60 + minute <= DAY).then_some(hour * 60 + minute)
    });
    minute.ok_or_else(|| HoursError::Time(text.to_owned()))
}

/// The days of a text such as `mon-fri` or `sat,sun`.
fn days(text: &str) -> Result<[bool; 7], HoursError> {
    let unknown = || HoursError::Days(text.to_owned());
    let day = |name: &str| DAYS.iter().position(|day| *day == name.trim()).ok_or_else(unknown);
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        let count = (last + 7 - first) % 7;
        (0..=count).for_each(|after| days[(first + after) % 7] = true);
    }
    Ok(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(yaml: &str) -> Result<LimitsByZone, String> {
        let limits: CopyLimitsEntry = super::super::from_yaml(yaml).map_err(|error| error.message)?;
        let zone = |name: &str| {
            let store = super::super::from_yaml("[LocalStorage, {storage_path: /z}]");
            NamedZone::new(name.to_owned(), store.map_err(|error| error.message).unwrap())
        };
        limits
            .limits(Path::new("c.yaml"), &[zone("zone-a"), zone("zone-b")])
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_zone_overrides_the_default() {
        let all = limits(
            "default: {copies: 6, bandwidth: 100MiB}\n\
             zones:\n  zone-b: {in_flight: 2GiB, bandwidth: 50MiB, hours: [\n    \
             {from: \"08:00\", to: \"18:00\", days: mon-fri, bandwidth: 5MiB}, {from: \"22:30\", to: \"24:00\", days: \"sat,sun\"}]}",
        )
        .unwrap();
        let (a, b) = (all.of("zone-a"), all.of("zone-b"));
        assert_eq!((a.copies, a.in_flight, a.bandwidth.otherwise), (6, 128 << 20, Some(100 << 20)));
        assert_eq!((b.copies, b.in_flight, b.bandwidth.otherwise), (6, 2 << 30, Some(50 << 20)));
        let work = [true, true, true, true, true, false, false];
        let ends = work.map(|day| !day);
        let windows = [
            Window { days: work, from: 480, to: 1080, bandwidth: Some(5 << 20) },
            Window { days: ends, from: 1350, to: 1440, bandwidth: None },
        ];
        assert_eq!(b.bandwidth.windows, windows);
        assert_eq!(limits("{}").unwrap(), LimitsByZone::default());
        assert_eq!(days("fri-mon").unwrap(), [true, false, false, false, true, true, true]);
    }

    #[test]
    fn an_unusable_limit_is_refused_with_its_key() {
        for (yaml, expected) in [
            ("default: {copies: 0}", "replication.limits.default.copies: must be between 1 and 256"),
            ("default: {in_flight: 1KiB}", "default.in_flight: must be 1.0 MiB or more"),
            (
                "default: {bandwidth: 1KiB, copies: 1}",
                "default.bandwidth: must be 64.0 KiB (a second) or more",
            ),
            (
                "default: {bandwidth: 64KiB, copies: 256}",
                "must be 16.0 MiB (a second) or more, 64.0 KiB for each",
            ),
            ("default: {bandwidth: 5MiB}\nzones: {zone-a: {copies: 256}}", "zones.zone-a.bandwidth: must be"),
            ("zones: {zone-x: {copies: 1}}", "zones.zone-x: there is no such zone; zones are zone-a, zone-b"),
            (
                "zones: {zone-a: {hours: [{from: \"8\", to: \"9:00\"}]}}",
                "zone-a.hours: \"8\" is not a time of day",
            ),
            (
                "zones: {zone-a: {hours: [{from: \"08:00\", to: \"24:01\"}]}}",
                "\"24:01\" is not a time of day",
            ),
            ("zones: {zone-a: {hours: [{from: \"08:00\", to: \"08:00\"}]}}", "not a span of time"),
            (
                "zones: {zone-a: {hours: [{from: \"08:00\", to: \"09:00\", days: weekend}]}}",
                "does not name days",
            ),
            ("zones: {zone-a: {hours: [{from: \"08:00\", to: \"09:00\", bandwidth: 1}]}}", "or more"),
            ("default: {speed: 1}", "unknown field; there are `copies`"),
        ] {
            let why = limits(yaml).unwrap_err();
            assert!(why.contains(expected), "{yaml}: {why}");
        }
    }
}
