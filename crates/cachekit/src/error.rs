//! What can go wrong where the caller is told.

use std::fmt;

use cachekit_backends::BackendError;

use crate::store::Unavailable;

/// What an [`Error`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An option or an environment variable has a value that cannot be used.
    Configuration,
    /// The shared layer did not confirm.
    Unavailable,
    /// The value cannot be stored: it does not serialize, does not come back, or is too large.
    Value,
    /// The arguments have no key.
    Arguments,
}

/// An error of the cache: what was wrong, and what to do about it, in one line.
///
/// Computing through the cache never fails on its account: there are only the errors of the
/// caller's own function. This type is for what is asked of the cache itself: building it, storing,
/// forgetting.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}; {remedy}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    remedy: String,
    #[source]
    source: Option<BackendError>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl fmt::Display, remedy: &str) -> Self {
        Self {
            kind,
            message: message.to_string(),
            remedy: remedy.to_owned(),
            source: None,
        }
    }

    pub(crate) fn configuration(message: impl fmt::Display, remedy: &str) -> Self {
        Self::new(ErrorKind::Configuration, message, remedy)
    }

    pub(crate) fn unavailable(what: &str, cause: Unavailable, remedy: &str) -> Self {
        Self {
            source: match &cause {
                Unavailable::Failed(error) => Some(error.clone()),
                _ => None,
            },
            ..Self::new(ErrorKind::Unavailable, format!("{what}: {cause}"), remedy)
        }
    }

    pub(crate) fn caused_by(mut self, cause: BackendError) -> Self {
        self.source = Some(cause);
        self
    }

    /// What the error is about.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What was wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &str {
        &self.remedy
    }
}
