//! A finding of an audit: one problem in one zone.

use backends::Digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::csv;

/// The kind of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// Another zone has the blob, but this zone, a target of copies, does not.
    Missing,
    /// The object is empty, but the blob is not.
    Empty,
    /// The blob has different sizes in different zones. Only reading shows which one is wrong.
    SizesDiffer,
    /// The bytes do not match the digest.
    WrongBytes,
    /// The object was listed, but cannot be read.
    Unreadable,
    /// The registry records the blob in this zone, but it is not there.
    Lost,
    /// The registry's records do not have the blob.
    Orphan,
    /// The registry's records have the blob, but not in this zone, so its garbage collection does not reach
    /// this copy.
    Unplaced,
    /// Another zone has the blob and this zone, a target of copies, does not, but no manifest references it.
    /// The push is in progress or was abandoned. The blob is copied when there is a manifest.
    Unfinished,
    /// The object is neither a blob nor anything else that the registry writes.
    Stray,
}

impl FindingKind {
    /// The name in tables and files.
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

    /// Whether a blob is missing or wrong. Other kinds only use space, or are copied later.
    #[must_use]
    pub fn is_wrong(self) -> bool {
        !matches!(self, Self::Orphan | Self::Unplaced | Self::Unfinished | Self::Stray)
    }

    /// Whether the object in the zone is not the blob, or may not be. Its size then says nothing about the
    /// blob.
    #[must_use]
    pub fn is_in_doubt(self) -> bool {
        matches!(self, Self::Empty | Self::SizesDiffer | Self::WrongBytes | Self::Unreadable)
    }

    /// Whether a copy into the zone fixes the problem, or shows that there is none. For an unplaced object,
    /// the copy finds the object in place and records it.
    #[must_use]
    pub fn is_fixed_by_copy(self) -> bool {
        self.is_in_doubt() || matches!(self, Self::Missing | Self::Unplaced)
    }
}

/// A problem that an audit found in one zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The kind of problem.
    pub kind: FindingKind,
    /// The zone.
    pub zone: String,
    /// The blob. `None` for a stray.
    #[serde(with = "text", default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The key of a stray, below the zone's root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The size of the object in bytes. `None` if there is no object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The size of the blob in bytes, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
    /// The zones that have an object for the blob, right or wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub has: Vec<String>,
    /// Whether the registry's records have the blob. `None` if they were not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<bool>,
    /// Whether all objects of the blob were read, and none is right: no zone can give it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sourceless: bool,
    /// Further details as text.
    #[serde(rename = "told", default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Finding {
    /// A finding about a blob.
    pub fn of(kind: FindingKind, zone: &str, digest: Digest, size: Option<u64>) -> Self {
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
            sourceless: false,
            detail: None,
        }
    }

    /// A finding about a stray object.
    pub fn stray(zone: &str, key: &str, size: u64) -> Self {
        let (zone, key, size) = (zone.to_owned(), Some(key.to_owned()), Some(size));
        let (digest, expected, has, known, detail) = (None, None, Vec::new(), None, None);
        let sourceless = false;
        Self { kind: FindingKind::Stray, zone, digest, key, size, expected, has, known, sourceless, detail }
    }

    /// The bytes that the finding counts for: the blob's size, or else the object's.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.expected.or(self.size).unwrap_or(0)
    }

    /// The digest or the key that the finding is about.
    #[must_use]
    pub fn name(&self) -> String {
        match (&self.digest, &self.key) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(key)) => key.clone(),
            (None, None) => String::new(),
        }
    }

    /// The finding as a CSV line with the fields of [`CSV_HEAD`].
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
            self.detail.clone().unwrap_or_default(),
        ])
    }
}

/// The header line of a CSV file of findings.
pub const CSV_HEAD: &str = "kind,zone,name,size,expected,has,known,told\r\n";

/// Serializes digests as text.
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
        let mut missing = Finding::of(FindingKind::Missing, "zone-b", Digest::EMPTY, None);
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
