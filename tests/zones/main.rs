//! Three zones with real stores behind the real gateway. One of them dies, hangs, is unreachable, answers
//! 503, is slow or sends wrong bytes while skopeo and fifty clients pull. The cache is too small to help. No
//! pull fails. If a zone sends wrong bytes, no pull is wrong, and the second try is correct.

mod crowd;
mod faults;
mod fixture;
mod lies;
mod namespace;
