//! Checks for every server with S3.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use backends::Secret;
use backends::conformance::{Options, run};
use backends::s3::{S3Config, S3Store, Style};
use real_servers::{Bucket, PATIENT, plain_transport};
use serde_json::{Value, json};

use crate::checks::is_denied;
use crate::{build, interop};

/// The smallest part that S3 accepts.
const PART: u64 = 5 << 20;
/// Fewer than the objects that the suite lists, so that listings have several pages.
const PAGE: usize = 3;

/// Runs the whole suite with the smallest parts, then with Quay's configuration of the store.
pub(crate) async fn conforms(bucket: &Bucket) -> Result<()> {
    conforms_in_parts(bucket, bucket.region).await?;
    run(build(entry(bucket), PATIENT)?, Options { huge: true, ..Options::default() }).await?;
    Ok(())
}

/// Runs the suite with the smallest parts, signed for `region`.
pub(crate) async fn conforms_in_parts(bucket: &Bucket, region: &str) -> Result<()> {
    let store = S3Store::new(&config(bucket, region), &plain_transport(PATIENT))?;
    let store = store.with_multipart(PART, PART).with_list_page(PAGE);
    run(Arc::new(store), Options { large: true, huge: true, listed: 20 }).await?;
    let left = bucket.open_uploads().await?;
    ensure!(left == 0, "{left} uploads left open");
    bucket.begin_upload("counted").await?;
    ensure!(
        bucket.open_uploads().await? == 1,
        "the count of open uploads is wrong, so the check above proves nothing"
    );
    Ok(())
}

/// Checks that wrong keys are not reported as absence.
pub(crate) async fn denies_wrong_keys(bucket: &Bucket) -> Result<()> {
    for (name, value) in [("secret_key", "wrong"), ("access_key", "unknown")] {
        is_denied(&format!("wrong {name}"), &*build(with(bucket, name, value), PATIENT)?).await?;
    }
    Ok(())
}

/// Checks that the driver reads what boto3 writes, and the other way round.
pub(crate) async fn agrees_with_boto(bucket: &Bucket) -> Result<()> {
    let store = S3Store::new(&config(bucket, bucket.region), &plain_transport(PATIENT))?;
    interop::both_ways("s3.py", &entry(bucket), &store.with_multipart(PART, PART)).await.context("boto3")
}

/// A store whose server-side copies use the smallest parts.
pub(crate) fn in_copied_parts(bucket: &Bucket) -> Result<S3Store> {
    let store = S3Store::new(&config(bucket, bucket.region), &plain_transport(PATIENT))?;
    Ok(store.with_copied_parts(PART, PART))
}

/// The entry in Quay's configuration.
pub(crate) fn entry(bucket: &Bucket) -> Value {
    bucket.as_zone(bucket.port, "/datastorage/registry")
}

/// The entry in Quay's configuration with one other parameter.
pub(crate) fn with(bucket: &Bucket, name: &str, value: &str) -> Value {
    let mut entry = entry(bucket);
    entry[1][name] = json!(value);
    entry
}

/// The configuration of the driver.
fn config(bucket: &Bucket, region: &str) -> S3Config {
    S3Config {
        endpoint: format!("http://127.0.0.1:{}", bucket.port).parse().expect("a URL"),
        style: Style::Path,
        bucket: bucket.name.clone(),
        root: "datastorage/registry".to_owned(),
        region: region.to_owned(),
        access_key: Secret::new(bucket.access_key.as_str()),
        secret_key: Secret::new(bucket.secret_key.as_str()),
        session_token: None,
        encrypt: false,
    }
}
