//! The platforms of an image.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// The most characters of a platform.
const TEXT_MAX: usize = 64;

/// A platform, such as `linux/amd64` or `linux/arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    os: String,
    architecture: String,
    /// Without one, every variant is meant.
    variant: Option<String>,
}

/// The platforms that are wanted of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Platforms {
    /// Every manifest of an index, also those that are for no platform.
    All,
    /// These.
    Only(Vec<Platform>),
}

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a platform is OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/amd64 or linux/arm/v7, or all"
)]
pub struct PlatformError;

/// The platform of a manifest, as an index describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DescribedPlatform {
    /// The operating system.
    os: String,
    /// The architecture.
    architecture: String,
    /// Its variant.
    variant: String,
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let is_word = |part: &&str| {
            let fine = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            !part.is_empty() && part.chars().all(fine)
        };
        let parts: Vec<_> = text.split('/').collect();
        if text.len() > TEXT_MAX || !parts.iter().all(is_word) {
            return Err(PlatformError);
        }
        let [os, architecture, variant @ ..] = &*parts else { return Err(PlatformError) };
        let variant = match variant {
            [] => None,
            [variant] => Some((*variant).to_owned()),
            _ => return Err(PlatformError),
        };
        Ok(Self { os: (*os).to_owned(), architecture: (*architecture).to_owned(), variant })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl fmt::Display for Platforms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Only(platforms) => {
                let texts: Vec<_> = platforms.iter().map(ToString::to_string).collect();
                f.write_str(&texts.join(","))
            }
        }
    }
}

impl Platforms {
    /// The platforms of these texts, each a platform or `all`. No text means all.
    ///
    /// # Errors
    /// A text is not a platform.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, PlatformError> {
        if texts.is_empty() || texts.iter().any(|text| text.as_ref() == "all") {
            return Ok(Self::All);
        }
        let platforms = texts.iter().map(|text| text.as_ref().parse()).collect::<Result<_, _>>()?;
        Ok(Self::Only(platforms))
    }

    /// Whether a manifest for this platform is wanted.
    #[must_use]
    pub fn wants(&self, described: &DescribedPlatform) -> bool {
        let is = |platform: &Platform| {
            platform.os == described.os
                && platform.architecture == described.architecture
                && platform.variant.as_ref().is_none_or(|variant| *variant == described.variant)
        };
        match self {
            Self::All => true,
            Self::Only(platforms) => platforms.iter().any(is),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_and_what_they_want() {
        let described = |os: &str, architecture: &str, variant: &str| DescribedPlatform {
            os: os.into(),
            architecture: architecture.into(),
            variant: variant.into(),
        };
        let wanted = Platforms::parse(&["linux/amd64", "linux/arm/v7"]).expect("platforms");
        assert_eq!(wanted.to_string(), "linux/amd64,linux/arm/v7");
        for (platform, expected) in [
            (described("linux", "amd64", ""), true),
            (described("linux", "amd64", "v3"), true),
            (described("linux", "arm", "v7"), true),
            (described("linux", "arm", "v6"), false),
            (described("windows", "amd64", ""), false),
            (DescribedPlatform::default(), false),
        ] {
            assert_eq!(wanted.wants(&platform), expected, "{platform:?}");
            assert!(Platforms::All.wants(&platform));
        }
        assert_eq!(Platforms::parse::<&str>(&[]), Ok(Platforms::All));
        assert_eq!(Platforms::parse(&["linux/amd64", "all"]), Ok(Platforms::All));
        for text in ["", "linux", "linux/", "/amd64", "linux/arm/v7/x", "linux/a b", "linux//v7"] {
            assert_eq!(Platforms::parse(&[text]), Err(PlatformError), "{text}");
        }
    }
}
