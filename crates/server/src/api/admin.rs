//! Health and metrics.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use subtle::ConstantTimeEq;

use super::error::{ApiError, json};
use super::{App, bearer};
use crate::http::Peer;

/// Whether the process runs. True for as long as it answers.
pub(super) async fn healthz() -> Response {
    json(StatusCode::OK, &json!({ "status": "ok" }))
}

/// Whether requests should be sent here: not while draining, nor while the store cannot serve.
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let (status, word) = state(&app).await;
    json(status, &json!({ "status": word }))
}

/// The API's own health, for clients with a key.
pub(super) async fn health(app: &App) -> Response {
    let (status, word) = state(app).await;
    let body = json!({
        "status": word,
        "version": env!("CARGO_PKG_VERSION"),
        "store": app.store.name(),
    });
    json(status, &body)
}

async fn state(app: &App) -> (StatusCode, &'static str) {
    if app.draining.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining");
    }
    match app.store.check().await {
        Ok(()) => (StatusCode::OK, "ok"),
        Err(error) => {
            tracing::warn!(%error, "the store is not well");
            (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable")
        }
    }
}

/// The metrics, for those who know the token or, without one, ask from this machine.
pub(super) async fn guarded_metrics(State(app): State<Arc<App>>, request: Request) -> Response {
    let allowed = match &app.config.metrics_token {
        Some(token) => bearer(request.headers())
            .is_some_and(|given| given.as_bytes().ct_eq(token.expose().as_bytes()).into()),
        None => request
            .extensions()
            .get::<Arc<Peer>>()
            .is_some_and(|peer| peer.address.ip().to_canonical().is_loopback()),
    };
    if allowed {
        return metrics(State(app)).await;
    }
    let reason = "set metrics_token and send it as a bearer token, or use admin_listen";
    ApiError::new(StatusCode::FORBIDDEN, "forbidden", reason).into_response()
}

/// The metrics in Prometheus' text format.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let usage = app.store.usage();
    let text = app.metrics.text(&[
        ("entries", "gauge", "Entries stored.", usage.entries),
        (
            "stored_bytes",
            "gauge",
            "Bytes of entries, as quotas count them.",
            usage.bytes,
        ),
        (
            "disk_bytes",
            "gauge",
            "Bytes of the store's files.",
            usage.disk,
        ),
        ("locks", "gauge", "Locks held.", usage.locks),
        (
            "evicted_total",
            "counter",
            "Entries that made room for others.",
            usage.evicted,
        ),
        (
            "expired_total",
            "counter",
            "Entries that ended by their TTL.",
            usage.expired,
        ),
        (
            "in_flight_bytes",
            "gauge",
            "Bytes of values on their way in or out.",
            app.budget.taken() as u64,
        ),
        (
            "keys",
            "gauge",
            "API keys that can be used.",
            app.keys.load().usable() as u64,
        ),
        (
            "draining",
            "gauge",
            "1 while the server ends.",
            u64::from(app.draining.load(Ordering::Relaxed)),
        ),
    ]);
    const KIND: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4");
    ([(header::CONTENT_TYPE, KIND)], text).into_response()
}
