//! Raises the limit of file descriptors to what the configured limits need.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use config::Limits;

/// File descriptors for the journal, listeners, logs, idle connections of zones, waiting clients, and the like.
const OTHERS: u64 = 768;

/// Raises the soft limit to the hard one. If that is too low, logs a warning.
pub(crate) fn raise(limits: &Limits) {
    let now = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: now.maximum, maximum: now.maximum };
    if now.current != now.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    let counts = [limits.connections, limits.registry_connections, limits.registry_permissions, limits.fills];
    let wanted = counts.iter().map(|count| *count as u64).sum::<u64>() + limits.open_files + OTHERS;
    if let Some(got) = getrlimit(Resource::Nofile).current.filter(|got| *got < wanted) {
        tracing::warn!(
            got,
            wanted,
            "fewer open files are allowed than the limits need: raise LimitNOFILE, or lower limits.connections"
        );
    }
}
