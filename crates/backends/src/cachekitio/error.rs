//! What the failures of the API mean.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};

use crate::error::{BackendError, ErrorKind};

/// A failed attempt.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) error: BackendError,
    /// Whether it may be tried again.
    pub(super) again: Again,
    /// How long the server asks to be left alone.
    pub(super) pause: Option<Duration>,
}

/// When a failed attempt may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// Never: the answer would be the same.
    Never,
    /// Whatever was asked, as the server has not done it.
    Undone,
    /// Only what may be done twice, as the server may have done it.
    Harmless,
}

impl Failure {
    pub(super) fn permanent(error: BackendError) -> Self {
        Self {
            error,
            again: Again::Never,
            pause: None,
        }
    }

    pub(super) fn unsent(error: BackendError) -> Self {
        Self {
            again: Again::Undone,
            ..Self::permanent(error)
        }
    }

    /// The answer to a request that the server may have acted on never came, or not all of it.
    pub(super) fn unanswered(error: BackendError) -> Self {
        Self {
            again: Again::Harmless,
            ..Self::permanent(error)
        }
    }
}

/// The failure that an answer reports. `reason` is the server's own, fit to be shown.
///
/// | status | kind | tried again |
/// |---|---|---|
/// | 401, 403 | authentication | no |
/// | 408 | timeout | no |
/// | 429 | transient | after `Retry-After`, within the call's time |
/// | other 4xx (400, 413, …) | permanent | no |
/// | 5xx | transient | yes; 503 after `Retry-After` |
/// | 3xx and what HTTP knows no meaning for | permanent | no: redirections are never followed |
pub(super) fn refused(
    operation: &'static str,
    status: StatusCode,
    headers: &HeaderMap,
    reason: &str,
) -> Failure {
    use ErrorKind::{Authentication, Permanent, Timeout, Transient};
    let (kind, again, remedy) = match status.as_u16() {
        401 => (Authentication, Again::Never, "; check CACHEKIT_API_KEY"),
        403 => (
            Authentication,
            Again::Never,
            "; this API key may not do that",
        ),
        408 => (Timeout, Again::Never, ""),
        413 => (
            Permanent,
            Again::Never,
            "; the value is larger than the service stores",
        ),
        429 => (Transient, Again::Undone, ""),
        500..=599 => (Transient, Again::Harmless, ""),
        300..=399 => (
            Permanent,
            Again::Never,
            "; redirections are not followed, check CACHEKIT_API_URL",
        ),
        404 | 405 => (
            Permanent,
            Again::Never,
            "; there is no such API, check CACHEKIT_API_URL",
        ),
        _ => (Permanent, Again::Never, ""),
    };
    let gap = if reason.is_empty() { "" } else { ": " };
    let message = format!("the API answered {status}{gap}{reason}{remedy}");
    Failure {
        error: BackendError::new(kind, operation, message),
        again,
        pause: matches!(status.as_u16(), 429 | 503)
            .then(|| retry_after(headers))
            .flatten(),
    }
}

/// The pause that a `Retry-After` header asks for, in seconds or until a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    Some(until.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, retry_after: Option<&str>) -> Failure {
        let mut headers = HeaderMap::new();
        if let Some(text) = retry_after {
            headers.insert(header::RETRY_AFTER, text.parse().expect("a header"));
        }
        let status = StatusCode::from_u16(status).expect("a status");
        refused("get", status, &headers, "why")
    }

    #[test]
    fn every_status_has_its_kind() {
        use ErrorKind::{Authentication, Permanent, Timeout, Transient};
        for (status, kind, again) in [
            (204, Permanent, Again::Never),
            (301, Permanent, Again::Never),
            (307, Permanent, Again::Never),
            (400, Permanent, Again::Never),
            (401, Authentication, Again::Never),
            (403, Authentication, Again::Never),
            (404, Permanent, Again::Never),
            (408, Timeout, Again::Never),
            (409, Permanent, Again::Never),
            (413, Permanent, Again::Never),
            (418, Permanent, Again::Never),
            (429, Transient, Again::Undone),
            (500, Transient, Again::Harmless),
            (502, Transient, Again::Harmless),
            (503, Transient, Again::Harmless),
            (504, Transient, Again::Harmless),
            (599, Transient, Again::Harmless),
        ] {
            let failure = of(status, None);
            assert_eq!(
                (failure.error.kind(), failure.again),
                (kind, again),
                "{status}"
            );
            assert!(failure.error.message().contains("why"), "{}", failure.error);
        }
    }

    #[test]
    fn the_pause_is_in_seconds_or_until_a_date() {
        let pause = |status, text| of(status, Some(text)).pause;
        assert_eq!(pause(429, "7"), Some(Duration::from_secs(7)));
        assert_eq!(pause(503, "0"), Some(Duration::ZERO));
        assert_eq!(
            pause(429, "Wed, 21 Oct 2015 07:28:00 GMT"),
            Some(Duration::ZERO)
        );
        let later = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        assert!(pause(429, &later).is_some_and(|pause| pause > Duration::from_secs(50)));
        for nonsense in ["-1", "soon", "", "1.5"] {
            assert_eq!(pause(429, nonsense), None, "{nonsense}");
        }
        assert_eq!(pause(500, "7"), None);
    }
}
