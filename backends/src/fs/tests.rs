//! Tests that apply only to folders.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn store() -> (tempfile::TempDir, FsStore) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = FsStore::new(&FsConfig { root: folder.path().to_owned() }, Timeouts::default());
    (folder, store)
}

#[tokio::test]
async fn objects_are_stored_where_quay_expects_them() {
    let (folder, store) = store();
    let source = Source::bytes(Bytes::from_static(b"hello"));
    store.put(&Key::new("sha256/2c/2cf2"), &source).await.expect("written");
    assert_eq!(std::fs::read(folder.path().join("sha256/2c/2cf2")).expect("a file"), b"hello");
}

#[tokio::test]
async fn no_key_leads_outside_the_root() {
    let (folder, store) = store();
    std::fs::write(folder.path().join("..secret"), b"x").expect("written");
    for key in ["../x", "/etc/passwd", "a/../../x", "a//b", "a/", "a\0b", ".x.partial", &"n".repeat(256)] {
        let error = store.head(&Key::new(key)).await.expect_err(key);
        assert_eq!(error.kind(), Kind::Invalid, "{key}");
    }
    assert!(store.head(&Key::new("..secret")).await.expect("a name like any other").is_some());
    for prefix in ["../", "/etc/"] {
        let listed: Result<Vec<_>> = store.list(prefix).try_collect().await;
        assert_eq!(listed.expect_err(prefix).kind(), Kind::Invalid);
    }
}

#[tokio::test]
async fn a_missing_root_is_an_error_not_an_empty_store() {
    let (folder, store) = store();
    let listed = || async { store.list("sha256/00/").try_collect::<Vec<_>>().await };
    assert_eq!(listed().await.expect("a folder that is not there yet").len(), 0);
    drop(folder);
    assert_eq!(listed().await.expect_err("no root").kind(), Kind::Unavailable);
}

/// If a disk is not mounted, the store writes nothing in its mount point and does not report it as empty.
#[tokio::test]
async fn a_missing_root_is_not_created() {
    let (folder, _) = store();
    let root = folder.path().join("mount");
    let store = FsStore::new(&FsConfig { root: root.clone() }, Timeouts::default());
    let key = Key::new("sha256/2c/2cf2");
    let put = || async { store.put(&key, &Source::bytes(Bytes::from_static(b"hello"))).await };
    assert_eq!(put().await.expect_err("no root").kind(), Kind::Unavailable);
    assert!(!root.exists());
    assert_eq!(store.head(&key).await.expect_err("no root").kind(), Kind::Unavailable);
    assert_eq!(store.get(&key, None).await.map(drop).expect_err("no root").kind(), Kind::Unavailable);
    assert_eq!(store.delete(&key).await.expect_err("no root").kind(), Kind::Unavailable);
    std::fs::create_dir(&root).expect("mounted");
    assert!(store.head(&key).await.expect("answers").is_none());
    assert!(store.get(&key, None).await.expect("answers").is_none());
    store.delete(&key).await.expect("it is not there");
    put().await.expect("written");
    assert_eq!(store.head(&key).await.expect("answers").expect("there").size, 5);
}

#[tokio::test]
async fn a_file_that_shrinks_ends_in_an_error() {
    let (folder, store) = store();
    let path = folder.path().join("blob");
    std::fs::write(&path, vec![7; 3 * CHUNK as usize]).expect("written");
    let object = store.get(&Key::new("blob"), None).await.expect("read").expect("there");
    std::fs::File::options().write(true).open(&path).expect("opens").set_len(CHUNK + 5).expect("shrinks");
    let pieces: Vec<_> = object.body.collect().await;
    assert!(pieces[0].is_ok());
    assert!(matches!(pieces.last(), Some(Err(error)) if error.kind() == Kind::Unavailable));
}

#[tokio::test]
async fn a_missing_folder_fails_the_probe() {
    let (folder, store) = store();
    store.probe().await.expect("there");
    let gone = FsStore::new(&FsConfig { root: folder.path().join("gone") }, Timeouts::default());
    assert_eq!(gone.probe().await.expect_err("gone").kind(), Kind::Unavailable);
}

#[test]
fn io_errors_have_their_kinds() {
    let denied = failed("x", io::Error::from(ErrorKind::PermissionDenied));
    assert_eq!(denied.kind(), Kind::Denied);
    assert_eq!(failed("x", io::Error::from(ErrorKind::StorageFull)).kind(), Kind::Unavailable);
}

#[tokio::test]
async fn files_are_group_readable_as_in_quay() {
    let (folder, store) = store();
    store.put(&Key::new("blob"), &Source::bytes(Bytes::from_static(b"x"))).await.expect("written");
    let mode = std::fs::metadata(folder.path().join("blob")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o640, 0o640);
}
