//! Locks: one holder per key, for a lease.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Asked;
use super::error::{ApiError, json, whole_milliseconds};
use super::params::{self, LOCK_ID};
use crate::keys::random_digits;
use crate::store::{Holder, Lock};

/// Takes the lock for `timeout_ms`. Who sends the id of a lock it holds extends the lease.
pub(super) async fn lock(mut asked: Asked<'_>, key: &str) -> Result<Response, ApiError> {
    let object = params::json(&mut asked).await?;
    let most = asked.app.config.max_lock;
    let lease = object
        .get("timeout_ms")
        .and_then(serde_json::Value::as_u64)
        .map(Duration::from_millis)
        .filter(|lease| !lease.is_zero() && *lease <= most)
        .ok_or_else(|| {
            let most = most.as_millis();
            ApiError::bad(
                "bad_timeout",
                format!("timeout_ms must be a whole number of milliseconds from 1 to {most}"),
            )
        })?;
    let (store, place) = (&asked.app.store, asked.place(key));
    if let Some(id) = id(&asked)? {
        return if store.renew(&place, &id, lease).await? {
            Ok(json(StatusCode::OK, &json!({ "lock_id": id })))
        } else {
            let left = store.watch_lock(&place, Duration::ZERO).await?;
            Err(ApiError::held(left))
        };
    }
    let id = random_digits(32).map_err(|error| ApiError::unavailable("no_random", error))?;
    match store.lock(&place, &id, lease).await? {
        Lock::Acquired => Ok(json(StatusCode::OK, &json!({ "lock_id": id }))),
        Lock::Held(left) => Err(ApiError::held(Some(left))),
        Lock::TooMany => Err(ApiError::too_many(
            "too_many_locks",
            "the tenant holds as many locks as it may",
            Duration::from_secs(1),
        )),
    }
}

/// Whether the lock is held, and for how long unless its lease is renewed. With `?wait_ms=` the answer
/// comes when it is free, or after that time.
pub(super) async fn watch(asked: Asked<'_>, key: &str) -> Result<Response, ApiError> {
    let wait = match params::query(&asked, "wait_ms") {
        None => Some(0),
        Some(text) => params::whole(text),
    };
    let wait = wait.map(Duration::from_millis).ok_or_else(|| {
        ApiError::bad("bad_wait", "wait_ms must be a whole number of milliseconds")
    })?;
    let (store, place) = (&asked.app.store, asked.place(key));
    Ok(match store.watch_lock(&place, wait.min(MAX_WAIT)).await? {
        None => json(StatusCode::OK, &json!({ "held": false })),
        Some(left) => {
            let left = whole_milliseconds(left);
            json(
                StatusCode::OK,
                &json!({ "held": true, "remaining_ms": left }),
            )
        }
    })
}

/// The longest that one request waits for a lock.
const MAX_WAIT: Duration = Duration::from_secs(5);

pub(super) async fn unlock(asked: Asked<'_>, key: &str) -> Result<Response, ApiError> {
    let (store, place) = (&asked.app.store, asked.place(key));
    let released = match holder(&asked)? {
        Some(Holder::Id(id)) => store.unlock(&place, &id).await?,
        Some(Holder::Anybody) => store.end_lock(&place).await?,
        None => {
            return Err(ApiError::bad(
                "no_lock_id",
                "name the lock's id in the header X-CacheKit-Lock-Id or as ?lock_id=",
            ));
        }
    };
    if released {
        Ok(StatusCode::OK.into_response())
    } else {
        Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "not_held",
            "the lock is not held under this id",
        ))
    }
}

/// Stands for whoever holds a lock.
const ANYBODY: &str = "*";

/// Whose lock a request means: by the header `X-CacheKit-Lock-Id`, else by the query. An id has 32
/// hexadecimal digits.
pub(super) fn holder(asked: &Asked<'_>) -> Result<Option<Holder>, ApiError> {
    let named = params::text(&asked.headers, &LOCK_ID)?;
    match named.or_else(|| params::query(asked, "lock_id")) {
        None => Ok(None),
        Some(ANYBODY) => Ok(Some(Holder::Anybody)),
        Some(id) if id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Ok(Some(Holder::Id(id.to_owned())))
        }
        Some(_) => Err(bad_id()),
    }
}

/// The holder's id, where a request is one that only a holder makes.
pub(super) fn id(asked: &Asked<'_>) -> Result<Option<String>, ApiError> {
    match holder(asked)? {
        None => Ok(None),
        Some(Holder::Id(id)) => Ok(Some(id)),
        Some(Holder::Anybody) => Err(bad_id()),
    }
}

/// The holder as a header shows it.
pub(super) fn shown(holder: Holder) -> String {
    match holder {
        Holder::Id(id) => id,
        Holder::Anybody => ANYBODY.to_owned(),
    }
}

pub(super) fn bad_id() -> ApiError {
    ApiError::bad(
        "bad_lock_id",
        "a lock's id has 32 hexadecimal digits; * stands for any holder's where a lock is to end",
    )
}
