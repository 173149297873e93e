//! Entries: reading, writing, removing, and their lives.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::error::{ApiError, json, whole_seconds};
use super::locks;
use super::params::{self, FRESHNESS, LOCK_ID, TTL};
use super::{Asked, body};
use crate::http::Exchange;
use crate::store::{Facts, Holder, Life, Put};

/// What is told of an entry along with it. `X-CacheKit-TTL` is the rest of its fresh life, so that
/// a reader who wants to know needs no second request.
fn facts_headers(facts: &Facts) -> [(header::HeaderName, HeaderValue); 4] {
    let freshness = if facts.is_stale() { "stale" } else { "fresh" };
    [
        (FRESHNESS, HeaderValue::from_static(freshness)),
        (TTL, whole_seconds(facts.fresh_for).into()),
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ]
}

pub(super) async fn get(
    asked: Asked<'_>,
    key: &str,
    exchange: Exchange,
) -> Result<Response, ApiError> {
    let app = asked.app;
    let place = asked.place(key);
    // Room is taken before the value is in memory, where the store knows how much.
    let expected = app.store.size_hint(&place);
    let mut share = body::room(app, expected).await?;
    let found = app.store.get(&place).await?;
    let (facts, value) = found.ok_or_else(ApiError::not_found)?;
    if value.len() > expected {
        share.join(body::room_now(app, value.len() - expected)?);
    }
    let body = body::outgoing(app, value, share, exchange);
    Ok((facts_headers(&facts), body).into_response())
}

pub(super) async fn head(asked: Asked<'_>, key: &str) -> Result<Response, ApiError> {
    let found = asked.app.store.facts(&asked.place(key)).await?;
    let facts = found.ok_or_else(ApiError::not_found)?;
    let length = [(header::CONTENT_LENGTH, HeaderValue::from(facts.size))];
    Ok((facts_headers(&facts), length).into_response())
}

/// Stores an entry. Under a lock's id it does so only while that lock is held, and releases it; with
/// `X-CacheKit-Lock-Id: *` the lock ends, whoever holds it. The answer confirms either by the header.
pub(super) async fn put(asked: Asked<'_>, key: &str) -> Result<Response, ApiError> {
    let app = asked.app;
    params::content_type(&asked.headers, &[])?;
    let holder = locks::holder(&asked)?;
    let life = Life {
        fresh: params::ttl(&asked.headers)?.unwrap_or(asked.tenant.limits.default_ttl),
        stale: params::stale_ttl(&asked.headers)?,
    };
    let most = app.config.max_value.as_usize();
    // The room is held until the store has the value.
    let (value, _room) = body::read(app, &asked.headers, asked.body, most).await?;
    let place = asked.place(key);
    match app
        .store
        .put(&place, value, life, asked.tenant.quota, holder.as_ref())
        .await?
    {
        Put::Stored => {
            let holder = holder.map(|holder| [(LOCK_ID, locks::shown(holder))]);
            Ok((holder, StatusCode::OK).into_response())
        }
        Put::NotHeld => Err(ApiError::new(
            StatusCode::CONFLICT,
            "not_held",
            "the lock is not held under this id any more; nothing was stored",
        )),
        Put::TooLarge => Err(ApiError::too_large(
            "the entry is larger than the tenant's quota or the store".to_owned(),
        )),
        Put::OverQuota => Err(ApiError::too_many(
            "over_quota",
            "the tenant's quota is used up; delete entries or wait until some expire",
            QUOTA_RETRY,
        )),
    }
}

/// What clients without quota are told to wait.
const QUOTA_RETRY: Duration = Duration::from_secs(60);

/// Removes an entry. `X-CacheKit-Lock-Id: *` ends the lock with it, so that what its holder computes
/// is not stored.
pub(super) async fn delete(asked: Asked<'_>, key: &str) -> Result<Response, ApiError> {
    let lock = match locks::holder(&asked)? {
        None => false,
        Some(Holder::Anybody) => true,
        Some(Holder::Id(_)) => return Err(locks::bad_id()),
    };
    if asked.app.store.delete(&asked.place(key), lock).await? {
        Ok(StatusCode::OK.into_response())
    } else {
        Err(ApiError::not_found())
    }
}

/// The rest of the entry's fresh life in whole seconds, a begun one counted; 0 when it is stale.
pub(super) async fn ttl(asked: Asked<'_>, key: &str) -> Result<Response, ApiError> {
    let found = asked.app.store.facts(&asked.place(key)).await?;
    let facts = found.ok_or_else(ApiError::not_found)?;
    let seconds = whole_seconds(facts.fresh_for);
    Ok(json(StatusCode::OK, &json!({ "ttl": seconds })))
}

pub(super) async fn refresh(mut asked: Asked<'_>, key: &str) -> Result<Response, ApiError> {
    let fresh = params::json_ttl(&params::json(&mut asked).await?)?;
    if asked.app.store.expire(&asked.place(key), fresh).await? {
        Ok(json(StatusCode::OK, &json!({ "ttl": fresh.as_secs() })))
    } else {
        Err(ApiError::not_found())
    }
}
