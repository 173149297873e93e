//! What a backend reports when an operation fails.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// Result of a backend operation.
pub type Result<T> = std::result::Result<T, BackendError>;

/// What a failure means for the caller: whether to try again, to wait, or to give up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The store is unreachable, busy, full or changing leaders; the same request may succeed later.
    Transient,
    /// No answer came within the operation's time.
    Timeout,
    /// The store refused the credentials or their permissions.
    Authentication,
    /// The request can never succeed as it is: bad configuration, bad arguments, wrong type of key.
    Permanent,
    /// The failure fits no other kind.
    Unknown,
}

impl ErrorKind {
    /// The kind's name in lower case, as it appears in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Timeout => "timeout",
            Self::Authentication => "authentication",
            Self::Permanent => "permanent",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failed backend operation: what was tried, what went wrong and what may help, in one line.
///
/// Neither `Display` nor `Debug` ever shows a password: a URL that is part of a message has its
/// user information replaced when the error is built.
#[derive(Clone)]
pub struct BackendError {
    kind: ErrorKind,
    operation: &'static str,
    message: Box<str>,
    source: Option<Arc<dyn Error + Send + Sync>>,
    uncounted: bool,
}

impl BackendError {
    /// An error of `kind` in `operation` ("get", "connect", …); `message` is one line.
    #[must_use]
    pub fn new(kind: ErrorKind, operation: &'static str, message: impl AsRef<str>) -> Self {
        Self {
            kind,
            operation,
            message: one_line(&scrub(message.as_ref())).into(),
            source: None,
            uncounted: false,
        }
    }

    /// The same error, of which circuit breakers take no notice.
    #[must_use]
    pub fn uncounted(mut self) -> Self {
        self.uncounted = true;
        self
    }

    /// Whether circuit breakers take no notice of it.
    #[must_use]
    pub fn is_uncounted(&self) -> bool {
        self.uncounted
    }

    /// The same error with the error that caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The same error under another operation's name.
    #[must_use]
    pub fn with_operation(mut self, operation: &'static str) -> Self {
        self.operation = operation;
        self
    }

    /// What the failure means for the caller.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The operation that failed: "get", "set", "connect", "configure", ….
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// The message without the operation.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.message)
    }
}

impl fmt::Debug for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("BackendError");
        out.field("kind", &self.kind)
            .field("operation", &self.operation)
            .field("message", &self.message);
        if let Some(source) = &self.source {
            out.field("source", &scrub(&source.to_string()));
        }
        out.finish()
    }
}

impl Error for BackendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// The text with the user information of every URL in it (`//user:password@`) replaced by `***`.
#[must_use]
pub fn scrub(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("://") {
        let (before, after) = rest.split_at(start + 3);
        out.push_str(before);
        // A password may hold '/', '?' or '#' unescaped in a URL that somebody mistyped, so that
        // the last '@' of the word ends the user information.
        let word = after
            .find(|c: char| c.is_whitespace() || matches!(c, '"' | '\''))
            .unwrap_or(after.len());
        rest = match after[..word].rfind('@') {
            Some(at) => {
                out.push_str("***");
                &after[at..]
            }
            None => after,
        };
    }
    out.push_str(rest);
    out
}

fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_never_show() {
        let error = BackendError::new(
            ErrorKind::Permanent,
            "configure",
            "bad URL redis://user:hunter2@host:1/0 and rediss://:hun/ter2@h",
        );
        let shown = format!("{error} {error:?}");
        assert!(
            !shown.contains("hunter2") && !shown.contains("ter2"),
            "{shown}"
        );
        assert!(shown.contains("redis://***@host:1/0"), "{shown}");
    }

    #[test]
    fn messages_are_one_line() {
        let error = BackendError::new(ErrorKind::Unknown, "get", "a\r\nb");
        assert_eq!(error.to_string(), "get: a  b");
    }

    #[test]
    fn the_cause_is_chained_and_scrubbed() {
        let cause = std::io::Error::other("redis://:secret@h refused");
        let error =
            BackendError::new(ErrorKind::Transient, "get", "no connection").with_source(cause);
        assert!(error.source().is_some());
        assert!(!format!("{error:?}").contains("secret"));
    }

    #[test]
    fn text_without_urls_is_kept() {
        assert_eq!(scrub("a@b ://"), "a@b ://");
        assert_eq!(scrub("unix:///run/r.sock?x=1"), "unix:///run/r.sock?x=1");
    }
}
