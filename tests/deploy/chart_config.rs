//! The gateway takes the configuration that the chart makes.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use harness::gateway::binary;
use harness::site::Site;
use real_servers::{Certificates, Program};
use serde_json::Value;

use super::chart::gateway_yaml;
use super::{BOUND, documents, matrix, of_kind, rendered, workload};

/// Values that must not be in an object that everybody may read.
const SECRETS: [&str; 4] = ["postgres://", "password:", "access_key", "secret_key"];

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_takes_every_rendered_configuration() -> Result<()> {
    let site = Site::start()?;
    for values in matrix()? {
        let objects = documents(&rendered(&values, "1.31", &[]).await?)?;
        let folder = tempfile::tempdir()?;
        mount(folder.path(), &objects, &site).with_context(|| values.clone())?;
        let mut program = Program::at(&binary())?.args(["check-config", "--config"]);
        program = program.arg(folder.path().join("config/gateway.yaml"));
        let container = &workload(&objects)?["spec"]["template"]["spec"]["containers"][0];
        let zones = container["env"].as_array().context("env")?;
        if zones.iter().any(|variable| variable["name"] == "QUAY_GATEWAY__ZONES") {
            program = program
                .env("QUAY_GATEWAY__ZONES", site.quay.config()["DISTRIBUTED_STORAGE_CONFIG"].to_string());
        }
        let shown = program.run(BOUND).await.with_context(|| values.clone())?;
        ensure!(shown.contains("zone-a"), "{values}: {shown}");
    }
    Ok(())
}

/// Writes what the pod's volumes hold: the ConfigMap of the chart, and Secrets of the operator.
fn mount(folder: &Path, objects: &[Value], site: &Site) -> Result<()> {
    let certificates = Certificates::make()?;
    let pod = &workload(objects)?["spec"]["template"]["spec"];
    let mounts = pod["containers"][0]["volumeMounts"].as_array().context("mounts")?;
    for mount in mounts {
        let path = mount["mountPath"].as_str().unwrap_or_default();
        let Some(name) = path.strip_prefix("/etc/quay-gateway/") else { continue };
        let at = folder.join(name);
        std::fs::create_dir(&at)?;
        let write = |file: &str, text: &str| std::fs::write(at.join(file), text);
        match name {
            "config" => write("gateway.yaml", &gateway_yaml(objects)?.to_string())?,
            "quay" => write("config.yaml", &quay_config(site).to_string())?,
            "tls" => {
                let made = certificates.server();
                std::fs::copy(made.certificate, at.join("tls.crt"))?;
                std::fs::copy(made.key, at.join("tls.key")).map(drop)?;
            }
            "ca" => write("ca-bundle.crt", &certificates.pem())?,
            "admin" => write("token", "0123456789abcdef0123456789abcdef\n")?,
            "account" => write("password", "secret\n")?,
            "journal" | "database" => ["url", "uri"]
                .iter()
                .try_for_each(|key| write(key, "postgres://quay:secret@db.example.com/quay\n"))?,
            _ => anyhow::bail!("nobody knows what is in {path}"),
        }
    }
    Ok(())
}

/// Quay's configuration, with what placements need.
fn quay_config(site: &Site) -> Value {
    let mut config = site.quay.config();
    config["PREFERRED_URL_SCHEME"] = "https".into();
    config["USER_EVENTS_REDIS"] = serde_json::json!({"host": "redis.example.com", "port": 6379});
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_takes_the_configuration_of_the_overlay() -> Result<()> {
    let site = Site::start()?;
    let certificates = Certificates::make()?;
    let folder = tempfile::tempdir()?;
    for name in ["config", "quay", "tls"] {
        std::fs::create_dir(folder.path().join(name))?;
    }
    let at = |path: &str| folder.path().join(path);
    let text = super::read("deploy/kustomize/overlays/openshift/gateway.yaml")?;
    std::fs::write(at("config/gateway.yaml"), text)?;
    std::fs::write(at("quay/config.yaml"), quay_config(&site).to_string())?;
    std::fs::copy(certificates.server().certificate, at("tls/tls.crt"))?;
    std::fs::copy(certificates.server().key, at("tls/tls.key"))?;
    let program = Program::at(&binary())?.args(["check-config", "--config"]).arg(at("config/gateway.yaml"));
    ensure!(program.run(BOUND).await?.contains("zone-a"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_an_object_of_the_chart() -> Result<()> {
    for values in matrix()? {
        let objects = documents(&rendered(&values, "1.31", &[]).await?)?;
        ensure!(of_kind(&objects, "Secret").is_empty(), "{values}");
        for map in of_kind(&objects, "ConfigMap") {
            let text = map.to_string();
            let found = SECRETS.iter().find(|secret| text.contains(**secret));
            ensure!(found.is_none(), "{values}: {found:?} in {}", map["metadata"]["name"]);
        }
    }
    Ok(())
}
