//! What is served while Quay is away, and what is not.

use anyhow::{Result, ensure};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{ACCEPT, Edge, PRIVATE, PUBLIC, WAYS, Way, eventually};

#[tokio::test]
async fn pulls_go_on_however_quay_is_away_and_end_when_it_is_back() -> Result<()> {
    for way in WAYS {
        let edge = Edge::start().await?;
        edge.learn().await?;
        edge.leave(way).await;
        edge.away().await?;
        for (login, repository) in [(true, PRIVATE), (false, PUBLIC)] {
            eventually("a pull", async || {
                let client = if login { edge.user()? } else { edge.gateway.client(None)? };
                let tag = edge.pull(&client, repository).await?;
                ensure!(tag.header("warning").starts_with("110 "), "{:?}", tag.headers);
                ensure!(tag.header("cache-status") == "quay-gateway; hit; stale", "{:?}", tag.headers);
                ensure!(tag.header("docker-content-digest") == edge.index.digest.to_string());
                ensure!(tag.header("content-type") == edge.index.media_type);
                Ok(())
            })
            .await?;
        }
        let calls = edge.site.quay.record();
        calls.clear();
        edge.pull(&edge.user()?, PRIVATE).await?;
        assert_eq!(calls.count(&Method::GET, "/v2/"), 0, "{way:?}: a pull calls Quay");
        edge.back(way).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_request_in_flight_does_not_wait_for_a_quay_that_hangs() -> Result<()> {
    let edge = Edge::start().await?;
    edge.learn().await?;
    let user = edge.user()?;
    edge.pull(&user, PRIVATE).await?;
    edge.leave(Way::Hanging).await;
    // Quay never answers, and the request would have 75 s: only what is remembered answers it.
    let answer = user.fetch(Method::GET, &format!("/v2/{PRIVATE}/manifests/v1"), &[ACCEPT]).await?;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.header("warning").starts_with("110 "));
    let unknown = user.fetch(Method::GET, &format!("/v2/{PRIVATE}/manifests/v2"), &[ACCEPT]).await?;
    assert_eq!((unknown.status, unknown.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    Ok(())
}

#[tokio::test]
async fn head_ranges_and_conditions_work_without_quay() -> Result<()> {
    let edge = Edge::start().await?;
    edge.learn().await?;
    edge.leave(Way::Gone).await;
    edge.away().await?;
    let client = edge.gateway.client(None)?;
    let target = format!("/v2/{PUBLIC}/manifests/v1");
    let head = client.fetch(Method::HEAD, &target, &[ACCEPT]).await?;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    assert_eq!(head.header("content-length"), edge.index.bytes.len().to_string());
    // As Quay does, without an ETag of its own.
    let condition = client.fetch(Method::GET, &target, &[ACCEPT, ("if-none-match", "\"x\"")]).await?;
    assert_eq!((condition.status, condition.body), (StatusCode::OK, edge.index.bytes.clone()));
    // containerd names the registry that it asks a mirror for.
    let mirror = client.fetch(Method::GET, &format!("{target}?ns=quay.example.com"), &[ACCEPT]).await?;
    assert_eq!(mirror.status, StatusCode::OK);
    // Quay would give another manifest for another Accept.
    let other = client.fetch(Method::GET, &target, &[("accept", "application/json")]).await?;
    assert_eq!(other.status, StatusCode::SERVICE_UNAVAILABLE);
    let layer = &edge.images[0].layers[0];
    let blob = format!("/v2/{PUBLIC}/blobs/{}", layer.digest);
    let part = client.fetch(Method::GET, &blob, &[("range", "bytes=10-19")]).await?;
    assert_eq!((part.status, part.body.len()), (StatusCode::PARTIAL_CONTENT, 10));
    let head = client.fetch(Method::HEAD, &blob, &[]).await?;
    assert_eq!((head.status, head.header("content-length")), (StatusCode::OK, &*layer.size.to_string()));
    Ok(())
}

#[tokio::test]
async fn nothing_is_accepted_that_quay_does_not_have() -> Result<()> {
    for way in WAYS {
        let edge = Edge::start().await?;
        edge.learn().await?;
        let token = edge.site.quay.token("admin", PRIVATE, &["pull", "push"], json!({}))?;
        edge.leave(way).await;
        edge.away().await?;
        let client = edge.gateway.client(None)?;
        for (method, path) in [
            (Method::POST, "blobs/uploads/"),
            (Method::PATCH, "blobs/uploads/some-id"),
            (Method::PUT, "blobs/uploads/some-id?digest=sha256:00"),
            (Method::PUT, "manifests/v2"),
            (Method::DELETE, "manifests/v1"),
            (Method::GET, "tags/list"),
            (Method::GET, "referrers/sha256:00"),
        ] {
            let request = client.raw(method.clone(), &format!("/v2/{PRIVATE}/{path}"))?.bearer_auth(&token);
            let answer = request
                .header("content-type", "application/vnd.oci.image.manifest.v1+json")
                .body("{}")
                .send()
                .await?;
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{way:?} {method} {path}");
            assert_eq!(answer.headers()["retry-after"], "1");
            let body: Value = serde_json::from_str(&answer.text().await?)?;
            assert_eq!(body["errors"][0]["code"], "UNAVAILABLE", "{method} {path}");
            assert_eq!(body["errors"][0]["detail"]["fault"], "registry");
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_is_remembered_survives_a_restart_and_a_crash() -> Result<()> {
    let mut edge = Edge::start().await?;
    edge.learn().await?;
    edge.leave(Way::Gone).await;
    eventually("everything is on disk", async || edge.pull(&edge.user()?, PRIVATE).await.map(drop)).await?;
    edge.gateway.terminate().await?;
    edge.gateway.spawn().await?;
    eventually("a pull after a restart", async || edge.pull(&edge.user()?, PRIVATE).await.map(drop)).await?;
    edge.gateway.kill();
    edge.gateway.spawn().await?;
    eventually("a pull after a crash", async || edge.pull(&edge.user()?, PRIVATE).await.map(drop)).await?;
    edge.pull(&edge.gateway.client(None)?, PUBLIC).await?;
    Ok(())
}

#[tokio::test]
async fn without_the_key_nothing_is_remembered() -> Result<()> {
    let edge = Edge::with(&json!({})).await?;
    edge.learn().await?;
    edge.leave(Way::Gone).await;
    let client = edge.gateway.client(None)?;
    let answer = client.fetch(Method::GET, &format!("/v2/{PUBLIC}/manifests/v1"), &[ACCEPT]).await?;
    assert!(answer.status.is_server_error(), "{}", answer.status);
    let state = std::fs::read_dir(edge.gateway.dir())?;
    let names: Vec<_> = state.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
    assert!(!names.iter().any(|name| name.to_string_lossy().starts_with("offline")), "{names:?}");
    Ok(())
}

#[tokio::test]
async fn quay_behind_a_proxy_that_hides_its_health_is_judged_by_its_key_set() -> Result<()> {
    let edge = Edge::start().await?;
    edge.site.quay.set(|faults| faults.hides_health = true);
    edge.learn().await?;
    edge.leave(Way::WithoutDatabase).await;
    edge.away().await?;
    eventually("a pull", async || edge.pull(&edge.user()?, PRIVATE).await.map(drop)).await?;
    edge.back(Way::WithoutDatabase).await
}
