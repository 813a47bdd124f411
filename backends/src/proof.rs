//! Proof that bytes in passing are those a digest names.

use crate::{Digest, Error, Hasher, Kind, Result};

/// Watches bytes pass and withholds the end until the digest is proven.
///
/// Every chunk is shown to [`Proof::admit`] before it goes on. The chunk that completes the size
/// is admitted only if the digest of the whole matches, so wrong bytes never make a whole.
#[derive(Debug, Clone)]
pub struct Proof {
    digest: Digest,
    size: u64,
    hasher: Hasher,
}

impl Proof {
    /// Of `size` bytes in all, those that `seen` saw being past already.
    #[must_use]
    pub fn new(digest: Digest, size: u64, seen: Hasher) -> Self {
        Self { digest, size, hasher: seen }
    }

    /// Takes the next chunk; on `Ok` it may go on.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] if there are more bytes than promised, or the last of them is here and
    /// the digest is another.
    pub fn admit(&mut self, chunk: &[u8]) -> Result<()> {
        if chunk.len() as u64 > self.missing() {
            return Err(self.corrupt("more bytes than promised"));
        }
        self.hasher.update(chunk);
        self.is_complete().map(|_| ())
    }

    /// Whether all bytes have passed, and are those of the digest. Also where there were none to admit, which
    /// prove nothing but the digest of no bytes.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] if all have passed and the digest is another.
    pub fn is_complete(&self) -> Result<bool> {
        if self.missing() > 0 {
            return Ok(false);
        }
        if self.hasher.clone().finish() != self.digest {
            return Err(self.corrupt("the digest is another"));
        }
        Ok(true)
    }

    /// Bytes still to come. That there are none proves nothing: see [`Proof::is_complete`].
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.size.saturating_sub(self.hasher.bytes())
    }

    /// Bytes in all.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The hash so far, from which the rest can be proven elsewhere.
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
    fn the_last_chunk_waits_for_the_digest() {
        let mut proof = Proof::new(Digest::of(b"hello"), 5, Hasher::new());
        assert!(proof.admit(b"hel").is_ok());
        let mut other = proof.clone();
        assert!(proof.admit(b"lo").is_ok());
        assert_eq!(proof.is_complete().map_err(|e| e.kind()), Ok(true));
        assert_eq!(other.admit(b"lO").map_err(|e| e.kind()), Err(Kind::Corrupt));
    }

    #[test]
    fn no_bytes_prove_the_digest_of_no_bytes_alone() {
        let complete = |digest, size, seen: &[u8]| {
            let mut hasher = Hasher::new();
            hasher.update(seen);
            Proof::new(digest, size, hasher).is_complete().map_err(|e| e.kind())
        };
        let hello = Digest::of(b"hello");
        assert_eq!(complete(hello, 0, b""), Err(Kind::Corrupt));
        assert_eq!(complete(Digest::EMPTY, 0, b""), Ok(true));
        // Nor does what was past before.
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
