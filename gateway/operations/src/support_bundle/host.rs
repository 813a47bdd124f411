//! Facts about the machine: its kernel, the limits of this process and of its container, and the disks.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use bytesize::ByteSize;

/// The most bytes that are read of one file below `/proc`, `/sys` and `/etc`.
const FILE_MAX: u64 = 64 * 1024;

/// Files of a control group (version 2), in its folder.
const CGROUP_FILES: [&str; 7] =
    ["memory.max", "memory.high", "memory.current", "memory.events", "cpu.max", "cpu.stat", "pids.max"];

/// The facts, one paragraph for each kind.
pub(super) fn facts(folders: &[(&str, &Path)]) -> String {
    let mut text = String::new();
    for (title, path) in [
        ("host name", "/proc/sys/kernel/hostname"),
        ("kernel", "/proc/version"),
        ("distribution", "/etc/os-release"),
        ("load", "/proc/loadavg"),
        ("limits of this command", "/proc/self/limits"),
        ("control group of this command", "/proc/self/cgroup"),
    ] {
        add(&mut text, title, &read(Path::new(path)));
    }
    let memory = read(Path::new("/proc/meminfo"));
    add(&mut text, "memory", &memory.lines().take(5).collect::<Vec<_>>().join("\n"));
    for (file, contents) in cgroup() {
        add(&mut text, &file, &contents);
    }
    for (key, folder) in folders {
        add(&mut text, &format!("disk of {key}, {}", folder.display()), &disk(folder));
    }
    text
}

fn add(text: &mut String, title: &str, contents: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "## {title}\n{}\n", contents.trim_end());
}

/// The beginning of a file, or why there is none.
fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut bytes)) {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("cannot be read: {error}"),
    }
}

/// The limits of the control group of this process.
fn cgroup() -> Vec<(String, String)> {
    let groups = read(Path::new("/proc/self/cgroup"));
    let Some(group) = groups.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return vec![("control group".to_owned(), "not of version 2".to_owned())];
    };
    // A container sees its own group as the root.
    let folder = Path::new("/sys/fs/cgroup").join(group);
    let files = CGROUP_FILES.iter().map(|file| folder.join(file));
    files.map(|file| (file.display().to_string(), read(&file))).collect()
}

fn disk(folder: &Path) -> String {
    match rustix::fs::statvfs(folder) {
        Ok(disk) => format!(
            "{} free of {}; {} free inodes of {}",
            ByteSize(disk.f_bavail.saturating_mul(disk.f_frsize)),
            ByteSize(disk.f_blocks.saturating_mul(disk.f_frsize)),
            disk.f_favail,
            disk.f_files
        ),
        Err(error) => format!("cannot be read: {error}"),
    }
}
