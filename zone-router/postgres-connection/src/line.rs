//! One connection to the database, made again whenever it breaks.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backends::Backoff;
use futures_util::FutureExt as _;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Connection, Row};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::PostgresError;
use super::connect::connect;
use super::database::{CONNECT, Database};
use super::error::{breaks, gave_way};

/// How long a request waits for a connection that is not there.
const AWAY: Duration = Duration::from_secs(3);

/// Between tries to connect; shorter than [`AWAY`], so that whoever asks waits for the next try.
const AGAIN: Backoff = Backoff { base: Duration::from_millis(200), max: Duration::from_secs(2) };

/// The database ends a statement that takes longer, in milliseconds; before a request's patience
/// does, so that none is answered as late and goes on.
const STATEMENT_MS: u32 = 8_000;

/// How long a request takes at most, from waiting for a connection to its commit.
const PATIENCE: Duration = Duration::from_secs(10);

/// What gave way to another transaction is asked again after so long at most.
const GIVEN_WAY: Backoff = Backoff { base: Duration::from_millis(20), max: Duration::from_millis(20) };

/// A parameter and its type, so that a statement needs one round trip.
pub type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// What a line is for.
#[async_trait]
pub trait Purpose: fmt::Debug + Send + Sync + 'static {
    /// Whose database it is, for the log: `the journal's database`.
    fn whose(&self) -> &'static str;

    /// How long [`Purpose::prepare`] may take. Beyond 5 s, who asks is told that it is not ready yet.
    fn patience(&self) -> Duration {
        CONNECT
    }

    /// Makes a new connection ready, before anything is asked on it.
    ///
    /// # Errors
    /// The database is not what it must be; the connection is given up and made again.
    async fn prepare(&self, _database: &Database, _client: &Client) -> Result<(), PostgresError> {
        Ok(())
    }

    /// A connection is up: what was told while there was none is lost.
    fn up(&self) {}

    /// The database told something on a channel that [`Purpose::prepare`] listens on.
    fn told(&self, _channel: &str, _payload: &str) {}
}

/// How a line is.
#[derive(Debug, Clone)]
enum State {
    Starting,
    Up(Arc<Client>),
    Down(PostgresError),
}

/// A connection that many share, kept until the token given to [`Line::keep`] is cancelled.
/// Requests on it are sent at once and answered in their order.
#[derive(Debug)]
pub struct Line {
    database: Database,
    state: watch::Receiver<State>,
    /// Told to break the connection.
    hang_up: Arc<Notify>,
    /// Whoever looks.
    looking: Mutex<()>,
}

impl Line {
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
        Self { database: database.clone(), state, hang_up, looking: Mutex::new(()) }
    }

    /// What came of the first try to connect.
    ///
    /// # Errors
    /// It failed, and why; the next tries follow by themselves.
    pub async fn started(&self) -> Result<(), PostgresError> {
        let mut state = self.state.clone();
        let state = state.wait_for(|state| !matches!(state, State::Starting)).await;
        match state.as_deref() {
            Ok(State::Down(error)) => Err(error.clone()),
            Ok(_) => Ok(()),
            Err(_) => Err(PostgresError::Closed),
        }
    }

    /// One statement and its rows, within 10 s. Where the connection breaks, it is asked again on
    /// the next one, as long as patience lasts: every statement must bear being carried out twice.
    /// One that gave way to another transaction is asked again, too.
    ///
    /// # Errors
    /// The database is away, refuses it, or is late.
    pub async fn ask(
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
                        tokio::time::sleep(GIVEN_WAY.delay(0, fastrand::f64(), None)).await;
                    }
                    Err(error) => return Err(PostgresError::said(&self.database, &error)),
                }
            }
        };
        match timeout(PATIENCE, answer).await {
            Ok(answer) => answer,
            Err(_) => {
                self.hang_up();
                Err(PostgresError::Late(PATIENCE))
            }
        }
    }

    /// As [`Line::ask`], one at a time, of what may take long. Where nobody waits for the answer any
    /// more, the connection is given up, so that the database does not work on for nobody.
    ///
    /// # Errors
    /// The database is away, refuses it, or is late; the looks before may have been.
    pub async fn look(
        &self,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, PostgresError> {
        let Ok(_one) = timeout(PATIENCE, self.looking.lock()).await else {
            return Err(PostgresError::Late(PATIENCE));
        };
        let mut unanswered = Unanswered(Some(self));
        let answer = self.ask(statement, parameters).await;
        unanswered.0 = None;
        answer
    }

    /// The connection, another one than `broken`; waited for if it is away.
    async fn client(&self, broken: Option<&Arc<Client>>) -> Result<Arc<Client>, PostgresError> {
        let mut state = self.state.clone();
        let usable = |state: &State| match state {
            State::Up(client) => {
                !client.is_closed() && !broken.is_some_and(|broken| Arc::ptr_eq(broken, client))
            }
            State::Starting | State::Down(_) => false,
        };
        let up = timeout(AWAY, state.wait_for(usable)).await.map(|up| up.map(|state| state.clone()));
        match up {
            Ok(Ok(State::Up(client))) => Ok(client),
            Ok(_) => Err(PostgresError::Closed),
            Err(_) => Err(match &*self.state.borrow() {
                State::Down(error) => error.clone(),
                State::Starting | State::Up(_) => PostgresError::Late(AWAY),
            }),
        }
    }

    /// Gives the connection up.
    fn hang_up(&self) {
        self.hang_up.notify_one();
    }
}

/// Hangs up where it is dropped with a line in it.
struct Unanswered<'a>(Option<&'a Line>);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(line) = self.0 {
            line.hang_up();
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
                warn!(%error, "the connection to {} is lost", self.purpose.whose());
            }
            self.publish.send_replace(State::Down(error));
            tokio::time::sleep(AGAIN.delay(failures, fastrand::f64(), None)).await;
            failures = failures.saturating_add(1);
        }
    }

    /// Connects, and serves the connection to its end; `failures` are those before.
    async fn connect_once(&self, failures: &mut u32) -> PostgresError {
        let connecting = connect(self.database.config(), &self.tls);
        let (client, connection) = match timeout(CONNECT, connecting).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => return PostgresError::said(&self.database, &error),
            Err(_) => {
                let why = format!("no connection within {} s", CONNECT.as_secs());
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
                info!(database = self.database.place(), "{} is back", self.purpose.whose());
            }
            *failures = 0;
            // What was meant for the connection before this one.
            let _ = self.hang_up.notified().now_or_never();
            self.publish.send_replace(State::Up(Arc::clone(&client)));
            self.purpose.up();
            self.hang_up.notified().await;
            self.stop_work(&client);
            PostgresError::Late(PATIENCE)
        };
        tokio::select! {
            error = self.serve(connection) => error,
            error = ready => error,
        }
    }

    /// Has the database stop what it does for a connection that is given up. It would go on to the end.
    fn stop_work(&self, client: &Client) {
        let (token, tls) = (client.cancel_token(), self.tls.clone());
        tokio::spawn(timeout(CONNECT, async move { token.cancel_query(tls).await }));
    }

    async fn prepare(&self, client: &Client) -> Result<(), PostgresError> {
        let late = |_| PostgresError::Late(CONNECT);
        timeout(CONNECT, self.set_up(client)).await.map_err(late)??;
        let mut prepared = self.purpose.prepare(&self.database, client);
        let patience = self.purpose.patience();
        match timeout(CONNECT.min(patience), &mut prepared).await {
            Ok(prepared) => return prepared,
            Err(_) if patience <= CONNECT => return Err(PostgresError::Late(CONNECT)),
            Err(_) => {}
        }
        let (place, why) = (self.database.place().to_owned(), "it is still being made ready".to_owned());
        self.publish.send_replace(State::Down(PostgresError::Away { place, why }));
        let rest = patience.saturating_sub(CONNECT);
        timeout(rest, prepared).await.map_err(|_| PostgresError::Late(patience))?
    }

    async fn set_up(&self, client: &Client) -> Result<(), PostgresError> {
        // A server may be set to lose commits, or to sync with standbys: the latter stays.
        let settings = format!(
            "SET statement_timeout = {STATEMENT_MS}; \
             SELECT set_config('synchronous_commit', 'on', false) \
             WHERE current_setting('synchronous_commit') IN ('off', 'local')"
        );
        let said = |error| PostgresError::said(&self.database, &error);
        client.batch_execute(&settings).await.map_err(said)
    }

    /// Moves bytes and hears notifications, until the connection ends.
    async fn serve<S, T>(&self, mut connection: Connection<S, T>) -> PostgresError
    where
        S: AsyncRead + AsyncWrite + Unpin,
        T: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            match poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notification(told))) => {
                    self.purpose.told(told.channel(), told.payload());
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
