//! The image: for any user id, with a read-only root.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use harness::http_client;
use harness::port::Port;
use harness::site::Site;
use serde_json::json;

use super::engine::{Engine, IMAGE, USER};
use super::pod::push_and_pull;
use super::systemd;

const NAME: &str = "gateway";
const START: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread")]
async fn the_image_runs_read_only_as_any_user() -> Result<()> {
    let engine = Engine::with_image().await?;
    let image = engine.inspect("image", IMAGE).await?;
    let user = image["Config"]["User"].as_str().unwrap_or_default();
    // Kubernetes refuses `runAsNonRoot` for a user that is not a number.
    ensure!(user.parse::<u32>().is_ok_and(|user| user != 0), "the user {user:?}");
    ensure!(image["Healthcheck"]["Test"][0] == "CMD" || image["HealthCheck"]["Test"][0] == "CMD", "{image}");

    let site = Site::start()?;
    let config = tempfile::tempdir()?;
    let (listen, admin) = (Port::free()?, Port::free()?);
    let hostname = format!("localhost:{}", listen.address().port());
    let file = site.gateway_config(&json!({
        "listen": listen.address().to_string(),
        "hostname": hostname,
        "admin": {"listen": admin.address().to_string()},
        "cache": {"size": "64MiB", "reserve": "1MiB"},
    }));
    let write = |name: &str, text: String| std::fs::write(config.path().join(name), text);
    write("gateway.yaml", file.to_string())?;
    write("quay.yaml", site.quay.config().to_string())?;
    std::fs::set_permissions(config.path(), std::fs::Permissions::from_mode(0o755))?;
    // No system call but those that the systemd unit allows.
    let calls = systemd::allowed_calls().await?;
    let filter = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": calls, "action": "SCMP_ACT_ALLOW"}],
    });
    let profile = config.path().join("seccomp.json");
    std::fs::write(&profile, filter.to_string())?;
    let profile = format!("seccomp={}", profile.display());
    let mount = format!("{}:/etc/quay-gateway:ro", config.path().display());
    let user = USER.to_string();
    let run = ["run", "--detach", "--name", NAME, "--read-only", "--user", &user, "--network", "host"];
    let hardened = ["--cap-drop", "all", "--security-opt", "no-new-privileges", "--security-opt", &profile];
    let image = ["--volume", &mount, IMAGE];
    engine.podman(&[&run[..], &hardened, &image].concat()).await?;
    ready(&engine, NAME, admin.address().port()).await?;
    engine.podman(&["healthcheck", "run", NAME]).await.context("the health check")?;
    let container = engine.inspect("container", NAME).await?;
    ensure!(container["HostConfig"]["ReadonlyRootfs"] == true, "{container}");
    ensure!(
        engine.podman(&["exec", NAME, "touch", "/etc/written"]).await.is_err(),
        "the root can be written"
    );
    let id = engine.podman(&["exec", NAME, "id", "-u"]).await?;
    ensure!(id.trim() == user, "{id}");

    let authority = engine.podman(&["exec", NAME, "cat", "/var/lib/quay-gateway/ca.pem"]).await?;
    let trusted = tempfile::tempdir()?;
    std::fs::write(trusted.path().join("ca.crt"), authority)?;
    push_and_pull(&site, trusted.path().to_owned(), &hostname, "app").await?;
    let log = engine.log(NAME).await?;
    ensure!(log.contains("quay-gateway is up"), "{log}");
    ensure!(!log.contains("ERROR") && !log.contains("not permitted"), "{log}");

    engine.podman(&["stop", "--time", "60", NAME]).await?;
    let container = engine.inspect("container", NAME).await?;
    ensure!(container["State"]["ExitCode"] == 0, "{}", container["State"]);
    Ok(())
}

/// Waits until the gateway in the container is ready.
pub(super) async fn ready(engine: &Engine, container: &str, admin: u16) -> Result<()> {
    let deadline = Instant::now() + START;
    let url = format!("http://127.0.0.1:{admin}/readyz");
    loop {
        if http_client()?.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
            return Ok(());
        }
        let state = engine.inspect("container", container).await?["State"]["Status"].clone();
        if state == "exited" || Instant::now() > deadline {
            let log = engine.log(container).await?;
            bail!("the gateway is not ready, the container is {state}: {log}");
        }
        tokio::time::sleep(POLL).await;
    }
}
