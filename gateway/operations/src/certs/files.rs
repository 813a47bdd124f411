//! New files of certificates and keys. An existing file is never overwritten.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use certificates::Issued;

/// Everybody may read a certificate, only its owner may change it.
const CERTIFICATE_MODE: u32 = 0o644;

/// A new folder is for its owner only, because it gets a private key.
const FOLDER_MODE: u32 = 0o700;

/// Writes a chain and its key into a folder, which is made if it is missing. Returns their paths.
///
/// # Errors
/// One of the files exists already, or cannot be written. Neither of them is then new.
pub(super) fn write_new(
    folder: &Path,
    certificate: &str,
    key: &str,
    issued: &Issued,
) -> anyhow::Result<(PathBuf, PathBuf)> {
    DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(folder)
        .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
    let (certificate, key) = (folder.join(certificate), folder.join(key));
    for path in [&certificate, &key] {
        if fs::symlink_metadata(path).is_ok() {
            anyhow::bail!(exists(path));
        }
    }
    create(&key, issued.key.reveal(), atomic_file::PRIVATE)?;
    if let Err(error) = create(&certificate, &issued.chain, CERTIFICATE_MODE) {
        // A key without its certificate would only stand in the way of the next try.
        let _ = fs::remove_file(&key);
        return Err(error);
    }
    Ok((certificate, key))
}

fn create(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    atomic_file::create(path, text.as_bytes(), mode).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => anyhow::anyhow!(exists(path)),
        _ => anyhow::Error::new(error).context(format!("{} cannot be written", path.display())),
    })
}

fn exists(path: &Path) -> String {
    format!("{} exists already and is not overwritten: give another --out, or move it away", path.display())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use certificates::make_ca;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    #[test]
    fn neither_file_is_overwritten() {
        certificates::install_provider();
        let dir = tempfile::tempdir().expect("a folder");
        let out = dir.path().join("new/folder");
        let issued = make_ca("test", super::super::days(1)).expect("a CA");
        let (certificate, key) = write_new(&out, "ca.crt", "ca.key", &issued).expect("written");
        assert_eq!((mode(&out), mode(&key), mode(&certificate) & 0o600), (0o700, 0o600, 0o600));
        let first = fs::read(&key).expect("readable");
        for keep in [&certificate, &key] {
            let saved = fs::read(keep).expect("readable");
            for path in [&certificate, &key].into_iter().filter(|path| path.exists() && *path != keep) {
                fs::remove_file(path).expect("removed");
            }
            let error = write_new(&out, "ca.crt", "ca.key", &issued).expect_err("it exists");
            assert!(error.to_string().contains("exists already and is not overwritten"), "{error}");
            assert_eq!(fs::read_dir(&out).expect("readable").count(), 1, "nothing new");
            fs::write(&certificate, &saved).expect("written");
            fs::write(&key, &first).expect("written");
        }
    }

    #[test]
    fn a_key_without_its_certificate_does_not_stay() {
        certificates::install_provider();
        let dir = tempfile::tempdir().expect("a folder");
        let issued = make_ca("test", super::super::days(1)).expect("a CA");
        // The name of the certificate's temporary file is too long.
        write_new(dir.path(), &"c".repeat(250), "ca.key", &issued).expect_err("not written");
        assert!(!dir.path().join("ca.key").exists());
    }
}
