//! Quay's locks: what its workers and this gateway must not do at once.
//!
//! The protocol is that of `redis_lock.Lock` of python-redis-lock 4.0, which Quay's
//! `util/locking.py:GlobalLock` takes: the key `lock:<name>` holds the owner's name and expires; who
//! waits for it waits for a word in the list `lock-signal:<name>`, which its owner leaves there for a
//! second when the key goes.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::resp::Reply;
use super::{Connection, RedisError};
use config::RedisSettings;

/// After so long a lock is another's, whatever became of who took it. Much longer than anybody here
/// holds one, so that nothing done under it is still under way then.
const EXPIRY: Duration = Duration::from_secs(60);

/// How long a lock is waited for.
const WAIT: Duration = Duration::from_secs(15);

/// A look at the lock at least so often, whatever its owner says.
const LOOK: Duration = Duration::from_secs(5);

/// Milliseconds that the word to those who wait stays.
const SIGNAL_MS: &[u8] = b"1000";

/// Lets go: key, list; the owner's name, milliseconds. 1 if it was ours still.
const RELEASE: &[u8] = b"\
if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('del', KEYS[2])
redis.call('lpush', KEYS[2], 1)
redis.call('pexpire', KEYS[2], ARGV[2])
return redis.call('del', KEYS[1])";

/// Where Quay's locks are.
#[derive(Debug)]
pub struct Locks {
    settings: RedisSettings,
    tls: Arc<ClientConfig>,
}

/// A lock that is held, at most for [`EXPIRY`]. Let go where it is dropped, too.
#[derive(Debug)]
pub struct Lock(Option<Held>);

#[derive(Debug)]
struct Held {
    connection: Connection,
    key: String,
    signal: String,
    owner: String,
}

impl Locks {
    /// Locks in this Redis. Nothing is dialled before a lock is asked for.
    #[must_use]
    pub fn new(settings: RedisSettings, tls: Arc<ClientConfig>) -> Self {
        Self { settings, tls }
    }

    /// Whether it can be reached, and lets us in.
    ///
    /// # Errors
    /// It cannot, or does not.
    pub async fn ping(&self) -> Result<(), RedisError> {
        Connection::open(&self.settings, &self.tls).await?.expect_ok(&[b"PING"]).await
    }

    /// Takes a lock, waiting 15 s at most.
    ///
    /// # Errors
    /// Another holds it for longer, or Redis does not answer.
    pub async fn take(&self, name: &str) -> Result<Lock, RedisError> {
        let mut connection = Connection::open(&self.settings, &self.tls).await?;
        let (key, signal) = (format!("lock:{name}"), format!("lock-signal:{name}"));
        let owner = format!("{:032x}", fastrand::u128(..));
        let expiry = EXPIRY.as_secs().to_string();
        let late = Instant::now() + WAIT;
        loop {
            let set: [&[u8]; 6] = [b"SET", key.as_bytes(), owner.as_bytes(), b"NX", b"EX", expiry.as_bytes()];
            if connection.ask(&set, Duration::ZERO).await? != Reply::Nil {
                return Ok(Lock(Some(Held { connection, key, signal, owner })));
            }
            let wait = late.saturating_duration_since(Instant::now()).min(LOOK);
            // Less than a second it would take as for ever.
            if wait < Duration::from_secs(1) {
                return Err(RedisError::Held(name.to_owned()));
            }
            let seconds = wait.as_secs().to_string();
            connection.ask(&[b"BLPOP", signal.as_bytes(), seconds.as_bytes()], wait).await?;
        }
    }
}

impl Lock {
    /// Lets it go; whether it was ours until now.
    ///
    /// # Errors
    /// Redis does not answer: it ends by itself.
    pub async fn release(mut self) -> Result<bool, RedisError> {
        match self.0.take() {
            Some(held) => held.release().await,
            None => Ok(false),
        }
    }
}

impl Held {
    async fn release(mut self) -> Result<bool, RedisError> {
        let command: [&[u8]; 7] = [
            b"EVAL",
            RELEASE,
            b"2",
            self.key.as_bytes(),
            self.signal.as_bytes(),
            self.owner.as_bytes(),
            SIGNAL_MS,
        ];
        Ok(self.connection.ask(&command, Duration::ZERO).await? == Reply::Integer(1))
    }
}

impl Drop for Lock {
    /// Whoever is cut off in the middle must not keep Quay waiting for a minute.
    fn drop(&mut self) {
        if let (Some(held), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            // Where it fails, the lock ends by itself.
            runtime.spawn(async move { held.release().await.is_ok() });
        }
    }
}
