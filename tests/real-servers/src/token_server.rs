//! A token service for docker-registry: RS256 tokens for a table of accounts.
//!
//! The protocol is that of distribution's `docs/spec/auth/token.md` and `jwt.md`.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

const SERVICE: &str = "registry.test";
const ISSUER: &str = "token-service.test";
const LIFE: Duration = Duration::from_secs(300);

/// One user.
#[derive(Debug, Clone)]
pub struct Account {
    /// The name.
    pub user: &'static str,
    /// The password.
    pub password: &'static str,
    /// The permissions: the actions (second) for repositories whose names start with the prefix (first).
    pub grants: &'static [(&'static str, &'static [&'static str])],
}

/// The accounts and the public repositories.
#[derive(Debug, Clone, Default)]
pub struct AccessTable {
    /// The users.
    pub accounts: Vec<Account>,
    /// Prefixes of repositories that everybody may pull.
    pub public: Vec<&'static str>,
}

impl AccessTable {
    /// The requested actions that `user` is granted. `None` is an anonymous client.
    fn granted<'a>(&self, user: Option<&Account>, repository: &str, asked: &'a str) -> Vec<&'a str> {
        let public = self.public.iter().any(|prefix| repository.starts_with(prefix));
        let may = |action: &str| {
            (public && action == "pull")
                || user.is_some_and(|user| {
                    user.grants
                        .iter()
                        .any(|(prefix, actions)| repository.starts_with(prefix) && actions.contains(&action))
                })
        };
        asked.split(',').filter(|action| may(action)).collect()
    }
}

/// The running service, with plain HTTP on loopback.
#[derive(Debug)]
pub struct TokenServer {
    port: u16,
    signer: Arc<Signer>,
    folder: TempDir,
    _task: AbortOnDropHandle<()>,
}

impl TokenServer {
    /// Creates a key and its certificate, and starts the service.
    ///
    /// # Errors
    /// A key, a folder or a port cannot be created.
    pub async fn start(access: AccessTable) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("tokens-").tempdir()?;
        let signer = Arc::new(Signer::new(&folder.path().join("tokens.crt"))?);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let task = tokio::spawn(serve(listener, Arc::new(access), Arc::clone(&signer)));
        Ok(Self { port, signer, folder, _task: AbortOnDropHandle::new(task) })
    }

    /// The URL at which clients request tokens.
    #[must_use]
    pub fn realm(&self) -> String {
        format!("http://127.0.0.1:{}/token", self.port)
    }

    /// The audience of the tokens.
    #[must_use]
    pub fn service(&self) -> &'static str {
        SERVICE
    }

    /// The issuer of the tokens.
    #[must_use]
    pub fn issuer(&self) -> &'static str {
        ISSUER
    }

    /// The file of the certificate that verifies the tokens, in PEM.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("tokens.crt")
    }

    /// A token for any purpose, for example an expired one. `life` is in seconds from now.
    ///
    /// # Errors
    /// The token cannot be signed.
    pub fn token(&self, user: &str, repository: &str, actions: &[&str], life: i64) -> Result<String> {
        self.signer.sign(user, &json!([access_entry(repository, actions)]), life)
    }
}

/// The key, and the certificate that each token contains in its `x5c` header.
struct Signer {
    key: EncodingKey,
    certificate: String,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    fn new(file: &Path) -> Result<Self> {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256)?;
        let certificate = rcgen::CertificateParams::new(vec![ISSUER.to_owned()])?.self_signed(&pair)?;
        std::fs::write(file, certificate.pem())?;
        Ok(Self {
            key: EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes())?,
            certificate: STANDARD.encode(certificate.der()),
        })
    }

    fn sign(&self, user: &str, access: &Value, life: i64) -> Result<String> {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
        let issued = now + life.min(0) * 2;
        let claims = json!({
            "iss": ISSUER, "aud": SERVICE, "sub": user, "access": access, "jti": format!("{:032x}", fastrand::u128(..)),
            "iat": issued, "nbf": issued - 5, "exp": now + life,
        });
        let header = Header { x5c: Some(vec![self.certificate.clone()]), ..Header::new(Algorithm::RS256) };
        Ok(jsonwebtoken::encode(&header, &claims, &self.key)?)
    }
}

fn access_entry(repository: &str, actions: &[&str]) -> Value {
    json!({ "type": "repository", "name": repository, "actions": actions })
}

async fn serve(listener: TcpListener, access: Arc<AccessTable>, signer: Arc<Signer>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (access, signer) = (Arc::clone(&access), Arc::clone(&signer));
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let answer = answer(&request, &access, &signer);
                async move { Ok::<_, Infallible>(answer) }
            });
            // An error means that a client has left.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn answer(request: &Request<Incoming>, access: &AccessTable, signer: &Signer) -> Response<Full<Bytes>> {
    // Clients that first try the OAuth2 POST use GET after this status.
    if request.method() != Method::GET {
        return respond(StatusCode::METHOD_NOT_ALLOWED, &json!({ "details": "GET only" }));
    }
    let user = match login(request, access) {
        Ok(user) => user,
        Err(()) => return respond(StatusCode::UNAUTHORIZED, &json!({ "details": "wrong user or password" })),
    };
    let granted: Vec<Value> = scopes(request.uri().query().unwrap_or_default())
        .iter()
        .filter_map(|scope| {
            let (repository, actions) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
            Some(access_entry(repository, &access.granted(user, repository, actions)))
        })
        .collect();
    let life = i64::try_from(LIFE.as_secs()).unwrap_or(i64::MAX);
    match signer.sign(user.map_or("", |user| user.user), &Value::Array(granted), life) {
        Ok(token) => {
            respond(StatusCode::OK, &json!({ "token": token, "access_token": token, "expires_in": life }))
        }
        Err(error) => respond(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "details": error.to_string() })),
    }
}

/// The account of the credentials. `None` without credentials, an error with wrong ones.
fn login<'a>(request: &Request<Incoming>, access: &'a AccessTable) -> Result<Option<&'a Account>, ()> {
    let Some(header) = request.headers().get(AUTHORIZATION) else { return Ok(None) };
    let decode = || -> Result<(String, String)> {
        let encoded = header.to_str()?.strip_prefix("Basic ").context("not Basic")?;
        let text = String::from_utf8(STANDARD.decode(encoded)?)?;
        let (user, password) = text.split_once(':').context("no colon")?;
        Ok((user.to_owned(), password.to_owned()))
    };
    let (user, password) = decode().map_err(|_| ())?;
    let found = access.accounts.iter().find(|account| account.user == user && account.password == password);
    found.map(Some).ok_or(())
}

/// The scopes of a query, which are repeated or separated by spaces.
fn scopes(query: &str) -> Vec<String> {
    url::form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| name == "scope")
        .flat_map(|(_, value)| value.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

fn respond(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}
