//! Logs that nobody reads.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::{StreamExt as _, TryStreamExt as _};
use harness::gateway::Gateway;
use harness::raw::client;
use harness::site::Site;
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use serde_json::json;

/// The reader hangs, for example a container runtime whose disk hangs.
#[tokio::test]
async fn a_log_that_nobody_reads_stops_nothing() -> Result<()> {
    // This is more than the pipe and the queue of the log can take.
    const LINES: usize = 6000;
    let site = Site::start()?;
    let quay = site.quay.config().to_string();
    let mut gateway = Gateway::prepare(&site.gateway_config(&json!({})), &[("quay.yaml", &quay)])?;
    let pipe = gateway.dir().join("gateway.log");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    let _reader = open(&pipe, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())?;
    gateway.spawn().await?;
    let client = client(&gateway, "h2")?;
    let url = format!("{}/{}", gateway.url(), "x".repeat(2000));
    let ask = |_| async { anyhow::Ok(client.get(&url).send().await?.status()) };
    let all = futures_util::stream::iter((0..LINES).map(ask)).buffer_unordered(16);
    let all = tokio::time::timeout(Duration::from_secs(120), all.try_collect::<Vec<_>>());
    assert_eq!(all.await.context("it stands still")??.len(), LINES);
    let metrics = format!("http://{}/metrics", gateway.admin_address());
    let text = harness::http_client()?.get(metrics).send().await?.text().await?;
    let lost = text.lines().find_map(|line| line.strip_prefix("quay_gateway_log_lines_lost_total "));
    assert!(lost.context("the metric")?.parse::<u64>()? > 0);
    // This is an error if the signal is not obeyed.
    gateway.terminate().await?;
    Ok(())
}

/// The end also does not wait for the reader, whichever line comes last.
#[tokio::test]
async fn an_end_with_an_error_waits_for_no_reader() -> Result<()> {
    let site = Site::start()?;
    let gateway = Gateway::prepare(&json!({"zones": {}}), &[("quay.yaml", &site.quay.config().to_string())])?;
    let (_reader, mut writer) = std::io::pipe()?;
    rustix::io::ioctl_fionbio(&writer, true)?;
    while std::io::Write::write(&mut writer, &[b'x'; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false)?;
    let mut run = tokio::process::Command::new(harness::gateway::binary());
    run.arg("run").arg("--config").arg(gateway.config_file()).stderr(writer).kill_on_drop(true);
    let ended = tokio::time::timeout(Duration::from_secs(30), run.status()).await;
    assert_eq!(ended.context("it waits")??.code(), Some(78));
    Ok(())
}
