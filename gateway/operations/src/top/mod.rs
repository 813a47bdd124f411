//! What `top` shows: one frame, made of two samples of a running gateway.

mod frame;
mod sample;

pub use self::frame::frame;
pub use self::sample::TopSample;
