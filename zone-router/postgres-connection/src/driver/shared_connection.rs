//! One connection to the database, made again whenever it breaks.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use backends::Backoff;
use futures_util::FutureExt as _;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, Connection, Row};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::connect::connect;
use super::database::Database;
use super::failures::{breaks, gave_way};
use crate::PostgresError;
use crate::purpose::{CONNECT_TIMEOUT, Parameter, Purpose};

/// How long a statement waits for a connection.
const CONNECTION_WAIT: Duration = Duration::from_secs(3);

/// The pauses between attempts to connect. They are shorter than [`CONNECTION_WAIT`], so that a statement can
/// wait for the next attempt.
const RECONNECT: Backoff = Backoff { base: Duration::from_millis(200), max: Duration::from_secs(2) };

/// The time, in milliseconds, after which the database cancels a statement. It is shorter than [`TIMEOUT`],
/// so that no statement continues after its caller got an error.
const STATEMENT_MS: u32 = 8_000;

/// How long a statement may take, from waiting for a connection to its commit.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The pauses before a statement is retried that was aborted in favour of another transaction.
const ABORTED_RETRY: Backoff = Backoff { base: Duration::from_millis(20), max: Duration::from_millis(20) };

/// The state of a connection.
#[derive(Debug, Clone)]
enum State {
    Starting,
    Up(Arc<Client>),
    Down(PostgresError),
}

/// A connection that many callers share. It is kept until the token given to [`SharedConnection::keep`] is cancelled.
/// Statements are sent at once, and answered in order.
#[derive(Debug)]
pub struct SharedConnection {
    database: Database,
    state: watch::Receiver<State>,
    /// Notified when the connection must be closed.
    hang_up: Arc<Notify>,
    /// Locked by the caller of [`SharedConnection::query_slow`].
    slow_query: Mutex<()>,
}

impl SharedConnection {
    /// Keeps a connection until `end`. `tls` says whose certificates are trusted. Needs a Tokio
    /// runtime.
    #[must_use]
    pub fn keep(
        database: &Database,
        tls: &ClientConfig,
        purpose: Arc<dyn Purpose>,
        end: CancellationToken,
    ) -> Self {
        let (publish, state) = watch::channel(State::Starting);
        let hang_up = Arc::new(Notify::new());
        let tls = MakeRustlsConnect::new(tls.clone());
        let keeper =
            Keeper { database: database.clone(), tls, purpose, publish, hang_up: Arc::clone(&hang_up) };
        tokio::spawn(async move { end.run_until_cancelled(keeper.keep()).await });
        Self { database: database.clone(), state, hang_up, slow_query: Mutex::new(()) }
    }

    /// Waits for the first attempt to connect.
    ///
    /// # Errors
    /// The attempt failed. Further attempts follow automatically.
    pub async fn started(&self) -> Result<(), PostgresError> {
        let mut state = self.state.clone();
        let state = state.wait_for(|state| !matches!(state, State::Starting)).await;
        match state.as_deref() {
            Ok(State::Down(error)) => Err(error.clone()),
            Ok(_) => Ok(()),
            Err(_) => Err(PostgresError::Closed),
        }
    }

    /// Runs one statement, within 10 s, and returns its rows.
    ///
    /// If the connection breaks, the statement is run again on the next one, so every statement must tolerate
    /// being run twice. A statement that was aborted in favour of another transaction is also run again.
    ///
    /// # Errors
    /// The database cannot be reached, refuses the statement, or does not answer in time.
    pub async fn query(
        &self,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, PostgresError> {
        let answer = async {
            let mut broken = None;
            loop {
                let client = self.client(broken.as_ref()).await?;
                match client.query_typed(statement, parameters).await {
                    Ok(rows) => return Ok(rows),
                    Err(error) if breaks(&error) => {
                        if !client.is_closed() {
                            self.hang_up();
                        }
                        broken = Some(client);
                    }
                    Err(error) if gave_way(&error) => {
                        tokio::time::sleep(ABORTED_RETRY.delay(0, fastrand::f64(), None)).await;
                    }
                    Err(error) => return Err(PostgresError::said(&self.database, &error)),
                }
            }
        };
        match timeout(TIMEOUT, answer).await {
            Ok(answer) => answer,
            Err(_) => {
                self.hang_up();
                Err(PostgresError::Late(TIMEOUT))
            }
        }
    }

    /// Like [`SharedConnection::query`], for statements that may take long. They run one at a time. If the caller is
    /// cancelled, the connection is closed, so that the database stops working on the statement.
    ///
    /// # Errors
    /// The database cannot be reached, refuses the statement, or does not answer in time. An earlier slow
    /// statement also counts against that time.
    pub async fn query_slow(
        &self,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, PostgresError> {
        let Ok(_one) = timeout(TIMEOUT, self.slow_query.lock()).await else {
            return Err(PostgresError::Late(TIMEOUT));
        };
        let mut unanswered = Unanswered(Some(self));
        let answer = self.query(statement, parameters).await;
        unanswered.0 = None;
        answer
    }

    /// The connection, unless it is the `broken` one. Waits if there is none.
    async fn client(&self, broken: Option<&Arc<Client>>) -> Result<Arc<Client>, PostgresError> {
        let mut state = self.state.clone();
        let usable = |state: &State| match state {
            State::Up(client) => {
                !client.is_closed() && !broken.is_some_and(|broken| Arc::ptr_eq(broken, client))
            }
            State::Starting | State::Down(_) => false,
        };
        let up =
            timeout(CONNECTION_WAIT, state.wait_for(usable)).await.map(|up| up.map(|state| state.clone()));
        match up {
            Ok(Ok(State::Up(client))) => Ok(client),
            Ok(_) => Err(PostgresError::Closed),
            Err(_) => Err(match &*self.state.borrow() {
                State::Down(error) => error.clone(),
                State::Starting | State::Up(_) => PostgresError::Late(CONNECTION_WAIT),
            }),
        }
    }

    /// Closes the connection. Another one is made. A caller that waits for less than the bound of a statement does this,
    /// because nobody else notices that the database does not answer.
    pub fn hang_up(&self) {
        self.hang_up.notify_one();
    }
}

/// Closes the connection when it is dropped, unless the statement was answered.
struct Unanswered<'a>(Option<&'a SharedConnection>);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.0 {
            connection.hang_up();
        }
    }
}

struct Keeper {
    database: Database,
    tls: MakeRustlsConnect,
    purpose: Arc<dyn Purpose>,
    publish: watch::Sender<State>,
    hang_up: Arc<Notify>,
}

impl Keeper {
    async fn keep(self) {
        let mut failures = 0;
        loop {
            let error = self.connect_once(&mut failures).await;
            if failures == 0 {
                warn!(%error, "the connection to {} is lost", self.purpose.name());
            }
            self.publish.send_replace(State::Down(error));
            tokio::time::sleep(RECONNECT.delay(failures, fastrand::f64(), None)).await;
            failures = failures.saturating_add(1);
        }
    }

    /// Connects, and serves the connection to its end. `failures` counts the tries that failed before.
    async fn connect_once(&self, failures: &mut u32) -> PostgresError {
        let connecting = connect(self.database.config(), &self.tls);
        let (client, connection) = match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => return PostgresError::said(&self.database, &error),
            Err(_) => {
                let why = format!("no connection within {} s", CONNECT_TIMEOUT.as_secs());
                return PostgresError::Away { place: self.database.place().to_owned(), why };
            }
        };
        let client = Arc::new(client);
        let ready = async {
            if let Err(error) = self.prepare(&client).await {
                self.stop_work(&client);
                return error;
            }
            if *failures > 0 {
                info!(database = self.database.place(), "{} is back", self.purpose.name());
            }
            *failures = 0;
            // This notification was meant for the previous connection.
            let _ = self.hang_up.notified().now_or_never();
            self.publish.send_replace(State::Up(Arc::clone(&client)));
            self.purpose.connected();
            self.hang_up.notified().await;
            self.stop_work(&client);
            PostgresError::Late(TIMEOUT)
        };
        tokio::select! {
            error = self.serve(connection) => error,
            error = ready => error,
        }
    }

    /// Makes the database cancel the statement of a closed connection. Otherwise the statement would
    /// continue.
    fn stop_work(&self, client: &Client) {
        let (token, tls) = (client.cancel_token(), self.tls.clone());
        tokio::spawn(timeout(CONNECT_TIMEOUT, async move { token.cancel_query(tls).await }));
    }

    async fn prepare(&self, client: &Client) -> Result<(), PostgresError> {
        let late = |_| PostgresError::Late(CONNECT_TIMEOUT);
        timeout(CONNECT_TIMEOUT, self.set_up(client)).await.map_err(late)??;
        let mut prepared = self.purpose.prepare(&self.database, client);
        let bound = self.purpose.prepare_timeout();
        match timeout(CONNECT_TIMEOUT.min(bound), &mut prepared).await {
            Ok(prepared) => return prepared,
            Err(_) if bound <= CONNECT_TIMEOUT => return Err(PostgresError::Late(CONNECT_TIMEOUT)),
            Err(_) => {}
        }
        let (place, why) = (self.database.place().to_owned(), "it is still being made ready".to_owned());
        self.publish.send_replace(State::Down(PostgresError::Away { place, why }));
        let rest = bound.saturating_sub(CONNECT_TIMEOUT);
        timeout(rest, prepared).await.map_err(|_| PostgresError::Late(bound))?
    }

    async fn set_up(&self, client: &Client) -> Result<(), PostgresError> {
        // A server may be configured not to wait for commits. This setting overrides that. Waiting for
        // standbys stays.
        let settings = format!(
            "SET statement_timeout = {STATEMENT_MS}; \
             SELECT set_config('synchronous_commit', 'on', false) \
             WHERE current_setting('synchronous_commit') IN ('off', 'local')"
        );
        let said = |error| PostgresError::said(&self.database, &error);
        client.batch_execute(&settings).await.map_err(said)
    }

    /// Sends statements and receives results and notifications, until the connection ends.
    async fn serve<S, T>(&self, mut connection: Connection<S, T>) -> PostgresError
    where
        S: AsyncRead + AsyncWrite + Unpin,
        T: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            match poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notification(notification))) => {
                    self.purpose.notified(notification.channel(), notification.payload());
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return PostgresError::said(&self.database, &error),
                None => {
                    let why = "the connection was closed".to_owned();
                    return PostgresError::Away { place: self.database.place().to_owned(), why };
                }
            }
        }
    }
}
