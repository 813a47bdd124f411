//! Verifies the digest of bytes while they pass.

use crate::{Digest, Error, Hasher, Kind, Result};

/// Watches bytes pass and withholds the end until the digest is verified.
///
/// The caller passes every chunk to [`Proof::admit`] before it sends the chunk on. The chunk that completes
/// the size is admitted only if the digest of the whole is correct. Wrong bytes therefore never become a
/// complete body.
#[derive(Debug, Clone)]
pub struct Proof {
    digest: Digest,
    size: u64,
    hasher: Hasher,
}

impl Proof {
    /// A proof for `size` bytes in all. `seen` has already hashed the bytes that passed before.
    #[must_use]
    pub fn new(digest: Digest, size: u64, seen: Hasher) -> Self {
        Self { digest, size, hasher: seen }
    }

    /// Hashes the next chunk. If the result is `Ok`, the caller may send the chunk on.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] if there are more bytes than expected, or if the chunk completes the size and the
    /// digest differs.
    pub fn admit(&mut self, chunk: &[u8]) -> Result<()> {
        if chunk.len() as u64 > self.missing() {
            return Err(self.corrupt("more bytes than promised"));
        }
        self.hasher.update(chunk);
        self.is_complete().map(|_| ())
    }

    /// Whether all bytes have passed and their digest is correct. For a body of zero bytes, only the digest
    /// of zero bytes is correct.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] if all bytes have passed and the digest differs.
    pub fn is_complete(&self) -> Result<bool> {
        if self.missing() > 0 {
            return Ok(false);
        }
        if self.hasher.clone().finish() != self.digest {
            return Err(self.corrupt("the digest differs"));
        }
        Ok(true)
    }

    /// How many bytes are still missing. Zero does not prove the digest: see [`Proof::is_complete`].
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.size.saturating_sub(self.hasher.bytes())
    }

    /// The size of the whole, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The hash so far. Another proof can continue from it with the remaining bytes.
    #[must_use]
    pub fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    fn corrupt(&self, why: &str) -> Error {
        Error::new(
            Kind::Corrupt,
            format!("{} after {} of {} bytes: {why}", self.digest, self.hasher.bytes(), self.size),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_chunk_is_admitted_only_if_the_digest_is_correct() {
        let mut proof = Proof::new(Digest::of(b"hello"), 5, Hasher::new());
        assert!(proof.admit(b"hel").is_ok());
        let mut other = proof.clone();
        assert!(proof.admit(b"lo").is_ok());
        assert_eq!(proof.is_complete().map_err(|e| e.kind()), Ok(true));
        assert_eq!(other.admit(b"lO").map_err(|e| e.kind()), Err(Kind::Corrupt));
    }

    #[test]
    fn zero_bytes_match_only_the_digest_of_zero_bytes() {
        let complete = |digest, size, seen: &[u8]| {
            let mut hasher = Hasher::new();
            hasher.update(seen);
            Proof::new(digest, size, hasher).is_complete().map_err(|e| e.kind())
        };
        let hello = Digest::of(b"hello");
        assert_eq!(complete(hello, 0, b""), Err(Kind::Corrupt));
        assert_eq!(complete(Digest::EMPTY, 0, b""), Ok(true));
        // The same holds for bytes that passed before.
        assert_eq!(complete(hello, 5, b"hellO"), Err(Kind::Corrupt));
        assert_eq!(complete(hello, 5, b"hello"), Ok(true));
        assert_eq!(complete(hello, 5, b"hell"), Ok(false));
        for (digest, size, may) in
            [(hello, 0, false), (hello, 5, true), (Digest::EMPTY, 0, true), (Digest::EMPTY, 5, false)]
        {
            assert_eq!(digest.may_have(size), may, "{digest} {size}");
        }
    }

    #[test]
    fn too_many_bytes_are_refused() {
        let mut proof = Proof::new(Digest::of(b"hello"), 5, Hasher::new());
        assert!(proof.admit(b"hello!").is_err());
    }
}
