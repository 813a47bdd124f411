//! What the registry wants to see before it lets anyone read: nothing, a password, or a token.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail, ensure};
use backends::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::door::{Door, said, whole};
use crate::auth::{Life, token_life};
use crate::config::Account;
use crate::registry::Bearer;

/// Bytes of a token server's answer.
const ANSWER_MAX: usize = 64 * 1024;

/// A token's life where nobody says it (distribution's token specification, `expires_in`).
const LIFE_DEFAULT: Duration = Duration::from_secs(60);

/// A token server elsewhere has this long to answer.
const SERVER_BOUND: Duration = Duration::from_secs(15);

/// Longer than any run: a login that failed once is not tried again.
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// How a registry knows its clients.
#[derive(Debug)]
enum Challenge {
    Open,
    Basic,
    Bearer(Bearer),
}

/// Tokens of one account, one a repository, asked for once and again before they end.
pub(super) struct Tokens<'a> {
    door: &'a Door,
    account: Option<&'a Account>,
    /// For token servers that are not the registry.
    web: reqwest::Client,
    challenge: Challenge,
    held: HashMap<String, Held>,
}

struct Held {
    header: HeaderValue,
    /// When a new one is due.
    until: Instant,
}

#[derive(Deserialize)]
struct Given {
    token: Option<Secret>,
    access_token: Option<Secret>,
    expires_in: Option<u64>,
}

impl<'a> Tokens<'a> {
    /// Asks the registry what it wants to see.
    ///
    /// # Errors
    /// It does not answer, or not as a registry.
    pub(super) async fn new(
        door: &'a Door,
        account: Option<&'a Account>,
        tls: &rustls::ClientConfig,
    ) -> anyhow::Result<Self> {
        let answer = door.ask("/v2/", HeaderMap::new()).await.context(
            "the registry does not answer at registry.url: see that it is up; `quay-gateway check` says more",
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
                "what answers at registry.url is no registry: GET /v2/ gives {}; mend registry.url",
                said(answer).await
            ),
        };
        let web = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(SERVER_BOUND)
            .build()?;
        Ok(Self { door, account, web, challenge, held: HashMap::new() })
    }

    /// Who asks, for errors.
    pub(super) fn who(&self) -> String {
        self.account
            .map_or_else(|| "nobody (no account is given)".to_owned(), |account| account.username.clone())
    }

    /// Headers to read a repository with.
    ///
    /// # Errors
    /// As [`Tokens::authorization`].
    pub(super) async fn headers(&mut self, repository: &str) -> anyhow::Result<HeaderMap> {
        let header = self.authorization(repository).await?;
        Ok(header.map(|header| (AUTHORIZATION, header)).into_iter().collect())
    }

    /// What to read a repository with, asked for if none is held or it ends soon.
    ///
    /// # Errors
    /// None is given. A login that is refused is not tried again: Quay would lock the account.
    pub(super) async fn authorization(&mut self, repository: &str) -> anyhow::Result<Option<HeaderValue>> {
        if let Some(held) = self.held.get(repository).filter(|held| Instant::now() < held.until) {
            return Ok(Some(held.header.clone()));
        }
        let bearer = match &self.challenge {
            Challenge::Open => return Ok(None),
            Challenge::Basic => {
                let account = self.account.context(
                    "the registry asks for a password: give --username and --password-file, or registry.account",
                )?;
                return Ok(Some(basic(account)?));
            }
            Challenge::Bearer(bearer) => bearer,
        };
        let held = self.ask(bearer, repository).await?;
        let header = held.header.clone();
        self.held.insert(repository.to_owned(), held);
        Ok(Some(header))
    }

    /// The same in the middle of a run: where no new one is given, the old one has to do.
    pub(super) async fn renewed(&mut self, repository: &str) -> Option<HeaderValue> {
        match self.authorization(repository).await {
            Ok(header) => header,
            Err(_) => {
                let held = self.held.get_mut(repository)?;
                held.until = Instant::now() + NEVER;
                Some(held.header.clone())
            }
        }
    }

    async fn ask(&self, bearer: &Bearer, repository: &str) -> anyhow::Result<Held> {
        let mut url: Url = bearer.realm.parse().context("the registry's token realm is no URL")?;
        url.query_pairs_mut()
            .append_pair("service", &bearer.service)
            .append_pair("scope", &format!("repository:{repository}:pull"));
        let mut headers = HeaderMap::new();
        if let Some(account) = self.account {
            headers.insert(AUTHORIZATION, basic(account)?);
        }
        let given = match self.door.is(bearer.authority()) {
            true => self.at_registry(&url, headers).await?,
            false => self.elsewhere(&url, headers).await?,
        };
        let token = given.token.or(given.access_token).context("the token server's answer has no token")?;
        let mut header = HeaderValue::from_str(&format!("Bearer {}", token.reveal()))
            .map_err(|_| anyhow::anyhow!("the token server's answer is no token"))?;
        header.set_sensitive(true);
        let life = match given.expires_in {
            Some(seconds) => Duration::from_secs(seconds),
            // Quay tells it in the token alone.
            None => {
                match token_life(&[(AUTHORIZATION, header.clone())].into_iter().collect(), SystemTime::now())
                {
                    Life::Left(life) => life,
                    Life::Unknown | Life::Unreadable => LIFE_DEFAULT,
                }
            }
        };
        Ok(Held { header, until: Instant::now() + life * 3 / 4 })
    }

    async fn at_registry(&self, url: &Url, headers: HeaderMap) -> anyhow::Result<Given> {
        let path = format!("{}?{}", url.path(), url.query().unwrap_or_default());
        let answer = self.door.ask(&path, headers).await.context("no token")?;
        if answer.status() != StatusCode::OK {
            let status = answer.status();
            return Err(self.refused(status, &said(answer).await));
        }
        serde_json::from_slice(&whole(answer, ANSWER_MAX).await?)
            .context("the registry's token is not understood")
    }

    async fn elsewhere(&self, url: &Url, headers: HeaderMap) -> anyhow::Result<Given> {
        let host = url.host_str().unwrap_or_default().to_owned();
        let local =
            matches!(url.host(), Some(url::Host::Ipv4(ip)) if ip.is_loopback()) || host == "localhost";
        ensure!(
            url.scheme() == "https" || headers.is_empty() || local,
            "the registry sends clients to http://{host} for tokens, without TLS: the password is not sent there; \
             give that token server a certificate"
        );
        let failed = |error: reqwest::Error| {
            anyhow::Error::new(error.without_url()).context(format!("the token server {host} gives no token"))
        };
        let mut answer = self.web.get(url.clone()).headers(headers).send().await.map_err(failed)?;
        if answer.status() != StatusCode::OK {
            return Err(self.refused(answer.status(), &answer.status().to_string()));
        }
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(failed)? {
            ensure!(body.len() + piece.len() <= ANSWER_MAX, "the token server {host} answers without end");
            body.extend_from_slice(&piece);
        }
        serde_json::from_slice(&body).context("the token server's answer is not understood")
    }

    /// What is said of a token that is not given.
    fn refused(&self, status: StatusCode, said: &str) -> anyhow::Error {
        let who = self.who();
        match status {
            StatusCode::TOO_MANY_REQUESTS => anyhow::anyhow!(
                "no token for {who}: {said}. Its last login was wrong, and Quay waits before it takes another: try \
                 again in a minute, with the right password"
            ),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => anyhow::anyhow!(
                "no token for {who}: {said}. The name or the password is wrong; it is not tried again, as Quay would \
                 lock the account for longer. Mend --username and --password-file, or registry.account"
            ),
            _ => anyhow::anyhow!("no token for {who}: {said}. See the registry's log"),
        }
    }
}

fn basic(account: &Account) -> anyhow::Result<HeaderValue> {
    let pair = STANDARD.encode(format!("{}:{}", account.username, account.password.reveal()));
    let mut header = HeaderValue::from_str(&format!("Basic {pair}"))?;
    header.set_sensitive(true);
    Ok(header)
}
