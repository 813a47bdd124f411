//! `pins`: images that the gateway keeps in its cache.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use bytesize::ByteSize;
use replication::DAY;
use serde::Deserialize;

use super::ConfigError;
use super::copy_limits::minute;
use super::file::ConfigFile;
use super::images::{ImageName, Platforms};
use super::located::Located;

/// The most images of all pins together.
const IMAGES_MAX: usize = 1000;

/// The bounds of `every`.
const EVERY_MIN: Duration = Duration::from_secs(60);
const EVERY_MAX: Duration = Duration::from_secs(31 * 24 * 3600);

/// The least `rate`. With less, a large layer would take days.
const RATE_MIN: ByteSize = ByteSize::kib(64);

/// One entry of `pins`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PinEntry {
    images: Vec<String>,
    #[serde(default)]
    platforms: Vec<String>,
    #[serde(default = "every_hour", with = "humantime_serde")]
    every: Duration,
    #[serde(default)]
    window: Option<String>,
    #[serde(default)]
    rate: Option<ByteSize>,
}

fn every_hour() -> Duration {
    Duration::from_secs(3600)
}

/// Images that the gateway keeps in its cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The images, at least one.
    pub images: Vec<ImageName>,
    /// The platforms of images that have several.
    pub platforms: Platforms,
    /// The time from one read of an image to the next.
    pub every: Duration,
    /// When they are read. `None` for any time.
    pub window: Option<DailyWindow>,
    /// The bytes per second that are read. `None` for no limit.
    pub rate: Option<u64>,
}

/// A span of hours of each day, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DailyWindow {
    /// The first minute of the day.
    from: u16,
    /// The minute at which it ends. If that is before `from`, it ends on the next day.
    to: u16,
}

/// Why a text is not a window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a span of hours in UTC such as 01:00-05:00 or 22:00-04:00")]
pub struct WindowError(String);

impl FromStr for DailyWindow {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        let window = text.split_once('-').and_then(|(from, to)| {
            let (from, to) = (minute(from.trim()).ok()?, minute(to.trim()).ok()?);
            (from != to && from < DAY).then_some(Self { from, to })
        });
        window.ok_or_else(|| WindowError(text.to_owned()))
    }
}

impl fmt::Display for DailyWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from, self.to);
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

impl DailyWindow {
    /// How long it takes until the window is open. Zero if it is open at this time.
    #[must_use]
    pub fn opens_in(&self, now: SystemTime) -> Duration {
        let day = u64::from(DAY) * 60;
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() % day;
        let (from, to) = (u64::from(self.from) * 60, u64::from(self.to) * 60);
        let open = match from < to {
            true => (from..to).contains(&seconds),
            false => seconds >= from || seconds < to,
        };
        match open {
            true => Duration::ZERO,
            false => Duration::from_secs((from + day - seconds) % day),
        }
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let images: Vec<_> = self.images.iter().map(ToString::to_string).collect();
        let every = humantime::format_duration(self.every);
        write!(f, "{} for {} every {every}", images.join(" "), self.platforms)?;
        self.window.iter().try_for_each(|window| write!(f, " within {window}"))?;
        self.rate.iter().try_for_each(|rate| write!(f, " at {} a second", ByteSize(*rate)))
    }
}

/// # Errors
/// An entry has no image, a wrong name or platform, or a value out of its range, or there is no service account.
pub(super) fn pins<'a>(
    path: &Path,
    file: &ConfigFile,
    registries: impl IntoIterator<Item = &'a String>,
) -> Result<Vec<Pin>, ConfigError> {
    let Some(entries) = &file.pins else { return Ok(Vec::new()) };
    let registries: Vec<_> = registries.into_iter().map(String::as_str).collect();
    let line = entries.first().and_then(|entry| entry.line);
    if !entries.is_empty() && file.registry.account.username.is_none() {
        let why =
            "pins: the gateway reads pinned images with registry.account: set its username and password_file";
        return Err(ConfigError::new(path, line, why));
    }
    let pins = entries.iter().map(|entry| pin(path, entry, &registries)).collect::<Result<Vec<_>, _>>()?;
    if pins.iter().map(|pin| pin.images.len()).sum::<usize>() > IMAGES_MAX {
        return Err(ConfigError::new(path, line, format!("pins: more than {IMAGES_MAX} images")));
    }
    Ok(pins)
}

fn pin(path: &Path, entry: &Located<PinEntry>, registries: &[&str]) -> Result<Pin, ConfigError> {
    let fail = |why: String| ConfigError::new(path, entry.line, format!("pins: {why}"));
    let PinEntry { images, platforms, every, window, rate } = &entry.value;
    if images.is_empty() {
        return Err(fail("images: name at least one, such as org/app:v1".to_owned()));
    }
    let image = |text: &String| {
        let image =
            ImageName::as_clients_write(text).map_err(|error| fail(format!("images: {text:?}: {error}")))?;
        image.at(registries).map_err(|error| fail(format!("images: {error}")))
    };
    if !(EVERY_MIN..=EVERY_MAX).contains(every) {
        return Err(fail("every: must be between 1m and 31days".to_owned()));
    }
    if rate.is_some_and(|rate| rate < RATE_MIN) {
        return Err(fail(format!("rate: must be {RATE_MIN} (a second) or more")));
    }
    let window = window.as_ref().map(|text| text.parse()).transpose();
    Ok(Pin {
        images: images.iter().map(image).collect::<Result<_, _>>()?,
        platforms: Platforms::parse(platforms).map_err(|error| fail(format!("platforms: {error}")))?,
        every: *every,
        window: window.map_err(|error: WindowError| fail(format!("window: {error}")))?,
        rate: rate.map(|rate| rate.as_u64()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pins_of(yaml: &str) -> Result<Vec<Pin>, String> {
        let account = "registry: {account: {username: u, password_file: p}}\n";
        let file: ConfigFile =
            crate::from_yaml(&format!("{account}{yaml}")).map_err(|error| error.to_string())?;
        pins(Path::new("c.yaml"), &file, &["quay.corp".to_owned()]).map_err(|error| error.to_string())
    }

    #[test]
    fn a_pin_with_all_keys_and_one_with_few() {
        let all = pins_of(
            "pins:\n- {images: [quay.corp/org/app:v1, org/base], platforms: [linux/amd64], every: 6h, window: \
             \"22:00-04:00\", rate: 50MiB}\n- {images: [org/x:1]}",
        )
        .unwrap();
        assert_eq!(
            all[0].to_string(),
            "org/app:v1 org/base:latest for linux/amd64 every 6h within 22:00-04:00 at 50.0 MiB a second"
        );
        assert_eq!(all[1].to_string(), "org/x:1 for all every 1h");
        assert_eq!(pins_of("pins: []").unwrap(), []);
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_key() {
        for (yaml, expected) in [
            ("{images: []}", "pins: images: name at least one"),
            ("{images: [\"a b\"]}", "pins: images: \"a b\": "),
            ("{images: [other:5000/a:1]}", "names a registry that is not the configured one"),
            ("{images: [a:1], platforms: [linux]}", "pins: platforms: a platform is OS/ARCHITECTURE"),
            ("{images: [a:1], every: 1s}", "pins: every: must be between 1m and 31days"),
            ("{images: [a:1], window: night}", "pins: window: \"night\" is not a span of hours"),
            ("{images: [a:1], window: \"05:00-05:00\"}", "is not a span of hours"),
            ("{images: [a:1], rate: 1KiB}", "pins: rate: must be 64.0 KiB (a second) or more"),
            ("{images: [a:1], speed: 1}", "unknown field"),
            ("{platforms: [linux/amd64]}", "images"),
        ] {
            let why = pins_of(&format!("pins: [{yaml}]")).unwrap_err();
            assert!(why.contains(expected), "{yaml}: {why}");
        }
        let file: ConfigFile = crate::from_yaml("pins: [{images: [a:1]}]").unwrap();
        let why = pins(Path::new("c.yaml"), &file, &[]).unwrap_err().to_string();
        assert!(why.contains("registry.account"), "{why}");
    }

    proptest! {
        /// After the time that a window says, it is open, and just before that it is not.
        #[test]
        fn a_window_opens_when_it_says(from in 0..DAY, to in 0..=DAY, now in 0..10_000_000_u64) {
            prop_assume!(from != to);
            let window = DailyWindow { from, to };
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
            let wait = window.opens_in(now);
            prop_assert!(wait < Duration::from_secs(u64::from(DAY) * 60));
            prop_assert_eq!(window.opens_in(now + wait), Duration::ZERO);
            if !wait.is_zero() {
                prop_assert!(!window.opens_in(now + wait - Duration::from_secs(1)).is_zero());
            }
            prop_assert_eq!(window.to_string().parse(), Ok(window));
        }
    }
}
