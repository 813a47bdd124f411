//! Notices that files are replaced, by inotify.
//!
//! kubelet replaces a mounted Secret by one rename of the link `..data`, and a file's own inode never changes. So the
//! folders are watched in which the file and each link on the way to it lie.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use futures_util::StreamExt as _;
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchMask};

/// The most links on the way to a file; Linux follows as many.
const LINKS_MAX: usize = 40;

/// The most folders that are watched. Further ones are left to the poll.
const FOLDERS_MAX: usize = 512;

/// The size of the buffer for events. One event takes up to 272 bytes.
const BUFFER: usize = 4096;

/// Where files lie, and under which names.
#[derive(Debug, Default, PartialEq, Eq)]
struct Places {
    folders: BTreeSet<PathBuf>,
    /// The names of the files, and of each link on the way to them.
    names: BTreeSet<OsString>,
}

impl Places {
    /// Looks at the file system now.
    fn of<'a>(files: impl Iterator<Item = &'a Path>) -> Self {
        let mut places = Self::default();
        for file in files {
            let mut at = file.to_owned();
            for _ in 0..LINKS_MAX {
                places.add(&at);
                let Ok(target) = at.read_link() else { break };
                at = at.parent().unwrap_or(Path::new("")).join(target);
            }
        }
        places
    }

    /// Adds one path, and each of its folders that is a link.
    fn add(&mut self, path: &Path) {
        let links = path.ancestors().skip(1).filter(|folder| folder.is_symlink());
        for entry in std::iter::once(path).chain(links) {
            let (Some(folder), Some(name)) = (entry.parent(), entry.file_name()) else { continue };
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            self.folders.insert(folder.to_owned());
            self.names.insert(name.to_owned());
        }
    }
}

/// A watch that has begun: whatever happens from now on is noticed.
#[derive(Debug)]
pub struct Begun {
    inotify: Inotify,
    names: BTreeSet<OsString>,
}

/// Begins to watch these files. Looks at the file system, and may block.
///
/// # Errors
/// The kernel gives no watch, for example because `fs.inotify.max_user_instances` is used up.
pub fn begin<'a>(files: impl Iterator<Item = &'a Path>) -> io::Result<Begun> {
    let places = Places::of(files);
    let inotify = Inotify::init()?;
    let wanted = WatchMask::CREATE
        | WatchMask::MOVED_TO
        | WatchMask::MOVED_FROM
        | WatchMask::CLOSE_WRITE
        | WatchMask::DELETE
        | WatchMask::ONLYDIR;
    for folder in places.folders.iter().take(FOLDERS_MAX) {
        match inotify.watches().add(folder, wanted) {
            // A folder that cannot be looked into now is left to the poll.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(Begun { inotify, names: places.names })
}

/// A watch in a Tokio runtime.
#[derive(Debug)]
pub struct Watch {
    events: EventStream<[u8; BUFFER]>,
    names: BTreeSet<OsString>,
}

impl Watch {
    /// Waits for what the watch notices.
    ///
    /// # Errors
    /// Tokio cannot wait for the watch.
    pub fn new(begun: Begun) -> io::Result<Self> {
        Ok(Self { events: begun.inotify.into_event_stream([0; BUFFER])?, names: begun.names })
    }

    /// Waits until one of the files may have changed.
    ///
    /// # Errors
    /// The watch is broken.
    pub async fn changed(&mut self) -> io::Result<()> {
        while let Some(event) = self.events.next().await {
            if self.is_ours(&event?) {
                return Ok(());
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    fn is_ours(&self, event: &EventOwned) -> bool {
        // If events were lost, any file may have changed.
        event.mask.contains(EventMask::Q_OVERFLOW)
            || event.name.as_ref().is_some_and(|name| self.names.contains(name))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// A Secret as kubelet mounts it.
    fn secret(dir: &Path, generation: &str) {
        fs::create_dir(dir.join(generation)).expect("made");
        fs::write(dir.join(generation).join("tls.crt"), generation).expect("written");
        symlink(generation, dir.join("..data_tmp")).expect("linked");
        #[expect(clippy::disallowed_methods, reason = "as kubelet does it")]
        fs::rename(dir.join("..data_tmp"), dir.join("..data")).expect("renamed");
    }

    fn watch(file: &Path) -> Watch {
        Watch::new(begin([file].into_iter()).expect("begins")).expect("watches")
    }

    #[tokio::test]
    async fn a_swap_of_a_mounted_secret_is_noticed() {
        let dir = tempfile::tempdir().expect("a folder");
        secret(dir.path(), "..2026_1");
        let file = dir.path().join("tls.crt");
        symlink("..data/tls.crt", &file).expect("linked");
        let mut watch = watch(&file);
        secret(dir.path(), "..2026_2");
        tokio::time::timeout(SOON, watch.changed()).await.expect("in time").expect("noticed");
    }

    #[tokio::test]
    async fn a_file_behind_links_and_a_file_that_is_missing_are_noticed() {
        let dir = tempfile::tempdir().expect("a folder");
        let (one, two, live) = (dir.path().join("one"), dir.path().join("two"), dir.path().join("live"));
        fs::create_dir(&one).expect("made");
        symlink(&one, &live).expect("linked");
        let file = live.join("tls.crt");
        let mut watch = self::watch(&file);
        fs::write(one.join("tls.crt"), "x").expect("written");
        tokio::time::timeout(SOON, watch.changed()).await.expect("in time").expect("noticed");
        // Another folder in its place.
        let mut watch = self::watch(&file);
        fs::create_dir(&two).expect("made");
        fs::remove_file(&live).expect("removed");
        symlink(&two, &live).expect("linked");
        tokio::time::timeout(SOON, watch.changed()).await.expect("in time").expect("noticed");
    }

    #[test]
    fn a_circle_of_links_ends() {
        let dir = tempfile::tempdir().expect("a folder");
        symlink("b", dir.path().join("a")).expect("linked");
        symlink("a", dir.path().join("b")).expect("linked");
        let places = Places::of([dir.path().join("a").as_path()].into_iter());
        assert_eq!(places.names, ["a", "b"].map(OsString::from).into());
        assert_eq!(places.folders, [dir.path().to_owned()].into());
    }

    #[tokio::test]
    async fn other_files_of_the_folder_do_not_matter() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("tls.crt");
        let mut watch = watch(&file);
        fs::write(dir.path().join("journal"), "x").expect("written");
        // The events are there as soon as the file is.
        assert!(futures_util::poll!(std::pin::pin!(watch.changed())).is_pending());
        fs::write(&file, "x").expect("written");
        tokio::time::timeout(SOON, watch.changed()).await.expect("in time").expect("noticed");
    }
}
