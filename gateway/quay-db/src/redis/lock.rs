//! Quay's locks, which keep its workers and the gateway from working on the same blob at once.
//!
//! The protocol is that of `redis_lock.Lock` in python-redis-lock 4.0, which Quay's
//! `util/locking.py:GlobalLock` uses. The key `lock:<name>` holds the owner's id and expires. Waiters block
//! on the list `lock-signal:<name>`; the owner pushes an element onto it when it deletes the key, and that
//! element expires after a second.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use rustls::ClientConfig;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::{Connection, RedisError};
use config::RedisSettings;

/// When a lock expires, even if its owner has died. It is much longer than any work under the lock takes,
/// so that nothing is still in progress then.
const EXPIRY: Duration = Duration::from_secs(60);

/// The longest time to wait for a lock.
const WAIT: Duration = Duration::from_secs(15);

/// How often a waiter looks at the lock again without a signal from its owner.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// How long the signal to waiters stays, in milliseconds.
const SIGNAL_MS: u64 = 1000;

/// Releases a lock. Keys: the lock, the signal list. Arguments: the owner's id, milliseconds. Returns 1 if the
/// lock was still held by that owner.
const RELEASE: &str = "\
if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('del', KEYS[2])
redis.call('lpush', KEYS[2], 1)
redis.call('pexpire', KEYS[2], ARGV[2])
return redis.call('del', KEYS[1])";

/// The Redis that holds Quay's locks.
#[derive(Debug)]
pub struct Locks {
    settings: RedisSettings,
    tls: Arc<ClientConfig>,
}

/// A lock that is held, for [`EXPIRY`] at most. Dropping it releases it.
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
    /// Uses the locks in this Redis. Opens no connection.
    #[must_use]
    pub fn new(settings: RedisSettings, tls: Arc<ClientConfig>) -> Self {
        Self { settings, tls }
    }

    /// Checks that Redis can be reached and accepts the login.
    ///
    /// # Errors
    /// Redis cannot be reached, does not answer in time, or refuses.
    pub async fn ping(&self) -> Result<(), RedisError> {
        Connection::open(&self.settings, &self.tls).await?.expect_ok(&redis::cmd("PING")).await
    }

    /// Takes a lock. Waits 15 s at most.
    ///
    /// # Errors
    /// Another owner holds the lock for longer, or Redis cannot be reached, does not answer in time, or
    /// refuses.
    pub async fn take(&self, name: &str) -> Result<Lock, RedisError> {
        let mut connection = Connection::open(&self.settings, &self.tls).await?;
        let (key, signal) = (format!("lock:{name}"), format!("lock-signal:{name}"));
        let owner = format!("{:032x}", fastrand::u128(..));
        let deadline = Instant::now() + WAIT;
        loop {
            let mut set = redis::cmd("SET");
            set.arg(&key).arg(&owner).arg("NX").arg("EX").arg(EXPIRY.as_secs());
            match connection.ask(&set, Duration::ZERO).await? {
                Value::Okay => return Ok(Lock(Some(Held { connection, key, signal, owner }))),
                Value::Nil => {}
                _ => return Err(RedisError::Refused("an unexpected reply".to_owned())),
            }
            let wait = deadline.saturating_duration_since(Instant::now()).min(POLL_INTERVAL);
            // Redis takes a timeout of 0 s as no timeout.
            if wait < Duration::from_secs(1) {
                return Err(RedisError::Held(name.to_owned()));
            }
            connection.ask(redis::cmd("BLPOP").arg(&signal).arg(wait.as_secs()), wait).await?;
        }
    }
}

impl Lock {
    /// Releases the lock. Returns whether it was held until now.
    ///
    /// # Errors
    /// Redis cannot be reached or refuses. The lock then expires.
    pub async fn release(mut self) -> Result<bool, RedisError> {
        match self.0.take() {
            Some(held) => held.release().await,
            None => Ok(false),
        }
    }
}

impl Held {
    async fn release(mut self) -> Result<bool, RedisError> {
        let mut command = redis::cmd("EVAL");
        command.arg(RELEASE).arg(2).arg(&self.key).arg(&self.signal).arg(&self.owner).arg(SIGNAL_MS);
        Ok(self.connection.ask(&command, Duration::ZERO).await? == Value::Int(1))
    }
}

impl Drop for Lock {
    /// A cancelled task must not keep Quay waiting until the lock expires.
    fn drop(&mut self) {
        if let (Some(held), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            // If this fails, the lock expires.
            runtime.spawn(async move { held.release().await.is_ok() });
        }
    }
}
