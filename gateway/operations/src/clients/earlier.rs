//! Entries of other files for the same registry, which a new drop-in replaces.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::{ClientFile, RegistryName};

/// The folder of drop-ins, and the file before them, below the folder that is written to.
const DROP_INS: &str = "etc/containers/registries.conf.d";
const FIRST: &str = "etc/containers/registries.conf";

/// The most files that are looked at, and the most bytes of each.
const FILES_MAX: usize = 256;
const FILE_MAX: u64 = 1 << 20;

/// The files below `dir` that have an entry with the prefix `registry`, and are not among `new`.
#[must_use]
pub fn earlier_entries(dir: &Path, new: &[ClientFile], registry: &RegistryName) -> Vec<PathBuf> {
    let is_new = |path: &PathBuf| new.iter().any(|file| dir.join(file.path.trim_start_matches('/')) == *path);
    let drop_ins = fs::read_dir(dir.join(DROP_INS)).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<_> =
        drop_ins.filter(|path| path.extension().is_some_and(|end| end == "conf")).take(FILES_MAX).collect();
    files.push(dir.join(FIRST));
    files.retain(|path| path.is_file() && !is_new(path) && has_entry(path, registry));
    files.sort();
    files
}

fn has_entry(path: &Path, registry: &RegistryName) -> bool {
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|file| file.take(FILE_MAX).read_to_string(&mut text));
    // A file that cannot be read is none of ours.
    read.is_ok() && names(&text, registry)
}

/// Whether a file in TOML has an entry for the registry: `prefix` counts, or `location` if there is none
/// (containers-registries.conf(5)). A mirror's `location` is not told apart: to name a file too many does no harm.
fn names(text: &str, registry: &RegistryName) -> bool {
    text.lines().filter_map(|line| line.split_once('=')).any(|(key, value)| {
        let value = value.split('#').next().unwrap_or_default().trim().trim_matches(['"', '\'']);
        matches!(key.trim(), "prefix" | "location") && value == registry.as_str()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_files_with_an_entry_for_the_registry_are_found() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(dir.path().join(DROP_INS)).expect("made");
        let registry: RegistryName = "quay.example.com".parse().expect("a name");
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("written");
        write(FIRST, "[[registry]]\nlocation = 'quay.example.com' # ours\n");
        for (name, text) in [
            ("010-mirror.conf", "[[registry]]\n  prefix=\"quay.example.com\"\nblocked = true\n"),
            ("020-other.conf", "[[registry]]\nprefix = \"quay.example.com/team\"\n"),
            ("999-quay-gateway.conf", "[[registry]]\nprefix = \"quay.example.com\"\n"),
            ("notes.txt", "prefix = \"quay.example.com\"\n"),
        ] {
            write(&format!("{DROP_INS}/{name}"), text);
        }
        let new = [ClientFile { path: format!("/{DROP_INS}/999-quay-gateway.conf"), text: String::new() }];
        let found = earlier_entries(dir.path(), &new, &registry);
        let expected = [dir.path().join(FIRST), dir.path().join(DROP_INS).join("010-mirror.conf")];
        assert_eq!(found, expected);
        assert!(earlier_entries(&dir.path().join("none"), &new, &registry).is_empty());
    }
}
