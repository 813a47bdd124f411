//! Lists of repositories and tags, page by page. Pure.

use http::HeaderMap;
use http::header::LINK;
use http::uri::PathAndQuery;
use serde::{Deserialize, Deserializer};

/// One page of names.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// The names on this page.
    pub names: Vec<String>,
    /// The path of the next page; `None` after the last page.
    pub next: Option<PathAndQuery>,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(default, alias = "tags", deserialize_with = "null_as_empty")]
    repositories: Vec<String>,
}

impl Page {
    /// Reads a list of repositories or of tags.
    ///
    /// # Errors
    /// The body is not a list in JSON.
    pub fn of(headers: &HeaderMap, body: &[u8]) -> Result<Self, serde_json::Error> {
        let listed: Listed = serde_json::from_slice(body)?;
        let links = headers.get_all(LINK).iter().filter_map(|link| link.to_str().ok());
        let next = links.filter_map(next).next().and_then(|path| path.parse().ok());
        Ok(Self { names: listed.repositories, next })
    }
}

/// The target of `<…>; rel="next"`, which both registries write as a path. Other targets are ignored.
fn next(link: &str) -> Option<&str> {
    let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    let next = rest.split(';').any(|part| matches!(part.trim(), "rel=\"next\"" | "rel=next"));
    (next && target.starts_with("/v2/")).then_some(target)
}

/// An empty list may be written as `null`.
fn null_as_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn linked(link: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(LINK, link.parse().expect("a header"));
        headers
    }

    #[test]
    fn pages_lead_to_the_next_one() {
        let tags = br#"{"name":"a/b","tags":["v1","v2"]}"#;
        let page = Page::of(&linked(r#"</v2/a/b/tags/list?n=2&last=v2>; rel="next""#), tags).expect("a page");
        assert_eq!(page.names, ["v1", "v2"]);
        assert_eq!(page.next.expect("one more").as_str(), "/v2/a/b/tags/list?n=2&last=v2");
        let last = Page::of(&HeaderMap::new(), br#"{"repositories":null}"#).expect("a page");
        assert_eq!(last, Page { names: Vec::new(), next: None });
        assert!(Page::of(&HeaderMap::new(), b"<html>").is_err());
    }

    #[test]
    fn no_link_leads_elsewhere() {
        for link in
            [r#"<https://evil.example.com/v2/x>; rel="next""#, r#"</v2/x>; rel="last""#, "</v2/x>", "/v2/x"]
        {
            assert_eq!(Page::of(&linked(link), b"{}").expect("a page").next, None, "{link}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_causes_a_panic(link in "[ -~]{0,80}", body in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(page) = Page::of(&linked(&link), &body) {
                prop_assert!(page.next.is_none_or(|next| next.path().starts_with("/v2/")));
            }
        }
    }
}
