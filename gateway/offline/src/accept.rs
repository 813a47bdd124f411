//! Which requests for a tag get the same answer.

use http::HeaderMap;
use http::header::ACCEPT;

/// The media types that decide which manifest Quay gives for a tag: without the type of the stored manifest, Quay converts
/// the manifest or gives another one (`endpoints/v2/manifest.py:_rewrite_schema_if_necessary`).
const DECISIVE: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// The class of the `Accept` headers of a request: which of the media types of manifests they name. Requests of one class
/// get the same manifest for a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AcceptClass(u8);

impl AcceptClass {
    /// The class of a request with these headers. A type counts as named whatever its `q` is, except `q=0`.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let named = values.flat_map(|value| value.split(',')).filter_map(media_type);
        Self(named.fold(0, |class, name| {
            let place = DECISIVE.iter().position(|known| known.eq_ignore_ascii_case(name));
            class | place.map_or(0, |place| 1 << place)
        }))
    }

    /// The class of requests that name every type. To these, Quay gives the manifest as it is stored.
    pub const ALL: Self = Self((1 << DECISIVE.len()) - 1);

    /// Whether requests of this class name this media type.
    pub(crate) fn names(self, media_type: &str) -> bool {
        let place = DECISIVE.iter().position(|known| known.eq_ignore_ascii_case(media_type));
        place.is_some_and(|place| self.0 & (1 << place) != 0)
    }

    /// The class as a number, for a database.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }
}

/// The media type of one element of `Accept` (RFC 9110, section 12.5.1). `None` if its weight is zero.
fn media_type(element: &str) -> Option<&str> {
    let mut parts = element.split(';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    let is_zero = weight.is_some_and(|weight| weight.trim().parse::<f32>().is_ok_and(|weight| weight <= 0.0));
    (!is_zero).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(values: &[&str]) -> AcceptClass {
        AcceptClass::of(&values.iter().map(|value| (ACCEPT, value.parse().expect("a value"))).collect())
    }

    #[test]
    fn the_named_types_are_the_class() {
        let [oci_index, oci, list, docker] = DECISIVE;
        assert_eq!(class(&[]), class(&["*/*", "application/json"]));
        assert_eq!(class(&[oci, docker]), class(&[&format!("{docker}, {oci};q=0.5")]));
        assert_eq!(class(&[&oci.to_uppercase()]), class(&[oci]));
        assert_eq!(class(&[&format!("{oci};q=0")]), class(&[]));
        assert_eq!(class(&[&format!("{oci}; q=0.0, {list}")]), class(&[list]));
        let all = [class(&[]), class(&[oci_index]), class(&[oci]), class(&[list]), class(&[docker])];
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), all.len());
    }
}
