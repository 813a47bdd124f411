//! What Quay takes back while it is there is not served while it is away.

use anyhow::{Result, ensure};
use harness::site::LOGIN;
use http::{Method, StatusCode};

use super::{ACCEPT, Edge, PRIVATE, PUBLIC, Way, eventually};

impl Edge {
    async fn status(&self, login: Option<(&str, &str)>, target: &str) -> Result<StatusCode> {
        Ok(self.gateway.client(login)?.fetch(Method::GET, target, &[ACCEPT]).await?.status)
    }
}

#[tokio::test]
async fn a_removed_member_reads_nothing_and_others_read_on() -> Result<()> {
    let edge = Edge::start().await?;
    let carol = Some(("carol", "carol"));
    edge.learn().await?;
    edge.pull(&edge.gateway.client(carol)?, PRIVATE).await?;
    edge.site.quay.revoke(PRIVATE, "carol");
    let target = format!("/v2/{PRIVATE}/manifests/v1");
    assert_eq!(edge.status(carol, &target).await?, StatusCode::UNAUTHORIZED);
    edge.leave(Way::Gone).await;
    edge.away().await?;
    eventually("others read on, and the removed member does not", async || {
        let status = (edge.status(LOGIN, &target).await?, edge.status(carol, &target).await?);
        ensure!(status == (StatusCode::OK, StatusCode::UNAUTHORIZED), "{status:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_wrong_password_takes_nothing_from_the_right_one() -> Result<()> {
    let edge = Edge::start().await?;
    edge.learn().await?;
    let wrong = LOGIN.map(|(name, _)| (name, "wrong"));
    let target = format!("/v2/{PRIVATE}/manifests/v1");
    assert!(edge.gateway.client(wrong)?.fetch(Method::GET, &target, &[]).await.is_err());
    edge.leave(Way::Gone).await;
    edge.away().await?;
    eventually("a pull", async || edge.pull(&edge.user()?, PRIVATE).await.map(drop)).await
}

#[tokio::test]
async fn what_quay_does_not_know_any_more_is_forgotten() -> Result<()> {
    let edge = Edge::start().await?;
    edge.learn().await?;
    edge.site.quay.delete_repository(PUBLIC);
    let (tag, manifest) =
        (format!("/v2/{PUBLIC}/manifests/v1"), format!("/v2/{PUBLIC}/manifests/{}", edge.index.digest));
    for target in [&tag, &manifest] {
        // A 4xx is an answer, whatever is remembered.
        let status = edge.status(None, target).await.unwrap_or(StatusCode::UNAUTHORIZED);
        assert!(status.is_client_error(), "{status}");
    }
    edge.leave(Way::Gone).await;
    edge.away().await?;
    eventually("it is forgotten", async || {
        for target in [&tag, &manifest] {
            let status = edge.status(None, target).await.unwrap_or(StatusCode::UNAUTHORIZED);
            ensure!(!status.is_success(), "{target}: {status}");
        }
        Ok(())
    })
    .await?;
    eventually("another repository is not concerned", async || {
        edge.pull(&edge.user()?, PRIVATE).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_deleted_manifest_is_not_served() -> Result<()> {
    let edge = Edge::start().await?;
    edge.learn().await?;
    let target = format!("/v2/{PUBLIC}/manifests/v1");
    let user = edge.user()?;
    let deleted = user.fetch(Method::DELETE, &target, &[]).await?;
    assert_eq!(deleted.status, StatusCode::ACCEPTED);
    edge.leave(Way::Gone).await;
    edge.away().await?;
    eventually("it is forgotten", async || {
        let status = edge.status(None, &target).await.unwrap_or(StatusCode::UNAUTHORIZED);
        ensure!(!status.is_success(), "{status}");
        Ok(())
    })
    .await
}
