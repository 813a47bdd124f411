//! Limits, the account, and what needs a restart.

use anyhow::Result;
use harness::site::{PASSWORD, Site, USER};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::fixture::until_measured;

#[tokio::test]
async fn limits_and_timeouts_change_without_a_restart() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    let limits = json!({
        "limits": { "connections": 100, "registry_connections": 50, "fills": 7, "memory": "64MiB" },
        "timeouts": { "registry_answer": "33s" },
    });
    gateway.configure(&site.gateway_config(&limits))?;
    for (key, slots) in [("connections", 100), ("registry_connections", 50), ("fills", 7)] {
        until_measured(&gateway, &format!("quay_gateway_pool_slots{{pool=\"limits.{key}\"}} {slots}"))
            .await?;
    }
    until_measured(&gateway, "quay_gateway_memory_budget_bytes 67108864").await?;
    until_measured(&gateway, "quay_gateway_config_reloads_total{result=\"applied\"} 1").await?;
    let log = gateway.log();
    for key in ["limits.connections", "limits.memory", "timeouts.registry_answer"] {
        assert!(log.contains(key), "{key}: {log}");
    }
    Ok(())
}

#[tokio::test]
async fn the_account_changes_without_a_restart() -> Result<()> {
    const WRONG: &str = "hunter2-before";
    let site = Site::start()?;
    let config = |user: &str| {
        site.gateway_config(&json!({
            "registry": { "account": { "username": user, "password_file": "account" } },
            "replication": { "sweep": { "every": "1s", "rate": 500 } },
        }))
    };
    let gateway = site.gateway_with(&json!({}), &[("account", WRONG)]).await?;
    let output = gateway.command(&["queue", "sweep", "--start"]).await?;
    let said = String::from_utf8(output.stderr)?;
    assert!(!output.status.success() && said.contains("has no sweep"), "{said}");
    // Quay locks an account whose password is wrong, so this is another one.
    gateway.configure(&config("nobody"))?;
    gateway.logged("the sweep cannot go on").await?;
    std::fs::write(gateway.dir().join("account"), PASSWORD)?;
    gateway.logged("keys=\"registry.account.password_file\"").await?;
    gateway.configure(&config(USER))?;
    gateway.logged("keys=\"registry.account.username\"").await?;
    gateway.logged("sweep finished").await?;
    assert!(!gateway.log().contains(WRONG), "{}", gateway.log());
    Ok(())
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_the_rest_is_applied() -> Result<()> {
    let site = Site::start()?;
    let mut gateway = site.gateway(&json!({})).await?;
    let config = json!({ "limits": { "streams": 9, "open_files": 77 }, "cache": { "size": "2GiB" } });
    gateway.configure(&site.gateway_config(&config))?;
    gateway.logged("the configuration has changes that need a restart").await?;
    until_measured(&gateway, "quay_gateway_config_keys_for_restart 2").await?;
    assert!(gateway.log().contains("keys=\"cache.size limits.open_files\""), "{}", gateway.log());

    let output = gateway.command(&["config", "diff", "--output", "json"]).await?;
    assert_eq!(output.status.code(), Some(4));
    let diff: Value = serde_json::from_slice(&output.stdout)?;
    let change = |key: &str, from: &str, to: &str| json!({"key": key, "applied": "restart", "from": from, "to": to, "secret": false});
    let changes = [change("cache.size", "1GiB", "2GiB"), change("limits.open_files", "512", "77")];
    assert_eq!((&diff["needs_restart"], &diff["changes"]), (&json!(true), &json!(changes)));

    gateway.terminate().await?;
    gateway.spawn().await?;
    until_measured(&gateway, "quay_gateway_config_keys_for_restart 0").await?;
    let output = gateway.command(&["config", "diff"]).await?;
    let said = String::from_utf8(output.stdout)?;
    assert!(output.status.code() == Some(0) && said.starts_with("nothing differs from"), "{said}");
    gateway.signal(Signal::HUP)?;
    gateway.logged("configuration read again: nothing to apply").await
}

#[tokio::test]
async fn two_files_are_compared_without_a_gateway() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    let older = gateway.dir().join("older.yaml");
    let text = std::fs::read_to_string(gateway.config_file())?;
    std::fs::write(&older, text.replace("\"registry\":", "\"limits\": {\"streams\": 9}, \"registry\":"))?;
    let older = older.to_str().unwrap_or_default();
    let output = gateway.command(&["config", "diff", "--against", older, "--output", "csv"]).await?;
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stdout)?;
    assert_eq!(said, "key,applied,from,to,secret\r\nlimits.streams,reload,9,128,false\r\n");
    Ok(())
}
