//! Authenticates a reader as the registry demands: not at all, with a password, or with a token.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use backends::Secret;
use backends::proxy::ProxyRules;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use moka::sync::Cache;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

use super::scope::{Scope, together};
use super::token_servers::TokenServers;
use crate::Bearer;
use crate::answer::{describe, read_body};
use crate::client::RegistryClient;
use crate::token_life::{Life, token_life};
use config::Account;

/// The most bytes of a token server's answer.
const ANSWER_MAX: usize = 64 * 1024;

/// How long a token is valid if the server does not say it (distribution's token specification,
/// `expires_in`).
const LIFE_DEFAULT: Duration = Duration::from_secs(60);

/// The longest lifetime of a token that is accepted. Some servers express "never" by the largest number.
const LIFE_MAX: Duration = Duration::from_secs(24 * 3600);

/// The timeout for a token, from the registry or from another server.
const LOGIN_BOUND: Duration = Duration::from_secs(15);

/// How long no login is tried after one was refused. With each wrong login, Quay locks an account for longer, up
/// to a day (`auth/credentials.py`), and for everybody who uses the account.
const REFUSED_PAUSE: Duration = Duration::from_secs(300);

/// How long no login is tried after a 429, which Quay's nginx also sends.
const THROTTLED_PAUSE: Duration = Duration::from_secs(60);

/// How long no login is tried after another failure, so that not every caller sends a request to a registry
/// that fails.
const FAILED_PAUSE: Duration = Duration::from_secs(2);

/// If the registry refuses a token that is younger than this, the token is not renewed: the refusal is about
/// what the token does not permit.
const YOUNG: Duration = Duration::from_secs(60);

/// The most tokens that are held at once, one for each scope.
const HELD_MAX: u64 = 1000;

/// How a registry authenticates its clients.
#[derive(Debug, Clone)]
enum Challenge {
    Open,
    Basic,
    Bearer(Bearer),
}

/// The tokens of one account, one for each scope. Each token is requested once and renewed before it expires.
/// There is one login at a time.
pub struct Tokens {
    client: RegistryClient,
    account: Option<Account>,
    token_servers: TokenServers,
    held: Cache<Scope, Held>,
    /// Locked during a login.
    login: Arc<Mutex<Login>>,
}

/// The state of logins.
#[derive(Default)]
struct Login {
    challenge: Option<Challenge>,
    /// Until when no login is tried, and why.
    paused: Option<(Instant, NoToken)>,
}

/// Why there is no token.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{why}")]
pub struct NoToken {
    why: String,
    /// How long no login is tried.
    pause: Duration,
}

#[derive(Clone)]
struct Held {
    header: HeaderValue,
    /// Whether one login requested several scopes. Not every server grants them all.
    shared: bool,
    since: Instant,
    /// When a new token is requested.
    until: Instant,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<Secret>,
    access_token: Option<Secret>,
    expires_in: Option<u64>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("account", &self.account).finish_non_exhaustive()
    }
}

impl NoToken {
    /// Whether the registry refused the login, or asked to wait before the next one.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.pause > FAILED_PAUSE
    }
}

impl Tokens {
    /// The tokens of `account`, or of an anonymous client.
    ///
    /// # Errors
    /// The TLS policy cannot be used.
    pub fn new(
        client: &RegistryClient,
        account: Option<Account>,
        tls: &rustls::ClientConfig,
        proxies: &Arc<ProxyRules>,
    ) -> anyhow::Result<Self> {
        let token_servers = TokenServers::new(tls, proxies, LOGIN_BOUND)?;
        let held = Cache::builder().max_capacity(HELD_MAX).build();
        Ok(Self { client: client.within(LOGIN_BOUND), account, token_servers, held, login: Arc::default() })
    }

    /// These tokens, together with those that others of the same account at the same registry hold. If its last login was
    /// refused, none is tried until then.
    #[must_use]
    pub(super) fn sharing(self, others: &Self) -> Self {
        Self { held: others.held.clone(), login: Arc::clone(&others.login), ..self }
    }

    /// Asks the registry how it authenticates its clients, and remembers the answer.
    ///
    /// # Errors
    /// The registry does not answer, or the answer is not that of a registry.
    pub async fn challenge(&self) -> anyhow::Result<()> {
        self.challenged(&mut *self.login.lock().await).await.map(drop)
    }

    async fn challenged(&self, login: &mut Login) -> anyhow::Result<Challenge> {
        if let Some(known) = &login.challenge {
            return Ok(known.clone());
        }
        let answer = self.client.get("/v2/", HeaderMap::new()).await.context(
            "the registry does not answer at registry.url: check that it runs; `quay-gateway check` shows more",
        )?;
        let asks_password = |value: &HeaderValue| {
            value.to_str().is_ok_and(|text| text.get(..5).is_some_and(|s| s.eq_ignore_ascii_case("basic")))
        };
        let challenge = match (answer.status(), Bearer::of(answer.headers())) {
            (StatusCode::OK, _) => Challenge::Open,
            (StatusCode::UNAUTHORIZED, Some(bearer)) => Challenge::Bearer(bearer),
            (StatusCode::UNAUTHORIZED, None)
                if answer.headers().get_all(WWW_AUTHENTICATE).iter().any(asks_password) =>
            {
                Challenge::Basic
            }
            _ => bail!(
                "the server at registry.url is not a registry: GET /v2/ gives {}; correct registry.url",
                describe(answer).await
            ),
        };
        login.challenge = Some(challenge.clone());
        Ok(challenge)
    }

    /// The name of the account in messages.
    #[must_use]
    pub fn who(&self) -> String {
        self.account
            .as_ref()
            .map_or_else(|| "nobody (no account is given)".to_owned(), |account| account.username.clone())
    }

    /// The headers for reading this scope.
    ///
    /// # Errors
    /// Those of [`Tokens::authorization`].
    pub async fn headers(&self, scope: &Scope) -> Result<HeaderMap, NoToken> {
        let header = self.authorization(scope).await?;
        Ok(header.map(|header| (AUTHORIZATION, header)).into_iter().collect())
    }

    /// The `Authorization` for reading this scope. `None` if the registry requires none. If there is no
    /// token, or the token expires soon, a new one is requested.
    ///
    /// # Errors
    /// - The registry or its token server gives no token.
    /// - A login failed recently. After a refused login, none is tried for five minutes, because Quay would
    ///   lock the account.
    pub async fn authorization(&self, scope: &Scope) -> Result<Option<HeaderValue>, NoToken> {
        self.authorization_of(std::slice::from_ref(scope)).await
    }

    /// Gets a token for the first of these scopes if there is none. The same login also requests as many of
    /// the other scopes as one token can name. Returns whether it logged in.
    pub async fn prepare(&self, scopes: &[Scope]) -> bool {
        let Some(first) = scopes.first().filter(|first| self.fresh(first).is_none()) else { return false };
        let given = self.authorization_of(together(scopes)).await;
        given.is_ok_and(|_| self.fresh(first).is_some())
    }

    async fn authorization_of(&self, scopes: &[Scope]) -> Result<Option<HeaderValue>, NoToken> {
        let Some(scope) = scopes.first() else { return Ok(None) };
        if let Some(header) = self.fresh(scope) {
            return Ok(Some(header));
        }
        let mut login = self.login.lock().await;
        // Another caller may have logged in while this one waited.
        if let Some(header) = self.fresh(scope) {
            return Ok(Some(header));
        }
        if let Some((until, why)) = &login.paused
            && Instant::now() < *until
        {
            return Err(why.clone());
        }
        match self.log_in(&mut login, scopes).await {
            Ok(None) => Ok(None),
            Ok(Some(held)) => {
                login.paused = None;
                let header = held.header.clone();
                scopes.iter().for_each(|scope| self.held.insert(scope.clone(), held.clone()));
                Ok(Some(header))
            }
            Err(error) => {
                // The registry may require something else now.
                login.challenge = None;
                login.paused = Some((Instant::now() + error.pause, error.clone()));
                Err(error)
            }
        }
    }

    /// Like [`Tokens::authorization`], for use during a run: if there is no new token, the old one is
    /// returned.
    pub async fn renewed(&self, scope: &Scope) -> Option<HeaderValue> {
        match self.authorization(scope).await {
            Ok(header) => header,
            Err(_) => self.held.get(scope).map(|held| held.header),
        }
    }

    /// Drops a token that the registry does not accept any more. Returns whether a new token may help: the
    /// old one is not recent, or was requested together with other scopes.
    pub fn forget(&self, scope: &Scope) -> bool {
        let old = self.held.get(scope).is_some_and(|held| held.shared || held.since.elapsed() > YOUNG);
        if old {
            self.held.invalidate(scope);
        }
        old
    }

    fn fresh(&self, scope: &Scope) -> Option<HeaderValue> {
        self.held.get(scope).filter(|held| Instant::now() < held.until).map(|held| held.header)
    }

    async fn log_in(&self, login: &mut Login, scopes: &[Scope]) -> Result<Option<Held>, NoToken> {
        let failed = |error: anyhow::Error| NoToken { why: format!("{error:#}"), pause: FAILED_PAUSE };
        match self.challenged(login).await.map_err(failed)? {
            Challenge::Open => Ok(None),
            Challenge::Basic => {
                let account = self.account.as_ref().context(
                    "the registry requires a password: give --username and --password-file, or registry.account",
                );
                let header = account.and_then(basic).map_err(failed)?;
                let (shared, since) = (false, Instant::now());
                Ok(Some(Held { header, shared, since, until: since + LIFE_DEFAULT }))
            }
            Challenge::Bearer(bearer) => self
                .ask(&bearer, scopes)
                .await
                .map(Some)
                .map_err(|error| error.downcast::<NoToken>().unwrap_or_else(failed)),
        }
    }

    async fn ask(&self, bearer: &Bearer, scopes: &[Scope]) -> anyhow::Result<Held> {
        let mut url: Url = bearer.realm.parse().context("the registry's token realm is not a URL")?;
        url.query_pairs_mut().append_pair("service", &bearer.service);
        for scope in scopes.iter().filter_map(Scope::text) {
            url.query_pairs_mut().append_pair("scope", &scope);
        }
        let mut headers = HeaderMap::new();
        if let Some(account) = &self.account {
            headers.insert(AUTHORIZATION, basic(account)?);
        }
        let given = match self.client.is(bearer.authority()) {
            true => self.at_registry(&url, headers).await?,
            false => self.at_token_server(&url, headers).await?,
        };
        let token = given.token.or(given.access_token).context("the token server's answer has no token")?;
        let mut header = HeaderValue::from_str(&format!("Bearer {}", token.reveal()))
            .map_err(|_| anyhow::anyhow!("the token server's answer is not a token"))?;
        header.set_sensitive(true);
        let life = match given.expires_in {
            Some(seconds) => Duration::from_secs(seconds),
            // Quay gives the lifetime only inside the token.
            None => {
                match token_life(&[(AUTHORIZATION, header.clone())].into_iter().collect(), SystemTime::now())
                {
                    Life::Left(life) => life,
                    Life::Unknown | Life::Unreadable => LIFE_DEFAULT,
                }
            }
        };
        let (shared, since) = (scopes.len() > 1, Instant::now());
        Ok(Held { header, shared, since, until: since + renewed_after(life) })
    }

    async fn at_registry(&self, url: &Url, headers: HeaderMap) -> anyhow::Result<TokenAnswer> {
        let path = format!("{}?{}", url.path(), url.query().unwrap_or_default());
        let answer = self.client.get(&path, headers).await.context("no token")?;
        if answer.status() != StatusCode::OK {
            let status = answer.status();
            return Err(self.refused(status, &describe(answer).await));
        }
        understood(&read_body(answer, ANSWER_MAX).await?, "the registry's token answer cannot be parsed")
    }

    async fn at_token_server(&self, url: &Url, headers: HeaderMap) -> anyhow::Result<TokenAnswer> {
        let (status, body) = self.token_servers.get(url, headers, ANSWER_MAX).await?;
        if status != StatusCode::OK {
            return Err(self.refused(status, &status.to_string()));
        }
        understood(&body, "the token server's answer cannot be parsed")
    }

    /// The error for a refused token.
    fn refused(&self, status: StatusCode, said: &str) -> anyhow::Error {
        let who = self.who();
        let why = match status {
            StatusCode::TOO_MANY_REQUESTS => format!(
                "no token for {who}: {said}. Its last login was wrong, and Quay waits before it takes another: try \
                 again in a minute, with the right password"
            ),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => format!(
                "no token for {who}: {said}. The name or the password is wrong; it is not tried again for a while, as \
                 Quay would lock the account for longer. Correct --username and --password-file, or registry.account"
            ),
            _ => format!("no token for {who}: {said}. See the registry's log"),
        };
        let pause = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => REFUSED_PAUSE,
            StatusCode::TOO_MANY_REQUESTS => THROTTLED_PAUSE,
            _ => FAILED_PAUSE,
        };
        NoToken { why, pause }.into()
    }
}

/// How long after it was issued a token with this lifetime is renewed.
fn renewed_after(life: Duration) -> Duration {
    life.min(LIFE_MAX) * 3 / 4
}

/// Parses a token server's answer. The error of serde is not repeated, because it may contain the token.
fn understood(body: &[u8], otherwise: &'static str) -> anyhow::Result<TokenAnswer> {
    serde_json::from_slice(body).map_err(|_| anyhow::anyhow!(otherwise))
}

fn basic(account: &Account) -> anyhow::Result<HeaderValue> {
    let pair = STANDARD.encode(format!("{}:{}", account.username, account.password.reveal()));
    let mut header = HeaderValue::from_str(&format!("Basic {pair}"))?;
    header.set_sensitive(true);
    Ok(header)
}
