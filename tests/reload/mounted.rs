//! The configuration lies in a mounted ConfigMap.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::Result;
use harness::gateway::Gateway;
use harness::site::Site;
use serde_json::{Value, json};

use crate::fixture::until_measured;

/// Puts the files of a folder into a ConfigMap as kubelet mounts it: `gateway.yaml` → `..data/gateway.yaml`, and
/// `..data` → the folder of this generation.
fn swap(dir: &Path, generation: u32, files: &[(&str, String)]) -> Result<()> {
    let folder = format!("..generation_{generation}");
    fs::create_dir(dir.join(&folder))?;
    for (name, text) in files {
        fs::write(dir.join(&folder).join(name), text)?;
    }
    symlink(&folder, dir.join("..data_tmp"))?;
    #[expect(clippy::disallowed_methods, reason = "as kubelet does it")]
    fs::rename(dir.join("..data_tmp"), dir.join("..data"))?;
    for (name, _) in files.iter().filter(|_| generation == 1) {
        fs::remove_file(dir.join(name))?;
        symlink(PathBuf::from("..data").join(name), dir.join(name))?;
    }
    if generation > 1 {
        fs::remove_dir_all(dir.join(format!("..generation_{}", generation - 1)))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_swap_of_the_config_map_is_applied() -> Result<()> {
    let site = Site::start()?;
    let quay = serde_json::to_string_pretty(&site.quay.config())?;
    let mut gateway = Gateway::prepare(&site.gateway_config(&json!({})), &[("quay.yaml", &quay)])?;
    let first: Value = serde_json::from_str(&fs::read_to_string(gateway.config_file())?)?;
    let files = |config: &Value| [("gateway.yaml", config.to_string()), ("quay.yaml", quay.clone())];
    swap(gateway.dir(), 1, &files(&first))?;
    gateway.spawn().await?;
    for (generation, slots) in [(2, 100), (3, 200)] {
        let mut next = first.clone();
        next["limits"] = json!({ "connections": slots });
        swap(gateway.dir(), generation, &files(&next))?;
        let line = format!("quay_gateway_pool_slots{{pool=\"limits.connections\"}} {slots}");
        until_measured(&gateway, &line).await?;
    }
    until_measured(&gateway, "quay_gateway_config_reloads_total{result=\"applied\"} 2").await
}
