//! Credentials that the registry accepted, and what they may read.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use moka::sync::Cache;
use registry::bearer::{Hashed, KeyedHash, random, with_namespace};
use sqlite_file::milliseconds;
use zeroize::Zeroizing;

use crate::keys::Keys;
use crate::store::{Change, Store, StoredCredential};

/// The bytes of name and password together. Quay's longest credentials are tokens of a few kilobytes.
pub const CREDENTIAL_BYTES_MAX: usize = 16 * 1024;

/// Memory of one hash in KiB, its passes and its lanes: the least that OWASP's Password Storage Cheat Sheet recommends for
/// Argon2id.
const ARGON2: (u32, u32, u32) = (19 * 1024, 2, 1);

/// How many credentials are known without a slow hash, and for how long.
const MEMO_MAX: u64 = 10_000;
const MEMO_LIFE: Duration = Duration::from_secs(600);

/// Wrong passwords for one name within [`WRONG_LIFE`], after which no more are tried.
const WRONG_MAX: u32 = 10;
const WRONG_LIFE: Duration = Duration::from_secs(60);

/// The bytes of a random salt.
const SALT_BYTES: usize = 16;

/// A name and a password.
pub struct Credential {
    name: String,
    password: Zeroizing<String>,
}

impl Credential {
    /// The credential in the only `Authorization` header, if that is Basic (RFC 7617) and not longer than
    /// [`CREDENTIAL_BYTES_MAX`].
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next().filter(|_| values.next().is_none())?.to_str().ok()?;
        let (scheme, encoded) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") || encoded.len() > CREDENTIAL_BYTES_MAX {
            return None;
        }
        let bytes = Zeroizing::new(STANDARD.decode(encoded.trim()).ok()?);
        let (name, password) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
        Some(Self { name: name.to_owned(), password: Zeroizing::new(password.to_owned()) })
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(<name and password>)")
    }
}

/// What is known about a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// The registry accepted it lately.
    Known {
        /// Its number.
        id: i64,
        /// Which of the repositories that were asked for it may read.
        readable: Vec<String>,
        /// Until when all of that counts.
        until: SystemTime,
    },
    /// The registry accepted another password for this name lately.
    Wrong,
    /// There were too many wrong passwords for this name.
    TooMany,
    /// The registry accepted no credential of this name lately. It may be good.
    Unknown,
}

/// Credentials that the registry accepted. All functions hash slowly by design, some 30 ms and 19 MiB: the caller runs
/// them off the executor, and only a few at once.
pub struct Credentials {
    store: Arc<Store>,
    /// For the names of credentials on disk.
    names: KeyedHash,
    /// For credentials that never leave memory.
    fast: KeyedHash,
    argon2_key: Zeroizing<[u8; 32]>,
    /// The stored hash of a credential, by a fast hash that stays in memory. `None`: it is of no stored one.
    memo: Cache<Hashed, Option<String>>,
    /// Wrong passwords, by name.
    wrong: Cache<String, u32>,
}

impl Credentials {
    /// # Errors
    /// The system gives no random bytes.
    pub(crate) fn new(store: Arc<Store>, keys: &Keys) -> anyhow::Result<Self> {
        Ok(Self {
            store,
            names: KeyedHash::under(&keys.derived("names"))?,
            fast: KeyedHash::new()?,
            argon2_key: keys.derived("argon2"),
            memo: Cache::builder().max_capacity(MEMO_MAX).time_to_live(MEMO_LIFE).build(),
            wrong: Cache::builder().max_capacity(MEMO_MAX).time_to_live(WRONG_LIFE).build(),
        })
    }

    /// The registry accepted a credential at `at`. Of the repositories that were `asked`, it may read `readable`.
    ///
    /// # Errors
    /// The system gives no random bytes, or no hash can be computed.
    pub fn accepted(
        &self,
        credential: &Credential,
        asked: &[String],
        readable: &[String],
        at: SystemTime,
    ) -> anyhow::Result<()> {
        let hash = match self.stored(credential, at)? {
            Some(hash) => hash,
            None => self.hashed(credential)?,
        };
        self.memo.insert(self.memo_name(credential), Some(hash.clone()));
        for repository in asked.iter().filter(|asked| !readable.contains(asked)) {
            let repository = with_namespace(repository).into_owned();
            self.store.remove(Change::ForgetGrant { hash: hash.clone(), repository });
        }
        let repositories = readable.iter().map(|name| with_namespace(name).into_owned()).collect();
        let at = milliseconds(at);
        self.store.add(Change::Grants { name: self.name(credential), hash, repositories, at });
        Ok(())
    }

    /// The registry refused a credential. Others of the same name stay.
    ///
    /// # Errors
    /// No hash can be computed.
    pub fn refused(&self, credential: &Credential, now: SystemTime) -> anyhow::Result<()> {
        if let Some(hash) = self.stored(credential, now)? {
            self.store.remove(Change::ForgetCredential { hash });
        }
        self.memo.insert(self.memo_name(credential), None);
        Ok(())
    }

    /// What is known about a credential, and about its permission for these repositories.
    ///
    /// # Errors
    /// No hash can be computed.
    pub fn judge(
        &self,
        credential: &Credential,
        asked: &[String],
        now: SystemTime,
    ) -> anyhow::Result<Judged> {
        let name = self.name(credential);
        let known = self.store.credentials(&name, now);
        let memo = self.memo.get(&self.memo_name(credential)).flatten();
        let wrong = self.wrong.get(&name).unwrap_or(0);
        if memo.is_none() && wrong >= WRONG_MAX {
            return Ok(Judged::TooMany);
        }
        let found = match &memo {
            Some(hash) => known.iter().find(|stored| stored.hash == *hash),
            None if known.is_empty() => {
                // A name that is not known takes as long as one that is.
                let _ = self.hashed(credential)?;
                return Ok(Judged::Unknown);
            }
            None => self.matching(credential, &known)?,
        };
        let Some(found) = found else {
            self.wrong.insert(name, wrong + 1);
            return Ok(if memo.is_some() { Judged::Unknown } else { Judged::Wrong });
        };
        self.memo.insert(self.memo_name(credential), Some(found.hash.clone()));
        let until = |repository: &String| self.store.grant(found.id, repository, now);
        let grants: Vec<_> = asked.iter().filter_map(|name| Some((name.clone(), until(name)?))).collect();
        let until = grants.iter().map(|(_, until)| *until).min().unwrap_or(now + MEMO_LIFE);
        Ok(Judged::Known {
            id: found.id,
            readable: grants.into_iter().map(|(name, _)| name).collect(),
            until,
        })
    }

    /// The stored hash of this credential, if there is one.
    fn stored(&self, credential: &Credential, now: SystemTime) -> anyhow::Result<Option<String>> {
        if let Some(known) = self.memo.get(&self.memo_name(credential)) {
            return Ok(known);
        }
        let known = self.store.credentials(&self.name(credential), now);
        Ok(self.matching(credential, &known)?.map(|stored| stored.hash.clone()))
    }

    fn matching<'a>(
        &self,
        credential: &Credential,
        known: &'a [StoredCredential],
    ) -> anyhow::Result<Option<&'a StoredCredential>> {
        let argon2 = self.argon2()?;
        let input = input(credential);
        Ok(known.iter().find(|stored| {
            // Its comparison takes the same time for all hashes.
            PasswordHash::new(&stored.hash).is_ok_and(|hash| argon2.verify_password(&input, &hash).is_ok())
        }))
    }

    fn hashed(&self, credential: &Credential) -> anyhow::Result<String> {
        let mut salt = [0; SALT_BYTES];
        random(&mut salt)?;
        let salt = SaltString::encode_b64(&salt).map_err(anyhow::Error::msg)?;
        let argon2 = self.argon2()?;
        let hash = argon2.hash_password(&input(credential), &salt).map_err(anyhow::Error::msg)?;
        Ok(hash.to_string())
    }

    fn argon2(&self) -> anyhow::Result<Argon2<'_>> {
        let (memory, passes, lanes) = ARGON2;
        let params = Params::new(memory, passes, lanes, None).map_err(anyhow::Error::msg)?;
        let keyed = Argon2::new_with_secret(&*self.argon2_key, Algorithm::Argon2id, Version::V0x13, params);
        keyed.map_err(anyhow::Error::msg)
    }

    /// A keyed hash of the name, for the disk.
    fn name(&self, credential: &Credential) -> String {
        hex::encode(self.names.of([credential.name.as_bytes()]))
    }

    /// A fast keyed hash of name and password, which never leaves memory.
    fn memo_name(&self, credential: &Credential) -> Hashed {
        self.fast.of([credential.name.as_bytes(), credential.password.as_bytes()])
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(<hashes>)")
    }
}

/// The name and the password in one text. No name has a byte that UTF-8 cannot have.
fn input(credential: &Credential) -> Zeroizing<Vec<u8>> {
    Zeroizing::new([credential.name.as_bytes(), &[0xff], credential.password.as_bytes()].concat())
}

#[cfg(test)]
mod tests;
