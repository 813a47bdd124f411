//! The secret key of what is remembered, in a file of its own.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, bail};
use registry::bearer::{KeyedHash, random};
use zeroize::Zeroizing;

/// The file in `state_dir`.
const FILE: &str = "offline.key";

/// The bytes of the key.
const KEY_BYTES: usize = 32;

/// A random key from which others are derived, each for one purpose. Without the file, the hashes beside it are of no use
/// to anybody.
pub(crate) struct Keys(KeyedHash);

impl Keys {
    /// Reads the key in `state_dir`, or makes it. It blocks.
    ///
    /// # Errors
    /// The file cannot be read or written, or is not such a key, or the system gives no random bytes.
    pub(crate) fn open(state_dir: &Path) -> anyhow::Result<Self> {
        let path = state_dir.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let mut key = Zeroizing::new([0; KEY_BYTES]);
                random(&mut *key)?;
                let text = Zeroizing::new(hex::encode(*key));
                let created = atomic_file::create(&path, text.as_bytes(), atomic_file::PRIVATE);
                created.with_context(|| format!("{} cannot be written", path.display()))?;
                return Ok(Self(KeyedHash::under(&key)?));
            }
            Err(error) => bail!("{} cannot be read: {error}", path.display()),
        };
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        if hex::decode_to_slice(text.trim_ascii(), &mut *key).is_err() {
            bail!("{} is not a key: remove it, and all credentials are learned again", path.display());
        }
        Ok(Self(KeyedHash::under(&key)?))
    }

    /// The key for this purpose.
    pub(crate) fn derived(&self, purpose: &str) -> Zeroizing<[u8; KEY_BYTES]> {
        Zeroizing::new(self.0.of([purpose.as_bytes()]))
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(<key>)")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = [(); 2].map(|()| Keys::open(folder.path()).expect("a key"));
        assert_eq!(keys[0].derived("a"), keys[1].derived("a"));
        assert_ne!(keys[0].derived("a"), keys[0].derived("b"));
        assert_eq!(format!("{:?}", keys[0]), "Keys(<key>)");
        let path = folder.path().join(FILE);
        assert_eq!(std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "short").expect("written");
        let error = Keys::open(folder.path()).expect_err("no key").to_string();
        assert!(error.contains("is not a key: remove it"), "{error}");
    }
}
