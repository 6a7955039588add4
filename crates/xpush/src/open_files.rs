//! Each connection is an open file.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the limit on open files to what the system allows (shells often start programs with 1,024) and returns it; `None`: no limit.
pub(crate) fn raise_limit() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    let allowed = limit.maximum;
    if limit.current != allowed {
        let before = limit.current;
        limit.current = allowed;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit on open files could not be raised");
            return before;
        }
    }
    allowed
}
