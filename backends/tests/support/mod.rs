//! Servers on loopback.

#![allow(dead_code, missing_docs, unreachable_pub)]

pub mod azure;
pub mod credentials;
pub mod s3;
pub mod service;
pub mod swift;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backends::s3::{S3Config, Style};
use backends::{Kind, Secret, Timeouts, Transport};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

pub const ACCESS_KEY: &str = "AKIDTEST";
pub const SECRET_KEY: &str = "secret-of-the-test";

/// A transport without root certificates.
pub fn transport(timeouts: Timeouts) -> Transport {
    transport_trusting(rustls::RootCertStore::empty(), timeouts)
}

pub fn transport_trusting(roots: rustls::RootCertStore, timeouts: Timeouts) -> Transport {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Transport::new(Arc::new(tls), timeouts)
}

/// Timeouts that are short enough for fault tests and long enough for a busy machine.
pub fn short() -> Timeouts {
    Timeouts {
        connect: Duration::from_secs(1),
        first_byte: Duration::from_secs(1),
        stall: Duration::from_secs(1),
    }
}

pub fn config(address: SocketAddr) -> S3Config {
    S3Config {
        endpoint: format!("http://{address}").parse().expect("a URL"),
        style: Style::Path,
        bucket: "bucket".to_owned(),
        root: "datastorage/registry".to_owned(),
        region: "us-east-1".to_owned(),
        access_key: Secret::new(ACCESS_KEY),
        secret_key: Secret::new(SECRET_KEY),
        session_token: None,
        encrypt: false,
    }
}

/// An S3 server over a folder. It verifies signatures and has a bucket named `bucket`.
pub async fn s3_server(root: &Path) -> SocketAddr {
    std::fs::create_dir_all(root.join("bucket")).expect("a bucket");
    let mut builder =
        s3s::service::S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).expect("a file system"));
    builder.set_auth(s3s::auth::SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    let service = builder.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        loop {
            let Ok((socket, _)) = listener.accept().await else { continue };
            let service = service.clone();
            tokio::spawn(async move {
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    address
}

/// Builds an answer from its status line, its headers (separated by `\n`) and its body.
pub fn answer(head: &str, body: &str) -> String {
    let head = head.replace('\n', "\r\n");
    let length = if head.contains("Content-Length") {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    format!("HTTP/1.1 {head}\r\n{length}Connection: close\r\n\r\n{body}")
}

/// The kind of a failure. Panics if the error contains a location or one of these secrets.
pub fn kind<T: std::fmt::Debug>(result: backends::Result<T>, secrets: &[&str]) -> Kind {
    let error = result.expect_err("must fail");
    for secret in ["127.0.0.1"].iter().chain(secrets) {
        assert!(!error.to_string().contains(secret), "{error}");
    }
    error.kind()
}

/// What a scripted server does with one request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Reads the request, writes these bytes and closes the connection.
    Bytes(String),
    /// Reads the request and closes the connection.
    Close,
    /// Reads the headers of the request and closes the connection at once, without reading the body.
    Slam,
    /// Reads the request, writes these bytes and then stalls.
    Stall(String),
    /// Reads the headers of the request and then stalls.
    Ignore,
    /// Reads the headers of the request, writes these bytes, and does not read the body.
    Early(String),
}

/// A server that answers by a script, with one connection per answer, and records the requests. It is also the
/// Keystone of a Swift with a container: logins and their first requests, for the container, are neither answered by
/// the script nor recorded.
#[derive(Debug)]
pub struct Scripted {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    /// Starts the server. The last answer is repeated.
    pub async fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            let mut answers = answers.into_iter().peekable();
            loop {
                let Ok((mut socket, _)) = listener.accept().await else { return };
                let head = read_head(&mut socket).await;
                if let Some(answer) = swift::login(&head, address) {
                    let _ = socket.write_all(answer.as_bytes()).await;
                    continue;
                }
                let Some(answer) = answers.next() else { return };
                if answers.peek().is_none() {
                    answers = vec![answer.clone()].into_iter().peekable();
                }
                let length = header(&head, "content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
                seen.lock().push(head);
                if !matches!(answer, Answer::Slam | Answer::Ignore | Answer::Early(_)) {
                    let mut body = vec![0; length];
                    let _ = socket.read_exact(&mut body).await;
                }
                match answer {
                    Answer::Bytes(text) => {
                        let _ = socket.write_all(text.as_bytes()).await;
                        let _ = socket.shutdown().await;
                    }
                    Answer::Close | Answer::Slam => drop(socket),
                    Answer::Stall(_) | Answer::Ignore | Answer::Early(_) => {
                        if let Answer::Stall(text) | Answer::Early(text) = answer {
                            let _ = socket.write_all(text.as_bytes()).await;
                        }
                        tokio::spawn(async move {
                            tokio::time::sleep(Duration::from_secs(60)).await;
                            drop(socket);
                        });
                    }
                }
            }
        });
        Self { address, requests }
    }

    /// The heads of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().clone()
    }
}

async fn read_head(socket: &mut tokio::net::TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// The value of a header in the head of a request.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}
