//! A client's request: who sends it, and its body.

mod body;
mod client;

pub(crate) use self::body::{Received, RequestBody};
pub(crate) use self::client::{Client, is_trusted};
