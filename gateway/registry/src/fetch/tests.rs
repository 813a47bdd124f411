//! A registry in this process that redirects, and a store that does not answer.

use std::sync::Arc;

use backends::Digest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;

/// A server that answers each request with the result of `answer` for its path, and does not answer if that
/// is `None`. The channel receives the requests.
async fn server(
    answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let (asked, seen) = mpsc::channel(100);
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (answer, asked) = (Arc::clone(&answer), asked.clone());
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.ok()?);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let text = answer(&path);
                asked.send(head).await.ok()?;
                match text {
                    Some(text) => stream.write_all(text.as_bytes()).await.ok(),
                    None => std::future::pending().await,
                }
            });
        }
    });
    (address, seen)
}

fn says(status: &str, headers: &str, body: &str) -> Option<String> {
    let length = body.len();
    Some(format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"))
}

fn redirect(to: &str) -> Option<String> {
    says("307 Temporary Redirect", &format!("Location: {to}\r\n"), "")
}

fn client(address: &str) -> RegistryClient {
    client_with(address, "")
}

fn client_with(address: &str, more: &str) -> RegistryClient {
    certificates::install_provider();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("gateway.yaml");
    let yaml = format!(
        "registry: {{url: 'http://{address}', server_name: '{address}', redirects_to: [127.0.0.1, store.test]}}\n\
         limits: {{registry_connections: 1}}\n\
         zones: {{a: [LocalStorage, {{storage_path: /a}}]}}\n{more}"
    );
    std::fs::write(&file, yaml).expect("writes");
    let settings = config::load_with(&file, std::iter::empty()).expect("is read");
    RegistryClient::new("registry", &settings, &certificates::client(&[]).expect("TLS")).expect("a client")
}

async fn fetched(client: &RegistryClient) -> Result<(Vec<u8>, Origin), FetchError> {
    let secret = http::HeaderValue::from_static("Bearer secret");
    let blob = client.blob("o/a", &Digest::EMPTY, Some(&secret)).await?;
    let body: Vec<bytes::Bytes> = blob.body.try_collect().await.expect("a body");
    Ok((body.concat(), blob.from))
}

#[tokio::test]
async fn redirects_are_followed_without_credentials() {
    let (store, mut at_store) = server(|_| says("200 OK", "", "bytes")).await;
    let place = store.clone();
    let (registry, mut at_registry) = server(move |path| match path.starts_with("/v2/") {
        true => redirect("/_storage_proxy/token/x"),
        false => redirect(&format!("http://{store}/bucket/key?X-Amz-Signature=0a")),
    })
    .await;
    let (body, from) = fetched(&client(&registry)).await.expect("the blob");
    assert_eq!((&*body, from), (&b"bytes"[..], Origin::Store(place)));
    let first = at_registry.recv().await.expect("asked").to_lowercase();
    assert!(first.contains("authorization: bearer secret") && first.contains("accept-encoding: identity"));
    for next in [at_registry.recv().await, at_store.recv().await] {
        assert!(!next.expect("asked").to_lowercase().contains("secret"));
    }
}

/// A store that hangs must not block other requests to the registry.
#[tokio::test]
async fn the_registrys_connection_is_free_while_a_store_is_slow() {
    let (store, mut at_store) = server(|_| None).await;
    let (registry, _seen) = server(move |path| match path.starts_with("/v2/o/a/") {
        true => redirect(&format!("http://{store}/bucket/key")),
        false => says("200 OK", "", "{}"),
    })
    .await;
    let client = client(&registry);
    let waiting = client.clone();
    let waiting = tokio::spawn(async move { waiting.blob("o/a", &Digest::EMPTY, None).await });
    at_store.recv().await.expect("the store is asked");
    let answer = client.get("/v2/", HeaderMap::new()).await.expect("the only connection is free");
    assert_eq!(answer.status(), StatusCode::OK);
    waiting.abort();
}

#[tokio::test]
async fn errors_name_the_fault_and_whether_to_retry() {
    let (store, _seen) = server(|path| match path {
        "/gone" => says("404 Not Found", "", ""),
        _ => says("503 Service Unavailable", "", ""),
    })
    .await;
    for (answer, expected, fault, retry) in [
        (says("404 Not Found", "", ""), "the registry answers 404 Not Found", Fault::Registry, false),
        (says("503 Service Unavailable", "", ""), "the registry answers 503", Fault::Registry, true),
        (redirect("ftp://x"), "redirects to a place that is not a URL", Fault::Registry, false),
        (redirect("/v2/again"), "redirects for this blob do not end", Fault::Registry, false),
        (says("200 OK", "Content-Encoding: gzip\r\n", "x"), "compressed a blob", Fault::Registry, false),
        (
            redirect("http://169.254.169.254/"),
            "169.254.169.254, failed: registry.redirects_to",
            Fault::Zone,
            false,
        ),
        (redirect(&format!("http://{store}/gone")), "failed: status 404", Fault::Zone, false),
        (redirect(&format!("http://{store}/busy")), "failed: status 503", Fault::Zone, true),
    ] {
        let (registry, _seen) = server(move |_| answer.clone()).await;
        let error = fetched(&client(&registry)).await.expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!((error.fault(), error.may_retry()), (fault, retry), "{error}");
    }
}

/// The registry is on loopback, which is never reached through a proxy. The store has a name that only the proxy knows.
#[tokio::test]
async fn redirects_are_followed_through_the_proxy() {
    let (proxy, mut at_proxy) = server(|path| match path {
        "http://store.test/good" => says("200 OK", "", "bytes"),
        "http://store.test/login" => says("407 Proxy Authentication Required", "", ""),
        _ => says("503 Service Unavailable", "X-Squid-Error: ERR_DNS_FAIL 0\r\n", ""),
    })
    .await;
    let proxied = |to: &'static str| {
        let more = format!("proxy: {{url: 'http://user:hunter2@{proxy}'}}\n");
        async move {
            let (registry, _asked) = server(move |_| redirect(to)).await;
            fetched(&client_with(&registry, &more)).await
        }
    };
    let (bytes, _) = proxied("http://store.test/good").await.expect("a blob");
    assert_eq!(bytes, b"bytes");
    let asked = at_proxy.recv().await.expect("the proxy was asked").to_lowercase();
    assert!(asked.contains("host: store.test") && asked.contains("proxy-authorization: basic "), "{asked}");
    assert!(!asked.contains("bearer"), "{asked}");
    for (to, why) in [
        ("http://store.test/login", "refuses the gateway's credentials (407)"),
        ("http://store.test/away", "opens no connection to store.test (it answers 503)"),
        ("http://169.254.169.254/latest/", "Refused(NotNamed)"),
    ] {
        let refused = format!("{:?}", proxied(to).await.expect_err(to));
        assert!(refused.contains(why) && !refused.contains("hunter2"), "{to}: {refused}");
    }
}
