//! Tokens: got once for all who need one, and renewed before they lapse.

mod keystone;
mod login;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use http::HeaderValue;
use parking_lot::{Mutex, MutexGuard};
use reqwest::{Method, Request};
use tokio::time::Instant;
use url::Url;

use super::config::{Login, Service, SwiftConfig};
use super::request::Names;
use crate::transport::HttpClient;
use crate::{Error, Kind, Result, Secret};

/// How much of its life a token is used before another is got.
const USED_LIFE: f64 = 0.8;

/// How long a refused login is not tried again: Keystone may lock an account after a few.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// How long an early renewal that failed is not tried again; the old token still serves.
const RENEWAL_PAUSE: Duration = Duration::from_secs(5);

/// A token and the account it is for.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) token: Secret,
    /// The account's URL.
    pub(super) account: Url,
    /// When to get another, and when it is over; `None` where the server does not say.
    lapses: Option<(Instant, Instant)>,
}

impl Session {
    fn new(token: Secret, account: Url, life: Option<Duration>) -> Self {
        let now = Instant::now();
        let lapses =
            life.and_then(|life| Some((now.checked_add(life.mul_f64(USED_LIFE))?, now.checked_add(life)?)));
        Self { token, account, lapses }
    }

    /// A request that bears the token.
    pub(super) fn request(&self, method: Method, url: Url) -> Result<Request> {
        let mut token = HeaderValue::from_str(self.token.reveal())
            .map_err(|_| Error::new(Kind::Invalid, "the token fits into no header"))?;
        token.set_sensitive(true);
        let mut request = Request::new(method, url);
        request.headers_mut().insert("x-auth-token", token);
        Ok(request)
    }
}

type Running = Shared<BoxFuture<'static, Result<Arc<Session>, Arc<Error>>>>;

#[derive(Default)]
struct State {
    session: Option<Arc<Session>>,
    running: Option<Running>,
    /// The login that was refused last, until when it is not repeated.
    refused: Option<(Instant, Arc<Error>)>,
    /// Until when the next early renewal waits.
    renewal: Option<Instant>,
}

/// The one session of a store.
pub(super) struct Sessions(Arc<Inner>);

struct Inner {
    http: HttpClient,
    login: Login,
    service: Service,
    storage_url: Option<Url>,
    names: Names,
    state: Mutex<State>,
}

impl Sessions {
    pub(super) fn new(http: HttpClient, login: &Login, config: &SwiftConfig) -> Self {
        let state = State { session: given(login, config).map(Arc::new), ..State::default() };
        Self(Arc::new(Inner {
            http,
            login: login.clone(),
            service: config.service.clone(),
            storage_url: config.storage_url.clone(),
            names: Names::new(config),
            state: Mutex::new(state),
        }))
    }

    /// The session, got first if need be. However many ask, one login runs.
    ///
    /// # Errors
    /// What the login failed of, the same to all who waited for it.
    pub(super) async fn get(&self) -> Result<Arc<Session>> {
        let running = {
            let now = Instant::now();
            let mut state = self.0.state();
            match state.session.clone() {
                Some(session) => match session.lapses {
                    Some((_, end)) if end <= now => self.start(&mut state, now),
                    Some((renew, _)) if renew <= now => {
                        self.renew_early(&mut state, now);
                        return Ok(session);
                    }
                    _ => return Ok(session),
                },
                None => self.start(&mut state, now),
            }?
        };
        running.await.map_err(|error| error.again())
    }

    /// The session after `stale`, which a server refused.
    pub(super) async fn after(&self, stale: &Arc<Session>) -> Result<Arc<Session>> {
        {
            let mut state = self.0.state();
            if state.session.as_ref().is_some_and(|session| Arc::ptr_eq(session, stale)) {
                state.session = None;
            }
        }
        self.get().await
    }

    /// A login begun by whoever needs it first, and joined by the others.
    fn start(&self, state: &mut State, now: Instant) -> Result<Running> {
        if let Some(running) = &state.running {
            return Ok(running.clone());
        }
        if let Some((until, error)) = &state.refused
            && now < *until
        {
            return Err(error.again());
        }
        let inner = Arc::clone(&self.0);
        let running = async move { inner.log_in().await }.boxed().shared();
        state.running = Some(running.clone());
        // It ends, within the bounds of a few requests, even if those who wait for it leave.
        tokio::spawn(running.clone());
        Ok(running)
    }

    /// Begins a login beside the requests that the old token still serves.
    fn renew_early(&self, state: &mut State, now: Instant) {
        if state.running.is_some() || state.renewal.is_some_and(|until| now < until) {
            return;
        }
        state.renewal = Some(now + RENEWAL_PAUSE);
        if let Ok(running) = self.start(state, now) {
            tokio::spawn(async move {
                if let Err(error) = running.await {
                    tracing::warn!(%error, "a token could not be renewed early; the old one serves on");
                }
            });
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Shows a new token to Swift once, before all who wait for it do: Swift asks Keystone about a
    /// token that it does not know, and would ask anew for each of them (`keystonemiddleware`). What
    /// is answered does not matter.
    async fn introduce(&self, session: &Session) {
        let container = self.names.url(&session.account, None, &[]);
        if let Ok(request) = container.and_then(|url| session.request(Method::HEAD, url)) {
            let _ = self.http.send("show the token", request, self.http.timeouts().first_byte).await;
        }
    }

    async fn log_in(&self) -> Result<Arc<Session>, Arc<Error>> {
        let got = login::log_in(&self.http, &self.login, &self.service, self.storage_url.as_ref()).await;
        if let Ok(session) = &got {
            self.introduce(session).await;
        }
        let mut state = self.state();
        state.running = None;
        match got {
            Ok(session) => {
                let session = Arc::new(session);
                state.session = Some(Arc::clone(&session));
                state.refused = None;
                Ok(session)
            }
            Err(error) => {
                let error = Arc::new(error);
                if matches!(error.kind(), Kind::Denied | Kind::Invalid) {
                    state.refused = Some((Instant::now() + REFUSED_PAUSE, Arc::clone(&error)));
                }
                Err(error)
            }
        }
    }
}

/// Where both token and account are configured, swiftclient begins with them.
fn given(login: &Login, config: &SwiftConfig) -> Option<Session> {
    let token = login.identity.token()?.clone();
    Some(Session::new(token, config.storage_url.clone()?, None))
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("login", &self.0.login).finish_non_exhaustive()
    }
}
