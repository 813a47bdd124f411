//! A client's request: its sender and its body.

mod body;
mod client;

pub(crate) use self::body::{ReceivedBytes, RequestBody};
pub(crate) use self::client::{Client, is_trusted};
