//! Listings that come in pages, each with a marker that asks for the next.

use futures_util::stream::BoxStream;
use futures_util::{Future, StreamExt, TryStreamExt, stream};

use crate::{Error, Kind, Meta, Result};

/// Pages without a name that may follow each other: stores skip what was deleted so.
const EMPTY_PAGES_MAX: u32 = 1000;

/// One page of a listing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) found: Vec<Meta>,
    /// What asks for the next page; `None` at the last one.
    pub(crate) next: Option<String>,
}

/// All that is on the pages which `page` gets, the first one without a marker.
///
/// # Errors
/// Those of `page`; [`Kind::Unavailable`] where the server begins over, for that would never end.
pub(crate) fn listing<'a, F, P>(what: String, page: F) -> BoxStream<'a, Result<Meta>>
where
    F: Fn(Option<String>) -> P + Send + 'a,
    P: Future<Output = Result<Page>> + Send + 'a,
{
    // The state is the marker of the next page: `Some(None)` before the first.
    stream::try_unfold((Some(None), Course::default(), page), move |(marker, mut course, page)| {
        let what = what.clone();
        async move {
            let Some(marker) = marker else { return Ok(None) };
            let Page { found, next } = page(marker).await?;
            if let Some(next) = &next {
                let last = found.last().map(|meta| meta.key.as_str());
                course
                    .goes_on(last, next)
                    .map_err(|why| Error::new(Kind::Unavailable, format!("{what}: {why}")))?;
            }
            Ok(Some((stream::iter(found.into_iter().map(Ok)), (next.map(Some), course, page))))
        }
    })
    .try_flatten()
    .boxed()
}

/// Whether a listing goes on, with one page of it remembered (Brent's algorithm): whoever goes in
/// circles meets it again.
#[derive(Debug, Default)]
struct Course {
    remembered: Option<String>,
    since: u64,
    span: u64,
    empty: u32,
}

impl Course {
    /// One more page, and not the last: its last name, and the marker after it.
    fn goes_on(&mut self, last: Option<&str>, next: &str) -> Result<(), &'static str> {
        self.empty = if last.is_some() { 0 } else { self.empty + 1 };
        if self.empty > EMPTY_PAGES_MAX {
            return Err("nothing but empty pages");
        }
        // The name tells more: a marker may be another each time.
        let page = last.unwrap_or(next);
        if self.remembered.as_deref() == Some(page) {
            return Err("the same page again");
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

    /// Pages until it is noticed, of `lead` pages and then a circle of `circle`.
    fn noticed_after(lead: usize, circle: usize) -> usize {
        let mut course = Course::default();
        let name =
            |page: usize| format!("{}", if page < lead { page } else { lead + (page - lead) % circle });
        (0..).find(|page| course.goes_on(Some(&name(*page)), "next").is_err()).expect("endless")
    }

    proptest! {
        #[test]
        fn circles_end(lead in 0usize..300, circle in 1usize..50) {
            prop_assert!(noticed_after(lead, circle) <= 4 * (lead + circle));
        }

        #[test]
        fn what_goes_on_may(pages in 1usize..5000) {
            let mut course = Course::default();
            for page in 0..pages {
                prop_assert!(course.goes_on(Some(&page.to_string()), "same marker").is_ok());
            }
        }
    }

    #[test]
    fn empty_pages_end() {
        let mut course = Course::default();
        let pages = (0..).take_while(|page: &u32| course.goes_on(None, &page.to_string()).is_ok());
        assert_eq!(pages.count() as u32, EMPTY_PAGES_MAX);
    }
}
