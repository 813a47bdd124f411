//! An audit that was interrupted continues, and finds the same as one without interruption.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::gateway::Gateway;
use harness::site::Site;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::compared::prepared;
use super::support::{NOW, audited, command, everywhere, found};

/// The number of blobs. An audit has 256 steps.
const BLOBS: u64 = 120;
/// The timeout until an audit is half done.
const SOON: Duration = Duration::from_secs(60);

/// A site in which every third blob is missing in some zone.
fn site() -> Result<Site> {
    let site = Site::start()?;
    for seed in 0..BLOBS {
        let digest = everywhere(&site, seed, 64)?;
        if seed % 3 == 0 {
            site.zones[1 + usize::from(seed % 2 == 0)].delete(&digest)?;
        }
    }
    Ok(site)
}

fn checkpoint(gateway: &Gateway) -> Option<Value> {
    let text = std::fs::read(gateway.dir().join("state/audit/checkpoint.json")).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Interrupts an audit with this signal after some steps.
async fn cut(gateway: &Gateway, arguments: &[&str], signal: Signal) -> Result<u64> {
    let mut child = gateway.start_command(&[&["audit"], arguments, &NOW].concat(), Stdio::null())?;
    let before = checkpoint(gateway).and_then(|found| found["steps"].as_u64()).unwrap_or(0);
    let deadline = Instant::now() + SOON;
    let steps = loop {
        let steps = checkpoint(gateway).and_then(|found| found["steps"].as_u64()).unwrap_or(0);
        if steps > before + 20 {
            break steps;
        }
        ensure!(Instant::now() < deadline, "it does not come to {}: {:?}", before + 20, child.try_wait());
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    let pid = child.id().and_then(|id| Pid::from_raw(id as i32)).context("it has ended")?;
    kill_process(pid, signal)?;
    let status = child.wait().await?;
    ensure!(!status.success(), "the audit was not interrupted");
    Ok(steps)
}

#[tokio::test]
async fn an_audit_resumes_after_a_signal_and_after_a_kill() -> Result<()> {
    let site = site()?;
    for zone in &site.zones {
        zone.proxy().set(|faults| faults.latency = Duration::from_millis(10));
    }
    let gateway = prepared(&site)?;
    cut(&gateway, &[], Signal::TERM).await?;
    let refused = command(&gateway, &[&["audit"], &NOW]).await?;
    ensure!(refused.status == Some(1) && refused.stderr.contains("--resume continues it"), "{refused:?}");
    let steps = cut(&gateway, &["--resume"], Signal::KILL).await?;
    for zone in &site.zones {
        zone.proxy().heal().await;
    }
    let resumed = audited(&gateway, &["--resume"], 3).await?;
    ensure!(steps > 40, "{steps}");
    let whole = audited(&gateway, &[], 3).await?;
    assert_eq!(found(&resumed), found(&whole));
    assert_eq!(found(&whole).len() as u64, BLOBS / 3);
    assert_eq!(resumed["zones"], whole["zones"]);
    Ok(())
}

#[tokio::test]
async fn a_dead_zone_stops_the_audit_and_can_be_left_out() -> Result<()> {
    let site = site()?;
    let gateway = prepared(&site)?;
    site.zone("zone-c").delete_bucket()?;
    let stopped = command(&gateway, &[&["audit"], &NOW]).await?;
    ensure!(
        stopped.status == Some(1)
            && stopped.stderr.contains("zone zone-c cannot be listed")
            && stopped.stderr.contains("--without zone-c"),
        "{stopped:?}"
    );
    let report = audited(&gateway, &["--fresh", "--without", "zone-c"], 3).await?;
    assert_eq!(found(&report).len() as u64, BLOBS / 6, "{report:#}");
    assert!(report["notes"].to_string().contains("zone-c was left out"));
    let other = command(&gateway, &[&["audit", "--resume", "--deep", "1%"], &NOW]).await?;
    ensure!(other.stderr.contains("there is no interrupted audit"), "{other:?}");
    Ok(())
}
