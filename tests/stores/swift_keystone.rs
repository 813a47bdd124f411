//! OpenStack Swift with users in Keystone (v3).

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use backends::{Key, Kind, Source};
use bytes::Bytes;
use real_servers::{Keystone, PATIENT, Swift, SwiftOptions};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::checks::{holds, is_denied, noise};
use crate::transfers::survives;
use crate::{build, swift};

/// The largest object that the server accepts in one request.
const LIMIT: u64 = 7 << 20;
/// The shortest lifetime of a token that works on a busy machine.
const LIFETIME: Duration = Duration::from_secs(5);
/// Three lifetimes of a token.
const IN_USE: Duration = Duration::from_secs(15);
/// The pause between two uses.
const PAUSE: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swift_keystone() {
    let server =
        Swift::with_keystone("conformance", SwiftOptions::default()).await.expect("Swift and Keystone start");
    let container = server.container.clone();
    swift::conforms(&container).await.expect("conforms");
    let store = swift::in_segments(&container).expect("builds");
    swift::writes_as_quay(&container, &store, swift::SEGMENT).await.expect("writes as Quay");
    swift::denies_unknown_users(&container).await.expect("the unknown are denied");
    names_and_ids(&server).await.expect("logs in by names and by ids");
    swift::agrees_with_swiftclient(&container).await.expect("agrees with python-swiftclient");
    swift::reads_with_temporary_urls(&container).await.expect("gives by temporary URLs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swift_keystone_with_faults() {
    let mut server =
        Swift::with_keystone("transfers", SwiftOptions::default()).await.expect("Swift and Keystone start");
    let container = server.container.clone();
    survives(&swift::entry(&container), &mut server.process).await.expect("survives");
    tokens_lapse(&mut server).await.expect("survives the expiry of its tokens");
}

/// If a server accepts less than Quay's segment size in one request, the segments are smaller.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swift_with_a_limit() {
    let options = SwiftOptions { max_file_size: LIMIT, ..SwiftOptions::default() };
    let server = Swift::with_keystone("limited", options).await.expect("Swift and Keystone start");
    let store = build(swift::entry(&server.container), PATIENT).expect("builds");
    swift::writes_as_quay(&server.container, &*store, LIMIT).await.expect("writes as Quay");
}

/// Users and projects by name and by id, as python-swiftclient reads them from `os_options`; an application
/// credential; and a project to which the user does not belong.
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
        build(entry, PATIENT)?.probe().await.with_context(|| options.to_string())?;
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
        let store = build(entry, PATIENT)?;
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
        is_denied(&format!("{name} {value}"), &*build(entry, PATIENT)?).await?;
    }
    Ok(())
}

/// Tokens that expire during use are renewed without an error. Requests fail only while Keystone is
/// unreachable, and the error is not reported as absence.
async fn tokens_lapse(server: &mut Swift) -> Result<()> {
    let keystone = server.keystone.as_mut().context("it has one")?;
    keystone.set_token_lifetime(LIFETIME).await?;
    let store = build(swift::entry(&server.container), PATIENT)?;
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
    keystone.process.stop();
    sleep(LIFETIME).await;
    let error = store.head(&key).await.err().context("a head with a token that lapsed")?;
    ensure!(error.kind() == Kind::Unavailable, "{error}");
    keystone.process.restart().await?;
    holds(&*store, &key, &Bytes::from_static(b"kept")).await?;
    Ok(store.delete(&key).await?)
}
