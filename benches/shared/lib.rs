//! What the bench programs share.

pub mod measure;
pub mod rclone;
