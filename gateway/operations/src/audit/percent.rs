//! Which blobs are read and hashed: a share of all, the same for the same seed. Pure.

use std::fmt;
use std::str::FromStr;

use backends::{Digest, Hasher};
use serde::{Deserialize, Serialize};

/// A share of 0 to 100 %, in millionths of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Percent(u32);

/// All of it.
const WHOLE: u32 = 1_000_000;

impl Percent {
    /// Nothing of it.
    pub const ZERO: Self = Self(0);

    /// Whether this blob is in the sample that `seed` draws. What is in a sample is in every larger one
    /// of the same seed.
    #[must_use]
    pub fn takes(self, digest: &Digest, seed: u64) -> bool {
        let mut hasher = Hasher::new();
        hasher.update(&seed.to_le_bytes());
        hasher.update(digest.to_string().as_bytes());
        // Sixteen hex digits are a number of 64 bits, evenly spread.
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
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.strip_suffix('%').unwrap_or(text).trim();
        match number.parse::<f64>() {
            Ok(percent) if (0.0..=100.0).contains(&percent) => {
                // 0 to 1,000,000: it fits.
                Ok(Self((percent * 10_000.0).round() as u32))
            }
            _ => Err("a share of 0% to 100%, such as 1% or 0.1%".to_owned()),
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
    fn a_sample_is_about_as_large_as_said() {
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
