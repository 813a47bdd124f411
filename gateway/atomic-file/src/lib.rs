#![doc = include_str!("../README.md")]

use std::fs::{self, File, OpenOptions, Permissions};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The permissions of a file that others may read; the process's umask is subtracted.
pub const SHARED: u32 = 0o666;

/// The permissions of a file that holds a secret.
pub const PRIVATE: u32 = 0o600;

/// Replaces the file at `path` with `bytes`, and returns after both the file and its folder are on disk.
///
/// The new file has the permissions `mode`, minus the process's umask. One process at a time may write a
/// path: the temporary file has a fixed name, `path` with `.partial` appended, and one that an earlier crash
/// left is removed first.
///
/// # Errors
/// The folder does not exist or cannot be written to, or the disk is full or fails. The old file is then
/// unchanged, unless only the sync of the folder failed.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    replace(path, |partial| write_new(partial, bytes, mode).map(drop))
}

/// Like [`write()`], but the new file has exactly the permissions `mode`, whatever the umask is.
///
/// # Errors
/// The errors of [`write()`].
pub fn write_exact(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    replace(path, |partial| {
        let file = write_new(partial, bytes, mode)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()
    })
}

fn replace(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let partial = partial(path, "");
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    write(&partial)?;
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    fs::rename(&partial, path)?;
    sync_folder(path)
}

/// Like [`write()`], for a file that does not exist yet. An existing file is never replaced, even if another process
/// creates it at the same time. Where the file system has no hard links (FAT), others may see the file half written.
///
/// # Errors
/// The errors of [`write()`], and `AlreadyExists`. There is then no new file, unless only the sync of the folder failed.
pub fn create(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    create_by(path, bytes, mode, |partial, path| fs::hard_link(partial, path))
}

fn create_by(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    link: impl FnOnce(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    // A link fails if its name is taken, which a rename does not.
    fs::symlink_metadata(path).map_or(Ok(()), |_| Err(io::Error::from(io::ErrorKind::AlreadyExists)))?;
    // The name is this call's own: with another one's temporary file, its bytes would be linked.
    let partial = partial(path, &format!(".{:016x}", RandomState::new().hash_one(path)));
    write_whole(&partial, bytes, mode)?;
    let linked = link(&partial, path);
    let removed = fs::remove_file(&partial);
    match linked {
        Err(error) if has_no_links(&error) => write_whole(path, bytes, mode)?,
        linked => linked?,
    }
    removed?;
    sync_folder(path)
}

/// Whether a file system cannot make hard links (`link(2)`: EPERM).
fn has_no_links(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported)
}

/// Writes a new file. If that fails, there is none.
fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    match write_new(path, bytes, mode) {
        Ok(_) => Ok(()),
        // It is another one's.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(error) => {
            let _ = fs::remove_file(path);
            Err(error)
        }
    }
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(file)
}

/// Without this, a loss of power can undo a rename or a link.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn partial(path: &Path, mark: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(mark);
    name.push(".partial");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("key.pem");
        fs::write(partial(&path, ""), "left by a crash").expect("written");
        for text in ["old", "new"] {
            write(&path, text.as_bytes(), PRIVATE).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("readable"), text);
        }
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, PRIVATE);
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 1);
    }

    #[test]
    fn a_file_is_created_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("ca.key");
        create(&path, b"first", PRIVATE).expect("created");
        let again = create(&path, b"second", PRIVATE).expect_err("it is there");
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).expect("readable"), b"first");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, PRIVATE);
        // A link that leads nowhere is no free name.
        let link = dir.path().join("ca.crt");
        std::os::unix::fs::symlink("nowhere", &link).expect("linked");
        assert!(create(&link, b"x", SHARED).is_err());
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 2);
    }

    #[test]
    fn the_exact_mode_is_set() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("ca.crt");
        // No usual umask lets others write.
        write_exact(&path, b"x", 0o666).expect("written");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o666);
    }

    #[test]
    fn writers_at_the_same_time_do_not_mix() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("ca.key");
        // While the first one is about to link, another one creates the same file.
        create_by(&path, b"first", PRIVATE, |partial, path| {
            create(path, b"second", PRIVATE)?;
            assert_eq!(fs::read(partial)?, b"first");
            fs::hard_link(partial, path)
        })
        .expect_err("the name is taken");
        assert_eq!(fs::read(&path).expect("readable"), b"second");
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 1);
    }

    #[test]
    fn a_file_is_created_without_hard_links() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("ca.key");
        let without = |_: &Path, _: &Path| Err(io::ErrorKind::PermissionDenied.into());
        create_by(&path, b"first", PRIVATE, without).expect("created");
        assert_eq!(fs::read(&path).expect("readable"), b"first");
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 1);
        // Another one was created meanwhile.
        fs::remove_file(&path).expect("removed");
        create_by(&path, b"second", PRIVATE, |_, path| {
            fs::write(path, "other")?;
            without(path, path)
        })
        .expect_err("it is there");
        assert_eq!(fs::read(&path).expect("readable"), b"other");
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("checkpoint.json");
        write(&path, b"old", SHARED).expect("written");
        fs::create_dir(partial(&path, "")).expect("made");
        write(&path, b"new", SHARED).expect_err("the temporary file cannot be made");
        assert_eq!(fs::read(&path).expect("readable"), b"old");
    }
}
