#![doc = include_str!("../README.md")]

mod accept;
mod credentials;
mod keys;
mod own_tokens;
mod remembered;
mod scope;
mod store;

pub use accept::AcceptClass;
pub use credentials::{CREDENTIAL_BYTES_MAX, Credential, Credentials, Judged};
pub use own_tokens::TOKEN_LIFE;
pub use remembered::{Login, Remembered, Shown};
pub use scope::asked_repositories;
pub use store::{Kept, MANIFEST_BYTES_MAX, Store};
