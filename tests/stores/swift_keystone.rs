//! OpenStack Swift whose users are Keystone's (v3).

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use backends::{Key, Kind, Source, Timeouts};
use bytes::Bytes;
use serde_json::{Value, json};
use tests::real::{Keystone, Swift, SwiftOptions};
use tokio::time::{Instant, sleep};

use crate::checks::{holds, is_denied, noise};
use crate::transfers::survives;
use crate::{build, swift};

/// What the server takes in one piece.
const LIMIT: u64 = 7 << 20;
/// The shortest life that a loaded machine leaves time to use.
const LIFETIME: Duration = Duration::from_secs(5);
/// Three lives.
const IN_USE: Duration = Duration::from_secs(15);
/// Between two uses.
const PAUSE: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swift_keystone() {
    let server =
        Swift::with_keystone("conformance", SwiftOptions::default()).await.expect("Swift and Keystone start");
    let container = server.container.clone();
    swift::conforms(&container).await.expect("conforms");
    let store = swift::in_segments(&container).expect("builds");
    swift::writes_as_quay(&container, &store, swift::SEGMENT).await.expect("writes as Quay");
    swift::denies_the_unknown(&container).await.expect("the unknown are denied");
    names_and_ids(&server).await.expect("logs in by names and by ids");
    swift::agrees_with_swiftclient(&container).await.expect("agrees with python-swiftclient");
    swift::gives_by_temporary_urls(&container).await.expect("gives by temporary URLs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swift_keystone_in_trouble() {
    let mut server =
        Swift::with_keystone("transfers", SwiftOptions::default()).await.expect("Swift and Keystone start");
    let container = server.container.clone();
    survives(&swift::entry(&container), &mut server.front).await.expect("survives");
    tokens_lapse(&mut server).await.expect("survives its tokens");
}

/// A server that takes less than Quay's segments at once gets smaller ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swift_with_a_limit() {
    let options = SwiftOptions { max_file_size: LIMIT, ..SwiftOptions::default() };
    let server = Swift::with_keystone("limited", options).await.expect("Swift and Keystone start");
    let store = build(swift::entry(&server.container), Timeouts::default()).expect("builds");
    swift::writes_as_quay(&server.container, &*store, LIMIT).await.expect("writes as Quay");
}

/// Users and projects by name and by id, as python-swiftclient takes them from `os_options`, and an
/// application credential; and a project that is not the user's.
async fn names_and_ids(server: &Swift) -> Result<()> {
    let keystone = server.keystone.as_ref().context("it has one")?;
    for options in [
        json!({ "tenant_id": keystone.project_id, "user_domain_name": "Default" }),
        json!({ "tenant_name": Keystone::PROJECT }),
        json!({ "project_id": keystone.project_id, "user_id": keystone.user_id }),
        json!({ "project_name": Keystone::PROJECT, "project_domain_id": "default", "user_domain_id": "default" }),
    ] {
        let mut entry = swift::entry(&server.container);
        entry[1]["os_options"] = options.clone();
        build(entry, Timeouts::default())?.probe().await.with_context(|| options.to_string())?;
    }
    let (id, secret) = keystone.application_credential().await?;
    for (secret, known) in [(secret.as_str(), true), ("wrong", false)] {
        let mut entry = swift::entry(&server.container);
        entry[1]["swift_password"] = Value::Null;
        entry[1]["os_options"] = json!({
            "auth_type": "v3applicationcredential",
            "application_credential_id": id,
            "application_credential_secret": secret,
        });
        let store = build(entry, Timeouts::default())?;
        match known {
            true => store.probe().await.context("an application credential")?,
            false => is_denied("a wrong application credential", &*store).await?,
        }
    }
    for (name, value) in
        [("project_name", "service"), ("project_name", "missing"), ("user_domain_name", "missing")]
    {
        let mut entry = swift::entry(&server.container);
        entry[1]["os_options"][name] = json!(value);
        is_denied(&format!("{name} {value}"), &*build(entry, Timeouts::default())?).await?;
    }
    Ok(())
}

/// Tokens that lapse in mid-use are renewed unseen; only while Keystone is away is there nothing to be
/// done, and that is no absence.
async fn tokens_lapse(server: &mut Swift) -> Result<()> {
    let keystone = server.keystone.as_mut().context("it has one")?;
    keystone.set_token_lifetime(LIFETIME).await?;
    let store = build(swift::entry(&server.container), Timeouts::default())?;
    let (start, mut uses) = (Instant::now(), 0);
    while start.elapsed() < IN_USE {
        let (key, bytes) = (Key::new(format!("tokens/{uses}")), noise(uses, 10_000));
        let what = || format!("use {uses}, after {:?}", start.elapsed());
        store.put(&key, &Source::bytes(bytes.clone())).await.with_context(what)?;
        holds(&*store, &key, &bytes).await.with_context(what)?;
        store.delete(&key).await.with_context(what)?;
        sleep(PAUSE).await;
        uses += 1;
    }
    let source = Source::bytes(Bytes::from_static(b"kept"));
    let key = Key::new("tokens/kept");
    store.put(&key, &source).await?;
    keystone.front.stop();
    sleep(LIFETIME).await;
    let error = store.head(&key).await.err().context("a head with a token that lapsed")?;
    ensure!(error.kind() == Kind::Unavailable, "{error}");
    keystone.front.restart().await?;
    holds(&*store, &key, &Bytes::from_static(b"kept")).await?;
    Ok(store.delete(&key).await?)
}
