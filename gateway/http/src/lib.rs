#![doc = include_str!("../README.md")]

mod allowed;
mod body;
mod error;
mod head;
mod headers;
mod host;
mod piece;
mod range;

pub use allowed::Allowed;
pub use body::{Body, BodyError};
pub use error::{Fault, Problem};
pub use head::check_head;
pub use headers::{Via, content_length, end_to_end, forwarded_request, without_body};
pub use host::{HostError, host};
pub use piece::{PIECE_MAX, PIECE_MIN, limit as piece_limit, limited as piece_limited};
pub use range::{ByteRange, Requested, Spec, if_none_match_hits, requested};
