//! The Docker daemon, by name.

use anyhow::{Result, ensure};
use real_servers::Docker;
use serde_json::json;

use crate::connect_proxy::ConnectProxy;
use crate::fixture::Fixture;

/// No loopback name: dockerd does not verify certificates of loopback addresses.
const HOST: &str = "gateway.test";

#[tokio::test(flavor = "multi_thread")]
async fn docker_pulls_by_name_as_soon_as_the_ca_is_written() -> Result<()> {
    let hostname = format!("{HOST}:8443");
    let fixture = Fixture::with(&json!({ "hostname": hostname })).await?;
    let proxy = ConnectProxy::start(fixture.gateway.address()).await?;
    std::fs::create_dir_all(fixture.written("etc/docker"))?;
    let docker = Docker::start(&fixture.written("etc/docker"), HOST, proxy.address()).await?;
    let (image, name) = fixture.pushed(1).await?;
    let reference = format!("{hostname}/{name}");

    let error = docker.pull(&reference, &Fixture::login()).await.expect_err("does not trust the gateway");
    ensure!(format!("{error:#}").contains("x509"), "{error:#}");
    fixture.write(&["docker"]).await?;
    let id = docker.pull(&reference, &Fixture::login()).await?;
    ensure!(id == image.config.digest.to_string(), "{id}");
    fixture.came_through_the_gateway(&image).await
}
