//! Quay's Redis, of which the gateway needs only the locks.
//!
//! The crate `redis` speaks the protocol. The connection is the project's own: its dialer, its TLS, its timeouts.

mod lock;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ProtocolVersion, RedisConnectionInfo, Value};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

pub use lock::Locks;

use config::RedisSettings;

/// The timeout for name resolution, TCP, TLS and login together.
const CONNECT: Duration = Duration::from_secs(5);

/// The timeout for one command, without the time for which the command itself blocks.
const COMMAND: Duration = Duration::from_secs(5);

/// The most bytes that are read from one connection. It has one lock, so its replies are few and short.
const READ_MAX: u64 = 64 * 1024;

/// Why a Redis command failed. No variant holds a password.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RedisError {
    /// Redis cannot be reached, closes the connection, or does not answer in time. Retry later.
    #[error("Quay's Redis cannot be reached: {0}")]
    Away(String),
    /// Redis refuses the login or a command. Retrying does not help.
    #[error("Quay's Redis refuses: {0}")]
    Refused(String),
    /// Another owner held the lock for longer than the caller may wait. Retry later.
    #[error("Quay's lock {0} is held by another process for too long")]
    Held(String),
}

trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// An open connection, logged in.
struct Connection {
    commands: MultiplexedConnection,
    /// Reads and writes. Dropping it closes the connection.
    _driver: AbortOnDropHandle<()>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

impl Connection {
    async fn open(settings: &RedisSettings, tls: &Arc<ClientConfig>) -> Result<Self, RedisError> {
        match timeout(CONNECT, Self::opened(settings, tls)).await {
            Ok(opened) => opened,
            Err(_) => Err(RedisError::Away(format!("no connection within {} s", CONNECT.as_secs()))),
        }
    }

    async fn opened(settings: &RedisSettings, tls: &Arc<ClientConfig>) -> Result<Self, RedisError> {
        let away = |error: &dyn fmt::Display| RedisError::Away(error.to_string());
        let stream = backends::dial(&settings.host, settings.port).await.map_err(|error| away(&error))?;
        let stream: Box<dyn Stream> = match settings.tls {
            false => Box::new(stream),
            true => {
                let name = ServerName::try_from(settings.host.clone()).map_err(|error| away(&error))?;
                let connector = TlsConnector::from(Arc::clone(tls));
                Box::new(connector.connect(name, stream).await.map_err(|error| away(&error))?)
            }
        };
        let (read, write) = tokio::io::split(stream);
        let stream = tokio::io::join(read.take(READ_MAX), write);
        // The login is sent below, because an error of it needs care.
        let bare =
            RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP2).set_skip_set_lib_name();
        // `ask` has the timeout.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let (commands, driver) = MultiplexedConnection::new_with_config(&bare, stream, config)
            .await
            .map_err(|error| away(&error))?;
        let mut connection = Self { commands, _driver: AbortOnDropHandle::new(tokio::spawn(driver)) };
        connection.log_in(settings).await?;
        if settings.database > 0 {
            connection.expect_ok(redis::cmd("SELECT").arg(settings.database)).await?;
        }
        Ok(connection)
    }

    async fn log_in(&mut self, settings: &RedisSettings) -> Result<(), RedisError> {
        let Some(password) = &settings.password else { return Ok(()) };
        let mut command = redis::cmd("AUTH");
        command.arg(&settings.username).arg(password.reveal());
        self.expect_ok(&command).await.map_err(|error| match error {
            // Some servers repeat the command in the error, so only its code is kept.
            RedisError::Refused(message) => {
                let code = message.split(' ').next().unwrap_or_default();
                RedisError::Refused(format!("the login ({code})"))
            }
            other => other,
        })
    }

    async fn expect_ok(&mut self, command: &Cmd) -> Result<(), RedisError> {
        match self.ask(command, Duration::ZERO).await? {
            Value::Okay | Value::SimpleString(_) => Ok(()),
            _ => Err(RedisError::Refused("an unexpected reply".to_owned())),
        }
    }

    /// Sends one command and returns its reply. `waits` is how long the command itself may block.
    async fn ask(&mut self, command: &Cmd, waits: Duration) -> Result<Value, RedisError> {
        match timeout(COMMAND + waits, self.commands.send_packed_command(command)).await {
            // The crate returns an error of the server as a value.
            Ok(reply) => reply.and_then(Value::extract_error).map_err(|error| match error.code() {
                Some(code) => RedisError::Refused([code, error.detail().unwrap_or_default()].join(" ")),
                None => RedisError::Away(error.to_string()),
            }),
            Err(_) => Err(RedisError::Away(format!("no answer within {} s", (COMMAND + waits).as_secs()))),
        }
    }
}
