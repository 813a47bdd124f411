#![doc = include_str!("../README.md")]

pub mod answer;
pub mod clock;
pub mod error;
pub mod persist;
mod secret;
pub mod timestamp;

pub use error::{Error, Kind, Result};
pub use secret::Secret;
