//! The parts of a request that the registry may have judged. Pure.

use http::header::AUTHORIZATION;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName};
use registry::bearer::{Hashed, KeyedHash};

/// One keyed hash of everything in a request that the registry's decision may depend on. `None` for a request
/// with several `Authorization` fields, because nobody knows which of them was judged.
///
/// `may_judge` says whether the decision may depend on a header.
pub(super) fn request_key(
    hash: &KeyedHash,
    headers: &HeaderMap,
    target: &PathAndQuery,
    may_judge: impl Fn(&HeaderName) -> bool,
) -> Option<Hashed> {
    if headers.get_all(AUTHORIZATION).iter().count() > 1 {
        return None;
    }
    let mut names: Vec<_> = headers.keys().filter(|name| may_judge(name)).collect();
    names.sort_by_key(|name| name.as_str());
    let fields =
        names.into_iter().flat_map(|name| headers.get_all(name).iter().map(move |value| (name, value)));
    let fields = fields.flat_map(|(name, value)| [name.as_str().as_bytes(), value.as_bytes()]);
    Some(hash.of(std::iter::once(target.as_str().as_bytes()).chain(fields)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Pairs = Vec<(String, String)>;

    fn map(pairs: &Pairs) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name: HeaderName = name.parse().expect("a name");
            headers.append(name, value.parse().expect("a value"));
        }
        headers
    }

    fn key(pairs: &Pairs, target: &str) -> Option<Hashed> {
        static HASH: std::sync::LazyLock<KeyedHash> =
            std::sync::LazyLock::new(|| KeyedHash::new().expect("random bytes"));
        request_key(&HASH, &map(pairs), &target.parse().expect("a path"), |name| name != "x-harmless")
    }

    #[test]
    fn several_authorizations_are_ambiguous() {
        let one = vec![("authorization".to_owned(), "Bearer a".to_owned())];
        let two = [one.clone(), one.clone()].concat();
        assert!(key(&one, "/a").is_some());
        assert_eq!(key(&two, "/a"), None);
    }

    fn pairs() -> impl Strategy<Value = Pairs> {
        let name = prop::sample::select(vec!["authorization", "cookie", "x-api-key", "x-api", "x-harmless"]);
        prop::collection::vec((name.prop_map(str::to_owned), "[ab:,]{0,3}"), 0..5)
    }

    /// The values of each judged name, in order. Requests that differ in them are different.
    fn judged_values(pairs: &Pairs) -> std::collections::BTreeMap<&str, Vec<&str>> {
        let mut values = std::collections::BTreeMap::<_, Vec<_>>::new();
        for (name, value) in pairs.iter().filter(|(name, _)| name != "x-harmless") {
            values.entry(name.as_str()).or_default().push(value.trim());
        }
        values
    }

    proptest! {
        #[test]
        fn equal_requests_and_only_they_have_equal_keys(one in pairs(), other in pairs(), query in "[ab=&]{0,4}", another in "[ab=&]{0,4}") {
            let (first, second) = (format!("/v2/a?{query}"), format!("/v2/a?{another}"));
            let (first, second) = (key(&one, &first), key(&other, &second));
            if let (Some(first), Some(second)) = (first, second) {
                prop_assert_eq!(first == second, judged_values(&one) == judged_values(&other) && query == another);
            }
        }

        #[test]
        fn the_order_of_names_does_not_matter(pairs in pairs()) {
            let mut sorted = pairs.clone();
            sorted.sort_by(|one, other| one.0.cmp(&other.0));
            prop_assert_eq!(key(&pairs, "/a"), key(&sorted, "/a"));
        }
    }
}
