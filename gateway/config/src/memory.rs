//! The default memory budget, for when `limits.memory` is not set.

use std::path::Path;

/// The budget if no cgroup has a limit, in bytes.
const WITHOUT_CGROUP: u64 = 512 * 1024 * 1024;

/// Cgroup version 1 represents "no limit" by the largest number of whole pages. A value from here on is not
/// a limit.
const NO_LIMIT: u64 = 1 << 62;

/// Half of the lowest memory limit of the process's cgroups and their parents, or 512 MiB if there is none.
/// `root` is the root of the file system, which tests replace.
pub(super) fn default_budget(root: &Path) -> u64 {
    cgroup_limit(root).map_or(WITHOUT_CGROUP, |limit| limit / 2)
}

/// The lowest limit, from cgroup version 2 (`Documentation/admin-guide/cgroup-v2.rst`, `memory.max`) or version 1
/// (`cgroup-v1/memory.rst`, `memory.limit_in_bytes`).
fn cgroup_limit(root: &Path) -> Option<u64> {
    let own = std::fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    own.lines()
        .filter_map(hierarchy)
        .filter_map(|(mount, file, path)| lowest(&root.join(mount), file, path))
        .min()
}

/// The mount, the file and the path for a line of `/proc/self/cgroup`: `0::PATH` or `N:memory:PATH`. `None` for
/// a hierarchy without memory limits.
fn hierarchy(line: &str) -> Option<(&'static str, &'static str, &str)> {
    let mut parts = line.splitn(3, ':');
    let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    match controllers {
        "" if number == "0" => Some(("sys/fs/cgroup", "memory.max", path)),
        _ if controllers.split(',').any(|controller| controller == "memory") => {
            Some(("sys/fs/cgroup/memory", "memory.limit_in_bytes", path))
        }
        _ => None,
    }
}

/// The lowest limit from `path` up to the mount itself. In a container, the mount may be the container's own
/// while `path` is the host's, so files that do not exist are skipped.
fn lowest(mount: &Path, file: &str, path: &str) -> Option<u64> {
    let own = Path::new(path.trim_start_matches('/'));
    let limits = own.ancestors().filter_map(|cgroup| {
        let text = std::fs::read_to_string(mount.join(cgroup).join(file)).ok()?;
        text.trim().parse().ok().filter(|limit| *limit < NO_LIMIT)
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(files: &[(&str, &str)]) -> u64 {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        default_budget(root.path())
    }

    #[test]
    fn half_of_the_tightest_cgroup() {
        assert_eq!(budget(&[]), WITHOUT_CGROUP);
        let own = ("proc/self/cgroup", "0::/kubepods/pod1/c1\n");
        assert_eq!(budget(&[own, ("sys/fs/cgroup/kubepods/pod1/c1/memory.max", "max\n")]), WITHOUT_CGROUP);
        let pod = ("sys/fs/cgroup/kubepods/pod1/memory.max", "1000000\n");
        assert_eq!(budget(&[own, pod, ("sys/fs/cgroup/kubepods/memory.max", "9000000\n")]), 500_000);
        // The container sees its own cgroup as the root.
        assert_eq!(budget(&[own, ("sys/fs/cgroup/memory.max", "2000\n")]), 1000);
        let own = ("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/c1\n0::/\n");
        let limit = ("sys/fs/cgroup/memory/docker/c1/memory.limit_in_bytes", "4000\n");
        let top = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(budget(&[own, limit, top]), 2000);
        assert_eq!(budget(&[own, top]), WITHOUT_CGROUP);
    }
}
