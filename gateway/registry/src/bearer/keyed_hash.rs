//! Hashes of credentials under a secret key.

use std::fmt;

use anyhow::anyhow;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// HMAC-SHA-256 under a secret key. Without the key, nobody can tell from such a hash whether it belongs to a credential.
#[derive(Clone)]
pub struct KeyedHash(Hmac<Sha256>);

/// A hash of one credential or request.
pub type Hashed = [u8; 32];

impl KeyedHash {
    /// Under a random key, which only this process knows.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new() -> anyhow::Result<Self> {
        let mut key = [0; 32];
        random(&mut key)?;
        Self::under(&key)
    }

    /// Under this key.
    ///
    /// # Errors
    /// HMAC refuses the key, which it does for none of this length.
    pub fn under(key: &[u8; 32]) -> anyhow::Result<Self> {
        Ok(Self(Hmac::new_from_slice(key).map_err(|_| anyhow!("a key of 32 bytes is refused"))?))
    }

    /// The hash of these pieces. Each is preceded by its length, so that different pieces never give the same bytes.
    pub fn of<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Hashed {
        let mut mac = self.0.clone();
        for piece in pieces {
            mac.update(&(piece.len() as u64).to_le_bytes());
            mac.update(piece);
        }
        mac.finalize().into_bytes().into()
    }
}

/// Fills these bytes from the system's source of random bytes for keys.
///
/// # Errors
/// The system gives none.
pub fn random(bytes: &mut [u8]) -> anyhow::Result<()> {
    let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    random.fill(bytes).map_err(|_| anyhow!("the system gives no random bytes"))
}

impl fmt::Debug for KeyedHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyedHash(<key>)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_equal_pieces_under_the_same_key_have_equal_hashes() {
        let [one, other] = [(); 2].map(|()| KeyedHash::new().expect("random bytes"));
        let hash = |keyed: &KeyedHash, pieces: &[&str]| keyed.of(pieces.iter().map(|piece| piece.as_bytes()));
        assert_eq!(hash(&one, &["a", "b"]), hash(&one.clone(), &["a", "b"]));
        assert_ne!(hash(&one, &["a", "b"]), hash(&other, &["a", "b"]));
        assert_ne!(hash(&one, &["a", "b"]), hash(&one, &["ab"]));
        assert_ne!(hash(&one, &["a", "b"]), hash(&one, &["a", "b", ""]));
        assert_eq!(format!("{one:?}"), "KeyedHash(<key>)");
    }
}
