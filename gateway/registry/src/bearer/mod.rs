//! Verifies the registry's bearer tokens here, by the registry's own rules.
//!
//! Only a plain yes counts. A token in any form that the registry does not issue itself, or that breaks a rule, proves
//! nothing: the registry is asked, and the client gets the registry's own answer.

mod claims;
mod form;
mod grants;
mod key_set;
mod key_source;
mod keyed_hash;
mod verifier;
mod verify;

pub use form::Form;
pub use grants::{Grants, with_namespace};
pub use key_set::{KEY_SET_BYTES_MAX, KeySet, KeySetError, PublicKey};
pub use key_source::KeySource;
pub use keyed_hash::{Hashed, KeyedHash, random};
pub use verifier::{KEYS_LIFE, TokenVerifier};
pub use verify::{Unproven, Verified, bearer_token, verify};

use std::time::Duration;

/// The bytes of a token that is verified here. A token for 60 repositories has 8 KiB.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// What a token must say, apart from its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Which registry's tokens they are.
    pub form: Form,
    /// `iss`: Quay's `INSTANCE_SERVICE_KEY_SERVICE`.
    pub issuer: String,
    /// `aud`: Quay's `SERVER_HOSTNAME`, or distribution's `service`.
    pub audience: String,
    /// The longest life, from `iat` to `exp`: Quay's `REGISTRY_JWT_AUTH_MAX_FRESH_S`. Distribution has none.
    pub life_max: Duration,
}
