//! Writes a client's files below a folder, which may be `/`.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::ClientFile;

/// What `--force` appends to the name of a file that it replaces. Further ones get `.orig.1` and so on.
const KEPT: &str = ".orig";

/// The most files that are kept of one name.
const KEPT_MAX: usize = 10;

/// Clients run as any user, and one file that they cannot read stops them. So the process's umask does not count.
const FILE_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o755;

/// What happened to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// There was none.
    New,
    /// It was there with the same contents, and was not touched.
    Same,
    /// Another one was there. It is kept in this file.
    Replaced(PathBuf),
}

/// A file, and what must be done.
struct Step<'a> {
    path: PathBuf,
    text: &'a str,
    old: Option<Vec<u8>>,
}

/// Writes the files below `dir`, each as a whole. Folders are made. Everybody can read the new files and folders,
/// whatever the umask is.
///
/// A file that is there with other contents is not replaced without `force`; then no file is written at all. With
/// `force`, the old one is kept beside it with `.orig` after its name, or `.orig.1` to `.orig.9` if other contents are
/// kept there already.
///
/// # Errors
/// A file is there with other contents (without `force`), is a folder or a symbolic link, cannot be read or written, or
/// ten files of its name are kept. Files that were written before stay.
pub fn write(files: &[ClientFile], dir: &Path, force: bool) -> anyhow::Result<Vec<(PathBuf, Written)>> {
    let steps = files.iter().map(|file| Step::of(file, dir)).collect::<anyhow::Result<Vec<_>>>()?;
    let differing: Vec<_> = steps.iter().filter(|step| step.differs()).collect();
    if let (Some(first), false) = (differing.first(), force) {
        let more = match differing.len() {
            1 => String::new(),
            many => format!(" (and {} more files)", many - 1),
        };
        bail!(
            "{} is there with other contents{more}; nothing was written. Compare them, or replace them with --force, \
             which keeps the old ones as *{KEPT}",
            first.path.display()
        );
    }
    steps.into_iter().map(Step::run).collect()
}

impl<'a> Step<'a> {
    fn of(file: &'a ClientFile, dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join(file.path.trim_start_matches('/'));
        let shown = path.display().to_string();
        let old = match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => {
                Some(fs::read(&path).with_context(|| format!("cannot read {shown}"))?)
            }
            Ok(_) => bail!("{shown} is not a plain file: remove it, or write to another folder"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
        };
        Ok(Self { path, text: &file.text, old })
    }

    fn differs(&self) -> bool {
        self.old.as_ref().is_some_and(|old| old != self.text.as_bytes())
    }

    fn run(self) -> anyhow::Result<(PathBuf, Written)> {
        let replaced = self.differs();
        let Self { path, text, old } = self;
        let written = match old {
            Some(old) if replaced => Written::Replaced(keep(&path, &old)?),
            Some(_) => return Ok((path, Written::Same)),
            None => Written::New,
        };
        if let Some(folder) = path.parent() {
            make_folders(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        atomic_file::write_exact(&path, text.as_bytes(), FILE_MODE)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok((path, written))
    }
}

/// Makes a folder and the folders above it that are missing.
fn make_folders(folder: &Path) -> io::Result<()> {
    let missing: Vec<_> =
        folder.ancestors().take_while(|folder| *folder != Path::new("") && !folder.exists()).collect();
    fs::create_dir_all(folder)?;
    missing.iter().try_for_each(|made| fs::set_permissions(made, Permissions::from_mode(FOLDER_MODE)))
}

/// Keeps the old contents of a file, for those who could read it, unless they are kept already. Returns the path.
fn keep(path: &Path, old: &[u8]) -> anyhow::Result<PathBuf> {
    for number in 0..KEPT_MAX {
        let mut name = OsString::from(path);
        name.push(KEPT);
        if number > 0 {
            name.push(format!(".{number}"));
        }
        let kept = PathBuf::from(name);
        match fs::read(&kept) {
            Ok(contents) if contents == old => return Ok(kept),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mode = fs::metadata(path).map(|found| found.permissions().mode() & 0o777);
                mode.and_then(|mode| atomic_file::write_exact(&kept, old, mode))
                    .with_context(|| format!("cannot write {}", kept.display()))?;
                return Ok(kept);
            }
            Ok(_) | Err(_) => {}
        }
    }
    bail!("{KEPT_MAX} files {}{KEPT}* are kept already: move them away", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> ClientFile {
        ClientFile { path: path.to_owned(), text: text.to_owned() }
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("a folder");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_are_written_once_and_not_touched_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let files = [file("/etc/a/x", "1"), file("b/y", "2")];
        let written = write(&files, dir.path(), false).expect("writes");
        assert!(written.iter().all(|(_, written)| *written == Written::New), "{written:?}");
        assert_eq!(fs::read(dir.path().join("etc/a/x")).expect("is there"), b"1");
        let again = write(&files, dir.path(), false).expect("is the same");
        assert!(again.iter().all(|(_, written)| *written == Written::Same), "{again:?}");
    }

    #[test]
    fn another_file_is_kept_and_stops_all_without_force() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        fs::write(at("y"), "theirs").expect("writes");
        let error = write(&[file("x", "1"), file("y", "2")], dir.path(), false).expect_err("is there");
        assert!(format!("{error:#}").contains("with --force"), "{error:#}");
        assert_eq!(names(dir.path()), ["y"]);
        fs::set_permissions(at("y"), Permissions::from_mode(0o600)).expect("set");
        for (text, kept, was) in [
            ("2", "y.orig", "theirs"),
            ("3", "y.orig.1", "2"),
            ("theirs", "y.orig.2", "3"),
            ("4", "y.orig", "theirs"),
        ] {
            let written = write(&[file("y", text)], dir.path(), true).expect("replaces");
            assert_eq!(written, [(at("y"), Written::Replaced(at(kept)))]);
            assert_eq!(fs::read_to_string(at("y")).expect("is there"), text);
            assert_eq!(fs::read_to_string(at(kept)).expect("is kept"), was);
        }
        assert_eq!(names(dir.path()), ["y", "y.orig", "y.orig.1", "y.orig.2"]);
        let mode = fs::metadata(at("y.orig")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "nobody else may read what was theirs");
    }

    #[test]
    fn the_kept_files_are_bounded() {
        let dir = tempfile::tempdir().expect("a folder");
        for number in 0..=KEPT_MAX {
            write(&[file("y", &number.to_string())], dir.path(), true).expect("writes");
        }
        let error = write(&[file("y", "one more")], dir.path(), true).expect_err("too many");
        assert!(format!("{error:#}").contains("move them away"), "{error:#}");
        assert_eq!(fs::read_to_string(dir.path().join("y")).expect("is there"), KEPT_MAX.to_string());
    }

    #[test]
    fn a_link_or_a_folder_is_not_replaced() {
        let dir = tempfile::tempdir().expect("a folder");
        std::os::unix::fs::symlink("elsewhere", dir.path().join("link")).expect("links");
        fs::create_dir(dir.path().join("folder")).expect("makes");
        for name in ["link", "folder"] {
            let error = write(&[file(name, "1")], dir.path(), true).expect_err("is no file");
            assert!(format!("{error:#}").contains("is not a plain file"), "{error:#}");
        }
    }
}
