//! Which headers of clients the registry sees.

use anyhow::Result;
use bytes::Bytes;
use http::Method;
use serde_json::json;

use crate::stub::{Location, REPOSITORY, gateway, registry};

const BLOB: Bytes = Bytes::from_static(b"bytes");

#[tokio::test]
async fn nobody_claims_to_be_a_proxy() -> Result<()> {
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
        ("traceparent", "00-1-2-01"),
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
        let seen = all.iter().rfind(|seen| seen.target == path).expect("it was asked");
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
