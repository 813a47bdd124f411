//! A Keystone and a Swift that answer by a function.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use backends::swift::{
    Access, Account, Domain, Identity, Login, Named, Service as Wanted, SwiftConfig, SwiftStore,
};
use backends::{Key, Kind, Result, Secret, Source, Transport};
use bytes::Bytes;
use serde_json::json;

use super::service::{Asked, Reply, Service, reply};

pub const PASSWORD: &str = "hunter2";

/// Keystone's `POST /v3/auth/tokens`.
pub const TOKENS: &str = "/v3/auth/tokens";

/// An hour, in seconds.
pub const HOUR: u64 = 3600;

/// The key of the tests.
pub fn key() -> Key {
    Key::new("sha256/ab/abcd")
}

/// A source of `size` bytes.
pub fn source(size: usize) -> Source {
    Source::bytes(Bytes::from(vec![7; size]))
}

/// Keystone's answer: token number `number`, valid for `life` seconds, and this server as Swift.
pub fn granted(asked: &Asked, number: usize, life: u64) -> Reply {
    let token = token_document(asked.header("host").expect("a host"), life);
    reply(201, token).with("x-subject-token", format!("token-{number}"))
}

/// The answer to a request that is part of a login, as it is sent: a token that is valid for an hour and names this
/// server as Swift, or that the container exists.
pub fn login(head: &str, address: SocketAddr) -> Option<String> {
    if head.starts_with("HEAD /v1/AUTH_p/blobs HTTP") {
        return Some(super::answer("204 No Content", ""));
    }
    let token = token_document(&address.to_string(), HOUR);
    head.starts_with(&format!("POST {TOKENS} "))
        .then(|| super::answer("201 Created\nX-Subject-Token: token-1", &token))
}

fn token_document(host: &str, life: u64) -> String {
    // Only the difference of the two times counts, because Keystone's clock may be wrong.
    let expires = format!("2015-11-06T{:02}:{:02}:{:02}.000000Z", life / 3600, life / 60 % 60, life % 60);
    let url = format!("http://{host}/v1/AUTH_p");
    let endpoint = json!({ "interface": "public", "region": "One", "url": url });
    let document = json!({ "token": {
        "issued_at": "2015-11-06T00:00:00.000000Z",
        "expires_at": expires,
        "catalog": [{ "type": "object-store", "endpoints": [endpoint] }],
    } });
    document.to_string()
}

/// A Keystone that grants tokens, and a Swift that computes its answers from the request and the token's
/// number.
pub async fn swift(life: u64, answer: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Service {
    let logins = AtomicUsize::new(0);
    Service::start(move |asked| {
        if asked.path == TOKENS {
            return granted(asked, logins.fetch_add(1, Ordering::SeqCst) + 1, life);
        }
        let token = asked.header("x-auth-token").and_then(|token| token.strip_prefix("token-"));
        answer(asked, token.and_then(|number| number.parse().ok()).unwrap_or_default())
    })
    .await
}

/// A store at this server.
pub fn store(server: &Service) -> SwiftStore {
    store_by(server.address, &super::transport(super::short()))
}

/// A store at this address, over this transport.
pub fn store_by(address: SocketAddr, transport: &Transport) -> SwiftStore {
    let named = |name: &str| Named::Name { name: name.to_owned(), domain: Domain::Id("default".to_owned()) };
    let account = Account {
        user: named("quay"),
        password: Some(Secret::new(PASSWORD)),
        token: None,
        project: Some(named("quay")),
    };
    let url = format!("http://{address}/v3").parse().expect("a URL");
    let config = SwiftConfig {
        access: Access::Login(Box::new(Login { url, identity: Identity::V3(account) })),
        storage_url: None,
        service: Wanted { kind: "object-store".to_owned(), interface: "public".to_owned(), region: None },
        container: "blobs".to_owned(),
        root: "reg".to_owned(),
        simple_path_concat: false,
        ca_file: None,
    };
    SwiftStore::new(&config, transport).expect("builds")
}

/// The kind of a failure. Panics if the error contains a secret.
pub fn kind<T: std::fmt::Debug>(result: Result<T>) -> Kind {
    super::kind(result, &["token-", PASSWORD])
}
