//! Locks: one holder per key, for a lease.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Asked;
use super::error::{ApiError, json};
use super::params::{self, LOCK_ID};
use crate::keys::random_digits;
use crate::store::Lock;

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
    if let Some(id) = held_id(&asked)? {
        return if store.renew(&place, &id, lease).await? {
            Ok(json(StatusCode::OK, &json!({ "lock_id": id })))
        } else {
            Err(held())
        };
    }
    let id = random_digits(32).map_err(|error| ApiError::unavailable("no_random", error))?;
    match store.lock(&place, &id, lease).await? {
        Lock::Acquired => Ok(json(StatusCode::OK, &json!({ "lock_id": id }))),
        Lock::Held => Err(held()),
        Lock::TooMany => Err(ApiError::too_many(
            "too_many_locks",
            "the tenant holds as many locks as it may",
            Duration::from_secs(1),
        )),
    }
}

fn held() -> ApiError {
    ApiError::new(StatusCode::CONFLICT, "held", "somebody else holds the lock")
}

pub(super) async fn unlock(asked: Asked<'_>, key: &str) -> Result<Response, ApiError> {
    let id = held_id(&asked)?.ok_or_else(|| {
        ApiError::bad(
            "no_lock_id",
            "name the lock's id in the header X-CacheKit-Lock-Id or as ?lock_id=",
        )
    })?;
    if asked.app.store.unlock(&asked.place(key), &id).await? {
        Ok(StatusCode::OK.into_response())
    } else {
        Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "not_held",
            "the lock is not held under this id",
        ))
    }
}

/// The lock id in the header, else in the query. Ids are 32 hexadecimal digits.
fn held_id(asked: &Asked<'_>) -> Result<Option<String>, ApiError> {
    let query = || {
        let pairs = asked.query.as_deref()?.split('&');
        pairs
            .filter_map(|pair| pair.strip_prefix("lock_id="))
            .next()
    };
    let Some(id) = params::text(&asked.headers, &LOCK_ID)?.or_else(query) else {
        return Ok(None);
    };
    if id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(Some(id.to_owned()));
    }
    Err(ApiError::bad(
        "bad_lock_id",
        "a lock's id has 32 hexadecimal digits",
    ))
}
