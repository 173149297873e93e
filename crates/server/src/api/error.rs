//! Answers that refuse: a status and a JSON object with `error`, a word for programs, and `reason`,
//! a sentence for people.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::store::StoreError;

/// Why a request was refused.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    code: &'static str,
    reason: String,
    retry_after: Option<u64>,
    allow: Option<&'static str>,
    /// For how long a lock is still held.
    remaining: Option<Duration>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, reason: impl Into<String>) -> Self {
        Self {
            status,
            code,
            reason: reason.into(),
            retry_after: None,
            allow: None,
            remaining: None,
        }
    }

    pub(crate) fn bad(code: &'static str, reason: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, reason)
    }

    pub(crate) fn no_path() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "no_such_path",
            "the API has no such path",
        )
    }

    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "there is no such entry")
    }

    pub(crate) fn method(allow: &'static str) -> Self {
        Self {
            allow: Some(allow),
            ..Self::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                format!("this path takes {allow}"),
            )
        }
    }

    /// Somebody else holds the lock, for so long unless the lease is renewed.
    pub(crate) fn held(remaining: Option<Duration>) -> Self {
        Self {
            remaining,
            ..Self::new(StatusCode::CONFLICT, "held", "somebody else holds the lock")
        }
    }

    pub(crate) fn too_large(reason: String) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", reason)
    }

    pub(crate) fn too_many(code: &'static str, reason: &str, after: Duration) -> Self {
        Self {
            retry_after: Some(whole_seconds(after).max(1)),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, code, reason)
        }
    }

    pub(crate) fn unavailable(code: &'static str, reason: impl Into<String>) -> Self {
        Self {
            retry_after: Some(1),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, reason)
        }
    }
}

/// Milliseconds, a begun one counted whole.
pub(crate) fn whole_milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Seconds, a begun one counted whole.
pub(crate) fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        // What exactly failed is for the operator's log, not for clients.
        tracing::warn!(%error, "the store could not serve a request");
        match error {
            StoreError::Unavailable(_) => {
                Self::unavailable("store_unavailable", "the store cannot serve at the moment")
            }
            StoreError::Full(_) => Self::unavailable("store_full", "the store's disk is full"),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = serde_json::json!({ "error": self.code, "reason": self.reason });
        if let Some(remaining) = self.remaining {
            body["remaining_ms"] = whole_milliseconds(remaining).into();
        }
        let mut response = json(self.status, &body);
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, body: &serde_json::Value) -> Response {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, JSON)], body.to_string()).into_response()
}
