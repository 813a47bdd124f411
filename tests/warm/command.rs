//! `quay-gateway warm`.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::Result;
use base64::Engine as _;
use harness::site::{LOGIN, PASSWORD, USER};
use serde_json::json;

use super::{REPOSITORY, parsed, text, with_index};

#[tokio::test]
async fn the_cache_has_all_platforms_or_the_given_ones() -> Result<()> {
    let (site, gateway, [amd, arm]) = with_index(&json!({})).await?;
    let one =
        gateway.command(&["warm", "admin/app:v1", "--platform", "linux/arm64", "--output", "json"]).await?;
    let report = parsed(&one)?;
    assert!(one.status.success(), "{report:#}\n{}", text(&one.stderr));
    assert_eq!((&report["complete"], &report["images"][0]["state"]), (&true.into(), &"warm".into()));
    assert_eq!(report["images"][0]["fetched"], arm.blobs().len());
    // The name of the gateway may stand before the image.
    let named = format!("{}/admin/app:v1", gateway.hostname());
    let all = parsed(&gateway.command(&["warm", &named, "--output", "json"]).await?)?;
    let image = &all["images"][0];
    assert_eq!(
        (&image["cached"], &image["fetched"]),
        (&arm.blobs().len().into(), &amd.blobs().len().into()),
        "{all:#}"
    );
    assert_eq!(image["manifests"], 3);
    let again = parsed(&gateway.command(&["warm", "admin/app:v1", "--output", "json"]).await?)?;
    assert_eq!((&again["fetched_bytes"], &again["complete"]), (&0.into(), &true.into()), "{again:#}");
    // A client now needs no store.
    for zone in &site.zones {
        zone.proxy().down().await;
    }
    let pulled = gateway.client(LOGIN)?.pull(REPOSITORY, "amd64").await?;
    assert!(
        pulled.iter().all(|blob| blob.cache_status.as_deref() == Some("quay-gateway; hit")),
        "{pulled:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_partial_failure_has_its_own_status_and_names_the_image() -> Result<()> {
    let (_site, gateway, _) = with_index(&json!({})).await?;
    let list = gateway.dir().join("images.txt");
    std::fs::write(&list, "# two\nadmin/app:v1\nadmin/app:absent # not there\n")?;
    let list = list.to_str().unwrap_or_default();
    let output = gateway.command(&["warm", "--from-file", list, "--output", "json"]).await?;
    let report = parsed(&output)?;
    assert_eq!(output.status.code(), Some(3), "{report:#}");
    let states: Vec<_> =
        (0..2).map(|at| report["images"][at]["state"].as_str().unwrap_or_default()).collect();
    assert_eq!(states, ["warm", "failed"]);
    let error = report["images"][1]["error"].as_str().unwrap_or_default();
    assert!(error.contains("there is no image admin/app:absent"), "{error}");
    let none = gateway.command(&["warm", "admin/app:v1", "--platform", "linux/s390x"]).await?;
    assert_eq!(none.status.code(), Some(3));
    let said = text(&none.stdout);
    assert!(said.contains("its index has no manifest for linux/s390x"), "{said}");
    // Progress goes to standard error, a line for each image, because it is no terminal.
    assert!(text(&none.stderr).starts_with("admin/app:v1: not warm: "), "{}", text(&none.stderr));
    let other = gateway.command(&["warm", "other.corp:5000/admin/app:v1"]).await?;
    assert_eq!(other.status.code(), Some(1));
    assert!(text(&other.stderr).contains("names a registry that is not the configured one"));
    Ok(())
}

#[tokio::test]
async fn logins_come_from_files_as_podman_writes_them() -> Result<()> {
    let (_site, gateway, _) = with_index(&json!({ "registry": { "account": null } })).await?;
    let anonymous = gateway.command(&["warm", "admin/app:v1", "--authfile", "auth.json"]).await?;
    assert!(text(&anonymous.stderr).contains("--authfile: auth.json: there is no such file"));
    let path = gateway.dir().join("auth.json");
    let write = |pair: &str| {
        let auth = base64::engine::general_purpose::STANDARD.encode(pair);
        std::fs::write(&path, json!({ "auths": { gateway.hostname(): { "auth": auth } } }).to_string())
    };
    let file = path.to_str().unwrap_or_default();
    write(&format!("{USER}:{PASSWORD}"))?;
    let output = gateway.command(&["warm", "admin/app:v1", "--authfile", file]).await?;
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains("1 of 1 images are warm"));
    write(&format!("{USER}:hunter2"))?;
    let wrong = gateway.command(&["warm", "admin/app:v1", "--authfile", file]).await?;
    let said = text(&wrong.stdout);
    assert!(wrong.status.code() == Some(3) && said.contains("the password is wrong"), "{said}");
    assert!(!said.contains("hunter2") && !text(&wrong.stderr).contains("hunter2"));
    Ok(())
}

#[tokio::test]
async fn images_of_the_cluster_s_pods() -> Result<()> {
    let (_site, gateway, _) = with_index(&json!({})).await?;
    let bin = gateway.dir().join("bin");
    std::fs::create_dir(&bin)?;
    let pods = json!({ "items": [{ "status": { "phase": "Running" }, "spec": { "containers": [
        { "image": format!("{}/admin/app:v1", gateway.hostname()) }, { "image": "nginx:1" },
    ] } }] });
    let kubectl = bin.join("kubectl");
    std::fs::write(
        &kubectl,
        format!("#!/bin/sh\necho \"$@\" > {}/said\ncat <<'E'\n{pods}\nE\n", bin.display()),
    )?;
    std::fs::set_permissions(&kubectl, std::fs::Permissions::from_mode(0o755))?;
    let run = || async {
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
        let mut command = tokio::process::Command::new(harness::gateway::binary());
        command.args(["warm", "--from-cluster", "--context", "edge", "--output", "json", "--config"]);
        command.arg(gateway.config_file()).env("PATH", path).kill_on_drop(true);
        command.output().await
    };
    let output = run().await?;
    let report = parsed(&output)?;
    assert!(output.status.success(), "{report:#}");
    assert_eq!(report["images"][0]["image"], "admin/app:v1");
    let said = std::fs::read_to_string(bin.join("said"))?;
    assert_eq!(said.trim(), "get pods --all-namespaces --output=json --context=edge");
    std::fs::write(&kubectl, "#!/bin/sh\necho 'no such context' >&2\nexit 1\n")?;
    let failed = run().await?;
    assert_eq!(failed.status.code(), Some(1));
    assert!(
        text(&failed.stderr).contains("no such context: check your kubeconfig"),
        "{}",
        text(&failed.stderr)
    );
    Ok(())
}
