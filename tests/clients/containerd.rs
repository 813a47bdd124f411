//! containerd, with `ctr` and as the kubelet uses it.

use anyhow::Result;
use real_servers::Containerd;

use crate::fixture::Fixture;

#[tokio::test(flavor = "multi_thread")]
async fn containerd_pulls_as_from_a_mirror_by_name_and_from_the_registry_if_the_gateway_is_gone() -> Result<()>
{
    let mut fixture = Fixture::start().await?;
    let ca = fixture.registry_ca();
    fixture.write(&["containerd", "--registry-ca", &ca]).await?;
    let containerd =
        Containerd::with_hosts(&fixture.written("etc/containerd/certs.d"), Fixture::login()).await?;

    let (mirrored, name) = fixture.pushed(1).await?;
    containerd.pull_runnable(&fixture.at_registry(&name)).await?;
    fixture.came_through_the_gateway(&mirrored).await?;

    let (by_name, name) = fixture.pushed(2).await?;
    containerd.pull_runnable(&fixture.at_gateway(&name)).await?;
    fixture.came_through_the_gateway(&by_name).await?;

    let (by_kubelet, name) = fixture.pushed(3).await?;
    containerd.pull_by_cri(&fixture.at_registry(&name)).await?;
    fixture.came_through_the_gateway(&by_kubelet).await?;

    fixture.gateway.terminate().await?;
    for (seed, by_kubelet) in [(4, false), (5, true)] {
        let (fallen_back, name) = fixture.pushed(seed).await?;
        let reference = fixture.at_registry(&name);
        match by_kubelet {
            true => containerd.pull_by_cri(&reference).await?,
            false => containerd.pull_runnable(&reference).await?,
        }
        fixture.came_from_the_registry(&fallen_back)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn containerd_falls_back_to_a_registry_that_speaks_plain_http() -> Result<()> {
    let mut fixture = Fixture::plain().await?;
    fixture.write(&["containerd"]).await?;
    let containerd =
        Containerd::with_hosts(&fixture.written("etc/containerd/certs.d"), Fixture::login()).await?;
    let (mirrored, name) = fixture.pushed(1).await?;
    containerd.pull_runnable(&fixture.at_registry(&name)).await?;
    fixture.came_through_the_gateway(&mirrored).await?;
    fixture.gateway.terminate().await?;
    let (fallen_back, name) = fixture.pushed(2).await?;
    containerd.pull_runnable(&fixture.at_registry(&name)).await?;
    fixture.came_from_the_registry(&fallen_back)
}

/// An image that neither has: containerd asks both, and the error is the registry's, not one of trust.
#[tokio::test(flavor = "multi_thread")]
async fn containerd_trusts_both_sides_after_a_404_of_the_gateway() -> Result<()> {
    let fixture = Fixture::start().await?;
    let ca = fixture.registry_ca();
    fixture.write(&["containerd", "--registry-ca", &ca]).await?;
    let containerd =
        Containerd::with_hosts(&fixture.written("etc/containerd/certs.d"), Fixture::login()).await?;
    fixture.pushed(1).await?;
    for reference in [fixture.at_registry("admin/app:none"), fixture.at_gateway("admin/app:none")] {
        let error = containerd.pull_runnable(&reference).await.expect_err("there is no such image");
        let error = format!("{error:#}");
        assert!(error.contains("not found") && !error.contains("x509"), "{error}");
    }
    Ok(())
}
