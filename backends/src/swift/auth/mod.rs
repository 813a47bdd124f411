//! Tokens: one login serves all callers, and a token is renewed before it expires.

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

/// The share of its lifetime after which a token is renewed.
const USED_LIFE: f64 = 0.8;

/// How long a refused login is not repeated. Keystone may lock an account after a few failures.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// How long a failed early renewal is not repeated. The old token is still valid.
const RENEWAL_PAUSE: Duration = Duration::from_secs(5);

/// A token and the account that it is for.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) token: Secret,
    /// The account's URL.
    pub(super) account: Url,
    /// When to renew the token, and when it expires. `None` if the server does not report it.
    lapses: Option<(Instant, Instant)>,
}

impl Session {
    fn new(token: Secret, account: Url, life: Option<Duration>) -> Self {
        let now = Instant::now();
        let lapses =
            life.and_then(|life| Some((now.checked_add(life.mul_f64(USED_LIFE))?, now.checked_add(life)?)));
        Self { token, account, lapses }
    }

    /// A request with the token.
    pub(super) fn request(&self, method: Method, url: Url) -> Result<Request> {
        let mut token = HeaderValue::from_str(self.token.reveal())
            .map_err(|_| Error::new(Kind::Invalid, "the token is not valid in a header"))?;
        token.set_sensitive(true);
        let mut request = Request::new(method, url);
        request.headers_mut().insert("x-auth-token", token);
        Ok(request)
    }
}

type Running = Shared<BoxFuture<'static, Result<Arc<Session>, Arc<Error>>>>;

#[derive(Default)]
struct LoginState {
    session: Option<Arc<Session>>,
    running: Option<Running>,
    /// The last refused login, and until when it is not repeated.
    refused: Option<(Instant, Arc<Error>)>,
    /// The next early renewal does not start before this time.
    renewal: Option<Instant>,
}

/// The shared session of a store.
pub(super) struct Sessions(Arc<SharedSessions>);

struct SharedSessions {
    http: HttpClient,
    login: Login,
    service: Service,
    storage_url: Option<Url>,
    names: Names,
    state: Mutex<LoginState>,
}

impl Sessions {
    pub(super) fn new(http: HttpClient, login: &Login, config: &SwiftConfig) -> Self {
        let state = LoginState { session: given(login, config).map(Arc::new), ..LoginState::default() };
        Self(Arc::new(SharedSessions {
            http,
            login: login.clone(),
            service: config.service.clone(),
            storage_url: config.storage_url.clone(),
            names: Names::new(config),
            state: Mutex::new(state),
        }))
    }

    /// The session. If there is none, this logs in first. Concurrent callers share one login.
    ///
    /// # Errors
    /// The error of the login. All callers that waited for it get the same one.
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

    /// A new session after a server refused `stale`.
    pub(super) async fn after(&self, stale: &Arc<Session>) -> Result<Arc<Session>> {
        {
            let mut state = self.0.state();
            if state.session.as_ref().is_some_and(|session| Arc::ptr_eq(session, stale)) {
                state.session = None;
            }
        }
        self.get().await
    }

    /// Starts a login that all callers share.
    fn start(&self, state: &mut LoginState, now: Instant) -> Result<Running> {
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
        // The login runs as a task, so that it ends within its timeouts even if its callers are cancelled.
        tokio::spawn(running.clone());
        Ok(running)
    }

    /// Starts a login in the background, while the old token is still valid.
    fn renew_early(&self, state: &mut LoginState, now: Instant) {
        if state.running.is_some() || state.renewal.is_some_and(|until| now < until) {
            return;
        }
        state.renewal = Some(now + RENEWAL_PAUSE);
        if let Ok(running) = self.start(state, now) {
            tokio::spawn(async move {
                if let Err(error) = running.await {
                    tracing::warn!(%error, "a token could not be renewed early; the old token stays in use");
                }
            });
        }
    }
}

impl SharedSessions {
    fn state(&self) -> MutexGuard<'_, LoginState> {
        self.state.lock()
    }

    /// Sends one request with a new token to Swift before the waiting callers use the token. Swift asks
    /// Keystone about each unknown token, and would ask once for each concurrent request
    /// (`keystonemiddleware`). The answer is ignored.
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

/// The configured token and account, if both are given. Swiftclient also starts with them.
fn given(login: &Login, config: &SwiftConfig) -> Option<Session> {
    let token = login.identity.token()?.clone();
    Some(Session::new(token, config.storage_url.clone()?, None))
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("login", &self.0.login).finish_non_exhaustive()
    }
}
