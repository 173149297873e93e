//! What the refusals of a memcached server mean.

use crate::error::{BackendError, ErrorKind};

/// The error of an error line.
pub(super) fn refused(operation: &'static str, line: &str) -> BackendError {
    let (kind, remedy) = meaning(line);
    let gap = if remedy.is_empty() { "" } else { "; " };
    BackendError::new(
        kind,
        operation,
        format!("the server refused: {line}{gap}{remedy}"),
    )
}

/// The error of a reply that is none to this request.
pub(super) fn unexpected(operation: &'static str) -> BackendError {
    BackendError::new(
        ErrorKind::Transient,
        operation,
        "the server answered something else than was asked",
    )
}

/// Whether the server has read the whole request that it refuses, so that the next reply is one to
/// the next request.
pub(super) fn is_in_step(line: &str) -> bool {
    line == TOO_LARGE || line == NO_MEMORY
}

const TOO_LARGE: &str = "SERVER_ERROR object too large for cache";
const NO_MEMORY: &str = "SERVER_ERROR out of memory storing object";

fn meaning(line: &str) -> (ErrorKind, &'static str) {
    use ErrorKind::{Authentication, Permanent, Transient};
    match line {
        TOO_LARGE => (
            Permanent,
            "raise the server's item size limit (-I), or lower max_item_size_bytes below it",
        ),
        NO_MEMORY => (
            Transient,
            "give the server more memory (-m), and let it evict (no -M)",
        ),
        "CLIENT_ERROR unauthenticated" | "CLIENT_ERROR authentication failure" => (
            Authentication,
            "check the user and password of the URL, and the server's authentication file (-Y)",
        ),
        "ERROR Too many open connections" => (
            Transient,
            "raise the server's connection limit (-c), or lower max_pool_size",
        ),
        "ERROR" => (
            Permanent,
            "the meta protocol is needed, which memcached has from 1.6 on",
        ),
        _ if line.starts_with("SERVER_ERROR") => (Transient, ""),
        _ => (Permanent, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_kind() {
        use ErrorKind::{Authentication, Permanent, Transient};
        for (line, kind, in_step) in [
            ("SERVER_ERROR object too large for cache", Permanent, true),
            ("SERVER_ERROR out of memory storing object", Transient, true),
            (
                "SERVER_ERROR out of memory reading request",
                Transient,
                false,
            ),
            ("CLIENT_ERROR bad command line format", Permanent, false),
            ("CLIENT_ERROR bad data chunk", Permanent, false),
            ("CLIENT_ERROR unauthenticated", Authentication, false),
            ("CLIENT_ERROR authentication failure", Authentication, false),
            ("ERROR Too many open connections", Transient, false),
            ("ERROR", Permanent, false),
        ] {
            assert_eq!(refused("get", line).kind(), kind, "{line}");
            assert_eq!(is_in_step(line), in_step, "{line}");
        }
    }
}
