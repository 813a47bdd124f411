//! The contents of the cache in the admin API: a list, evictions, and hashing.

use std::time::SystemTime;

use backends::Digest;
use blob_cache::{Evicted, Verdict};
use operations::reports::{CachePage, Evict, Evictions, VerifiedReport, Verify};

use super::answer::{Answer, json};
use super::problem::Problem;
use crate::Gateway;

/// The default number of blobs on one page.
const PAGE: usize = 1000;

/// The most blobs on one page, and in one command.
const BLOBS_MAX: usize = 1000;

/// The largest integer that every reader of JSON has (RFC 8259, section 6).
const PLACE_MAX: u64 = (1 << 53) - 1;

/// A page of the contents, selected by `after` and `limit`.
pub(super) fn list(gateway: &Gateway, query: &str) -> Answer {
    let (mut after, mut limit) = (None, PAGE);
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "after" => {
                let place = value.parse::<u64>().ok().filter(|place| *place <= PLACE_MAX);
                after =
                    Some(place.ok_or_else(|| Problem::malformed("after is the next of an earlier page"))?);
            }
            "limit" => {
                let wanted = value.parse().ok().filter(|limit| (1..=BLOBS_MAX).contains(limit));
                limit = wanted
                    .ok_or_else(|| Problem::malformed(format!("limit is a number from 1 to {BLOBS_MAX}")))?;
            }
            _ => {
                return Err(Problem::malformed(
                    "the query cannot be parsed: is the command of another version?",
                ));
            }
        }
    }
    json(&CachePage::new(&gateway.cache.list(after, limit), limit, SystemTime::now()))
}

/// Takes blobs out of the cache.
pub(super) fn evict(gateway: &Gateway, evict: &Evict) -> Answer {
    if evict.digests.len() > BLOBS_MAX {
        return Err(Problem::too_large(format!("at most {BLOBS_MAX} blobs at once")));
    }
    let digests = evict.digests.iter().map(|text| digest(text)).collect::<Result<Vec<_>, _>>()?;
    let mut done = Evictions::default();
    for digest in digests {
        match gateway.cache.evict(&digest) {
            Evicted::Gone(size) => {
                done.evicted += 1;
                done.bytes += size;
            }
            Evicted::Pinned => done.pinned += 1,
            Evicted::Absent => done.absent += 1,
        }
    }
    tracing::info!(blobs = done.evicted, bytes = done.bytes, "blobs are evicted by command");
    json(&done)
}

/// Hashes the file of a blob.
pub(super) async fn verify(gateway: &Gateway, verify: Verify) -> Answer {
    let digest = digest(&verify.digest)?;
    let (verdict, error) = match gateway.cache.verify(&digest).await {
        Verdict::Right => ("right", None),
        Verdict::Wrong => ("wrong", None),
        Verdict::Absent => ("absent", None),
        Verdict::Unreadable(why) => ("unreadable", Some(why)),
    };
    json(&VerifiedReport { digest: digest.to_string(), verdict: verdict.to_owned(), error })
}

pub(super) fn digest(text: &str) -> Result<Digest, Problem> {
    // The text is not repeated in the error, because it may be anything.
    text.parse().map_err(|error| Problem::malformed(format!("a digest is wrong: {error}")))
}
