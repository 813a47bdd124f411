//! One connection to the database, made again whenever it breaks.

use std::error::Error as _;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Connection, Error};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::super::super::Backoff;
use super::super::super::reason::reason;
use super::super::JournalError;
use super::super::bells::Bells;
use super::database::{CONNECT, Database};
use super::schema;

/// How long a request waits for a connection that is not there.
const AWAY: Duration = Duration::from_secs(3);

/// Between tries to connect; shorter than [`AWAY`], so that whoever asks waits for the next try.
const AGAIN: Backoff = Backoff { base: Duration::from_millis(200), max: Duration::from_secs(2) };

/// The database ends a statement that takes longer, in milliseconds; before a request's patience
/// does, so that none is answered as late and goes on.
const STATEMENT_MS: u32 = 8_000;

/// Channel that zones with new jobs are told on.
pub(super) const CHANNEL: &str = "quay_gateway_job";

/// How a line is.
#[derive(Debug, Clone)]
enum State {
    Starting,
    Up(Arc<Client>),
    Down(JournalError),
}

/// A connection that many share. Requests on it are sent at once and answered in their order.
#[derive(Debug)]
pub(super) struct Line {
    state: watch::Receiver<State>,
    /// Told to break the connection.
    hang_up: Arc<Notify>,
}

impl Line {
    /// Keeps a connection until `end`. Where `bells` are given, it hears of new jobs, and rings all
    /// of them when it comes up: what was said meanwhile is lost.
    pub(super) fn keep(
        database: &Database,
        tls: MakeRustlsConnect,
        bells: Option<Bells>,
        end: CancellationToken,
    ) -> Self {
        let (publish, state) = watch::channel(State::Starting);
        let hang_up = Arc::new(Notify::new());
        let database = database.clone();
        let keeper = Keeper { database, tls, bells, publish, hang_up: Arc::clone(&hang_up) };
        tokio::spawn(async move { end.run_until_cancelled(keeper.keep()).await });
        Self { state, hang_up }
    }

    /// What came of the first try to connect.
    pub(super) async fn started(&self) -> Result<(), JournalError> {
        let mut state = self.state.clone();
        let state = state.wait_for(|state| !matches!(state, State::Starting)).await;
        match state.as_deref() {
            Ok(State::Down(error)) => Err(error.clone()),
            Ok(_) => Ok(()),
            Err(_) => Err(JournalError::Closed),
        }
    }

    /// The connection, another one than `broken`; waited for if it is away.
    pub(super) async fn client(&self, broken: Option<&Arc<Client>>) -> Result<Arc<Client>, JournalError> {
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
            Ok(_) => Err(JournalError::Closed),
            Err(_) => Err(match &*self.state.borrow() {
                State::Down(error) => error.clone(),
                State::Starting | State::Up(_) => JournalError::Late(AWAY),
            }),
        }
    }

    /// Gives the connection up.
    pub(super) fn hang_up(&self) {
        self.hang_up.notify_one();
    }
}

struct Keeper {
    database: Database,
    tls: MakeRustlsConnect,
    bells: Option<Bells>,
    publish: watch::Sender<State>,
    hang_up: Arc<Notify>,
}

impl Keeper {
    async fn keep(self) {
        let mut failures = 0;
        loop {
            let error = self.connect_once(&mut failures).await;
            if failures == 0 {
                warn!(%error, "the connection to the journal's database is lost");
            }
            self.publish.send_replace(State::Down(error));
            tokio::time::sleep(AGAIN.delay(failures, fastrand::f64(), None)).await;
            failures = failures.saturating_add(1);
        }
    }

    /// Connects, and serves the connection to its end; `failures` are those before.
    async fn connect_once(&self, failures: &mut u32) -> JournalError {
        let connecting = self.database.config().connect(self.tls.clone());
        let (client, connection) = match timeout(CONNECT, connecting).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => return said(&self.database, &error),
            Err(_) => {
                let why = format!("no connection within {} s", CONNECT.as_secs());
                return JournalError::Away { place: self.database.place().to_owned(), why };
            }
        };
        let client = Arc::new(client);
        let ready = async {
            match timeout(CONNECT, self.prepare(&client)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error,
                Err(_) => return JournalError::Late(CONNECT),
            }
            if *failures > 0 {
                info!(database = self.database.place(), "the journal's database is back");
            }
            *failures = 0;
            // What was meant for the connection before this one.
            let _ = self.hang_up.notified().now_or_never();
            self.publish.send_replace(State::Up(Arc::clone(&client)));
            if let Some(bells) = &self.bells {
                bells.ring_all();
            }
            self.hang_up.notified().await;
            JournalError::Late(super::PATIENCE)
        };
        tokio::select! {
            error = self.serve(connection) => error,
            error = ready => error,
        }
    }

    async fn prepare(&self, client: &Client) -> Result<(), JournalError> {
        let said = |error| said(&self.database, &error);
        // A server may be set to lose commits, or to sync with standbys: the latter stays.
        let settings = format!(
            "SET statement_timeout = {STATEMENT_MS}; \
             SELECT set_config('synchronous_commit', 'on', false) \
             WHERE current_setting('synchronous_commit') IN ('off', 'local')"
        );
        client.batch_execute(&settings).await.map_err(said)?;
        let found = schema::migrate(client).await.map_err(said)?;
        if found > schema::VERSION {
            let place = self.database.place().to_owned();
            return Err(JournalError::Newer { place, found, known: schema::VERSION });
        }
        if self.bells.is_some() {
            client.batch_execute(&format!("LISTEN {CHANNEL}")).await.map_err(said)?;
        }
        Ok(())
    }

    /// Moves bytes and hears notifications, until the connection ends.
    async fn serve<S, T>(&self, mut connection: Connection<S, T>) -> JournalError
    where
        S: AsyncRead + AsyncWrite + Unpin,
        T: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            match poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notification(told))) if told.channel() == CHANNEL => {
                    if let Some(bells) = &self.bells {
                        bells.ring(told.payload());
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return said(&self.database, &error),
                None => {
                    let why = "the connection was closed".to_owned();
                    return JournalError::Away { place: self.database.place().to_owned(), why };
                }
            }
        }
    }
}

/// Whether the connection is of no more use: it broke, the server goes or comes, or it is a standby
/// by now, and another one is the primary.
pub(super) fn breaks(error: &Error) -> bool {
    error.as_db_error().is_none_or(|said| {
        let code = said.code().code();
        code.starts_with("57P")
            || code.starts_with("08")
            || *said.code() == SqlState::READ_ONLY_SQL_TRANSACTION
    })
}

/// What the database said.
pub(super) fn said(database: &Database, error: &Error) -> JournalError {
    let place = database.place().to_owned();
    match error.as_db_error() {
        // It has no room for us now, or breaks.
        Some(said) if breaks(error) || *said.code() == SqlState::TOO_MANY_CONNECTIONS => {
            JournalError::Away { place, why: reason(said.message()) }
        }
        Some(said) => {
            // Not who we say we are, no such database, no right to make tables.
            let lasting = matches!(said.code().code().get(..2), Some("28" | "3D" | "42"));
            JournalError::Refused { place, why: reason(said.message()), lasting }
        }
        None => {
            let mut why = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                why = format!("{why}: {error}");
                cause = error.source();
            }
            JournalError::Away { place, why: reason(&why) }
        }
    }
}
