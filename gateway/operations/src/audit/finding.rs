//! What an audit finds: one thing in one zone.

use backends::Digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::csv;

/// What kind of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Another zone has the blob; this one, a target of copies, has not.
    Missing,
    /// An object of no bytes at the place of a blob that has some.
    Empty,
    /// Zones have it in different sizes; who is wrong is not known without reading.
    SizesDiffer,
    /// Other bytes than the digest names.
    WrongBytes,
    /// It is listed, but could not be read.
    Unreadable,
    /// The registry says that it lies here, and it does not.
    Lost,
    /// A blob of which the registry knows nothing.
    Orphan,
    /// A blob that the registry knows, but not that it lies here: its garbage collection does not reach
    /// this copy.
    Unplaced,
    /// Another zone has the blob and this one, a target of copies, has not; but no manifest names it, as in
    /// the middle of a push or after one that was given up. It is copied when there is one.
    Unfinished,
    /// An object that is neither a blob nor anything else of the registry's.
    Stray,
}

impl Kind {
    /// As it is printed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Empty => "empty",
            Self::SizesDiffer => "sizes-differ",
            Self::WrongBytes => "wrong-bytes",
            Self::Unreadable => "unreadable",
            Self::Lost => "lost",
            Self::Orphan => "orphan",
            Self::Unplaced => "unplaced",
            Self::Unfinished => "unfinished",
            Self::Stray => "stray",
        }
    }

    /// Whether a blob is missing or wrong; the others take room, or will be copied in time.
    #[must_use]
    pub fn is_wrong(self) -> bool {
        !matches!(self, Self::Orphan | Self::Unplaced | Self::Unfinished | Self::Stray)
    }

    /// Whether a copy into the zone mends it, or finds out that nothing is to be mended. Of an object that is
    /// not placed it finds that it is there, and tells the registry.
    #[must_use]
    pub fn is_mended_by_a_copy(self) -> bool {
        matches!(self, Self::Missing | Self::Empty | Self::SizesDiffer | Self::WrongBytes | Self::Unplaced)
    }
}

/// Something that was found in one zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What kind of thing.
    pub kind: Kind,
    /// Where.
    pub zone: String,
    /// Which blob; none for a stray.
    #[serde(with = "text", default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The key of a stray, below the zone's root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Bytes of what lies there; none where nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Bytes that the blob has, as far as that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
    /// The zones that have an object for it, right or wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub has: Vec<String>,
    /// Whether the registry's records have the blob; none where they were not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<bool>,
    /// More, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<String>,
}

impl Finding {
    /// Of a blob.
    pub fn of(kind: Kind, zone: &str, digest: Digest, size: Option<u64>) -> Self {
        let digest = Some(digest);
        Self {
            kind,
            zone: zone.to_owned(),
            digest,
            key: None,
            size,
            expected: None,
            has: Vec::new(),
            known: None,
            told: None,
        }
    }

    /// Of an object that nobody knows.
    pub fn stray(zone: &str, key: &str, size: u64) -> Self {
        let (zone, key, size) = (zone.to_owned(), Some(key.to_owned()), Some(size));
        let (digest, expected, has, known, told) = (None, None, Vec::new(), None, None);
        Self { kind: Kind::Stray, zone, digest, key, size, expected, has, known, told }
    }

    /// Bytes that are in question.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.expected.or(self.size).unwrap_or(0)
    }

    /// What it is about.
    #[must_use]
    pub fn name(&self) -> String {
        match (&self.digest, &self.key) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(key)) => key.clone(),
            (None, None) => String::new(),
        }
    }

    /// A line of a table, fields as [`CSV_HEAD`] names them.
    #[must_use]
    pub fn csv(&self) -> String {
        let number = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
        csv::line([
            self.kind.as_str().to_owned(),
            self.zone.clone(),
            self.name(),
            number(self.size),
            number(self.expected),
            self.has.join(" "),
            self.known.map_or_else(String::new, |known| known.to_string()),
            self.told.clone().unwrap_or_default(),
        ])
    }
}

/// The first line of a table of findings.
pub const CSV_HEAD: &str = "kind,zone,name,size,expected,has,known,told\r\n";

/// Digests as text.
mod text {
    use super::{Deserialize, Deserializer, Digest, Serializer};

    pub(super) fn serialize<S: Serializer>(digest: &Option<Digest>, to: S) -> Result<S::Ok, S::Error> {
        match digest {
            Some(digest) => to.collect_str(digest),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Digest>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::csv::tests::parsed;

    #[test]
    fn findings_come_back_from_their_file() {
        let mut missing = Finding::of(Kind::Missing, "zone-b", Digest::EMPTY, None);
        missing.expected = Some(0);
        missing.known = Some(false);
        let stray = Finding::stray("zone,c", "sha256/e3/\"odd\"", 7);
        for finding in [&missing, &stray] {
            let line = serde_json::to_string(finding).expect("JSON");
            assert_eq!(serde_json::from_str::<Finding>(&line).expect("a finding"), *finding);
            let table = parsed(&format!("{CSV_HEAD}{}", finding.csv()));
            assert_eq!(table[0].len(), table[1].len());
            assert_eq!(table[1][..3], [finding.kind.as_str(), &finding.zone, &finding.name()]);
            assert_eq!(serde_json::to_value(finding.kind).expect("JSON"), finding.kind.as_str());
        }
        assert!(
            serde_json::from_str::<Finding>(r#"{"kind":"missing","zone":"a","digest":"sha256:0"}"#).is_err()
        );
    }
}
