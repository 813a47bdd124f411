//! Allows only one process to use a folder.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// Holds a folder for this process until dropped. The kernel releases it when the process dies.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Makes the folder if it does not exist, and locks it.
    ///
    /// # Errors
    /// The folder cannot be made or written, or another process holds it.
    pub fn take(dir: &Path) -> io::Result<Self> {
        let explain = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", dir.display()));
        make_private(dir).map_err(explain)?;
        let file = File::create(dir.join("lock")).map_err(explain)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(Errno::WOULDBLOCK) => {
                let why =
                    format!("{} is in use by another quay-gateway: give each its own folder", dir.display());
                Err(io::Error::new(io::ErrorKind::WouldBlock, why))
            }
            Err(error) => Err(explain(error.into())),
        }
    }
}

/// The permission bits of users other than the owner.
const OTHERS: u32 = 0o077;

/// Makes a folder that only this user can access. If it exists, removes the rights of other users. If it belongs to
/// another user, as a volume of Kubernetes may, logs a warning.
fn make_private(dir: &Path) -> io::Result<()> {
    if let Some(above) = dir.parent() {
        fs::create_dir_all(above)?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made,
    }
    let found = fs::metadata(dir)?;
    let mode = found.permissions().mode();
    if mode & OTHERS == 0 {
        return Ok(());
    }
    let ours = found.uid() == rustix::process::geteuid().as_raw();
    let tightened = ours && fs::set_permissions(dir, Permissions::from_mode(mode & !OTHERS)).is_ok();
    let (dir, mode) = (dir.display(), format!("{:03o}", mode & 0o777));
    match tightened {
        true => tracing::info!(%dir, mode, "other users had rights on this folder: they are removed"),
        false => tracing::warn!(
            %dir,
            mode,
            "other users have rights on this folder, which belongs to another user: give it mode 0700"
        ),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(dir: &Path) -> u32 {
        fs::metadata(dir).expect("a folder").permissions().mode() & 0o7777
    }

    #[test]
    fn for_this_user_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let made = dir.path().join("a/b");
        DirectoryLock::take(&made).expect("made");
        assert_eq!(mode(&made), 0o700);
        for found in [0o755, 0o2775, 0o701] {
            fs::set_permissions(&made, Permissions::from_mode(found)).expect("changed");
            DirectoryLock::take(&made).expect("found");
            assert_eq!(mode(&made), found & !0o077, "{found:o}");
        }
    }

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = DirectoryLock::take(dir.path()).expect("free");
        assert_eq!(
            DirectoryLock::take(dir.path()).map_err(|e| e.kind()).err(),
            Some(io::ErrorKind::WouldBlock)
        );
        drop(first);
        DirectoryLock::take(dir.path()).expect("free again");
    }
}
