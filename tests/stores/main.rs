//! The conformance suite of `backends` over real object stores.

use std::sync::Arc;

use anyhow::{Result, ensure};
use backends::conformance::{Options, run};
use backends::s3::{S3Config, S3Store, Style};
use backends::{Key, Kind, Secret, Store as _, StoreConfig, Timeouts, Transport};
use tests::real::{Bucket, RadosGw, SeaweedFs};

/// The smallest part that S3 takes.
const PART: u64 = 5 << 20;
/// Fewer than the objects that the suite lists, so that lists have several pages.
const PAGE: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seaweedfs() {
    let server = SeaweedFs::start("conformance").await.expect("SeaweedFS starts");
    conforms(&server.bucket).await.expect("conforms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn radosgw() {
    let server = RadosGw::start("conformance").await.expect("RadosGW starts");
    conforms(&server.bucket).await.expect("conforms");
}

/// The whole suite with parts as small as they may be, then as Quay's file configures the store.
async fn conforms(bucket: &Bucket) -> Result<()> {
    let store = S3Store::new(&config(bucket), &transport()?)?.with_multipart(PART, PART).with_list_page(PAGE);
    run(Arc::new(store), Options { large: true, huge: true, listed: 20 }).await?;
    let left = bucket.open_uploads().await?;
    ensure!(left == 0, "{left} uploads left open");
    bucket.begin_upload("counted").await?;
    ensure!(bucket.open_uploads().await? == 1, "an open upload is not counted, so none can be missed");

    let entry: StoreConfig = serde_json::from_value(bucket.as_zone(bucket.port, "/datastorage/registry"))?;
    run(entry.build(&transport()?)?, Options::default()).await?;
    wrong_keys_are_denied(bucket).await
}

/// A store that does not know us must not look like one that lacks the object.
async fn wrong_keys_are_denied(bucket: &Bucket) -> Result<()> {
    for (access_key, secret_key) in
        [(bucket.access_key.as_str(), "wrong"), ("unknown", bucket.secret_key.as_str())]
    {
        let mut config = config(bucket);
        config.access_key = Secret::new(access_key);
        config.secret_key = Secret::new(secret_key);
        let store = S3Store::new(&config, &transport()?)?;
        let key = Key::new("absent".to_owned());
        for (what, kind) in [
            ("HEAD", store.head(&key).await.map_err(|error| error.kind()).err()),
            ("GET", store.get(&key, None).await.map_err(|error| error.kind()).err()),
            ("a probe", store.probe().await.map_err(|error| error.kind()).err()),
        ] {
            ensure!(kind == Some(Kind::Denied), "{what} with wrong keys: {kind:?}");
        }
    }
    Ok(())
}

fn config(bucket: &Bucket) -> S3Config {
    S3Config {
        endpoint: format!("http://127.0.0.1:{}", bucket.port).parse().expect("a URL"),
        style: Style::Path,
        bucket: bucket.name.clone(),
        root: "parts".to_owned(),
        region: Bucket::REGION.to_owned(),
        access_key: Secret::new(bucket.access_key.as_str()),
        secret_key: Secret::new(bucket.secret_key.as_str()),
        session_token: None,
        encrypt: false,
    }
}

/// Plain HTTP: nobody is trusted.
fn transport() -> Result<Transport> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Ok(Transport::new(Arc::new(tls), Timeouts::default()))
}
