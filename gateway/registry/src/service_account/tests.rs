//! Logins, counted at a registry in this process.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::*;

/// The requests to the registry, and how it answers.
#[derive(Debug, Default)]
struct FakeRegistry {
    logins: AtomicUsize,
    /// The status of the answer to a login.
    status: AtomicUsize,
    /// Whether a token is valid only for the first of its scopes.
    first_alone: AtomicBool,
    /// Whether a token's lifetime is the largest number that can be written.
    endless: AtomicBool,
}

/// A registry that gives tokens, or answers with this status instead. It returns a page of repositories to
/// everybody who sends the latest token.
async fn registry() -> (SocketAddr, Arc<FakeRegistry>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, asked) = (listener.local_addr().expect("an address"), Arc::new(FakeRegistry::default()));
    asked.status.store(200, Ordering::Relaxed);
    let counted = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let asked = Arc::clone(&counted);
            let service = service_fn(move |request| {
                let answer = answer(&asked, &request, address);
                async move { Ok::<_, Infallible>(answer) }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (address, asked)
}

fn answer(asked: &FakeRegistry, request: &Request<Incoming>, address: SocketAddr) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    let token = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    match request.uri().path() {
        "/v2/auth" => {
            let number = asked.logins.fetch_add(1, Ordering::Relaxed);
            let status = u16::try_from(asked.status.load(Ordering::Relaxed)).expect("a status");
            *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            // The text of a token is its scopes.
            let scopes = url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes())
                .filter(|(name, _)| name == "scope")
                .map(|(_, scope)| scope.replace(':', "_"));
            let first = if asked.first_alone.load(Ordering::Relaxed) { 1 } else { usize::MAX };
            let scopes: Vec<_> = scopes.take(first).collect();
            let life = if asked.endless.load(Ordering::Relaxed) { u64::MAX } else { 3600 };
            *response.body_mut() =
                format!(r#"{{"token":"t{number}.{}.","expires_in":{life}}}"#, scopes.join(".")).into();
        }
        "/v2/_catalog" if token.is_some_and(|token| token.starts_with("Bearer t")) => {
            *response.body_mut() = r#"{"repositories":["a/b"]}"#.into();
        }
        path if path.ends_with("/tags/list") && grants(token, path) => {
            *response.status_mut() = StatusCode::NOT_FOUND;
        }
        _ => {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            let challenge = format!(r#"Bearer realm="http://{address}/v2/auth",service="r""#);
            response.headers_mut().insert("www-authenticate", challenge.parse().expect("a header"));
        }
    }
    response
}

/// Whether a token is valid for the repository in this path of tags.
fn grants(token: Option<&str>, path: &str) -> bool {
    let repository = path.trim_start_matches("/v2/").trim_end_matches("/tags/list");
    token.is_some_and(|token| token.contains(&format!(".repository_{repository}_pull.")))
}

fn reader(address: SocketAddr) -> Arc<Reader> {
    certificates::install_provider();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("gateway.yaml");
    std::fs::write(folder.path().join("password"), "hunter2").expect("writes");
    let yaml = format!(
        "registry: {{url: 'http://{address}', server_name: '{address}', account: {{username: a+b, password_file: password}}}}\n\
         zones: {{a: [LocalStorage, {{storage_path: /a}}]}}\n"
    );
    std::fs::write(&file, yaml).expect("writes");
    let settings = config::load_with(&file, std::iter::empty()).expect("is read");
    let tls = certificates::client(&[]).expect("TLS");
    let client = RegistryClient::new("registry", &settings, &tls).expect("a client");
    let reader = Reader::new(&settings, &client, crate::registry(&settings), &tls).expect("a reader");
    Arc::new(reader.expect("an account"))
}

#[tokio::test]
async fn callers_together_log_in_once() {
    let (address, asked) = registry().await;
    let reader = reader(address);
    let pages = join_all((0..20).map(|_| reader.repositories(None))).await;
    assert!(pages.iter().all(|page| page.as_ref().is_ok_and(|page| page.names == ["a/b"])), "{pages:?}");
    assert_eq!(asked.logins.load(Ordering::Relaxed), 1);
    // Another repository needs another token.
    let denied = reader.manifest("a/b", "v1").await.expect_err("there is none");
    assert!(matches!(denied, ReadError::Denied(_)), "{denied}");
    assert_eq!(asked.logins.load(Ordering::Relaxed), 2, "a new token is not renewed because of a refusal");
    assert!(!format!("{reader:?}").contains("hunter2"));
}

#[tokio::test]
async fn one_login_serves_many_repositories() {
    let (address, asked) = registry().await;
    let reader = reader(address);
    let names: Vec<_> = (0..100).map(|n| format!("org/repository-{n}")).collect();
    let mut at = 0;
    while at < names.len() {
        reader.prepare(&names[at..]).await;
        // Each request uses the token that is held by then. The list of tags does not exist.
        assert!(matches!(reader.tags(&names[at], None).await, Err(ReadError::Absent(_))));
        at += 1;
    }
    let logins = asked.logins.load(Ordering::Relaxed);
    assert!(logins <= 5, "{logins} logins for 100 repositories");
}

/// A server that gives a token only for the first scope, as some other than Quay do.
#[tokio::test]
async fn scopes_that_are_not_granted_together_are_requested_alone() {
    let (address, asked) = registry().await;
    asked.first_alone.store(true, Ordering::Relaxed);
    let reader = reader(address);
    let names = ["org/one", "org/two"].map(str::to_owned);
    reader.prepare(&names).await;
    for name in &names {
        assert!(matches!(reader.tags(name, None).await, Err(ReadError::Absent(_))), "{name}");
    }
    assert_eq!(asked.logins.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_refused_login_is_not_repeated() {
    for status in [401, 403, 429] {
        let (address, asked) = registry().await;
        asked.status.store(status, Ordering::Relaxed);
        let reader = reader(address);
        for page in join_all((0..10).map(|_| reader.repositories(None))).await {
            let why = page.expect_err("refused");
            assert!(matches!(&why, ReadError::Denied(said) if !said.contains("hunter2")), "{why}");
        }
        assert!(reader.log_in().await.is_err());
        assert_eq!(asked.logins.load(Ordering::Relaxed), 1, "{status}");
    }
}

#[tokio::test]
async fn a_failing_registry_is_not_a_refusal() {
    let (address, asked) = registry().await;
    asked.status.store(503, Ordering::Relaxed);
    let reader = reader(address);
    let why = reader.repositories(None).await.expect_err("no token");
    assert!(matches!(why, ReadError::Busy(_)), "{why}");
}

#[tokio::test]
async fn a_token_may_claim_to_last_for_ever() {
    let (address, asked) = registry().await;
    asked.endless.store(true, Ordering::Relaxed);
    let reader = reader(address);
    for _ in 0..2 {
        assert!(reader.repositories(None).await.is_ok());
    }
    assert_eq!(asked.logins.load(Ordering::Relaxed), 1);
}
