//! What is remembered of the registry, as the gateway uses it.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use config::OfflineSettings;

use crate::credentials::{Credential, Credentials, Judged};
use crate::keys::Keys;
use crate::own_tokens::OwnTokens;
use crate::store::Store;

/// What is remembered of the registry, and what it lets a client read while the registry is away.
#[derive(Debug)]
pub struct Remembered {
    store: Arc<Store>,
    logins: Option<Logins>,
}

/// Credentials, and the tokens that are given for them.
#[derive(Debug)]
struct Logins {
    credentials: Credentials,
    tokens: OwnTokens,
}

/// What a request shows of its client.
#[derive(Debug, Clone, Copy)]
pub enum Shown<'a> {
    /// Nothing: there is no header that the registry may judge.
    Nothing,
    /// A bearer token.
    Token(&'a str),
}

/// The answer to a request for a token.
#[derive(Debug)]
pub enum Login {
    /// The token, and for how many seconds it counts.
    Token(String, u64),
    /// The registry accepted another password for this name lately.
    Wrong,
    /// There were too many wrong passwords for this name lately.
    TooMany,
    /// Nothing is known of this credential. It may be good.
    Unknown,
}

impl Remembered {
    /// Opens the files in `state_dir`. `registry` tells this registry from every other; `audience` is its own name. It
    /// blocks.
    ///
    /// # Errors
    /// A file cannot be read or written, or the system gives no random bytes.
    pub fn open(
        state_dir: &Path,
        registry: &str,
        audience: &str,
        settings: OfflineSettings,
    ) -> anyhow::Result<Self> {
        let store = Arc::new(Store::open(state_dir, registry, settings.max_age)?);
        let logins = settings.tokens.then(|| -> anyhow::Result<Logins> {
            let keys = Keys::open(state_dir)?;
            let credentials = Credentials::new(Arc::clone(&store), &keys)?;
            Ok(Logins { credentials, tokens: OwnTokens::new(&keys, audience) })
        });
        Ok(Self { store, logins: logins.transpose()? })
    }

    /// What the registry served.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The credentials, if they are remembered.
    #[must_use]
    pub fn credentials(&self) -> Option<&Credentials> {
        self.logins.as_ref().map(|logins| &logins.credentials)
    }

    /// Whether the registry lately let this client read this repository: without a credential, or with the credential for
    /// which the gateway gave this token. It may block on the disk.
    #[must_use]
    pub fn may_read(&self, shown: Shown<'_>, repository: &str, now: SystemTime) -> bool {
        let token = match shown {
            Shown::Nothing => return self.store.is_anonymous(repository, now),
            Shown::Token(token) => token,
        };
        let Some(token) = self.logins.as_ref().and_then(|logins| logins.tokens.verified(token, now)) else {
            return false;
        };
        token.names(repository)
            && match token.credential {
                Some(credential) => self.store.grant(credential, repository, now).is_some(),
                None => self.store.is_anonymous(repository, now),
            }
    }

    /// Whether this is a token that the gateway gave and that counts.
    #[must_use]
    pub fn is_own(&self, token: &str, now: SystemTime) -> bool {
        self.logins.as_ref().is_some_and(|logins| logins.tokens.verified(token, now).is_some())
    }

    /// A token for a credential, or for a client without one, with which those of the `asked` repositories can be read that
    /// the registry lately let it read. It may take long: see [`Credentials`].
    ///
    /// # Errors
    /// Nothing can be hashed or signed.
    pub fn login(
        &self,
        credential: Option<&Credential>,
        asked: &[String],
        now: SystemTime,
    ) -> anyhow::Result<Login> {
        let Some(Logins { credentials, tokens }) = &self.logins else { return Ok(Login::Unknown) };
        let (id, readable, until) =
            match credential.map(|known| credentials.judge(known, asked, now)).transpose()? {
                None => {
                    let is_anonymous = |name: &&String| self.store.is_anonymous(name, now);
                    let readable: Vec<_> = asked.iter().filter(is_anonymous).cloned().collect();
                    (None, readable, now + crate::TOKEN_LIFE)
                }
                Some(Judged::Known { id, readable, until }) => (Some(id), readable, until),
                Some(Judged::Wrong) => return Ok(Login::Wrong),
                Some(Judged::TooMany) => return Ok(Login::TooMany),
                Some(Judged::Unknown) => return Ok(Login::Unknown),
            };
        let (token, life) = tokens.sign(id, &readable, until, now)?;
        Ok(Login::Token(token, life.as_secs()))
    }

    /// Writes everything to the disk. It blocks.
    pub fn close(&self) {
        self.store.close();
    }
}

#[cfg(test)]
mod tests;
