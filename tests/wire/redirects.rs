//! The gateway follows redirects of the registry to stores, and to nothing else.

use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use harness::gateway::Gateway;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::stub::{Location, REPOSITORY, Stub, StubAnswer, gateway, registry};

const BLOB: Bytes = Bytes::from_static(b"the bytes that only the registry's own store has");

/// The answer to a client's pull of the blob, and the gateway's log, if the registry redirects to `location`.
async fn pulled(location: String, over: &Value) -> Result<(StatusCode, String, String)> {
    pulled_from(|_| location, over).await
}

/// Like [`pulled`], with a location that depends on the gateway.
async fn pulled_from(
    place: impl FnOnce(&Gateway) -> String,
    over: &Value,
) -> Result<(StatusCode, String, String)> {
    let location = Location::default();
    let registry = registry(BLOB, Arc::clone(&location), &[])?;
    let gateway = gateway(&registry, over).await?;
    *location.lock() = Some(place(&gateway));
    let path = format!("/v2/{REPOSITORY}/blobs/{}", backends::Digest::of(&BLOB));
    let answer = gateway.client(None)?.fetch(Method::GET, &path, &[]).await?;
    let told = format!("{:?} {}", answer.headers, String::from_utf8_lossy(&answer.body));
    // The access line comes last.
    gateway.logged(&format!("path=\"{path}\"")).await?;
    Ok((answer.status, told, gateway.log()))
}

/// Permits redirects to any port of loopback, where these tests have their stores.
fn to_loopback() -> Value {
    json!({"registry": {"redirects_to": ["127.0.0.1"]}})
}

fn store() -> Result<Stub> {
    Stub::start(|_, _| StubAnswer::new(StatusCode::OK, &[], BLOB))
}

#[tokio::test]
async fn a_store_beside_the_registry_is_followed() -> Result<()> {
    let store = store()?;
    let (status, told, _) = pulled(format!("{}/bucket/key", store.url()), &to_loopback()).await?;
    assert_eq!(status, StatusCode::OK, "{told}");
    assert!(told.contains("registry-redirect"), "{told}");
    assert_eq!(store.record.count(&Method::GET, "/bucket/key"), 1);
    Ok(())
}

#[tokio::test]
async fn metadata_is_never_asked() -> Result<()> {
    for host in ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "metadata.google.internal"] {
        let everywhere = json!({"registry": {"redirects_to": ["169.254.169.254", "*.internal", "fe80::1"]}});
        for over in [json!({}), everywhere] {
            let (status, told, log) = pulled(format!("http://{host}/latest/meta-data/"), &over).await?;
            assert_eq!(status, StatusCode::BAD_GATEWAY, "{host} {told}");
            assert!(!told.contains(host.trim_matches(['[', ']'])), "{told}");
            let why = ["link-local and metadata addresses", "registry.redirects_to does not name"];
            assert!(why.iter().any(|why| log.contains(why)), "{host} {log}");
        }
    }
    Ok(())
}

/// The registry is also on loopback, but at another port.
#[tokio::test]
async fn another_service_on_loopback_is_never_asked() -> Result<()> {
    let store = store()?;
    let by_name = format!("http://localhost:{}", store.server.address().port());
    for place in [store.url(), by_name] {
        let (status, told, log) = pulled(format!("{place}/bucket/key"), &json!({})).await?;
        assert_eq!(status, StatusCode::BAD_GATEWAY, "{told}");
        assert!(log.contains("it leads to loopback"), "{log}");
    }
    assert_eq!(store.record.all().len(), 0);
    Ok(())
}

#[tokio::test]
async fn the_gateway_never_asks_itself() -> Result<()> {
    // The admin API would answer, and it is on the registry's host: on loopback.
    let by_address = |gateway: &Gateway| format!("http://{}/healthz", gateway.admin_address());
    let by_name = |gateway: &Gateway| format!("http://localhost:{}/healthz", gateway.admin_address().port());
    let places: [fn(&Gateway) -> String; 2] = [by_address, by_name];
    for own in places {
        let (status, told, log) = pulled_from(own, &json!({})).await?;
        assert_eq!(status, StatusCode::BAD_GATEWAY, "{told}");
        assert!(log.contains("this gateway's own listener"), "{log}");
    }
    Ok(())
}

#[tokio::test]
async fn if_hosts_are_configured_only_these_are_followed() -> Result<()> {
    let store = store()?;
    let by_name = format!("http://localhost:{}/bucket/key", store.server.address().port());
    let other = json!({"registry": {"redirects_to": ["store.example.com"]}});
    let (status, told, log) = pulled(by_name.clone(), &other).await?;
    assert_eq!(status, StatusCode::BAD_GATEWAY, "{told}");
    assert!(log.contains("registry.redirects_to does not name this host"), "{log}");
    assert_eq!(store.record.all().len(), 0);
    let named = json!({"registry": {"redirects_to": ["localhost"]}});
    assert_eq!(pulled(by_name, &named).await?.0, StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn a_foreign_answer_is_not_forwarded() -> Result<()> {
    for status in [StatusCode::IM_A_TEAPOT, StatusCode::OK] {
        let internal =
            Stub::start(move |_, _| StubAnswer::new(status, &[("x-internal", "TOPSECRET")], "TOPSECRET"))?;
        let (said, told, log) = pulled(format!("{}/internal", internal.url()), &to_loopback()).await?;
        assert_eq!(said, StatusCode::BAD_GATEWAY, "{told}");
        let port = internal.server.address().port().to_string();
        for secret in ["TOPSECRET", "x-internal", "418", "9 bytes", &port] {
            assert!(!told.contains(secret), "{secret}: {told}");
        }
        assert!(log.contains("the store that the registry points to does not give a blob"), "{log}");
        assert_eq!(internal.record.all().len(), 1);
    }
    Ok(())
}
