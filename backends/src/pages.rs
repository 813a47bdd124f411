//! Listings that arrive in pages. Each page has a marker for the next one.

use futures_util::stream::BoxStream;
use futures_util::{Future, StreamExt, TryStreamExt, stream};

use crate::{Error, Kind, Meta, Result};

/// The maximum number of empty pages in a row. Stores return empty pages for deleted objects.
const EMPTY_PAGES_MAX: u32 = 1000;

/// One page of a listing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) found: Vec<Meta>,
    /// The marker of the next page. `None` on the last page.
    pub(crate) next: Option<String>,
}

/// All objects of a listing. `page` fetches one page; the first one has no marker.
///
/// # Errors
/// The errors of `page`. [`Kind::Unavailable`] if the server repeats a page, because the listing would never
/// end.
pub(crate) fn listing<'a, F, P>(what: String, page: F) -> BoxStream<'a, Result<Meta>>
where
    F: Fn(Option<String>) -> P + Send + 'a,
    P: Future<Output = Result<Page>> + Send + 'a,
{
    // The state is the marker of the next page. It is `Some(None)` before the first page.
    stream::try_unfold((Some(None), CycleDetector::default(), page), move |(marker, mut course, page)| {
        let what = what.clone();
        async move {
            let Some(marker) = marker else { return Ok(None) };
            let Page { found, next } = page(marker).await?;
            if let Some(next) = &next {
                let last = found.last().map(|meta| meta.key.as_str());
                course
                    .advance(last, next)
                    .map_err(|why| Error::new(Kind::Unavailable, format!("{what}: {why}")))?;
            }
            Ok(Some((stream::iter(found.into_iter().map(Ok)), (next.map(Some), course, page))))
        }
    })
    .try_flatten()
    .boxed()
}

/// Detects a listing that repeats itself. It remembers one page (Brent's algorithm) and fails if the listing
/// reaches that page again.
#[derive(Debug, Default)]
struct CycleDetector {
    remembered: Option<String>,
    since: u64,
    span: u64,
    empty: u32,
}

impl CycleDetector {
    /// Records one page that is not the last: its last name, and the marker of the next page.
    fn advance(&mut self, last: Option<&str>, next: &str) -> Result<(), &'static str> {
        self.empty = if last.is_some() { 0 } else { self.empty + 1 };
        if self.empty > EMPTY_PAGES_MAX {
            return Err("the server returns only empty pages");
        }
        // The name is preferred, because a server may generate a new marker each time.
        let page = last.unwrap_or(next);
        if self.remembered.as_deref() == Some(page) {
            return Err("the server repeats the same page");
        }
        self.since += 1;
        if self.since >= self.span {
            self.remembered = Some(page.to_owned());
            self.span = self.span.saturating_mul(2).max(1);
            self.since = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The number of pages until a repetition is detected. `lead` pages are followed by a cycle of `circle`
    /// pages.
    fn detected_after(lead: usize, circle: usize) -> usize {
        let mut course = CycleDetector::default();
        let name =
            |page: usize| format!("{}", if page < lead { page } else { lead + (page - lead) % circle });
        (0..).find(|page| course.advance(Some(&name(*page)), "next").is_err()).expect("endless")
    }

    proptest! {
        #[test]
        fn cycles_are_detected(lead in 0usize..300, circle in 1usize..50) {
            prop_assert!(detected_after(lead, circle) <= 4 * (lead + circle));
        }

        #[test]
        fn a_listing_without_repetition_is_accepted(pages in 1usize..5000) {
            let mut course = CycleDetector::default();
            for page in 0..pages {
                prop_assert!(course.advance(Some(&page.to_string()), "same marker").is_ok());
            }
        }
    }

    #[test]
    fn too_many_empty_pages_fail() {
        let mut course = CycleDetector::default();
        let pages = (0..).take_while(|page: &u32| course.advance(None, &page.to_string()).is_ok());
        assert_eq!(pages.count() as u32, EMPTY_PAGES_MAX);
    }
}
