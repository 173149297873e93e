//! What the failures of a Redis server mean.

use super::reply::Refusal;
use crate::error::{BackendError, ErrorKind};

/// The error of an error reply.
pub(super) fn refused(operation: &'static str, refusal: &Refusal) -> BackendError {
    let Refusal { code, detail } = refusal;
    // What follows is the request: passwords, keys and values.
    let detail = detail.split(REQUEST).next().unwrap_or_default();
    let (kind, remedy) = meaning(code, detail);
    let gap = if remedy.is_empty() { "" } else { "; " };
    BackendError::new(
        kind,
        operation,
        format!("the server refused: {code} {detail}{gap}{remedy}"),
    )
}

/// Where a server that does not know a command begins to repeat what was sent.
const REQUEST: &str = ", with args beginning with";

fn meaning(code: &str, detail: &str) -> (ErrorKind, &'static str) {
    use ErrorKind::{Authentication, Permanent, Transient};
    const LOGIN: &str = "check the user and password of the URL";
    match code {
        "NOAUTH" | "WRONGPASS" => (Authentication, LOGIN),
        "NOPERM" => (
            Authentication,
            "grant this user the commands, keys and channels of the documented ACL",
        ),
        "DENIED" => (
            Authentication,
            "set a password on the server and in the URL",
        ),
        "OOM" => (
            Transient,
            "raise maxmemory, or let the server evict (maxmemory-policy allkeys-lfu)",
        ),
        "LOADING" | "READONLY" | "CLUSTERDOWN" | "TRYAGAIN" | "MASTERDOWN" | "MOVED" | "ASK"
        | "BUSY" | "NOREPLICAS" | "MISCONF" | "UNBLOCKED" => (Transient, ""),
        "ERR" if detail.contains("AUTH") || detail.contains("invalid password") => {
            (Authentication, LOGIN)
        }
        "ERR" if detail.starts_with("max number of clients") => (
            Transient,
            "raise maxclients on the server, or lower the connection pool size",
        ),
        "WRONGTYPE" => (
            Permanent,
            "another program uses this key; choose another namespace",
        ),
        _ => (Permanent, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_not_repeated() {
        let line = "ERR unknown command 'AUTH', with args beginning with: 'bob' 'hunter2' ";
        let error = refused("connect", &Refusal::parse(line));
        assert_eq!(error.kind(), ErrorKind::Authentication);
        let shown = error.to_string();
        assert!(
            shown.contains("unknown command 'AUTH'") && !shown.contains("hunter2"),
            "{shown}"
        );
    }

    #[test]
    fn every_refusal_has_its_kind() {
        use ErrorKind::{Authentication, Permanent, Transient};
        for (line, kind) in [
            ("NOAUTH Authentication required.", Authentication),
            (
                "WRONGPASS invalid username-password pair or user is disabled.",
                Authentication,
            ),
            (
                "NOPERM this user has no permissions to run the 'get' command",
                Authentication,
            ),
            ("DENIED Redis is running in protected mode", Authentication),
            (
                "ERR AUTH <password> called without any password configured for the default user.",
                Authentication,
            ),
            ("LOADING Redis is loading the dataset in memory", Transient),
            (
                "READONLY You can't write against a read only replica.",
                Transient,
            ),
            ("CLUSTERDOWN Hash slot not served", Transient),
            (
                "TRYAGAIN Multiple keys request during rehashing of slot",
                Transient,
            ),
            ("MASTERDOWN Link with MASTER is down", Transient),
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                Transient,
            ),
            (
                "MISCONF Redis is configured to save RDB snapshots",
                Transient,
            ),
            ("BUSY Redis is busy running a script.", Transient),
            ("ERR max number of clients reached", Transient),
            (
                "WRONGTYPE Operation against a key holding the wrong kind of value",
                Permanent,
            ),
            ("ERR unknown command 'FOO'", Permanent),
        ] {
            assert_eq!(refused("get", &Refusal::parse(line)).kind(), kind, "{line}");
        }
    }
}
