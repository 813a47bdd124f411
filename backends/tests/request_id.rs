//! Which id of a request the stores see.

mod support;

use backends::azure::{AccountKey, AzureConfig, AzureStore, Credentials};
use backends::s3::S3Store;
use backends::swift::{Access, Service as Wanted, SwiftConfig, SwiftStore};
use backends::{Key, RequestId, Secret, Store};
use http::{HeaderMap, HeaderValue};
use support::service::{Asked, Service, reply};

const ID: &str = "4c5b4c0a-1d5f-4a54-9d0b-6f0a3c0b7d3e";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// What a store is asked by a read for no request, and by one for a request.
async fn asked(server: Service, store: impl Store) -> [Asked; 2] {
    let key = Key::new("sha256/ab/abcd");
    store.head(&key).await.expect("answers");
    let mut headers = HeaderMap::new();
    headers.insert("x-request-id", HeaderValue::from_static(ID));
    headers.insert("traceparent", HeaderValue::from_static(TRACE));
    RequestId::of_request(&mut headers).scope(store.head(&key)).await.expect("answers");
    let [alone, named] = server.below("/").try_into().expect("two requests");
    for (name, value) in [("x-request-id", ID), ("traceparent", TRACE)] {
        assert_eq!((alone.header(name), named.header(name)), (None, Some(value)));
    }
    [alone, named]
}

async fn server() -> Service {
    Service::start(|_| reply(200, "").with("content-length", "5")).await
}

#[tokio::test]
async fn s3_sees_it_unsigned() {
    let server = server().await;
    let transport = support::transport(support::short());
    let store = S3Store::new(&support::config(server.address), &transport).expect("builds");
    for request in asked(server, store).await {
        let signature = request.header("authorization").expect("signed");
        assert!(!signature.contains("request-id") && !signature.contains("traceparent"), "{signature}");
    }
}

#[tokio::test]
async fn azure_sees_it_under_its_own_name_too() {
    let server = server().await;
    let config = AzureConfig {
        endpoint: format!("http://{}/acct", server.address).parse().expect("a URL"),
        account: "acct".to_owned(),
        container: "blobs".to_owned(),
        root: "registry".to_owned(),
        credentials: Credentials::Key(AccountKey::parse(&Secret::new("aHVudGVyMg==")).expect("a key")),
    };
    let store = AzureStore::new(&config, &support::transport(support::short())).expect("builds");
    let [alone, named] = asked(server, store).await;
    let name = "x-ms-client-request-id";
    assert_eq!((alone.header(name), named.header(name)), (None, Some(ID)));
}

#[tokio::test]
async fn swift_sees_it_under_its_own_name_too() {
    let server = server().await;
    let config = SwiftConfig {
        access: Access::TempUrl(Secret::new("key")),
        storage_url: Some(format!("http://{}/v1/AUTH_p", server.address).parse().expect("a URL")),
        service: Wanted { kind: "object-store".to_owned(), interface: "public".to_owned(), region: None },
        container: "blobs".to_owned(),
        root: "reg".to_owned(),
        simple_path_concat: false,
        ca_file: None,
    };
    let store = SwiftStore::new(&config, &support::transport(support::short())).expect("builds");
    let [alone, named] = asked(server, store).await;
    let name = "x-trans-id-extra";
    assert_eq!((alone.header(name), named.header(name)), (None, Some(ID)));
}
