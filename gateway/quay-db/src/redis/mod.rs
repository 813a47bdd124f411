//! Quay's Redis, of which the gateway needs only the locks.
//!
//! The gateway sends five commands. A client library would add a second TLS stack, a connection pool and
//! cluster support for them.

mod lock;
mod resp;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

pub use lock::Locks;

use self::resp::{REPLY_MAX, Reply};
use config::RedisSettings;

/// The timeout for name resolution, TCP, TLS and login together.
const CONNECT: Duration = Duration::from_secs(5);

/// The timeout for one command, without the time for which the command itself blocks.
const COMMAND: Duration = Duration::from_secs(5);

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
    stream: Box<dyn Stream>,
    /// Bytes that were read and are not parsed yet.
    buffer: BytesMut,
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
        let mut connection = Self { stream, buffer: BytesMut::new() };
        connection.log_in(settings).await?;
        if settings.database > 0 {
            connection.expect_ok(&[b"SELECT", settings.database.to_string().as_bytes()]).await?;
        }
        Ok(connection)
    }

    async fn log_in(&mut self, settings: &RedisSettings) -> Result<(), RedisError> {
        let Some(password) = &settings.password else { return Ok(()) };
        let mut command: Vec<&[u8]> = vec![b"AUTH"];
        command.extend(settings.username.as_ref().map(String::as_bytes));
        command.push(password.reveal().as_bytes());
        self.expect_ok(&command).await.map_err(|error| match error {
            // Some servers repeat the command in the error, so only its code is kept.
            RedisError::Refused(message) => {
                let code = message.split(' ').next().unwrap_or_default();
                RedisError::Refused(format!("the login ({code})"))
            }
            other => other,
        })
    }

    async fn expect_ok(&mut self, command: &[&[u8]]) -> Result<(), RedisError> {
        match self.ask(command, Duration::ZERO).await? {
            Reply::Simple(_) => Ok(()),
            _ => Err(RedisError::Refused("an unexpected reply".to_owned())),
        }
    }

    /// Sends one command and returns its reply. `waits` is how long the command itself may block.
    async fn ask(&mut self, command: &[&[u8]], waits: Duration) -> Result<Reply, RedisError> {
        let bytes = resp::command(command);
        match timeout(COMMAND + waits, self.asked(&bytes)).await {
            Ok(Ok(Reply::Error(message))) => Err(RedisError::Refused(message)),
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(RedisError::Away(error.to_string())),
            Err(_) => Err(RedisError::Away(format!("no answer within {} s", (COMMAND + waits).as_secs()))),
        }
    }

    async fn asked(&mut self, command: &[u8]) -> std::io::Result<Reply> {
        use std::io::{Error, ErrorKind};
        self.stream.write_all(command).await?;
        self.stream.flush().await?;
        loop {
            match resp::reply(&self.buffer) {
                Ok(Some((reply, taken))) => {
                    drop(self.buffer.split_to(taken));
                    return Ok(reply);
                }
                Ok(None) if self.buffer.len() <= 2 * REPLY_MAX => {}
                _ => {
                    return Err(Error::new(
                        ErrorKind::InvalidData,
                        "the server does not speak the Redis protocol",
                    ));
                }
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(Error::new(ErrorKind::UnexpectedEof, "the server closed the connection"));
            }
        }
    }
}
