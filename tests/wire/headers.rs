//! Which headers of clients reach the registry, and which headers of its answers reach the clients.

use anyhow::Result;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::json;

use crate::stub::{Location, REPOSITORY, gateway, registry};

const BLOB: Bytes = Bytes::from_static(b"bytes");

#[tokio::test]
async fn clients_cannot_claim_to_be_a_proxy() -> Result<()> {
    let registry = registry(BLOB, Location::default(), &[])?;
    let over = json!({"registry": {"forward_headers": ["X-Corp-*", "sm_user"]}});
    let gateway = gateway(&registry, &over).await?;
    let claims = [
        ("x_forwarded_for", "10.0.0.1"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-prefix", "/evil"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "evil.example.com"),
        ("x-original-uri", "/_storage_proxy/evil"),
        ("x-original-url", "/evil"),
        ("x-remote-user", "admin"),
        ("remote_user", "admin"),
        ("true-client-ip", "10.0.0.1"),
        ("x-real-ip", "10.0.0.1"),
        ("forwarded", "for=10.0.0.1"),
        ("x-http-method-override", "DELETE"),
    ];
    let needed = [
        ("authorization", "Bearer t"),
        ("cookie", "session=a"),
        ("accept", "text/html"),
        ("x-csrf-token", "c"),
        ("x-requested-with", "XMLHttpRequest"),
        ("referer", "https://localhost/repository/"),
        ("x-registry-auth", "r"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("x-corp-trace", "1"),
        ("sm_user", "them"),
    ];
    let blob = format!("/v2/{REPOSITORY}/blobs/{}", backends::Digest::of(&BLOB));
    let client = gateway.client(None)?;
    for path in ["/api/v1/user/", "/v2/o/a/tags/list", "/v2/o/a/manifests/v1", &blob] {
        let mut request = client.raw(Method::GET, path)?;
        for (name, value) in claims.iter().chain(&needed) {
            request = request.header(*name, *value);
        }
        request.send().await?;
        let all = registry.record.all();
        let seen = all.iter().rfind(|seen| seen.target == path).expect("the registry was asked");
        for (name, claim) in claims {
            assert_ne!(seen.header(name), claim, "{path} {name}");
        }
        assert_eq!(
            (seen.header("x-forwarded-for"), seen.header("x-forwarded-proto")),
            ("127.0.0.1", "https")
        );
        for (name, value) in needed {
            assert_eq!(seen.header(name), value, "{path} {name}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn answers_keep_the_registrys_headers_of_a_blob() -> Result<()> {
    const SAID: [(&str, &str); 6] = [
        ("docker-distribution-api-version", "registry/2.0"),
        ("cache-control", "max-age=31436000"),
        ("x-frame-options", "DENY"),
        ("strict-transport-security", "max-age=63072000; preload"),
        ("x-content-type-options", "nosniff"),
        ("access-control-allow-origin", "*"),
    ];
    let more = [&SAID[..], &[("set-cookie", "session=a"), ("etag", "another"), ("server", "nginx")]].concat();
    let registry = registry(BLOB, Location::default(), &more)?;
    let gateway = gateway(&registry, &json!({})).await?;
    let digest = backends::Digest::of(&BLOB);
    let path = format!("/v2/{REPOSITORY}/blobs/{digest}");
    let etag = format!("\"{digest}\"");
    let client = gateway.client(None)?;
    for (method, headers, status) in [
        (Method::HEAD, &[][..], StatusCode::OK),
        (Method::GET, &[], StatusCode::OK),
        (Method::GET, &[], StatusCode::OK),
        (Method::HEAD, &[], StatusCode::OK),
        (Method::GET, &[("range", "bytes=1-2")], StatusCode::PARTIAL_CONTENT),
        (Method::GET, &[("if-none-match", etag.as_str())], StatusCode::NOT_MODIFIED),
    ] {
        let answer = client.fetch(method.clone(), &path, headers).await?;
        let what = format!("{method} {headers:?} {}", answer.header("cache-status"));
        assert_eq!(answer.status, status, "{what}");
        for (name, value) in SAID {
            assert_eq!(answer.header(name), value, "{what}");
        }
        assert_eq!((answer.header("etag"), answer.header("set-cookie")), (etag.as_str(), ""), "{what}");
    }
    assert_eq!(registry.record.count(&Method::HEAD, &path), 1);
    Ok(())
}
