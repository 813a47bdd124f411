//! The sample of blobs that is read and hashed. The same seed gives the same sample. Pure.

use std::fmt;
use std::str::FromStr;

use backends::{Digest, Hasher};
use serde::{Deserialize, Serialize};

/// A share from 0 % to 100 %, stored in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Percent(u32);

/// 100 %.
const WHOLE: u32 = 1_000_000;

/// A text is not a share from 0 % to 100 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be from 0% to 100%, such as 1% or 0.1%")]
pub struct PercentError;

impl Percent {
    /// 0 %.
    pub const ZERO: Self = Self(0);

    /// Whether this blob is in the sample of `seed`. Every larger sample of the same seed contains it too.
    #[must_use]
    pub fn takes(self, digest: &Digest, seed: u64) -> bool {
        let mut hasher = Hasher::new();
        hasher.update(&seed.to_le_bytes());
        hasher.update(digest.to_string().as_bytes());
        // Sixteen hex digits of a digest are an evenly distributed number of 64 bits.
        let drawn = hasher.finish().hex();
        let drawn = u64::from_str_radix(&drawn[..16], 16).unwrap_or(0);
        drawn % u64::from(WHOLE) < u64::from(self.0)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 10_000.0)
    }
}

impl FromStr for Percent {
    type Err = PercentError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.strip_suffix('%').unwrap_or(text).trim();
        match number.parse::<f64>() {
            Ok(percent) if (0.0..=100.0).contains(&percent) => {
                // At most 1,000,000, which fits.
                Ok(Self((percent * 10_000.0).round() as u32))
            }
            _ => Err(PercentError),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digests(count: u32) -> impl Iterator<Item = Digest> {
        (0..count).map(|n| Digest::of(&n.to_le_bytes()))
    }

    #[test]
    fn read_and_written() {
        for text in ["0%", "1%", "0.1%", "100%", "33.3333%"] {
            assert_eq!(text.parse::<Percent>().map(|percent| percent.to_string()).as_deref(), Ok(text));
        }
        assert_eq!("5".parse::<Percent>(), "5%".parse());
        for text in ["", "%", "-1%", "101%", "NaN", "five"] {
            assert!(text.parse::<Percent>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_sample_has_about_the_requested_size() {
        let tenth: Percent = "10%".parse().expect("a share");
        for seed in [0, 1, u64::MAX] {
            let taken = digests(10_000).filter(|digest| tenth.takes(digest, seed)).count();
            assert!((850..1150).contains(&taken), "{taken} of 10,000 by seed {seed}");
        }
        let all: Percent = "100%".parse().expect("a share");
        assert!(digests(1000).all(|digest| all.takes(&digest, 7) && !Percent::ZERO.takes(&digest, 7)));
        let by = |seed| digests(1000).filter(|digest| tenth.takes(digest, seed)).collect::<Vec<_>>();
        assert_ne!(by(1), by(2), "another seed draws others");
    }

    proptest! {
        #[test]
        fn larger_samples_hold_smaller_ones(a in 0..=WHOLE, b in 0..=WHOLE, seed: u64, n: u32) {
            let digest = Digest::of(&n.to_le_bytes());
            let (small, large) = (Percent(a.min(b)), Percent(a.max(b)));
            prop_assert!(!small.takes(&digest, seed) || large.takes(&digest, seed));
            prop_assert_eq!(small.takes(&digest, seed), small.takes(&digest, seed));
        }
    }
}
