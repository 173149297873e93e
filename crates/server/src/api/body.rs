//! Bodies on their way in and out: never more memory than the budget, never slower than the rate.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::BytesMut;
use http_body_util::BodyExt;
use tokio::time::Instant;

use super::error::ApiError;
use super::{App, add};
use crate::http::Exchange;
use crate::limits::Share;

/// How much room is taken at once for a body whose bytes have yet to come.
const STEP: usize = 64 << 10;
/// Of a body that nobody reads so much is taken in and forgotten, in so much time.
const DISCARDED: u64 = 8 << 20;
const DISCARDING: Duration = Duration::from_secs(5);

/// Reads a body of at most `most` bytes.
///
/// The time for it grows with what has come, so that a large body may take long and a trickle may
/// not. Room in the budget is taken as bytes come, so that announcing a body costs nothing.
pub(crate) async fn read(
    app: &App,
    headers: &HeaderMap,
    body: &mut Body,
    most: usize,
) -> Result<(Bytes, Share), ApiError> {
    let announced = announced(headers)?;
    let too_large = || ApiError::too_large(format!("the body is larger than {most} bytes"));
    if announced.is_some_and(|length| length > most as u64) {
        return Err(too_large());
    }
    let started = Instant::now();
    let config = &app.config;
    let mut share = room(app, 0).await?;
    let mut taken = 0;
    let mut first: Option<Bytes> = None;
    let mut whole = BytesMut::new();
    loop {
        let received = first.as_ref().map_or(whole.len(), Bytes::len);
        let deadline = started + config.body_timeout + at_rate(received, config.min_rate.0);
        let frame = match tokio::time::timeout_at(deadline, body.frame()).await {
            Ok(None) => break,
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) => {
                return Err(ApiError::bad("broken_body", "the body ended too early"));
            }
            Err(_) => {
                add(&app.metrics.slow_peers, 1);
                return Err(ApiError::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "too_slow",
                    "the body came too slowly",
                ));
            }
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let length = received + data.len();
        if length > most {
            return Err(too_large());
        }
        if length > taken {
            let step = (length - taken).next_multiple_of(STEP);
            // What is announced bounds what will be needed.
            let step = announced.map_or(step, |all| {
                step.min(usize::try_from(all).unwrap_or(usize::MAX).max(length) - taken)
            });
            share.join(room(app, step).await?);
            taken += step;
        }
        // A body that comes in one piece is not copied.
        if length == data.len() {
            first = Some(data);
            continue;
        }
        if let Some(first) = first.take() {
            let expect = announced.map_or(0, |all| usize::try_from(all).unwrap_or(0));
            whole.reserve(expect.min(1 << 20).max(length));
            whole.extend_from_slice(&first);
        }
        whole.extend_from_slice(&data);
    }
    let value = first.unwrap_or_else(|| whole.freeze());
    add(&app.metrics.received, value.len() as u64);
    Ok((value, share))
}

/// Takes in what has not been read of a body, unless it is long.
///
/// Many clients take an answer that comes before they have sent everything for a broken connection, and so never learn
/// why they were refused.
pub(crate) async fn discard(app: &App, mut body: Body) {
    let rest = async {
        let mut left = DISCARDED;
        while !body.is_end_stream() && body.size_hint().lower() <= left {
            let Some(Ok(frame)) = body.frame().await else {
                return;
            };
            let length = frame.data_ref().map_or(0, Bytes::len);
            left = left.saturating_sub(length as u64);
        }
    };
    let _ = tokio::time::timeout(DISCARDING.min(app.config.body_timeout), rest).await;
}

fn announced(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(length) = headers.get(header::CONTENT_LENGTH) else {
        return Ok(None);
    };
    let length = length.to_str().ok().and_then(|text| text.parse().ok());
    length
        .map(Some)
        .ok_or_else(|| ApiError::bad("bad_length", "Content-Length is not a number"))
}

/// Room in the budget, waited for.
pub(crate) async fn room(app: &App, bytes: usize) -> Result<Share, ApiError> {
    app.budget.take(bytes).await.ok_or_else(busy)
}

/// Room in the budget for what is in memory already, where it must not wait.
pub(crate) fn room_now(app: &App, bytes: usize) -> Result<Share, ApiError> {
    app.budget.take_now(bytes).ok_or_else(busy)
}

fn busy() -> ApiError {
    ApiError::unavailable(
        "busy",
        "too many bytes are on their way at the moment (max_in_flight)",
    )
}

/// The time that so many bytes take at the least rate.
fn at_rate(bytes: usize, rate: u64) -> Duration {
    Duration::from_millis((bytes as u64).saturating_mul(1000) / rate.max(1))
}

/// A value on its way out. It gives back its room, and ends its exchange, once it is sent.
struct Outgoing {
    value: Bytes,
    _share: Share,
    _exchange: Exchange,
}

impl AsRef<[u8]> for Outgoing {
    fn as_ref(&self) -> &[u8] {
        &self.value
    }
}

/// The body of an answer that carries a value. The peer must take it at the least rate.
pub(crate) fn outgoing(app: &App, value: Bytes, share: Share, exchange: Exchange) -> Body {
    add(&app.metrics.sent, value.len() as u64);
    let limit = app.config.body_timeout + at_rate(value.len(), app.config.min_rate.0);
    exchange.must_end_within(limit);
    Body::from(Bytes::from_owner(Outgoing {
        value,
        _share: share,
        _exchange: exchange,
    }))
}
