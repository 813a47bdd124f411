//! The archive: its files, its table of contents, and where it is written.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;

/// The folder in the archive.
const FOLDER: &str = "quay-gateway-support";

/// The table of contents.
const MANIFEST: &str = "MANIFEST.txt";

/// The mode of the archive and of every file in it.
const MODE: u32 = 0o600;

/// A file of the archive.
#[derive(Debug, Clone)]
pub struct BundleFile {
    /// Its name in the archive.
    pub name: &'static str,
    /// What it is.
    pub what: &'static str,
    /// What must be known of it: why it is missing or cut, or how many lines were changed.
    pub note: Option<String>,
    /// Its contents. `None` if they could not be had.
    pub contents: Option<String>,
}

impl BundleFile {
    /// A file, or why it is missing.
    pub(super) fn of(name: &'static str, what: &'static str, contents: anyhow::Result<String>) -> Self {
        match contents {
            Ok(text) => Self { name, what, note: None, contents: Some(text) },
            Err(error) => Self { name, what, note: Some(format!("missing: {error:#}")), contents: None },
        }
    }
}

/// The table of contents as text.
fn manifest(files: &[BundleFile], version: &str, at: SystemTime) -> String {
    let at = humantime::format_rfc3339_seconds(at);
    let mut text = format!(
        "A support bundle of quay-gateway {version}, made at {at}.\n\n\
         Read it before you send it. This archive is not compressed:\n\n  \
         tar -tvf BUNDLE.tar                             # the list\n  \
         tar -xOf BUNDLE.tar {FOLDER}/FILE | less   # one file\n\n\
         It holds no password, no key and no token of the configuration. It does hold names and addresses of hosts,\n\
         zones, repositories and users, and paths of files. To leave out a file, unpack the archive, remove the file,\n\
         and pack the rest.\n\n"
    );
    for BundleFile { name, what, note, contents } in files {
        let size = contents.as_ref().map_or_else(|| "-".to_owned(), |text| format!("{} bytes", text.len()));
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:<18} {size:>14}  {what}");
        if let Some(note) = note {
            let _ = writeln!(text, "{:<18} {:>14}  {note}", "", "");
        }
    }
    text
}

/// The archive as bytes: the table of contents, then the files.
///
/// # Errors
/// A file is too large for the format.
pub fn archive(files: &[BundleFile], version: &str, at: SystemTime) -> anyhow::Result<Vec<u8>> {
    let manifest = manifest(files, version, at);
    let present = files.iter().filter_map(|file| Some((file.name, file.contents.as_deref()?)));
    let mut archive = tar::Builder::new(Vec::new());
    for (name, contents) in [(MANIFEST, manifest.as_str())].into_iter().chain(present) {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(MODE);
        header.set_mtime(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
        archive.append_data(&mut header, format!("{FOLDER}/{name}"), contents.as_bytes())?;
    }
    Ok(archive.into_inner()?)
}

/// Writes the archive into a new file that only its owner may read.
///
/// # Errors
/// The file exists, or cannot be written. It is then removed.
pub fn write(path: &Path, archive: &[u8]) -> anyhow::Result<()> {
    let unwritable = || format!("{} cannot be written", path.display());
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(MODE).open(path).with_context(unwritable)?;
    let written = file.write_all(archive).and_then(|()| file.sync_all());
    if written.is_err() {
        // The first error is the one to report.
        let _ = std::fs::remove_file(path);
    }
    written.with_context(unwritable)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_manifest_lists_what_is_there_and_what_is_missing() -> anyhow::Result<()> {
        let files = [
            BundleFile::of("a.txt", "the first", Ok("12345".to_owned())),
            BundleFile::of("b.json", "the second", Err(anyhow::anyhow!("no gateway"))),
        ];
        let archive = archive(&files, "1.2.3", UNIX_EPOCH)?;
        let mut archive = tar::Archive::new(&*archive);
        let mut found = Vec::new();
        for entry in archive.entries()? {
            let mut entry = entry?;
            let mut text = String::new();
            std::io::Read::read_to_string(&mut entry, &mut text)?;
            found.push((entry.path()?.display().to_string(), text));
        }
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[1], ("quay-gateway-support/a.txt".to_owned(), "12345".to_owned()));
        for text in ["1.2.3", "1970-01-01T00:00:00Z", "5 bytes  the first", "missing: no gateway"] {
            assert!(found[0].1.contains(text), "{text}: {}", found[0].1);
        }
        Ok(())
    }

    #[test]
    fn a_file_that_exists_is_not_replaced() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("x.tar");
        write(&path, b"first")?;
        assert!(write(&path, b"second").is_err());
        assert_eq!(std::fs::read(&path)?, b"first");
        assert_eq!(std::fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
        Ok(())
    }
}
