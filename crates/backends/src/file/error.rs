//! What the operating system's errors mean for a caller.

use std::io;
use std::path::Path;

use crate::error::{BackendError, ErrorKind};

/// The failure of `operation` on the store in `directory`.
pub(super) fn failed(operation: &'static str, directory: &Path, error: io::Error) -> BackendError {
    let (kind, remedy) = meaning(&error);
    let place = directory.display();
    BackendError::new(kind, operation, format!("{place}: {error}{remedy}")).with_source(error)
}

fn meaning(error: &io::Error) -> (ErrorKind, &'static str) {
    use ErrorKind::{Permanent, Timeout, Transient, Unknown};
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => (Transient, "; free some room, or lower max_size_mb"),
        Some(libc::EFBIG) => (
            Transient,
            "; the process may not write files of this size (RLIMIT_FSIZE), or the file system cannot hold them",
        ),
        Some(libc::EROFS) => (Permanent, "; name a directory that can be written to"),
        Some(libc::EACCES | libc::EPERM) => (
            Permanent,
            "; the directory must belong to the user that runs the process",
        ),
        Some(libc::ENOTDIR) => (Permanent, "; name a directory, or what is to become one"),
        Some(libc::ELOOP | libc::ENAMETOOLONG | libc::EINVAL) => (Permanent, ""),
        Some(libc::ETIMEDOUT) => (Timeout, ""),
        Some(
            libc::EMFILE
            | libc::ENFILE
            | libc::ENOMEM
            | libc::EINTR
            | libc::EAGAIN
            | libc::EIO
            | libc::ENOENT
            | libc::ESTALE,
        ) => (Transient, ""),
        _ if error.kind() == io::ErrorKind::TimedOut => (Timeout, ""),
        _ if matches!(
            error.kind(),
            io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
        ) =>
        {
            (Permanent, "")
        }
        _ => (Unknown, ""),
    }
}

/// The index contradicts itself where nobody is changing it.
pub(super) fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the index does not verify")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_have_their_kinds() {
        let kind = |code| failed("set", Path::new("/d"), io::Error::from_raw_os_error(code)).kind();
        assert_eq!(kind(libc::ENOSPC), ErrorKind::Transient);
        assert_eq!(kind(libc::EDQUOT), ErrorKind::Transient);
        assert_eq!(kind(libc::EROFS), ErrorKind::Permanent);
        assert_eq!(kind(libc::ELOOP), ErrorKind::Permanent);
        assert_eq!(kind(libc::EACCES), ErrorKind::Permanent);
        assert_eq!(kind(libc::ETIMEDOUT), ErrorKind::Timeout);
        assert_eq!(kind(libc::EMFILE), ErrorKind::Transient);
        assert_eq!(kind(libc::EXDEV), ErrorKind::Unknown);
    }

    #[test]
    fn messages_name_the_directory_and_the_remedy() {
        for (code, remedy) in [
            (libc::ENOSPC, "max_size_mb"),
            (libc::ENOTDIR, "name a directory"),
        ] {
            let error = failed("set", Path::new("/d"), io::Error::from_raw_os_error(code));
            let shown = error.to_string();
            assert!(shown.contains("/d") && shown.contains(remedy), "{shown}");
        }
    }
}
