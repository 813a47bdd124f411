//! Checks for every server with Swift.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use backends::conformance::{Options, run};
use backends::swift::{Access, Account, Domain, Identity, Login, Named, Service, SwiftConfig, SwiftStore};
use backends::{Key, Kind, Secret, Source, Store};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use real_servers::{Container, Keystone, PATIENT, SwiftLogin, plain_transport};
use serde_json::{Value, json};

use crate::checks::{holds, is_denied, noise, reads_are_denied};
use crate::{build, interop};

/// The size of segments around which the suite chooses its sizes.
pub(crate) const SEGMENT: u64 = 5 << 20;
/// Fewer than the objects that the suite lists, so that listings have several pages.
const PAGE: usize = 3;

/// Runs the whole suite with small segments, then with Quay's configuration of the store.
pub(crate) async fn conforms(container: &Container) -> Result<()> {
    let options = Options { large: true, huge: true, listed: 20 };
    run(Arc::new(in_segments(container)?), options).await.context("in segments")?;
    run(build(entry(container), PATIENT)?, Options { huge: true, ..Options::default() }).await?;
    Ok(())
}

/// Large objects have the form that Quay writes, so that Quay can delete them: segments below the root, and a
/// manifest that names them. Deleting the object also deletes the segments. The store uses segments of
/// `segment` bytes.
pub(crate) async fn writes_as_quay(container: &Container, store: &dyn Store, segment: u64) -> Result<()> {
    let (key, bytes) = (Key::new("sha256/ab/segmented"), noise(40, (2 * segment + 1) as usize));
    let name = format!("datastorage/registry/{key}");
    // Concurrent writers of one key, as in the suite, may leave segments behind, because each knows only the
    // segments of the object that it found.
    let before = container.names("").await?;
    store.put(&key, &Source::bytes(bytes.clone())).await?;
    let folder = container.manifest(&name).await?.context("the object has no segments")?;
    let segments = folder.strip_prefix(&format!("{}/", container.name)).context("another container")?;
    ensure!(segments.starts_with("datastorage/registry/segments/"), "{segments}");
    let listed = container.names(segments).await?;
    let expected: Vec<_> =
        (0..3).map(|index| format!("{}/{index:09}", segments.trim_end_matches('/'))).collect();
    ensure!(listed == expected, "{listed:?} instead of {expected:?}");
    ensure!(container.read(&name).await?.as_ref() == Some(&bytes), "the server returns other bytes");
    // An overwritten object has new segments, and the old ones are deleted.
    let other = noise(41, bytes.len());
    store.put(&key, &Source::bytes(other.clone())).await?;
    holds(store, &key, &other).await?;
    let mut listed = container.names("datastorage/registry/segments/").await?;
    listed.retain(|name| !before.contains(name));
    ensure!(listed.len() == 3, "{listed:?}");
    store.delete(&key).await?;
    let left = container.names("").await?;
    ensure!(left == before, "{left:?} instead of {before:?}");
    Ok(())
}

/// Checks that wrong passwords, unknown users and a missing container are not reported as absence.
pub(crate) async fn denies_unknown_users(container: &Container) -> Result<()> {
    for (name, value) in
        [("swift_password", "wrong"), ("swift_user", "nobody:nobody"), ("swift_container", "missing")]
    {
        let mut entry = entry(container);
        entry[1][name] = json!(value);
        is_denied(&format!("wrong {name}"), &*build(entry, PATIENT)?).await?;
    }
    Ok(())
}

/// Checks that the driver reads what python-swiftclient writes, and the other way round.
pub(crate) async fn agrees_with_swiftclient(container: &Container) -> Result<()> {
    let store = in_segments(container)?;
    interop::both_ways("swift.py", &entry(container), &store).await.context("python-swiftclient")
}

/// If only the account's key is configured and no password, the driver reads objects with temporary URLs,
/// including large ones, and writes nothing.
pub(crate) async fn reads_with_temporary_urls(container: &Container) -> Result<()> {
    let account = container.set_temp_url_key("a key of the account").await?;
    let by_key = |key: &str| {
        let mut entry = entry(container);
        entry[1]["swift_password"] = Value::Null;
        entry[1]["temp_url_key"] = json!(key);
        entry[1]["os_options"] = json!({ "object_storage_url": account });
        build(entry, PATIENT)
    };
    let (known, unknown) = (by_key("a key of the account")?, by_key("another")?);
    let writer = in_segments(container)?;
    for (name, size) in [("small é+%", 1000), ("sha256/ab/large", SEGMENT as usize + 5)] {
        let (key, bytes) = (Key::new(name), noise(50, size));
        writer.put(&key, &Source::bytes(bytes.clone())).await?;
        holds(&*known, &key, &bytes).await?;
        let size = known.head(&key).await?.context("the object is not visible")?.size;
        ensure!(size == bytes.len() as u64, "{name}: {size} bytes");
        let range = size / 2 - 3..size - 1;
        let part = known.get(&key, Some(range.clone())).await?.context("the object does not exist")?;
        let part: Vec<Bytes> = part.body.try_collect().await?;
        ensure!(part.concat() == bytes[range.start as usize..range.end as usize], "{name}: another part");
        let error = unknown.head(&key).await.err().context("a HEAD with a wrong key succeeded")?;
        ensure!(error.kind() == Kind::Denied, "{error}");
        let error = known.put(&key, &Source::bytes(bytes)).await.err().context("a put succeeded")?;
        ensure!(error.kind() == Kind::Invalid, "{error}");
        writer.delete(&key).await?;
        ensure!(known.head(&key).await?.is_none(), "{name} is still visible");
    }
    known.probe().await?;
    reads_are_denied("a wrong key", &*unknown).await
}

/// The entry in Quay's configuration.
pub(crate) fn entry(container: &Container) -> Value {
    container.as_zone("/datastorage/registry")
}

/// A store with small segments and pages.
pub(crate) fn in_segments(container: &Container) -> Result<SwiftStore> {
    let store = SwiftStore::new(&config(container)?, &plain_transport(PATIENT))?;
    Ok(store.with_segments(SEGMENT, SEGMENT).with_list_page(PAGE))
}

/// The configuration of the driver.
fn config(container: &Container) -> Result<SwiftConfig> {
    let (url, identity) = match &container.login {
        SwiftLogin::V1 { url, user, key } => {
            (url.parse()?, Identity::V1 { user: user.clone(), key: Secret::new(key.as_str()) })
        }
        SwiftLogin::V3 { url, .. } => {
            let named =
                |name: &str| Named::Name { name: name.to_owned(), domain: Domain::Id("default".to_owned()) };
            let account = Account {
                user: named(Keystone::USER),
                password: Some(Secret::new(Keystone::PASSWORD)),
                token: None,
                project: Some(named(Keystone::PROJECT)),
            };
            (format!("{url}/v3").parse()?, Identity::V3(account))
        }
    };
    Ok(SwiftConfig {
        access: Access::Login(Box::new(Login { url, identity })),
        storage_url: None,
        service: Service { kind: "object-store".to_owned(), interface: "public".to_owned(), region: None },
        container: container.name.clone(),
        root: "datastorage/registry".to_owned(),
        simple_path_concat: false,
        ca_file: None,
    })
}
