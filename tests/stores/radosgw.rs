//! Ceph's RADOS gateway with S3.

use anyhow::{Context as _, Result};
use backends::{Key, Source};
use real_servers::{PATIENT, RadosGw};

use crate::checks::{holds, is_denied, noise};
use crate::transfers::survives;
use crate::{build, s3};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn radosgw() {
    let mut server = RadosGw::start("conformance").await.expect("RadosGW starts");
    let bucket = server.bucket.clone();
    s3::conforms(&bucket).await.expect("conforms");
    s3::denies_wrong_keys(&bucket).await.expect("wrong keys are denied");
    let missing = build(s3::with(&bucket, "bucket_name", "missing"), PATIENT).expect("builds");
    is_denied("no bucket", &*missing).await.expect("a missing bucket is an error");
    s3::agrees_with_boto(&bucket).await.expect("agrees with boto3");
    survives(&s3::entry(&bucket), &mut server.process).await.expect("survives");
    clock_is_learned(&mut server).await.expect("its clock is learned");
}

/// S3 refuses signatures whose time is wrong by 15 minutes. The driver learns the server's clock from the
/// refusal, and learns it again after the clock is corrected.
async fn clock_is_learned(server: &mut RadosGw) -> Result<()> {
    let store = build(s3::entry(&server.bucket), PATIENT)?;
    let key = Key::new("clock");
    for (seconds, seed) in [(7200, 30), (0, 31), (-7200, 32)] {
        server.set_clock(seconds).await?;
        let bytes = noise(seed, 100_000);
        // A put comes first: its source is read again.
        store.put(&key, &Source::bytes(bytes.clone())).await.with_context(|| format!("{seconds} s"))?;
        holds(&*store, &key, &bytes).await?;
    }
    server.set_clock(0).await?;
    store.head(&key).await.context("back again")?.context("it is gone")?;
    Ok(store.delete(&key).await?)
}
