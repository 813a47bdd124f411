//! What the bench programs share.

pub mod json;
pub mod measure;
pub mod rclone;
