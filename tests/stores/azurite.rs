//! The Azure driver with Azurite, and beside Microsoft's SDK.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use backends::azure::{AccountKey, AzureConfig, AzureStore, Credentials};
use backends::conformance::{Options, run};
use backends::{Digest, Key, Kind, Secret, Source, Store, StoreConfig};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use real_servers::{Azurite, PATIENT, plain_transport};

use crate::checks::noise;
use crate::transfers::{survives_with, write_object};

const MIB: usize = 1 << 20;
/// The block size around which the conformance suite chooses its sizes.
const BLOCK: u64 = 5 << 20;
/// A block size that makes even small blobs have blocks, so that concurrent writers conflict.
const SMALL_BLOCK: u64 = 32 << 10;
/// Fewer than the blobs that the suite lists, so that listings have several pages.
const PAGE: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    let azurite = Azurite::start("conformance").await.expect("Azurite starts");
    for (threshold, block, options) in [
        (BLOCK, BLOCK, Options { large: true, huge: true, listed: 20 }),
        (SMALL_BLOCK, SMALL_BLOCK, Options::default()),
    ] {
        let store = store(&azurite).with_blocks(threshold, block).with_list_page(PAGE);
        run(Arc::new(store), options).await.unwrap_or_else(|error| panic!("blocks of {block}: {error}"));
    }
    let entry: StoreConfig =
        serde_json::from_value(azurite.as_zone("/datastorage/registry")).expect("a store");
    let store = entry.build(&plain_transport(PATIENT)).expect("builds");
    run(store, Options { large: true, huge: true, listed: 20 }).await.expect("conforms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_mebibytes_in_blocks() {
    let azurite = Azurite::start("large").await.expect("Azurite starts");
    let (store, key, bytes) = (store(&azurite), Key::new("sha256/ab/large"), noise(1, 100 * MIB));
    store.put(&key, &Source::bytes(bytes.clone())).await.expect("written");
    assert_eq!(read(&store, &key, None).await.expect("read"), bytes);
    let (block, size) = (8 * MIB as u64, bytes.len() as u64);
    for (start, end) in [(0, 1), (block - 1, block + 1), (block, 3 * block + 5), (size - 1, size), (1, size)]
    {
        let part = read(&store, &key, Some(start..end)).await.expect("read");
        assert_eq!(part, bytes.slice(start as usize..end as usize), "{start}..{end}");
    }
    // Writers of the same bytes never invalidate each other's blocks.
    let source = Source::bytes(bytes.clone());
    let (one, two, three) =
        tokio::join!(store.put(&key, &source), store.put(&key, &source), store.put(&key, &source));
    for written in [one, two, three] {
        written.expect("written");
    }
    assert_eq!(read(&store, &key, None).await.expect("read"), bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_errors_not_absence() {
    let azurite = Azurite::start("refusals").await.expect("Azurite starts");
    let known = config(&azurite);
    let wrong_key = Secret::new(STANDARD.encode(b"wrong"));
    let wrong_key = Credentials::Key(AccountKey::parse(&wrong_key).expect("a key"));
    for (what, config, code) in [
        ("a wrong key", AzureConfig { credentials: wrong_key, ..known.clone() }, "AuthorizationFailure"),
        (
            "a missing container",
            AzureConfig { container: "absent".to_owned(), ..known.clone() },
            "ContainerNotFound",
        ),
    ] {
        let store =
            AzureStore::new(&config, &plain_transport(PATIENT)).expect("builds").with_blocks(1000, 1000);
        let (key, source) = (Key::new("sha256/ab/abcd"), Source::bytes(noise(1, 2000)));
        let single = Source::bytes(noise(1, 100));
        for (call, result) in [
            ("head", store.head(&key).await.map(drop)),
            ("get", store.get(&key, None).await.map(drop)),
            ("a part", store.get(&key, Some(1..2)).await.map(drop)),
            ("put", store.put(&key, &single).await),
            ("put in blocks", store.put(&key, &source).await),
            ("list", store.list("").try_collect::<Vec<_>>().await.map(drop)),
            ("delete", store.delete(&key).await),
            ("probe", store.probe().await),
        ] {
            let error = result.expect_err(call);
            assert_eq!((error.kind(), error.code()), (Kind::Denied, Some(code)), "{what}, {call}: {error}");
            assert!(error.to_string().contains("[request "), "{what}, {call}: {error}");
            assert!(!error.to_string().contains("127.0.0.1"), "{what}, {call}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_of_microsofts_sdk_and_back() {
    let azurite = Azurite::start("interop").await.expect("Azurite starts");
    interop(&azurite).await.expect("each side reads what the other wrote");
}

async fn interop(azurite: &Azurite) -> Result<()> {
    let store = store(azurite).with_blocks(BLOCK, BLOCK);
    for (name, size, block) in
        [("empty", 0, None), ("small é+%", 100_000, None), ("in blocks", 3 * MIB + 5, Some("1048576"))]
    {
        let (key, bytes) = (Key::new(name), noise(size as u64, size));
        let path = format!("registry/{name}");
        let mut arguments = vec!["write", &path];
        arguments.extend(block);
        azurite.sdk(&arguments, &bytes).await?;
        let meta = store.head(&key).await?.context("the SDK's blob is not visible")?;
        ensure!(meta.size == size as u64 && meta.modified.is_some(), "{name}: {meta:?}");
        ensure!(read(&store, &key, None).await? == bytes, "{name}: other bytes than the SDK wrote");
        if size > 0 {
            let range = size as u64 / 3..size as u64 - 1;
            let part = read(&store, &key, Some(range)).await?;
            ensure!(part == bytes.slice(size / 3..size - 1), "{name}: another part than the SDK wrote");
        }
    }
    for (name, size) in [("ours, empty", 0), ("ours/small é+%", 100_000), ("ours in blocks", 11 * MIB + 3)] {
        let bytes = noise(size as u64, size);
        store.put(&Key::new(name), &Source::bytes(bytes.clone())).await?;
        let path = format!("registry/{name}");
        ensure!(azurite.sdk(&["read", &path], b"").await? == bytes, "{name}: the SDK reads other bytes");
        if size > 0 {
            let (first, length) = (size / 3, size / 2);
            let arguments = ["read", &path, &first.to_string(), &length.to_string()];
            let part = azurite.sdk(&arguments, b"").await?;
            ensure!(part == bytes.slice(first..first + length), "{name}: the SDK reads another part");
        }
    }
    let mut listed: Vec<_> =
        store.list("").map_ok(|meta| format!("registry/{}\t{}", meta.key, meta.size)).try_collect().await?;
    listed.sort();
    let theirs = String::from_utf8(azurite.sdk(&["list", "registry/"], b"").await?.to_vec())?;
    let mut theirs: Vec<_> = theirs.lines().collect();
    theirs.sort_unstable();
    ensure!(listed == theirs && listed.len() == 6, "listed {listed:?}, the SDK {theirs:?}");
    Ok(())
}

/// Blocks that were staged and never committed do not block other writers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uncommitted_blocks_are_harmless() {
    let azurite = Azurite::start("leftovers").await.expect("Azurite starts");
    leftovers(&azurite).await.expect("uncommitted blocks are harmless");
}

async fn leftovers(azurite: &Azurite) -> Result<()> {
    let store = store(azurite).with_blocks(BLOCK, BLOCK);
    let bytes = noise(1, 11 * MIB);
    let key = Key::new("ours");
    let wrong = Source::new(bytes.len() as u64, Digest::of(b"other"), Arc::new(bytes.clone()));
    let refused = store.put(&key, &wrong).await.err().map(|error| error.kind());
    ensure!(refused == Some(Kind::Corrupt), "wrong bytes: {refused:?}");
    ensure!(store.head(&key).await?.is_none(), "uncommitted blocks are visible");
    azurite.sdk(&["write", "registry/ours", "1048576"], &bytes).await.context("the SDK after us")?;
    ensure!(read(&store, &key, None).await? == bytes, "other bytes than the SDK wrote");

    let key = Key::new("theirs");
    azurite.sdk(&["stage", "registry/theirs", "short"], b"a block").await?;
    store
        .put(&key, &Source::bytes(bytes.clone()))
        .await
        .context("after blocks with ids of another length")?;
    ensure!(read(&store, &key, None).await? == bytes, "other bytes than we wrote");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shared_access_signatures() {
    let azurite = Azurite::start("signatures").await.expect("Azurite starts");
    for (seconds, valid) in [("600", true), ("-60", false)] {
        let token = azurite.sdk(&["sas", seconds], b"").await.expect("a token");
        let token = String::from_utf8(token.to_vec()).expect("text").trim().to_owned();
        let mut zone = azurite.as_zone("/registry");
        let parameters = zone[1].as_object_mut().expect("parameters");
        parameters.remove("azure_account_key");
        parameters.insert("sas_token".to_owned(), token.clone().into());
        let entry: StoreConfig = serde_json::from_value(zone).expect("a store");
        let store = entry.build(&plain_transport(PATIENT)).expect("builds");
        if valid {
            run(store, Options::default()).await.expect("conforms");
            continue;
        }
        let error = store.head(&Key::new("absent")).await.expect_err("expired");
        assert_eq!(error.kind(), Kind::Denied, "{error}");
        let signature = token.split("sig=").nth(1).expect("a signature");
        assert!(!format!("{error} {error:?} {store:?} {entry:?}").contains(signature), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_during_transfers() {
    let mut azurite = Azurite::start("transfers").await.expect("Azurite starts");
    let entry = azurite.as_zone("/registry");
    let there = write_object(&entry).await.expect("written");
    // If Azurite were killed before this, it would lose the blob.
    azurite.saved(&format!("registry/{there}")).await.expect("is saved");
    survives_with(&entry, &mut azurite.process, &there).await.expect("survives");
}

async fn read(store: &dyn Store, key: &Key, range: Option<std::ops::Range<u64>>) -> Result<Bytes> {
    let object = store.get(key, range).await?.with_context(|| format!("{key} is not there"))?;
    let pieces: Vec<Bytes> = object.body.try_collect().await?;
    Ok(pieces.concat().into())
}

fn store(azurite: &Azurite) -> AzureStore {
    AzureStore::new(&config(azurite), &plain_transport(PATIENT)).expect("builds")
}

fn config(azurite: &Azurite) -> AzureConfig {
    let key = AccountKey::parse(&Secret::new(azurite.key.as_str())).expect("a key");
    AzureConfig {
        endpoint: azurite.endpoint().parse().expect("a URL"),
        account: azurite.account.clone(),
        container: azurite.container.clone(),
        root: "registry".to_owned(),
        credentials: Credentials::Key(key),
    }
}
