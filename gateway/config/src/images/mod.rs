//! The names and platforms of images, in the configuration and on the command line.

mod name;
mod platform;

pub use self::name::{ImageName, ImageNameError, OtherRegistry};
pub use self::platform::{DescribedPlatform, Platform, PlatformError, Platforms};
