//! The conformance suite over all stores that need no server of their own.

mod support;

use std::path::Path;
use std::sync::Arc;

use backends::conformance::{Options, run};
use backends::fs::{FsConfig, FsStore};
use backends::memory::MemoryStore;
use backends::s3::S3Store;
use backends::{Key, Kind, Secret, Source, Store, Timeouts};
use bytes::Bytes;

const MIB: u64 = 1024 * 1024;

#[tokio::test]
async fn memory() {
    run(Arc::new(MemoryStore::new()), Options::default()).await.expect("conforms");
}

#[tokio::test]
async fn fs() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = FsConfig { root: folder.path().to_owned() };
    let options = Options { large: true, huge: true, listed: 20 };
    run(Arc::new(FsStore::new(&config, Timeouts::default())), options).await.expect("conforms");
    assert_eq!(files(folder.path()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = support::config(support::s3_server(folder.path()).await);
    let store = S3Store::new(&config, &support::transport(Timeouts::default()))
        .expect("builds")
        .with_multipart(5 * MIB, 5 * MIB)
        .with_list_page(3);
    run(Arc::new(store), Options { large: true, huge: true, listed: 20 }).await.expect("conforms");
    // The parts of refused and cancelled uploads must be gone as well.
    let parts: Vec<_> = files(folder.path()).into_iter().filter(|name| name.contains("upload_id")).collect();
    assert_eq!(parts, Vec::<String>::new());
}

#[tokio::test]
async fn s3_wrong_credentials_are_denied() {
    let folder = tempfile::tempdir().expect("a folder");
    let address = support::s3_server(folder.path()).await;
    for (access_key, secret_key) in [(support::ACCESS_KEY, "wrong"), ("unknown", support::SECRET_KEY)] {
        let mut config = support::config(address);
        config.access_key = Secret::new(access_key);
        config.secret_key = Secret::new(secret_key);
        let store = S3Store::new(&config, &support::transport(Timeouts::default())).expect("builds");
        all_fail(&store, Kind::Denied).await;
    }
}

#[tokio::test]
async fn s3_a_missing_bucket_is_an_error_not_absence() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = support::config(support::s3_server(folder.path()).await);
    config.bucket = "missing".to_owned();
    let store = S3Store::new(&config, &support::transport(Timeouts::default())).expect("builds");
    let key = Key::new("sha256/ab/abcd");
    for failed in [
        store.head(&key).await.map(drop),
        store.get(&key, None).await.map(drop),
        store.get(&key, Some(0..1)).await.map(drop),
        store.probe().await,
    ] {
        let error = failed.expect_err("no bucket");
        assert_eq!((error.kind(), error.code()), (Kind::Denied, Some("NoSuchBucket")), "{error}");
    }
}

async fn all_fail(store: &S3Store, kind: Kind) {
    let key = Key::new("sha256/ab/abcd");
    let source = Source::bytes(Bytes::from_static(b"hello"));
    for failed in [
        store.head(&key).await.map(drop),
        store.get(&key, None).await.map(drop),
        store.get(&key, Some(0..1)).await.map(drop),
        store.put(&key, &source).await,
        store.delete(&key).await,
        store.probe().await,
    ] {
        let error = failed.expect_err("refused");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(!error.to_string().contains("127.0.0.1"), "{error}");
    }
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.display().to_string());
            }
        }
    }
    found
}
