//! Tokens while Quay is away.

use anyhow::{Result, ensure};
use harness::site::LOGIN;
use http::{Method, StatusCode};
use serde_json::Value;

use super::{Edge, PRIVATE, PUBLIC, Way, eventually};

impl Edge {
    /// Asks for a token. Returns the status and the token.
    async fn login(&self, login: Option<(&str, &str)>, query: &str) -> Result<(StatusCode, String)> {
        let client = self.gateway.client(None)?;
        let mut request =
            client.raw(Method::GET, &format!("/v2/auth?service={}{query}", self.site.quay.hostname()))?;
        if let Some((name, password)) = login {
            request = request.basic_auth(name, Some(password));
        }
        let answer = request.send().await?;
        let status = answer.status();
        let body: Value = serde_json::from_str(&answer.text().await?).unwrap_or_default();
        Ok((status, body["token"].as_str().unwrap_or_default().to_owned()))
    }

    async fn read(&self, token: &str, repository: &str) -> Result<StatusCode> {
        let client = self.gateway.client(None)?;
        let target = format!("/v2/{repository}/manifests/{}", self.index.digest);
        let mut request = client.raw(Method::GET, &target)?;
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        Ok(request.send().await?.status())
    }
}

fn scope(repository: &str, actions: &str) -> String {
    format!("&scope=repository:{repository}:{actions}")
}

#[tokio::test]
async fn a_login_gives_what_quay_gave_and_no_push() -> Result<()> {
    let edge = Edge::start().await?;
    edge.learn().await?;
    edge.login(Some(("carol", "carol")), &scope(PUBLIC, "pull")).await?;
    edge.login(Some(("mallory", "mallory")), &scope("mallory/own", "pull")).await?;
    edge.leave(Way::Gone).await;
    edge.away().await?;
    let scopes = format!("{}{}", scope(PRIVATE, "pull,push"), scope(PUBLIC, "*"));
    for (login, private, public) in [
        (LOGIN, StatusCode::OK, StatusCode::UNAUTHORIZED),
        (Some(("carol", "carol")), StatusCode::UNAUTHORIZED, StatusCode::OK),
        (Some(("mallory", "mallory")), StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED),
        (None, StatusCode::UNAUTHORIZED, StatusCode::OK),
    ] {
        eventually("what was learned is on disk", async || {
            let (status, token) = edge.login(login, &scopes).await?;
            ensure!(status == StatusCode::OK, "{login:?}: {status}");
            let read = (edge.read(&token, PRIVATE).await?, edge.read(&token, PUBLIC).await?);
            ensure!(read == (private, public), "{login:?}: {read:?}");
            Ok(())
        })
        .await?;
    }
    let client = edge.gateway.client(None)?;
    let (_, token) = edge.login(LOGIN, &scopes).await?;
    let push = client.raw(Method::POST, &format!("/v2/{PRIVATE}/blobs/uploads/"))?.bearer_auth(&token);
    assert_eq!(push.send().await?.status(), StatusCode::SERVICE_UNAVAILABLE);
    let ping =
        |token: String| client.raw(Method::GET, "/v2/").map(|request| request.bearer_auth(token).send());
    assert_eq!(ping(token.clone())?.await?.status(), StatusCode::OK);
    let refused = ping(format!("{token}x"))?.await?;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    let challenge = refused.headers()["www-authenticate"].to_str()?;
    let (realm, service) = (edge.gateway.hostname(), edge.site.quay.hostname());
    assert_eq!(challenge, format!("Bearer realm=\"https://{realm}/v2/auth\",service=\"{service}\""));
    Ok(())
}

#[tokio::test]
async fn other_credentials_are_refused_or_cannot_be_judged() -> Result<()> {
    let edge = Edge::start().await?;
    edge.learn().await?;
    edge.leave(Way::Gone).await;
    edge.away().await?;
    let private = scope(PRIVATE, "pull");
    eventually("the login is remembered", async || {
        let (status, _) = edge.login(LOGIN, &private).await?;
        ensure!(status == StatusCode::OK, "{status}");
        Ok(())
    })
    .await?;
    let name = LOGIN.map_or("", |(name, _)| name);
    for (login, query, expected) in [
        (Some((name, "wrong")), &*private, StatusCode::UNAUTHORIZED),
        (Some(("nobody", "p")), &private, StatusCode::SERVICE_UNAVAILABLE),
        (None, "", StatusCode::UNAUTHORIZED),
        (LOGIN, "&scope=registry:catalog:*", StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let (status, token) = edge.login(login, query).await?;
        assert_eq!((status, token.as_str()), (expected, ""), "{login:?} {query}");
    }
    Ok(())
}

#[tokio::test]
async fn a_token_of_the_gateway_is_nothing_to_quay() -> Result<()> {
    let edge = Edge::start().await?;
    edge.learn().await?;
    edge.leave(Way::Gone).await;
    edge.away().await?;
    let mut own = String::new();
    eventually("a token", async || {
        let (status, token) = edge.login(LOGIN, &scope(PRIVATE, "pull")).await?;
        ensure!(status == StatusCode::OK && edge.read(&token, PRIVATE).await? == StatusCode::OK, "{status}");
        own = token;
        Ok(())
    })
    .await?;
    edge.come_back(Way::Gone).await;
    eventually("Quay refuses it", async || {
        let status = edge.read(&own, PRIVATE).await?;
        ensure!(status == StatusCode::UNAUTHORIZED, "{status}");
        Ok(())
    })
    .await?;
    let blob = format!("/v2/{PRIVATE}/blobs/{}", edge.images[0].layers[0].digest);
    let answer = edge.gateway.client(None)?.raw(Method::GET, &blob)?.bearer_auth(&own).send().await?;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    Ok(())
}
