//! What an operator asks before and after starting: is this configuration right?

mod summary;

pub use summary::summary;
