//! podman and skopeo, with the files as a user has them, and with logins as the filter for pull secrets makes them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::image::Image;
use real_servers::{ContainersHome, Podman, Program};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::Fixture;
use crate::openshift::filtered;

const BOUND: Duration = Duration::from_secs(120);

/// What `login` at the registry writes.
fn logins(fixture: &Fixture) -> Value {
    let auth = STANDARD.encode(Fixture::login().pair());
    json!({ "auths": { fixture.site.quay.hostname(): { "auth": auth } } })
}

/// The home of a user after `clients TOOL --write`, who logged in at the registry, and whose logins the filter then
/// copied for the gateway.
async fn home(fixture: &Fixture, tool: &str) -> Result<ContainersHome> {
    let ca = fixture.registry_ca();
    for client in [tool, "openshift"] {
        fixture.write(&[client, "--registry-ca", &ca]).await?;
    }
    let logins = filtered(fixture, &logins(fixture)).await?;
    ContainersHome::new(&fixture.written("etc/containers"), &logins)
}

async fn podman_pulls(podman: &Podman, reference: &str, image: &Image) -> Result<()> {
    let pulled = podman.pull(reference).await?;
    ensure!(pulled.id == image.config.digest.hex(), "{reference}: config {}", pulled.id);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_pulls_as_from_a_mirror_by_name_and_from_the_registry_if_the_gateway_is_gone() -> Result<()> {
    let mut fixture = Fixture::start().await?;
    let podman = Podman::at_home(home(&fixture, "podman").await?)?;

    let (mirrored, name) = fixture.pushed(1).await?;
    podman_pulls(&podman, &fixture.at_registry(&name), &mirrored).await?;
    fixture.came_through_the_gateway(&mirrored).await?;

    let (by_name, name) = fixture.pushed(2).await?;
    podman_pulls(&podman, &fixture.at_gateway(&name), &by_name).await?;
    fixture.came_through_the_gateway(&by_name).await?;

    fixture.gateway.terminate().await?;
    let (fallen_back, name) = fixture.pushed(3).await?;
    podman_pulls(&podman, &fixture.at_registry(&name), &fallen_back).await?;
    fixture.came_from_the_registry(&fallen_back)
}

/// An earlier file for the same registry is named.
#[tokio::test(flavor = "multi_thread")]
async fn podman_falls_back_to_a_registry_that_speaks_plain_http() -> Result<()> {
    let mut fixture = Fixture::plain().await?;
    let registry = fixture.site.quay.hostname().to_owned();
    let earlier = fixture.written("etc/containers/registries.conf.d/010-site.conf");
    std::fs::create_dir_all(earlier.parent().context("a folder")?)?;
    std::fs::write(
        &earlier,
        format!("[[registry]]\nprefix = \"{registry}\"\nlocation = \"{registry}\"\nblocked = true\n"),
    )?;
    let said = fixture.write(&["podman"]).await?;
    let expected = format!("# {} has an entry for {registry}, which", earlier.display());
    ensure!(said.contains(&expected), "{said}");
    fixture.write(&["openshift"]).await?;
    let logins = filtered(&fixture, &logins(&fixture)).await?;
    let home = ContainersHome::new(&fixture.written("etc/containers"), &logins)?;
    let podman = Podman::at_home(home)?;
    let (mirrored, name) = fixture.pushed(1).await?;
    podman_pulls(&podman, &fixture.at_registry(&name), &mirrored).await?;
    fixture.came_through_the_gateway(&mirrored).await?;
    fixture.gateway.terminate().await?;
    let (fallen_back, name) = fixture.pushed(2).await?;
    podman_pulls(&podman, &fixture.at_registry(&name), &fallen_back).await?;
    fixture.came_from_the_registry(&fallen_back)
}

async fn skopeo_copies(home: &ContainersHome, reference: &str, image: &Image) -> Result<()> {
    let to = TempDir::new()?;
    let program = Program::find("skopeo")?.args(["--insecure-policy", "copy", "--preserve-digests"]);
    let program = home.apply(program).arg(format!("docker://{reference}"));
    program.arg(format!("dir:{}", to.path().display())).run(BOUND).await?;
    for blob in image.blobs() {
        ensure!(
            std::fs::read(to.path().join(blob.digest.hex()))? == blob.bytes()?,
            "{} differs",
            blob.digest
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_copies_as_from_a_mirror_by_name_and_from_the_registry_if_the_gateway_is_gone() -> Result<()> {
    let mut fixture = Fixture::start().await?;
    let home = home(&fixture, "skopeo").await?;

    let (mirrored, name) = fixture.pushed(1).await?;
    skopeo_copies(&home, &fixture.at_registry(&name), &mirrored).await?;
    fixture.came_through_the_gateway(&mirrored).await?;

    let (by_name, name) = fixture.pushed(2).await?;
    skopeo_copies(&home, &fixture.at_gateway(&name), &by_name).await?;
    fixture.came_through_the_gateway(&by_name).await?;

    fixture.gateway.terminate().await?;
    let (fallen_back, name) = fixture.pushed(3).await?;
    skopeo_copies(&home, &fixture.at_registry(&name), &fallen_back).await?;
    fixture.came_from_the_registry(&fallen_back)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_login_for_the_gateway_images_come_from_the_registry() -> Result<()> {
    let fixture = Fixture::start().await?;
    let ca = fixture.registry_ca();
    fixture.write(&["skopeo", "--registry-ca", &ca]).await?;
    let home = ContainersHome::new(&fixture.written("etc/containers"), &logins(&fixture).to_string())?;
    let (image, name) = fixture.pushed(1).await?;
    skopeo_copies(&home, &fixture.at_registry(&name), &image).await?;
    fixture.came_from_the_registry(&image)
}

/// CRI-O reads the same files in the same formats, so they must not differ.
#[tokio::test(flavor = "multi_thread")]
async fn crio_gets_the_files_of_podman() -> Result<()> {
    let fixture = Fixture::start().await?;
    let drop_in = "etc/containers/registries.conf.d/999-quay-gateway.conf";
    let ca = format!("etc/containers/certs.d/{}/ca.crt", fixture.gateway.hostname());
    let mut seen = Vec::new();
    for tool in ["podman", "crio"] {
        fixture.write(&[tool, "--force"]).await?;
        let settings = [drop_in, &ca].map(|path| -> Result<String> {
            let text = std::fs::read_to_string(fixture.written(path))?;
            Ok(text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n"))
        });
        seen.push(settings.into_iter().collect::<Result<Vec<_>>>()?);
    }
    ensure!(seen[0] == seen[1], "{seen:?}");
    Ok(())
}
