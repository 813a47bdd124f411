//! Images as commands read them through the gateway: their names, platforms, logins, manifests and blobs.

mod auth_file;
mod blob;
mod content;
mod logins;
mod manifest;

pub use config::{ImageName, ImageNameError, Platform, PlatformError, Platforms};

pub use self::auth_file::AuthFile;
pub(crate) use self::blob::{BlobRead, Kept, Sink, read_blob};
pub(crate) use self::content::{ImageContent, read_content};
pub use self::content::{ImageWalk, MANIFESTS_MAX, UnknownContent};
pub(crate) use self::logins::LoggedIn;
pub use self::logins::Logins;
pub(crate) use self::manifest::{Manifest, read_manifest};
